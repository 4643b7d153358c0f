package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// ErrClosed is what every call returns (wrapped, with the cause) once the
// connection to the agent has ended.
var ErrClosed = errors.New("agent connection closed")

// ErrRestarted is returned by calls under way when the agent lost its session,
// which it does when its port is unplugged. Later calls work.
var ErrRestarted = errors.New("agent restarted")

// A Client asks the agent in a guest to do things. Its methods may be called at
// the same time; each waits at most as long as its context.
type Client struct {
	link sender

	mu      sync.Mutex
	streams map[uint32]*stream
	last    uint32        // number of the newest stream
	nonce   uint64        // of the session
	ready   chan struct{} // closed when the agent has said hello
	greeted bool          // ready is closed
	version error         // not nil: the agent speaks another protocol

	greeting Hello // the agent's, once it has greeted
}

// A stream is one request and all that belongs to it.
type stream struct {
	client  *Client
	id      uint32
	in      *credit
	out     *inbox // channel 1
	errs    *inbox // channel 2
	started chan struct{}
	pid     int           // valid once started is closed
	done    chan struct{} // closed by the reply or by failure
	reply   reply         // valid once done is closed
	err     error         // likewise: why no reply will come
	open    context.Context
	close   context.CancelFunc // ends open
}

// NewClient returns the client on a connection to the agent's port and begins
// a session. The client owns conn and closes it when reading fails or Close is
// called.
func NewClient(conn io.ReadWriteCloser) *Client {
	c := &Client{
		link:    sender{newLink(conn), context.Background()},
		streams: map[uint32]*stream{},
		nonce:   rand.Uint64() | 1,
		ready:   make(chan struct{}),
	}
	// Padding first: see the package comment. It and the reset are
	// the first frames in the writer's empty queue.
	c.link.out <- outFrame{b: make([]byte, maxFrame), session: c.link.session}
	c.link.out <- outFrame{b: resetFrame(c.nonce), session: c.link.session}
	go c.link.write()
	go c.read()
	return c
}

func resetFrame(nonce uint64) []byte {
	b, _ := jsonFrame(typeReset, 0, session{nonce}) // a number always encodes
	return b
}

// Close ends the connection. What runs in the guest goes on.
func (c *Client) Close() error {
	c.link.fail(ErrClosed)
	return c.link.conn.Close()
}

// Garbage returns how many bytes from the guest were not part of a valid frame.
func (c *Client) Garbage() int64 { return c.link.in.garbage.Load() }

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.link.failed }

// Err returns nil while the connection lives, then the error that calls return.
func (c *Client) Err() error {
	select {
	case <-c.link.failed:
		if errors.Is(c.link.err, ErrClosed) {
			return c.link.err
		}
		return fmt.Errorf("%w: %w", ErrClosed, c.link.err)
	default:
		return nil
	}
}

// read is the reader's goroutine. It never waits for anything but conn.
func (c *Client) read() {
	for {
		f, err := c.link.in.next()
		if err != nil {
			c.link.fail(err)
			c.link.conn.Close()
			c.failStreams(c.Err())
			return
		}
		switch f.typ {
		case typeHello:
			c.greet(f.payload)
		case typeReady:
			c.agentReady(f.payload)
		default:
			c.deliver(f)
		}
	}
}

func (c *Client) greet(payload []byte) {
	var h Hello
	if json.Unmarshal(payload, &h) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Nonce != c.nonce || c.greeted {
		return
	}
	if h.Protocol != ProtocolVersion {
		c.version = fmt.Errorf("agent speaks protocol %d, this side %d", h.Protocol, ProtocolVersion)
	}
	c.greeted, c.greeting = true, h
	close(c.ready)
}

// agentReady answers an agent that has begun to serve.
func (c *Client) agentReady(payload []byte) {
	var s session
	if json.Unmarshal(payload, &s) != nil {
		return
	}
	c.mu.Lock()
	lost := c.greeted && s.Nonce != c.nonce
	if lost {
		c.greeted, c.ready = false, make(chan struct{})
		c.nonce = rand.Uint64() | 1
	}
	answer := !c.greeted
	nonce := c.nonce
	c.mu.Unlock()
	if lost {
		c.failStreams(ErrRestarted)
	}
	if answer {
		go c.link.send(context.Background(), resetFrame(nonce))
	}
}

func (c *Client) failStreams(err error) {
	c.mu.Lock()
	streams := c.streams
	c.streams = map[uint32]*stream{}
	c.mu.Unlock()
	for _, s := range streams {
		s.finish(reply{}, err)
	}
}

// deliver passes a frame of a stream on.
func (c *Client) deliver(f frame) {
	c.mu.Lock()
	s := c.streams[f.stream]
	if s != nil && f.typ == typeReply {
		delete(c.streams, f.stream)
	}
	c.mu.Unlock()
	if s == nil {
		return
	}
	box := s.out
	if f.channel == chanErr {
		box = s.errs
	}
	switch f.typ {
	case typeStarted:
		s.start(f.payload)
	case typeData:
		box.push(f.payload)
	case typeEnd:
		box.close(io.EOF)
	case typeCredit:
		s.in.addFrame(f.payload)
	case typeReply:
		var r reply
		if err := json.Unmarshal(f.payload, &r); err != nil {
			s.finish(reply{}, fmt.Errorf("agent's reply: %w", err))
			return
		}
		s.finish(r, nil)
	}
}

func (s *stream) start(payload []byte) {
	var r reply
	if json.Unmarshal(payload, &r) != nil {
		return
	}
	select {
	case <-s.started:
	default:
		s.pid = r.PID
		close(s.started)
	}
}

// finish ends the stream; it is called by whoever took it out of the map.
func (s *stream) finish(r reply, err error) {
	s.reply, s.err = r, err
	end := err
	if end == nil {
		end = io.EOF
	}
	s.out.close(end)
	s.errs.close(end)
	s.close()
	close(s.done)
}

// begin opens a stream with a request, once the agent is there.
func (c *Client) begin(ctx context.Context, req request) (*stream, error) {
	s := &stream{
		client: c, in: newCredit(), out: newInbox(), errs: newInbox(),
		started: make(chan struct{}), done: make(chan struct{}),
	}
	s.open, s.close = context.WithCancel(context.Background())
	for !c.register(s) {
		if err := c.connected(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.link.sendJSON(ctx, typeRequest, s.id, req); err != nil {
		s.abandon()
		return nil, c.explain(err)
	}
	if err := c.Err(); err != nil {
		s.abandon() // the reader may have emptied the map before
		return nil, err
	}
	return s, nil
}

// register enters a stream, if there is a session.
func (c *Client) register(s *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.greeted || c.version != nil {
		return false
	}
	c.last++
	s.id = c.last
	c.streams[s.id] = s
	return true
}

// connected waits for the agent's hello.
func (c *Client) connected(ctx context.Context) error {
	c.mu.Lock()
	ready := c.ready
	c.mu.Unlock()
	if err := c.Err(); err != nil {
		return err
	}
	select {
	case <-ready:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.version
	case <-c.link.failed:
		return c.Err()
	case <-ctx.Done():
		return fmt.Errorf("wait for the agent: %w", context.Cause(ctx))
	}
}

// explain gives the connection's error where err is a consequence of it.
func (c *Client) explain(err error) error {
	if closed := c.Err(); closed != nil {
		return closed
	}
	return err
}

// abandon takes a stream out of the map and tells the agent, without waiting.
func (s *stream) abandon() {
	c := s.client
	c.mu.Lock()
	mine := c.streams[s.id] == s
	delete(c.streams, s.id)
	c.mu.Unlock()
	if mine {
		s.finish(reply{}, context.Canceled)
		go c.link.send(context.Background(), seal(newFrame(0), typeCancel, 0, s.id))
	}
}

// wait returns the reply; if ctx ends before, the stream is abandoned.
func (s *stream) wait(ctx context.Context) (reply, error) {
	select {
	case <-s.done:
		return s.reply, s.err
	case <-ctx.Done():
		s.abandon()
		return reply{}, context.Cause(ctx)
	}
}

// call makes a request that has no data. what and name are for errors.
func (c *Client) call(ctx context.Context, what, name string, req request) (reply, error) {
	s, err := c.begin(ctx, req)
	if err != nil {
		return reply{}, callError(what, name, err)
	}
	r, err := s.wait(ctx)
	if err != nil {
		return r, callError(what, name, err)
	}
	return r, r.failure(what, name)
}

// callError says what could not be asked.
func callError(what, name string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		return &Error{Op: what, Name: name, Errno: errno}
	}
	if name != "" {
		what += " " + name
	}
	return fmt.Errorf("%s: %w", what, err)
}

// failure returns the *Error that a reply reports, nil if none.
func (r *reply) failure(what, name string) error {
	if r.Error == nil {
		return nil
	}
	return &Error{
		Op: what, Name: name, Errno: syscall.Errno(r.Error.Errno),
		Signal: syscall.Signal(r.Error.Signal), Text: r.Error.Text,
	}
}

// grantOn returns the function by which a consumer of a channel grants credit.
func (s *stream) grantOn(channel uint8) func(int) error {
	return func(n int) error {
		if s.open.Err() != nil {
			return nil // the reply is there: nothing more will be sent
		}
		if err := s.client.link.grant(s.open, channel, s.id, n); err != nil && s.open.Err() == nil {
			return s.client.explain(err)
		}
		return nil
	}
}

// Greeting waits for the agent's first word and returns what it said of itself then.
func (c *Client) Greeting(ctx context.Context) (*Hello, error) {
	if err := c.connected(ctx); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.greeting
	return &h, nil
}

// Hello asks the agent what it says of itself now, such as how much garbage it has read.
func (c *Client) Hello(ctx context.Context) (*Hello, error) {
	r, err := c.call(ctx, "hello", "", request{Op: opHello})
	if err != nil {
		return nil, err
	}
	if r.Hello == nil {
		return nil, errors.New("hello: agent sent none")
	}
	return r.Hello, nil
}

// SetClock sets the guest's wall clock, which a guest woken from a snapshot
// must be told.
func (c *Client) SetClock(ctx context.Context, t time.Time) error {
	_, err := c.call(ctx, "set clock", "", request{Op: opClock, Time: t.UnixNano()})
	return err
}

// AddEntropy credits data to the guest's random number generator and reseeds
// it. Guests woken from the same snapshot draw the same numbers without it.
func (c *Client) AddEntropy(ctx context.Context, data []byte) error {
	_, err := c.call(ctx, "add entropy", "", request{Op: opEntropy, Data: data})
	return err
}

// SetWindowSize sets the size of the console's terminal; its foreground
// programs get SIGWINCH.
func (c *Client) SetWindowSize(ctx context.Context, rows, cols int) error {
	_, err := c.call(ctx, "set window size", "", request{Op: opWinsize, Rows: uint16(rows), Cols: uint16(cols)})
	return err
}

// Sync writes the guest's file systems out.
func (c *Client) Sync(ctx context.Context) error {
	_, err := c.call(ctx, "sync", "", request{Op: opSync})
	return err
}

// PowerOff tells the guest to power off. It returns when the agent has accepted;
// that the machine is off is seen from outside.
func (c *Client) PowerOff(ctx context.Context) error {
	_, err := c.call(ctx, "power off", "", request{Op: opPowerOff})
	return err
}

// Reboot is PowerOff for a restart.
func (c *Client) Reboot(ctx context.Context) error {
	_, err := c.call(ctx, "reboot", "", request{Op: opReboot})
	return err
}

// Halt is PowerOff for a halt: the machine stays on and does nothing.
func (c *Client) Halt(ctx context.Context) error {
	_, err := c.call(ctx, "halt", "", request{Op: opHalt})
	return err
}
