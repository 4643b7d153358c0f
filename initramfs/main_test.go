package initramfs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// TestMain lets the test binary play the go command.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "go" {
		os.Exit(fakeGo(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// fakeGo answers go env; what else it does is in FAKE_GO: it fails, or hangs with a child
// after writing both process ids to the file of that name.
func fakeGo(args []string) int {
	what, file, _ := strings.Cut(os.Getenv("FAKE_GO"), " ")
	switch {
	case args[0] == "env":
		fmt.Println("go1.99.0")
		return 0
	case args[0] == "hang":
		select {}
	case what == "fail":
		fmt.Fprintln(os.Stderr, "go: downloading example.org/m v1.0.0\n# example.org/m\nm.go:1:2: undefined: x\nand more")
		return 1
	case what == "hang":
		child := exec.Command(os.Args[0], "hang")
		if err := child.Start(); err != nil {
			return 2
		}
		if err := os.WriteFile(file, fmt.Appendf(nil, "%d %d\n", os.Getpid(), child.Process.Pid), 0o666); err != nil {
			return 2
		}
		_ = child.Wait()
	}
	return 3
}

// withFakeGo puts the fake go command in front of PATH.
func withFakeGo(t *testing.T, what string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "go")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("FAKE_GO", what)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // Else each process of the race detector ends 1 s late.
}

func openCache(t *testing.T) *cache.Cache {
	t.Helper()
	c, err := cache.Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mkfifo makes a pipe, whose reader waits for its writer.
func mkfifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// compileModule compiles a file that has what depmod reads of a module.
func compileModule(t *testing.T, dir, name, modinfo string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler to make a module with")
	}
	src := filepath.Join(t.TempDir(), name+".c")
	text := fmt.Sprintf("static const char m[] __attribute__((section(\".modinfo\"), used, aligned(1))) = \"%s\";\n", modinfo)
	if err := os.WriteFile(src, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	ko := filepath.Join(dir, name+".ko")
	if out, err := exec.Command(cc, "-c", "-o", ko, src).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return ko
}
