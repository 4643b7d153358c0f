package dmesg

import (
	"fmt"
	"math/bits"
	"strings"
)

// Taint is one bit of /proc/sys/kernel/tainted.
type Taint struct {
	Bit    int
	Letter string // the letter in an oops, "?" for a bit this table does not know
	Words  string
}

// Taint bits that say a crash really happened (include/linux/panic.h).
const (
	TaintBadPage    uint64 = 1 << 5
	TaintDie        uint64 = 1 << 7
	TaintWarn       uint64 = 1 << 9
	TaintSoftLockup uint64 = 1 << 14
)

// taintTable is that of Documentation/admin-guide/tainted-kernels.rst and kernel/panic.c, 6.1.
var taintTable = [...]struct{ letter, words string }{
	{"P", "proprietary module was loaded"},
	{"F", "module was force loaded"},
	{"S", "kernel running on an out of specification system"},
	{"R", "module was force unloaded"},
	{"M", "processor reported a machine check exception"},
	{"B", "bad page referenced or some unexpected page flags"},
	{"U", "taint requested by userspace application"},
	{"D", "kernel died recently: there was an oops or BUG"},
	{"A", "ACPI table overridden by user"},
	{"W", "kernel issued warning"},
	{"C", "staging driver was loaded"},
	{"I", "workaround for bug in platform firmware applied"},
	{"O", "externally-built (out-of-tree) module was loaded"},
	{"E", "unsigned module was loaded"},
	{"L", "soft lockup occurred"},
	{"K", "kernel has been live patched"},
	{"X", "auxiliary taint, defined for and used by distros"},
	{"T", "kernel was built with the struct randomization plugin"},
	{"N", "an in-kernel test has been run"},
}

// ParseTaint returns the bits set in the number /proc/sys/kernel/tainted shows, lowest first.
func ParseTaint(mask uint64) []Taint {
	var set []Taint
	for ; mask != 0; mask &= mask - 1 {
		bit := bits.TrailingZeros64(mask)
		t := Taint{Bit: bit, Letter: "?", Words: fmt.Sprintf("unknown taint bit %d", bit)}
		if bit < len(taintTable) {
			t.Letter, t.Words = taintTable[bit].letter, taintTable[bit].words
		}
		set = append(set, t)
	}
	return set
}

// TaintLetters returns the letters of the bits set, such as "DO", or the empty string.
func TaintLetters(mask uint64) string {
	var b strings.Builder
	for _, t := range ParseTaint(mask) {
		b.WriteString(t.Letter)
	}
	return b.String()
}

// ParseTaintLetters is the reverse of TaintLetters, in any order. An unknown letter is an error that lists the letters.
func ParseTaintLetters(letters string) (uint64, error) {
	known := TaintLetters(1<<len(taintTable) - 1)
	var mask uint64
	for _, c := range letters {
		bit := strings.IndexRune(known, c)
		if bit < 0 {
			return 0, fmt.Errorf("no taint letter %q, want some of %s", c, known)
		}
		mask |= 1 << bit
	}
	return mask, nil
}

// TaintWords says what the bits set mean: "D (kernel died recently: there was an oops or BUG), W (kernel issued warning)".
func TaintWords(mask uint64) string {
	var words []string
	for _, t := range ParseTaint(mask) {
		words = append(words, t.Letter+" ("+t.Words+")")
	}
	return strings.Join(words, ", ")
}
