package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync/atomic"
)

// PortName is the name of the virtio-serial port that connects host and guest.
const PortName = "kaleido.agent"

// ProtocolVersion is what this package speaks. Ends of different versions do
// not understand each other.
const ProtocolVersion = 1

const (
	headerSize  = 20
	trailerSize = 4
	maxFrame    = 32 << 10 // virtio_console copies this much in one write
	maxPayload  = maxFrame - headerSize - trailerSize
)

// The frame types. The package comment says what each is for.
type frameType uint8

const (
	typeReset frameType = 1 + iota
	typeHello
	typeReady
	typeRequest
	typeStarted
	typeData
	typeEnd
	typeCredit
	typeReply
	typeCancel
)

// The channels of a stream.
const (
	chanIn  = 0 // client to agent
	chanOut = 1
	chanErr = 2
)

var magic = []byte{0xf5, 'k', 'l', '\n'}

// A frame as read; payload is valid until the next read.
type frame struct {
	typ     frameType
	channel uint8
	stream  uint32
	payload []byte
}

// newFrame returns a buffer with room for a header, to which up to maxPayload
// bytes of payload may be appended before seal.
func newFrame(size int) []byte {
	return make([]byte, headerSize, headerSize+size+trailerSize)
}

// seal fills in the header of a buffer made by newFrame and appends the trailer.
func seal(b []byte, typ frameType, channel uint8, stream uint32) []byte {
	payload := b[headerSize:]
	copy(b, magic)
	b[4], b[5], b[6], b[7] = byte(typ), channel, 0, 0
	binary.LittleEndian.PutUint32(b[8:], stream)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[16:], crc32.ChecksumIEEE(b[:16]))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(payload))
}

// A frameReader finds the frames in a byte stream that may contain garbage.
type frameReader struct {
	r          io.Reader
	buf        []byte
	start, end int
	err        error        // of r, once it has failed
	garbage    atomic.Int64 // bytes thrown away
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: r, buf: make([]byte, 2*maxFrame)}
}

// next returns the next valid frame, whatever stands before it. The error is
// the reader's, at the earliest when no whole frame is left.
func (r *frameReader) next() (frame, error) {
	for {
		r.skipToMagic()
		f, size, ok := r.parse()
		switch {
		case ok:
			r.start += size
			return f, nil
		case size == 0 || r.err != nil && r.end > r.start:
			// Not a frame, or the stream ends inside it: whole frames
			// may follow what looked like one.
			r.drop(1)
		case r.err != nil:
			return frame{}, r.err
		default:
			r.fill(size)
		}
	}
}

// parse looks at the bytes at start. It returns a frame and its size; or, if
// more bytes are needed, how many in all; or 0 if this is no frame.
func (r *frameReader) parse() (f frame, size int, ok bool) {
	b := r.buf[r.start:r.end]
	if len(b) < headerSize {
		return frame{}, headerSize, false
	}
	if crc32.ChecksumIEEE(b[:16]) != binary.LittleEndian.Uint32(b[16:]) {
		return frame{}, 0, false
	}
	length := binary.LittleEndian.Uint32(b[12:])
	if length > maxPayload {
		return frame{}, 0, false
	}
	size = headerSize + int(length) + trailerSize
	if len(b) < size {
		return frame{}, size, false
	}
	payload := b[headerSize : headerSize+length]
	if crc32.ChecksumIEEE(payload) != binary.LittleEndian.Uint32(b[headerSize+length:]) {
		return frame{}, 0, false
	}
	f = frame{frameType(b[4]), b[5], binary.LittleEndian.Uint32(b[8:]), payload}
	return f, size, true
}

// skipToMagic drops what cannot be the beginning of a frame.
func (r *frameReader) skipToMagic() {
	for r.start < r.end && r.buf[r.start] == 0 {
		r.start++ // padding
	}
	b := r.buf[r.start:r.end]
	i := bytes.Index(b, magic)
	if i < 0 {
		i = len(b)
		for n := min(len(magic)-1, len(b)); n > 0; n-- {
			if bytes.HasSuffix(b, magic[:n]) {
				i = len(b) - n // perhaps the rest is to come
				break
			}
		}
	}
	r.drop(i)
}

func (r *frameReader) drop(n int) {
	r.start += n
	r.garbage.Add(int64(n))
}

var errNoProgress = errors.New("port gives neither data nor an error")

// fill reads until size bytes are there or the reader fails.
func (r *frameReader) fill(size int) {
	if r.start+size > len(r.buf) || r.start == r.end {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	for empty := 0; r.end-r.start < size && r.err == nil; {
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		r.err = err
		if n > 0 {
			return // look at it: it may hold padding or garbage
		}
		if empty++; empty == 100 && err == nil {
			r.err = errNoProgress
		}
	}
}
