package guest

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keepSignals keeps the signals that would end a Go program from ending this one:
// the kernel only spares a PID 1 that has no handler, and the Go runtime has
// handlers for nearly all. They are not ignored, as children would inherit that.
func keepSignals() {
	nowhere := make(chan os.Signal, 1)
	signal.Notify(nowhere, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGTERM,
		unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, // when sent by kill(2); faults of ours still panic
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE, unix.SIGPWR, unix.SIGXCPU, unix.SIGXFSZ,
		unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGSYS, unix.SIGTRAP, unix.SIGSTKFLT)
	for _, sig := range unhandled {
		if err := setHandler(sig, takeSignalAddr); err != nil {
			complain("handle " + signalName(sig) + ": " + err.Error())
		}
	}
}

// unhandled are the signals that the Go runtime leaves to libcs. Without a handler
// they do end a PID 1 of several threads, now and then: the kernel (complete_signal in
// kernel/signal.c) kills it if its first thread blocks the signal just then, as it does
// in any handler and while it forks, and another thread does not.
var unhandled = []syscall.Signal{32, 34}

// takeSignalAddr is the address of takeSignal, in signal.s.
var takeSignalAddr uintptr

// setHandler gives a signal a handler, 0 for what it does by default.
func setHandler(sig syscall.Signal, handler uintptr) error {
	var action struct { // struct sigaction, as the kernel knows it
		handler, flags, restorer, mask uintptr
	}
	// In all else it is like the runtime's own.
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGTERM), 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
	if errno != 0 {
		return errno
	}
	action.handler = handler
	_, _, errno = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// dieOf ends this process by a signal. The runtime's handlers would end it in their own way.
func dieOf(sig syscall.Signal) {
	_ = setHandler(sig, 0) // SIGKILL has none
	_ = unix.Kill(unix.Getpid(), sig)
	for {
		_ = unix.Pause()
	}
}
