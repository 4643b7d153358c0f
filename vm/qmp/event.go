package qmp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// Event is go-qemu's event: its name, its data, and QEMU's time stamp.
type Event = goqemu.Event

// Names of events a guest's life is told by (qemu-qmp-ref, "Run state").
const (
	EventShutdown      = "SHUTDOWN"       // data: guest, reason
	EventPowerdown     = "POWERDOWN"      // the power button was pressed
	EventReset         = "RESET"          // data: guest, reason
	EventStop          = "STOP"           // the virtual CPUs stand still
	EventResume        = "RESUME"         // they run
	EventGuestPanicked = "GUEST_PANICKED" // data: action; from pvpanic
	EventWatchdog      = "WATCHDOG"       // data: action
)

// Shutdown is the data of SHUTDOWN and RESET.
type Shutdown struct {
	Guest  bool   // the guest asked for it
	Reason string // "guest-shutdown", "guest-reset", "guest-panic", "host-qmp-quit", "host-signal", ...
}

// ShutdownOf reads the data of a SHUTDOWN or RESET event.
func ShutdownOf(e Event) Shutdown {
	guest, _ := e.Data["guest"].(bool)
	reason, _ := e.Data["reason"].(string)
	return Shutdown{guest, reason}
}

// Time is QEMU's own time stamp of an event: wall clock of the host, in
// microseconds; zero when QEMU could not tell.
func Time(e Event) time.Time {
	if e.Timestamp.Seconds < 0 {
		return time.Time{}
	}
	return time.Unix(e.Timestamp.Seconds, e.Timestamp.Microseconds*1000)
}

// maxQueued bounds the events one subscriber may leave unread: some 30 MB. A
// guest that is stopped and resumed all the time sends two a millisecond.
const maxQueued = 1 << 16

// ErrOverflow ends a subscription whose owner left maxQueued events unread.
var ErrOverflow = errors.New("too many unread events")

// Subscription is one reader of events with a queue of its own: it holds up
// neither commands nor other subscribers.
type Subscription struct {
	m     *Monitor
	names []string
	c     chan Event
	wake  chan struct{} // holds a token when there is news for deliver
	gone  chan struct{} // closed by Close
	close sync.Once

	mu       sync.Mutex
	queue    []Event
	finished bool
	err      error
}

// Subscribe collects the events of the given names, or all of them, from now
// on; before Connect it misses none. Close it when done.
func (m *Monitor) Subscribe(names ...string) *Subscription {
	s := &Subscription{
		m:     m,
		names: names,
		c:     make(chan Event),
		wake:  make(chan struct{}, 1),
		gone:  make(chan struct{}),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		s.finish(m.err)
	} else {
		m.subs[s] = struct{}{}
	}
	go s.deliver()
	return s
}

// C gives the events in QEMU's order. It is closed after the last one when the
// monitor's connection has ended, and at once by Close.
func (s *Subscription) C() <-chan Event { return s.c }

// Err says why C was closed: the monitor's own error or ErrOverflow; nil before
// that and after Close.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the subscription; events not yet read are dropped.
func (s *Subscription) Close() {
	s.m.mu.Lock()
	delete(s.m.subs, s)
	s.m.mu.Unlock()
	s.close.Do(func() { close(s.gone) })
}

// put queues an event. It never blocks.
func (s *Subscription) put(e Event) {
	if len(s.names) > 0 && !slices.Contains(s.names, e.Event) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.finished:
		return
	case len(s.queue) == maxQueued:
		s.finished, s.err = true, ErrOverflow
	default:
		s.queue = append(s.queue, e)
	}
	s.signal()
}

// finish says that no event will follow.
func (s *Subscription) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.finished {
		s.finished, s.err = true, err
		s.signal()
	}
}

func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (s *Subscription) take() (events []Event, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, s.queue = s.queue, nil
	return events, s.finished
}

// deliver moves events from the queue to the channel.
func (s *Subscription) deliver() {
	defer close(s.c)
	for {
		events, last := s.take()
		for _, e := range events {
			select {
			case s.c <- e:
			case <-s.gone:
				return
			}
		}
		if last {
			return
		}
		select {
		case <-s.wake:
		case <-s.gone:
			return
		}
	}
}

// Events gives all events from now on until ctx or the connection ends, as
// go-qemu's interface wants it.
func (m *Monitor) Events(ctx context.Context) (<-chan Event, error) {
	if err := m.Err(); err != nil {
		return nil, err
	}
	s := m.Subscribe()
	context.AfterFunc(ctx, s.Close)
	return s.C(), nil
}

// Count says how many events of a name have arrived so far. An event that QEMU
// sent before the reply to a command is counted when that command returns.
func (m *Monitor) Count(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[name]
}
