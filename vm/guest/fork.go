package guest

import (
	"fmt"
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

// A childCall is a system call that a child of one thread makes, as it may not return.
// Executing a program for that would take 10 to 60 ms under emulation; a fork takes 1 or 2.
type childCall struct {
	comm   *byte // the child's name
	call   systemCall
	file   uintptr // the only one that the child keeps
	shared []byte  // with the child: what the call returned
}

// notReturned is what a call that has not returned yet has returned: no errno.
const notReturned = math.MinInt64

func newChildCall(comm string, call systemCall, file uintptr) (*childCall, error) {
	name, err := unix.BytePtrFromString(comm)
	if err != nil {
		return nil, err
	}
	shared, err := unix.Mmap(-1, 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	c := &childCall{name, call, file, shared}
	*c.returned() = notReturned
	return c, nil
}

func (c *childCall) returned() *int64 { return (*int64)(unsafe.Pointer(&c.shared[0])) }

// close is for when the child has ended.
func (c *childCall) close() { _ = unix.Munmap(c.shared) }

// end is the call's error, by the end of the child. The child's exit status would not do: an errno has
// up to twelve bits, and a module's init function may return any number.
func (c *childCall) end(status unix.WaitStatus) error {
	switch r := *c.returned(); {
	case status.Signaled():
		return diedError(status.Signal())
	case r == notReturned:
		return fmt.Errorf("the process that made the call has exited: %d", status.ExitStatus())
	case r < 0:
		return syscall.Errno(-r)
	}
	return nil
}

// fork forks the child.
//
// A forked Go process has one thread and a runtime that does not know it, so
// the child must do nothing but raw system calls: no allocation, no stack
// growth, no Go function that is not one itself. All signals are blocked from
// before the fork until the child has given up the runtime's signal handlers.
// The child leads a process group.
func (c *childCall) fork() (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := ^uint64(0)
	var old uint64
	sigprocmask(unix.SIG_SETMASK, &all, &old)
	r, errno := forkAndCall(uintptr(unsafe.Pointer(c.comm)), &c.call, c.file, c.returned(), &old)
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
func forkAndCall(comm uintptr, call *systemCall, file uintptr, returned *int64, mask *uint64) (uintptr, syscall.Errno) {
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
	r, _, errno = syscall.RawSyscall6(call.trap, call.a1, call.a2, call.a3, 0, 0, 0)
	*returned = int64(r)
	if errno != 0 {
		*returned = -int64(errno)
	}
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
	}
}
