package guest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ServerOptions are the agent's settings. The zero value serves from an ordinary
// process, as tests do.
type ServerOptions struct {
	// Init says that this process is PID 1 of a guest: it reaps orphans and
	// may set the clock, add entropy and power off. Otherwise these are EPERM.
	Init bool
	// Console is the terminal of console commands; default /dev/ttyS0.
	Console string
	// Modules is where modules are looked for; default /lib/modules/RELEASE.
	Modules string
}

// A Server is the agent's side of the protocol.
type Server struct {
	conn    io.ReadWriteCloser
	opts    ServerOptions
	reaper  *reaper
	garbage int64 // of links before the present one
}

// NewServer returns a server on conn. Serve makes it work.
func NewServer(conn io.ReadWriteCloser, opts ServerOptions) *Server {
	if opts.Console == "" {
		opts.Console = "/dev/ttyS0"
	}
	if opts.Modules == "" {
		opts.Modules = modulesFolder()
	}
	warmJSON()
	return &Server{conn: conn, opts: opts, reaper: newReaper(opts.Init)}
}

// warmJSON has package json look at our types, which it does once: before a guest is saved, so that none of
// those restored from it has to.
func warmJSON() {
	_ = json.Unmarshal([]byte("{}"), &request{})
	_, _ = json.Marshal(&reply{})
}

var (
	errReset    = errors.New("session reset")
	errCanceled = errors.New("canceled by the client")
)

// Serve serves clients, one after the other, until conn ends (nil) or fails, or
// ctx ends: then it closes conn. When conn has ended Serve may be called again:
// a virtio port reads as ended while no host is connected. Processes started
// live on.
func (s *Server) Serve(ctx context.Context) error {
	l := newLink(s.conn)
	a := &agent{server: s, wire: l}
	a.reset(0)
	stop := context.AfterFunc(ctx, func() {
		l.fail(context.Cause(ctx))
		s.conn.Close()
	})
	defer stop()
	ready, err := jsonFrame(typeReady, 0, session{0})
	if err != nil {
		return err
	}
	l.out <- outFrame{b: ready, session: context.Background()} // before any hello
	go l.write()
	err = a.read()
	a.cancel(errReset)
	l.fail(err)
	<-l.idle // a write under way may wait for a host to connect
	s.garbage += l.in.garbage.Load()
	if l.err != io.EOF {
		return l.err
	}
	return nil
}

// An agent serves one link.
type agent struct {
	server *Server
	wire   *link

	// The session. Only the reader's goroutine changes it.
	link   sender          // of the session
	ctx    context.Context // ends with the session
	cancel context.CancelCauseFunc
	nonce  uint64

	mu      sync.Mutex
	streams map[uint32]*agentStream // of the session
}

// An agentStream is a request being served.
type agentStream struct {
	agent   *agent
	id      uint32
	link    sender
	ctx     context.Context // ends with the session (errReset) or by cancel (errCanceled)
	cancel  context.CancelCauseFunc
	in      *inbox
	credits [3]*credit // by channel; 0 is not used

	mu    sync.Mutex
	child *child // of a run
}

func (a *agent) read() error {
	for {
		f, err := a.wire.in.next()
		if err != nil {
			return err
		}
		switch f.typ {
		case typeReset:
			a.handleReset(f.payload)
		case typeRequest:
			a.handleRequest(f)
		default:
			a.deliver(f)
		}
	}
}

// reset forgets the session's streams and begins a session.
func (a *agent) reset(nonce uint64) {
	if a.cancel != nil {
		a.cancel(errReset)
	}
	a.nonce = nonce
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	a.link = sender{a.wire, a.ctx}
	a.mu.Lock()
	a.streams = map[uint32]*agentStream{}
	a.mu.Unlock()
}

func (a *agent) handleReset(payload []byte) {
	var r session
	if json.Unmarshal(payload, &r) != nil {
		return
	}
	if r.Nonce != a.nonce {
		a.reset(r.Nonce)
	}
	go a.link.sendJSON(a.ctx, typeHello, 0, a.hello(a.nonce))
}

func (a *agent) hello(nonce uint64) *Hello {
	h := uname()
	h.Protocol, h.PID, h.Nonce = ProtocolVersion, os.Getpid(), nonce
	h.Garbage = a.server.garbage + a.wire.in.garbage.Load()
	return h
}

func uname() *Hello {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return &Hello{}
	}
	return &Hello{
		Release: unix.ByteSliceToString(u.Release[:]),
		Version: unix.ByteSliceToString(u.Version[:]),
		Machine: unix.ByteSliceToString(u.Machine[:]),
	}
}

func (a *agent) handleRequest(f frame) {
	st := &agentStream{
		agent: a, id: f.stream, link: a.link, in: newInbox(),
		credits: [3]*credit{chanOut: newCredit(), chanErr: newCredit()},
	}
	st.ctx, st.cancel = context.WithCancelCause(a.ctx)
	a.mu.Lock()
	taken := a.streams[f.stream] != nil
	if !taken {
		a.streams[f.stream] = st
	}
	a.mu.Unlock()
	if taken {
		return // the number is in use: a reply would end the other stream
	}
	var req request
	if err := json.Unmarshal(f.payload, &req); err != nil {
		go st.finish(failed(err))
		return
	}
	go func() { st.finish(st.serve(req, a.hello(a.nonce))) }()
}

// deliver passes a frame of a stream on. It never waits.
func (a *agent) deliver(f frame) {
	a.mu.Lock()
	st := a.streams[f.stream]
	a.mu.Unlock()
	if st == nil {
		return
	}
	switch f.typ {
	case typeData:
		st.in.push(f.payload)
	case typeEnd:
		st.in.close(io.EOF)
	case typeCredit:
		if f.channel == chanOut || f.channel == chanErr {
			st.credits[f.channel].addFrame(f.payload)
		}
	case typeCancel:
		st.cancel(errCanceled)
	}
}

// finish sends the reply and ends the stream.
func (st *agentStream) finish(r *reply) {
	a := st.agent
	a.mu.Lock()
	mine := a.streams[st.id] == st
	if mine {
		delete(a.streams, st.id)
	}
	a.mu.Unlock()
	if !mine {
		return // the session is over, or its thread came to life again
	}
	st.cancel(nil)
	// An error means that nobody waits for the reply.
	_ = st.link.sendJSON(st.link.session, typeReply, st.id, r)
}

// started tells the pid of the process that serves the request.
func (st *agentStream) started(pid int) {
	_ = st.link.sendJSON(st.ctx, typeStarted, st.id, reply{PID: pid})
}

// grant gives the client credit on channel 0.
func (st *agentStream) grant(n int) error {
	return st.link.grant(st.ctx, chanIn, st.id, n)
}

// serve does what a request asks. A fault of ours in it is its error, not the
// end of PID 1.
func (st *agentStream) serve(req request, hello *Hello) (r *reply) {
	defer func() {
		if p := recover(); p != nil {
			r = &reply{Error: &wireError{Text: "agent fault: " + panicText(p)}}
		}
	}()
	switch req.Op {
	case opHello:
		return &reply{Hello: hello}
	case opRun:
		return st.run(req)
	case opSignal:
		return failed(st.signal(req))
	case opPut:
		return failed(st.put(req))
	case opGet:
		return failed(st.serveFile(func() error { return st.get(req) }))
	case opList:
		return failed(st.serveFile(func() error { return st.list(req) }))
	case opStat:
		return failed(st.serveFile(func() error { _, err := os.Lstat(req.Name); return err }))
	case opWrite:
		return failed(st.serveFile(func() error { return writeOnce(req.Name, req.Data) }))
	case opLoad:
		return st.load(req)
	case opUnload:
		return st.unload(req)
	case opKmsg:
		return failed(st.kmsg(req))
	case opWinsize:
		return failed(setWindowSize(st.agent.server.opts.Console, req.Rows, req.Cols))
	case opSync:
		unix.Sync()
		return &reply{}
	case opClock, opEntropy, opPowerOff, opReboot, opHalt:
		return failed(st.system(req))
	}
	return failed(errors.New("unknown operation " + req.Op))
}

// system does the operations that only PID 1 of a guest may do.
func (st *agentStream) system(req request) error {
	if !st.agent.server.opts.Init {
		return unix.EPERM
	}
	switch req.Op {
	case opClock:
		return setClock(req.Time)
	case opEntropy:
		return addEntropy(req.Data)
	case opPowerOff:
		return st.end(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case opReboot:
		return st.end(unix.LINUX_REBOOT_CMD_RESTART)
	default:
		return st.end(unix.LINUX_REBOOT_CMD_HALT)
	}
}

// failed is the reply that says err; nil is success.
func failed(err error) *reply {
	if err == nil {
		return &reply{}
	}
	e := &wireError{}
	var errno syscall.Errno
	var died diedError
	switch {
	case errors.As(err, &died):
		e.Signal = int(died)
	case errors.As(err, &errno):
		e.Errno = int(errno)
	default:
		e.Text = err.Error()
	}
	return &reply{Error: e}
}

// modulesFolder is where this kernel's modules are.
func modulesFolder() string { return "/lib/modules/" + uname().Release }

// A diedError is the signal that killed a child which worked for us.
type diedError syscall.Signal

func (e diedError) Error() string { return "killed by " + signalName(syscall.Signal(e)) }

func panicText(p any) string {
	switch v := p.(type) {
	case error:
		return v.Error()
	case string:
		return v
	}
	return "panic"
}
