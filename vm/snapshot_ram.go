package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ramFile is a file that a guest's RAM is in, and how QEMU is to use it. A nil
// *ramFile means that the RAM is QEMU's own.
type ramFile struct {
	file    *os.File
	private bool     // the guest's writes do not get into the file
	state   *os.File // the end of a pipe from which QEMU loads its state, or nil
	console []byte   // what the console has shown already

	// ready is called when the monitor answers and the guest does not yet run.
	ready func(context.Context, *Instance) error
}

// Descriptors of QEMU's, after those that every QEMU gets.
const (
	ramFD   = firstFD + 3
	stateFD = firstFD + 4
)

// channels are ch, with the file as the guest's RAM. QEMU is handed the file
// itself, not its name: it uses what was verified, even if it was removed since.
func (r *ramFile) channels(ch channels) channels {
	if r == nil {
		return ch
	}
	share := "on"
	if r.private {
		share = "off"
	}
	ch.ram = fmt.Sprintf("memory-backend-file,share=%s,mem-path=/proc/self/fd/%d", share, ramFD)
	ch.incoming = r.state != nil
	return ch
}

// files are what QEMU inherits, in the order of their descriptors.
func (r *ramFile) files() []*os.File {
	switch {
	case r == nil:
		return nil
	case r.state == nil:
		return []*os.File{r.file}
	}
	return []*os.File{r.file, r.state}
}

// showConsole begins console.log as it was when the guest was saved.
func (r *ramFile) showConsole(log *os.File) error {
	if r == nil {
		return nil
	}
	if _, err := log.Write(r.console); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	return nil
}

// close closes our copies of the files, if they are not closed already.
func (r *ramFile) close() {
	for _, f := range r.files() {
		f.Close()
	}
}

// ramSum identifies the content of a RAM file.
type ramSum struct {
	Size int64 `json:"size"` // with the holes
	Used int64 `json:"used"` // in pages that are not all zeros

	// CRC is the CRC-32C over the number, as eight bytes, little endian, and the
	// content of each such page: the same wherever the file's holes are.
	CRC uint32 `json:"crc32c"`
}

const pageSize = 4096

// sumRAM reads a RAM file. With punch, pages that are all zeros become holes,
// where the file system can do that.
func sumRAM(ctx context.Context, f *os.File, punch bool) (ramSum, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ramSum{}, err
	}
	r := &ramReader{file: f, sum: ramSum{Size: size}, punch: punch, buf: make([]byte, 1<<20)}
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return ramSum{}, context.Cause(ctx)
		}
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			return ramSum{}, err
		}
		at = data / pageSize * pageSize
		n := min(int64(len(r.buf)), size-at)
		if err := r.chunk(at, r.buf[:n]); err != nil {
			return ramSum{}, err
		}
		at += n
	}
	return r.sum, nil
}

// ramReader is the state of sumRAM.
type ramReader struct {
	file  *os.File
	sum   ramSum
	punch bool
	buf   []byte
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	zeroPage   [pageSize]byte
)

// chunk adds the pages at an offset; buf is of their size.
func (r *ramReader) chunk(at int64, buf []byte) error {
	if _, err := r.file.ReadAt(buf, at); err != nil {
		return err
	}
	zeros := int64(0) // bytes in zero pages just before the page
	for len(buf) > 0 {
		page := buf[:min(pageSize, len(buf))]
		buf = buf[len(page):]
		if bytes.Equal(page, zeroPage[:len(page)]) {
			zeros += int64(len(page))
		} else {
			r.hole(at-zeros, zeros)
			zeros = 0
			var number [8]byte
			binary.LittleEndian.PutUint64(number[:], uint64(at/pageSize))
			r.sum.CRC = crc32.Update(crc32.Update(r.sum.CRC, castagnoli, number[:]), castagnoli, page)
			r.sum.Used += int64(len(page))
		}
		at += int64(len(page))
	}
	r.hole(at-zeros, zeros)
	return nil
}

// hole frees the blocks of zeros.
func (r *ramReader) hole(at, n int64) {
	if r.punch && n > 0 {
		// A file system that cannot do it keeps the zeros, which is as right.
		_ = unix.Fallocate(int(r.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
	}
}
