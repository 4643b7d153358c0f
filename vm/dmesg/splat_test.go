package dmesg

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the headers of testdata/*/*.txt")

// A golden file is a header of "key: value" lines, an empty line, and a log: console text, or records of
// /dev/kmsg. tainted, panicked and panic-known are the evidence; state, splat and reason are what Judge must say.
func splitGolden(t testing.TB, name string) (head, log string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(string(data), "\n") {
		return "", string(data[1:])
	}
	head, log, ok := strings.Cut(string(data), "\n\n")
	if !ok {
		t.Fatalf("%s: no empty line after the header", name)
	}
	return head, log
}

func body(t testing.TB, name string) string {
	t.Helper()
	_, log := splitGolden(t, name)
	return log
}

var kmsgRE = regexp.MustCompile(`(?m)\A\d+,\d+,\d+,`)

func parseLog(t testing.TB, log string) []Record {
	t.Helper()
	if !kmsgRE.MatchString(log) {
		recs, err := ParseConsole(strings.NewReader(log))
		if err != nil {
			t.Fatal(err)
		}
		return recs
	}
	return parseKmsgDump(t, log)
}

// parseKmsgDump parses records as cat /dev/kmsg prints them.
func parseKmsgDump(t testing.TB, log string) []Record {
	t.Helper()
	var recs []Record
	for one := range strings.SplitSeq(strings.ReplaceAll(log, "\n ", "\x00 "), "\n") {
		if one == "" {
			continue
		}
		r, err := ParseKmsg(strings.ReplaceAll(one, "\x00 ", "\n "))
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, r)
	}
	return recs
}

func TestJudgeGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d golden files, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(name, "testdata/"), ".txt"), func(t *testing.T) {
			head, log := splitGolden(t, name)
			recs := parseLog(t, log)
			checkVerdict(t, recs)
			given, ev := evidenceOf(t, head)
			want := given + describe(Judge(recs, ev))
			if *update {
				if err := os.WriteFile(name, []byte(want+"\n"+log), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if head+"\n" != want {
				t.Errorf("Judge says\n%swant\n%s", want, head)
			}
			if dir := filepath.Base(filepath.Dir(name)); dir == "clean" && !strings.Contains(want, "state: clean\n") ||
				dir == "suspicious" && !strings.Contains(want, "state: suspicious\n") {
				t.Errorf("%s: not %s", name, dir)
			}
		})
	}
}

// evidenceOf reads the evidence of a header, and returns those lines of it.
func evidenceOf(t *testing.T, head string) (string, Evidence) {
	t.Helper()
	var ev Evidence
	var lines string
	for line := range strings.SplitSeq(head, "\n") {
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "tainted":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			ev.Tainted, ev.TaintKnown = n, true
		case "panicked":
			ev.Panicked = value == "true"
		case "panic-known":
			ev.PanicKnown = value == "true"
		default:
			continue
		}
		lines += line + "\n"
	}
	return lines, ev
}

func describe(v Verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "state: %s\n", v.State)
	for _, f := range v.Findings {
		fmt.Fprintf(&b, "splat: %s caller=%s records=%d credible=%t rip=%q message=%q title=%q\n",
			f.Kind, f.Caller, len(f.Records), f.Credible, f.RIP, f.Message, f.Title)
		fmt.Fprintf(&b, "means: %s [%s]\n", f.Explain(), f.Chapter())
	}
	for _, r := range v.Reasons {
		fmt.Fprintf(&b, "reason: %s\n", r)
	}
	return b.String()
}

// TestKindOf has the titles as the kernel's sources print them, and near misses.
func TestKindOf(t *testing.T) {
	for _, test := range []struct {
		kind Kind
		text string
	}{
		{KindPanic, "Kernel panic - not syncing: VFS: Unable to mount root fs"},
		{KindOops, "BUG: kernel NULL pointer dereference, address: 0000000000000000"},
		{KindOops, "BUG: unable to handle page fault for address: ffffc90000000000"},
		{KindOops, "BUG: unable to handle kernel paging request at ffffc90000000000"},
		{KindOops, "BUG: TASK stack guard page was hit at 0000000051b2e7f4 (stack is 000000005ae8fb14..00000000b8fcbf7a)"},
		{KindOops, "BUG: stack guard page was hit at 0000000051b2e7f4"},
		{KindOops, "traps: PANIC: double fault, error_code: 0x0"},
		{KindOops, "general protection fault, probably for non-canonical address 0xdead000000000000: 0000 [#1] SMP"},
		{KindOops, "divide error: 0000 [#1] SMP PTI"},
		{KindOops, "invalid opcode: 0000 [#3] PREEMPT SMP KASAN"},
		{KindOops, "Oops: 0002 [#1] SMP"},
		{KindOops, "Oops: general protection fault, 0000 [#1] SMP: 0000 [#1]"},
		{KindOops, "kernel tried to execute NX-protected page - exploit attempt? (uid: 0)"},
		{KindBug, "kernel BUG at mm/slub.c:4321!"},
		{KindWarning, "WARNING: CPU: 0 PID: 61 at kernel/foo.c:12 foo+0x1/0x2"},
		{KindWarning, "WARNING: kernel/foo.c:12 at foo+0x1/0x2, CPU#0: insmod/61"},
		{KindSoftLockup, "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:60]"},
		{KindHardLockup, "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"},
		{KindHardLockup, "watchdog: Watchdog detected hard LOCKUP on cpu 1"},
		{KindHardLockup, "watchdog: CPU4: Watchdog detected hard LOCKUP on cpu 4"},
		{KindLockdep, "[ BUG: Invalid wait context ]"},
		{KindRCUStall, "rcu: INFO: rcu_sched self-detected stall on CPU"},
		{KindRCUStall, "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"},
		{KindRCUStall, "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: {"},
		{KindHungTask, "INFO: task kworker/0:1:17 blocked for more than 120 seconds."},
		{KindKASAN, "BUG: KASAN: slab-out-of-bounds in kmalloc_oob_right+0xa8/0xbc [test_kasan]"},
		{KindKFENCE, "BUG: KFENCE: out-of-bounds read in test_out_of_bounds_read+0xa6/0x234"},
		{KindKMSAN, "BUG: KMSAN: uninit-value in test_uninit_kmsan_check_memory+0x1be/0x380"},
		{KindKCSAN, "BUG: KCSAN: data-race in test_kernel_read / test_kernel_write"},
		{KindUBSAN, "UBSAN: shift-out-of-bounds in lib/foo.c:12:34"},
		{KindKmemleak, "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"},
		{KindLockdep, "WARNING: possible circular locking dependency detected"},
		{KindLockdep, "WARNING: possible recursive locking detected"},
		{KindLockdep, "INFO: possible recursive locking detected"},
		{KindLockdep, "WARNING: inconsistent lock state"},
		{KindLockdep, "WARNING: suspicious RCU usage"},
		{KindLockdep, "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"},
		{KindLockdep, "WARNING: bad unlock balance detected!"},
		{KindLockdep, "WARNING: insmod/61 still has locks held!"},
		{KindLockdep, "WARNING: lock held when returning to user space!"},
		{KindLockdep, "INFO: trying to register non-static key."},
		{KindAtomicSleep, "BUG: sleeping function called from invalid context at mm/slab.h:494"},
		{KindAtomicSleep, "BUG: scheduling while atomic: insmod/61/0x00000002"},
		{KindAtomicSleep, "BUG: using smp_processor_id() in preemptible [00000000] code: insmod/61"},
		{KindSpinlock, "BUG: spinlock bad magic on CPU#0, insmod/61"},
		{KindSpinlock, "BUG: rwlock recursion on CPU#0, insmod/61, 00000000abcdef01"},
		{KindList, "list_add corruption. prev->next should be next (ffff888000000000), but was 0000000000000000."},
		{KindList, "list_del corruption, ffff888000000000->next is LIST_POISON1 (dead000000000100)"},
		{KindList, "list_add double add: new=ffff888000000000, prev=ffff888000000000, next=ffff888000000000."},
		{KindRefcount, "refcount_t: underflow; use-after-free."},
		{KindWorkqueue, "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 37s!"},
		{KindBadPage, "BUG: Bad page state in process insmod  pfn:00009"},
		{KindBadPage, "BUG: Bad rss-counter state mm:00000000abcdef01 type:MM_ANONPAGES val:1"},
		{KindSlab, "BUG kmalloc-64 (Tainted: G    B      O      ): Object already free"},
		{KindNetdevice, "unregister_netdevice: waiting for lo to become free. Usage count = 2"},
		{KindBug, "BUG: workqueue leaked lock or atomic: kworker/0:1/0x00000001/17"},
		// No reports.
		{"", "hello: BUG: kernel NULL pointer dereference, address: 0000000000000000"},
		{"", "hello: Kernel panic - not syncing: no"},
		{"", " BUG: indented"},
		{"", "DEBUG: x"},
		{"", "DEBUG_LOCKS_WARN_ON(1)"},
		{"", "ODEBUG: 12 of 12 active objects replaced"},
		{"", "EDAC DEBUG: x"},
		{"", "BUGS: none"},
		{"", "Command line: console=ttyS0 panic=-1 oops=panic softlockup_panic=1"},
		{"", "drm panic: enabled"},
		{"", "Kernel panic is not what this is"},
		{"", "WARNING: this module is old"},
		{"", "INFO: lockdep is turned off."},
		{"", "INFO: task list follows"},
		{"", "UBSAN: enabled"},
		{"", "list_add of 3 items"},
		{"", "list_add double"},
		{"", "WARNING: lock held for 3 s"},
		{"", "ODEBUG: free active (active state 0) object type: timer_list hint: f+0x0/0x10"},
		{"", "kmemleak: Automatic memory scanning thread started"},
		{"", "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar"},
		{"", "traps: a.out[61] general protection fault ip:401136 sp:7ffd error:0 in a.out[401000+1000]"},
		{"", "a.out[61]: segfault at 0 ip 0000000000401136 sp 00007ffd error 6 in a.out"},
		{"", "rcu: Hierarchical RCU implementation."},
		{"", "watchdog: Disabling watchdog on nohz_full cores by default"},
		{"", "kmemleak: Kernel memory leak detector initialized"},
		{"", ""},
	} {
		var got Kind
		if info := kindOf(test.text); info != nil {
			got = info.kind
		}
		if got != test.kind {
			t.Errorf("kindOf(%q) = %q, want %q", test.text, got, test.kind)
		}
	}
}

// log makes records of "caller text" lines, a millisecond apart, all from the kernel at one level.
func log(level int, lines ...string) []Record {
	var recs []Record
	for i, line := range lines {
		caller, text, _ := strings.Cut(line, " ")
		recs = append(recs, Record{Seq: uint64(i), HasSeq: true, Time: time.Duration(i+1) * time.Millisecond, Level: level, Caller: caller, Text: text, Source: SourceKmsg})
	}
	return recs
}

func TestSplatsOfTwoCallersInterleaved(t *testing.T) {
	oops := parseLog(t, body(t, "testdata/splats/null-pointer.txt"))
	warn := parseLog(t, body(t, "testdata/splats/warn-message.txt"))
	var mixed []Record
	for i := range max(len(oops), len(warn)) {
		if i < len(oops) {
			r := oops[i]
			r.Caller = "T90"
			mixed = append(mixed, r)
		}
		if i < len(warn) {
			r := warn[i]
			r.Caller = "T91"
			r.Time = mixed[len(mixed)-1].Time
			mixed = append(mixed, r)
		}
	}
	splats := Splats(mixed)
	if len(splats) != 2 {
		t.Fatalf("%d splats, want 2", len(splats))
	}
	for i, want := range []struct {
		kind   Kind
		caller string
		n      int
	}{{KindOops, "T90", 53}, {KindWarning, "T91", 39}} {
		if s := splats[i]; s.Kind != want.kind || s.Caller != want.caller || len(s.Records) != want.n {
			t.Errorf("splat %d = %s by %s of %d records, want %+v", i, s.Kind, s.Caller, len(s.Records), want)
		}
	}
}

func TestSplatsGroup(t *testing.T) {
	rule := strings.Repeat("=", 66)
	for _, test := range []struct {
		name string
		recs []Record
		want string // kind and indices
	}{
		{"sanitizer to its closing line", log(3,
			"T1 before", "T1 "+rule, "T1 BUG: KASAN: use-after-free in f+0x1/0x2 [m]", "T1 Write of size 4 at addr ffff by task insmod/1",
			"T1 ", "T1 CPU: 0 PID: 1 Comm: insmod", "T1 Call Trace:", "T1  <TASK>", "T1  f+0x1/0x2 [m]", "T1  </TASK>", "T1 ",
			"T1 Allocated by task 1:", "T1  kmalloc+0x1/0x2", "T1 ", "T1 The buggy address belongs to the object at ffff",
			"T1 Memory state around the buggy address:", "T1 "+rule, "T1 Disabling lock debugging due to kernel taint"), "kasan 1-16"},
		{"lockdep's prose", log(4,
			"T1 ", "T1 "+rule, "T1 WARNING: possible recursive locking detected", "T1 6.1.8 #1 Tainted: G O", "T1 -----",
			"T1 insmod/1 is trying to acquire lock:", "C0 tick", "T1 other info that might help us debug this:",
			"T1  *** DEADLOCK ***", "T1 stack backtrace:", "T1 CPU: 0 PID: 1", "T1 Call Trace:", "T1  <TASK>", "T1  </TASK>", "T1 m: loaded"), "lockdep 1-5,7-13"},
		{"list corruption and the BUG after it", log(3,
			"T1 list_add corruption. next is NULL.", "T1 ------------[ cut here ]------------", "T1 kernel BUG at lib/list_debug.c:22!",
			"T1 invalid opcode: 0000 [#1] SMP", "T1 RIP: 0010:f+0x1/0x2", "T1 Call Trace:", "T1  g", "T1 ---[ end trace 0 ]---", "T1 m: y"), "list-corruption 0-7"},
		{"a BUG, and before its registers what all processors do", log(2,
			"T1 kernel BUG at m.c:1!", "T1 NMI backtrace for cpu 0", "T1 CPU: 0 PID: 1 Comm: insmod", "T1 Call Trace:", "T1  dump_stack+0x1/0x2",
			"T1  </TASK>", "T1 Sending NMI from CPU 0 to CPUs 1:", "T0 NMI backtrace for cpu 1", "T0 Call Trace:", "T1 invalid opcode: 0000 [#1] SMP",
			"T1 RIP: 0010:f+0x1/0x2", "T1 Call Trace:", "T1  g", "T1 ---[ end trace 0 ]---"), "bug 0,9-13"},
		{"a false title does not hide a true one", log(1,
			"T1 BUG: my own words", "T1 and more words", "T1 BUG: kernel NULL pointer dereference, address: 0", "T1 #PF: supervisor write",
			"T1 Oops: 0002 [#1] SMP", "T1 Call Trace:", "T1  f", "T1 ---[ end trace 0 ]---"), "bug 0|oops 2-7"},
		{"text alone takes nothing after it", log(3, "T1 BUG: sleeping function called from invalid context at x", "T1 m: one", "T1 m: two"), "atomic-sleep 0"},
		{"one after the other", log(4,
			"T1 ------------[ cut here ]------------", "T1 WARNING: CPU: 0 PID: 1 at a.c:1 f", "T1 Call Trace:", "T1  f", "T1 ---[ end trace 0 ]---",
			"T1 ------------[ cut here ]------------", "T1 WARNING: CPU: 0 PID: 1 at a.c:2 f", "T1 Call Trace:", "T1  f", "T1 ---[ end trace 0 ]---"),
			"warning 0-4|warning 5-9"},
		{"no callers, a stranger within", log(4,
			" ------------[ cut here ]------------", " WARNING: CPU: 0 PID: 1 at a.c:1 f", " Call Trace:", "  f", " eth0: link is up",
			"  g", " ---[ end trace 0 ]---", " m: after"), "warning 0-3,5-6"},
		{"no cut here of long ago", log(4, "T1 ------------[ cut here ]------------", "T2 x", "T2 WARNING: CPU: 0 PID: 1 at a.c:1 f"), "warning 2"},
	} {
		var got []string
		for _, s := range Splats(test.recs) {
			got = append(got, string(s.Kind)+" "+ranges(s.Records))
		}
		if s := strings.Join(got, "|"); s != test.want {
			t.Errorf("%s: Splats = %s, want %s", test.name, s, test.want)
		}
	}
}

// ranges writes the sequence numbers of records, "1-5,7".
func ranges(recs []Record) string {
	var parts []string
	for i := 0; i < len(recs); {
		j := i
		for j+1 < len(recs) && recs[j+1].Seq == recs[j].Seq+1 {
			j++
		}
		part := fmt.Sprint(recs[i].Seq)
		if j > i {
			part += fmt.Sprintf("-%d", recs[j].Seq)
		}
		parts, i = append(parts, part), j+1
	}
	return strings.Join(parts, ",")
}

func TestJudgeEvidence(t *testing.T) {
	null := func(level, facility int) []Record {
		r := Record{HasSeq: true, Time: 1e9, Level: level, Facility: facility, Caller: "T1", Text: "BUG: kernel NULL pointer dereference, address: 0"}
		return []Record{r}
	}
	console := Record{Time: 2e9, Level: Unknown, Facility: Unknown, Text: "BUG: kernel NULL pointer dereference, address: 0"}
	whole := []Record{{Seq: 7, HasSeq: true, Time: 1e9, Text: "a"}, console, {Seq: 8, HasSeq: true, Time: 3e9, Text: "b"}}
	gap := []Record{{Seq: 7, HasSeq: true, Time: 1e9, Text: "a"}, console, {Seq: 9, HasSeq: true, Time: 3e9, Text: "b"}}
	for _, test := range []struct {
		name string
		recs []Record
		ev   Evidence
		want State
		why  string
	}{
		{"nothing", nil, Evidence{TaintKnown: true, PanicKnown: true, Tainted: 1 << 12}, Clean, ""},
		{"text and taint", null(1, 0), Evidence{TaintKnown: true, Tainted: TaintDie}, Oopsed, "taint D is set"},
		{"text without taint", null(1, 0), Evidence{TaintKnown: true}, Suspicious, "taint D is not set"},
		{"text at the wrong level", null(6, 0), Evidence{}, Suspicious, "at level info"},
		{"text by a program", null(1, 1), Evidence{}, Suspicious, "/dev/kmsg"},
		{"text alone", null(1, 0), Evidence{}, Suspicious, "no stack trace"},
		{"on the console where the log is whole", whole, Evidence{TaintKnown: true, Tainted: TaintDie}, Oopsed, "no report of it"},
		{"on the console where the log has a gap", gap, Evidence{TaintKnown: true, Tainted: TaintDie}, Oopsed, "taint D is set)"},
		{"a panic without text", nil, Evidence{Panicked: true}, Panicked, "the log has none"},
		{"a warning without text", nil, Evidence{TaintKnown: true, Tainted: TaintWarn}, Warned, "taint W"},
		{"a soft lockup without text", nil, Evidence{TaintKnown: true, Tainted: TaintSoftLockup}, Warned, "taint L"},
		{"an oops without text, and its WARN", nil, Evidence{TaintKnown: true, Tainted: TaintDie | TaintWarn}, Oopsed, "taint D"},
	} {
		v := Judge(test.recs, test.ev)
		if reasons := strings.Join(v.Reasons, "; "); v.State != test.want || !strings.Contains(reasons, test.why) {
			t.Errorf("%s: Judge = %v (%s), want %v (%s)", test.name, v.State, reasons, test.want, test.why)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	boot, oops := body(b, "testdata/clean/boot-console.txt"), body(b, "testdata/splats/null-pointer-alone.txt")
	text := strings.Repeat(boot, 50) + oops
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		recs := parseLog(b, text)
		if v := Judge(recs, Evidence{}); v.State != Oopsed {
			b.Fatal(v.State)
		}
	}
}
