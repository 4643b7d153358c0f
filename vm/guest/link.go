package guest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"sync"
	"syscall"
)

// A link writes frames to a connection from one goroutine, so that nobody who
// sends is stuck in a write that cannot be interrupted.
type link struct {
	conn io.ReadWriteCloser
	in   *frameReader
	out  chan outFrame

	once   sync.Once
	failed chan struct{} // closed by fail
	err    error         // set before failed is closed
	idle   chan struct{} // closed when the writer has ended
}

// An outFrame is a sealed frame on its way.
type outFrame struct {
	b       []byte
	session context.Context // the frame is dropped if this has ended
	sent    chan<- struct{} // closed once written, if not nil
}

func newLink(conn io.ReadWriteCloser) *link {
	return &link{
		conn:   conn,
		in:     newFrameReader(conn),
		out:    make(chan outFrame, 4), // little, so that replies overtake no more than that
		failed: make(chan struct{}),
		idle:   make(chan struct{}),
	}
}

// fail ends the link; the first cause stays.
func (l *link) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.failed)
	})
}

// write is the writer's goroutine. It ends when the link fails, but not before
// a write under way returns.
func (l *link) write() {
	defer close(l.idle)
	w := bufio.NewWriterSize(l.conn, maxFrame)
	for {
		select {
		case f := <-l.out:
			if err := l.writeFrame(w, f); err != nil {
				l.fail(err)
				return
			}
		case <-l.failed:
			return
		}
	}
}

func (l *link) writeFrame(w *bufio.Writer, f outFrame) error {
	if f.session.Err() == nil {
		if _, err := w.Write(f.b); err != nil {
			return err
		}
	}
	recycle(f.b)
	if len(l.out) == 0 || f.sent != nil {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if f.sent != nil {
		close(f.sent)
	}
	return nil
}

// A sender sends the frames of one session over a link. What is still waiting
// to be written when the session ends is dropped.
type sender struct {
	*link
	session context.Context
}

// send hands a sealed frame to the writer, and the frame is its from then on.
// The context bounds the wait for the writer.
func (l sender) send(ctx context.Context, b []byte) error {
	return l.enqueue(ctx, outFrame{b: b, session: l.session})
}

// flush is send, and waits until the frame is written.
func (l sender) flush(ctx context.Context, b []byte) error {
	sent := make(chan struct{})
	if err := l.enqueue(ctx, outFrame{b: b, session: l.session, sent: sent}); err != nil {
		return err
	}
	select {
	case <-sent:
		return nil
	case <-l.failed:
		return l.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *link) enqueue(ctx context.Context, f outFrame) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // the select below could choose otherwise
	}
	select {
	case l.out <- f:
		return nil
	case <-l.failed:
		return l.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l sender) sendJSON(ctx context.Context, typ frameType, stream uint32, v any) error {
	b, err := jsonFrame(typ, stream, v)
	if err != nil {
		return err
	}
	return l.send(ctx, b)
}

// grant sends a credit frame.
func (l sender) grant(ctx context.Context, channel uint8, stream uint32, n int) error {
	b := binary.LittleEndian.AppendUint32(newFrame(4), uint32(n))
	return l.send(ctx, seal(b, typeCredit, channel, stream))
}

func jsonFrame(typ frameType, stream uint32, v any) ([]byte, error) {
	p, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(p) > maxPayload {
		return nil, syscall.E2BIG
	}
	return seal(append(newFrame(len(p)), p...), typ, 0, stream), nil
}

var buffers = sync.Pool{New: func() any { return new([maxFrame]byte) }}

// dataFrame returns a buffer like newFrame's, with room for maxPayload bytes,
// that the writer will recycle.
func dataFrame() []byte {
	return buffers.Get().(*[maxFrame]byte)[:headerSize]
}

func recycle(b []byte) {
	if cap(b) == maxFrame {
		buffers.Put((*[maxFrame]byte)(b[:maxFrame]))
	}
}

// sendFrom reads r until it ends and sends what it gives on a channel. The error
// is nil at end of file, else r's or what stopped the sending.
func (l sender) sendFrom(ctx context.Context, r io.Reader, cr *credit, channel uint8, stream uint32) error {
	for {
		n, err := cr.take(ctx, maxPayload)
		if err != nil {
			return err
		}
		b := dataFrame()
		got, err := r.Read(b[headerSize : headerSize+n])
		cr.add(n - got)
		if got == 0 {
			recycle(b)
		} else if sendErr := l.send(ctx, seal(b[:headerSize+got], typeData, channel, stream)); sendErr != nil {
			return sendErr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
