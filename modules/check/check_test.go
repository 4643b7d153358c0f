package check

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// A case is a script and the fault it must end with; none means it must pass.
type scriptCase struct {
	name, script string
	fault        string    // part of Fault.String()
	kind         FaultKind // default FaultStep
	verdict      Verdict   // default: what the kind says
	setup        func(*fakeGuest)
}

func runCases(t *testing.T, cases []scriptCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newFake()
			if c.setup != nil {
				c.setup(g)
			}
			res := runText(t, g, c.script)
			if c.fault == "" {
				if !res.Passed() || res.Verdict != VerdictPass {
					t.Fatalf("got %s (%s): %s\n%s", res.Status, res.Verdict, res.Reason, logs(res))
				}
				return
			}
			checkFault(t, res, c)
		})
	}
}

func checkFault(t *testing.T, res *Result, c scriptCase) {
	t.Helper()
	if res.Status != Fail {
		t.Fatalf("got %s, want a failure that says %q\n%s", res.Status, c.fault, logs(res))
	}
	var fault *Fault
	for _, check := range res.Checks {
		if check.Fault != nil {
			fault = check.Fault
		}
	}
	if fault == nil {
		t.Fatalf("failed without a fault: %s", res.Reason)
	}
	all := fault.String() + "\n" + fault.Expected + "\n" + fault.Seen
	if !strings.Contains(all, c.fault) {
		t.Errorf("fault %q\nhas no %q", all, c.fault)
	}
	kind, verdict := c.kind, c.verdict
	if kind == "" {
		kind = FaultStep
	}
	if fault.Kind != kind {
		t.Errorf("kind %s, want %s: %s", fault.Kind, kind, fault)
	}
	if verdict == "" {
		verdict = map[FaultKind]Verdict{FaultTimeout: VerdictTimeout, FaultSplat: VerdictSplat, FaultTaint: VerdictSplat}[kind]
	}
	if verdict == "" {
		verdict = VerdictFail
	}
	if res.Verdict != verdict {
		t.Errorf("verdict %s, want %s", res.Verdict, verdict)
	}
}

func logs(res *Result) string {
	var b strings.Builder
	for _, c := range res.Checks {
		b.WriteString(string(c.Status) + " " + c.Name + "\n" + c.Log + "\n")
	}
	return b.String()
}

func TestModuleCommands(t *testing.T) {
	runCases(t, []scriptCase{
		{name: "load and unload", script: "# Greets.\ninsmod hello\ndmesg '^hello: Hello, world$'\n! dmesg Goodbye\n# Leaves.\nrmmod hello\ndmesg '^hello: Goodbye'\n! dmesg 'Hello, '\ndmesg -all 'Hello, '\n"},
		{name: "parameters", script: "insmod hello who=me\ndmesg '^hello: who=(?P<who>\\w+)$'\ncheck $who == me\n"},
		{name: "modprobe", script: "modprobe hello\ndmesg Hello\n"},
		{name: "refused", script: "! insmod refuse\nstderr '^ESRCH: no such process$'\n"},
		{name: "refused with ?", script: "? insmod refuse\nstderr ESRCH\n"},
		{name: "killed", script: "#: hygiene off it crashed\n! insmod oopser\nstderr '^killed by SIGKILL$'\noops NULL\n"},
		{name: "loader", script: "insmod hello\ncheck $LOADER > 100\n"},
		{name: "loader of a module that refused", script: "insmod hello\nset good $LOADER\n! insmod refuse\ncheck $LOADER > $good\n"},
		{name: "twice", script: "insmod hello\n! insmod hello\nstderr EEXIST\n"},
		{name: "not loaded", script: "! rmmod hello\nstderr ENOENT\n"},

		{name: "refusal is not wanted", script: "insmod refuse\n", fault: "case.txt:1: insmod refuse: ESRCH: no such process"},
		{name: "refusal is missing", script: "\n! insmod hello\n", fault: "case.txt:2: insmod hello: succeeded, which the ! says it must not"},
		{name: "wrong errno", script: "! insmod refuse\nstderr EINVAL\n", fault: "a match of EINVAL in stderr"},
		{name: "unload is refused", script: "rmmod hello\n", fault: "rmmod hello: ENOENT"},
		{name: "never returns", script: "insmod slow\n", fault: "no answer from the guest in 400ms, waiting for: load slow", kind: FaultTimeout},
		{name: "never returns, under !", script: "! insmod slow\n", fault: "load slow", kind: FaultTimeout},
		{name: "never returns, under ?", script: "? insmod slow\n", fault: "load slow", kind: FaultTimeout},
	})
}

func TestUnknownModuleFailsUnderBang(t *testing.T) {
	only := func(o *Options) { o.Modules = []string{"hello"} }
	res := runText(t, newFake(), "! insmod helo\n", only)
	checkFault(t, res, scriptCase{fault: "no module helo here: there is hello"})
	if res := runText(t, newFake(), "insmod hello\n", only); !res.Passed() {
		t.Errorf("insmod of a known module: %s", res.Reason)
	}
}

func TestLogCommands(t *testing.T) {
	later := func(g *fakeGuest) {
		g.modules["later"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
			go func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.say("later: 3 sqrt 1")
				g.say("later: 9 sqrt 3")
			}()
			return nil
		}}
	}
	runCases(t, []scriptCase{
		{name: "waits", setup: later, script: "insmod later\ndmesg '9 sqrt (?P<r>\\d+)'\ncheck $r == 3\ndmesg -list '^later: (?P<n>\\d+) sqrt (?P<q>\\d+)$'\ncheck isqrt($n) == $q\ncheck $n == 3,9\n"},
		{name: "count", script: "insmod hello\ndmesg -count 1 hello\ndmesg -count 0 taints\n! dmesg -count 2 hello\n"},
		{name: "prints", script: "insmod hello a=1\ndmesg\nstdout '(?s)\\Ahello: Hello, world\\nhello: a=1\\n\\z'\n"},
		{name: "lost marks are written again", setup: func(g *fakeGuest) { g.swallow = 1 }, script: "insmod hello\ndmesg Hello\n"},
		{name: "taint is allowed", setup: taints(1), script: "tainted F\ninsmod tainter\n"},

		{name: "wrong root", setup: later, script: "insmod later\ndmesg '9 sqrt (?P<r>\\d+)'\ncheck $r == 4\n", fault: "want == 4, got 3"},
		{name: "no record", script: "insmod hello\ndmesg '^Hello'\n", fault: "1 record:\nhello: Hello, world"},
		{name: "an earlier section's record", script: "# A.\ninsmod hello\n# B.\ndmesg Hello\n", fault: "0 records"},
		{name: "a record too much", script: "insmod hello\n! dmesg Hello\n", fault: "dmesg Hello: succeeded"},
		{name: "wrong count", script: "insmod hello\ndmesg -count 2 Hello\n", fault: "2 records that match Hello"},
		{name: "nothing to list", script: "dmesg -list '(?P<x>zzz)'\n", fault: "a record that matches"},
		{name: "taint", setup: taints(1), script: "insmod tainter\n", fault: "the kernel is tainted: F (module was force loaded)", kind: FaultTaint},
		{name: "the wrong taint is allowed", setup: taints(1), script: "tainted C\ninsmod tainter\n", fault: "F (", kind: FaultTaint},
	})
}

func taints(bit int) func(*fakeGuest) {
	return func(g *fakeGuest) {
		g.modules["tainter"] = fakeModule{init: func(g *fakeGuest, _ []string) error { g.taint |= 1 << bit; return nil }}
	}
}

func TestSplats(t *testing.T) {
	warner := func(g *fakeGuest) {
		g.modules["warner"] = fakeModule{init: func(g *fakeGuest, _ []string) error { g.warn(); return nil }}
		g.modules["late"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
			go func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.oops("late+0x1/0x2 [late]")
			}()
			return nil
		}}
	}
	runCases(t, []scriptCase{
		{name: "oops is expected", script: "#: hygiene off it crashed\n! insmod oopser\noops 'NULL pointer dereference, address: 0000'\noops 'crash_init\\+0x'\n"},
		{name: "oops comes later", setup: warner, script: "#: hygiene off it crashed\ninsmod late\noops 'late\\+0x'\n"},
		{name: "warning is expected", setup: warner, script: "insmod warner\nsplat warn x_init\n! oops .\n! splat lockdep .\n"},
		{name: "its taint comes late", setup: func(g *fakeGuest) {
			g.modules["tardy"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
				g.warn()
				g.taint &^= dmesg.TaintWarn
				time.AfterFunc(30*time.Millisecond, func() {
					g.mu.Lock()
					defer g.mu.Unlock()
					g.taint |= dmesg.TaintWarn
				})
				return nil
			}}
		}, script: "#: hygiene off once\ninsmod tardy\nsplat warn x_init\n"},
		{name: "by its own name", setup: warner, script: "insmod warner\nsplat warning x_init\n"},
		{name: "lies harm nobody", script: "insmod liar\ndmesg 'gotcha'\n! oops .\n! splat panic .\n"},

		{name: "oops", script: "! insmod oopser\n", fault: "the kernel complained: BUG: kernel NULL pointer", kind: FaultSplat},
		{name: "warning", setup: warner, script: "# A.\ninsmod warner\n# B.\nrmmod warner\n", fault: "WARNING: CPU: 0", kind: FaultSplat},
		{name: "wrong text", script: "! insmod oopser\noops 'general protection'\n", fault: "oops: BUG: kernel NULL pointer", verdict: VerdictSplat},
		{name: "wrong kind", setup: warner, script: "insmod warner\nsplat lockdep x_init\n", fault: "warning: WARNING: CPU: 0", verdict: VerdictSplat},
		{name: "a lie is not an oops", script: "insmod liar\noops NULL\n", fault: "which is no real one"},
		{name: "no oops", script: "insmod hello\noops .\n", fault: "no report of the kernel"},
		{name: "claimed in vain", script: "! insmod oopser\n! oops NULL\n", fault: "oops NULL: succeeded"},
		{name: "after the step failed", script: "insmod oopser\n", fault: "killed by SIGKILL", verdict: VerdictSplat},
	})
}

func TestSplatInLaterSectionIsBlamedOnce(t *testing.T) {
	res := runText(t, newFake(), "# A.\n! insmod oopser\n# B.\ninsmod hello\n")
	if len(res.Checks) != 2 || res.Checks[0].Status != Fail || res.Checks[1].Status != Skip {
		t.Fatalf("checks: %s", logs(res))
	}
	if len(res.Splats) != 1 || res.Splats[0].Claimed || !res.Splats[0].Credible || res.Splats[0].Check != "A." {
		t.Errorf("splats: %+v", res.Splats)
	}
	if got := res.Window(res.Checks[0]); len(got) < 6 || got[0].Text[:3] != "BUG" {
		t.Errorf("window of A.: %v", got)
	}
}

func TestEnd(t *testing.T) {
	leaver := func(reason EndReason) func(*fakeGuest) {
		return func(g *fakeGuest) {
			g.modules["leaver"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
				g.ends(End{Reason: reason})
				return errors.New("broken pipe")
			}}
		}
	}
	runCases(t, []scriptCase{
		{name: "panic", script: "? insmod panicker\nend panic 'Attempted to kill init!'\n"},
		{name: "panic under !", script: "! insmod panicker\nend panic\ndmesg 'Kernel panic'\n! dmesg zzz\n! oops .\n"},
		{name: "panic under nothing", script: "insmod panicker\nend panic\nsplat panic kill\n"},
		{name: "poweroff", setup: leaver(EndPowerOff), script: "insmod leaver\nend poweroff\n"},
		{name: "reboot", setup: leaver(EndReboot), script: "insmod leaver\nend reboot\n"},
		{name: "hang", script: "insmod hanger\nend hang\n"},

		{name: "unasked panic", script: "insmod panicker\n", fault: "guest ended: panic", kind: FaultEnd, verdict: VerdictPanic},
		{name: "unasked panic under ?", script: "? insmod panicker\ninsmod hello\n", fault: "guest ended: panic", kind: FaultEnd, verdict: VerdictPanic},
		{name: "unasked poweroff", setup: leaver(EndPowerOff), script: "! insmod leaver\n", fault: "guest ended: poweroff", kind: FaultEnd},
		{name: "another panic", script: "? insmod panicker\nend panic 'Fatal exception'\n", fault: "a panic that matches Fatal exception"},
		{name: "another end", setup: leaver(EndReboot), script: "insmod leaver\nend poweroff\n", fault: "guest ended: reboot", kind: FaultEnd},
		{name: "no end", script: "insmod hello\nend panic\n", fault: "it goes on"},
		{name: "no hang", script: "insmod hello\nend hang\n", fault: "it answers"},
		{name: "unasked hang", script: "insmod hanger\n", fault: "load hanger", kind: FaultTimeout},
		{name: "hang while waiting", setup: func(g *fakeGuest) {
			g.modules["mute"] = fakeModule{init: func(g *fakeGuest, _ []string) error { close(g.hung); return nil }}
		}, script: "insmod mute\ndmesg zzz\n", fault: "its kernel log to go on", kind: FaultTimeout},
		{name: "agent is lost", setup: func(g *fakeGuest) {
			g.modules["rude"] = fakeModule{init: func(g *fakeGuest, _ []string) error { g.lost = errors.New("bad frame"); return nil }}
		}, script: "#: timeout 1s\ninsmod rude\ninsmod hello\n", fault: "agent is lost: bad frame", kind: FaultEnd},
	})
}

// TestReadWaits reads a file that comes late and changes, and some that never have what is wanted.
func TestReadWaits(t *testing.T) {
	runCases(t, []scriptCase{
		{name: "comes", setup: func(g *fakeGuest) {
			g.modules["slowly"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
				time.AfterFunc(reread/2, func() { g.put("/tmp/state", "not yet") })
				time.AfterFunc(2*reread, func() { g.put("/tmp/state", "done 7") })
				return nil
			}}
		}, script: "insmod slowly\nread -wait -timeout 9s /tmp/state 'done (?P<n>\\d)'\ncheck $n == 7\nstdout '^done 7$'\n"},

		{name: "never comes", setup: func(g *fakeGuest) { g.put("/tmp/state", "done 7") },
			script: "read -wait /tmp/state 'done 8'\n", fault: "in 400ms a match of done 8 in /tmp/state\ndone 7"},
		{name: "is never there", script: "read -wait -timeout 50ms /tmp/state x\n", fault: "read -wait -timeout 50ms /tmp/state x: ENOENT"},
		{name: "the guest hangs meanwhile", setup: func(g *fakeGuest) {
			g.modules["soon"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
				time.AfterFunc(reread, func() { close(g.hung) })
				return nil
			}}
		}, script: "insmod soon\nread -wait /tmp/state x\n", fault: "waiting for: read /tmp/state", kind: FaultTimeout},
	})
}

func TestHelpers(t *testing.T) {
	runCases(t, []scriptCase{
		{name: "signals", script: "start signals\noutput ^ready$\nkill USR1\noutput 'signal (?P<s>\\d+) number 1'\ncheck $s == 10\nkill 10\noutput 'number 2'\nalive\nkill TERM\nwait signal TERM\n! alive\n! kill TERM\nstderr ESRCH\n"},
		{name: "two", script: "start -as A signals\nstart -as B echo\ncheck $A_PID != $B_PID\ncheck $PID == $B_PID\noutput -as A ready\ninput -as B hello there\noutput -as B 'got hello there'\ninput -as B quit\nwait B exit 7\nkill KILL A\nwait A signal KILL\n"},
		{name: "exec", script: "exec both a 'b c'\nstdout '^a b c$'\nstderr '^to stderr$'\nexec -fails 1 false\n! exec false\nexec -fails 3 -stdin hey cat\nstdout '^hey$'\nexec true\n"},
		{name: "captures lists", script: "exec both 1 2 3\nstdout -list '(?P<n>\\d)'\ncheck $n == 1,2,3\nstdout -count 3 '\\d'\nstdout '(?P<f>\\d)'\ncheck $f == 1\n"},
		{name: "compares files", script: "exec both Hello\n! cmp stdout want.txt\n"},

		{name: "end of input", script: "start cat\ninput one\ninput -close two\nwait exit 3\noutput one\noutput two\n"},
		{name: "end of input at once", script: "start -as C cat\ninput -as C -close\nwait C exit 3\n"},

		{name: "input after its end", script: "start signals\ninput -close\ninput more\n", fault: "an earlier step closed it"},
		{name: "no line", script: "start signals\noutput zzz\n", fault: "its last lines:\nready"},
		{name: "the same line twice", script: "start signals\noutput ready\noutput ready\n", fault: "is running"},
		{name: "ended without the line", script: "start false\noutput zzz\n", fault: "false has ended: exit 1"},
		{name: "wrong exit", script: "start true\nwait exit 1\n", fault: "want exit 1, got true has ended: exit 0"},
		{name: "wrong end", script: "start true\nwait signal KILL\n", fault: "want signal KILL"},
		{name: "no end", script: "start signals\nwait exit 0\n", fault: "is running"},
		{name: "not alive", script: "start true\nwait exit 0\nalive\n", fault: "has ended"},
		{name: "alive", script: "start signals\n! alive\n", fault: "alive: succeeded"},
		{name: "exit status", script: "exec false\n", fault: "want exit 0, got exit 1"},
		{name: "other exit status", script: "exec -fails 2 false\n", fault: "want exit 2, got exit 1"},
		{name: "no such program", script: "! exec nosuch\n", fault: "nosuch: ENOENT"},
		{name: "no such helper", script: "start nosuch\n", fault: "nosuch: ENOENT"},
		{name: "no match", script: "exec both a\nstdout b\n", fault: "a match of b in stdout"},
		{name: "differs", script: "exec both Hello\ncmp stdout want.txt\n", fault: "whose line 2 is \"world\\n\""},
		{name: "input to nobody", script: "start true\nwait exit 0\ninput x\n", fault: "true has ended"},
	})
}

func TestFiles(t *testing.T) {
	runCases(t, []scriptCase{
		{name: "read", script: "read /proc/version\nstdout Linux\nread /proc/version '^Linux (?P<v>[0-9.]+)$'\ncheck $v == 6.1\n! read /nosuch\nstderr ENOENT\n"},
		{name: "write", script: "write /proc/sys/kernel/x 42\nread /proc/sys/kernel/x ^42$\n! write /proc/sys/kernel/readonly 1\nstderr EACCES\n"},
		{name: "absent", script: "absent /proc/hello\n! absent /proc/version\n"},
		{name: "sysctl", script: "#: sysctl kernel.x=7\nread /proc/sys/kernel/x ^7$\n"},

		{name: "no match", script: "read /proc/version 'zzz'\n", fault: "a match of zzz in /proc/version"},
		{name: "no file", script: "read /nosuch\n", fault: "ENOENT"},
		{name: "not writable", script: "write /proc/sys/kernel/readonly 1\n", fault: "EACCES"},
		{name: "not absent", script: "absent /proc/version\n", fault: "it is there"},
	})
}

func TestValues(t *testing.T) {
	runCases(t, []scriptCase{
		{name: "numbers", script: "let a 3 * (2 + 5)\ncheck $a == 21\ncheck $a != 20\ncheck $a < 22\ncheck $a <= 21\ncheck $a > 20\ncheck $a >= 21\n! check $a == 20\ncheck 0x15 == $a\nlet -hex h $a\ncheck $h =~ ^0x15$\n"},
		{name: "texts", script: "set t some text\ncheck $t == 'some text'\ncheck $t =~ 'some (?P<rest>\\w+)'\ncheck $rest == text\ncheck '' == ''\ncheck abc != abd\n"},
		{name: "sets", script: "check 3 in 1,2,3\ncheck b in 'a b'\n! check 4 in 1,2,3\ncheck 3,1,2 same '1 2 3'\n! check 1,1,2 same 1,2,2\ncheck 0x10,x same x,16\n"},
		{name: "within", script: "check 98 within 100+-5\n! check 94 within 100+-5\n"},
		{name: "random", script: "random n int -5 5\ncheck $n >= -5\ncheck $n <= 5\nrandom w word 8\ncheck $w =~ ^[a-z]{8}$\nrandom l ints 10 1 6\ncheck len($l) == 10\nrandom p pick red green\ncheck $p in red,green\nrandom all int -9223372036854775807-1 9223372036854775807\n"},
		{name: "conditions", script: "[kvm] check 1 == 2\n[!kvm] set x y\ncheck $x == y\n[arch:sparc] check 1 == 2\n[config:SMP] check 1 == 2\n[kernel:>=6.12] check 1 == 2\n"},

		{name: "not equal", script: "check 1 + 1 == 3\n", fault: "want == 3, got 2 (1 + 1)"},
		{name: "not in", script: "check 4 in 1,2\n", fault: "in 1,2"},
		{name: "distinct", script: "check 1,2,3 distinct\n! check 1,2,0x1 distinct\ncheck 'a b' distinct\n! check a b a distinct\n"},
		{name: "not distinct", script: "check 4,7,5,7 distinct\n", fault: "want distinct elements, got 7 more than once in 4,7,5,7"},
		{name: "not the same", script: "check 1,2 same 1,3\n", fault: "want same 1,3, got 1,2"},
		{name: "not within", script: "check 10 within 1+-1\n", fault: "want within 1+-1, got 10"},
		{name: "no match", script: "check abc =~ ^b\n", fault: "a match of ^b"},
		{name: "no number", script: "set t abc\ncheck $t < 3\n", fault: "needs numbers"},
		{name: "nonsense", script: "let x 1 / 0\n", fault: "division by zero"},
	})
}

func TestConditionsThatHold(t *testing.T) {
	facts := func(o *Options) {
		o.Facts = Facts{Release: "6.1.192-x", Arch: "x86_64", KVM: true, Config: map[string]string{"SMP": "y", "OFF": "n"}}
	}
	for guard, holds := range map[string]bool{
		"[kvm]": true, "[!kvm]": false, "[arch:x86_64]": true, "[config:SMP]": true, "[config:CONFIG_SMP]": true, "[config:OFF]": false,
		"[config:NONE]": false, "[kernel:==6.1]": true, "[kernel:>=6.1.192]": true, "[kernel:<6.12]": true, "[kernel:>6.1]": false,
		"[kernel:!=6.1]": false, "[kernel:<=5]": false, "[kvm] [config:OFF]": false,
	} {
		res := runText(t, newFake(), guard+" skip it holds\n", facts)
		if got := res.Status == Skip; got != holds {
			t.Errorf("%s: holds %v, want %v", guard, got, holds)
		}
	}
}

func TestSkip(t *testing.T) {
	res := runText(t, newFake(), "#: skip not today\ninsmod nosuch\n")
	if res.Status != Skip || res.Reason != "not today" || len(res.Checks) != 0 {
		t.Errorf("directive: %+v", res)
	}
	res = runText(t, newFake(), "# A.\ninsmod hello\n# B.\nskip no more\ninsmod nosuch\n# C.\ninsmod nosuch\n")
	if res.Status != Skip || res.Reason != "no more" || res.Checks[0].Status != Pass || res.Checks[1].Status != Skip || res.Checks[2].Status != Skip {
		t.Errorf("command: %s: %s", res.Status, logs(res))
	}
}

func TestHygiene(t *testing.T) {
	leak := func(name string, when func(n int) bool) func(*fakeGuest) {
		return func(g *fakeGuest) {
			n := 0
			g.modules["leaky"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
				if n++; when(n) {
					g.files[name] = ""
				}
				return nil
			}}
		}
	}
	always := func(int) bool { return true }
	runCases(t, []scriptCase{
		{name: "clean", script: "insmod hello\n"},
		{name: "off", setup: leak("/proc/leaky", always), script: "#: hygiene off it leaks\ninsmod leaky\n"},
		{name: "dead parameter", setup: needsProcess, script: "start signals\ninsmod needy pid=$PID\nrmmod needy\nkill KILL\nwait signal KILL\n"},
		{name: "living parameter", setup: needsProcess, script: "start signals\ninsmod needy pid=$PID\n"},
		{name: "used by a helper", setup: usedByHelper, script: "start signals\ninsmod used\n"},

		{name: "left in /proc", setup: leak("/proc/leaky", always), script: "insmod leaky\nrmmod leaky\n", fault: "/proc/leaky", kind: FaultHygiene},
		{name: "left in /dev", setup: leak("/dev/leaky", always), script: "insmod leaky\n", fault: "/dev/leaky", kind: FaultHygiene},
		{name: "left the second time", setup: leak("/sys/class/leaky/x", func(n int) bool { return n == 2 }), script: "insmod leaky\n", fault: "/sys/class/leaky", kind: FaultHygiene},
		{name: "refuses to unload", setup: func(g *fakeGuest) {
			g.modules["stubborn"] = fakeModule{init: func(*fakeGuest, []string) error { return nil }, exit: func(*fakeGuest) error { return &Refusal{Errno: syscall.EBUSY} }}
		}, script: "insmod stubborn\n", fault: "module stubborn refuses to unload: EBUSY", kind: FaultHygiene},
		{name: "reference count", setup: func(g *fakeGuest) {
			g.modules["held"] = fakeModule{init: func(g *fakeGuest, _ []string) error { g.files["/sys/module/held/refcnt"] = "1\n"; return nil }}
		}, script: "insmod held\n", fault: "want reference count of held is 0, got 1", kind: FaultHygiene},
		{name: "loads only once", setup: func(g *fakeGuest) {
			n := 0
			g.modules["once"] = fakeModule{init: func(*fakeGuest, []string) error {
				if n++; n > 1 {
					return &Refusal{Errno: syscall.ENOMEM}
				}
				return nil
			}}
		}, script: "insmod once a=1\nrmmod once\n", fault: "load once a=1 again: ENOMEM", kind: FaultHygiene},
		{name: "complains when it goes", setup: func(g *fakeGuest) {
			g.modules["sulky"] = fakeModule{init: func(*fakeGuest, []string) error { return nil }, exit: func(g *fakeGuest) error { g.warn(); return nil }}
		}, script: "insmod sulky\n", fault: "WARNING", kind: FaultSplat},
	})
}

// needsProcess has a module that refuses a pid nobody has.
func needsProcess(g *fakeGuest) {
	g.modules["needy"] = fakeModule{init: func(g *fakeGuest, params []string) error {
		for pid := range g.alive {
			if params[0] == "pid="+itoa(pid) {
				return nil
			}
		}
		return &Refusal{Errno: syscall.ESRCH}
	}}
}

func itoa(n int) string { return list{int64(n)}.String() }

// usedByHelper has a module that a running helper holds.
func usedByHelper(g *fakeGuest) {
	g.modules["used"] = fakeModule{
		init: func(*fakeGuest, []string) error { return nil },
		exit: func(g *fakeGuest) error {
			if len(g.alive) > 1 {
				return &Refusal{Errno: syscall.EAGAIN}
			}
			return nil
		},
	}
}

func TestSeedReplays(t *testing.T) {
	script := "random a int 0 1000000000\nrandom b word 20\nrandom c ints 3 0 9\ncheck 1 == 2\n"
	draws := func(seed uint64) []Draw {
		return runText(t, newFake(), script, func(o *Options) { o.Seed = seed }).Draws
	}
	one, again, other := draws(1), draws(1), draws(2)
	if len(one) != 3 || !slices.Equal(one, again) {
		t.Errorf("seed 1 drew %v and then %v", one, again)
	}
	if slices.Equal(one, other) {
		t.Errorf("seeds 1 and 2 both drew %v", one)
	}
}

func TestTimeouts(t *testing.T) {
	asked := 0
	diagnose := func(o *Options) { o.Diagnose = func(context.Context) string { asked++; return "RIP=1" } }
	res := runText(t, newFake(), "insmod slow\n", diagnose)
	if res.Verdict != VerdictTimeout || res.Diagnosis != "RIP=1" || asked != 1 {
		t.Errorf("verdict %s, diagnosis %q after %d calls", res.Verdict, res.Diagnosis, asked)
	}
	res = runText(t, newFake(), "#: timeout 50ms\nstart signals\nwait -timeout 10s exit 0\n")
	checkFault(t, res, scriptCase{fault: "the test's time of 50ms is up, waiting for: the end of signals", kind: FaultTimeout})
	start := time.Now()
	res = runText(t, newFake(), "dmesg -timeout 20ms zzz\n", func(o *Options) { o.Scale = 2; o.StepTimeout = 10 * time.Second })
	checkFault(t, res, scriptCase{fault: "in 40ms a record"})
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("-timeout did not hold: %v", d)
	}
}

// TestLastWords has a module say something that nobody reads before all is over, as one that turns
// interrupts off does: it belongs to the check. What the kernel says when asked does not.
func TestLastWords(t *testing.T) {
	g := newFake()
	g.modules["doomed"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
		g.unread = true
		g.say("doomed: now")
		close(g.hung)
		return errStuck
	}}
	res := runText(t, g, "insmod doomed\n", func(o *Options) {
		o.Diagnose = func(context.Context) string {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.say("backtrace")
			return "asked"
		}
	})
	if res.Verdict != VerdictTimeout {
		t.Fatalf("verdict %s: %s", res.Verdict, res.Reason)
	}
	if got := texts(res.Window(res.Checks[0])); got != "doomed: now\n" {
		t.Errorf("the check's log is %q", got)
	}
}

func TestCouldNotRun(t *testing.T) {
	g := newFake()
	g.lost = errors.New("no agent")
	sc := parse(t, "insmod hello\n")
	res, err := Run(t.Context(), g, sc, Options{Scale: 0.01})
	if err == nil || res.Status != Error || res.Verdict != VerdictError {
		t.Errorf("lost guest: %v, %+v", err, res)
	}
	ctx, cancel := context.WithCancel(t.Context())
	g = newFake()
	g.modules["stop"] = fakeModule{init: func(*fakeGuest, []string) error { cancel(); return nil }}
	res, err = Run(ctx, g, parse(t, "insmod stop\ninsmod hello\n"), Options{})
	if !errors.Is(err, context.Canceled) || res.Status != Error {
		t.Errorf("interrupted: %v, %s", err, res.Status)
	}
	sc = parse(t, "#: sysctl kernel.readonly=1\ninsmod hello\n")
	if _, err = Run(t.Context(), newFake(), sc, Options{}); err == nil || !strings.Contains(err.Error(), "set sysctl kernel.readonly=1") {
		t.Errorf("sysctl: %v", err)
	}
}

func TestWindowIsTheTestsOwn(t *testing.T) {
	g := newFake()
	g.oops("before+0x1/0x2")
	res := runText(t, g, "insmod hello\ndmesg Hello\n! dmesg -all 'Linux version'\n")
	if !res.Passed() || len(res.Splats) != 0 {
		t.Fatalf("an oops of before the test counts: %s", res.Reason)
	}
	if len(res.Records) == 0 || res.Records[0].Text != "hello: loading out-of-tree module taints kernel." {
		t.Errorf("window begins with %v", res.Records)
	}
}

func TestFloodKeepsSplats(t *testing.T) {
	g := newFake()
	g.oops("flood+0x1/0x2 [flood]")
	for range 2000 {
		g.say("noise")
	}
	j := journal{limit: 400}
	for _, r := range g.recs {
		j.add(r)
	}
	recs, lost := j.all()
	if len(recs) > 500 || lost == 0 || lost+400 < 1700 {
		t.Errorf("%d records kept, %d lost", len(recs), lost)
	}
	if splats := dmesg.Splats(recs); len(splats) != 1 || splats[0].RIP != "flood+0x1/0x2 [flood]" {
		t.Errorf("splats: %+v", splats)
	}
}

func TestLogGap(t *testing.T) {
	run := func(text string) *Result {
		g := newFake()
		g.modules["gap"] = fakeModule{init: func(g *fakeGuest, _ []string) error { g.seq += 5; g.say("after"); return nil }}
		return runText(t, g, "#: hygiene off loads once\ninsmod gap\n"+text)
	}
	if res := run("dmesg after\n"); res.Lost != 5 || !res.Passed() {
		t.Errorf("lost %d, want 5: %s", res.Lost, res.Reason)
	}
	// What was lost may be what is not to be there.
	for _, step := range []string{"! dmesg bad", "dmesg -count 0 bad", "dmesg -list 'aft(?P<x>er)'", "dmesg", "! splat lockdep bad"} {
		checkFault(t, run(step+"\n"), scriptCase{fault: "overwritten before they were read"})
		if res := run("# B.\n" + step + "\n"); strings.Contains(res.Reason, "overwritten") {
			t.Errorf("%s, in a section without a gap: %s", step, res.Reason)
		}
	}
}

// lateTaint is a guest that sets the taint bits of a report late.
type lateTaint struct {
	*fakeGuest
	late int // so many times they are not seen yet
}

func (g *lateTaint) Taint(ctx context.Context) (uint64, error) {
	t, err := g.fakeGuest.Taint(ctx)
	if t&dmesg.TaintWarn != 0 && g.late > 0 {
		g.late--
		t &^= dmesg.TaintWarn
	}
	return t, err
}

// TestLateTaint has a WARN set its bit when its records have long been read.
func TestLateTaint(t *testing.T) {
	for late := range 4 {
		g := &lateTaint{newFake(), late}
		g.modules["warner"] = fakeModule{init: func(g *fakeGuest, _ []string) error { g.warn(); return nil }}
		res, err := Run(t.Context(), g, parse(t, "#: hygiene off loads once\ninsmod warner\n"), Options{StepTimeout: stepTime})
		if err != nil || res.Status != Fail || res.Verdict != VerdictSplat {
			t.Errorf("seen at look %d: %v, %s, %s", late+2, err, res.Status, res.Verdict)
		}
	}
}

// TestHygieneExcusesNoOtherSplat has a module warn once more when it is loaded again, which is what the script
// expects of it, and warn of something else when it is unloaded.
func TestHygieneExcusesNoOtherSplat(t *testing.T) {
	g := newFake()
	warner := fakeModule{init: func(g *fakeGuest, _ []string) error { g.warn(); return nil }}
	g.modules["warner"] = warner
	const text = "insmod warner\nsplat warn x_init\n"
	if res := runText(t, g, text); !res.Passed() {
		t.Errorf("the same again: %s", res.Reason)
	}
	g = newFake()
	warner.exit = func(g *fakeGuest) error { g.warnAt("mm/vmalloc.c:2616 vfree+0x99/0xa0"); return nil }
	g.modules["warner"] = warner
	checkFault(t, runText(t, g, text), scriptCase{fault: "at mm/vmalloc.c:2616 vfree", kind: FaultSplat})
}

func TestPostMortemLog(t *testing.T) {
	g := newFake()
	g.modules["dying"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
		g.sayAs("last words", 0, 0, "T1")
		g.panics("at the disco")
		return errors.New("reset")
	}}
	res := runText(t, g, "? insmod dying\nend panic disco\ndmesg 'last words'\n")
	if !res.Passed() {
		t.Fatal(res.Reason)
	}
	if res.End == nil || res.End.Reason != EndPanic || len(res.Splats) != 1 || !res.Splats[0].Claimed || res.Splats[0].Kind != dmesg.KindPanic {
		t.Errorf("end %v, splats %+v", res.End, res.Splats)
	}
}

func TestDefaultScript(t *testing.T) {
	sc, err := Default("their/module", []string{"hello", "hello-2"})
	if err != nil || sc.Name != "their/module" || len(sc.Sections) != 2 || sc.Sections[1].Name != "hello-2 loads." {
		t.Errorf("Default: %+v, %v", sc, err)
	}
	if sc, err := Default("x", []string{"a b"}); err == nil {
		t.Errorf("a module named a b: %+v", sc)
	}
	g := newFake()
	g.loaded["hello"] = true // modprobe of what is loaded is refused by this guest
	sc, _ = Default("x", []string{"hello"})
	res, err := Run(t.Context(), g, sc, Options{})
	if err != nil || res.Status != Fail {
		t.Errorf("a module that does not load: %v, %+v", err, res)
	}
}

func TestDeathAfterTheLastStep(t *testing.T) {
	g := newFake()
	g.modules["bomb"] = fakeModule{
		init: func(*fakeGuest, []string) error { return nil },
		exit: func(g *fakeGuest) error { g.panics("in exit"); return nil },
	}
	res := runText(t, g, "insmod bomb\n")
	if res.Verdict != VerdictPanic || res.Status != Fail || res.End == nil {
		t.Errorf("%s, %s, end %v", res.Verdict, res.Reason, res.End)
	}
}

func TestBuildFailure(t *testing.T) {
	res := BuildFailure(parse(t, "insmod hello\n"), "hello.c:3: no such thing", "hello.c:3: error")
	if res.Passed() || res.Checks[0].Fault.Kind != FaultBuild || res.Reason != "hello.c:3: no such thing" {
		t.Errorf("%+v", res)
	}
}

func TestLeakText(t *testing.T) {
	const dump = "  hex dump (first 32 bytes):\n    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................\n"
	report := "unreferenced object 0xff11000003c4e700 (size 128):\n  comm \"insmod\", pid 40, jiffies 4294894159\n" + dump +
		"  backtrace:\n    [<00000000b7374beb>] __kmem_cache_alloc_node+0x12f/0x220\n    [<0000000014dac64d>] 0xffffffffa0005017\n" +
		"unreferenced object 0xff11000003c4e800 (size 128):\n" + dump + "unreferenced object 0xff11000003c4e900 (size 128):\n" + dump
	want := "unreferenced object 0xff11000003c4e700 (size 128):\n  comm \"insmod\", pid 40, jiffies 4294894159\n" +
		"  backtrace:\n    [<00000000b7374beb>] __kmem_cache_alloc_node+0x12f/0x220\n    [<0000000014dac64d>] 0xffffffffa0005017\nand 2 more"
	if got := leakText(report); got != want {
		t.Errorf("leakText = %q\nwant %q", got, want)
	}
}

// TestForgedMark has a module that greets at its first load only, and says what it takes for the mark that comes next
// before, so that its first greeting would count as one of the next section.
func TestForgedMark(t *testing.T) {
	g := newFake()
	loads := 0
	g.modules["forger"] = fakeModule{
		init: func(g *fakeGuest, _ []string) error {
			if loads++; loads > 1 {
				return nil
			}
			for _, rec := range slices.Clone(g.recs) {
				if rec.Facility == 1 {
					g.say(rec.Text)
					g.say(rec.Text + "0000")
				}
			}
			g.say("forger: here")
			return nil
		},
		exit: func(*fakeGuest) error { return nil },
	}
	res := runText(t, g, "# A.\ninsmod forger\ndmesg '^forger: here$'\nrmmod forger\n# B.\ninsmod forger\ndmesg '^forger: here$'\n")
	checkFault(t, res, scriptCase{fault: "case.txt:7: dmesg"})
}

// TestNonsenseFailsUnderBang compares what cannot be compared.
func TestNonsenseFailsUnderBang(t *testing.T) {
	for step, fault := range map[string]string{
		"check junk < 5": `"junk" is no number`, "check 1/0 < 3": "division by zero", "check 1,2 < 1,2,3": "lists of 2 and 3",
		"check 7 within x+-1": `"x" is no number`,
	} {
		checkFault(t, runText(t, newFake(), "! "+step+"\n"), scriptCase{fault: fault})
	}
}

// TestHygieneIsAsPatient as the script, which gives a module more time than others get.
func TestHygieneIsAsPatient(t *testing.T) {
	g := newFake()
	slow := func() { <-time.After(stepTime + stepTime/2) }
	g.modules["patience"] = fakeModule{
		init: func(*fakeGuest, []string) error { slow(); return nil },
		exit: func(*fakeGuest) error { slow(); return nil },
	}
	if res := runText(t, g, "insmod -timeout 10s patience\nrmmod -timeout 10s patience\n"); !res.Passed() {
		t.Error(res.Reason)
	}
}
