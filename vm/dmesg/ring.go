package dmesg

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

var le = binary.LittleEndian

// DamageError says that parts of the printk ring made no sense: memory was overwritten, or it is not
// the memory of the kernel the symbols are of. The records returned beside it are the sane ones.
type DamageError struct {
	Damaged int      // descriptors that were refused
	Causes  []string // the first few, in words
}

// Error names the count and the first causes.
func (e *DamageError) Error() string {
	return fmt.Sprintf("read printk ring: %d records damaged: %s", e.Damaged, strings.Join(e.Causes, "; "))
}

func (e *DamageError) add(format string, args ...any) {
	if e.Damaged++; len(e.Causes) < 4 {
		e.Causes = append(e.Causes, fmt.Sprintf(format, args...))
	}
}

func (e *DamageError) err() error {
	if e.Damaged == 0 {
		return nil
	}
	return e
}

// ReadRing reads the printk ring buffer out of a guest's physical memory: all records from the oldest
// kept to the newest, by rising sequence number, with times in nanoseconds. No program in the guest
// takes part, so it works with "quiet", in a hang and after a panic. The guest may run: a record that
// changes while it is read is left out, as the kernel's own readers leave it out.
//
// The kernel is x86-64, at least 5.10, booted with nokaslr, with CONFIG_CRASH_CORE (PROC_KCORE, or
// KEXEC); the layout comes from its vmcoreinfo. Before vmcoreinfo is set up in the boot, or without it
// in the kernel, the layout of 5.11 to 6.18 is taken if System.map has prb.
//
// A full 256 KiB ring takes seven reads. If parts of the ring are damaged the error is a *DamageError and the sane
// records are returned with it; on any other error there are none.
func ReadRing(mem Memory, syms Symbols) ([]Record, error) {
	s := space{mem: mem}
	info, err := findVmcoreinfo(s, syms)
	if err != nil {
		return nil, fmt.Errorf("read printk ring: %w", err)
	}
	if info != nil {
		return readRing(s, syms, info)
	}
	prb, ok := syms["prb"]
	if !ok {
		return nil, errors.New("read printk ring: kernel has no vmcoreinfo (CONFIG_CRASH_CORE) and System.map no prb")
	}
	return readRingAt(s, prb, defaultLayout)
}

// ReadRingVmcoreinfo is ReadRing for a kernel of which no System.map is at hand, or that was booted
// with KASLR: note is the text of its vmcoreinfo, which a guest can publish through QEMU's vmcoreinfo
// device, and which carries phys_base. With KASLR and CONFIG_RANDOMIZE_MEMORY, syms must have page_offset_base too.
func ReadRingVmcoreinfo(mem Memory, syms Symbols, note []byte) ([]Record, error) {
	info, err := parseVmcoreinfo(note)
	if err != nil {
		return nil, fmt.Errorf("read printk ring: %w", err)
	}
	return readRing(space{mem: mem}, syms, info)
}

// findVmcoreinfo returns nil if the kernel has none, or none yet.
func findVmcoreinfo(s space, syms Symbols) (vmcoreinfo, error) {
	addr, ok := syms["vmcoreinfo_data"]
	if !ok {
		return nil, nil
	}
	p, err := s.read(addr, 8)
	if err != nil {
		return nil, fmt.Errorf("vmcoreinfo_data: %w", err)
	}
	page := le.Uint64(p)
	if page == 0 {
		return nil, nil
	}
	text, err := s.read(page, noteTextSize)
	if err != nil {
		return nil, fmt.Errorf("vmcoreinfo: %w (booted without nokaslr, or another kernel's System.map?)", err)
	}
	info, err := parseVmcoreinfo(text)
	if err != nil {
		return nil, fmt.Errorf("%w (booted without nokaslr, or another kernel's System.map?)", err)
	}
	return info, nil
}

func readRing(s space, syms Symbols, info vmcoreinfo) ([]Record, error) {
	prb, ok := info.address("SYMBOL(prb)")
	if !ok {
		return nil, fmt.Errorf("read printk ring: kernel %s has no prb in vmcoreinfo: older than 5.10", info["OSRELEASE"])
	}
	lay, err := layoutOf(info)
	if err != nil {
		return nil, fmt.Errorf("read printk ring: %w", err)
	}
	base, _ := info.number("NUMBER(phys_base)")
	s.physBase = uint64(base)
	if offset, ok := info.address("KERNELOFFSET"); ok && offset != 0 {
		if err := s.findDirectMap(syms, offset); err != nil {
			return nil, fmt.Errorf("read printk ring: %w", err)
		}
	}
	return readRingAt(s, prb, lay)
}

// findDirectMap asks the kernel where its direct map is: KASLR moved it too. A kernel without the
// variable did not move it.
func (s *space) findDirectMap(syms Symbols, offset uint64) error {
	addr, ok := syms["page_offset_base"]
	if !ok {
		return nil
	}
	b, err := s.read(addr+offset, 8)
	if err != nil {
		return fmt.Errorf("page_offset_base: %w", err)
	}
	s.directBase = le.Uint64(b)
	return nil
}

// ring is where the parts of a ring are, as its head said when it was read.
type ring struct {
	space
	layout
	descs, infos, data uint64
	count              uint64 // descriptors, a power of 2
	size               uint64 // bytes of text data, a power of 2
	tail, head         uint64 // ids of the oldest and the newest descriptor
	adrift             bool   // tail and head are damaged: any descriptor may be in use
}

// Bounds of what this reader takes: CONFIG_LOG_BUF_SHIFT ends at 25.
const (
	maxSizeBits = 25
	maxWindow   = 512
)

func readRingAt(s space, prb uint64, lay layout) ([]Record, error) {
	r, err := openRing(s, prb, lay)
	if err != nil {
		return nil, fmt.Errorf("read printk ring: %w", err)
	}
	recs, err := r.records()
	var damage *DamageError
	if err != nil && !errors.As(err, &damage) {
		return nil, fmt.Errorf("read printk ring: %w", err)
	}
	return recs, err
}

// openRing reads the pointer prb and the ring's head. The static ring's head lies beside the pointer,
// so one read mostly gives both.
func openRing(s space, prb uint64, lay layout) (*ring, error) {
	window, err := s.read(prb, maxWindow)
	if err != nil {
		return nil, fmt.Errorf("prb: %w", err)
	}
	addr := le.Uint64(window)
	head := window
	if off := addr - prb; addr > prb && off+uint64(lay.ringSize) <= maxWindow {
		head = window[off:]
	} else if head, err = s.read(addr, lay.ringSize); err != nil {
		return nil, fmt.Errorf("ring that prb points to: %w", err)
	}
	dr, td := head[lay.ringDescs:], head[lay.ringData:]
	countBits, sizeBits := le.Uint32(dr[lay.countBits:]), le.Uint32(td[lay.sizeBits:])
	if sizeBits < 4 || sizeBits > maxSizeBits || countBits < 1 || countBits > sizeBits {
		return nil, fmt.Errorf("ring of 2^%d descriptors and 2^%d bytes: head damaged", countBits, sizeBits)
	}
	return &ring{
		space: s, layout: lay,
		descs: le.Uint64(dr[lay.descs:]), infos: le.Uint64(dr[lay.infos:]), data: le.Uint64(td[lay.data:]),
		count: 1 << countBits, size: 1 << sizeBits,
		tail: le.Uint64(dr[lay.tailID:]) & idMask, head: le.Uint64(dr[lay.headID:]) & idMask,
	}, nil
}

// A descriptor's state_var: the id, and the state in the top two bits (kernel/printk/printk_ringbuffer.h).
const (
	stateShift     = 62
	idMask         = 1<<stateShift - 1
	stateCommitted = 1 // complete, but may still be continued
	stateFinalized = 2
	failedLpos     = 1 // begin and next of a record whose text found no room
	emptyLpos      = 3 // begin and next of a record with an empty text
	wordSize       = 8 // a data block begins with the id of its descriptor
)

// infoBatch is how many printk_info are read at once: all of a 256 KiB ring's.
const infoBatch = 8192

// maxSpan is the size up to which an array is read whole, so that a span that wraps takes one read.
const maxSpan = 1 << 20

// desc is a prb_desc.
type desc struct{ state, begin, next uint64 }

func (d desc) id() uint64 { return d.state & idMask }

func (d desc) usable() bool {
	s := d.state >> stateShift
	return s == stateCommitted || s == stateFinalized
}

// draft is a record that lacks its text, and what is needed to find and check that.
type draft struct {
	desc
	rec     Record
	textLen int
}

// records reads the ring in the order of the kernel's own reader: descriptors, infos, text, and the
// descriptors again; what changed in between is not taken.
func (r *ring) records() ([]Record, error) {
	damage := new(DamageError)
	n := (r.head-r.tail)&idMask + 1
	if n > r.count {
		damage.add("tail id %#x and head id %#x are not within a ring of %d", r.tail, r.head, r.count)
		r.tail, r.adrift, n = 0, true, r.count
	}
	before, err := r.readDescs(int(n))
	if err != nil {
		return nil, err
	}
	drafts, err := r.readInfos(before, damage)
	if err != nil {
		return nil, err
	}
	data, err := r.read(r.data, int(r.size))
	if err != nil {
		return nil, fmt.Errorf("text: %w", err)
	}
	after, err := r.readDescs(int(n))
	if err != nil {
		return nil, err
	}
	recs := make([]Record, 0, len(drafts))
	for _, d := range drafts {
		now := after[(d.id()-r.tail)&(r.count-1)]
		if d.still(now) && r.setText(&d, data, damage) {
			recs = append(recs, d.rec)
		}
	}
	slices.SortFunc(recs, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return recs, damage.err()
}

// still reports whether the descriptor is the same record: only the step from committed to finalized may have come between.
func (d desc) still(now desc) bool {
	return now.usable() && now.id() == d.id() && now.begin == d.begin && now.next == d.next
}

// readDescs reads n descriptors from the tail on.
func (r *ring) readDescs(n int) ([]desc, error) {
	raw, err := r.span(r.descs, r.descSize, r.tail, n)
	if err != nil {
		return nil, fmt.Errorf("descriptors: %w", err)
	}
	descs := make([]desc, n)
	for i := range descs {
		d := raw[i*r.descSize:]
		descs[i] = desc{le.Uint64(d[r.state:]), le.Uint64(d[r.begin:]), le.Uint64(d[r.next:])}
	}
	return descs, nil
}

// span reads n elements of an array that is a ring of r.count, from the element of an id on.
func (r *ring) span(base uint64, size int, id uint64, n int) ([]byte, error) {
	first, count := int(id&(r.count-1)), int(r.count)
	if first+n <= count {
		return r.read(base+uint64(first*size), n*size)
	}
	if count*size <= maxSpan {
		all, err := r.read(base, count*size)
		if err != nil {
			return nil, err
		}
		return append(all[first*size:], all[:(first+n-count)*size]...), nil
	}
	end, err := r.read(base+uint64(first*size), (count-first)*size)
	if err != nil {
		return nil, err
	}
	start, err := r.read(base, (first+n-count)*size)
	return append(end, start...), err
}

// readInfos reads the infos of the descriptors and returns a draft for each usable one.
func (r *ring) readInfos(descs []desc, damage *DamageError) ([]draft, error) {
	var drafts []draft
	for done := 0; done < len(descs); done += infoBatch {
		batch := descs[done:min(done+infoBatch, len(descs))]
		raw, err := r.span(r.infos, r.infoSize, r.tail+uint64(done), len(batch))
		if err != nil {
			return nil, fmt.Errorf("infos: %w", err)
		}
		for i, d := range batch {
			want := (r.tail + uint64(done+i)) & idMask
			if (d.id()-want)&(r.count-1) != 0 {
				damage.add("descriptor %#x has id %#x", want, d.id())
			} else if d.usable() && (d.id() == want || r.adrift) { // else not yet, or no longer, this record's
				drafts = append(drafts, r.draft(d, raw[i*r.infoSize:][:r.infoSize]))
			}
		}
	}
	return r.checkSequence(drafts, damage), nil
}

// checkSequence keeps the drafts whose sequence number fits. It and the id lead to the same descriptor,
// and rise together, so their difference is the same for all; the most frequent one is right.
func (r *ring) checkSequence(drafts []draft, damage *DamageError) []draft {
	votes := make(map[uint64]int)
	var right uint64
	for _, d := range drafts {
		diff := d.rec.Seq - d.id()
		if votes[diff]++; votes[diff] > votes[right] || len(votes) == 1 {
			right = diff
		}
	}
	kept := drafts[:0]
	for _, d := range drafts {
		switch {
		case d.rec.Seq-d.id() != right || right&(r.count-1) != 0:
			damage.add("descriptor %#x has sequence number %d", d.id(), d.rec.Seq)
		case d.rec.Time < 0:
			damage.add("record %d has a time out of range", d.rec.Seq)
		default:
			kept = append(kept, d)
		}
	}
	return kept
}

func (r *ring) draft(d desc, info []byte) draft {
	flags := info[r.flags]
	rec := Record{
		Seq: le.Uint64(info[r.seq:]), HasSeq: true,
		Time:     time.Duration(le.Uint64(info[r.time:])),
		Level:    int(flags >> 5),
		Facility: int(info[r.facility]),
		Cont:     flags&logCont != 0,
		Caller:   callerName(le.Uint32(info[r.caller:])),
		Source:   SourceRing,
	}
	rec.Dev.Subsystem = cString(info[r.subsystem:][:r.subsystemLen])
	rec.Dev.Device = cString(info[r.device:][:r.deviceLen])
	return draft{desc: d, rec: rec, textLen: int(le.Uint16(info[r.textLen:]))}
}

// logCont is LOG_CONT of kernel/printk/internal.h.
const logCont = 8

// callerName writes a caller_id as the kernel does: the top bit says processor instead of thread.
func callerName(id uint32) string {
	if id&(1<<31) != 0 {
		return fmt.Sprintf("C%d", id&^(1<<31))
	}
	return fmt.Sprintf("T%d", id)
}

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// setText finds the draft's text in the data ring. It returns false for a record that has none because
// the kernel found no room for it, which /dev/kmsg does not show either, and for a damaged one.
func (r *ring) setText(d *draft, data []byte, damage *DamageError) bool {
	if d.begin&1 != 0 || d.next&1 != 0 {
		if d.begin != d.next || d.begin != emptyLpos && d.begin != failedLpos {
			damage.add("record %d has text from %#x to %#x", d.rec.Seq, d.begin, d.next)
		}
		return d.begin == emptyLpos && d.next == emptyLpos
	}
	block := r.block(d.desc, data)
	if block == nil {
		damage.add("record %d has text from %#x to %#x", d.rec.Seq, d.begin, d.next)
		return false
	}
	if id := le.Uint64(block); id != d.id() {
		damage.add("text of record %d belongs to descriptor %#x", d.rec.Seq, id)
		return false
	}
	text := block[wordSize:]
	if d.textLen > len(text) {
		damage.add("record %d says %d bytes of text and has %d", d.rec.Seq, d.textLen, len(text))
		d.textLen = len(text)
	}
	d.rec.Text = string(text[:d.textLen])
	return true
}

// block returns the data block of a descriptor. One that would cross the end of the ring lies whole at
// its start, and its begin is in the turn before that of next. Positions count from just below 2^64, so
// that they overflow in the first turn. It returns nil if there can be no such block.
func (r *ring) block(d desc, data []byte) []byte {
	begin, next := d.begin&(r.size-1), d.next&(r.size-1)
	turns := (begin + (d.next - d.begin)) / r.size
	switch {
	case d.begin%wordSize != 0 || d.next%wordSize != 0:
		return nil
	case turns == 0 && begin+wordSize <= next:
		return data[begin:next]
	case turns == 1 && next >= wordSize:
		return data[:next]
	case turns == 1 && next == 0 && begin+wordSize <= r.size:
		return data[begin:] // as it fits: only Linux 6.19 and newer let a block end there
	}
	return nil
}
