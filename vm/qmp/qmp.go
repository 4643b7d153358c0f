// Package qmp controls one QEMU process over the QEMU Machine Protocol.
//
// [Monitor] is a transport of our own behind go-qemu's [goqemu.Monitor]
// interface, so that go-qemu's typed calls (package qmp/raw) and its
// qemu.Domain work on it. go-qemu's own socket transport reads lines of at most
// 64 KiB, blocks every command on a slow reader of events, takes no context,
// loses the class of an error and never notices a connection that was reset;
// here one [json.Decoder] serves the connection for its whole life, each
// command has an id and a context, each subscriber a queue of its own, and a
// QEMU that went away is [ErrGone].
//
// A monitor's life:
//
//	m := qmp.New(conn)                  // subscribe here to miss no event
//	err := m.ConnectContext(ctx)        // greeting and qmp_capabilities
//	err = m.Raw(ctx).Stop()             // typed calls of go-qemu
//	err = m.Execute(ctx, "cont", nil, nil)
//	m.Disconnect()
//
// The protocol is docs/interop/qmp-spec.rst of QEMU, its commands and events
// docs/interop/qemu-qmp-ref.
package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"sync"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

var (
	// ErrGone is wrapped by the error of every call whose answer cannot come
	// any more because QEMU ended or closed its side of the connection.
	ErrGone = errors.New("QEMU closed its monitor")

	// ErrClosed is wrapped by the error of every call after Disconnect.
	ErrClosed = errors.New("monitor is closed")
)

// Error is a command's refusal by QEMU.
type Error struct {
	Command string // the command that was refused
	Class   string // "GenericError", "CommandNotFound", "DeviceNotFound", ...
	Desc    string // for people; its wording differs between versions of QEMU
}

func (e *Error) Error() string {
	return fmt.Sprintf("qmp %s: %s (%s)", e.Command, e.Desc, e.Class)
}

// Monitor is one QMP connection. All methods may be called from any goroutine.
type Monitor struct {
	conn  io.ReadWriteCloser
	start sync.Once
	out   chan []byte   // commands on their way to the writer
	hello chan struct{} // closed when the greeting has arrived
	done  chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	version goqemu.Version
	nextID  uint64
	waiting map[string]chan json.RawMessage // id to who waits for that reply
	subs    map[*Subscription]struct{}
	counts  map[string]int
	err     error // why the connection ended; set before done is closed
}

var _ goqemu.Monitor = (*Monitor)(nil)

// New makes a monitor of a connection to QEMU and owns it from then on. Nothing
// is read or written before Connect.
func New(conn io.ReadWriteCloser) *Monitor {
	return &Monitor{
		conn:    conn,
		out:     make(chan []byte),
		hello:   make(chan struct{}),
		done:    make(chan struct{}),
		waiting: make(map[string]chan json.RawMessage),
		subs:    make(map[*Subscription]struct{}),
		counts:  make(map[string]int),
	}
}

// Connect is ConnectContext without a limit of time.
func (m *Monitor) Connect() error {
	return m.ConnectContext(context.Background())
}

// ConnectContext waits for QEMU's greeting and leaves the negotiation mode, in
// which QEMU takes no other command and sends no events. After an error the
// monitor is of no use but to be disconnected.
func (m *Monitor) ConnectContext(ctx context.Context) error {
	m.start.Do(func() {
		go m.read()
		go m.write()
	})
	select {
	case <-m.hello:
	case <-m.done:
		return fmt.Errorf("qmp greeting: %w", m.Err())
	case <-ctx.Done():
		return fmt.Errorf("qmp greeting: %w", context.Cause(ctx))
	}
	return m.Execute(ctx, "qmp_capabilities", nil, nil)
}

// Disconnect closes the connection. Calls that wait return ErrClosed, event
// channels are closed. QEMU goes on. It may be called again.
func (m *Monitor) Disconnect() error {
	m.end(ErrClosed)
	return nil
}

// Done is closed when the connection has ended; Err then says why.
func (m *Monitor) Done() <-chan struct{} { return m.done }

// Err says why the connection ended: it wraps ErrGone or ErrClosed, or tells of
// bytes that are not QMP. It is nil while the connection stands.
func (m *Monitor) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Version is QEMU's own version as its greeting gave it; zero before Connect.
func (m *Monitor) Version() goqemu.Version {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.version
}

// Run sends one command as JSON text and returns the whole reply, as go-qemu's
// interface wants it. It waits as long as QEMU lives; bound it with WithContext.
func (m *Monitor) Run(command []byte) ([]byte, error) {
	return m.RunContext(context.Background(), command)
}

// RunContext is Run that gives up when ctx ends. QEMU may still carry out a
// command that was given up. A refusal is a *Error.
func (m *Monitor) RunContext(ctx context.Context, command []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(command, &fields); err != nil {
		return nil, fmt.Errorf("qmp command: %w", err)
	}
	var name string
	if err := json.Unmarshal(fields["execute"], &name); err != nil {
		return nil, fmt.Errorf("qmp command %s: no name in execute: %w", command, err)
	}
	return m.run(ctx, name, fields)
}

// Execute runs a command with args, which must marshal to a JSON object or be
// nil, and unmarshals what it returned into result unless that is nil. A
// refusal is a *Error.
func (m *Monitor) Execute(ctx context.Context, command string, args, result any) error {
	fields := map[string]json.RawMessage{"execute": quoted(command)}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("qmp %s: %w", command, err)
		}
		fields["arguments"] = b
	}
	reply, err := m.run(ctx, command, fields)
	if err != nil || result == nil {
		return err
	}
	var r struct{ Return json.RawMessage }
	if err := json.Unmarshal(reply, &r); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	if err := json.Unmarshal(r.Return, result); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return nil
}

// run sends a command under a fresh id and waits for the reply with that id.
func (m *Monitor) run(ctx context.Context, name string, fields map[string]json.RawMessage) ([]byte, error) {
	id, answer, err := m.expect()
	if err != nil {
		return nil, fmt.Errorf("qmp %s: %w", name, err)
	}
	defer m.forget(id)

	tagged := maps.Clone(fields)
	tagged["id"] = quoted(id)
	line, err := json.Marshal(tagged)
	if err != nil {
		return nil, fmt.Errorf("qmp %s: %w", name, err)
	}
	select {
	case m.out <- append(line, '\n'):
	case <-m.done:
		return nil, fmt.Errorf("qmp %s: %w", name, m.Err())
	case <-ctx.Done():
		return nil, fmt.Errorf("qmp %s: %w", name, context.Cause(ctx))
	}
	select {
	case reply := <-answer:
		return checked(name, reply)
	case <-m.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("qmp %s: %w", name, context.Cause(ctx))
	}
	// QEMU answers quit and goes: the reply may lie beside the end.
	select {
	case reply := <-answer:
		return checked(name, reply)
	default:
		return nil, fmt.Errorf("qmp %s: %w", name, m.Err())
	}
}

// checked returns reply, or the *Error it carries.
func checked(command string, reply json.RawMessage) ([]byte, error) {
	var r struct{ Error *Error }
	if err := json.Unmarshal(reply, &r); err != nil {
		return nil, fmt.Errorf("qmp %s: %w", command, err)
	}
	if r.Error != nil {
		r.Error.Command = command
		return nil, r.Error
	}
	return reply, nil
}

// expect registers a fresh id; its reply is sent to the channel.
func (m *Monitor) expect() (string, <-chan json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return "", nil, m.err
	}
	m.nextID++
	id := "k" + strconv.FormatUint(m.nextID, 10)
	answer := make(chan json.RawMessage, 1)
	m.waiting[id] = answer
	return id, answer, nil
}

// forget drops an id; a reply that comes later is dropped too.
func (m *Monitor) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.waiting, id)
}

// quoted is s as JSON.
func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil { // strings always marshal
		panic(err)
	}
	return b
}

// WithContext is this monitor with every Run bounded by ctx, for libraries that
// know go-qemu's interface only.
func (m *Monitor) WithContext(ctx context.Context) goqemu.Monitor {
	return bound{m, ctx}
}

// Raw is go-qemu's typed commands, each bounded by ctx. They were generated
// from QEMU 2.11: calls whose reply holds an enum that grew since, or that are
// gone (query-cpus, query-events), fail on a newer QEMU; use Execute for those.
func (m *Monitor) Raw(ctx context.Context) *raw.Monitor {
	return raw.NewMonitor(m.WithContext(ctx))
}

// bound is a Monitor whose Run has a context: go-qemu's interface has no
// parameter for one.
type bound struct {
	*Monitor
	ctx context.Context
}

// Run is RunContext with the bound context.
func (b bound) Run(command []byte) ([]byte, error) {
	return b.RunContext(b.ctx, command)
}
