package vm

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// windowSize is how much of the console is kept in memory: a reader that
	// lags further behind reads on from console.log.
	windowSize = 256 << 10

	// tailSize is how much of it an error carries.
	tailSize = 16 << 10
)

// console is our end of the guest's serial port.
//
// One goroutine only takes bytes from QEMU, because a serial port nobody reads
// makes the guest wait. Another gives them to Config.Console at that writer's
// pace: from the window in memory, or, when it lags behind that, from
// console.log, which QEMU writes itself.
type console struct {
	conn io.ReadWriteCloser
	log  *os.File // console.log, open for reading
	note func(string)

	mu       sync.Mutex
	window   [windowSize]byte // the last bytes; byte i of the stream is at i % windowSize
	received progress         // bytes taken from QEMU
	fed      progress         // bytes given to the writer

	wake    chan struct{} // holds a token when there is news for feed
	drained chan struct{} // closed when feed has delivered all
}

// progress is how far along the stream something is, and who waits for it to
// get further.
type progress struct {
	at    int64
	ended bool // it gets no further
	marks []mark
}

type mark struct {
	at      int64
	reached chan struct{}
}

// advance moves on by n bytes.
func (p *progress) advance(n int64, last bool) {
	p.at += n
	p.ended = p.ended || last
	p.marks = slices.DeleteFunc(p.marks, func(m mark) bool {
		if p.at < m.at && !p.ended {
			return false
		}
		close(m.reached)
		return true
	})
}

// reach is closed when the stream is at byte n, or gets no further.
func (p *progress) reach(n int64) <-chan struct{} {
	done := make(chan struct{})
	if p.at >= n || p.ended {
		close(done)
	} else {
		p.marks = append(p.marks, mark{n, done})
	}
	return done
}

// newConsole makes a console of our end of the port and of QEMU's log of it.
func newConsole(conn io.ReadWriteCloser, log *os.File, note func(string)) *console {
	return &console{
		conn: conn, log: log, note: note,
		wake:    make(chan struct{}, 1),
		drained: make(chan struct{}),
	}
}

// start serves the port until it ends, copying to w unless that is nil.
func (c *console) start(w io.Writer) {
	if w == nil {
		w = io.Discard
	}
	go c.receive()
	go c.feed(w)
}

// receive takes bytes from QEMU, always.
func (c *console) receive() {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.conn.Read(buf)
		c.put(buf[:n], err != nil)
		if err != nil {
			return // QEMU ended, or close was called
		}
	}
}

// put adds p to the window.
func (c *console) put(p []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 {
		n := copy(c.window[c.received.at%windowSize:], p)
		c.received.at += int64(n)
		p = p[n:]
	}
	c.received.advance(0, last)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// reached is closed when n bytes have been received, or none will follow.
func (c *console) reached(n int64) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received.reach(n)
}

// delivered is closed when the writer has all that was received so far, or
// takes no more.
func (c *console) delivered() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fed.reach(c.received.at)
}

// feed delivers the stream to w at w's pace.
func (c *console) feed(w io.Writer) {
	defer close(c.drained)
	defer c.advanceFed(0, true)
	buf := make([]byte, 32<<10)
	for off := int64(0); ; {
		n, lost, more := c.next(buf, off)
		if n == 0 && lost == 0 {
			if !more {
				return
			}
			<-c.wake
			continue
		}
		if _, err := w.Write(buf[:n]); err != nil {
			c.note(fmt.Sprintf("console: no more copies of it: %v", err))
			return
		}
		off += lost + int64(n)
		c.advanceFed(lost+int64(n), false)
	}
}

func (c *console) advanceFed(n int64, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fed.advance(n, last)
}

// next reads the stream at off. It tells how many bytes at off are lost, which
// happens only when console.log cannot be read or was not written (disk full)
// and the window has gone on.
func (c *console) next(buf []byte, off int64) (n int, lost int64, more bool) {
	c.mu.Lock()
	start := max(0, c.received.at-windowSize)
	if off >= start {
		n = c.copyWindow(buf, off)
		more = !c.received.ended
		c.mu.Unlock()
		return n, 0, more
	}
	c.mu.Unlock()
	// QEMU logs each write after sending it, one by one: all that lies a
	// window back is in the file.
	n, err := c.log.ReadAt(buf[:min(int64(len(buf)), start-off)], off)
	if n > 0 {
		return n, 0, true
	}
	c.note(fmt.Sprintf("console: %d bytes lost: read %s: %v", start-off, c.log.Name(), err))
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copyWindow(buf, start), start - off, true
}

// copyWindow copies from the window at off, which must lie in it; c.mu is held.
func (c *console) copyWindow(buf []byte, off int64) int {
	n := 0
	for n < len(buf) && off < c.received.at {
		at := off % windowSize
		end := min(windowSize, at+c.received.at-off)
		k := copy(buf[n:], c.window[at:end])
		n += k
		off += int64(k)
	}
	return n
}

// tail is the end of what the console has shown.
func (c *console) tail() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := min(c.received.at, tailSize)
	buf := make([]byte, size)
	c.copyWindow(buf, c.received.at-size)
	return buf
}

// catchUp waits, but not long, until all that QEMU has logged was received:
// it writes to console and monitor side by side, so that an event may overtake
// the text before it.
func (c *console) catchUp() {
	st, err := c.log.Stat()
	if err != nil {
		return
	}
	select {
	case <-c.reached(st.Size()):
	case <-time.After(time.Second):
	}
}

// close takes what QEMU, which has ended, left in the socket, and gives the
// writer a second for the rest. One that blocks for ever keeps its goroutine and
// console.log, nothing else.
func (c *console) close() {
	limit := time.After(time.Second)
	select {
	case <-c.reached(math.MaxInt64): // the end
	case <-limit: // somebody else holds QEMU's end open
	}
	c.conn.Close()
	select {
	case <-c.drained:
		c.log.Close()
	case <-limit:
		go func() {
			<-c.drained
			c.log.Close()
		}()
	}
}
