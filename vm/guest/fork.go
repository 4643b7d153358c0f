package guest

import (
	"math"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A systemCall is a number and three arguments.
type systemCall struct{ trap, a1, a2, a3 uintptr }

// noFile says that a child keeps no file.
const noFile = math.MaxUint32

// forkCall forks a child that makes one system call and exits with its errno.
// Executing a program for that would take 10 to 60 ms under emulation; this
// takes 1 or 2.
//
// A forked Go process has one thread and a runtime that does not know it, so
// the child must do nothing but raw system calls: no allocation, no stack
// growth, no Go function that is not one itself. All signals are blocked from
// before the fork until the child has given up the runtime's signal handlers.
// The child leads a process group, and keeps no file but the one named.
func forkCall(comm uintptr, call systemCall, file uintptr) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := ^uint64(0)
	var old uint64
	sigprocmask(unix.SIG_SETMASK, &all, &old)
	r, errno := forkAndCall(comm, &call, file, &old)
	sigprocmask(unix.SIG_SETMASK, &old, nil)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

func sigprocmask(how uintptr, set, old *uint64) {
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, how,
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
}

// forkAndCall returns in the parent only.
//
//go:norace
//go:noinline
func forkAndCall(comm uintptr, call *systemCall, file uintptr, mask *uint64) (uintptr, syscall.Errno) {
	var action [4]uintptr // struct kernel_sigaction: SIG_DFL, no flags
	// All variables of the child are set here: after the fork nothing may
	// reach into the runtime.
	actionAddr := uintptr(unsafe.Pointer(&action))
	maskAddr := uintptr(unsafe.Pointer(mask))
	r, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || r != 0 {
		return r, errno
	}
	for sig := uintptr(1); sig <= 64; sig++ {
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, actionAddr, 0, 8, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, maskAddr, 0, 8, 0, 0)
	syscall.RawSyscall6(unix.SYS_SETPGID, 0, 0, 0, 0, 0, 0)
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NAME, comm, 0, 0, 0, 0)
	if file > 0 {
		syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, 0, file-1, 0, 0, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, file+1, math.MaxUint32, 0, 0, 0, 0)
	_, _, errno = syscall.RawSyscall6(call.trap, call.a1, call.a2, call.a3, 0, 0, 0)
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0, 0, 0, 0)
	}
}
