package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// window is the credit that the sender of a channel begins with, and so the
// most its receiver must be ready to store.
const window = 256 << 10

// A credit is what the sender of one channel may still send.
type credit struct {
	mu     sync.Mutex
	n      int
	change chan struct{} // cap 1: n has grown
}

func newCredit() *credit {
	return &credit{n: window, change: make(chan struct{}, 1)}
}

// take waits for some credit and takes at most limit bytes of it. What is not
// used must be given back by add.
func (c *credit) take(ctx context.Context, limit int) (int, error) {
	for {
		c.mu.Lock()
		n := min(c.n, limit)
		c.n -= n
		c.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-c.change:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (c *credit) add(n int) {
	c.mu.Lock()
	c.n = min(c.n+n, window)
	c.mu.Unlock()
	select {
	case c.change <- struct{}{}:
	default:
	}
}

// addFrame takes the payload of a credit frame, which may be anything.
func (c *credit) addFrame(payload []byte) {
	if len(payload) == 4 {
		c.add(int(min(binary.LittleEndian.Uint32(payload), window)))
	}
}

// An inbox holds what has arrived on one channel until its one consumer takes it.
type inbox struct {
	mu     sync.Mutex
	buf    []byte
	held   int // bytes taken by the consumer but not yet released
	closed error
	change chan struct{} // cap 1
}

func newInbox() *inbox { return &inbox{change: make(chan struct{}, 1)} }

// push adds a copy of p. A sender that exceeds its credit closes the inbox.
func (b *inbox) push(p []byte) {
	b.mu.Lock()
	switch {
	case b.closed != nil:
	case b.held+len(b.buf)+len(p) > window:
		b.closed = errOverrun
	default:
		b.buf = append(b.buf, p...)
	}
	b.mu.Unlock()
	b.wake()
}

// close ends the channel: take returns err once all data was taken.
func (b *inbox) close(err error) {
	b.mu.Lock()
	if b.closed == nil {
		b.closed = err
	}
	b.mu.Unlock()
	b.wake()
}

func (b *inbox) wake() {
	select {
	case b.change <- struct{}{}:
	default:
	}
}

// take waits for data and returns all there is; io.EOF (or what close was told)
// when no more will come. spare, taken before and no longer needed, is reused.
func (b *inbox) take(ctx context.Context, spare []byte) ([]byte, error) {
	for {
		b.mu.Lock()
		if len(b.buf) > 0 {
			data := b.buf
			b.buf = spare[:0]
			b.held += len(data)
			b.mu.Unlock()
			return data, nil
		}
		err := b.closed
		b.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-b.change:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// release says that n bytes taken were passed on, so that credit may be granted.
func (b *inbox) release(n int) {
	b.mu.Lock()
	b.held -= n
	b.mu.Unlock()
}

// copyTo passes everything that arrives to w until the channel ends, and has
// grant give the sender new credit. When w fails the rest is taken and thrown
// away, so that the sender is not held up; w's error is returned at the end.
func (b *inbox) copyTo(ctx context.Context, w io.Writer, grant func(n int) error) error {
	var spare []byte
	var failed error
	owed := 0
	for {
		data, err := b.take(ctx, spare)
		if err == io.EOF {
			return failed
		}
		if err != nil {
			return err
		}
		for p := data; len(p) > 0; {
			// In pieces, so that credit flows while much is written.
			n := min(len(p), window/4)
			if failed == nil {
				_, failed = w.Write(p[:n])
			}
			p = p[n:]
			b.release(n)
			if owed += n; owed < window/4 {
				continue // the sender has the other three quarters
			}
			if err := grant(owed); err != nil {
				return err
			}
			owed = 0
		}
		spare = data
	}
}

var errOverrun = errors.New("sender exceeded its credit")
