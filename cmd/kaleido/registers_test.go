package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

func TestSummarizeRegisters(t *testing.T) {
	name := filepath.Join(t.TempDir(), "System.map")
	text := "0000000000000000 D per_cpu\nffffffff81000000 T _text\nffffffff810b54a0 t smp_call\nffffffff810b5600 T later\nffffffff82000000 D modules\n"
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	syms, list, err := readTextSymbols(name)
	if err != nil || len(syms) != 3 || list != 0xffffffff82000000 {
		t.Fatalf("got %v, %#x, %v", syms, list, err)
	}
	syms = append(syms, textSymbol{0xffffffffa0005000, 0x10, "loop", "stuck"})
	p := &vm.Processors{Registers: "\r\nCPU#0\r\nRAX=0000000000000000 RBX=ffffffffa0005000 RCX=0000000000000000 RDX=0000000000000000\r\n" +
		"RIP=ffffffffa0005003 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n" +
		"ES =0000 0000000000000000 00000000 00000000\r\nXMM00=0000000000000000 0000000000000000\r\n" +
		"CPU#1\r\nRIP=ffffffff810b5584 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n" +
		"CPU#2\r\nRIP=0000000000445aa5 RFL=00000216 [----AP-] CPL=3 II=0 A20=1 SMM=0 HLT=0\r\n", Traces: [][]vm.Return{{{Addr: 0xffffffff810b5601}, {Addr: 0xffffffffa0005010}, {Addr: 0xffffffffa0005010, Interrupted: true}}, {}, nil}}
	got := summarize(p, func(at, called uint64) string { return place(at, called, syms) })
	want := `CPU#0
  RAX=0000000000000000 RBX=ffffffffa0005000 RCX=0000000000000000 RDX=0000000000000000
  RIP=ffffffffa0005003 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
  in loop+0x3 [stuck], interrupts off
    from later+0x1
    from loop+0x10 [stuck]
    from a module
CPU#1
  RIP=ffffffff810b5584 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
  in smp_call+0xe4, interrupts on
CPU#2
  RIP=0000000000445aa5 RFL=00000216 [----AP-] CPL=3 II=0 A20=1 SMM=0 HLT=0
  in user space, interrupts on
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHalted(t *testing.T) {
	const (
		stopped = "RIP=ffffffff8101d282 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n"
		idle    = "RIP=ffffffff8101c61e RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n"
		loops   = "RIP=ffffffff8101c61e RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n"
	)
	for _, test := range []struct {
		text string
		want bool
	}{
		{"", false},
		{"CPU#0\r\n" + stopped, true},
		{"CPU#0\r\n" + stopped + "CPU#1\r\n" + stopped, true},
		{"CPU#0\r\n" + stopped + "CPU#1\r\n" + idle, false},
		{"CPU#0\r\n" + loops + "CPU#1\r\n" + stopped, false},
	} {
		if got := allHalted(test.text); got != test.want {
			t.Errorf("halted = %v, want %v, for\n%s", got, test.want, test.text)
		}
	}
}
