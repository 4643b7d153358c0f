package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNoQEMU is wrapped by Start's error when the emulator is not installed.
var ErrNoQEMU = errors.New("QEMU is not installed")

// StartError says that QEMU ended before there was a guest, as it does when it
// does not like its arguments.
type StartError struct {
	QEMU   string // the emulator's path
	Output string // what it wrote to standard error
	Err    error  // how it ended
}

// Error is one line, with the first of QEMU's own lines that tells of an error.
func (e *StartError) Error() string {
	name := filepath.Base(e.QEMU)
	if line := complaint(e.Output); line != "" {
		return fmt.Sprintf("start %s: %s (%v)", name, strings.TrimPrefix(line, name+": "), e.Err)
	}
	return fmt.Sprintf("start %s: %v", name, e.Err)
}

func (e *StartError) Unwrap() error { return e.Err }

// complaint is the first line of QEMU's standard error that is no warning, or
// else the first.
func complaint(output string) string {
	first := ""
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case !strings.Contains(line, "warning: "):
			return line
		case first == "":
			first = line
		}
	}
	return first
}

// findQEMU is the emulator's absolute path.
func findQEMU(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoQEMU, err)
	}
	return filepath.Abs(path)
}

// process is QEMU as our child: in a process group of its own, so that a Ctrl-C
// in the terminal is ours alone, and dead when we are.
type process struct {
	path   string
	pid    int
	stderr head
	done   chan struct{} // closed when QEMU was reaped
	err    error         // how it ended; valid when done is closed
}

// startProcess starts argv with the given standard input and output, and files
// as descriptors 3 and up.
func startProcess(argv []string, stdin, stdout *os.File, files ...*os.File) (*process, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	p := &process{path: argv[0], done: make(chan struct{})}
	// Files are handed over as they are; the test is for a nil *os.File, which
	// would be no nil Reader.
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.Stderr = &p.stderr
	cmd.ExtraFiles = files
	cmd.WaitDelay = time.Second // a grandchild may hold standard error open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The signal comes when the thread that made the child ends, not the
		// process (golang.org/issue/27505): this one lives as long as QEMU.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, &StartError{QEMU: argv[0], Err: err}
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// exited says in words how QEMU ended; call it when done is closed.
func (p *process) exited() string {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	if line := complaint(p.stderr.String()); line != "" {
		return how + ": " + line
	}
	return how
}

// wait waits until QEMU was reaped, or ctx ended.
func (p *process) wait(ctx context.Context) bool {
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// signal sends sig to QEMU's process group.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.done: // the number may be another's by now
	default:
		// ESRCH means that it ended meanwhile, which is what is wanted.
		_ = syscall.Kill(-p.pid, sig)
	}
}

// grace is how long QEMU gets to obey quit, and then SIGTERM.
const grace = 400 * time.Millisecond

// stop ends QEMU and reaps it: by quit, which asks it over its monitor, by
// SIGTERM, by SIGKILL. It returns within about twice grace.
func (p *process) stop(quit func(context.Context)) {
	for _, ask := range []func(context.Context){
		quit,
		func(context.Context) { p.signal(syscall.SIGTERM) },
	} {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		ask(ctx)
		gone := p.wait(ctx)
		cancel()
		if gone {
			return
		}
	}
	p.signal(syscall.SIGKILL)
	<-p.done
}

// head keeps the first bytes written to it.
type head struct {
	mu  sync.Mutex
	buf []byte
}

// maxHead is enough for any complaint of QEMU's.
const maxHead = 16 << 10

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf = append(h.buf, p[:min(len(p), maxHead-len(h.buf))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.buf)
}
