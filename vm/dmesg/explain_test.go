package dmesg

import (
	"strings"
	"testing"
)

// oopsAt is an oops with the lines between its title and its instruction.
func oopsAt(title string, more ...string) []string {
	return append(append([]string{title}, more...),
		"Oops: 0000 [#1] SMP", "RIP: 0010:work+0x1/0x20 [m]", "Call Trace:", " ? before+0x1/0x2", " outer+0x1/0x30 [m]", "---[ end trace 0 ]---")
}

func TestExplain(t *testing.T) {
	fault := func(addr string, more ...string) []string {
		return oopsAt("BUG: unable to handle page fault for address: "+addr, more...)
	}
	const read, write, fetch = "#PF: supervisor read access in kernel mode", "#PF: supervisor write access in kernel mode", "#PF: supervisor instruction fetch in kernel mode"
	trace := []string{"Call Trace:", " dump_stack_lvl+0x1/0x2", " print_all+0x1/0x2 [m]", "---[ end trace 0 ]---"}
	for _, test := range []struct {
		lines         []string
		want, chapter string
	}{
		{oopsAt("BUG: kernel NULL pointer dereference, address: 0000000000000018", read),
			"NULL dereference at offset 0x18: work() of module m read from a member 24 bytes behind a NULL pointer", "general/crash"},
		{fault("fffffffffffffff4", read), "error pointer: work() of module m read from 0xfffffffffffffff4, which is ERR_PTR(-ENOMEM) or near it", "general/crash"},
		{fault("6b6b6b6b6b6b6b73", write), "the fill of freed memory: use after free", ""},
		{fault("ffffffffa0001000", fetch), "unloaded code: 0xffffffffa0001000", "process/kthread"},
		{fault("ffffffff81000000", write, "#PF: error_code(0x0003) - permissions violation"), "write to read-only memory: work() of module m wrote to 0xffffffff81000000", ""},
		{fault("ffff888001234000", fetch, "#PF: error_code(0x0011) - permissions violation"), "execution of data at 0xffff888001234000", ""},
		{fault("ff11000000123000", write, "#PF: error_code(0x0003) - permissions violation"), "write to read-only memory: ", ""},
		{fault("ffa0000000123000", read), "where vmalloc() and stacks are", "general/crash"},
		{fault("ff11000000123000", read), "where all memory is mapped", "general/crash"},
		{fault("00007ffc12345678", read), "an address of user space", "general/crash"},
		{fault("ffffc90000123000", read), "where vmalloc() and stacks are", "general/crash"},
		{oopsAt("general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP"), "LIST_POISON1", "general/crash"},
		{oopsAt("general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] SMP"), "LIST_POISON2", "general/crash"},
		{oopsAt("general protection fault: 0000 [#1] SMP", "RAX: 6b6b6b6b6b6b6b6b RBX: 0000000000000000"), "followed RAX, which holds the fill of freed memory", "general/crash"},
		{oopsAt("general protection fault, probably for non-canonical address 0x4141414141414141: 0000 [#1] SMP"), "no address at all (not canonical)", "general/crash"},
		{oopsAt("BUG: TASK stack guard page was hit at 0000000051b2e7f4 (stack is 000000005ae8fb14..00000000b8fcbf7a)"), "stack overflow: work() of module m ran into the guard page", ""},
		{oopsAt("divide error: 0000 [#1] SMP"), "division by zero", ""},
		{oopsAt("Oops: divide error: 0000 [#1] SMP NOPTI"), "division by zero", ""},
		{fault("6b6b6b6b6b6b6b73", "Oops: Oops: 0002 [#1] SMP"), "work() of module m wrote to 0x6b6b6b6b6b6b6b73", ""},
		{append([]string{"BUG: sleeping function called from invalid context at mm/slab.h:494", "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 1, name: insmod"}, trace...),
			"sleeping in atomic context: print_all() of module m called something that may sleep (mm/slab.h:494) with a spinlock held or preemption off", ""},
		{append([]string{"BUG: sleeping function called from invalid context at mm/slab.h:494", "in_atomic(): 0, irqs_disabled(): 1, non_block: 0, pid: 1, name: insmod"}, trace...), "with interrupts off", ""},
		{append([]string{"watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [insmod:60]", "RIP: 0010:native_queued_spin_lock_slowpath+0x1/0x200"}, trace...),
			"processor 1, running insmod (pid 60), did not reschedule for 22 s: print_all() of module m waits for a spinlock that nobody releases", "process/lockit"},
		{append([]string{"list_del corruption, ffff888000000000->next is LIST_POISON1 (dead000000000100)"}, trace...), "had been deleted before", "general/list"},
		{append([]string{"list_add corruption. prev->next should be next (ffff888000000000), but was 0000000000000000."}, trace...), "neighbours that do not point at each other", "general/list"},
		{append([]string{"refcount_t: underflow; use-after-free."}, trace...), "dropped a reference that it did not have", ""},
		{append([]string{"BUG: KASAN: slab-use-after-free in print_all+0x1/0x2 [m]"}, trace...), "use after free: print_all() of module m", ""},
		{append([]string{"WARNING: possible recursive locking detected"}, trace...), "deadlock ahead", ""},
		{append([]string{"BUG kmalloc-64 (Tainted: G    B      O      ): Right Redzone overwritten"}, trace...), "out of bounds", ""},
		{[]string{"Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: f+0x1/0x2"}, "stack buffer overflow", ""},
	} {
		var told []string
		for _, line := range test.lines {
			told = append(told, "T1 "+line)
		}
		splats := Splats(log(0, told...))
		if len(splats) != 1 {
			t.Errorf("%q: %d splats", test.lines[0], len(splats))
			continue
		}
		if got := splats[0].Explain(); !strings.Contains(got, test.want) {
			t.Errorf("%q means %q, want %q in it", test.lines[0], got, test.want)
		}
		if got := splats[0].Chapter(); got != test.chapter {
			t.Errorf("%q: chapter %q, want %q", test.lines[0], got, test.chapter)
		}
	}
}

// TestExplainAll has every kind explained, in words of its own.
func TestExplainAll(t *testing.T) {
	for _, info := range kinds {
		s := Splat{Kind: info.kind, Title: "x", info: &info}
		if got := s.Explain(); got == "" || strings.Contains(got, "%") || strings.Contains(got, "of the kind") {
			t.Errorf("%s means %q", info.kind, got)
		}
	}
}
