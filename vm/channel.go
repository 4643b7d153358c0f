package vm

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// wires are what connects us to QEMU: sockets, pipes and files it inherits, so
// that there are no names anybody else could open.
type wires struct {
	monitor, agent net.Conn
	input          *os.File // writes to QEMU's standard input, the console's
	memory         *os.File // a memfd for pmemsave

	// QEMU's ends: standard input and output, and descriptors 3 and up.
	stdin, stdout *os.File
	extra         []*os.File
}

// firstFD is the number of the first of wires.extra in QEMU.
const firstFD = 3

// inherited names QEMU's ends.
var inherited = channels{
	monitor: fmt.Sprintf("socket,fd=%d", firstFD),
	agent:   fmt.Sprintf("socket,fd=%d", firstFD+1),
	console: "stdio,signal=off",
}

// memoryPath is the memfd's name in QEMU.
var memoryPath = fmt.Sprintf("/proc/self/fd/%d", firstFD+2)

// newWires makes them. The console's output goes to the file consoleLog. What
// disk hands to QEMU, if it is not nil, belongs to them. Close both ends.
func newWires(consoleLog string, disk *ramFile) (*wires, error) {
	w := &wires{}
	err := w.open(consoleLog)
	w.extra = append(w.extra, disk.files()...)
	if err == nil {
		err = disk.showConsole(w.stdout)
	}
	if err != nil {
		w.closeTheirs()
		w.closeOurs()
		return nil, err
	}
	return w, nil
}

func (w *wires) open(consoleLog string) (err error) {
	// Appending, so that a file somebody truncates does not get a hole.
	w.stdout, err = os.OpenFile(consoleLog, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	markWritten(w.stdout)
	if w.stdin, w.input, err = os.Pipe(); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	for _, end := range []*net.Conn{&w.monitor, &w.agent} {
		conn, file, err := socketPair()
		if err != nil {
			return fmt.Errorf("socketpair: %w", err)
		}
		*end = conn
		w.extra = append(w.extra, file)
	}
	fd, err := unix.MemfdCreate("kaleido-ram", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	w.memory = os.NewFile(uintptr(fd), "memfd:kaleido-ram")
	w.extra = append(w.extra, w.memory)
	return nil
}

// closeTheirs closes QEMU's ends, once QEMU has its own copies: only then do
// ours end when QEMU does. The memfd is both sides'.
func (w *wires) closeTheirs() {
	for _, f := range append(w.extra, w.stdin, w.stdout) {
		if f != nil && f != w.memory {
			f.Close()
		}
	}
}

// closeOurs closes our ends.
func (w *wires) closeOurs() {
	for _, c := range []net.Conn{w.monitor, w.agent} {
		if c != nil {
			c.Close()
		}
	}
	for _, f := range []*os.File{w.memory, w.input} {
		if f != nil {
			f.Close()
		}
	}
}

// socketPair is a connection whose other end is for a child.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours := os.NewFile(uintptr(fds[0]), "socketpair")
	theirs := os.NewFile(uintptr(fds[1]), "socketpair")
	defer ours.Close() // FileConn has a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// sendFile passes a file to QEMU along with white space, which QMP ignores. The
// command getfd takes it.
func (w *wires) sendFile(f *os.File) error {
	conn, ok := w.monitor.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("pass a file to QEMU: the monitor is a %T", w.monitor)
	}
	raw, err := f.SyscallConn() // Fd would make it block
	if err != nil {
		return fmt.Errorf("pass a file to QEMU: %w", err)
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		_, _, sent = conn.WriteMsgUnix([]byte("\n"), unix.UnixRights(int(fd)), nil)
	})
	if err = errors.Join(err, sent); err != nil {
		return fmt.Errorf("pass a file to QEMU: %w", err)
	}
	return nil
}
