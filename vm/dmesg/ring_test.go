package dmesg

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// testdata/ring is the memory of a real 6.1.192 guest (QEMU, -cpu max: 5-level page tables), just what
// ReadRing read of it, after the data ring had wrapped for the first time; the kernel's own view of the same log, by /dev/kmsg;
// and the needed lines of its System.map.

// errNoMemory is what a fakeMemory returns outside its segments.
var errNoMemory = errors.New("no memory there")

type segment struct {
	addr uint64
	data []byte
}

// memory is a guest's memory in segments. hook, if set, runs before each read.
type memory struct {
	segs  []segment
	reads int
	bytes int
	hook  func(addr uint64)
}

func (m *memory) ReadPhysical(addr uint64, p []byte) error {
	m.reads++
	m.bytes += len(p)
	if m.hook != nil {
		m.hook(addr)
	}
	for _, s := range m.segs {
		if addr >= s.addr && addr-s.addr+uint64(len(p)) <= uint64(len(s.data)) {
			copy(p, s.data[addr-s.addr:])
			return nil
		}
	}
	return errNoMemory
}

// at returns the bytes at a physical address, for a test to scribble on.
func (m *memory) at(addr uint64) []byte {
	for _, s := range slices.Backward(m.segs) { // the first segment, the ring's head, reaches into the second
		if addr >= s.addr && addr-s.addr < uint64(len(s.data)) {
			return s.data[addr-s.addr:]
		}
	}
	panic(fmt.Sprintf("no memory at %#x", addr))
}

func gunzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func fixture(t testing.TB) (*memory, Symbols) {
	t.Helper()
	m := new(memory)
	in := bufio.NewReader(bytes.NewReader(gunzip(t, "testdata/ring/first-wrap.mem.gz")))
	for {
		var addr uint64
		var n int
		if _, err := fmt.Fscanf(in, "%x %d\n", &addr, &n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		s := segment{addr, make([]byte, n)}
		if _, err := io.ReadFull(in, s.data); err != nil {
			t.Fatal(err)
		}
		m.segs = append(m.segs, s)
	}
	f, err := os.Open("testdata/ring/System.map")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := ParseSystemMap(f)
	if err != nil {
		t.Fatal(err)
	}
	return m, syms
}

func TestReadRing(t *testing.T) {
	m, syms := fixture(t)
	got, err := ReadRing(m, syms)
	if err != nil {
		t.Fatal(err)
	}
	if m.reads > 7 || m.bytes > 1500<<10 {
		t.Errorf("%d reads of %d bytes, want at most 7 and 1.5 MB", m.reads, m.bytes)
	}
	want := parseKmsgDump(t, string(gunzip(t, "testdata/ring/first-wrap.kmsg.gz")))
	if len(got) != len(want) || len(want) != 549 {
		t.Fatalf("%d records, /dev/kmsg has %d, want 549", len(got), len(want))
	}
	wrapped, finer := false, false
	for i, g := range got {
		finer = finer || g.Time%time.Microsecond != 0
		wrapped = wrapped || i > 0 && len(g.Text) == 940 && g.Seq > want[0].Seq
		g.Time, g.Source = g.Time.Truncate(time.Microsecond), SourceKmsg
		if g != want[i] {
			t.Errorf("record %d = %+v, /dev/kmsg has %+v", i, g, want[i])
		}
	}
	if !wrapped || !finer {
		t.Errorf("wrapped %v, finer than microseconds %v", wrapped, finer)
	}
}

// TestReadRingLayouts reads the ring without vmcoreinfo, by vmcoreinfo without System.map, and of a kernel that lies elsewhere.
func TestReadRingLayouts(t *testing.T) {
	m, syms := fixture(t)
	want, err := ReadRing(m, syms)
	if err != nil {
		t.Fatal(err)
	}
	noteAddr, err := space{mem: m}.physical(le.Uint64(m.at(syms["vmcoreinfo_data"] - imageBase)))
	if err != nil {
		t.Fatal(err)
	}
	note := bytes.Clone(m.at(noteAddr))
	check := func(name string, got []Record, err error) {
		t.Helper()
		if err != nil || len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
			t.Errorf("%s: %d records, %v, want %d", name, len(got), err, len(want))
		}
	}
	got, err := ReadRing(m, Symbols{"prb": syms["prb"]})
	check("no vmcoreinfo in the kernel", got, err)
	got, err = ReadRingVmcoreinfo(m, nil, note)
	check("no System.map", got, err)
	moved := &memory{segs: append([]segment(nil), m.segs...)}
	for i := range moved.segs {
		moved.segs[i].addr += 0x5000000
	}
	got, err = ReadRingVmcoreinfo(moved, nil, bytes.Replace(note, []byte("NUMBER(phys_base)=0\n"), []byte("NUMBER(phys_base)=83886080\n"), 1))
	check("phys_base", got, err)
	clear(m.at(syms["vmcoreinfo_data"] - imageBase)[:8])
	got, err = ReadRing(m, syms)
	check("no vmcoreinfo yet", got, err)
}

// TestFindDirectMap reads a page_offset_base that KASLR moved along with the kernel.
func TestFindDirectMap(t *testing.T) {
	const offset = 0x12000000
	b := []byte{0, 0, 0, 0x40, 0x12, 0x99, 0xff, 0xff}
	s := space{mem: &memory{segs: []segment{{0x16ddb58 + offset + 0x1000, b}}}, physBase: 0x1000}
	if err := s.findDirectMap(Symbols{"page_offset_base": imageBase + 0x16ddb58}, offset); err != nil {
		t.Fatal(err)
	}
	if pa, err := s.physical(0xffff991240000000 + 0x1234); err != nil || pa != 0x1234 {
		t.Errorf("physical = %#x, %v, want 0x1234", pa, err)
	}
	if err := s.findDirectMap(nil, offset); err != nil {
		t.Errorf("findDirectMap without the symbol: %v", err)
	}
}

func TestPhysical(t *testing.T) {
	for _, test := range []struct {
		va, want uint64
		err      string
	}{
		{0xffffffff81000000, 0x1000000, ""},
		{0xffff888000001000, 0x1000, ""},
		{0xff11000000001000, 0x1000, ""},
		{0xffffc90000001000, 0, "vmalloc"},
		{0xffa0000000001000, 0, "vmalloc"},
		{0xffffffffc0000000, 0, "vmalloc or module"},
		{0x401000, 0, "no kernel address"},
		{0, 0, "no kernel address"},
	} {
		got, err := space{}.physical(test.va)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("physical(%#x) = %#x, %v, want %#x, %q", test.va, got, err, test.want, test.err)
		}
	}
}

// Where the fixture's kernel has things, physical; sizes are those of defaultLayout.
const (
	fixInfos = 0x1824780
	fixDescs = 0x18d4780
	fixData  = 0x19ec5d8
	fixCount = 8192
	fixSize  = 256 << 10
)

// scribbler gives a test the parts of the record with a sequence number.
type scribbler struct {
	*memory
	syms Symbols
}

func (s scribbler) desc(seq uint64) []byte { return s.at(fixDescs + seq%fixCount*24)[:24] }
func (s scribbler) info(seq uint64) []byte { return s.at(fixInfos + seq%fixCount*88)[:88] }
func (s scribbler) block(seq uint64) []byte {
	return s.at(fixData + le.Uint64(s.desc(seq)[8:])%fixSize)
}
func (s scribbler) head() []byte { return s.at(le.Uint64(s.at(s.syms["prb"]-imageBase)) - imageBase) }
func (s scribbler) setState(seq, state uint64) {
	le.PutUint64(s.desc(seq), le.Uint64(s.desc(seq))&idMask|state<<stateShift)
}

// TestReadRingStates changes one record of the ring, 501, into each thing a record can be. That is no damage.
func TestReadRingStates(t *testing.T) {
	const seq = 501
	for _, test := range []struct {
		name   string
		change func(s scribbler)
		want   string // the record's text, "-" if it must not be there
	}{
		{"as it is", func(scribbler) {}, "a"},
		{"committed", func(s scribbler) { s.setState(seq, stateCommitted) }, "a"},
		{"reserved", func(s scribbler) { s.setState(seq, 0) }, "-"},
		{"reusable", func(s scribbler) { s.setState(seq, 3) }, "-"},
		{"of an earlier turn", func(s scribbler) { le.PutUint64(s.desc(seq), (le.Uint64(s.desc(seq))&idMask-fixCount)|3<<stateShift) }, "-"},
		{"no room for the text", func(s scribbler) {
			le.PutUint64(s.desc(seq)[8:], failedLpos)
			le.PutUint64(s.desc(seq)[16:], failedLpos)
		}, "-"},
		{"empty text", func(s scribbler) {
			le.PutUint64(s.desc(seq)[8:], emptyLpos)
			le.PutUint64(s.desc(seq)[16:], emptyLpos)
		}, ""},
		{"shorter text", func(s scribbler) { le.PutUint16(s.info(seq)[16:], 0) }, ""},
	} {
		m, syms := fixture(t)
		s := scribbler{m, syms}
		test.change(s)
		recs, err := ReadRing(m, syms)
		got := "-"
		for _, r := range recs {
			if r.Seq == seq {
				got = r.Text
			}
		}
		if err != nil || got != test.want || len(recs) < 548 {
			t.Errorf("%s: text %q, %d records, %v, want %q", test.name, got, len(recs), err, test.want)
		}
	}
}

func TestReadRingInfoFields(t *testing.T) {
	m, syms := fixture(t)
	info := scribbler{m, syms}.info(501)
	info[18], info[19] = 3, 6<<5|logCont|2
	le.PutUint32(info[20:], 1<<31|7)
	copy(info[24:], "0123456789abcdef") // no NUL: it fills the field
	copy(info[40:], "+pci:0000:00:01.0\x00rest")
	recs, err := ReadRing(m, syms)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		if r.Seq != 501 {
			continue
		}
		r.Time = 0
		want := Record{Seq: 501, HasSeq: true, Level: 6, Facility: 3, Caller: "C7", Text: "a", Cont: true,
			Dev: Dev{"0123456789abcdef", "+pci:0000:00:01.0"}, Source: SourceRing}
		if r != want {
			t.Errorf("record = %+v, want %+v", r, want)
		}
	}
}

// TestReadRingDamage scribbles on the ring: what is sane comes back, with an error that says what is not.
func TestReadRingDamage(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(s scribbler)
		records int
		want    string
	}{
		{"text_len", func(s scribbler) { le.PutUint16(s.info(501)[16:], 60000) }, 549, "record 501 says 60000 bytes of text and has 8"},
		{"descriptor id", func(s scribbler) { le.PutUint64(s.desc(501), 0x4141414141414141) }, 548, "has id 0x141414141414141"},
		{"sequence number", func(s scribbler) { le.PutUint64(s.info(501), 502) }, 548, "sequence number 502"},
		{"time", func(s scribbler) { le.PutUint64(s.info(501)[8:], 1<<63) }, 548, "record 501 has a time out of range"},
		{"text's owner", func(s scribbler) { le.PutUint64(s.block(501), 3) }, 548, "text of record 501 belongs to descriptor 0x3"},
		{"unaligned begin", func(s scribbler) { s.desc(501)[8] += 4 }, 548, "record 501 has text from"},
		{"one end without data", func(s scribbler) { le.PutUint64(s.desc(501)[8:], failedLpos) }, 548, "record 501 has text from 0x1 to"},
		{"next before begin", func(s scribbler) { le.PutUint64(s.desc(501)[16:], le.Uint64(s.desc(501)[8:])-16) }, 548, "record 501 has text from"},
		{"head id", func(s scribbler) { le.PutUint64(s.head()[24:], le.Uint64(s.head()[24:])+1<<40) }, 549, "not within a ring of 8192"},
		{"all infos", func(s scribbler) { scribble(s.at(fixInfos)[:fixCount*88]) }, 0, "549 records damaged"},
		{"all descriptors", func(s scribbler) { scribble(s.at(fixDescs)[:fixCount*24]) }, 0, "has id"},
		{"all text", func(s scribbler) { scribble(s.at(fixData)[:fixSize]) }, 0, "549 records damaged"},
	} {
		m, syms := fixture(t)
		test.change(scribbler{m, syms})
		recs, err := ReadRing(m, syms)
		var damage *DamageError
		if !errors.As(err, &damage) || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 600 {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
		if len(recs) != test.records {
			t.Errorf("%s: %d records, want %d", test.name, len(recs), test.records)
		}
	}
}

func scribble(b []byte) {
	for i := range b {
		b[i] = 0x5a
	}
}

// TestReadRingErrors: nothing can be read at all.
func TestReadRingErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s scribbler)
		want   string
	}{
		{"size_bits", func(s scribbler) { le.PutUint32(s.head()[48:], 60) }, "head damaged"},
		{"count_bits", func(s scribbler) { le.PutUint32(s.head(), 31) }, "head damaged"},
		{"prb in vmalloc", func(s scribbler) { le.PutUint64(s.at(s.syms["prb"]-imageBase), 0xffffc90000001000) }, "vmalloc"},
		{"prb is nothing", func(s scribbler) { clear(s.at(s.syms["prb"] - imageBase)[:8]) }, "ring that prb points to: address 0x0"},
		{"descriptors elsewhere", func(s scribbler) { le.PutUint64(s.head()[8:], 0xffff888000000000) }, "descriptors: read"},
		{"data elsewhere", func(s scribbler) { le.PutUint64(s.head()[56:], 0x1000) }, "text: address 0x1000 is no kernel address"},
		{"another kernel's System.map", func(s scribbler) { s.syms["vmcoreinfo_data"] += 0x1000 }, "no memory there"},
		{"vmcoreinfo elsewhere", func(s scribbler) { le.PutUint64(s.at(s.syms["vmcoreinfo_data"]-imageBase), 0xffff8880018d4780) }, "not a vmcoreinfo page"},
		{"no symbols", func(s scribbler) { clear(s.syms) }, "CONFIG_CRASH_CORE"},
	} {
		m, syms := fixture(t)
		test.change(scribbler{m, syms})
		recs, err := ReadRing(m, syms)
		if err == nil || !strings.Contains(err.Error(), test.want) || recs != nil || !strings.HasPrefix(err.Error(), "read printk ring: ") {
			t.Errorf("%s: %d records, error %v, want %q", test.name, len(recs), err, test.want)
		}
	}
}

func TestReadRingVmcoreinfoErrors(t *testing.T) {
	m, syms := fixture(t)
	page, err := space{mem: m}.read(le.Uint64(m.at(syms["vmcoreinfo_data"]-imageBase)), noteTextSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, new, want string }{
		{"SYMBOL(prb)=", "SYMBOL(log_buf)=", "older than 5.10"},
		{"OFFSET(prb_desc.state_var)=0", "OFFSET(prb_desc.state_var)=99", "OFFSET(prb_desc.state_var)=99, want at most 16"},
		{"SIZE(printk_info)=88", "SIZE(printk_info)=0", "SIZE(printk_info)=0"},
		{"SIZE(printk_info)=88", "SIZE(printk_info)=999999", "want at most"},
		{"LENGTH(printk_info_device)=48", "LENGTH(printk_info_device)=-1", "LENGTH(printk_info_device)=-1"},
		{"OFFSET(printk_info.seq)", "OFFSET(printk_info.sqe)", "no OFFSET(printk_info.seq)"},
		{"OSRELEASE=", "OSRELEASED=", "not a vmcoreinfo page"},
	} {
		if !bytes.Contains(page, []byte(test.old)) {
			t.Fatalf("the fixture's vmcoreinfo has no %s", test.old)
		}
		_, err := ReadRingVmcoreinfo(m, syms, bytes.Replace(page, []byte(test.old), []byte(test.new), 1))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.new, err, test.want)
		}
	}
}

// TestReadRingLiveWriter changes records between the first and the second reading of their descriptors.
func TestReadRingLiveWriter(t *testing.T) {
	m, syms := fixture(t)
	s := scribbler{m, syms}
	m.hook = func(addr uint64) {
		if addr != fixData {
			return
		}
		s.setState(400, 3)                                            // given up for a new one
		le.PutUint64(s.desc(401), le.Uint64(s.desc(401))+fixCount)    // already a new one
		s.setState(402, 0)                                            // reopened, to be continued
		le.PutUint64(s.desc(403)[16:], le.Uint64(s.desc(403)[16:])+8) // continued
		scribble(s.block(400)[:8])
	}
	recs, err := ReadRing(m, syms)
	if err != nil || len(recs) != 545 {
		t.Errorf("%d records, %v, want 545", len(recs), err)
	}
	for _, r := range recs {
		if r.Seq >= 400 && r.Seq < 404 {
			t.Errorf("record %d changed and is still there", r.Seq)
		}
	}
}

func TestReadTaint(t *testing.T) {
	m, syms := fixture(t)
	got, err := ReadTaint(m, syms)
	if err != nil || got != 4096 {
		t.Errorf("ReadTaint = %d, %v, want 4096", got, err)
	}
	if _, err := ReadTaint(m, nil); err == nil {
		t.Error("ReadTaint without the symbol: no error")
	}
	if _, err := ReadTaint(new(memory), syms); !errors.Is(err, errNoMemory) {
		t.Errorf("ReadTaint = %v, want the memory's error", err)
	}
}

// patched is memory with some bytes changed; around a fixture it is cheaper than a copy.
type patched struct {
	Memory
	patches map[uint64]byte
	reads   int
	bytes   int
}

func (p *patched) ReadPhysical(addr uint64, b []byte) error {
	p.reads++
	p.bytes += len(b)
	if err := p.Memory.ReadPhysical(addr, b); err != nil {
		return err
	}
	for at, v := range p.patches {
		if at >= addr && at-addr < uint64(len(b)) {
			b[at-addr] = v
		}
	}
	return nil
}

// pattern is memory that has the same bytes over and over, everywhere.
type pattern []byte

func (p pattern) ReadPhysical(addr uint64, b []byte) error {
	for i := range b {
		b[i] = p[(addr+uint64(i))%uint64(len(p))]
	}
	return nil
}

func FuzzReadRing(f *testing.F) {
	m, syms := fixture(f)
	f.Add([]byte{0, 0, 0, 0, 1}, true)
	f.Add([]byte("\x5a\x5a\x5a\x5a\x5a\x5a\x5a\xff\x88\x80"), false)
	f.Add([]byte{0x10, 0x47, 0x82, 1, 0xff, 0x20, 0x47, 0x82, 1, 9}, true)
	f.Fuzz(func(t *testing.T, data []byte, scribble bool) {
		if len(data) == 0 {
			return
		}
		mem := &patched{Memory: m, patches: map[uint64]byte{}}
		if scribble { // data is a list of addresses and bytes
			for ; len(data) >= 5 && len(mem.patches) < 64; data = data[5:] {
				mem.patches[uint64(le.Uint32(data))%0x2000000] = data[4]
			}
		} else {
			mem.Memory = pattern(data)
		}
		for _, symbols := range []Symbols{syms, {"prb": syms["prb"]}} {
			recs, err := ReadRing(mem, symbols)
			var damage *DamageError
			if err != nil && !errors.As(err, &damage) && recs != nil {
				t.Errorf("%d records with error %v", len(recs), err)
			}
			for i, r := range recs {
				if i > 0 && r.Seq <= recs[i-1].Seq || r.Time < 0 || r.Level > 7 || len(r.Text) > 65535 {
					t.Errorf("record %d = %+v", i, r)
				}
			}
		}
	})
}

func BenchmarkReadRing(b *testing.B) {
	m, syms := fixture(b)
	for b.Loop() {
		if _, err := ReadRing(m, syms); err != nil {
			b.Fatal(err)
		}
	}
}

// systemMap makes one of n symbols, with two that are wanted near the end.
func systemMap(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%016x t some_function_of_the_kernel_%d\n", uint64(imageBase)+uint64(i)*64, i)
		if i == n-9 {
			b.WriteString("ffffffff81824710 d prb\nffffffff81a2ecd0 B vmcoreinfo_data\n")
		}
	}
	return b.String()
}

func TestParseSystemMap(t *testing.T) {
	got, err := ParseSystemMap(strings.NewReader(systemMap(9000)))
	if want := (Symbols{"prb": 0xffffffff81824710, "vmcoreinfo_data": 0xffffffff81a2ecd0}); err != nil || !maps.Equal(got, want) {
		t.Errorf("ParseSystemMap = %v, %v, want %v", got, err, want)
	}
	for _, text := range []string{"", "hello\n", "xyz D prb\n", strings.Repeat("x", 300<<10)} {
		if got, err := ParseSystemMap(strings.NewReader(text)); err == nil {
			t.Errorf("ParseSystemMap(%.20q) = %v, want an error", text, got)
		}
	}
	if got, err := ParseSystemMap(strings.NewReader("0000000000000001 D prb")); err != nil || got["prb"] != 1 {
		t.Errorf("without a newline at the end: %v, %v", got, err)
	}
}

func BenchmarkParseSystemMap(b *testing.B) {
	text := systemMap(120000) // as large as a distribution's
	for b.Loop() {
		if _, err := ParseSystemMap(strings.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBlock has blocks that end with the ring, which Linux 6.19 made possible.
func TestBlock(t *testing.T) {
	r := &ring{size: 1 << 10}
	data := make([]byte, r.size)
	for _, end := range []uint64{0, r.size, 5 * r.size} {
		if got := r.block(desc{begin: end - 64, next: end}, data); len(got) != 64 || &got[63] != &data[r.size-1] {
			t.Errorf("the block that ends at %#x has %d bytes", end, len(got))
		}
		if got := r.block(desc{begin: end - 64, next: end + 32}, data); len(got) != 32 || &got[0] != &data[0] {
			t.Errorf("the block that would cross %#x has %d bytes", end, len(got))
		}
	}
}
