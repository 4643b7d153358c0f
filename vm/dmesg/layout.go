package dmesg

import "fmt"

// layout has the sizes of the ring's structures and the offsets of their fields, in bytes.
type layout struct {
	ringSize            int // struct printk_ringbuffer
	ringDescs, ringData int

	countBits, descs, infos, headID, tailID int // struct prb_desc_ring

	sizeBits, data int // struct prb_data_ring

	descSize           int // struct prb_desc
	state, begin, next int // begin and next are those of its text_blk_lpos

	infoSize                   int // struct printk_info
	seq, time, textLen, caller int
	facility, flags            int // flags has the level in its top 3 bits
	subsystem, subsystemLen    int // of its dev_info
	device, deviceLen          int
}

// defaultLayout is that of x86-64 from 5.11 to 6.18.
var defaultLayout = layout{
	ringSize: 88, ringDescs: 0, ringData: 48,
	countBits: 0, descs: 8, infos: 16, headID: 24, tailID: 32,
	sizeBits: 0, data: 8,
	descSize: 24, state: 0, begin: 8, next: 16,
	infoSize: 88, seq: 0, time: 8, textLen: 16, facility: 18, flags: 19, caller: 20,
	subsystem: 24, subsystemLen: 16, device: 40, deviceLen: 48,
}

// layoutOf reads the layout from vmcoreinfo (kernel/printk/printk.c, log_buf_vmcoreinfo_setup). A missing value, or one that
// lies outside its structure, is an error.
func layoutOf(info vmcoreinfo) (layout, error) {
	p := layoutReader{info: info}
	ring, dr, td := "printk_ringbuffer", "prb_desc_ring", "prb_data_ring"
	l := layout{ringSize: p.size(ring), descSize: p.size("prb_desc"), infoSize: p.size("printk_info")}
	l.ringDescs = p.field(ring+".desc_ring", l.ringSize, p.size(dr))
	l.ringData = p.field(ring+".text_data_ring", l.ringSize, p.size(td))
	l.countBits = p.field(dr+".count_bits", p.size(dr), 4)
	l.descs = p.field(dr+".descs", p.size(dr), 8)
	l.infos = p.field(dr+".infos", p.size(dr), 8)
	l.headID = p.field(dr+".head_id", p.size(dr), 8)
	l.tailID = p.field(dr+".tail_id", p.size(dr), 8)
	l.sizeBits = p.field(td+".size_bits", p.size(td), 4)
	l.data = p.field(td+".data", p.size(td), 8)

	pos := p.size("prb_data_blk_lpos")
	l.state = p.field("prb_desc.state_var", l.descSize, 8)
	block := p.field("prb_desc.text_blk_lpos", l.descSize, pos)
	l.begin = block + p.field("prb_data_blk_lpos.begin", pos, 8)
	l.next = block + p.field("prb_data_blk_lpos.next", pos, 8)

	l.seq = p.field("printk_info.seq", l.infoSize, 8)
	l.time = p.field("printk_info.ts_nsec", l.infoSize, 8)
	l.caller = p.field("printk_info.caller_id", l.infoSize, 4)
	// vmcoreinfo does not have these two: they are the bytes after text_len in struct printk_info.
	l.textLen = p.field("printk_info.text_len", l.infoSize, 4)
	l.facility, l.flags = l.textLen+2, l.textLen+3

	devSize := p.size("dev_printk_info")
	dev := p.field("printk_info.dev_info", l.infoSize, devSize)
	l.subsystemLen = p.number("LENGTH(printk_info_subsystem)", devSize)
	l.deviceLen = p.number("LENGTH(printk_info_device)", devSize)
	l.subsystem = dev + p.field("dev_printk_info.subsystem", devSize, l.subsystemLen)
	l.device = dev + p.field("dev_printk_info.device", devSize, l.deviceLen)
	return l, p.err
}

// layoutReader reads numbers from vmcoreinfo and keeps the first error.
type layoutReader struct {
	info vmcoreinfo
	err  error
}

// number returns a value between 0 and limit.
func (p *layoutReader) number(key string, limit int) int {
	n, ok := p.info.number(key)
	switch {
	case p.err != nil:
	case !ok:
		p.err = fmt.Errorf("vmcoreinfo has no %s", key)
	case n < 0 || n > int64(limit):
		p.err = fmt.Errorf("vmcoreinfo has %s=%d, want at most %d", key, n, limit)
	default:
		return int(n)
	}
	return 0
}

// size returns the size of a structure; all are small.
func (p *layoutReader) size(name string) int {
	n := p.number("SIZE("+name+")", maxWindow)
	if n == 0 && p.err == nil {
		p.err = fmt.Errorf("vmcoreinfo has SIZE(%s)=0", name)
	}
	return n
}

// field returns the offset of a field of a given size, which must lie within its structure.
func (p *layoutReader) field(name string, within, size int) int {
	return p.number("OFFSET("+name+")", within-size)
}
