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

	"github.com/linux-kaleidoscope/kaleido/modules/kallsyms"
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
	syms, list, err := readTextSymbols(e.kernel.SystemMap())
	if err != nil {
		return "", false, err
	}
	syms = append(syms, e.moduleSymbols(ctx, list)...) // they are behind the kernel
	return summarize(p, func(at, called uint64) string { return e.name(at, called, syms) }), allHalted(p.Registers), nil
}

// moduleSymbols are the functions of the modules that are loaded, as far as memory and debug information tell. list
// is where the kernel has its list of them.
func (e *examiner) moduleSymbols(ctx context.Context, list uint64) []textSymbol {
	var layout *kallsyms.Layout
	for name := range e.modules { // any knows the kernel's structs
		var err error
		if layout, err = kallsyms.NewLayout(func(structure string, names ...string) ([]uint64, error) {
			return e.finder.Members(name, structure, names...)
		}); err == nil {
			break
		}
	}
	if layout == nil || list == 0 {
		return nil
	}
	// What is damaged goes without names.
	functions, _ := kallsyms.Read(list, layout, func(addr uint64, p []byte) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return e.ReadKernel(addr, p)
	})
	var syms []textSymbol
	for _, f := range functions {
		if inModuleSpace(f.Addr) {
			syms = append(syms, textSymbol{addr: f.Addr, size: f.Size, name: f.Name, module: f.Module})
		}
	}
	return syms
}

// name is an address of the kernel with its place in the source. Of a return address, which may be in the
// next function already, called is the address of the call's last byte; else the two are the same.
func (d *decoder) name(at, called uint64, syms []textSymbol) string {
	text := place(at, called, syms)
	s := symbolOf(called, syms)
	if s == nil {
		return text
	}
	frames, err := d.finder.Lookup(s.module, s.name, called-s.addr)
	if err != nil {
		return text
	}
	own := frames[len(frames)-1] // not what is inlined into it
	return fmt.Sprintf("%s at %s:%d", text, own.File, own.Line)
}

// textSymbol is a function of the kernel or of a module.
type textSymbol struct {
	addr   uint64
	size   uint64 // of a module's; 0 means up to the next
	name   string
	module string
}

// readTextSymbols reads the functions of a System.map, whose lines are sorted by address, and where the kernel has
// its list of modules, which is 0 if it knows none.
func readTextSymbols(file string) (syms []textSymbol, modules uint64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) != 3 {
			continue
		}
		addr, err := strconv.ParseUint(words[0], 16, 64)
		switch {
		case err != nil:
		case words[2] == "modules" && strings.Contains("DdBb", words[1]):
			modules = addr
		case strings.Contains("TtWw", words[1]):
			syms = append(syms, textSymbol{addr: addr, name: words[2]})
		}
	}
	return syms, modules, lines.Err()
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
				for _, r := range traces[0] {
					called := r.Addr
					if !r.Interrupted {
						called--
					}
					fmt.Fprintf(&out, "    from %s\n", name(r.Addr, called))
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
	s := symbolOf(called, syms)
	switch {
	case called < 1<<63:
		return "user space"
	case s == nil && inModuleSpace(called):
		return "a module"
	case s == nil:
		return "an unknown address"
	case s.module != "":
		return fmt.Sprintf("%s+%#x [%s]", s.name, at-s.addr, s.module)
	}
	return fmt.Sprintf("%s+%#x", s.name, at-s.addr)
}

// symbolOf is the function that has an address of the kernel, nil if none has.
func symbolOf(addr uint64, syms []textSymbol) *textSymbol {
	i := sort.Search(len(syms), func(i int) bool { return syms[i].addr > addr }) - 1
	if addr < 1<<63 || i < 0 {
		return nil
	}
	s := &syms[i]
	if inModuleSpace(addr) && (s.module == "" || addr-s.addr >= s.size) {
		return nil
	}
	return s
}

func inModuleSpace(addr uint64) bool { return addr >= moduleSpace && addr < moduleSpaceEnd }
