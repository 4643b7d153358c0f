// Package kbuild turns the name of a Linux version into a built kernel: it fetches and
// verifies the source, unpacks it, configures it from fragments and compares the result
// with the request, and runs make. Every product is in a [cache.Cache] under the hash of
// all that went into it, so that nothing is done twice. Source trees are never written to.
package kbuild

// Source is an unpacked kernel source tree. Nobody writes into it: builds have their own O=.
type Source struct {
	Dir     string // absolute path of the tree
	Version string // as its Makefile says: "6.1.8", "6.2.0-rc1"
	ID      string // identity of the tree's content, for keys: it changes if the tree does
	Origin  string // where it came from, for people: a URL, a file, a directory
	StandIn bool   // another version than the default, because kernel.org was out of reach
}
