package vm

import (
	"context"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
)

// Processors are what the guest's processors are doing.
type Processors struct {
	// Registers are as QEMU's monitor prints them.
	Registers string

	// Traces have for each processor where it will return to, from the innermost out. They are found by
	// the frame pointers of a kernel that has them (CONFIG_UNWINDER_FRAME_POINTER), without any help from the guest.
	Traces [][]Return
}

// Return is where a processor will go on.
type Return struct {
	Addr uint64

	// Interrupted says that an interrupt or an exception came at Addr; else the instruction before it is a call.
	Interrupted bool
}

// Processors reads them. It works on a guest that hangs, and after its life has ended, until Close; a guest that runs
// stands still meanwhile.
func (m *Instance) Processors(ctx context.Context) (*Processors, error) {
	p := &Processors{}
	err := m.mem.frozen(ctx, func() (err error) {
		p.Registers, err = m.mon.Raw(ctx).HumanMonitorCommand("info registers -a", nil)
		if err != nil {
			return err
		}
		for cpu, rbp := range framePointers(p.Registers) {
			p.Traces = append(p.Traces, walkFrames(rbp, func(addr uint64, b []byte) error {
				return m.mem.readVirtual(ctx, cpu, addr, b)
			}))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("processors: %w", err)
	}
	return p, nil
}

var rbpRE = regexp.MustCompile(`\bRBP=([0-9a-f]{16})\b`)

// framePointers are those of all processors, in their order.
func framePointers(registers string) []uint64 {
	var all []uint64
	for _, m := range rbpRE.FindAllStringSubmatch(registers, -1) {
		rbp, _ := strconv.ParseUint(m[1], 16, 64) // the pattern has digits only
		all = append(all, rbp)
	}
	return all
}

// maxFrames bounds a walk through memory that may be damaged.
const maxFrames = 64

// kernelHalf is where the kernel's half of the address space begins.
const kernelHalf = 1 << 63

// walkFrames follows frame pointers to the return addresses, through interrupts and exceptions to what they
// interrupted, up to user space or the first thing that is no frame.
func walkFrames(rbp uint64, read func(addr uint64, p []byte) error) []Return {
	var trace []Return
	for len(trace) < maxFrames && rbp >= kernelHalf {
		var addr uint64
		interrupted := rbp&1 != 0
		if interrupted {
			// Entry code marks a struct pt_regs so (arch/x86/entry/calling.h, ENCODE_FRAME_POINTER).
			const size, bp, ip, cs = 21 * 8, 4 * 8, 16 * 8, 17 * 8
			regs := make([]byte, size)
			if read(rbp&^1, regs) != nil || regs[cs]&3 != 0 {
				break
			}
			rbp, addr = binary.LittleEndian.Uint64(regs[bp:]), binary.LittleEndian.Uint64(regs[ip:])
		} else {
			frame := make([]byte, 16)
			if read(rbp, frame) != nil {
				break
			}
			rbp, addr = binary.LittleEndian.Uint64(frame), binary.LittleEndian.Uint64(frame[8:])
		}
		if addr < kernelHalf {
			break
		}
		trace = append(trace, Return{addr, interrupted})
	}
	return trace
}
