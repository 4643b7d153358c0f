package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// seed puts a busybox into the cache that need not be compiled.
func seed(t *testing.T, opts Options) {
	t.Helper()
	opts.Arch = "amd64"
	box, err := newBusybox(t.Context(), &opts)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = opts.Cache.Ensure(t.Context(), cache.Initramfs, box.key, "a test", func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "bb"), []byte("busybox"), 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBuildWithModules(t *testing.T) {
	if _, err := findDepmod(); err != nil {
		t.Skip(err)
	}
	withFakeGo(t, "")
	dir := t.TempDir()
	opts := Options{Release: "6.1.8-test", Modules: []string{
		compileModule(t, dir, "second", `name=second\0depends=first\0alias=pci:v0\0vermagic=6.1.8-test `),
		compileModule(t, dir, "first", `name=first\0depends=\0vermagic=6.1.8-test `),
	}}
	var archives [][]byte
	for range 2 {
		opts.Cache = openCache(t)
		seed(t, opts)
		name, made, err := Build(t.Context(), opts)
		if err != nil || !made {
			t.Fatalf("Build: made %v, %v", made, err)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, data)
		if bytes.Contains(data, []byte(opts.Cache.Dir())) || bytes.Contains(data, []byte(dir)) {
			t.Error("the archive has a path of the host in it")
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two builds, two archives")
	}
	headers, data := read(t, bytes.NewReader(archives[0]))
	if data["bbin/bb"] != "busybox" {
		t.Errorf("bbin/bb is %q", data["bbin/bb"])
	}
	const index = "lib/modules/6.1.8-test/"
	for _, name := range []string{"extra/first.ko", "extra/second.ko", "modules.alias", "modules.symbols", "modules.dep.bin"} {
		if headers[index+name] == nil {
			t.Errorf("no %s", name)
		}
	}
	for _, line := range []string{"extra/first.ko:\n", "extra/second.ko:"} {
		if !strings.Contains(data[index+"modules.dep"], line) {
			t.Errorf("no %q in modules.dep:\n%s", line, data[index+"modules.dep"])
		}
	}
	if !strings.Contains(data[index+"modules.alias"], "alias pci:v0 second") {
		t.Errorf("modules.alias:\n%s", data[index+"modules.alias"])
	}
}

func TestBuildIsCachedByContent(t *testing.T) {
	withFakeGo(t, "")
	file := filepath.Join(t.TempDir(), "f")
	opts := Options{Cache: openCache(t), Files: []File{{Name: "root/f", Source: file}}}
	seed(t, opts)
	build := func(content string, mode os.FileMode) (string, bool) {
		if err := errors.Join(os.WriteFile(file, []byte(content), 0o666), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
		name, made, err := Build(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		return name, made
	}
	first, _ := build("one", 0o644)
	if again, made := build("one", 0o644); made || again != first {
		t.Errorf("the same content: made %v, %s after %s", made, again, first)
	}
	if other, made := build("two", 0o644); !made || other == first {
		t.Errorf("other content: made %v, %s after %s", made, other, first)
	}
	if other, made := build("one", 0o755); !made || other == first {
		t.Errorf("other mode: made %v, %s after %s", made, other, first)
	}
}

func TestBadOptions(t *testing.T) {
	withFakeGo(t, "")
	tests := []struct {
		name string
		opts Options
		err  string
	}{
		{"no release", Options{Modules: []string{"/x.ko"}}, "no kernel release"},
		{"bad release", Options{Release: "../x"}, "bad kernel release"},
		{"not a module", Options{Release: "6.1.8", Modules: []string{"/x.o"}}, "not a .ko file"},
		{"no such module", Options{Release: "6.1.8", Modules: []string{"/none/x.ko"}}, "no such file"},
		{"no such checkout", Options{SourceDir: "/none"}, "read the agent's source"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.opts.Cache = openCache(t)
			if _, _, err := Build(t.Context(), test.opts); err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %v, want %q", err, test.err)
			}
		})
	}
}

func TestNoGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, _, err := Build(t.Context(), Options{Cache: openCache(t)}); !errors.Is(err, ErrNoGo) {
		t.Errorf("got %v, want %v", err, ErrNoGo)
	}
}

func TestGoFails(t *testing.T) {
	withFakeGo(t, "fail")
	opts := Options{Cache: openCache(t)}
	_, _, err := Build(t.Context(), opts)
	var failed *BuildError
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want a BuildError", err)
	}
	if err.Error() != "go build: exit status 1: m.go:1:2: undefined: x" || !strings.Contains(string(failed.Output), "and more") {
		t.Errorf("got %v with output %q", err, failed.Output)
	}
	checkEmpty(t, opts.Cache)
}

func TestBuildErrorKnowsAFullDisk(t *testing.T) {
	failed := errors.New("exit status 1")
	err := &BuildError{Args: []string{"/usr/bin/go", "build", "-o", "x"}, Output: []byte("# x\nlink: write x: no space left on device\n"), Err: failed}
	if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, failed) {
		t.Errorf("%v is not what it says", err)
	}
	if want := "go build: exit status 1: link: write x: no space left on device"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// TestCancel cancels a build while the go command and a child of it run.
func TestCancel(t *testing.T) {
	fifo := mkfifo(t)
	withFakeGo(t, "hang "+fifo)
	ctx, cancel := context.WithCancel(t.Context())
	opts := Options{Cache: openCache(t)}
	done := make(chan error, 1)
	go func() {
		_, _, err := Build(ctx, opts)
		done <- err
	}()
	pids, err := os.ReadFile(fifo)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("Build did not end within 2 s")
	}
	var parent, child int
	if _, err := fmt.Sscan(string(pids), &parent, &child); err != nil {
		t.Fatal(err)
	}
	// Both were killed; on a busy machine the child may still have to notice.
	for end := time.Now().Add(5 * time.Second); runs(parent) || runs(child); <-time.After(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the go command or its child lives on")
		}
	}
	checkEmpty(t, opts.Cache)
}

// runs reports whether a process is there and not merely waiting to be reaped.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && syscall.Kill(pid, 0) == nil
}

func checkEmpty(t *testing.T, c *cache.Cache) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(c.Dir(), string(cache.Initramfs)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s was left in the cache", e.Name())
	}
}

// TestBusybox compiles the real one, in two places: from the sources in the binary and from a checkout.
func TestBusybox(t *testing.T) {
	if os.Getenv("KALEIDO_TEST_BUSYBOX") == "" {
		t.Skip("KALEIDO_TEST_BUSYBOX is not set: not compiling the guest's commands")
	}
	var programs [][]byte
	var name string
	checkout := t.TempDir()
	if files, err := guest(""); err != nil || writeFiles(checkout, files) != nil {
		t.Fatalf("unpack the guest's module: %v", err)
	}
	for _, source := range []string{"", checkout} {
		opts := Options{Cache: openCache(t), Arch: "amd64", SourceDir: source, Log: t.Output()}
		box, err := newBusybox(t.Context(), &opts)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if name, err = box.ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("compiled in %v", time.Since(start))
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, data)
	}
	t.Logf("%d bytes", len(programs[0]))
	if !bytes.Equal(programs[0], programs[1]) {
		t.Error("two builds, two programs")
	}
	cmd := exec.Command(name, "-c", "echo it works")
	cmd.Args[0] = "sh"
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "it works\n" {
		t.Errorf("sh: %q, %v", out, err)
	}
}
