package check

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// Guest is a booted virtual machine as a script sees it. Every method that waits ends with its context.
// An error that is a *Refusal (errors.As) is the guest's own answer; any other means that it could not
// be asked.
type Guest interface {
	// Load loads a module by one finit_module(2) in a process of its own, whose pid it returns if there
	// was one, beside an error too. With deps the modules it needs are loaded before.
	Load(ctx context.Context, module string, params []string, deps bool) (pid int, err error)
	// Unload removes a module by one delete_module(2) that does not wait.
	Unload(ctx context.Context, module string) error
	// Start starts a program. The context bounds the start only.
	Start(ctx context.Context, p Program) (Process, error)
	// ReadFile reads a file to its end.
	ReadFile(ctx context.Context, name string) ([]byte, error)
	// WriteFile opens an existing file, writes data in one write(2), and closes it: what sysctls and
	// /dev/kmsg want. A file that does not exist is made.
	WriteFile(ctx context.Context, name string, data []byte) error
	// Exists reports whether a file exists.
	Exists(ctx context.Context, name string) (bool, error)
	// List returns the names in a folder.
	List(ctx context.Context, dir string) ([]string, error)
	// Taint returns the number of /proc/sys/kernel/tainted; best without the guest's help.
	Taint(ctx context.Context) (uint64, error)
	// Follow calls fn with each record of the kernel log, from the oldest on, as they come, until ctx
	// ends or no more can come. Calls do not overlap.
	Follow(ctx context.Context, fn func(dmesg.Record)) error
	// Records returns the whole log from all sources there are; also after the guest's end.
	Records(ctx context.Context) ([]dmesg.Record, error)
	// Done is closed when the guest has ended: panic, power-off, reset, or its machine is gone.
	Done() <-chan struct{}
	// End says how it ended; valid after Done.
	End() End
}

// Program is a program to start in the guest; nil readers and writers are /dev/null.
type Program struct {
	Argv           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Process is a program that was started.
type Process interface {
	PID() int
	// Signal sends a signal; a *Refusal with ESRCH if the process has ended.
	Signal(ctx context.Context, sig syscall.Signal) error
	// Wait waits until the program has ended and its output was written.
	Wait(ctx context.Context) (ExitStatus, error)
}

// ExitStatus is how a program ended.
type ExitStatus struct {
	Code   int
	Signal syscall.Signal // what killed it, 0 if it exited
}

// String returns "exit 1" or "signal KILL", as the wait command takes it.
func (s ExitStatus) String() string {
	if s.Signal != 0 {
		return "signal " + signalName(s.Signal)
	}
	return fmt.Sprintf("exit %d", s.Code)
}

// Refusal is the guest's no: the operation was tried there and failed.
type Refusal struct {
	Op     string         // what was tried: "load", "unload", "write"...
	Name   string         // on what
	Errno  syscall.Errno  // the kernel's answer, 0 if it gave none
	Signal syscall.Signal // what killed the process that tried, 0 if nothing did
	Text   string         // the cause where neither says it
}

// Error returns "load hello: ENOENT: no such file or directory".
func (e *Refusal) Error() string { return e.Op + " " + e.Name + ": " + e.Cause() }

// Unwrap returns the errno, nil if there is none.
func (e *Refusal) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Cause returns "ENOENT: no such file or directory", "killed by SIGKILL", or the text.
func (e *Refusal) Cause() string {
	switch {
	case e.Signal != 0:
		return "killed by SIG" + signalName(e.Signal)
	case e.Errno != 0:
		if name := unix.ErrnoName(e.Errno); name != "" {
			return name + ": " + e.Errno.Error()
		}
		return e.Errno.Error()
	}
	return e.Text
}

// EndReason is why a guest is no more.
type EndReason string

// The reasons.
const (
	EndPanic    EndReason = "panic"
	EndPowerOff EndReason = "poweroff"
	EndReboot   EndReason = "reboot" // it reset itself
	EndHang     EndReason = "hang"   // it answers nothing; the engine's own finding
	EndGone     EndReason = "gone"   // its machine exited or was killed from outside
)

// End is how a guest ended.
type End struct {
	Reason EndReason `json:"reason"`
	Detail string    `json:"detail,omitempty"`
}

// String returns "panic: detail".
func (e End) String() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

// signalName returns "KILL", or the number of a signal that has no name.
func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); len(name) > 3 {
		return name[3:]
	}
	return fmt.Sprint(int(sig))
}
