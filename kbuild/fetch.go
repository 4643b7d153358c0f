package kbuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

const (
	// DefaultVersion is the kernel that is fetched when none is named.
	DefaultVersion = "6.1.8"
	// DefaultMirror is kernel.org's content delivery network.
	DefaultMirror = "https://cdn.kernel.org/pub/linux/kernel/"
	// DefaultStandIn is where Debian's and Ubuntu's package linux-source-6.1 has its tarball.
	DefaultStandIn = "/usr/src/linux-source-6.1.tar.xz"
)

// pinned has the SHA-256 of tarballs that need no sums file: two independent distributions
// pin the same value for 6.1.8.
var pinned = map[string]string{
	DefaultVersion: "b60bb53ab8ba370a270454b11e93d41af29126fc72bd6ede517673e2e57b816d",
}

// FetchOptions says which source to fetch and how. Only Cache is needed.
type FetchOptions struct {
	// Kernel is "" for [DefaultVersion] or, where kernel.org is out of reach, the stand-in;
	// or a version X.Y.Z; or the path of a tarball, FILE.tar.{xz,gz,zst}; or that of a
	// kernel tree, which is used where it is and never written to.
	Kernel string
	// Mirror replaces [DefaultMirror]; v6.x/linux-6.1.8.tar.xz and v6.x/sha256sums.asc lie below it.
	Mirror string
	// Keyring is a file of OpenPGP public keys, armored or not. If it is given, the sums of
	// versions without a pinned sum must be signed by one of them; kernel.org's are by
	// autosigner@kernel.org. Without it they are trusted as the mirror sends them: over
	// https as much as the mirror is, over http not at all.
	Keyring string
	// Cache keeps what was downloaded and unpacked.
	Cache *cache.Cache
	// Progress, if not nil, is told how far the work has come.
	Progress func(Update)

	// StandIn replaces [DefaultStandIn].
	StandIn string
	// Probe has kernel.org asked again though an earlier run found it out of reach and used
	// the stand-in. Without it that decision holds as long as the stand-in is the same file.
	Probe bool
	// AnswerTimeout is how long a server may take to answer. Default: 15 seconds, but 5 if
	// no version is named, where the stand-in may serve.
	AnswerTimeout time.Duration
	// StallTimeout is how long a download may bring no byte. Default: 30 seconds.
	StallTimeout time.Duration

	pinned map[string]string // tests': replaces the variable
}

// FetchError says that a kernel source could not be had.
type FetchError struct {
	Op   string // "download", "verify", "unpack", "use"
	URL  string // or a file or directory
	Err  error
	Hint string // what the user may do about it, or ""
}

// Error is one line: operation, object, cause and, if there is one, the cure.
func (e *FetchError) Error() string {
	msg := fmt.Sprintf("%s %s: %v", e.Op, e.URL, e.Err)
	if e.Hint != "" {
		msg += ": " + e.Hint
	}
	return msg
}

// Unwrap returns the cause.
func (e *FetchError) Unwrap() error { return e.Err }

// fetchError makes a FetchError, or returns err if it is one already.
func fetchError(op, what string, err error) error {
	var fe *FetchError
	if errors.As(err, &fe) {
		return err
	}
	fe = &FetchError{Op: op, URL: what, Err: err}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		fe.Hint = "free some space, or set KALEIDO_CACHE to a directory on a larger disk; a source takes 1.6 GB"
	}
	return fe
}

// Fetch returns the source tree that opts name, downloading, verifying and unpacking it as
// far as it is not in the cache. What is there already costs no network and milliseconds.
//
// A tarball is only unpacked if its SHA-256 is the right one: see [FetchOptions.Keyring].
// Where no version is named and the mirror does not answer, the stand-in serves, and a
// Note says so. Errors are [*FetchError], also when ctx ends; what was downloaded until
// then is resumed by the next Fetch.
func Fetch(ctx context.Context, opts FetchOptions) (*Source, error) {
	f, err := newFetcher(opts)
	if err != nil {
		return nil, err
	}
	defer f.client.http.CloseIdleConnections()
	if opts.Kernel == "" {
		return f.standard(ctx)
	}
	if m := versionPattern.FindStringSubmatch(opts.Kernel); m != nil {
		// kernel.org calls the first release of a series X.Y.
		return f.version(ctx, m[1]+strings.TrimSuffix(m[2], ".0"))
	}
	info, err := os.Stat(opts.Kernel)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &FetchError{Op: "use", URL: opts.Kernel, Err: err, Hint: "a kernel is a version X.Y.Z, a tarball or a directory"}
	case err != nil:
		return nil, fetchError("use", opts.Kernel, err)
	case info.IsDir():
		return directory(ctx, opts.Kernel)
	}
	return f.file(ctx, opts.Kernel)
}

var versionPattern = regexp.MustCompile(`^([0-9]+\.[0-9]+)(\.[0-9]+)?$`)

// Identify returns the [Source.ID] of what [Fetch] would return, and fetches no more than a sums file for it.
// Where no version is named it is the default's, if no earlier run has found that out of reach.
func Identify(ctx context.Context, opts FetchOptions) (string, error) {
	f, err := newFetcher(opts)
	if err != nil {
		return "", err
	}
	defer f.client.http.CloseIdleConnections()
	name := opts.Kernel
	if name == "" {
		name = DefaultVersion
		if f.standInNote() != nil {
			name = f.StandIn
		}
	}
	if m := versionPattern.FindStringSubmatch(name); m != nil {
		sum, err := f.versionSum(ctx, m[1]+strings.TrimSuffix(m[2], ".0"))
		return sumID(sum), err
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", fetchError("use", name, err)
	}
	if info.IsDir() {
		src, err := directory(ctx, name)
		if err != nil {
			return "", err
		}
		return src.ID, nil
	}
	if name, err = filepath.Abs(name); err != nil {
		return "", fetchError("use", name, err)
	}
	id, err := statID(name)
	if err != nil {
		return "", fetchError("use", name, err)
	}
	sum, err := f.fileSum(ctx, name, id)
	if err != nil {
		return "", fetchError("verify", name, err)
	}
	return sumID(sum), nil
}

// sumID is the ID of the source in a tarball with that SHA-256.
func sumID(sum string) string { return "sha256:" + sum }

// fetcher carries out one Fetch.
type fetcher struct {
	FetchOptions
	base   *url.URL // of the mirror
	client *client
}

func newFetcher(opts FetchOptions) (*fetcher, error) {
	if opts.Mirror == "" {
		opts.Mirror = DefaultMirror
	}
	base, err := url.Parse(opts.Mirror)
	if err == nil && (base.Host == "" || base.Scheme != "http" && base.Scheme != "https") {
		err = errors.New("a mirror is http://HOST/ or https://HOST/")
	}
	if err != nil {
		return nil, &FetchError{Op: "use", URL: opts.Mirror, Err: err}
	}
	if opts.StandIn == "" {
		opts.StandIn = DefaultStandIn
	}
	if opts.AnswerTimeout == 0 {
		opts.AnswerTimeout = 15 * time.Second
		if opts.Kernel == "" {
			opts.AnswerTimeout = 5 * time.Second
		}
	}
	if opts.StallTimeout == 0 {
		opts.StallTimeout = 30 * time.Second
	}
	if opts.Progress == nil {
		opts.Progress = func(Update) {}
	}
	if opts.pinned == nil {
		opts.pinned = pinned
	}
	return &fetcher{opts, base, newClient(opts.AnswerTimeout, opts.StallTimeout)}, nil
}

// note tells the user a line.
func (f *fetcher) note(stage, format string, args ...any) {
	f.Progress(Update{Stage: stage, Note: fmt.Sprintf(format, args...)})
}

// cacheFor returns the cache, whose waiting is told as one of stage.
func (f *fetcher) cacheFor(stage string) *cache.Cache {
	return f.Cache.WithOnWait(noteWait(stage, f.Progress))
}

// url returns the mirror's address of a file of that version's series.
func (f *fetcher) url(version, name string) string {
	major, _, _ := strings.Cut(version, ".")
	return f.base.JoinPath("v"+major+".x", name).String()
}

// standard returns the default version, or the stand-in where the mirror is out of reach.
func (f *fetcher) standard(ctx context.Context) (*Source, error) {
	if src := f.cached(DefaultVersion); src != nil {
		return src, nil
	}
	if src := f.remembered(ctx); src != nil {
		return src, nil
	}
	src, err := f.version(ctx, DefaultVersion)
	var out *unreachableError
	if !errors.As(err, &out) {
		return src, err
	}
	src, standErr := f.standIn(ctx, out)
	if errors.Is(standErr, fs.ErrNotExist) {
		return nil, &FetchError{Op: "download", URL: out.url, Err: out.err,
			Hint: "check the network, or name a mirror, a local tarball or a kernel tree; on Debian and Ubuntu, apt-get install linux-source-6.1 provides a stand-in"}
	}
	return src, standErr
}

// cached returns a version's source if its sum is pinned and its tree is in the cache.
func (f *fetcher) cached(version string) *Source {
	sum, ok := f.pinned[version]
	if !ok {
		return nil
	}
	e, err := f.Cache.Lookup(cache.Trees, treeKey(sum))
	if err != nil {
		return nil
	}
	src, err := treeSource(e, sum, f.url(version, tarballName(version)))
	if err != nil {
		return nil
	}
	return src
}

// standIn uses the distribution's tarball, and remembers that it did.
func (f *fetcher) standIn(ctx context.Context, out *unreachableError) (*Source, error) {
	key, err := f.standInKey()
	if err != nil {
		return nil, err
	}
	src, err := f.file(ctx, f.StandIn)
	if err != nil {
		return nil, err
	}
	src.StandIn = true
	describe := fmt.Sprintf("note that %s was out of reach and %s used", f.base.Host, f.StandIn)
	_, _, err = f.cacheFor("download").Ensure(ctx, cache.Sources, key, describe, func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "out-of-reach"), []byte(out.Error()+"\n"), 0o666)
	})
	if err != nil {
		return nil, fetchError("use", f.StandIn, err)
	}
	f.note("download", "%s is out of reach (%v): using linux %s from %s instead of %s", f.base.Host, out.err, src.Version, f.StandIn, DefaultVersion)
	return src, nil
}

// remembered returns the stand-in if an earlier run had to use it. The mirror is not asked
// again: that may take seconds, at every start of a machine without a network.
func (f *fetcher) remembered(ctx context.Context) *Source {
	e := f.standInNote()
	if e == nil {
		return nil
	}
	src, err := f.file(ctx, f.StandIn)
	if err != nil {
		return nil
	}
	src.StandIn = true
	f.note("download", "using linux %s from %s: %s was out of reach on %s and has not been asked again",
		src.Version, f.StandIn, f.base.Host, e.Created.Format(time.DateOnly))
	return src
}

// standInNote returns what a run that had to use the stand-in has left, or nil.
func (f *fetcher) standInNote() *cache.Entry {
	key, err := f.standInKey()
	if err != nil || f.Probe {
		return nil
	}
	e, err := f.Cache.Lookup(cache.Sources, key)
	if err != nil {
		return nil
	}
	return e
}

func (f *fetcher) standInKey() (string, error) {
	id, err := statID(f.StandIn)
	if err != nil {
		return "", err
	}
	h := cache.NewHash(cache.Sources)
	h.String("stand-in", id)
	h.String("mirror", f.base.String())
	return "standin-" + h.Sum(), nil
}

func tarballName(version string) string { return "linux-" + version + ".tar.xz" }

// version returns the source of a named version.
func (f *fetcher) version(ctx context.Context, version string) (*Source, error) {
	if src := f.cached(version); src != nil {
		return src, nil
	}
	sum, err := f.versionSum(ctx, version)
	if err != nil {
		return nil, err
	}
	from := f.url(version, tarballName(version))
	return f.tree(ctx, sum, "linux "+version+", unpacked", from, func(ctx context.Context, dir string) error {
		e, err := f.tarball(ctx, version, sum, from)
		if err != nil {
			return err
		}
		release, err := f.Cache.Hold(e)
		if err != nil {
			return fetchError("unpack", from, err)
		}
		defer release()
		if err := f.unpack(ctx, filepath.Join(e.Path, tarballName(version)), dir); err != nil {
			return err
		}
		got, err := readVersion(dir)
		if err == nil && strings.TrimSuffix(got, ".0") != version {
			err = fmt.Errorf("the tarball has linux %s", got)
		}
		if err != nil {
			return fetchError("unpack", from, err)
		}
		return nil
	})
}

// versionSum returns the SHA-256 of a version's tarball.
func (f *fetcher) versionSum(ctx context.Context, version string) (string, error) {
	if sum, ok := f.pinned[version]; ok {
		return sum, nil
	}
	return f.sum(ctx, version)
}

// file returns the source that a local tarball has.
func (f *fetcher) file(ctx context.Context, name string) (*Source, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, fetchError("use", name, err)
	}
	id, err := statID(name)
	if err != nil {
		return nil, fetchError("use", name, err)
	}
	sum, err := f.fileSum(ctx, name, id)
	if err != nil {
		return nil, fetchError("verify", name, err)
	}
	return f.tree(ctx, sum, "source tree of "+filepath.Base(name), name, func(ctx context.Context, dir string) error {
		if err := f.unpack(ctx, name, dir); err != nil {
			return err
		}
		now, err := statID(name)
		if err == nil && now != id {
			err = errors.New("the file changed while it was unpacked")
		}
		if err == nil {
			_, err = readVersion(dir)
		}
		if err != nil {
			return fetchError("unpack", name, err)
		}
		return nil
	})
}

func (f *fetcher) unpack(ctx context.Context, tarball, dir string) error {
	if err := unpack(ctx, tarball, dir, f.Progress); err != nil {
		return fetchError("unpack", tarball, err)
	}
	return nil
}

// treeDir is the name of the tree within its cache entry.
const treeDir = "linux"

// treeKey returns the key of the tree of a tarball with that sum.
func treeKey(sum string) string {
	h := cache.NewHash(cache.Trees)
	h.String("sha256", sum)
	return h.Sum()
}

// tree returns the tree of the tarball with that sum, which fill unpacks if it is not in the cache.
func (f *fetcher) tree(ctx context.Context, sum, describe, origin string, fill func(ctx context.Context, dir string) error) (*Source, error) {
	e, _, err := f.cacheFor("unpack").Ensure(ctx, cache.Trees, treeKey(sum), describe, func(ctx context.Context, dir string) error {
		return fill(ctx, filepath.Join(dir, treeDir))
	})
	if err != nil {
		return nil, fetchError("unpack", origin, err)
	}
	src, err := treeSource(e, sum, origin)
	if err != nil {
		return nil, fetchError("unpack", origin, err)
	}
	return src, nil
}

// treeSource makes a Source of a cached tree.
func treeSource(e *cache.Entry, sum, origin string) (*Source, error) {
	dir := filepath.Join(e.Path, treeDir)
	version, err := readVersion(dir)
	if err != nil {
		return nil, err
	}
	return &Source{Dir: dir, Version: version, ID: sumID(sum), Origin: origin}, nil
}

// tarball returns the cache entry of a version's tarball, downloaded and verified.
func (f *fetcher) tarball(ctx context.Context, version, sum, from string) (*cache.Entry, error) {
	name := path.Base(from)
	e, _, err := f.cacheFor("download").Ensure(ctx, cache.Sources, sum, name, func(ctx context.Context, dir string) error {
		d := &download{client: f.client, url: from, part: f.Cache.Partial(cache.Sources, sum), progress: f.Progress}
		if err := d.run(ctx); err != nil {
			return d.explain(err, version)
		}
		if err := f.verify(ctx, d, sum); err != nil {
			return err
		}
		if err := os.Rename(d.part, filepath.Join(dir, name)); err != nil {
			return err
		}
		return d.remove() // what describes it
	})
	if err != nil {
		return nil, fetchError("download", from, err)
	}
	return e, nil
}

// verify removes what was downloaded if its sum is not the expected one.
func (f *fetcher) verify(ctx context.Context, d *download, want string) error {
	got, err := sumFile(ctx, d.part, f.Progress)
	if err != nil {
		return fetchError("verify", d.url, err)
	}
	if got == want {
		return nil
	}
	if err := d.remove(); err != nil {
		return fetchError("verify", d.url, err)
	}
	return &FetchError{Op: "verify", URL: d.url, Err: fmt.Errorf("sha256 is %s, expected %s: the file was removed", got, want),
		Hint: "try again, or another mirror; if it stays so, do not trust the server"}
}
