package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrDebugged says that a debugger is at the guest already.
var ErrDebugged = errors.New("another debugger is at it")

// debugLimit bounds what QEMU takes to let a debugger in and to forget it.
const debugLimit = 10 * time.Second

// Debug lets a debugger at the guest: QEMU waits for it on a UNIX socket that only this
// user can reach, and ready is told its path. The guest stands still from then on, until
// the debugger lets it go. After the end of the guest's life the debugger can look at
// what is left of it, until Close.
//
// Debug returns when ctx ends or the guest is closed, which is no error. The debugger's
// connection and breakpoints are then gone and the guest runs on, whatever the debugger
// has left behind. The error wraps ErrDebugged if it is not the only one.
func (m *Instance) Debug(ctx context.Context, ready func(socket string)) error {
	if !m.debugged.TryLock() {
		return fmt.Errorf("debug guest: %w", ErrDebugged)
	}
	defer m.debugged.Unlock()
	dir, err := os.MkdirTemp("", "kaleido-gdb-") // the path of a socket must be short
	if err != nil {
		return fmt.Errorf("debug guest: %w", err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "gdb.sock")
	if err = m.gdbServer(ctx, socket); err != nil {
		return fmt.Errorf("debug guest: %w", err)
	}
	if err = m.mon.Raw(ctx).Stop(); err == nil {
		ready(socket)
		select {
		case <-m.life.Done():
		case <-ctx.Done():
		}
	}
	if err = errors.Join(err, m.letRun(socket)); err != nil && m.life.Err() == nil {
		return fmt.Errorf("debug guest: %w", err)
	}
	return nil
}

// letRun ends what a debugger has begun, and its connection, if it still has one.
func (m *Instance) letRun(socket string) error {
	err := m.gdbServer(m.life, "")
	select {
	case <-m.ended: // and it must not run on
		return err
	default:
	}
	if err == nil {
		err = m.gdbServer(m.life, socket)
	}
	if err == nil {
		err = forgetDebugger(m.life, socket)
	}
	return errors.Join(err, m.gdbServer(m.life, ""))
}

// gdbServer has QEMU wait for gdb on a socket; without one, no more.
func (m *Instance) gdbServer(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, debugLimit)
	defer cancel()
	device := "none"
	if socket != "" {
		device = "unix:path=" + strings.ReplaceAll(socket, ",", ",,") + ",server=on,wait=off"
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(device)
	answer, err := m.mon.Raw(ctx).HumanMonitorCommand(`gdbserver "`+quoted+`"`, nil)
	if err == nil && !strings.HasPrefix(answer, "Waiting") && !strings.HasPrefix(answer, "Disabled") {
		err = errors.New(strings.TrimSpace(answer))
	}
	return err
}

// forgetDebugger is a debugger that comes and goes. Its first question, why the guest
// stopped, has QEMU forget all breakpoints; detaching lets the guest run. The packets are
// those of GDB's Remote Serial Protocol ("Debugging with GDB", appendix E).
func forgetDebugger(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, debugLimit)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answers := bufio.NewReader(conn)
	for _, step := range []struct{ packet, answer string }{
		{"$?#3f", "$T05"},  // first comes $T02, the news that it was stopped
		{"$D;1#b0", "$OK"}, // with the process, which QEMU wants if gdb knew of several
	} {
		if _, err := conn.Write([]byte(step.packet)); err != nil {
			return err
		}
		for answer := ""; !strings.Contains(answer, step.answer); {
			if answer, err = answers.ReadString('#'); err != nil {
				return err
			}
			if _, err := answers.Discard(2); err != nil { // the sum
				return err
			}
			if _, err := conn.Write([]byte("+")); err != nil {
				return err
			}
		}
	}
	return nil
}
