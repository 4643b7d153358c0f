package detach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Claim is a name that this process holds. Release it.
type Claim struct {
	dir  Dir
	lock *flock.Flock

	mu    sync.Mutex
	state State

	server *http.Server
	served chan struct{} // closed when the server's goroutine has ended
}

// lookTime is more than anybody who only looks has a lock for.
const lookTime = time.Second

// Claim takes a name for a guest that is about to start; an *InUseError if another
// process has it.
func (d Dir) Claim(ctx context.Context, name string) (*Claim, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := d.create(); err != nil {
		return nil, err
	}
	lock := d.lock(name)
	free, err := lock.TryLock()
	if err == nil && !free {
		err = d.outwait(ctx, lock, name)
	}
	if err != nil {
		return nil, fmt.Errorf("guest %q: %w", name, err)
	}
	c := &Claim{dir: d, lock: lock, state: State{Name: name, PID: os.Getpid(), Status: Starting, Since: time.Now()}}
	if err := c.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("guest %q: %w", name, err), lock.Close())
	}
	return c, nil
}

// outwait takes the lock once somebody who only looks has it no more, such as ps does at
// a guest that has ended.
func (d Dir) outwait(ctx context.Context, lock *flock.Flock, name string) error {
	s, err := d.read(name)
	if err == nil && s.Status != Ended {
		return &InUseError{s}
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	_, err = lock.TryLockContext(ctx, lockRetry)
	if errors.Is(err, context.DeadlineExceeded) {
		if s, err = d.read(name); err != nil {
			s = State{Name: name, Status: Starting}
		}
		return &InUseError{s}
	}
	return err
}

// begin puts a new guest in the place of the one before.
func (c *Claim) begin() error {
	if err := c.dir.remove(c.state.Name); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir.path(c.state.Name), 0o700); err != nil {
		return err
	}
	return c.dir.write(c.state)
}

// Update changes what others see of the guest.
func (c *Claim) Update(change func(*State)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.state.Status
	change(&c.state)
	if c.state.Status != before {
		c.state.Since = time.Now()
	}
	if err := c.dir.write(c.state); err != nil {
		return fmt.Errorf("guest %q: %w", c.state.Name, err)
	}
	return nil
}

// State is what others see of the guest.
func (c *Claim) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Serve answers on the guest's socket until Release, in the background.
func (c *Claim) Serve(s *Server) error {
	listener, err := listen(c.dir.path(c.state.Name))
	if err != nil {
		return fmt.Errorf("guest %q: %w", c.state.Name, err)
	}
	c.server = &http.Server{Handler: s.handler(), Protocols: protocols(), ErrorLog: s.ErrorLog}
	c.served = make(chan struct{})
	go func() {
		defer close(c.served)
		// It returns when Release closes the server.
		_ = c.server.Serve(listener)
	}()
	go c.stayFresh()
	return nil
}

// freshen is how often a guest's files are touched: where /tmp is cleaned of what nobody used, that is
// what nobody used for days.
const freshen = 12 * time.Hour

// stayFresh touches the guest's files until Release.
func (c *Claim) stayFresh() {
	tick := time.NewTicker(freshen)
	defer tick.Stop()
	for {
		select {
		case <-c.served:
			return
		case now := <-tick.C:
			for _, name := range []string{c.lock.Path(), c.dir.path(c.state.Name), filepath.Join(c.dir.path(c.state.Name), stateFile)} {
				_ = os.Chtimes(name, now, now) // who cannot now will do it the next time
			}
		}
	}
}

// lastAnswers is how long requests under way get to tell of the guest's end.
const lastAnswers = time.Second

// Release gives the name up. The guest's end is remembered, in words; if there was
// no guest to speak of, and end is empty, nothing is.
func (c *Claim) Release(end string) error {
	var err error
	if end != "" {
		err = c.Update(func(s *State) { s.Status, s.End = Ended, end })
	}
	if c.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
		defer cancel()
		if c.server.Shutdown(ctx) != nil {
			c.server.Close() // clients that do not read get no more
		}
		<-c.served
	}
	if end == "" {
		err = c.dir.remove(c.state.Name)
	} else {
		err = errors.Join(err, removeIfThere(c.dir.socket(c.state.Name)))
	}
	return errors.Join(err, c.lock.Close())
}

// protocols is HTTP/2 without TLS.
func protocols() *http.Protocols {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &p
}

// listen listens on the socket in a guest's directory.
func listen(dir string) (net.Listener, error) {
	var listener *net.UnixListener
	err := byDescriptor(dir, func(socket string) (err error) {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // that name is somebody else's by then
	return listener, nil
}

// byDescriptor gives use a short name for the socket in a directory: a socket's
// name has at most 107 bytes, and a directory's is as long as it likes.
func byDescriptor(dir string, use func(socket string) error) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), socketFile))
}
