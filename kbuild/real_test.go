package kbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// The tests in this file run the real make on a real kernel source, named by $KALEIDO_TEST_SOURCE: a
// tree, a tarball or a version.

func realSource(t *testing.T) *Source {
	t.Helper()
	name := os.Getenv("KALEIDO_TEST_SOURCE")
	if name == "" {
		t.Skip("needs a kernel source: set KALEIDO_TEST_SOURCE to a tree or a tarball")
	}
	src, err := Fetch(t.Context(), FetchOptions{Kernel: name, Cache: newCache(t)})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func newCache(t *testing.T) *cache.Cache {
	t.Helper()
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRealConfigure(t *testing.T) {
	src := realSource(t)
	for _, profile := range Profiles() {
		t.Run(profile, func(t *testing.T) {
			text, err := Configure(t.Context(), src, Config{Profile: profile}, t.TempDir())
			if err != nil || !bytes.Contains(text, []byte("CONFIG_PVPANIC=y\n")) {
				t.Errorf("Configure = %d bytes, %v", len(text), err)
			}
		})
	}
	t.Run("the profile gives way", func(t *testing.T) {
		// To another member of a choice, and to the loss of what two of its wishes depend on.
		text, err := Configure(t.Context(), src, Config{Set: []string{"PREEMPT=y", "TRANSPARENT_HUGEPAGE=n", "IKCONFIG=n"}}, t.TempDir())
		if err != nil || !bytes.Contains(text, []byte("CONFIG_PREEMPT=y\n")) {
			t.Errorf("Configure = %d bytes, %v", len(text), err)
		}
	})
	t.Run("misses", func(t *testing.T) {
		fragment := write(t, filepath.Join(t.TempDir(), "ext4.config"), "# disk\nCONFIG_EXT4_FS=y\n")
		_, err := Configure(t.Context(), src, Config{Fragments: []string{fragment},
			Set: []string{"PVPANICC=y", "ARM64_PAN=y", "LOCKDEP=y", "SYSFS=y"}}, t.TempDir())
		var e *ConfigError
		if !errors.As(err, &e) {
			t.Fatalf("Configure = %v, want a *ConfigError", err)
		}
		for i, want := range []string{
			"EXT4_FS=y (" + fragment + ":2) did not survive: depends on BLOCK (fs/Kconfig:",
			"PVPANICC=y (--set): unknown symbol; did you mean PVPANIC?",
			"ARM64_PAN=y (--set): unknown symbol: only another architecture has it, in arch/arm64/Kconfig",
			"LOCKDEP=y (--set) did not survive: has no prompt: only `select` can set it, as PROVE_LOCKING",
		} {
			if got := e.Details(); len(got) != 4 || !strings.HasPrefix(got[i], want) {
				t.Errorf("Details() = %q\nwant at %d %s", got, i, want)
			}
		}
	})
}

// labKernel is the kernel whose build tree $KALEIDO_TEST_KBUILD names, made by another kaleido. That it
// is the same wherever and whenever it is made is TestCrowd's business, in cmd/kaleido, which makes one.
func labKernel(t *testing.T) *Kernel {
	t.Helper()
	tree := os.Getenv("KALEIDO_TEST_KBUILD")
	if tree == "" {
		t.Skip("needs a kernel: set KALEIDO_TEST_KBUILD to its build tree")
	}
	k, err := OpenKernel(filepath.Dir(tree))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRealKernel(t *testing.T) {
	k := labKernel(t)
	if k.Release != k.Version+"-kaleido" || k.Profile != "lab" || !strings.Contains(k.Compiler, "gcc") {
		t.Errorf("kernel is %+v", k)
	}
	t.Run("nothing of the place", func(t *testing.T) {
		for _, name := range []string{k.Image(), k.BootImage(), k.Vmlinux()} {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, place := range []string{k.Dir, filepath.Dir(k.Dir), k.Source} {
				if bytes.Contains(data, []byte(place)) {
					t.Errorf("%s has %s in it", filepath.Base(name), place)
				}
			}
		}
	})
	t.Run("modules", func(t *testing.T) { testModules(t, k) })
}

const helloSource = `#include <linux/module.h>

static int __init hello_init(void)
{
	WARN_ON_ONCE(0);
	return 0;
}
module_init(hello_init);
MODULE_LICENSE("GPL");
`

func testModules(t *testing.T, k *Kernel) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Makefile"), "obj-m := hello.o\n")
	write(t, filepath.Join(dir, "hello.c"), helloSource)
	before := snapshot(t, k.BuildTree())
	var log bytes.Buffer
	if err := k.BuildModules(t.Context(), ModuleBuild{Dir: dir, Jobs: 2, Log: &log}); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	ko, err := os.ReadFile(filepath.Join(dir, "hello.ko"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "vermagic=" + k.Release + " "; !bytes.Contains(ko, []byte(want)) {
		t.Errorf("hello.ko has no %s", want)
	}
	if bytes.Contains(ko, []byte(dir)) {
		t.Errorf("hello.ko has the path %s in it", dir)
	}
	write(t, filepath.Join(dir, "hello.c"), strings.Replace(helloSource, "return 0;", "return zero;", 1))
	err = k.BuildModules(t.Context(), ModuleBuild{Dir: dir, Jobs: 2})
	var e *MakeError
	if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), "make modules: hello.c:6:16: error: 'zero' undeclared") {
		t.Errorf("of a broken module: %v", err)
	}
	if after := snapshot(t, k.BuildTree()); after != before {
		t.Errorf("building modules changed the build tree")
	}
}

// snapshot is the names, sizes and times of all files and folders of a tree.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, name, info.Mode(), info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// killedAt is the step at which the tests below end a build.
const killedAt = 40

func TestRealBuildCancelled(t *testing.T) {
	src := realSource(t)
	c := newCache(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var since time.Time
	_, err := Build(ctx, BuildOptions{Source: src, Config: Config{Profile: "tiny"}, Cache: c, Jobs: 2, Progress: func(u Update) {
		if u.Stage == "build" && u.Done >= killedAt && since.IsZero() {
			since = time.Now()
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Build = %v, want %v", err, context.Canceled)
	}
	if took := time.Since(since); took > 2*time.Second {
		t.Errorf("Build ended %v after it was cancelled", took)
	}
	if left := leftIn(c); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestRealBuildFullDisk(t *testing.T) {
	src := realSource(t)
	c, err := cache.Open(mountTmpfs(t, "6m"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Build(t.Context(), BuildOptions{Source: src, Config: Config{Profile: "tiny"}, Cache: c, Jobs: 2, LogDir: t.TempDir()})
	var e *MakeError
	if !errors.As(err, &e) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("Build = %v, want a *MakeError that is ENOSPC", err)
	}
	if left := leftIn(c); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// leftIn is what builds have left in a cache.
func leftIn(c *cache.Cache) []string {
	kernels, _ := filepath.Glob(filepath.Join(c.Dir(), string(cache.Kernels), "*"))
	objects, _ := filepath.Glob(filepath.Join(c.Dir(), string(cache.Objects), "*"))
	torn, _ := filepath.Glob(filepath.Join(c.Dir(), "*", ".tmp-*"))
	return slices.Concat(kernels, objects, torn)
}

// A kaleido that is killed leaves neither a torn entry nor a make. The test binary plays it.
func TestRealBuildKilled(t *testing.T) {
	src := realSource(t)
	dir := os.Getenv("KALEIDO_TEST_KILLED")
	if dir == "" {
		dir = t.TempDir()
	}
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	opts := BuildOptions{Source: src, Config: Config{Profile: "tiny"}, Cache: c, Jobs: 2}
	if os.Getenv("KALEIDO_TEST_KILLED") != "" {
		opts.Progress = func(u Update) {
			if u.Stage == "build" && u.Done >= killedAt {
				fmt.Println("building")
				select {}
			}
		}
		_, err := Build(t.Context(), opts)
		t.Fatal(err)
	}
	kill := startBuild(t, dir)
	make := childOf(t, kill.Process.Pid, "make")
	_ = kill.Process.Kill()
	_ = kill.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(make), Events: unix.POLLIN}}, 5000); n != 1 || err != nil {
		t.Errorf("make outlived its kaleido: poll = %d, %v", n, err)
	}
	key, err := Key(opts)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := c.Lookup(cache.Kernels, key); !errors.Is(err, cache.ErrMissing) {
		t.Errorf("the killed build left an entry: %v, %v", e, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opts.Progress = func(u Update) { cancel() } // It has the lock, so the torn one is out of the way.
	if _, err := Build(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("the next Build = %v", err)
	}
	if left := leftIn(c); len(left) > 0 {
		t.Errorf("the next build left %v", left)
	}
}

// startBuild has another process build a kernel until it says that it is at it.
func startBuild(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRealBuildKilled$")
	cmd.Env = append(os.Environ(), "KALEIDO_TEST_KILLED="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []byte
	buf := make([]byte, 256)
	for !bytes.Contains(said, []byte("building\n")) {
		n, err := out.Read(buf)
		said = append(said, buf[:n]...)
		if err != nil {
			t.Fatalf("the other process says %q, %v", said, err)
		}
	}
	return cmd
}

// childOf returns a pidfd of the child with that name.
func childOf(t *testing.T, parent int, name string) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		var pid, ppid int
		var comm, state string
		text, _ := os.ReadFile(file) // It may be gone by now.
		if _, err := fmt.Sscan(string(text), &pid, &comm, &state, &ppid); err != nil || ppid != parent || comm != "("+name+")" {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	t.Fatalf("process %d has no child %s", parent, name)
	return -1
}
