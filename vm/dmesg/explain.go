package dmesg

import (
	"fmt"
	"regexp"
	"strings"
)

// Explain says in one sentence what kind of fault a report tells of. It goes by the report's text alone.
func (s Splat) Explain() string {
	switch s.Kind {
	case KindOops, KindBug:
		if text := s.explainOops(); text != "" {
			return text
		}
	case KindAtomicSleep:
		return s.explainAtomic()
	case KindSoftLockup, KindHardLockup:
		return s.explainLockup()
	case KindWarning:
		return s.explainWarning()
	}
	for _, m := range meanings {
		if m.kind == s.Kind && m.title.MatchString(s.Title) {
			return strings.ReplaceAll(m.words, "%f", s.culprit().String())
		}
	}
	return fmt.Sprintf("the kernel reported a fault of the kind %q in %s", s.Kind, s.culprit())
}

// meanings say what titles mean, particular ones first. %f is the function that a person would look at.
var meanings = []struct {
	kind  Kind
	title *regexp.Regexp
	words string
}{
	{KindPanic, regexp.MustCompile(`Attempted to kill init`), "panic: process 1 ended, without which there is no user space"},
	{KindPanic, regexp.MustCompile(`Fatal exception in interrupt`), "panic: the oops above was in an interrupt or its like, where there is no process to kill instead"},
	{KindPanic, regexp.MustCompile(`Fatal exception`), "panic: the oops above is fatal, as panic_on_oops asks for"},
	{KindPanic, regexp.MustCompile(`sysrq triggered crash`), "panic: somebody asked for it by SysRq-c"},
	{KindPanic, regexp.MustCompile(`stack-protector`), "panic: stack buffer overflow: a function found its stack overwritten when it returned"},
	{KindPanic, regexp.MustCompile(`corrupted stack end`), "panic: stack overflow: the mark at the end of a kernel stack is overwritten"},
	{KindPanic, regexp.MustCompile(`VFS: Unable to mount root|No working init|No init found|Requested init`), "panic: the kernel found no first program to run"},
	{KindPanic, regexp.MustCompile(`panic_on_warn`), "panic: the warning above is fatal, as panic_on_warn asks for"},
	{KindPanic, regexp.MustCompile(`softlockup|hung_task|RCU Stall|Hard LOCKUP`), "panic: the lockup above is fatal, as a setting asks for"},
	{KindPanic, regexp.MustCompile(`[Oo]ut of memory|System is deadlocked on memory`), "panic: there is no memory left and no process to kill for it"},
	{KindPanic, regexp.MustCompile(``), "panic: %f called panic(), the end of everything"},

	{KindRefcount, regexp.MustCompile(`addition on 0`), "reference count: %f took a reference to an object whose count was 0: it may be freed already (use after free)"},
	{KindRefcount, regexp.MustCompile(`underflow`), "reference count: %f dropped a reference that it did not have: the object may be freed too early (use after free)"},
	{KindRefcount, regexp.MustCompile(`saturated|leaking`), "reference count: the count in %f ran over or was wrong; the kernel now never frees the object (leak)"},
	{KindRefcount, regexp.MustCompile(``), "reference count: %f used one wrongly"},

	{KindList, regexp.MustCompile(`LIST_POISON`), "list corruption: %f deleted an entry that had been deleted before"},
	{KindList, regexp.MustCompile(`double add`), "list corruption: %f added an entry that is in the list already"},
	{KindList, regexp.MustCompile(`is NULL`), "list corruption: %f used a list head or an entry that was never initialised"},
	{KindList, regexp.MustCompile(``), "list corruption: %f found neighbours that do not point at each other: an entry was freed, overwritten, or changed without the lock"},

	{KindRCUStall, regexp.MustCompile(``), "RCU stall: a processor ran for so long in %f without a pause that others wait for it; a long loop needs cond_resched()"},
	{KindHungTask, regexp.MustCompile(``), "hung task: a process waits uninterruptibly, in %f, for something that does not come"},
	{KindWorkqueue, regexp.MustCompile(``), "workqueue lockup: a work item does not end, and those behind it wait"},

	{KindKASAN, regexp.MustCompile(`use-after-free`), "use after free: %f used memory that had been freed"},
	{KindKASAN, regexp.MustCompile(`(?:double|invalid)-free`), "double free: %f freed memory that was freed before or never allocated"},
	{KindKASAN, regexp.MustCompile(`out-of-bounds`), "out of bounds: %f used memory beyond the end (or before the start) of an object"},
	{KindKASAN, regexp.MustCompile(`null-ptr-deref`), "NULL dereference: %f followed a NULL pointer"},
	{KindKASAN, regexp.MustCompile(`user-memory-access`), "%f used a user-space address directly, not by copy_from_user() or copy_to_user()"},
	{KindKASAN, regexp.MustCompile(``), "bad memory access: %f used memory that is not its own"},
	{KindKFENCE, regexp.MustCompile(`use-after-free`), "use after free: %f used memory that had been freed"},
	{KindKFENCE, regexp.MustCompile(`invalid free`), "double free: %f freed memory that was freed before or never allocated"},
	{KindKFENCE, regexp.MustCompile(``), "out of bounds: %f used memory beyond the end (or before the start) of an object"},
	{KindKMSAN, regexp.MustCompile(``), "uninitialised memory: %f used a value that nobody had written"},
	{KindKCSAN, regexp.MustCompile(``), "data race: two threads used the same memory at once, one of them to write, without a lock (%f is one)"},
	{KindKmemleak, regexp.MustCompile(``), "memory leak: nothing points any more at memory that was never freed (cat /sys/kernel/debug/kmemleak)"},
	{KindUBSAN, regexp.MustCompile(`array-index`), "array index out of bounds in %f"},
	{KindUBSAN, regexp.MustCompile(`shift-out`), "undefined behaviour: %f shifted by less than 0 or by the width of the type or more"},
	{KindUBSAN, regexp.MustCompile(`overflow`), "undefined behaviour: a signed number overflowed in %f"},
	{KindUBSAN, regexp.MustCompile(``), "undefined behaviour in %f"},

	{KindLockdep, regexp.MustCompile(`circular|lock order`), "deadlock ahead: locks are taken in one order here and in the other elsewhere"},
	{KindLockdep, regexp.MustCompile(`recursive`), "deadlock ahead: a lock is taken that the thread seems to hold already"},
	{KindLockdep, regexp.MustCompile(`inconsistent lock state`), "deadlock ahead: a lock is taken in an interrupt and elsewhere with interrupts on (spin_lock_irqsave() is missing)"},
	{KindLockdep, regexp.MustCompile(`RCU usage`), "RCU: a protected pointer was followed outside of rcu_read_lock()"},
	{KindLockdep, regexp.MustCompile(`unlock balance`), "locking: a lock was released that was not held"},
	{KindLockdep, regexp.MustCompile(`held lock freed`), "locking: memory with a lock in it was freed while the lock was held"},
	{KindLockdep, regexp.MustCompile(`still ha(?:s|ve)|held when returning`), "locking: a lock was not released (a return without unlock?)"},
	{KindLockdep, regexp.MustCompile(`non-static key`), "locking: a lock was taken that was never initialised"},
	{KindLockdep, regexp.MustCompile(`Invalid wait`), "locking: a lock that may sleep on a real-time kernel was taken with a raw spinlock held, or in an interrupt"},
	{KindLockdep, regexp.MustCompile(``), "locking: lockdep found a rule of locking broken in %f"},
	{KindSpinlock, regexp.MustCompile(`bad magic`), "spinlock: %f took a lock that was never initialised, or is overwritten"},
	{KindSpinlock, regexp.MustCompile(`already unlocked`), "spinlock: %f released a lock that was not held"},
	{KindSpinlock, regexp.MustCompile(`recursion`), "spinlock: %f took a lock that it holds already: deadlock"},
	{KindSpinlock, regexp.MustCompile(`lockup`), "spinlock: %f waits for a lock that nobody releases"},
	{KindSpinlock, regexp.MustCompile(``), "spinlock: %f used one wrongly"},

	{KindSlab, regexp.MustCompile(`[Rr]edzone`), "out of bounds: somebody wrote beyond the end of an object of this slab"},
	{KindSlab, regexp.MustCompile(`Poison overwritten`), "use after free: somebody wrote into an object of this slab after it was freed"},
	{KindSlab, regexp.MustCompile(`already free`), "double free: %f freed an object that was free already"},
	{KindSlab, regexp.MustCompile(`remaining`), "leak: a slab was destroyed while objects of it were in use"},
	{KindSlab, regexp.MustCompile(``), "the memory of this slab is damaged: use after free or out of bounds"},
	{KindBadPage, regexp.MustCompile(``), "a page was freed or mapped while the kernel's records of it say otherwise: a reference too few, or overwritten memory"},
	{KindNetdevice, regexp.MustCompile(``), "a network device cannot go because somebody never gave back a reference to it"},
	{KindOops, regexp.MustCompile(``), "oops: %f did what the processor refuses"},
	{KindBug, regexp.MustCompile(`leaked lock`), "locking: a work item ended with a lock held or preemption off"},
	{KindBug, regexp.MustCompile(``), "the kernel found something impossible in %f"},
}

// explainOops explains a fault of the processor's, or returns "".
func (s Splat) explainOops() string {
	who := s.culprit()
	title := strings.TrimPrefix(s.Title, "Oops: ") // newer kernels begin every oops so
	switch {
	case strings.Contains(title, "stack guard page"):
		return fmt.Sprintf("stack overflow: %s ran into the guard page below its kernel stack (16 KiB): endless recursion, or large local variables", who)
	case strings.Contains(title, "double fault"):
		return fmt.Sprintf("double fault in %s: nearly always a stack overflow", who)
	case bugAtRE.MatchString(title):
		return fmt.Sprintf("BUG() at %s: %s found what its author held impossible", bugAtRE.FindStringSubmatch(title)[1], who)
	case strings.Contains(title, "NX-protected"), strings.Contains(title, "execute userspace"):
		return "execution of data: a function pointer, or a return address on the stack, was wrong"
	case strings.Contains(title, "general protection"):
		return s.explainProtection(who)
	case strings.HasPrefix(title, "invalid opcode"):
		return fmt.Sprintf("invalid instruction in %s: the processor does not know it (the compiler puts one where code cannot get)", who)
	case strings.HasPrefix(title, "divide error"):
		return fmt.Sprintf("division by zero (or an overflow of the quotient) in %s", who)
	case strings.HasPrefix(title, "int3"):
		return fmt.Sprintf("breakpoint instruction in %s that nobody had set", who)
	case strings.HasPrefix(title, "stack segment"):
		return fmt.Sprintf("%s followed a pointer made of garbage, by way of the stack pointer", who)
	}
	addr, known := s.address()
	if !known {
		return ""
	}
	return s.explainAddress(who, addr)
}

var bugAtRE = regexp.MustCompile(`[kK]ernel BUG at ([^!]+)!`)

// explainAddress explains a page fault.
func (s Splat) explainAddress(who function, addr uint64) string {
	verb, present := s.access()
	hex := fmt.Sprintf("%#x", addr)
	errno, isError := errorPointer(addr)
	meaning := poison(addr)
	switch {
	case addr < pageSize && verb == "jumped to":
		return fmt.Sprintf("NULL call: %s called a function pointer that was NULL", s.caller())
	case addr == 0:
		return fmt.Sprintf("NULL dereference at offset 0: %s %s a NULL pointer", who, verb)
	case addr < pageSize:
		return fmt.Sprintf("NULL dereference at offset %s: %s %s a member %d bytes behind a NULL pointer", hex, who, verb, addr)
	case isError:
		return fmt.Sprintf("error pointer: %s %s %s, which is ERR_PTR(-%s) or near it: IS_ERR() was not asked", who, verb, hex, errno)
	case meaning != "":
		return fmt.Sprintf("%s %s %s, which is %s", who, verb, hex, meaning)
	case verb == "jumped to" && addr >= moduleStart && addr < moduleEnd && !present:
		return fmt.Sprintf("unloaded code: %s is where modules are, but none is there: a thread, timer or callback of a module outlived it", hex)
	case present && verb == "jumped to":
		return fmt.Sprintf("execution of data at %s: a function pointer, or a return address on the stack, was wrong", hex)
	case present && verb == "wrote to" && addr >= kernelStart:
		return fmt.Sprintf("write to read-only memory: %s wrote to %s, which is const data, code, or write-protected", who, hex)
	}
	return fmt.Sprintf("wild pointer: %s %s %s, %s", who, verb, hex, region(addr))
}

// explainProtection explains a general protection fault: mostly an address that no pointer can be.
func (s Splat) explainProtection(who function) string {
	addr, known := s.address()
	if m := s.find(kasanRE); m != nil {
		if m[1] == "null-ptr-deref" {
			return fmt.Sprintf("NULL dereference: %s followed a NULL pointer, to a byte of %s to %s", who, shortHex(m[2]), shortHex(m[3]))
		}
		addr, known = parseHex(m[2]), true // the one in the title is that of its shadow
	}
	if known {
		if meaning := poison(addr); meaning != "" {
			return fmt.Sprintf("bad pointer: %s followed %#x, which is %s", who, addr, meaning)
		}
		return fmt.Sprintf("bad pointer: %s followed %#x, which is no address at all (not canonical): overwritten or uninitialised memory", who, addr)
	}
	if register, meaning := s.poisoned(); register != "" {
		return fmt.Sprintf("bad pointer: %s followed %s, which holds %s", who, register, meaning)
	}
	return fmt.Sprintf("general protection: %s did what the processor forbids, or followed a pointer made of garbage", who)
}

// kasanRE is what a kernel with KASAN adds to a general protection fault (mm/kasan/report.c,
// kasan_non_canonical_hook): the eight bytes whose shadow the fault was at.
var kasanRE = regexp.MustCompile(`^KASAN: ([a-z -]+) in range \[0x([0-9a-f]{16})-0x([0-9a-f]{16})\]`)

func shortHex(digits string) string { return fmt.Sprintf("%#x", parseHex(digits)) }

var sleepingRE = regexp.MustCompile(`sleeping function called from invalid context at (\S+)`)

var atomicRE = regexp.MustCompile(`in_atomic\(\): (\d), irqs_disabled\(\): (\d)`)

func (s Splat) explainAtomic() string {
	if strings.Contains(s.Title, "in preemptible") {
		return fmt.Sprintf("%s asked for the number of its processor while it may be moved to another: preemption must be off", s.culprit())
	}
	why := "a spinlock held, or preemption or interrupts off"
	if m := s.find(atomicRE); m != nil {
		switch {
		case m[2] == "1":
			why = "interrupts off"
		case m[1] == "1":
			why = "a spinlock held or preemption off"
		}
	}
	if m := sleepingRE.FindStringSubmatch(s.Title); m != nil {
		return fmt.Sprintf("sleeping in atomic context: %s called something that may sleep (%s) with %s", s.culprit(), m[1], why)
	}
	return fmt.Sprintf("sleeping in atomic context: the scheduler was called in %s with %s, or in an interrupt", s.culprit(), why)
}

var (
	stuckRE    = regexp.MustCompile(`CPU#(\d+) stuck for (\d+)s! \[([^\]]+):(\d+)\]`)
	hardRE     = regexp.MustCompile(`hard LOCKUP on cpu (\d+)`)
	spinningRE = regexp.MustCompile(`^(?:RIP: 0010:| )(?:\w*queued_(?:spin|read|write)_(?:un)?lock\w*|_raw_(?:spin|read|write)_lock\w*|do_raw_spin_lock)\+`)
)

func (s Splat) explainLockup() string {
	what := "lockup: a processor"
	if m := stuckRE.FindStringSubmatch(s.Title); m != nil {
		what = fmt.Sprintf("soft lockup: processor %s, running %s (pid %s), did not reschedule for %s s", m[1], m[3], m[4], m[2])
	} else if m := hardRE.FindStringSubmatch(s.Title); m != nil {
		what = fmt.Sprintf("hard lockup: processor %s took no interrupt for seconds", m[1])
	}
	if s.find(spinningRE) != nil {
		return fmt.Sprintf("%s: %s waits for a spinlock that nobody releases", what, s.culprit())
	}
	return fmt.Sprintf("%s: a loop in %s without an end or a cond_resched()", what, s.culprit())
}

var warnAtRE = regexp.MustCompile(`^WARNING: (?:CPU: \d+ PID: \d+ at )?(\S+:\d+)`)

func (s Splat) explainWarning() string {
	where := ""
	if m := warnAtRE.FindStringSubmatch(s.Title); m != nil {
		where = " at " + m[1]
	}
	if s.Message != "" {
		message, _, _ := strings.Cut(s.Message, "\n")
		return fmt.Sprintf("WARN()%s: %s says %q, and the kernel went on", where, s.culprit(), message)
	}
	return fmt.Sprintf("WARN_ON()%s: %s found what its author held wrong, and the kernel went on", where, s.culprit())
}

// chapters are the handbook's exercises that deal with a fault, by the beginning of its explanation.
var chapters = []struct{ begins, exercise string }{
	{"NULL ", "general/crash"},
	{"list corruption", "general/list"},
	{"bad pointer: ", "general/crash"},
	{"wild pointer: ", "general/crash"},
	{"error pointer: ", "general/crash"},
	{"BUG() ", "general/crash"},
	{"soft lockup: ", "process/lockit"},
	{"unloaded code: ", "process/kthread"},
	{"RCU stall: ", "process/kthread_cpu"},
}

// Chapter is the exercise of the handbook that deals with this kind of fault, such as "general/crash";
// empty if none does.
func (s Splat) Chapter() string {
	text := s.Explain()
	for _, c := range chapters {
		if strings.HasPrefix(text, c.begins) {
			return c.exercise
		}
	}
	return ""
}
