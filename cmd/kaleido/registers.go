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

// registers says where each processor is, and whether all have halted for good.
func (g *testGuest) registers(ctx context.Context) (text string, halted bool, err error) {
	all, err := g.Monitor().Raw(ctx).HumanMonitorCommand("info registers -a", nil)
	if err != nil {
		return "", false, err
	}
	syms, err := readTextSymbols(g.cargo.target.kernel.SystemMap())
	if err != nil {
		return "", false, err
	}
	text, halted = summarize(all, syms)
	return text, halted, nil
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
		if len(words) != 3 || words[1] != "T" && words[1] != "t" {
			continue
		}
		if addr, err := strconv.ParseUint(words[0], 16, 64); err == nil {
			syms = append(syms, textSymbol{addr, words[2]})
		}
	}
	return syms, lines.Err()
}

// summarize picks from QEMU's text what a reader can use: the general registers, where the processor
// is, and whether it takes interrupts. All have halted for good if each waits for an interrupt that it
// does not take.
func summarize(text string, syms []textSymbol) (summary string, halted bool) {
	var out strings.Builder
	asleep, awake := 0, 0
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r ")
		switch {
		case cpuLine.MatchString(line):
			fmt.Fprintf(&out, "%s\n", line)
		case ripLine.MatchString(line):
			m := ripLine.FindStringSubmatch(line)
			taken := interrupts(m[2])
			fmt.Fprintf(&out, "  %s\n  at %s, interrupts %s\n", line, place(m[1], syms), taken)
			if m[3] == "HLT=1" && taken == "off" {
				asleep++
			} else {
				awake++
			}
		case gprLine.MatchString(line), cr2Line.MatchString(line):
			fmt.Fprintf(&out, "  %s\n", line)
		}
	}
	return out.String(), asleep > 0 && awake == 0
}

func interrupts(flags string) string {
	if f, err := strconv.ParseUint(flags, 16, 32); err == nil && f&interruptsOn != 0 {
		return "on"
	}
	return "off"
}

// moduleSpace is where x86-64 puts modules (Documentation/x86/x86_64/mm.rst).
const moduleSpace, moduleSpaceEnd = 0xffffffffa0000000, 0xffffffffff000000

// place names an address of the kernel.
func place(hex string, syms []textSymbol) string {
	addr, err := strconv.ParseUint(hex, 16, 64)
	switch {
	case err != nil:
		return hex
	case addr < 1<<63:
		return "an address of user space"
	case addr >= moduleSpace && addr < moduleSpaceEnd:
		return "an address in a module"
	}
	i := sort.Search(len(syms), func(i int) bool { return syms[i].addr > addr }) - 1
	if i < 0 {
		return "an unknown address"
	}
	return fmt.Sprintf("%s+%#x", syms[i].name, addr-syms[i].addr)
}
