package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// A log of a run that is still being written is locked (flock(2)) by whoever writes
// it, QEMU or the process that holds it, and no longer when he has ended, however
// that came. So any number of readers can tell where a log ends.

// markWritten locks a log for as long as f, or a copy that another process
// inherited, is open. Best effort: where there are no locks, readers take the log
// for complete.
func markWritten(f *os.File) { _ = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// beingWritten tells whether there is still somebody to write to a log.
func beingWritten(f *os.File) bool {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return errors.Is(err, unix.EWOULDBLOCK)
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // closing would do the same
	return false
}

// follow copies f to w as it grows, until nobody writes to it any more or ctx ends,
// and in both cases what was written before. It calls idle whenever w has all there
// is so far.
func follow(ctx context.Context, f *os.File, w io.Writer, idle func() error) error {
	events, err := watchFile(f.Name(), unix.IN_MODIFY|unix.IN_CLOSE_WRITE)
	if err != nil { // somebody else has used up the user's watches
		return followPolling(ctx, f, w, idle)
	}
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { events.Close() }) // which ends a Read
	defer stop()
	buf := make([]byte, 4<<10)
	for last := !beingWritten(f); ; {
		cause := context.Cause(ctx)
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		if err := idle(); err != nil || last || cause != nil {
			return errors.Join(err, cause)
		}
		n, err := events.Read(buf)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("inotify: %w", err)
		}
		last = wasClosed(buf[:max(n, 0)])
	}
}

// followPolling is follow without inotify.
func followPolling(ctx context.Context, f *os.File, w io.Writer, idle func() error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		last, cause := !beingWritten(f), context.Cause(ctx)
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		if err := idle(); err != nil || last || cause != nil {
			return errors.Join(err, cause)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// wasClosed looks for the event that the writer has closed the file.
func wasClosed(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask, length := binary.NativeEndian.Uint32(events[4:]), binary.NativeEndian.Uint32(events[12:])
		if mask&unix.IN_CLOSE_WRITE != 0 {
			return true
		}
		events = events[min(len(events), unix.SizeofInotifyEvent+int(length)):]
	}
	return false
}

// pastConsole is how much of what a console has shown FollowConsole begins with.
const pastConsole = 64 << 10

// FollowConsole copies the end of console.log to w, at most 64 KiB from a whole line
// on, and then what the guest writes, until it has ended or ctx ends.
func (r *RunDir) FollowConsole(ctx context.Context, w io.Writer) error {
	f, err := os.Open(r.File(ConsoleLog))
	if err != nil {
		return fmt.Errorf("follow console: %w", err)
	}
	defer f.Close()
	if err := seekTail(f, pastConsole); err != nil {
		return fmt.Errorf("follow console: %w", err)
	}
	if err := follow(ctx, f, w, func() error { return nil }); err != nil {
		return fmt.Errorf("follow console: %w", err)
	}
	return nil
}

// seekTail goes to the first whole line of the last bytes of a file.
func seekTail(f *os.File, last int64) error {
	st, err := f.Stat()
	if err != nil || st.Size() <= last {
		return err
	}
	buf := make([]byte, last)
	n, err := f.ReadAt(buf, st.Size()-last)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = f.Seek(st.Size()-last+int64(bytes.IndexByte(buf[:n], '\n')+1), io.SeekStart)
	return err
}

// FollowDmesg calls add with every record that the agent streams, from the first one
// on, until the run has ended, and then with those that only the whole log has: the
// last words of a kernel that panicked. It ends with ctx, or with add's error.
func (r *RunDir) FollowDmesg(ctx context.Context, add func(dmesg.Record) error) error {
	f, err := os.Open(r.File(KmsgLog))
	if err != nil {
		return fmt.Errorf("follow kernel log: %w", err)
	}
	defer f.Close()
	stream := &kmsgStream{add: add}
	if err := follow(ctx, f, stream, stream.flush); err != nil {
		return fmt.Errorf("follow kernel log: %w", err)
	}
	records, err := r.ReadDmesg()
	if err != nil {
		return err
	}
	return stream.rest(records)
}

// kmsgStream takes records in the format of /dev/kmsg apart as they come.
type kmsgStream struct {
	add     func(dmesg.Record) error
	pending strings.Builder // a record that may have continuation lines still
	partial []byte          // a line that has no end yet
	last    *uint64         // number of the last record added
}

func (k *kmsgStream) Write(p []byte) (int, error) {
	k.partial = append(k.partial, p...)
	for {
		line, rest, whole := bytes.Cut(k.partial, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if !bytes.HasPrefix(line, []byte(" ")) {
			if err := k.flush(); err != nil {
				return 0, err
			}
		}
		k.pending.Write(append(line, '\n'))
		k.partial = rest
	}
}

// flush adds the record that is pending.
func (k *kmsgStream) flush() error {
	text := k.pending.String()
	k.pending.Reset()
	rec, err := dmesg.ParseKmsg(text)
	if err != nil {
		return nil // nothing, or a continuation of what was added already
	}
	k.last = &rec.Seq
	return k.add(rec)
}

// rest adds the records behind the last one.
func (k *kmsgStream) rest(records []dmesg.Record) error {
	begin := 0
	for i, r := range records {
		if k.last != nil && r.HasSeq && r.Seq <= *k.last {
			begin = i + 1
		}
	}
	for _, r := range records[begin:] {
		if err := k.add(r); err != nil {
			return err
		}
	}
	return nil
}
