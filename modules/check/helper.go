package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
)

// helper is a program a script started in the background.
type helper struct {
	name   string
	argv   []string
	proc   Process
	out    lines
	errs   logBuffer // written by the guest only until done
	stdin  *io.PipeWriter
	closed bool          // a step has closed stdin
	done   chan struct{} // closed after status and err were set and all output has come
	status ExitStatus
	err    error
	stop   context.CancelFunc
}

// startHelper starts a program and follows it to its end.
func (r *run) startHelper(ctx context.Context, name string, argv []string) (*helper, error) {
	in, stdin := io.Pipe()
	h := &helper{name: name, argv: argv, stdin: stdin, done: make(chan struct{})}
	var err error
	if h.proc, err = r.guest.Start(ctx, Program{Argv: argv, Stdin: in, Stdout: &h.out, Stderr: &h.errs}); err != nil {
		stdin.Close() // whoever reads it must not wait for ever
		return nil, err
	}
	wait, stop := context.WithCancel(context.WithoutCancel(r.ctx))
	h.stop = stop
	go func() {
		h.status, h.err = h.proc.Wait(wait)
		h.out.close()
		in.CloseWithError(errors.New("the program has ended"))
		close(h.done)
	}()
	r.helpers[name] = h
	r.started = append(r.started, h)
	return h, nil
}

// ended reports whether the helper is known to have ended.
func (h *helper) ended() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// close gives up on the helper.
func (h *helper) close() {
	h.stop()
	h.stdin.Close()
	<-h.done
}

// String says what became of the helper.
func (h *helper) String() string {
	switch {
	case !h.ended():
		return fmt.Sprintf("%s (pid %d) is running", h.argv[0], h.proc.PID())
	case h.err != nil:
		return fmt.Sprintf("%s: %v", h.argv[0], h.err)
	}
	s := fmt.Sprintf("%s has ended: %v", h.argv[0], h.status)
	if text := h.errs.String(); text != "" {
		s += "\nstderr: " + text
	}
	return s
}

// wait waits for the helper's end. The error is the context's cause, or why the end cannot be known.
func (h *helper) wait(ctx context.Context) (ExitStatus, error) {
	select {
	case <-h.done:
		return h.status, h.err
	case <-ctx.Done():
		return ExitStatus{}, context.Cause(ctx)
	}
}

// write sends a line to the helper's standard input.
func (h *helper) write(ctx context.Context, text string) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(h.stdin, text)
		sent <- err
	}()
	select {
	case err := <-sent:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// killHelpers ends what still runs and waits for it. What cannot be killed is left alone.
func (r *run) killHelpers() {
	ctx, cancel := r.bounded(0)
	defer cancel()
	var killed []*helper
	for _, h := range r.started {
		if !h.ended() && h.proc.Signal(ctx, syscall.SIGKILL) == nil {
			killed = append(killed, h)
		}
	}
	for _, h := range killed {
		if _, err := h.wait(ctx); ctx.Err() != nil || err != nil {
			return
		}
	}
}

// Bounds of what a helper may print without anybody looking.
const (
	maxLines = 10_000
	maxLine  = 64 << 10
)

// lines cuts what a helper prints into lines, as it comes.
type lines struct {
	mu     sync.Mutex
	wake   broadcast
	queue  []string // not looked at yet
	part   []byte   // without its newline
	recent []string // the last lines, looked at or not, for messages
	closed bool
}

// Write takes everything.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		line, rest, ok := bytes.Cut(l.part, []byte("\n"))
		if !ok && len(l.part) < maxLine {
			break
		}
		l.push(string(line))
		l.part = append([]byte(nil), rest...)
	}
	l.wake.change()
	return len(p), nil
}

func (l *lines) push(line string) {
	line = strings.TrimSuffix(line, "\r")
	if l.queue = append(l.queue, line); len(l.queue) > maxLines {
		l.queue = l.queue[1:]
	}
	if l.recent = append(l.recent, line); len(l.recent) > 10 {
		l.recent = l.recent[1:]
	}
}

// close says that nothing more comes.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.part) > 0 {
		l.push(string(l.part))
		l.part = nil
	}
	l.closed = true
	l.wake.change()
}

// last returns the last lines.
func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.Join(l.recent, "\n")
	if len(l.part) > 0 {
		text += "\n" + string(l.part) + " (the line has no end yet)"
	}
	return text
}

var errNoMore = errors.New("it has ended")

// find waits for a line that fn likes, and takes it and all before it. The error is errNoMore or the
// context's cause.
func (l *lines) find(ctx context.Context, fn func(string) bool) (string, error) {
	for {
		l.mu.Lock()
		changed, closed := l.wake.changed(), l.closed
		for len(l.queue) > 0 {
			line := l.queue[0]
			l.queue = l.queue[1:]
			if fn(line) {
				l.mu.Unlock()
				return line, nil
			}
		}
		l.mu.Unlock()
		if closed {
			return "", errNoMore
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}
