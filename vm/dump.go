package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/google/renameio/v2"
)

// dumpName is what QEMU calls the pipe that it dumps into.
const dumpName = "kaleido-dump"

// Dump writes the guest's memory and its processors' registers to a file, as an ELF core that gdb, crash and
// drgn read: gdb takes each processor for a thread. The memory is laid out as the kernel maps it, which QEMU finds
// out by the guest's own page tables. Pages of zeros are holes, so that the file takes the room of what the guest
// used. The guest stands still meanwhile.
//
// The file is there whole or not at all. Dump works on a guest that hangs, and after a panic, until Close.
func (m *Instance) Dump(ctx context.Context, name string) error {
	if err := m.dump(ctx, name); err != nil {
		return fmt.Errorf("dump guest memory: %w", err)
	}
	return nil
}

func (m *Instance) dump(ctx context.Context, name string) error {
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o600))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	pipe, err := m.handPipe(ctx, dumpName)
	if err != nil {
		return err
	}
	copied := make(chan error, 1)
	go func() {
		err := copySparse(f.File, pipe)
		pipe.Close() // QEMU, and with it its monitor, would wait for somebody to read the rest
		copied <- err
	}()
	err = m.mon.Execute(ctx, "dump-guest-memory", map[string]any{"paging": true, "protocol": "fd:" + dumpName}, nil)
	if err != nil {
		pipe.Close() // QEMU may still hold the other end: nothing more is wanted of it
	}
	if copyErr := <-copied; copyErr != nil && !errors.Is(copyErr, os.ErrClosed) {
		return copyErr
	}
	if err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// copySparse copies r to a new file, with holes for pages of zeros.
func copySparse(f *os.File, r io.Reader) error {
	buf := make([]byte, 256*pageSize)
	size := int64(0)
	for {
		n, err := io.ReadFull(r, buf)
		for page := range slices.Chunk(buf[:n], pageSize) {
			if !bytes.Equal(page, zeroPage[:len(page)]) {
				if _, err := f.WriteAt(page, size); err != nil {
					return err
				}
			}
			size += int64(len(page))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}
