// Package cache is a content-addressed store of directories: products that cost
// something to make, each built once under a name that is the hash of all that
// went into it, and only read afterwards.
//
// # Layout
//
//	DIR/sources/KEY/     a downloaded tarball
//	DIR/trees/KEY/       an unpacked source tree
//	DIR/objects/KEY/     what the build of a kernel leaves, for the next one of its kind
//	DIR/kernels/KEY/     a built kernel
//	DIR/modules/KEY/     built modules
//	DIR/initramfs/KEY/   an archive
//	DIR/snapshots/KEY/   a booted guest
//	DIR/locks/KIND-KEY   flock(2) of the entry; holds who has it, as JSON
//	DIR/KIND/.tmp-KEY/   an entry being built: torn unless its lock is held
//	DIR/KIND/.part-KEY   a download to be resumed, and .part-KEY.json beside it
//
// An entry is what was renamed into place with an entry.json in it, written last.
// That manifest lists the entry's files (the shallowest [maxListed] of them) with
// their sizes, so that [Cache.Lookup] finds a torn entry without reading it, in
// well under a millisecond. Nobody may write into an entry later, but by [Cache.Rework],
// which takes the manifest away first.
//
// # Locks
//
// Readers take none. Who builds or removes an entry has its lock, and the lock dies
// with its process. Who needs an entry to stay while he reads it takes [Cache.Hold].
package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Kind is a class of entries: a folder of the cache.
type Kind string

// The kinds of entries that a cache has.
const (
	Sources   Kind = "sources"
	Trees     Kind = "trees"
	Objects   Kind = "objects"
	Kernels   Kind = "kernels"
	Modules   Kind = "modules"
	Initramfs Kind = "initramfs"
	Snapshots Kind = "snapshots"
)

// Kinds returns every kind, in the order in which a run makes them.
func Kinds() []Kind {
	return []Kind{Sources, Trees, Objects, Kernels, Modules, Initramfs, Snapshots}
}

// ErrMissing says that the cache has no such entry, or had a torn one.
var ErrMissing = errors.New("not in the cache")

// BusyError says that an entry cannot be removed because somebody has its lock.
type BusyError struct {
	Kind   Kind
	Key    string
	Holder Holder
}

// Error names the entry and, if known, the process that has it.
func (e *BusyError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("%s/%s: in use by another kaleido", e.Kind, e.Key)
	}
	return fmt.Sprintf("%s/%s: in use by another kaleido (pid %d)", e.Kind, e.Key, e.Holder.PID)
}

// Cache is an open cache. It may be used by any number of goroutines and processes at once.
type Cache struct {
	dir    string
	onWait func(Wait)
	shared *Cache // may be nil
}

// Entry is one product in a cache. Path is its directory, which nobody may write to.
type Entry struct {
	Kind     Kind
	Key      string
	Path     string    // absolute
	Describe string    // for people: "linux 6.1.8, profile lab, gcc 12.2.0"
	Size     int64     // bytes in all of its files
	Created  time.Time // when its build ended
	Used     time.Time // when Ensure or Lookup last found it
}

// DefaultDir returns the directory of the user's cache: $KALEIDO_CACHE, else
// $XDG_CACHE_HOME/kaleido, else $HOME/.cache/kaleido. It is an error if none is set.
// A relative $XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification says.
func DefaultDir(getenv func(string) string) (string, error) {
	if dir := getenv("KALEIDO_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "kaleido"), nil
	}
	if dir := getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".cache", "kaleido"), nil
	}
	return "", errors.New("find the cache: none of KALEIDO_CACHE, XDG_CACHE_HOME and HOME is set: set KALEIDO_CACHE to a directory")
}

// Open opens the cache in dir, which it creates. A directory that cannot be written to
// is an error only later, and only if something has to be written.
func Open(dir string) (*Cache, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open cache %s: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o777); err != nil && !unwritable(err) {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return &Cache{dir: abs}, nil
}

// unwritable reports whether err says no more than that nothing can be written there.
func unwritable(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOSPC)
}

// WithShared returns a cache that also finds what another one has. Nothing is written to that, but for
// when it was last used. Snapshots are not taken from it: they are of one machine and account.
func (c *Cache) WithShared(other *Cache) *Cache {
	both := *c
	both.shared = other
	return &both
}

// Dir returns the cache's directory, an absolute path.
func (c *Cache) Dir() string { return c.dir }

// Path returns where the entry is or will be: for products that have their own place
// written into them.
func (c *Cache) Path(kind Kind, key string) string {
	return filepath.Join(c.dir, string(kind), key)
}

// Partial returns the file in which the build of an entry may keep what should outlive a
// failed or killed build, a download to be resumed. Only the holder of the entry's lock
// (the build function of [Cache.Ensure]) may touch it, and removes it when done. Its folder exists then.
func (c *Cache) Partial(kind Kind, key string) string {
	return filepath.Join(c.dir, string(kind), partPrefix+key)
}

const (
	manifestName = "entry.json"
	tmpPrefix    = ".tmp-"
	partPrefix   = ".part-"
)

func (c *Cache) tmp(kind Kind, key string) string {
	return filepath.Join(c.dir, string(kind), tmpPrefix+key)
}

var keyPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}$`)

func checkName(kind Kind, key string) error {
	if !slices.Contains(Kinds(), kind) {
		return fmt.Errorf("cache: no kind %q", kind)
	}
	if !keyPattern.MatchString(key) {
		return fmt.Errorf("cache %s: bad key %q", kind, key)
	}
	return nil
}

// Lookup returns an entry that is there and whole, and notes that it was used. Otherwise
// the error is [ErrMissing]; an entry that is torn (no manifest, or a file that is not as
// long as the manifest says) is removed if that is possible.
func (c *Cache) Lookup(kind Kind, key string) (*Entry, error) {
	if err := checkName(kind, key); err != nil {
		return nil, err
	}
	e, err := c.find(kind, key)
	if err == nil {
		return e, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.removeTorn(kind, key)
	}
	return nil, fmt.Errorf("%s/%s: %w", kind, key, ErrMissing)
}

// find returns the entry and notes its use. The error is fs.ErrNotExist if there is nothing
// at all, another one if the entry is torn.
func (c *Cache) find(kind Kind, key string) (*Entry, error) {
	e, err := c.read(kind, key)
	if err != nil && c.shared != nil && kind != Snapshots {
		if e, err := c.shared.find(kind, key); err == nil {
			return e, nil
		}
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	// Best effort: a read-only cache keeps no record of its use.
	if os.Chtimes(filepath.Join(e.Path, manifestName), time.Time{}, now) == nil {
		e.Used = now
	}
	return e, nil
}

// read is find without noting the use.
func (c *Cache) read(kind Kind, key string) (*Entry, error) {
	dir := c.Path(kind, key)
	if _, err := os.Lstat(dir); err != nil {
		return nil, err
	}
	m, used, err := readManifest(dir)
	if err != nil {
		return nil, &tornError{dir, err}
	}
	if m.Kind != kind || m.Key != key {
		return nil, &tornError{dir, fmt.Errorf("is %s/%s", m.Kind, m.Key)}
	}
	if err := m.check(dir); err != nil {
		return nil, &tornError{dir, err}
	}
	return &Entry{Kind: kind, Key: key, Path: dir, Describe: m.Describe, Size: m.Size, Created: m.Created, Used: used}, nil
}

// tornError hides its cause from errors.Is, so that a missing file within an entry is not
// taken for a missing entry.
type tornError struct {
	dir string
	err error
}

func (e *tornError) Error() string { return fmt.Sprintf("torn entry %s: %v", e.dir, e.err) }

// removeTorn removes a torn entry unless its lock is held by another, or somebody has
// replaced it by a whole one meanwhile.
func (c *Cache) removeTorn(kind Kind, key string) {
	l, err := c.tryLock(kind, key, "removing a torn entry")
	if err != nil {
		return
	}
	defer l.release()
	var torn *tornError
	if _, err := c.read(kind, key); errors.As(err, &torn) {
		_ = c.discard(kind, key)
	}
}

// discard removes an entry, whole or torn, and what a killed build left of it. The caller
// has its lock. The rename comes first, so that no reader sees half an entry.
func (c *Cache) discard(kind Kind, key string) error {
	tmp := c.tmp(kind, key)
	if err := removeAll(tmp); err != nil {
		return err
	}
	if err := os.Rename(c.Path(kind, key), tmp); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return removeAll(tmp)
}

// removeAll is os.RemoveAll that also gets rid of directories without the write bit, as
// source archives have them.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// List returns every whole entry, by kind and then by key.
func (c *Cache) List() ([]Entry, error) {
	var list []Entry
	for _, kind := range Kinds() {
		names, err := os.ReadDir(filepath.Join(c.dir, string(kind)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list cache: %w", err)
		}
		for _, d := range names {
			if strings.HasPrefix(d.Name(), ".") {
				continue
			}
			if e, err := c.read(kind, d.Name()); err == nil {
				list = append(list, *e)
			}
		}
	}
	return list, nil
}

// Remove removes an entry. The error is [ErrMissing] if it is not there and a [*BusyError]
// if somebody has its lock.
func (c *Cache) Remove(kind Kind, key string) error {
	if err := checkName(kind, key); err != nil {
		return err
	}
	if _, err := os.Lstat(c.Path(kind, key)); err != nil {
		return fmt.Errorf("%s/%s: %w", kind, key, ErrMissing)
	}
	l, err := c.tryLock(kind, key, "removing it")
	if err != nil {
		return fmt.Errorf("remove from cache: %w", err)
	}
	defer l.release()
	if err := c.discard(kind, key); err != nil {
		return fmt.Errorf("remove from cache: %w", err)
	}
	return nil
}

// Limit keeps those n entries of a kind that were used last and removes the others, of which
// it leaves alone what somebody has the lock of. Entries for which spare is true do not count.
func (c *Cache) Limit(kind Kind, n int, spare func(Entry) bool) error {
	list, err := c.List()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(e Entry) bool { return e.Kind != kind || spare(e) })
	slices.SortFunc(list, func(a, b Entry) int { return b.Used.Compare(a.Used) })
	for _, e := range list[min(n, len(list)):] {
		var busy *BusyError
		if err := c.Remove(kind, e.Key); err != nil && !errors.As(err, &busy) && !errors.Is(err, ErrMissing) {
			return err
		}
	}
	return nil
}

// Prune removes the entries that nobody has used for so long, and what builds and downloads
// that were killed left behind. It leaves alone what somebody has the lock of. It returns
// the entries that it removed.
func (c *Cache) Prune(unusedFor time.Duration) ([]Entry, error) {
	list, err := c.List()
	if err != nil {
		return nil, err
	}
	limit := time.Now().Add(-unusedFor)
	var pruned []Entry
	for _, e := range list {
		if e.Used.After(limit) {
			continue
		}
		var busy *BusyError
		switch err := c.Remove(e.Kind, e.Key); {
		case err == nil:
			pruned = append(pruned, e)
		case !errors.As(err, &busy) && !errors.Is(err, ErrMissing):
			return pruned, err
		}
	}
	return pruned, c.sweep(limit)
}

// sweep removes temporary directories, partial downloads and torn entries that are older
// than limit and that nobody has the lock of.
func (c *Cache) sweep(limit time.Time) error {
	for _, kind := range Kinds() {
		names, err := os.ReadDir(filepath.Join(c.dir, string(kind)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("prune cache: %w", err)
		}
		for _, d := range names {
			if info, err := d.Info(); err != nil || info.ModTime().After(limit) {
				continue
			}
			if err := c.sweepOne(kind, d.Name()); err != nil {
				return fmt.Errorf("prune cache: %w", err)
			}
		}
	}
	return nil
}

func (c *Cache) sweepOne(kind Kind, name string) error {
	if key, ok := strings.CutPrefix(name, partPrefix); ok {
		return c.locked(kind, strings.TrimSuffix(key, ".json"), func() error {
			return removeAll(filepath.Join(c.dir, string(kind), name))
		})
	}
	if key, ok := strings.CutPrefix(name, tmpPrefix); ok {
		return c.locked(kind, key, func() error { return removeAll(c.tmp(kind, key)) })
	}
	if keyPattern.MatchString(name) {
		if _, err := c.read(kind, name); err != nil {
			c.removeTorn(kind, name)
		}
	}
	return nil
}

// locked calls f under the entry's lock, or not at all if somebody has it.
func (c *Cache) locked(kind Kind, key string, f func() error) error {
	l, err := c.tryLock(kind, key, "pruning the cache")
	var busy *BusyError
	if errors.As(err, &busy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.release()
	return f()
}

// manifest is entry.json.
type manifest struct {
	Kind     Kind      `json:"kind"`
	Key      string    `json:"key"`
	Describe string    `json:"describe"`
	Created  time.Time `json:"created"`
	Size     int64     `json:"size"`  // bytes in all files
	Count    int       `json:"count"` // of all files
	Files    []file    `json:"files"` // the shallowest of them
}

type file struct {
	Name string `json:"name"` // slash-separated, within the entry
	Size int64  `json:"size"`
}

// maxListed is how many files of an entry its manifest lists: all of a kernel's or an
// archive's products, the top of a source tree's 80,000.
const maxListed = 200

func readManifest(dir string) (*manifest, time.Time, error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	var m manifest
	if err := json.NewDecoder(f).Decode(&m); err != nil {
		return nil, time.Time{}, err
	}
	return &m, info.ModTime(), nil
}

// check compares the listed files with those in dir.
func (m *manifest) check(dir string) error {
	for _, f := range m.Files {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(f.Name)))
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() != f.Size {
			return fmt.Errorf("%s has %d bytes, not %d", f.Name, info.Size(), f.Size)
		}
	}
	return nil
}
