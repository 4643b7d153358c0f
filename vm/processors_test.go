package vm

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// stack is a piece of guest memory, word by word.
type stack map[uint64]uint64

func (s stack) read(addr uint64, p []byte) error {
	for i := 0; i < len(p); i += 8 {
		word, ok := s[addr+uint64(i)]
		if !ok {
			return errors.New("not mapped")
		}
		binary.LittleEndian.PutUint64(p[i:], word)
	}
	return nil
}

// regs puts a struct pt_regs there.
func (s stack) regs(addr, bp, ip, cs uint64) {
	for i := range uint64(21) {
		s[addr+8*i] = 0
	}
	s[addr+4*8], s[addr+16*8], s[addr+17*8] = bp, ip, cs
}

func TestWalkFrames(t *testing.T) {
	const top, text = 0xffffc90000000000, 0xffffffff81000000
	// A function in an interrupt handler, which interrupted another in a system call.
	s := stack{top: top + 0x20 | 1, top + 8: text + 1, top + 0x200: top + 0x300 | 1, top + 0x208: text + 3}
	s.regs(top+0x20, top+0x200, text+2, 0x10)
	s.regs(top+0x300, 0, 0x401000, 0x33)
	loop := stack{top: top, top + 8: text}
	for _, test := range []struct {
		name  string
		stack stack
		rbp   uint64
		want  []Return
	}{
		{"through an interrupt to a system call", s, top, []Return{{text + 1, false}, {text + 2, true}, {text + 3, false}}},
		{"user space", s, 0x7ffc00000000, nil},
		{"not mapped", s, top + 0x5000, nil},
		{"no end", loop, top, slices.Repeat([]Return{{text, false}}, maxFrames)},
		{"no return address", stack{top: top + 16, top + 8: 0x1234}, top, nil},
	} {
		if got := walkFrames(test.rbp, test.stack.read); !slices.Equal(got, test.want) {
			t.Errorf("%s: walkFrames() = %v, want %v", test.name, got, test.want)
		}
	}
}

// TestInLinux tells a guest that boots without a word from one that KVM cannot run.
func TestInLinux(t *testing.T) {
	for registers, want := range map[string]bool{
		"CPU#0\nRIP=ffffffff81234567 RFL=00000246 [---Z-P-] CPL=0 II=0":                              true,
		"CPU#0\nRIP=000000000040123a RFL=00000246 [---Z-P-] CPL=3 II=0":                              true,
		"CPU#0\nEIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1":                                false,
		"CPU#0\nRIP=000000000000fff0 RFL=00000002 CPL=0\n\nCPU#1\nRIP=ffffffff81000000 CPL=0 II=0\n": true,
		"CPU#0\nRIP=00000000000fd12c RFL=00000002 CPL=0 II=0\nRSP=ffffffff81000000":                  false,
	} {
		if got := linuxRE.MatchString(registers); got != want {
			t.Errorf("in Linux: %t, by\n%s", got, registers)
		}
	}
}
