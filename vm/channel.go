package vm

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// wires are what connects us to QEMU: sockets and files it inherits, so that
// there are no names anybody else could open.
type wires struct {
	monitor, console, agent net.Conn
	memory                  *os.File

	theirs []*os.File // QEMU's ends, descriptors 3 and up in this order
}

// firstFD is the number of the first inherited descriptor in a child.
const firstFD = 3

// theirChannels names QEMU's ends in the order of wires.theirs; logfile makes
// QEMU write the console to a file itself, whatever becomes of us.
func theirChannels(consoleLog string) channels {
	return channels{
		monitor: fmt.Sprintf("socket,fd=%d", firstFD),
		console: fmt.Sprintf("socket,fd=%d,logfile=%s", firstFD+1, optionValue(consoleLog)),
		agent:   fmt.Sprintf("socket,fd=%d", firstFD+2),
	}
}

// memoryPath is the memfd's name in QEMU.
var memoryPath = fmt.Sprintf("/proc/self/fd/%d", firstFD+3)

// newWires makes them. Close both ends.
func newWires() (*wires, error) {
	w := &wires{}
	for _, end := range []*net.Conn{&w.monitor, &w.console, &w.agent} {
		conn, file, err := socketPair()
		if err != nil {
			w.closeTheirs()
			w.closeOurs()
			return nil, err
		}
		*end = conn
		w.theirs = append(w.theirs, file)
	}
	memory, err := newMemfd()
	if err != nil {
		w.closeTheirs()
		w.closeOurs()
		return nil, err
	}
	w.memory = memory
	w.theirs = append(w.theirs, memory)
	return w, nil
}

// closeTheirs closes QEMU's ends, once QEMU has its own copies: only then do
// ours end when QEMU does. The memfd is both sides'.
func (w *wires) closeTheirs() {
	for _, f := range w.theirs {
		if f != w.memory {
			f.Close()
		}
	}
}

// closeOurs closes our ends.
func (w *wires) closeOurs() {
	for _, c := range []net.Conn{w.monitor, w.console, w.agent} {
		if c != nil {
			c.Close()
		}
	}
	if w.memory != nil {
		w.memory.Close()
	}
}

// socketPair is a connection whose other end is for a child.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "socketpair")
	theirs := os.NewFile(uintptr(fds[1]), "socketpair")
	defer ours.Close() // FileConn has a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return conn, theirs, nil
}
