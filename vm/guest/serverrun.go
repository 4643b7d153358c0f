package guest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// run serves a run request.
func (st *agentStream) run(req request) *reply {
	p, err := st.spawn(req)
	if err != nil {
		return failed(err)
	}
	st.started(p.pid)
	ctx, stop := context.WithCancelCause(st.ctx)
	defer stop(nil)
	if p.stdin != nil {
		go func() {
			_ = st.in.copyTo(ctx, p.stdin, st.grant) // an error ends the input, no more
			p.stdin.Close()
		}()
	}
	var pumps sync.WaitGroup
	for channel, r := range p.outputs {
		if r != nil {
			pumps.Go(func() { st.pump(ctx, p.child, r, uint8(channel)) })
		}
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if context.Cause(ctx) == errCanceled {
			_ = p.signal(unix.SIGKILL, true)
		}
		<-p.done
	}
	pumps.Wait()
	if p.stdin != nil {
		p.stdin.Close()
	}
	return exited(p.status)
}

// exited is the reply that tells how a process ended.
func exited(status unix.WaitStatus) *reply {
	if status.Signaled() {
		return &reply{Signal: int(status.Signal())}
	}
	return &reply{Code: status.ExitStatus()}
}

// pump sends what a process writes to one of its pipes. Once the process has
// ended it sends what is left in the pipe, but does not wait for others that
// hold it: those, and all when the session ends, write to nobody.
func (st *agentStream) pump(ctx context.Context, c *child, r *os.File, channel uint8) {
	defer func() { go discard(r) }()
	wake := func() { _ = r.SetReadDeadline(time.Unix(1, 0)) }
	defer context.AfterFunc(ctx, wake)()
	pumping := make(chan struct{})
	go func() {
		select {
		case <-c.done:
			wake()
		case <-pumping:
		}
	}()
	l, cr := st.link, st.credits[channel]
	err := l.sendFrom(ctx, r, cr, channel, st.id)
	close(pumping)
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		// The deadline keeps r from being read; its descriptor does not mind.
		_ = l.sendFrom(ctx, descriptor{r}, cr, channel, st.id)
	}
	if ctx.Err() == nil {
		_ = l.send(ctx, seal(newFrame(0), typeEnd, channel, st.id))
	}
}

// discard reads r to its end. A wake of pump may still be on its way.
func discard(r *os.File) {
	defer r.Close()
	for {
		_ = r.SetReadDeadline(time.Time{})
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// A descriptor reads from a non-blocking file without waiting: it has ended when
// there is nothing to read now.
type descriptor struct{ f *os.File }

func (d descriptor) Read(p []byte) (n int, err error) {
	conn, err := d.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := conn.Control(func(fd uintptr) {
		for {
			n, err = syscall.Read(int(fd), p)
			if err != syscall.EINTR {
				return
			}
		}
	})
	n = max(n, 0)
	switch {
	case controlErr != nil:
		return n, controlErr
	case err == syscall.EAGAIN || n == 0 && err == nil:
		return n, io.EOF
	}
	return n, err
}

// A running is a process of a run request and the agent's ends of its pipes.
type running struct {
	*child
	stdin   *os.File    // nil: none
	outputs [3]*os.File // by channel; nil: none
}

// spawn starts the program of a request and enters it into the stream.
func (st *agentStream) spawn(req request) (*running, error) {
	if len(req.Argv) == 0 {
		return nil, unix.EINVAL
	}
	path, err := lookPath(req.Argv[0], req.Env)
	if err != nil {
		return nil, err
	}
	p := &running{}
	var files [3]int
	if req.Console {
		files[0], err = openConsole(st.agent.server.opts.Console)
		files[1], files[2] = files[0], files[0]
	} else {
		files, err = p.openPipes(req.Stdin)
	}
	if err != nil {
		return nil, err
	}
	defer closeAll(files)
	attr := &syscall.ProcAttr{
		Dir:   req.Dir,
		Env:   mergeEnv(os.Environ(), req.Env),
		Files: []uintptr{uintptr(files[0]), uintptr(files[1]), uintptr(files[2])},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: req.Console}, // of fd 0
	}
	argv := req.Argv
	if req.Console {
		argv = append([]string{os.Args[0], path}, argv...)
		attr.Env = append(attr.Env, leaderVariable+"=1")
		path = "/proc/self/exe"
	}
	p.child, err = st.agent.server.reaper.start(func() (int, error) {
		return syscall.ForkExec(path, argv, attr)
	})
	if err != nil {
		p.closePipes()
		return nil, err
	}
	st.mu.Lock()
	st.child = p.child
	st.mu.Unlock()
	return p, nil
}

// lookPath finds a program as execvp(3) would, by the PATH it will have itself.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := os.Getenv("PATH")
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", unix.ENOENT
}

// mergeEnv returns env with more added: a name occurs once, as programs differ in
// which of two they take.
func mergeEnv(env, more []string) []string {
	var names []string
	values := map[string]string{}
	for _, e := range append(env, more...) {
		name, value, ok := strings.Cut(e, "=")
		if !ok {
			continue
		}
		if _, seen := values[name]; !seen {
			names = append(names, name)
		}
		values[name] = value
	}
	merged := make([]string, len(names))
	for i, name := range names {
		merged[i] = name + "=" + values[name]
	}
	return merged
}

// openPipes makes the process's standard files and keeps the other ends of them,
// which do not block and so can be given up at any time.
func (p *running) openPipes(stdin bool) (theirs [3]int, err error) {
	theirs = [3]int{-1, -1, -1}
	defer func() {
		if err != nil {
			closeAll(theirs)
			p.closePipes()
		}
	}()
	if stdin {
		theirs[0], p.stdin, err = pipe(0)
	} else {
		theirs[0], err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	for channel := chanOut; channel <= chanErr && err == nil; channel++ {
		theirs[channel], p.outputs[channel], err = pipe(1)
	}
	return theirs, err
}

// pipe makes a pipe and keeps one end; which says what the other is to be: 0 the
// reading end, 1 the writing one.
func pipe(which int) (theirs int, ours *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return -1, nil, err
	}
	_ = unix.SetNonblock(ends[1-which], true) // cannot fail on a pipe
	return ends[which], os.NewFile(uintptr(ends[1-which]), "pipe"), nil
}

func closeAll(fds [3]int) {
	for i, fd := range fds {
		if fd >= 0 && (i == 0 || fd != fds[0]) {
			unix.Close(fd)
		}
	}
}

func (p *running) closePipes() {
	for _, f := range append(p.outputs[:], p.stdin) {
		if f != nil {
			f.Close()
		}
	}
}

// signal serves a signal request.
func (st *agentStream) signal(req request) error {
	a := st.agent
	a.mu.Lock()
	target := a.streams[req.Process]
	a.mu.Unlock()
	if target == nil {
		return unix.ESRCH
	}
	target.mu.Lock()
	c := target.child
	target.mu.Unlock()
	if c == nil {
		return unix.ESRCH
	}
	return c.signal(syscall.Signal(req.Signal), req.Group)
}
