package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// ErrNoGo says that there is no go command on PATH.
var ErrNoGo = errors.New("the go command is not on PATH: install Go from https://go.dev/dl and put its bin folder on PATH")

// BuildError says that a command failed which makes a part of the archive. Output is all
// that it printed.
type BuildError struct {
	Args   []string
	Output []byte
	Err    error
}

// Error names the command and the first line that says what is wrong.
func (e *BuildError) Error() string {
	name := append([]string{filepath.Base(e.Args[0])}, e.Args[1:min(2, len(e.Args))]...)
	text := fmt.Sprintf("%s: %v", strings.Join(name, " "), e.Err)
	if line := e.firstLine(); line != "" {
		text += ": " + line
	}
	return text
}

// Unwrap returns the error of the process, and syscall.ENOSPC if it says that the disk is full.
func (e *BuildError) Unwrap() []error {
	if bytes.Contains(e.Output, []byte(syscall.ENOSPC.Error())) {
		return []error{e.Err, syscall.ENOSPC}
	}
	return []error{e.Err}
}

// firstLine returns the first line of the output that is not the go command telling where
// it is or what it downloads.
func (e *BuildError) firstLine() string {
	for line := range strings.Lines(string(e.Output)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "go: downloading ") {
			return line
		}
	}
	return ""
}

// command is a program to be run to its end.
type command struct {
	args []string
	dir  string
	env  []string
	log  io.Writer
	// quiet keeps the output out of the log.
	quiet bool
}

// run runs the command and returns its standard output. The error is a [*BuildError]. The
// command is the leader of a process group, all of which is killed when ctx ends, and is
// itself killed when we are.
func (c *command) run(ctx context.Context) ([]byte, error) {
	// The signal of Pdeathsig comes when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stdout, all bytes.Buffer
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir, cmd.Env = c.dir, c.env
	both := io.Writer(&all)
	if c.log != nil && !c.quiet {
		both = io.MultiWriter(&all, c.log)
	}
	cmd.Stdout, cmd.Stderr = both, both
	if c.quiet {
		cmd.Stdout = &stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, &BuildError{Args: c.args, Output: all.Bytes(), Err: err}
	}
	return stdout.Bytes(), nil
}

// environ returns the process's environment without what would change what the go command
// makes, and with the settings given.
func environ(settings ...string) []string {
	drop := map[string]bool{}
	for _, name := range strings.Fields("GOOS GOARCH GOEXPERIMENT GODEBUG GOROOT GOBIN GO111MODULE GOPACKAGESDRIVER GBB_PATH UROOT_SOURCE GBBDEBUG") {
		drop[name] = true
	}
	fixed := []string{"GOWORK=off", "CGO_ENABLED=0", "GOAMD64=v1", "GOFLAGS=-buildvcs=false"}
	settings = append(fixed, settings...)
	for _, s := range settings {
		name, _, _ := strings.Cut(s, "=")
		drop[name] = true
	}
	var env []string
	for _, s := range os.Environ() {
		if name, _, _ := strings.Cut(s, "="); !drop[name] {
			env = append(env, s)
		}
	}
	return append(env, settings...)
}

// findGo returns the path of the go command.
func findGo() (string, error) {
	name, err := exec.LookPath("go")
	if errors.Is(err, exec.ErrNotFound) {
		return "", ErrNoGo
	}
	if err != nil {
		return "", fmt.Errorf("find the go command: %w", err)
	}
	return name, nil
}
