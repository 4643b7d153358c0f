package dmesg

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Memory reads a guest's physical memory: fills p from addr on, or returns an error. Each call may be a
// round trip to QEMU, so this package makes few and large ones.
type Memory interface {
	ReadPhysical(addr uint64, p []byte) error
}

// x86-64's memory map (Documentation/x86/x86_64/mm.rst). The bases of the direct map are those without
// KASLR; with it the kernel's page_offset_base tells.
const (
	imageBase    = 0xffffffff80000000 // __START_KERNEL_map
	imageEnd     = 0xffffffffc0000000 // modules, from the vmalloc allocator, begin here at the latest
	directBase4  = 0xffff888000000000 // 4-level page tables, 64 TiB
	directEnd4   = 0xffffc88000000000
	directBase5  = 0xff11000000000000 // 5-level page tables (-cpu max has them), 32 PiB
	directEnd5   = 0xff91000000000000
	vmalloc4     = 0xffffc90000000000
	vmalloc5     = 0xffa0000000000000
	maxPhysical  = 1 << 52
	noteTextSize = 4096 // VMCOREINFO_BYTES: one page
)

// vmcoreinfo is the kernel's description of itself (Documentation/admin-guide/kdump/vmcoreinfo.rst),
// lines of KEY(name)=value; the keys here are as they stand, "OFFSET(prb_desc.state_var)".
type vmcoreinfo map[string]string

func parseVmcoreinfo(page []byte) (vmcoreinfo, error) {
	text, _, _ := bytes.Cut(page, []byte{0})
	info := make(vmcoreinfo)
	for line := range strings.SplitSeq(string(text), "\n") {
		if key, value, ok := strings.Cut(line, "="); ok {
			info[key] = value
		}
	}
	if _, ok := info["OSRELEASE"]; !ok {
		return nil, errors.New("parse vmcoreinfo: no OSRELEASE: not a vmcoreinfo page")
	}
	return info, nil
}

// number returns a decimal value: SIZE(), OFFSET(), LENGTH() and NUMBER() are decimal.
func (v vmcoreinfo) number(key string) (int64, bool) {
	n, err := strconv.ParseInt(v[key], 10, 64)
	return n, err == nil
}

// address returns a hexadecimal value: SYMBOL() and KERNELOFFSET are.
func (v vmcoreinfo) address(key string) (uint64, bool) {
	n, err := strconv.ParseUint(v[key], 16, 64)
	return n, err == nil
}

// space translates the kernel's virtual addresses to physical ones.
type space struct {
	mem        Memory
	physBase   uint64 // phys_base: where the image lies, less where it was linked for
	directBase uint64 // page_offset_base, 0 for the default of 4 or 5 level page tables
}

// physical translates an address in the kernel's image or its direct map. Others, such as vmalloc's,
// would need a walk of the page tables and are refused.
func (s space) physical(va uint64) (uint64, error) {
	switch {
	case va >= imageBase && va < imageEnd:
		return va - imageBase + s.physBase, nil
	case s.directBase != 0 && va >= s.directBase && va-s.directBase < maxPhysical && va < vmalloc4:
		return va - s.directBase, nil
	case s.directBase == 0 && va >= directBase4 && va < directEnd4:
		return va - directBase4, nil
	case s.directBase == 0 && va >= directBase5 && va < directEnd5 && va-directBase5 < maxPhysical:
		return va - directBase5, nil
	case va >= vmalloc4 || va >= vmalloc5 && va < directBase4:
		return 0, fmt.Errorf("address %#x is in vmalloc or module space: not translated", va)
	}
	return 0, fmt.Errorf("address %#x is no kernel address", va)
}

// readChunk bounds one read, so that a size out of a damaged ring cannot make a huge buffer before
// the first read fails.
const readChunk = 4 << 20

// read reads n bytes at a virtual address, whose mapping must be linear from there on.
func (s space) read(va uint64, n int) ([]byte, error) {
	pa, err := s.physical(va)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 0, min(n, readChunk))
	for len(buf) < n {
		k := min(n-len(buf), readChunk)
		start := len(buf)
		buf = append(buf, make([]byte, k)...)
		if err := s.mem.ReadPhysical(pa+uint64(start), buf[start:]); err != nil {
			return nil, fmt.Errorf("read %d bytes of guest memory at %#x: %w", k, pa+uint64(start), err)
		}
	}
	return buf, nil
}

// ReadTaint reads the kernel's taint mask, the number in /proc/sys/kernel/tainted, out of the guest's
// memory: it works after a panic, and no program in the guest can lie about it. It needs the symbol
// tainted_mask and a kernel booted with nokaslr.
func ReadTaint(mem Memory, syms Symbols) (uint64, error) {
	addr, ok := syms["tainted_mask"]
	if !ok {
		return 0, errors.New("read taint: System.map has no tainted_mask")
	}
	b, err := space{mem: mem}.read(addr, 8)
	if err != nil {
		return 0, fmt.Errorf("read taint: %w", err)
	}
	return le.Uint64(b), nil
}
