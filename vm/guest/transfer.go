package guest

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
)

// Put writes what r gives to a file in the guest, whose mode it sets and whose
// missing parent directories it makes. The file appears under its name when it
// is whole; if Put fails or ctx ends, nothing has changed.
func (c *Client) Put(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	s, err := c.begin(ctx, request{Op: opPut, Name: name, Mode: modeBits(mode)})
	if err != nil {
		return callError("put", name, err)
	}
	sent := make(chan error, 1)
	go func() {
		err := c.link.sendFrom(s.open, r, s.in, chanIn, s.id)
		if err == nil {
			err = c.link.send(s.open, seal(newFrame(0), typeEnd, chanIn, s.id))
		}
		sent <- err
	}()
	select {
	case err = <-sent:
		if err != nil && s.open.Err() == nil { // r's fault, not the stream's
			s.abandon()
			return callError("put", name, c.explain(err))
		}
	case <-s.done:
	case <-ctx.Done():
	}
	rep, err := s.wait(ctx)
	if err != nil {
		return callError("put", name, err)
	}
	return rep.failure("put", name)
}

// Get writes a file of the guest to w. Files whose size is not known, as in
// /proc, are read to their end. After an error w may have got a part.
func (c *Client) Get(ctx context.Context, name string, w io.Writer) error {
	return c.receive(ctx, opGet, name, w)
}

// List returns the names in a folder of the guest, sorted.
func (c *Client) List(ctx context.Context, dir string) ([]string, error) {
	var text bytes.Buffer
	if err := c.receive(ctx, opList, dir, &text); err != nil {
		return nil, err
	}
	names := strings.FieldsFunc(text.String(), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	return names, nil
}

// Stat returns nil if the guest has a file of that name, or a link even if it
// leads nowhere.
func (c *Client) Stat(ctx context.Context, name string) error {
	_, err := c.call(ctx, "stat", name, request{Op: opStat, Name: name})
	return err
}

// maxWrite is the most Write takes, since it travels in the request.
const maxWrite = 16 << 10

// Write writes data into a file of the guest in one write(2), as sysctls,
// sysfs and /dev/kmsg want it; at most 16 KiB. The file is neither cut nor
// replaced; it is made if it is not there, but not in /dev, /proc and /sys.
func (c *Client) Write(ctx context.Context, name string, data []byte) error {
	if len(data) > maxWrite {
		return &Error{Op: "write", Name: name, Errno: syscall.EFBIG}
	}
	_, err := c.call(ctx, "write", name, request{Op: opWrite, Name: name, Data: data})
	return err
}

// receive makes a request whose answer is data on channel 1.
func (c *Client) receive(ctx context.Context, op, name string, w io.Writer) error {
	s, err := c.begin(ctx, request{Op: op, Name: name})
	if err != nil {
		return callError(op, name, err)
	}
	open, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if err := s.out.copyTo(open, stopper{w, stop}, s.grantOn(chanOut)); err != nil {
		s.abandon()
		return callError(op, name, c.explain(err))
	}
	rep, err := s.wait(ctx)
	if err != nil {
		return callError(op, name, err)
	}
	return rep.failure(op, name)
}

// A stopper stops what fills a writer that fails: what is left of a file may have no end.
type stopper struct {
	io.Writer
	stop context.CancelCauseFunc
}

// Write implements io.Writer.
func (s stopper) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if err != nil {
		s.stop(err)
	}
	return n, err
}

// Kmsg calls fn with each record of the guest's kernel log, as /dev/kmsg gives
// it but without the last newline, from the oldest record on and as they come.
// It returns when ctx ends or the connection does, with the reason. A record
// that the kernel overwrote before it could be read is missing, which its
// sequence number shows. fn must not keep the caller for long, or records are
// lost that way.
func (c *Client) Kmsg(ctx context.Context, fn func(line string)) error {
	return c.KmsgFrom(ctx, 0, fn)
}

// KmsgFrom is Kmsg from the record with number seq on.
func (c *Client) KmsgFrom(ctx context.Context, seq uint64, fn func(line string)) error {
	s, err := c.begin(ctx, request{Op: opKmsg, Seq: seq})
	if err != nil {
		return callError("read", "kmsg", err)
	}
	err = s.out.copyTo(ctx, &recordWriter{fn: fn}, s.grantOn(chanOut))
	if err != nil {
		s.abandon()
		return callError("read", "kmsg", c.explain(err))
	}
	rep, err := s.wait(ctx)
	if err == nil {
		err = rep.failure("read", "kmsg")
	}
	return err
}

// A recordWriter cuts what is written to it at zero bytes.
type recordWriter struct {
	fn   func(string)
	rest []byte
}

func (w *recordWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexByte(p, 0)
		if i < 0 {
			w.rest = append(w.rest, p...)
			return n, nil
		}
		record := p[:i]
		if len(w.rest) > 0 {
			w.rest = append(w.rest, record...)
			record = w.rest
		}
		w.fn(string(bytes.TrimSuffix(record, []byte("\n"))))
		w.rest = w.rest[:0]
		p = p[i+1:]
	}
}
