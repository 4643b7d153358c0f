package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary play a kaleido that is killed while it builds: it says that
// its build has begun and then waits for ever.
func TestMain(m *testing.M) {
	dir := os.Getenv("KALEIDO_TEST_CACHE_BUILD")
	if dir == "" {
		os.Exit(m.Run())
	}
	c, err := Open(dir)
	if err != nil {
		panic(err)
	}
	_, _, err = c.Ensure(context.Background(), Kernels, "k", "a slow kernel", func(_ context.Context, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "vmlinux"), []byte("half"), 0o666); err != nil {
			return err
		}
		fmt.Println("building")
		select {}
	})
	panic(err)
}

func open(t *testing.T) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// put makes an entry of the files given as name and content.
func put(t *testing.T, c *Cache, kind Kind, key string, files ...string) *Entry {
	t.Helper()
	e, built, err := c.Ensure(t.Context(), kind, key, "entry "+key, fill(files...))
	if err != nil || !built {
		t.Fatalf("Ensure(%s, %s) = built %v, %v", kind, key, built, err)
	}
	return e
}

func fill(files ...string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		for i := 0; i+1 < len(files); i += 2 {
			name := filepath.Join(dir, files[i])
			if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
				return err
			}
			if err := os.WriteFile(name, []byte(files[i+1]), 0o666); err != nil {
				return err
			}
		}
		return nil
	}
}

func never(t *testing.T) func(context.Context, string) error {
	return func(context.Context, string) error {
		t.Error("build was called for an entry that is there")
		return nil
	}
}

func TestDefaultDir(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want string
	}{
		{"KALEIDO_CACHE first", map[string]string{"KALEIDO_CACHE": "/k", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/k"},
		{"XDG_CACHE_HOME second", map[string]string{"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/kaleido"},
		{"relative XDG_CACHE_HOME is ignored", map[string]string{"XDG_CACHE_HOME": "x", "HOME": "/h"}, "/h/.cache/kaleido"},
		{"HOME last", map[string]string{"HOME": "/h"}, "/h/.cache/kaleido"},
		{"none", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DefaultDir(func(name string) string { return tt.env[name] })
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("DefaultDir = %q, %v, want %q", got, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), "set KALEIDO_CACHE") {
				t.Errorf("DefaultDir's error %q does not name the cure", err)
			}
		})
	}
}

func TestEnsureBuildsOnce(t *testing.T) {
	c := open(t)
	if _, err := c.Lookup(Kernels, "k"); !errors.Is(err, ErrMissing) {
		t.Fatalf("Lookup before Ensure = %v, want ErrMissing", err)
	}
	e := put(t, c, Kernels, "k", "bzImage", "12345", "sub/Module.symvers", "123")
	if e.Path != c.Path(Kernels, "k") || e.Size != 8 || e.Describe != "entry k" || e.Created.IsZero() {
		t.Errorf("Ensure = %+v", e)
	}
	again, built, err := c.Ensure(t.Context(), Kernels, "k", "", never(t))
	if err != nil || built || again.Path != e.Path || again.Describe != "entry k" {
		t.Errorf("second Ensure = %+v, built %v, %v", again, built, err)
	}
	if found, err := c.Lookup(Kernels, "k"); err != nil || found.Size != 8 {
		t.Errorf("Lookup = %+v, %v", found, err)
	}
	if got, err := os.ReadFile(filepath.Join(e.Path, "bzImage")); err != nil || string(got) != "12345" {
		t.Errorf("bzImage = %q, %v", got, err)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	c := open(t)
	broken := errors.New("broken")
	_, built, err := c.Ensure(t.Context(), Trees, "k", "", func(_ context.Context, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o666); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) || built {
		t.Errorf("Ensure = built %v, %v, want %v", built, err, broken)
	}
	if names := ls(t, filepath.Join(c.Dir(), "trees")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	put(t, c, Trees, "k", "x", "")
}

func TestRework(t *testing.T) {
	c := open(t)
	broken := errors.New("broken")
	rework := func(step string, wantFresh, whole bool, fail error) {
		t.Helper()
		err := c.Rework(t.Context(), Objects, "k", "objects", func(_ context.Context, dir string, fresh bool) (bool, error) {
			if dir != c.Path(Objects, "k") || fresh != wantFresh {
				t.Errorf("%s: works in %s, fresh %v; want %s, %v", step, dir, fresh, c.Path(Objects, "k"), wantFresh)
			}
			before, err := os.ReadFile(filepath.Join(dir, "fork.o"))
			if fresh != errors.Is(err, fs.ErrNotExist) || !fresh && string(before) != "x" {
				t.Errorf("%s: fork.o = %q, %v", step, before, err)
			}
			if _, err := c.Lookup(Objects, "k"); !errors.Is(err, ErrMissing) {
				t.Errorf("%s: Lookup of what is worked on = %v", step, err)
			}
			return whole, errors.Join(fail, os.WriteFile(filepath.Join(dir, "fork.o"), []byte("x"), 0o666))
		})
		if !errors.Is(err, fail) {
			t.Errorf("%s: Rework = %v, want %v", step, err, fail)
		}
		if _, err := c.Lookup(Objects, "k"); (err == nil) != whole {
			t.Errorf("%s: Lookup afterwards = %v", step, err)
		}
	}
	rework("first", true, true, nil)
	rework("second", false, true, nil)
	rework("failed, but whole", false, true, broken)
	rework("cut short", false, false, broken)
	if names := ls(t, filepath.Join(c.Dir(), "objects")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	rework("after it", true, true, nil)
	// As if killed at it.
	if err := os.Remove(filepath.Join(c.Path(Objects, "k"), manifestName)); err != nil {
		t.Fatal(err)
	}
	rework("after a kill", true, true, nil)
}

func ls(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Name())
	}
	return names
}

func TestTornEntryIsMissing(t *testing.T) {
	tests := []struct {
		name string
		tear func(dir string) error
	}{
		{"no manifest", func(dir string) error { return os.Remove(filepath.Join(dir, manifestName)) }},
		{"empty manifest", func(dir string) error { return os.Truncate(filepath.Join(dir, manifestName), 0) }},
		{"short file", func(dir string) error { return os.Truncate(filepath.Join(dir, "vmlinux"), 2) }},
		{"file gone", func(dir string) error { return os.Remove(filepath.Join(dir, "sub/x")) }},
		{"file replaced by a link", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "sub/x")), os.Symlink("../vmlinux", filepath.Join(dir, "sub/x")))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := open(t)
			e := put(t, c, Kernels, "k", "vmlinux", "whole", "sub/x", "1")
			if err := tt.tear(e.Path); err != nil {
				t.Fatal(err)
			}
			if list, err := c.List(); err != nil || len(list) != 0 {
				t.Errorf("List = %v, %v, want none", list, err)
			}
			if _, err := c.Lookup(Kernels, "k"); !errors.Is(err, ErrMissing) {
				t.Errorf("Lookup = %v, want ErrMissing", err)
			}
			if _, err := os.Lstat(e.Path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("torn entry is still there: %v", err)
			}
			put(t, c, Kernels, "k", "vmlinux", "whole")
		})
	}
}

// A torn entry that another process is replacing must not be removed under its hands.
func TestTornEntryUnderLockStays(t *testing.T) {
	c := open(t)
	e := put(t, c, Kernels, "k", "vmlinux", "whole")
	l, err := c.tryLock(Kernels, "k", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	if err := os.Remove(filepath.Join(e.Path, manifestName)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lookup(Kernels, "k"); !errors.Is(err, ErrMissing) {
		t.Errorf("Lookup = %v, want ErrMissing", err)
	}
	if _, err := os.Lstat(e.Path); err != nil {
		t.Errorf("entry was removed under its lock: %v", err)
	}
}

func TestKilledBuildIsRemoved(t *testing.T) {
	c := open(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KALEIDO_TEST_CACHE_BUILD="+c.Dir())
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}

	waits := make(chan Wait, 1)
	done := make(chan error, 1)
	go func() {
		_, built, err := c.WithOnWait(func(w Wait) { waits <- w }).Ensure(context.Background(), Kernels, "k", "", func(_ context.Context, dir string) error {
			if names := ls(t, dir); len(names) != 0 {
				return fmt.Errorf("not empty: %v", names)
			}
			return nil
		})
		if err == nil && !built {
			err = errors.New("not built")
		}
		done <- err
	}()
	w := <-waits
	if w.Kind != Kernels || w.Key != "k" || w.Holder.PID != cmd.Process.Pid || w.Holder.Describe != "a slow kernel" {
		t.Errorf("OnWait(%+v), want pid %d", w, cmd.Process.Pid)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := <-done; err != nil {
		t.Errorf("Ensure after the kill: %v", err)
	}
	if got := ls(t, filepath.Join(c.Dir(), "kernels")); len(got) != 1 || got[0] != "k" {
		t.Errorf("kernels has %v, want [k]", got)
	}
}

func TestCancelledWait(t *testing.T) {
	c := open(t)
	l, err := c.tryLock(Trees, "k", "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = c.WithOnWait(func(Wait) { cancel() }).Ensure(ctx, Trees, "k", "", never(t))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Ensure = %v, want context.Canceled", err)
	}
}

func TestManyAtOnceBuildOnce(t *testing.T) {
	c := open(t)
	var builds atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, _, err := c.Ensure(t.Context(), Initramfs, "k", "", func(_ context.Context, dir string) error {
				builds.Add(1)
				return os.WriteFile(filepath.Join(dir, "x"), []byte("x"), 0o666)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

func TestRemoveAndHold(t *testing.T) {
	c := open(t)
	if err := c.Remove(Kernels, "k"); !errors.Is(err, ErrMissing) {
		t.Errorf("Remove of nothing = %v, want ErrMissing", err)
	}
	e := put(t, c, Kernels, "k", "vmlinux", "x")
	release, err := c.Hold(e)
	if err != nil {
		t.Fatal(err)
	}
	var busy *BusyError
	if err := c.Remove(Kernels, "k"); !errors.As(err, &busy) {
		t.Errorf("Remove of a held entry = %v, want a BusyError", err)
	}
	if list, err := c.Prune(0); err != nil || len(list) != 0 {
		t.Errorf("Prune of a held entry = %v, %v", list, err)
	}
	release()
	if err := c.Remove(Kernels, "k"); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if _, err := c.Hold(e); !errors.Is(err, ErrMissing) {
		t.Errorf("Hold of a removed entry = %v, want ErrMissing", err)
	}
	if got := ls(t, filepath.Join(c.Dir(), "kernels")); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestListAndPrune(t *testing.T) {
	c := open(t)
	old := put(t, c, Kernels, "old", "x", "1")
	put(t, c, Kernels, "new", "x", "22")
	put(t, c, Sources, "s", "x", "333")
	day := time.Now().Add(-24 * time.Hour)
	part := c.Partial(Sources, "p")
	for name, err := range map[string]error{
		filepath.Join(old.Path, manifestName): nil,
		c.tmp(Kernels, "torn"):                os.Mkdir(c.tmp(Kernels, "torn"), 0o777),
		part:                                  os.WriteFile(part, nil, 0o666),
		part + ".json":                        os.WriteFile(part+".json", nil, 0o666),
	} {
		if err := errors.Join(err, os.Chtimes(name, day, day)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.List()
	if err != nil || len(list) != 3 || list[0].Key != "s" || list[1].Key != "new" || list[2].Key != "old" || list[1].Size != 2 {
		t.Fatalf("List = %+v, %v", list, err)
	}
	pruned, err := c.Prune(time.Hour)
	if err != nil || len(pruned) != 1 || pruned[0].Key != "old" {
		t.Errorf("Prune = %+v, %v, want old", pruned, err)
	}
	if got := ls(t, filepath.Join(c.Dir(), "kernels")); len(got) != 1 || got[0] != "new" {
		t.Errorf("kernels has %v, want [new]", got)
	}
	if got := ls(t, filepath.Join(c.Dir(), "sources")); len(got) != 1 || got[0] != "s" {
		t.Errorf("sources has %v, want [s]", got)
	}
}

func TestShared(t *testing.T) {
	shared, own := open(t), open(t)
	theirs := put(t, shared, Kernels, "k", "bzImage", "12345")
	put(t, shared, Snapshots, "s", "ram", "1")
	c := own.WithShared(shared)
	e, built, err := c.Ensure(t.Context(), Kernels, "k", "", never(t))
	if err != nil || built || e.Path != theirs.Path {
		t.Errorf("Ensure = %+v, built %v, %v; want what is shared", e, built, err)
	}
	if e, err := c.Lookup(Kernels, "k"); err != nil || e.Path != theirs.Path {
		t.Errorf("Lookup = %+v, %v; want what is shared", e, err)
	}
	release, err := c.Hold(e)
	if err != nil {
		t.Fatalf("Hold of what is shared: %v", err)
	}
	if err := shared.Remove(Kernels, "k"); err == nil {
		t.Error("what is held was removed from the shared cache")
	}
	release()
	if mine := put(t, c, Snapshots, "s", "ram", "22"); mine.Path == shared.Path(Snapshots, "s") || mine.Size != 2 {
		t.Errorf("a snapshot was taken from the shared cache: %+v", mine)
	}
	if mine := put(t, c, Modules, "m", "x.ko", "1"); mine.Path != own.Path(Modules, "m") {
		t.Errorf("a new entry is in %s", mine.Path)
	}
	if err := c.Remove(Kernels, "k"); !errors.Is(err, ErrMissing) {
		t.Errorf("Remove of what is shared = %v, want ErrMissing", err)
	}
	if _, err := c.Prune(-time.Hour); err != nil {
		t.Error(err)
	}
	if _, err := shared.Lookup(Kernels, "k"); err != nil {
		t.Errorf("what is shared is gone: %v", err)
	}
	// Something torn of our own does not hide it.
	if err := os.MkdirAll(own.Path(Kernels, "k"), 0o777); err != nil {
		t.Fatal(err)
	}
	if e, err := c.Lookup(Kernels, "k"); err != nil || e.Path != theirs.Path {
		t.Errorf("Lookup with a torn entry = %+v, %v", e, err)
	}
}

func TestLimit(t *testing.T) {
	c := open(t)
	put(t, c, Kernels, "other", "x", "1")
	for i, key := range []string{"e0", "e1", "e2", "named", "e4", "e3"} {
		e := put(t, c, Snapshots, key, "x", "1")
		used := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(filepath.Join(e.Path, manifestName), used, used); err != nil {
			t.Fatal(err)
		}
	}
	held, err := c.Lookup(Snapshots, "e1")
	if err != nil {
		t.Fatal(err)
	}
	day := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(filepath.Join(held.Path, manifestName), day, day); err != nil {
		t.Fatal(err)
	}
	release, err := c.Hold(held)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := c.Limit(Snapshots, 2, func(e Entry) bool { return e.Key == "named" }); err != nil {
		t.Fatal(err)
	}
	// The two used last, the spared one, and the one that is held.
	if got, want := ls(t, filepath.Join(c.Dir(), "snapshots")), []string{"e1", "e3", "e4", "named"}; !slices.Equal(got, want) {
		t.Errorf("snapshots has %q, want %q", got, want)
	}
	if _, err := c.Lookup(Kernels, "other"); err != nil {
		t.Error("an entry of another kind is gone")
	}
}

func TestBigEntryListsItsTop(t *testing.T) {
	c := open(t)
	var files []string
	for i := range 1000 {
		files = append(files, fmt.Sprintf("a/deep/down/%d", i), "x")
	}
	e := put(t, c, Trees, "k", append(files, "Makefile", "VERSION = 6")...)
	if e.Size != 1011 {
		t.Errorf("Size = %d, want 1011", e.Size)
	}
	m, _, err := readManifest(e.Path)
	if err != nil || len(m.Files) != maxListed || m.Files[0].Name != "Makefile" || m.Count != 1001 {
		t.Errorf("manifest lists %d of %d files, first %q, %v", len(m.Files), m.Count, m.Files[0].Name, err)
	}
	best := time.Hour
	for range 10 {
		start := time.Now()
		if _, err := c.Lookup(Trees, "k"); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	if best > 20*time.Millisecond {
		t.Errorf("Lookup takes %v", best)
	}
}

func TestBadNames(t *testing.T) {
	c := open(t)
	for _, key := range []string{"", ".", "..", "../x", "a/b", ".tmp-x", "a b", strings.Repeat("a", 300)} {
		if _, _, err := c.Ensure(t.Context(), Trees, key, "", never(t)); err == nil {
			t.Errorf("Ensure(%q): no error", key)
		}
		if _, err := c.Lookup(Trees, key); err == nil || errors.Is(err, ErrMissing) {
			t.Errorf("Lookup(%q) = %v", key, err)
		}
	}
	if _, err := c.Lookup("things", "k"); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("Lookup of no kind = %v", err)
	}
	if _, _, err := c.Ensure(t.Context(), Trees, "k", "", fill(manifestName, "{}")); err == nil {
		t.Error("Ensure of a directory with an entry.json of its own: no error")
	}
}

func TestReadOnlyAndFullCache(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	c, err := Open(filepath.Join(dir, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, Kernels, "k", "x", "1")
	_, _, err = c.Ensure(t.Context(), Kernels, "big", "", fill("x", strings.Repeat("x", 1<<20)))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Ensure on a full disk = %v, want ENOSPC", err)
	}
	if got := ls(t, filepath.Join(c.Dir(), "kernels")); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	c, err = Open(filepath.Join(dir, "cache"))
	if err != nil {
		t.Fatalf("Open of a read-only cache: %v", err)
	}
	e, err := c.Lookup(Kernels, "k")
	if err != nil {
		t.Fatalf("Lookup in a read-only cache: %v", err)
	}
	if release, err := c.Hold(e); err != nil {
		t.Errorf("Hold in a read-only cache: %v", err)
	} else {
		release()
	}
	if _, built, err := c.Ensure(t.Context(), Kernels, "k", "", never(t)); err != nil || built {
		t.Errorf("Ensure of a present entry in a read-only cache = built %v, %v", built, err)
	}
	if _, _, err := c.Ensure(t.Context(), Kernels, "other", "", never(t)); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Ensure of a missing entry in a read-only cache = %v, want EROFS", err)
	}
	if _, err := Open(filepath.Join(dir, "elsewhere")); err != nil {
		t.Errorf("Open of a cache that cannot be made: %v", err)
	}
}

func TestOpenNotADirectory(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(name); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Open of a file = %v, want ENOTDIR", err)
	}
}

func TestHash(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("content"), 0o666); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for what, add := range map[string]func(h *Hash) error{
		"nothing":     func(*Hash) error { return nil },
		"a=bc":        func(h *Hash) error { h.String("a", "bc"); return nil },
		"ab=c":        func(h *Hash) error { h.String("ab", "c"); return nil },
		"a=b c=":      func(h *Hash) error { h.String("a", "b"); h.String("c", ""); return nil },
		"a= bc=":      func(h *Hash) error { h.String("a", ""); h.String("bc", ""); return nil },
		"file a":      func(h *Hash) error { return h.File("a", name) },
		"a=content":   func(h *Hash) error { h.String("a", "content"); return nil },
		"file other":  func(h *Hash) error { return h.File("other", name) },
		"file a, a=b": func(h *Hash) error { h.String("a", "b"); return h.File("a", name) },
	} {
		for _, kind := range []Kind{Kernels, Modules} {
			h := NewHash(kind)
			if err := add(h); err != nil {
				t.Fatal(err)
			}
			sum := h.Sum()
			if len(sum) != 40 {
				t.Errorf("%s: Sum = %q", what, sum)
			}
			what := string(kind) + " " + what
			if other, ok := seen[sum]; ok {
				t.Errorf("%s and %s have the same key", what, other)
			}
			seen[sum] = what
		}
	}
	if err := NewHash(Kernels).File("a", filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("File of nothing = %v", err)
	}
}
