package kbuild

// Update is news of work that takes its time: how far a stage has come, or a line worth
// telling. A stage may send many, from any goroutine but one at a time.
type Update struct {
	Stage string // "download", "verify", "unpack", "configure", "build"
	Done  int64  // how much is done
	Total int64  // of how much; 0 if that is not known
	Unit  string // of Done and Total: "bytes", "objects", or "" if they say nothing
	Note  string // one plain line for people, no full stop: a stand-in is used, a lock is waited for
}
