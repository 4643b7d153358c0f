package dmesg

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// function is one as a report names it.
type function struct{ name, module string }

// String returns "crash_init (module crash)".
func (f function) String() string {
	switch {
	case f.name == "":
		return "the kernel"
	case f.module == "":
		return f.name + "()"
	}
	return f.name + "() of module " + f.module
}

// functionRE matches an address as %pS prints it: "crash_init+0x33/0x1000 [crash]".
var functionRE = regexp.MustCompile(`^(?:RIP: 0010:| )([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[([\w-]+)[^\]]*\])?`)

func functionIn(line string) (function, bool) {
	m := functionRE.FindStringSubmatch(line)
	if m == nil {
		return function{}, false
	}
	return function{m[1], m[2]}, true
}

// machinery are functions that report a fault or carry it out for somebody else.
var machinery = regexp.MustCompile(`^(?:refcount_warn_saturate|__list_(?:add|del_entry)_valid|dump_stack|show_stack|panic$|` +
	`warn_slowpath|__warn|__might_(?:sleep|resched|fault)|__schedule|schedule|asm_|exc_|__die|die$|oops_|page_fault_oops|` +
	`native_queued_spin_lock|queued_spin_lock|_raw_|_*kasan_|__asan_|check_memory_region|spin_(?:bug|dump)|do_raw_|` +
	`print_|report_|end_report|debug_|object_err|slab_|(?:kv?|v)free|__kmem_cache_free|kmem_cache_free|ubsan_|__ubsan_|handle_overflow|mem(?:cpy|set|move)|watchdog_)`)

// culprit is the first function of the report that a person would look at: what was running, or whoever called it.
func (s Splat) culprit() function {
	var first function
	for _, line := range s.lines() {
		f, ok := functionIn(line)
		if !ok || strings.HasPrefix(line, " ?") {
			continue
		}
		if f.module != "" || !machinery.MatchString(f.name) {
			return f
		}
		if first.name == "" {
			first = f
		}
	}
	return first
}

// caller is the first function of the stack trace.
func (s Splat) caller() function {
	for _, line := range s.lines() {
		if f, ok := functionIn(line); ok && strings.HasPrefix(line, " ") {
			return f
		}
	}
	return function{}
}

// lines returns the lines of all records.
func (s Splat) lines() []string {
	var lines []string
	for _, r := range s.Records {
		lines = append(lines, r.Lines()...)
	}
	return lines
}

// find returns the first match of a pattern in a line of the report, nil if there is none.
func (s Splat) find(re *regexp.Regexp) []string {
	for _, line := range s.lines() {
		if m := re.FindStringSubmatch(line); m != nil {
			return m
		}
	}
	return nil
}

// accesses are the words of the line "#PF: supervisor write access in kernel mode" (show_fault_oops).
var accessRE = regexp.MustCompile(`^#PF: supervisor (read access|write access|instruction fetch)`)

var errorCodeRE = regexp.MustCompile(`^#PF: error_code\(0x([0-9a-f]+)\)|^(?:Oops: )+([0-9a-f]{4}) \[#`)

// access is what was tried at the address, as a past tense, by the error code's bits (asm/trap_pf.h).
func (s Splat) access() (verb string, present bool) {
	verb = "used"
	if m := s.find(accessRE); m != nil {
		verb = map[string]string{"read access": "read from", "write access": "wrote to", "instruction fetch": "jumped to"}[m[1]]
	}
	const prot, write, instr = 1 << 0, 1 << 1, 1 << 4
	if m := s.find(errorCodeRE); m != nil {
		code := parseHex(m[1] + m[2])
		present = code&prot != 0
		switch {
		case verb != "used":
		case code&instr != 0:
			verb = "jumped to"
		case code&write != 0:
			verb = "wrote to"
		default:
			verb = "read from"
		}
	}
	return verb, present
}

// parseHex is the value of at most 16 digits that a pattern has found.
func parseHex(digits string) uint64 {
	value, _ := strconv.ParseUint(digits, 16, 64) // no other error is possible
	return value
}

var (
	addressRE  = regexp.MustCompile(`(?:address:?|request at|dereference at|non-canonical address) (?:0x)?([0-9a-f]{1,16})`)
	registerRE = regexp.MustCompile(`\b(R[A-D]X|R[SD]I|R\d\d): ([0-9a-f]{16})`)
)

// address is the one that faulted, as the title has it.
func (s Splat) address() (addr uint64, known bool) {
	m := addressRE.FindStringSubmatch(s.Title)
	if m == nil {
		return 0, false
	}
	addr, err := strconv.ParseUint(m[1], 16, 64)
	return addr, err == nil
}

// poisoned returns the first register of the faulting context that holds a poison, for a fault without an address.
func (s Splat) poisoned() (register, meaning string) {
	for _, line := range s.lines() {
		if strings.HasPrefix(line, "Call Trace:") {
			break
		}
		for _, m := range registerRE.FindAllStringSubmatch(line, -1) {
			if meaning := poison(parseHex(m[2])); meaning != "" {
				return m[1], meaning
			}
		}
	}
	return "", ""
}

// Where things are in the address space of x86-64 with four or five levels (Documentation/x86/x86_64/mm.rst).
const (
	pageSize     = 1 << 12
	userEnd      = 1 << 47
	kernelStart  = 1 << 63
	vmallocStart = 0xffffc90000000000
	vmallocEnd   = 0xffffe90000000000
	directStart  = 0xffff888000000000
	vmallocEnd5  = 0xffd2000000000000 // with five levels, as vmalloc5 and directBase5
	imageStart   = 0xffffffff80000000
	moduleStart  = 0xffffffffa0000000
	moduleEnd    = 0xffffffffff000000
	maxErrno     = 4095
	listPoison   = 0xdead000000000000 // CONFIG_ILLEGAL_POINTER_VALUE
)

// poison says what a value means that the kernel writes where nobody should look any more
// (include/linux/poison.h). A member of a struct is a little behind the pointer.
func poison(value uint64) string {
	switch offset := value - listPoison; {
	case offset >= 0x122 && offset < pageSize:
		return "LIST_POISON2: the entry had been taken off its list before"
	case offset >= 0x100 && offset < 0x122:
		return "LIST_POISON1: the entry had been taken off its list before"
	case offset < 0x100:
		return "a poisoned pointer, which nobody may follow"
	}
	for _, p := range []struct {
		fill    byte
		meaning string
	}{
		{0x6b, "the fill of freed memory: use after free"},
		{0xa5, "the last byte's fill of freed memory: use after free"},
		{0x5a, "the fill of memory that was allocated but never written"},
		{0xaa, "the fill of pages that were freed"},
		{0xcc, "the fill of memory that was given back with the kernel's init sections"},
		{0xbb, "the fill of the red zone beside an object"},
	} {
		if all := uint64(p.fill) * 0x0101010101010101; value-all < pageSize || all-value < pageSize {
			return p.meaning
		}
	}
	return ""
}

// errorPointer returns the name of the error that an address is, made by ERR_PTR and perhaps with a member's offset.
func errorPointer(addr uint64) (name string, ok bool) {
	n := -addr
	if n == 0 || n > maxErrno {
		return "", false
	}
	if name := unix.ErrnoName(unix.Errno(n)); name != "" {
		return name, true
	}
	return fmt.Sprintf("error %d", n), true
}

// region says where an address points that is none of the others' business.
func region(addr uint64) string {
	switch {
	case addr < userEnd:
		return "an address of user space, which is reached by copy_from_user() and copy_to_user() only"
	case addr >= moduleStart && addr < moduleEnd:
		return "where modules are, but none is there (any more)"
	case addr >= imageStart:
		return "in the kernel's own image or behind it"
	case addr >= vmallocStart && addr < vmallocEnd, addr >= vmalloc5 && addr < vmallocEnd5:
		return "where vmalloc() and stacks are, but nothing is mapped"
	case addr >= directStart && addr < vmallocStart, addr >= directBase5 && addr < directEnd5:
		return "where all memory is mapped, but there is none (any more)"
	}
	return "where nothing is mapped"
}
