package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
)

// A Command is a program to run in the guest.
type Command struct {
	// Argv is the program and its arguments. A program without a slash is
	// looked for in the guest's PATH.
	Argv []string
	// Env, in the form NAME=VALUE, is added to the agent's environment.
	Env []string
	// Dir is the working directory; default /.
	Dir string
	// Stdin is the program's input; default /dev/null. It is read until it
	// ends or the program does: a Read under way then is not interrupted
	// and what it gets is lost.
	Stdin io.Reader
	// Stdout and Stderr get the program's output; nil throws it away. They
	// are written to from two goroutines (from one at a time if they are
	// equal). One that is slow holds up the program when 256 KiB wait for
	// it, and nothing else.
	Stdout, Stderr io.Writer
	// Console runs the program on the console (ttyS0) as its controlling
	// terminal, with job control, instead: the fields above are not used.
	Console bool
}

// A Process is a program started in the guest.
type Process struct {
	PID int // in the guest

	name    string
	stream  *stream
	copies  sync.WaitGroup
	copied  chan struct{} // closed when all output was written
	mu      sync.Mutex
	copyErr error // the first error of Stdout or Stderr
}

// Start starts a program and returns once it runs. The context bounds the start
// only: see Wait and Signal. A program that cannot be executed is an *Error.
func (c *Client) Start(ctx context.Context, cmd Command) (*Process, error) {
	if len(cmd.Argv) == 0 {
		return nil, errors.New("run: no program named")
	}
	p := &Process{name: cmd.Argv[0], copied: make(chan struct{})}
	req := request{
		Op: opRun, Argv: cmd.Argv, Env: cmd.Env, Dir: cmd.Dir,
		Stdin: cmd.Stdin != nil, Console: cmd.Console,
	}
	s, err := c.begin(ctx, req)
	if err != nil {
		return nil, callError("run", p.name, err)
	}
	p.stream = s
	p.copyOutput(cmd.Stdout, cmd.Stderr)
	select {
	case <-s.started:
	case <-s.done: // which may be just behind started
	case <-ctx.Done():
		s.abandon()
		return nil, callError("run", p.name, context.Cause(ctx))
	}
	select {
	case <-s.started:
	default:
		if s.err != nil {
			return nil, callError("run", p.name, s.err)
		}
		return nil, s.reply.failure("run", p.name)
	}
	p.PID = s.pid
	if cmd.Stdin != nil && !cmd.Console {
		go p.sendInput(cmd.Stdin)
	}
	return p, nil
}

func (p *Process) copyOutput(stdout, stderr io.Writer) {
	if stdout != nil && sameWriter(stdout, stderr) {
		stdout = &lockedWriter{w: stdout}
		stderr = stdout
	}
	for _, o := range []struct {
		w       io.Writer
		box     *inbox
		channel uint8
	}{{stdout, p.stream.out, chanOut}, {stderr, p.stream.errs, chanErr}} {
		if o.w == nil {
			o.w = io.Discard
		}
		p.copies.Go(func() {
			err := o.box.copyTo(context.Background(), o.w, p.stream.grantOn(o.channel))
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.copyErr == nil {
				p.copyErr = err
			}
		})
	}
	go func() {
		p.copies.Wait()
		close(p.copied)
	}()
}

func (p *Process) sendInput(r io.Reader) {
	s := p.stream
	l := s.client.link
	// An input that fails ends: the program can do no more with the error.
	_ = l.sendFrom(s.open, r, s.in, chanIn, s.id)
	_ = l.send(s.open, seal(newFrame(0), typeEnd, chanIn, s.id))
}

// Wait waits until the program has ended and its output was written, and
// returns how it ended. If ctx ends before, the program goes on and Wait may be
// called again. Any other error is the connection's or an output writer's.
func (p *Process) Wait(ctx context.Context) (Status, error) {
	for _, ch := range []<-chan struct{}{p.stream.done, p.copied} {
		select {
		case <-ch:
		case <-ctx.Done():
			return Status{}, callError("run", p.name, context.Cause(ctx))
		}
	}
	if err := p.stream.err; err != nil {
		return Status{}, callError("run", p.name, err)
	}
	r := p.stream.reply
	if err := r.failure("run", p.name); err != nil {
		return Status{}, err
	}
	status := Status{Code: r.Code, Signal: syscall.Signal(r.Signal)}
	if p.copyErr != nil {
		return status, callError("output of", p.name, p.copyErr)
	}
	return status, nil
}

// Signal sends a signal to the program; os.ErrProcessDone if it has ended.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error {
	return p.signal(ctx, sig, false)
}

// SignalGroup sends a signal to the program and all its children that have not
// left its process group.
func (p *Process) SignalGroup(ctx context.Context, sig syscall.Signal) error {
	return p.signal(ctx, sig, true)
}

func (p *Process) signal(ctx context.Context, sig syscall.Signal, group bool) error {
	select {
	case <-p.stream.done:
		return os.ErrProcessDone
	default:
	}
	_, err := p.stream.client.call(ctx, "signal", p.name, request{
		Op: opSignal, Process: p.stream.id, Signal: int(sig), Group: group,
	})
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Output is what a program printed and how it ended.
type Output struct {
	Stdout, Stderr []byte
	Status         Status
}

// Run runs a program to its end. A program that fails is no error: look at
// Status. If ctx ends before, the program and its process group are killed.
func (c *Client) Run(ctx context.Context, argv ...string) (*Output, error) {
	var stdout, stderr bytes.Buffer
	p, err := c.Start(ctx, Command{Argv: argv, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		return nil, err
	}
	status, err := p.Wait(ctx)
	if err != nil {
		p.stream.abandon()
		return nil, err
	}
	return &Output{stdout.Bytes(), stderr.Bytes(), status}, nil
}

// sameWriter compares writers of which one may be of a type that cannot be compared.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }()
	return a == b
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
