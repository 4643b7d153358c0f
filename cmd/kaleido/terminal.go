package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/term"

	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// Ctrl-A x ends the guest, as QEMU's users know it, and Ctrl-A d leaves one that
// stays, as screen's users know it; Ctrl-A Ctrl-A types one.
const (
	escapeKey    = 0x01
	escapeEnd    = 'x'
	escapeDetach = 'd'
)

var errEscaped = errors.New("ended by Ctrl-A x")

// terminal joins the person's terminal to the guest's console.
type terminal struct {
	app     *app
	console *gate
	escaped bool // the person left by Ctrl-A x
}

func newTerminal(a *app) *terminal {
	return &terminal{app: a, console: &gate{w: a.stdout}}
}

// gate passes on what is written once it is open: nobody wants to see the
// boot, and what goes wrong in it is reported otherwise.
type gate struct {
	open atomic.Bool
	w    io.Writer
}

func (g *gate) Write(p []byte) (int, error) {
	if !g.open.Load() {
		return len(p), nil
	}
	return g.w.Write(p)
}

// shell gives the person a shell on the guest's console until it ends.
func (t *terminal) shell(ctx context.Context, s *session) error {
	s.atShell = true
	in := int(t.app.stdin.Fd())
	t.app.msg.printf("%s; leave with exit, or end the guest with Ctrl-A x", s.result.Uname)
	saved, err := term.MakeRaw(in)
	if err != nil {
		return err
	}
	defer term.Restore(in, saved)
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	t.resize(ctx, s.guest.Agent(), in)
	t.console.open.Store(true)
	process, err := s.guest.Agent().Start(ctx, guest.Command{
		Argv:    []string{"sh"},
		Env:     []string{"TERM=" + os.Getenv("TERM")},
		Console: true,
	})
	if err != nil {
		return err
	}
	go t.follow(ctx, s.guest.Agent(), in)
	go func() {
		if err := t.relay(s); err != nil {
			end(err)
		}
	}()
	_, err = process.Wait(ctx)
	if errors.Is(context.Cause(ctx), errEscaped) {
		t.escaped = true
		return nil // as asked for
	}
	return err
}

// relay passes on what the person types until they end the guest.
func (t *terminal) relay(s *session) error {
	buf := make([]byte, 4096)
	escaped := false
	for {
		n, err := t.app.stdin.Read(buf)
		if err != nil {
			return nil // the person is gone; the guest's shell sees no more input
		}
		keys, end := unescape(buf[:n], &escaped, string(escapeEnd))
		if _, err := s.guest.WriteConsole(keys); err != nil {
			return err
		}
		if end != 0 {
			return errEscaped
		}
	}
}

// unescape takes the escapes out of what was typed, up to the first that is one of
// ends, which it returns. escaped carries a Ctrl-A at the end of one read over to the
// next.
func unescape(typed []byte, escaped *bool, ends string) (keys []byte, end byte) {
	var out bytes.Buffer
	for _, key := range typed {
		switch {
		case *escaped && strings.IndexByte(ends, key) >= 0:
			return out.Bytes(), key
		case *escaped:
			*escaped = false
			out.WriteByte(escapeKey)
			if key != escapeKey {
				out.WriteByte(key)
			}
		case key == escapeKey:
			*escaped = true
		default:
			out.WriteByte(key)
		}
	}
	return out.Bytes(), 0
}

// window is a console whose size can be told.
type window interface {
	SetWindowSize(ctx context.Context, rows, cols int) error
}

// follow keeps the guest's idea of the window's size true.
func (t *terminal) follow(ctx context.Context, w window, fd int) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		select {
		case <-changed:
			t.resize(ctx, w, fd)
		case <-ctx.Done():
			return
		}
	}
}

func (t *terminal) resize(ctx context.Context, w window, fd int) {
	cols, rows, err := term.GetSize(fd)
	if err != nil {
		return // a terminal that does not know its size
	}
	if err := w.SetWindowSize(ctx, rows, cols); err != nil && ctx.Err() == nil {
		t.app.msg.warningf("window size: %v", err)
	}
}
