package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
	"github.com/linux-kaleidoscope/kaleido/vm/qmp"
)

// errNoSystemMap says why the guest's memory cannot be understood.
var errNoSystemMap = errors.New("no System.map was given")

// Dmesg is the kernel log so far: the records the agent streams, the ring in the
// guest's memory, and the console's text, merged without doubles. It works on a
// guest that hangs, and after its life has ended, until Close. A source that
// fails, the memory when ctx ends, is left out, and Config.Note told why; it is
// an error when all that are there fail. Of a log beyond 16 MiB the middle is left out, and Note told.
func (m *Instance) Dmesg(ctx context.Context) ([]dmesg.Record, error) {
	rings, ringErr := m.rings(ctx)
	// Later than the ring, so that records between the two are in one of them.
	streamed, streamErr := m.kmsg.records()
	text, textErr := m.consoleRecords()
	m.noteLong()
	structured := append(rings, streamed)
	found := slices.ContainsFunc(structured, func(r []dmesg.Record) bool { return len(r) > 0 })
	if err := errors.Join(ringErr, streamErr, textErr); err != nil {
		if !found && len(text) == 0 {
			return nil, fmt.Errorf("kernel log: %w", err)
		}
		m.cfg.Note(fmt.Sprintf("kernel log: %s", strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	if found {
		// Lines without a time on a console without any are no kernel's.
		text = slices.DeleteFunc(text, func(r dmesg.Record) bool { return r.Time == dmesg.NoTime })
	}
	return dmesg.Merge(structured, text), nil
}

// rings reads the printk ring out of the guest's memory, and adds what it was
// the last time: QEMU may have been killed since, or the ring have wrapped.
func (m *Instance) rings(ctx context.Context) ([][]dmesg.Record, error) {
	syms, err := m.syms()
	if errors.Is(err, errNoSystemMap) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var now []dmesg.Record
	err = m.mem.frozen(ctx, func() (err error) {
		now, err = dmesg.ReadRing(reader{m.mem, ctx}, syms)
		return err
	})
	if errors.Is(err, qmp.ErrGone) || errors.Is(err, qmp.ErrClosed) {
		err = nil // there is no memory any more, which needs no telling
	}
	if err != nil {
		err = fmt.Errorf("read the log from guest memory: %w", err)
	}
	m.ringLock.Lock()
	defer m.ringLock.Unlock()
	rings := [][]dmesg.Record{m.lastRing, now}
	if len(now) > 0 {
		m.lastRing = now
	}
	return rings, err
}

// loadSymbols reads Config.SystemMap.
func (m *Instance) loadSymbols() (dmesg.Symbols, error) {
	if m.cfg.SystemMap == "" {
		return nil, errNoSystemMap
	}
	f, err := os.Open(m.cfg.SystemMap)
	if err != nil {
		return nil, fmt.Errorf("symbols: %w", err)
	}
	defer f.Close()
	return dmesg.ParseSystemMap(f)
}

// consoleRecords reads the records in the console's text so far.
func (m *Instance) consoleRecords() ([]dmesg.Record, error) {
	f, err := os.Open(m.dir.File(ConsoleLog))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text, err := ends(f, st.Size())
	if err != nil {
		return nil, err
	}
	return dmesg.ParseConsole(text)
}

// noteLong tells of logs whose middle nobody looked at.
func (m *Instance) noteLong() {
	for _, name := range []string{ConsoleLog, KmsgLog} {
		st, err := os.Stat(m.dir.File(name))
		if err == nil && st.Size() > logHead+logTail {
			m.cfg.Note(fmt.Sprintf("kernel log: %s has %d MiB: only the first %d and the last %d were looked at",
				name, st.Size()>>20, logHead>>20, logTail>>20))
		}
	}
}

// logHead and logTail are how much of a log is looked at, in bytes. A record of 100 bytes takes ten times that
// when it is parsed, and a module may have printed for minutes.
const logHead, logTail = 4 << 20, 12 << 20

// ends reads a log, without the middle of one that is too long. It is cut between records: the lines that
// continue one begin with a space.
func ends(log io.ReaderAt, size int64) (io.Reader, error) {
	if size <= logHead+logTail {
		return io.NewSectionReader(log, 0, size), nil
	}
	head, tail := make([]byte, logHead), make([]byte, logTail)
	_, err := log.ReadAt(head, 0)
	if err == nil {
		_, err = log.ReadAt(tail, size-logTail)
	}
	if err != nil {
		return nil, err
	}
	head = head[:bytes.LastIndexByte(head, '\n')+1]
	for {
		_, rest, found := bytes.Cut(tail, []byte("\n"))
		tail = rest
		if !found || len(rest) > 0 && rest[0] != ' ' {
			return io.MultiReader(bytes.NewReader(head), bytes.NewReader(tail)), nil
		}
	}
}

// readLimit bounds one read of guest memory.
const readLimit = 5 * time.Second

// ReadPhysical fills p from the guest's physical memory at addr; a range that is
// not all RAM is an error. It works while the guest runs, and does not stop it,
// while it hangs, and after its life has ended, until Close. It implements
// dmesg.Memory.
func (m *Instance) ReadPhysical(addr uint64, p []byte) error {
	ctx, cancel := context.WithTimeoutCause(m.life, readLimit, errors.New("QEMU does not answer"))
	defer cancel()
	return m.mem.read(ctx, addr, p)
}

// ReadKernel fills p from a virtual address of the kernel, as a processor that is not in user space sees it, whose
// page tables may lack it. Else it is as ReadPhysical.
func (m *Instance) ReadKernel(addr uint64, p []byte) error {
	ctx, cancel := context.WithTimeoutCause(m.life, readLimit, errors.New("QEMU does not answer"))
	defer cancel()
	var err error
	for cpu := range m.cfg.CPUs {
		if err = m.mem.readVirtual(ctx, cpu, addr, p); err == nil {
			break
		}
	}
	return err
}

// Taint is the kernel's taint mask, by the guest's memory, or by the agent if
// there is no System.map; see dmesg.ParseTaint.
func (m *Instance) Taint(ctx context.Context) (uint64, error) {
	syms, err := m.syms()
	if err == nil {
		return dmesg.ReadTaint(reader{m.mem, ctx}, syms)
	}
	if !errors.Is(err, errNoSystemMap) {
		return 0, fmt.Errorf("taint: %w", err)
	}
	var text bytes.Buffer
	if err := m.agent.Get(ctx, "/proc/sys/kernel/tainted", &text); err != nil {
		return 0, fmt.Errorf("taint: %w", err)
	}
	mask, err := strconv.ParseUint(strings.TrimSpace(text.String()), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("taint: %w", err)
	}
	return mask, nil
}
