package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary play a parent of QEMU's that gets killed.
func TestMain(m *testing.M) {
	if argv := os.Getenv("KALEIDO_TEST_PARENT"); argv != "" {
		p, err := startProcess(strings.Fields(argv), nil, nil)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.pid)
		<-p.done
		os.Exit(1)
	}
	if os.Getenv("KALEIDO_TEST_OLD_QEMU") != "" {
		oldQEMU(os.NewFile(firstFD, "monitor"))
		os.Exit(0)
	}
	code := m.Run()
	for _, f := range atExit {
		f()
	}
	os.Exit(code)
}

// atExit is called when all tests have ended.
var atExit []func()

// AtExit adds to it.
func AtExit(f func()) { atExit = append(atExit, f) }

// idleQEMU is a real QEMU without a guest.
func idleQEMU(t *testing.T) []string {
	t.Helper()
	qemu, err := findQEMU("qemu-system-x86_64")
	if err != nil {
		t.Skip(err)
	}
	return []string{qemu, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-accel", "tcg"}
}

// gone waits until a process that is not our child has ended.
func gone(t *testing.T, pidfd int) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 10_000)
		if err == unix.EINTR {
			continue // the runtime's own signals
		}
		if err != nil || n != 1 {
			t.Errorf("the process still runs after 10 s (%v)", err)
		}
		return
	}
}

func pidfd(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestNoQEMUOutlivesItsKilledParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "KALEIDO_TEST_PARENT="+strings.Join(idleQEMU(t), " "))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	defer parent.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	qemu := pidfd(t, pid)
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("QEMU's process group is %d, %v; want its own", group, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, qemu)
}

// shell starts a script and waits for its first line.
func shell(t *testing.T, script string) (*process, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := startProcess([]string{"/bin/sh", "-c", script}, nil, w)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return p, strings.TrimSpace(line)
}

func TestStopOfOneThatObeys(t *testing.T) {
	p, _ := shell(t, "trap 'echo bye >&2; exit 0' INT; echo ready; while :; do sleep 0.01; done")
	p.stop(func(context.Context) { p.signal(syscall.SIGINT) })
	if p.err != nil || p.exited() != "exit status 0: bye" {
		t.Errorf("ended by %v, in words %q", p.err, p.exited())
	}
}

func TestStopOfOneThatDoesNotObey(t *testing.T) {
	p, line := shell(t, "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000")
	child, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	grandchild := pidfd(t, child)
	start := time.Now()
	p.stop(func(ctx context.Context) { <-ctx.Done() })
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("stop() took %v", took)
	}
	if got := p.exited(); got != "signal: killed" {
		t.Errorf("ended by %q", got)
	}
	gone(t, grandchild)
	p.signal(syscall.SIGKILL) // nobody's, by now
}

func TestStartErrorTellsTheComplaint(t *testing.T) {
	err := &StartError{
		QEMU:   "/usr/bin/qemu-system-x86_64",
		Output: "qemu-system-x86_64: warning: old\n\nqemu-system-x86_64: -foo: invalid option\nmore\n",
		Err:    errors.New("exit status 1"),
	}
	if got, want := err.Error(), "start qemu-system-x86_64: -foo: invalid option (exit status 1)"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	err.Output = "qemu-system-x86_64: warning: old\n"
	if got, want := err.Error(), "start qemu-system-x86_64: warning: old (exit status 1)"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	err.Output = ""
	if got, want := err.Error(), "start qemu-system-x86_64: exit status 1"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if _, err := startProcess([]string{"/nonexistent"}, nil, nil); !errors.As(err, new(*StartError)) {
		t.Errorf("start of nothing = %v, want a *StartError", err)
	}
}

func TestHeadKeepsTheFirst(t *testing.T) {
	var h head
	for range 100 {
		if n, err := h.Write(make([]byte, 1000)); n != 1000 || err != nil {
			t.Fatalf("Write() = %d, %v", n, err)
		}
	}
	if got := len(h.String()); got != maxHead {
		t.Errorf("%d bytes kept, want %d", got, maxHead)
	}
}
