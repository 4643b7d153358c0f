package vm

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/qmp"
)

// memory reads the guest's RAM by QMP's pmemsave into a memfd that QEMU has
// inherited: no disk is touched.
type memory struct {
	mon  *qmp.Monitor
	file *os.File // the memfd
	path string   // its name in QEMU
	ram  []span   // where RAM is

	mu    sync.Mutex // the file holds one read at a time
	reads int        // how many there were
}

// span is a range of physical addresses.
type span struct{ start, end uint64 }

// ramOf is where q35 puts its RAM: beyond 2.75 GiB it is split, 2 GiB below and
// the rest above 4 GiB (hw/i386/pc_q35.c, pc_q35_init).
func ramOf(mib int) []span {
	const mebi, gibi = 1 << 20, 1 << 30
	size := uint64(mib) * mebi
	if size < 0xb0000000 {
		return []span{{0, size}}
	}
	return []span{{0, 2 * gibi}, {4 * gibi, 4*gibi + size - 2*gibi}}
}

// read fills p from physical address addr. It does not stop the guest.
func (m *memory) read(ctx context.Context, addr uint64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if !m.holds(addr, uint64(len(p))) {
		return fmt.Errorf("read guest memory: %d bytes at %#x are not RAM", len(p), addr)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if err := m.mon.Raw(ctx).Pmemsave(int64(addr), int64(len(p)), m.path); err != nil {
		return fmt.Errorf("read guest memory at %#x: %w", addr, err)
	}
	if _, err := m.file.ReadAt(p, 0); err != nil {
		return fmt.Errorf("read guest memory at %#x: %w", addr, err)
	}
	return nil
}

// readVirtual fills p from a virtual address, as a processor sees it. An address that is not mapped is an error.
func (m *memory) readVirtual(ctx context.Context, cpu int, addr uint64, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	// QMP's integers are signed, and go-qemu's.
	if err := m.mon.Raw(ctx).Memsave(int64(addr), int64(len(p)), m.path, &[]int64{int64(cpu)}[0]); err != nil {
		return fmt.Errorf("read guest memory at %#x: %w", addr, err)
	}
	if _, err := m.file.ReadAt(p, 0); err != nil {
		return fmt.Errorf("read guest memory at %#x: %w", addr, err)
	}
	return nil
}

// holds tells whether all of a range is RAM. Elsewhere are devices, on which a
// read may have effects, or nothing, which reads as zeros.
func (m *memory) holds(addr, size uint64) bool {
	for _, s := range m.ram {
		if addr >= s.start && addr < s.end && size <= s.end-addr {
			return true
		}
	}
	return false
}

// reader is a memory with a context, for dmesg.Memory, whose method has no
// parameter for one.
type reader struct {
	m   *memory
	ctx context.Context
}

// ReadPhysical implements dmesg.Memory.
func (r reader) ReadPhysical(addr uint64, p []byte) error {
	return r.m.read(r.ctx, addr, p)
}

// frozen runs f while the guest stands still, so that what f reads is of one
// moment. A guest that ran before goes on afterwards, unless it panicked or
// went off just before it was stopped.
func (m *memory) frozen(ctx context.Context, f func() error) error {
	status, err := m.mon.Raw(ctx).QueryStatus()
	if err != nil {
		return err
	}
	if !status.Running {
		return f()
	}
	defer m.thaw() // also after a stop without an answer: QEMU may obey it later
	if err := m.mon.Raw(ctx).Stop(); err != nil {
		return err
	}
	return f()
}

// thaw lets the guest go on. A panic that came together with the stop has been
// counted when stop's reply was here.
func (m *memory) thaw() {
	if m.mon.Count(qmp.EventGuestPanicked)+m.mon.Count(qmp.EventShutdown) > 0 {
		return
	}
	// Not the caller's context: its end must not leave the guest standing.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// An error means that QEMU is gone, which the monitor's reader tells.
	_ = m.mon.Raw(ctx).Cont()
}
