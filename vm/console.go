package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tailSize is how much of the console an error carries.
const tailSize = 16 << 10

// console is our end of the guest's serial port.
//
// QEMU writes the port's output to console.log, a plain file that is its
// standard output: a file always takes every byte at once, so nothing we do or
// fail to do holds up the guest or loses anything. (A socket holds some 280
// bytes written one at a time, as a serial port does. When it is full, QEMU 7.2
// drops a byte after four attempts, and a logfile= gets it once per attempt.)
// What was written is read from the file, by anybody, at any pace.
type console struct {
	log    *os.File // console.log, open for reading
	input  *os.File // our end of the pipe that is QEMU's standard input
	note   func(string)
	alive  chan struct{} // closed when the first byte has been written
	wake   chan struct{} // holds a token when the file may have grown
	closed chan struct{} // closed when it has its final size
	done   chan struct{} // closed when feed has ended

	mu  sync.Mutex
	fed progress // bytes given to the writer
}

// progress is how far along a stream something is, and who waits for it to get
// further.
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

// newConsole makes a console of console.log's name and our end of the pipe.
func newConsole(name string, input *os.File, note func(string)) (*console, error) {
	log, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &console{
		log: log, input: input, note: note,
		alive:  make(chan struct{}),
		wake:   make(chan struct{}, 1),
		closed: make(chan struct{}),
		done:   make(chan struct{}),
	}, nil
}

// start watches the file and copies it to w, unless that is nil.
func (c *console) start(w io.Writer) {
	if w == nil {
		w = io.Discard
	}
	go c.watch()
	go c.feed(w)
}

// pollInterval is how often console.log is looked at where the system has no
// inotify instance to spare.
const pollInterval = 50 * time.Millisecond

// watch tells feed, and who waits for a sign of life, of the file's growth.
func (c *console) watch() {
	events, err := watchFile(c.log.Name(), unix.IN_MODIFY)
	if err != nil {
		c.note(fmt.Sprintf("console: looked at %d times a second: %v", time.Second/pollInterval, err))
		c.poll()
		return
	}
	go func() {
		<-c.closed
		events.Close()
	}()
	buf := make([]byte, 4<<10)
	for c.size() == 0 {
		if _, err := events.Read(buf); err != nil {
			return // closed
		}
	}
	close(c.alive)
	for {
		c.signal()
		if _, err := events.Read(buf); err != nil {
			return
		}
	}
}

// watchFile gives something to read, inotify_event structures, whenever one of the
// events in mask happens to the file.
func watchFile(name string, mask uint32) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, name, mask); err != nil {
		events.Close()
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return events, nil
}

// poll is watch without inotify.
func (c *console) poll() {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	alive := false
	for {
		select {
		case <-c.closed:
			return
		case <-tick.C:
			if !alive && c.size() > 0 {
				alive = true
				close(c.alive)
			}
			c.signal()
		}
	}
}

func (c *console) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// feed delivers the console to w at w's pace.
func (c *console) feed(w io.Writer) {
	defer close(c.done)
	defer c.advance(0, true)
	buf := make([]byte, 32<<10)
	for off, last := int64(0), false; ; {
		n, err := c.log.ReadAt(buf, off)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				c.note(fmt.Sprintf("console: no more copies of it: %v", err))
				return
			}
			off += int64(n)
			c.advance(int64(n), false)
			continue
		}
		if !errors.Is(err, io.EOF) {
			c.note(fmt.Sprintf("console: no more copies of it: %v", err))
			return
		}
		if last {
			return
		}
		select {
		case <-c.wake:
		case <-c.closed:
			last = true // but for what was written before that
		}
	}
}

func (c *console) advance(n int64, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fed.advance(n, last)
}

// size is how many bytes the guest has written so far. What it wrote before an
// event of QEMU's is in the file when the event arrives.
func (c *console) size() int64 {
	st, err := c.log.Stat()
	if err != nil {
		return 0 // closed
	}
	return st.Size()
}

// delivered is closed when the writer has all that was written so far, or takes
// no more.
func (c *console) delivered() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fed.reach(c.size())
}

// tail is the end of what the console has shown.
func (c *console) tail() []byte {
	f, err := os.Open(c.log.Name())
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	buf := make([]byte, min(st.Size(), tailSize))
	n, err := f.ReadAt(buf, st.Size()-int64(len(buf)))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	if line := bytes.IndexByte(buf[:n], '\n'); n == tailSize && line >= 0 {
		return buf[line+1 : n] // from the first whole line on
	}
	return buf[:n]
}

// close says that QEMU has ended, and gives the writer a second for the rest.
// One that blocks for ever keeps its goroutine and console.log, nothing else.
func (c *console) close() {
	c.input.Close()
	close(c.closed)
	select {
	case <-c.done:
		c.log.Close()
	case <-time.After(time.Second):
		go func() {
			<-c.done
			c.log.Close()
		}()
	}
}
