package dmesg

import "regexp"

// Kind is a sort of splat.
type Kind string

// The kinds of splats.
const (
	KindPanic        Kind = "panic"
	KindOops         Kind = "oops" // a fault in the kernel: the running thread was killed
	KindBug          Kind = "bug"  // "kernel BUG at", "BUG: ..." that has no kind of its own
	KindWarning      Kind = "warning"
	KindSoftLockup   Kind = "soft-lockup"
	KindHardLockup   Kind = "hard-lockup"
	KindWorkqueue    Kind = "workqueue-lockup"
	KindRCUStall     Kind = "rcu-stall"
	KindHungTask     Kind = "hung-task"
	KindKASAN        Kind = "kasan"
	KindKFENCE       Kind = "kfence"
	KindKMSAN        Kind = "kmsan"
	KindKCSAN        Kind = "kcsan"
	KindUBSAN        Kind = "ubsan"
	KindKmemleak     Kind = "kmemleak"
	KindLockdep      Kind = "lockdep"
	KindAtomicSleep  Kind = "atomic-sleep"
	KindSpinlock     Kind = "spinlock"
	KindList         Kind = "list-corruption"
	KindRefcount     Kind = "refcount"
	KindBadPage      Kind = "bad-page"
	KindSlab         Kind = "slab"
	KindNetdevice    Kind = "netdevice"
	taintFirmware         = 1 << 11
	taintWarnOrDie        = TaintWarn | TaintDie
	taintWarnOrOther      = TaintWarn | taintFirmware
)

// kindInfo says how the kernel reports a kind, from its sources (6.1).
type kindInfo struct {
	kind   Kind
	state  State          // what it makes of a boot
	header *regexp.Regexp // matches the record it begins with, from its start
	level  int            // the least urgent level the kernel prints the header with
	taint  uint64         // the kernel sets one of these; 0: no taint bit is told by it
	proof  *regexp.Regexp // matches a line that always follows, mostly that of a stack trace
	closed bool           // ends with a line of "=" or "---[ end"
}

// The default level of printk is CONFIG_MESSAGE_LOGLEVEL_DEFAULT, 4.
const levelEmerg, levelAlert, levelCrit, levelErr, levelWarn, levelInfo = 0, 1, 2, 3, 4, 6

func header(expr string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + expr + `)`) }

// dieExpr matches the line every oops has, printed by __die_header.
const dieExpr = `\S.*: [0-9a-f]{4} \[#\d+\]`

// nxHeader comes before the title of an oops by executing data.
var nxHeader = header(`kernel tried to execute NX-protected page|unable to execute userspace code`)

// Lines that follow a title.
var (
	traceRE   = regexp.MustCompile(`^Call Trace:`)
	leavingRE = regexp.MustCompile(`^\S+/\d+ is leaving the kernel with locks still held!`)
)

// kinds is searched in order: particular ones before "BUG: ".
var kinds = []kindInfo{
	{KindPanic, Panicked, header(`Kernel panic - not syncing`), levelEmerg, 0, nil, false},
	{KindOops, Oopsed, header(`BUG: kernel NULL pointer dereference|BUG: unable to handle (?:page fault|kernel )`), levelAlert, TaintDie, traceRE, false},
	{KindOops, Oopsed, header(`BUG: (?:\S+ )?stack guard page was hit|(?:traps: )?PANIC: double fault`), levelEmerg, TaintDie, traceRE, false},
	{KindBug, Oopsed, header(`[kK]ernel BUG at \S`), levelCrit, TaintDie, traceRE, false},
	{KindOops, Oopsed, nxHeader, levelCrit, TaintDie, traceRE, false},
	// "Oops: 0002 [#1] SMP", "general protection fault: 0000 [#1]", "invalid opcode: ...", "divide error: ...".
	{KindOops, Oopsed, header(dieExpr), levelWarn, TaintDie, traceRE, false},
	{KindKASAN, Warned, header(`BUG: KASAN: `), levelErr, TaintBadPage, traceRE, true},
	{KindKFENCE, Warned, header(`BUG: KFENCE: `), levelErr, TaintBadPage, traceRE, true},
	{KindKMSAN, Warned, header(`BUG: KMSAN: `), levelErr, TaintBadPage, traceRE, true},
	{KindKCSAN, Warned, header(`BUG: KCSAN: `), levelErr, 0, traceRE, true},
	{KindUBSAN, Warned, header(`UBSAN: \S[^\n]* in \S+:\d+`), levelErr, 0, traceRE, true},
	{KindRefcount, Warned, header(`refcount_t: `), levelWarn, TaintWarn, traceRE, false},
	{KindList, Warned, header(`list_(?:add|del) corruption|list_add double add: `), levelWarn, taintWarnOrDie, traceRE, false},
	{KindLockdep, Warned, header(`(?:WARNING|INFO): (?:possible \S|inconsistent lock state|bad unlock balance|` +
		`bad contention|held lock freed|suspicious RCU usage|Nested lock was not taken|` +
		`\S+ lock order detected|chain_key collision|\S+/\d+ still has locks held|trying to register non-static key)|\[ BUG: Invalid wait context \]`), levelWarn, 0, traceRE, false},
	{KindLockdep, Warned, header(`WARNING: lock held when returning to user space!`), levelWarn, 0, leavingRE, false},
	{KindLockdep, Warned, header(`WARNING: \S+-safe -> \S+-unsafe lock order`), levelWarn, 0, traceRE, false},
	{KindWarning, Warned, header(`WARNING: (?:CPU: \d+ PID: \d+ at \S|[\w./-]+:\d+ at )`), levelWarn, taintWarnOrOther, traceRE, false},
	{KindSoftLockup, Warned, header(`(?:watchdog: )?BUG: soft lockup - CPU#\d+ stuck for `), levelEmerg, TaintSoftLockup, traceRE, false},
	{KindHardLockup, Warned, header(`(?:NMI watchdog: |watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP on cpu `), levelEmerg, 0, traceRE, false},
	{KindWorkqueue, Warned, header(`BUG: workqueue lockup - pool`), levelEmerg, 0, nil, false},
	{KindRCUStall, Warned, header(`(?:rcu: )?INFO: rcu_\w+ (?:self-detected stall on CPU|detected (?:expedited )?stalls on CPUs/tasks)`), levelErr, 0, traceRE, false},
	{KindHungTask, Warned, header(`INFO: task \S[^\n]*:\d+ blocked (?:in I/O wait )?for more than \d+ seconds`), levelErr, 0, traceRE, false},
	{KindAtomicSleep, Warned, header(`BUG: (?:sleeping function called from invalid context|scheduling while atomic: |` +
		`scheduling in a non-blocking section|assuming atomic context|assuming non migratable context)`), levelErr, TaintWarn, traceRE, false},
	{KindAtomicSleep, Warned, header(`BUG: using \w+\(\) in preemptible`), levelErr, 0, traceRE, false},
	{KindSpinlock, Warned, header(`BUG: (?:spinlock|rwlock) \S`), levelEmerg, 0, traceRE, false},
	{KindBadPage, Warned, header(`BUG: Bad page (?:state|map|cache) in process `), levelAlert, TaintBadPage, traceRE, false},
	{KindBadPage, Warned, header(`BUG: (?:Bad rss-counter state|non-zero pgtables_bytes) `), levelAlert, 0, nil, false},
	{KindSlab, Warned, header(`BUG \S+ \([^\n]*\): `), levelErr, TaintBadPage, traceRE, false},
	{KindKmemleak, Warned, header(`kmemleak: \d+ new suspected memory leaks`), levelInfo, 0, nil, false},
	{KindNetdevice, Warned, header(`unregister_netdevice: waiting for \S+ to become free`), levelEmerg, 0, nil, false},
	{KindBug, Warned, header(`BUG: \S`), levelWarn, 0, traceRE, false},
}

// kindOf returns the kind whose report begins with this text, or nil.
func kindOf(text string) *kindInfo {
	for i := range kinds {
		if kinds[i].header.MatchString(text) {
			return &kinds[i]
		}
	}
	return nil
}
