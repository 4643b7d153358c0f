package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// put serves a put request: channel 0 becomes a file, at once or not at all.
func (st *agentStream) put(req request) (err error) {
	if req.Name == "" {
		return unix.ENOENT
	}
	dir := filepath.Dir(req.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".put-*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := st.in.copyTo(st.ctx, f, st.grant); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), req.Mode); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), req.Name)
}

// get serves a get request: a file goes out on channel 1.
func (st *agentStream) get(req request) error {
	f, err := os.Open(req.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	return st.sendOut(f)
}

// list serves a list request: the names in a folder go out on channel 1, each
// with a NUL behind it, in no order.
func (st *agentStream) list(req request) error {
	dir, err := os.OpenFile(req.Name, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	var names bytes.Buffer
	for _, name := range entries {
		names.WriteString(name + "\x00")
	}
	return st.sendOut(&names)
}

// sendOut sends r on channel 1, to its end.
func (st *agentStream) sendOut(r io.Reader) error {
	l := st.link
	if err := l.sendFrom(st.ctx, r, st.credits[chanOut], chanOut, st.id); err != nil {
		return err
	}
	return l.send(st.ctx, seal(newFrame(0), typeEnd, chanOut, st.id))
}

// kernelFolders are those whose files are the kernel's, if they are mounted.
var kernelFolders = []string{"/dev/", "/proc/", "/sys/"}

// writeOnce serves a write request: the data in one write(2), as files of the
// kernel want it. A file that was there is not cut, since such files cannot be,
// and one of the kernel's that is not there is not made: what looks like it
// would take the data and do nothing.
func writeOnce(name string, data []byte) error {
	flags := unix.O_WRONLY | unix.O_CLOEXEC
	if !slices.ContainsFunc(kernelFolders, func(dir string) bool { return strings.HasPrefix(name, dir) }) {
		flags |= unix.O_CREAT
	}
	fd, err := unix.Open(name, flags, 0o644)
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return errors.Join(err, unix.Close(fd))
}

// kmsgRecord is the most one read of /dev/kmsg gives: CONSOLE_EXT_LOG_MAX in
// kernel/printk/internal.h.
const kmsgRecord = 8192

// kmsg serves a kmsg request until it is canceled.
func (st *agentStream) kmsg(req request) error {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "/dev/kmsg")
	defer f.Close()
	defer context.AfterFunc(st.ctx, func() { f.Close() })()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	cr := st.credits[chanOut]
	for {
		n, err := takeRecord(st.ctx, cr)
		if err != nil {
			return err
		}
		b := dataFrame()
		var readErr error
		err = conn.Read(func(fd uintptr) bool {
			b, readErr = readRecords(int(fd), b, headerSize+n, req.Seq)
			return len(b) > headerSize || readErr != nil
		})
		cr.add(n - (len(b) - headerSize))
		if err := errors.Join(err, readErr); err != nil {
			return err
		}
		if err := st.link.send(st.ctx, seal(b, typeData, chanOut, st.id)); err != nil {
			return err
		}
	}
}

// takeRecord takes credit for a frame, at least for one record.
func takeRecord(ctx context.Context, cr *credit) (int, error) {
	n := 0
	for n <= kmsgRecord {
		more, err := cr.take(ctx, maxPayload-n)
		if err != nil {
			return 0, err
		}
		n += more
	}
	return n, nil
}

// readRecords appends the records that can be read now to b while one more is
// sure to fit into limit bytes. Records before seq are left out.
func readRecords(fd int, b []byte, limit int, seq uint64) ([]byte, error) {
	for len(b)+kmsgRecord < limit {
		n, err := unix.Read(fd, b[len(b):len(b)+kmsgRecord])
		switch {
		case err == unix.EPIPE || err == unix.EINTR:
			continue // EPIPE: overrun, the next read gives the oldest record there is
		case err == unix.EAGAIN:
			return b, nil
		case err != nil:
			return b, err
		case n == 0:
			return b, io.ErrUnexpectedEOF
		}
		if seq == 0 || recordSeq(b[len(b):len(b)+n]) >= seq {
			b = append(b[:len(b)+n], 0)
		}
	}
	return b, nil
}

// recordSeq is the second number of "6,339,5140900,-;text".
func recordSeq(record []byte) uint64 {
	_, rest, _ := strings.Cut(string(record[:min(len(record), 64)]), ",")
	number, _, _ := strings.Cut(rest, ",")
	seq, _ := strconv.ParseUint(number, 10, 64)
	return seq
}

// modulesDep reads the line of modules.dep for a module: the files to load, the
// module's own last (depmod(8), modules.dep(5)).
func modulesDep(dir, name string) ([]string, error) {
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		file, deps, ok := strings.Cut(in.Text(), ":")
		if !ok || moduleName(file) != moduleName(name) {
			continue
		}
		files := strings.Fields(deps)
		order := make([]string, 0, len(files)+1)
		for i := len(files) - 1; i >= 0; i-- {
			order = append(order, absolute(dir, files[i]))
		}
		return append(order, absolute(dir, file)), nil
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	return nil, unix.ENOENT
}

func absolute(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// moduleName is the kernel's name of a module file.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}
