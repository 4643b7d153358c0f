package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// The lines of QEMU's "info registers -a" that tell where a processor is.
var (
	cpuLine = regexp.MustCompile(`^CPU#(\d+)`)
	ripLine = regexp.MustCompile(`^RIP=([0-9a-f]{16}) RFL=([0-9a-f]{8}).*?(HLT=\d)?$`)
	gprLine = regexp.MustCompile(`^R[A-Z0-9]{1,2} ?=[0-9a-f]{16} `)
	cr2Line = regexp.MustCompile(`^CR0=`)
)

// interruptsOn is the flag IF in RFLAGS.
const interruptsOn = 1 << 9

// registers says where each processor is, and how it got there, and whether all have halted for good.
func (e *examiner) registers(ctx context.Context) (text string, halted bool, err error) {
	p, err := e.Processors(ctx)
	if err != nil {
		return "", false, err
	}
	syms, err := readTextSymbols(e.kernel.SystemMap())
	if err != nil {
		return "", false, err
	}
	return summarize(p, func(at, called uint64) string { return e.name(at, called, syms) }), allHalted(p.Registers), nil
}

// name is an address of the kernel with its place in the source. Of a return address, which may be in the
// next function already, called is the address of the call's last byte; else the two are the same.
func (d *decoder) name(at, called uint64, syms []textSymbol) string {
	text := place(at, called, syms)
	s := symbolOf(called, syms)
	if s == nil {
		return text
	}
	frames, err := d.finder.Lookup("", s.name, called-s.addr)
	if err != nil {
		return text
	}
	own := frames[len(frames)-1] // not what is inlined into it
	return fmt.Sprintf("%s at %s:%d", text, own.File, own.Line)
}

// textSymbol is a function of the kernel.
type textSymbol struct {
	addr uint64
	name string
}

// readTextSymbols reads the functions of a System.map, whose lines are sorted by address.
func readTextSymbols(file string) ([]textSymbol, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var syms []textSymbol
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 3 || !strings.Contains("TtWw", words[1]) {
			continue
		}
		if addr, err := strconv.ParseUint(words[0], 16, 64); err == nil {
			syms = append(syms, textSymbol{addr, words[2]})
		}
	}
	return syms, lines.Err()
}

// summarize picks from QEMU's text what a reader can use: the general registers, where the processor
// is, whether it takes interrupts, and the calls that led there.
func summarize(p *vm.Processors, name func(at, called uint64) string) string {
	var out strings.Builder
	traces := p.Traces
	for lines := bufio.NewScanner(strings.NewReader(p.Registers)); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r ")
		switch {
		case cpuLine.MatchString(line):
			fmt.Fprintf(&out, "%s\n", line)
		case ripLine.MatchString(line):
			m := ripLine.FindStringSubmatch(line)
			rip, _ := strconv.ParseUint(m[1], 16, 64) // the pattern has digits only
			fmt.Fprintf(&out, "  %s\n  in %s, interrupts %s\n", line, name(rip, rip), interrupts(m[2]))
			if len(traces) > 0 {
				for _, addr := range traces[0] {
					fmt.Fprintf(&out, "    from %s\n", name(addr, addr-1))
				}
				traces = traces[1:]
			}
		case gprLine.MatchString(line), cr2Line.MatchString(line):
			fmt.Fprintf(&out, "  %s\n", line)
		}
	}
	return out.String()
}

// allHalted reports whether each processor waits for an interrupt that it does not take: nothing will
// wake them.
func allHalted(registers string) bool {
	asleep, awake := 0, 0
	for lines := bufio.NewScanner(strings.NewReader(registers)); lines.Scan(); {
		m := ripLine.FindStringSubmatch(strings.TrimRight(lines.Text(), "\r "))
		switch {
		case m == nil:
		case m[3] == "HLT=1" && interrupts(m[2]) == "off":
			asleep++
		default:
			awake++
		}
	}
	return asleep > 0 && awake == 0
}

func interrupts(flags string) string {
	if f, err := strconv.ParseUint(flags, 16, 32); err == nil && f&interruptsOn != 0 {
		return "on"
	}
	return "off"
}

// moduleSpace is where x86-64 puts modules (Documentation/x86/x86_64/mm.rst).
const moduleSpace, moduleSpaceEnd = 0xffffffffa0000000, 0xffffffffff000000

// place names an address; see name.
func place(at, called uint64, syms []textSymbol) string {
	switch {
	case called < 1<<63:
		return "user space"
	case called >= moduleSpace && called < moduleSpaceEnd:
		return "a module"
	}
	if s := symbolOf(called, syms); s != nil {
		return fmt.Sprintf("%s+%#x", s.name, at-s.addr)
	}
	return "an unknown address"
}

// symbolOf is the function of the kernel that has an address, nil if none has.
func symbolOf(addr uint64, syms []textSymbol) *textSymbol {
	if addr < 1<<63 || addr >= moduleSpace && addr < moduleSpaceEnd {
		return nil
	}
	i := sort.Search(len(syms), func(i int) bool { return syms[i].addr > addr }) - 1
	if i < 0 {
		return nil
	}
	return &syms[i]
}
