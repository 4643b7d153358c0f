package kbuild

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Each log in testdata/make was written by a real make of Linux 6.1; what is told of it is in the file
// of the same name that ends in .want: the first complaint, a blank line, the excerpt.
func TestComplaints(t *testing.T) {
	logs, err := filepath.Glob("testdata/make/*.log")
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, name := range logs {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			c := &command{argv: []string{"make", "modules"}, name: relativeTo("/scratch")}
			var e *MakeError
			if !errors.As(feed(text).failure(c, errors.New("exit status 2")), &e) {
				t.Fatal("not a *MakeError")
			}
			golden(t, strings.TrimSuffix(name, ".log")+".want", e.First+"\n\n"+string(e.Output))
		})
	}
}

func feed(text []byte) *complaints {
	c := &complaints{}
	for len(text) > 0 { // In pieces, as a pipe has them.
		n := min(len(text), 7)
		_, _ = c.Write(text[:n])
		text = text[n:]
	}
	c.close()
	return c
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func FuzzComplaints(f *testing.F) {
	logs, _ := filepath.Glob("testdata/make/*.log")
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		piecemeal := feed(text)
		whole := &complaints{}
		_, _ = whole.Write(text)
		whole.close()
		if len(text) < maxLine && !reflect.DeepEqual(piecemeal, whole) {
			t.Fatalf("in pieces %+v, at once %+v", piecemeal, whole)
		}
		if n := len(strings.Join(whole.excerpt, "\n")); n > maxExcerpt {
			t.Fatalf("excerpt of %d bytes", n)
		}
		if whole.first != "" && len(whole.excerpt) == 0 {
			t.Fatalf("first %q without an excerpt", whole.first)
		}
	})
}

func TestMakeErrorText(t *testing.T) {
	e := &MakeError{
		Args:  []string{"make", "-C", "/src", "O=/o", "-j2", "CC=ccache gcc", "bzImage", "modules"},
		First: "kernel/fork.c:3:5: error: no", Err: errors.New("exit status 2"),
	}
	if got, want := e.Error(), "make bzImage modules: kernel/fork.c:3:5: error: no"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	e.First = ""
	if got, want := e.Error(), "make bzImage modules: exit status 2"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

func TestProgress(t *testing.T) {
	text, err := os.ReadFile("testdata/make/kernel-ok.log")
	if err != nil {
		t.Fatal(err)
	}
	var last Update
	reports := 0
	s := &steps{stage: "build", total: 50, report: func(u Update) { last, reports = u, reports+1 }}
	for _, line := range strings.Split(string(text), "\n") {
		before := s.done
		s.line(line)
		if isStep := strings.HasPrefix(line, "  "); (s.done > before) != isStep {
			t.Errorf("counted %d steps in %q", s.done-before, line)
		}
		if s.done > s.total {
			t.Fatalf("%d of %d done", s.done, s.total)
		}
	}
	s.finish()
	if want := (Update{Stage: "build", Done: 95, Total: 95, Unit: "objects"}); last != want || reports != 96 {
		t.Errorf("last of %d updates = %+v, want 96 and %+v", reports, last, want)
	}
	for _, line := range []string{"  ld: warning", " CC x.o", "   CC x.o", "  Building modules, stage 2.", "  CC      a b", ""} {
		if isStep(line) {
			t.Errorf("%q is taken for a step", line)
		}
	}
	if !isStep("  CC [M]  /scratch/hello.o") {
		t.Error("CC [M] is not taken for a step")
	}
}

func TestEnviron(t *testing.T) {
	got := environ([]string{"PATH=/bin", "HOME=/root", "KCFLAGS=-O3", "MAKEFLAGS=-j", "ARCH=arm64", "CCACHE_DIR=/c", "LANG=de_DE", "TMPDIR=/t", "CC=clang"})
	if want := []string{"LC_ALL=C", "PATH=/bin", "HOME=/root", "CCACHE_DIR=/c", "TMPDIR=/t"}; !reflect.DeepEqual(got, want) {
		t.Errorf("environ = %q, want %q", got, want)
	}
}

func TestRunOutput(t *testing.T) {
	var log bytes.Buffer
	var lines []string
	c := &command{argv: []string{"A=1 2", "sh", "-c", `echo "$A"; echo "x.c:1: error: no" >&2; exit 3`}, log: &log,
		line: func(l string) { lines = append(lines, l) }, logFile: "the.log"}
	err := c.run(t.Context())
	var e *MakeError
	if !errors.As(err, &e) || e.First != "x.c:1: error: no" || e.LogFile != "the.log" || string(e.Output) != "x.c:1: error: no\n" {
		t.Fatalf("run = %#v", err)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("run = %v, want exit status 3 in it", err)
	}
	if want := "1 2\nx.c:1: error: no\n"; log.String() != want || strings.Join(lines, "\n")+"\n" != want {
		t.Errorf("log %q, lines %q", log.String(), lines)
	}
	if err := (&command{argv: []string{"no-such-program-here"}}).run(t.Context()); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("run of nothing = %v", err)
	}
}

func TestRunFullDisk(t *testing.T) {
	c := &command{argv: []string{"sh", "-c", "echo 'x.s: fatal error: writing: No space left on device'; exit 1"}}
	if err := c.run(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("run = %v, want ENOSPC", err)
	}
}

func TestRunCancel(t *testing.T) {
	for _, test := range []struct{ name, script string }{
		{"obedient", `echo $$; echo ready; exec sleep 60`},
		// As a make that waits for a compiler which does not listen.
		{"stubborn", `sh -c 'trap "" TERM INT; echo $$; echo ready; while :; do sleep 1; done' & wait`},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var process int // a file descriptor of the innermost one
			c := &command{argv: []string{"sh", "-c", test.script}, line: func(line string) {
				if pid, err := strconv.Atoi(line); err == nil {
					process, err = unix.PidfdOpen(pid, 0)
					if err != nil {
						t.Error(err)
					}
				}
				if line == "ready" {
					cancel()
				}
			}}
			start := time.Now()
			err := c.run(ctx)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("run = %v, want %v", err, context.Canceled)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("run took %v after it was cancelled", took)
			}
			defer unix.Close(process)
			// A process has ended when its descriptor can be read.
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 1000); n != 1 || err != nil {
				t.Errorf("a process outlived run: poll = %d, %v", n, err)
			}
		})
	}
}

// A build does not outlive a kaleido that is killed: the kernel tells it to end. The test binary plays
// that kaleido; the build tells how it fares through a named pipe, which ends when the build does.
func TestRunKilled(t *testing.T) {
	if fifo := os.Getenv("KALEIDO_TEST_FIFO"); fifo != "" {
		const script = `exec 3>"$1"; trap 'echo told >&3; exit' TERM; echo ready >&3; while :; do sleep 0.05; done`
		_ = (&command{argv: []string{"sh", "-c", script, "sh", fifo}}).run(t.Context())
		return
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRunKilled$")
	cmd.Env = append(os.Environ(), "KALEIDO_TEST_FIFO="+fifo)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 64)
	if n, err := f.Read(buf); err != nil || string(buf[:n]) != "ready\n" {
		t.Fatalf("the build says %q, %v", buf[:n], err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_ = f.SetReadDeadline(time.Now().Add(5 * time.Second))
	if said, err := io.ReadAll(f); err != nil || string(said) != "told\n" {
		t.Errorf("after its kaleido was killed the build says %q, %v", said, err)
	}
}
