package check

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	text := `# SPDX-License-Identifier: GPL-2.0
# This is a comment.

#: cpu max,-smap
#: rtc 2024-02-29T23:58:00
#: memory 1G
#: cpus 2
#: append a=b
#: append c
#: sysctl kernel.watchdog_thresh=1
#: sysctl vm/x = 1 2
#: init /kaleido-init
#: timeout 90s
#: points 5
#: hygiene off it crashes
#: boot
#: modules export export_2

# Alone it has
# an unresolved symbol.
! insmod export_2   # comment
stderr ENOENT

# Prose about the next.

# The next.

[kvm] [!arch:x86_64] insmod export
`
	sc, err := ParseText("/x/modules/general/export/test/order.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := Requirements{
		CPU: "max,-smap", RTC: "2024-02-29T23:58:00", MemoryMiB: 1024, CPUs: 2, Append: []string{"a=b", "c"},
		Sysctls: []Sysctl{{"kernel.watchdog_thresh", "1"}, {"vm/x", "1 2"}}, Init: "/kaleido-init", Timeout: 90 * time.Second,
		Points: 5, HygieneOff: "it crashes", OwnBoot: true, Modules: []string{"export", "export_2"},
	}
	if !reflect.DeepEqual(sc.Requires, want) {
		t.Errorf("Requires = %+v\nwant %+v", sc.Requires, want)
	}
	if got := want.Sysctls[0].File(); got != "/proc/sys/kernel/watchdog_thresh" {
		t.Errorf("sysctl file %s", got)
	}
	if sc.Name != "export/order" || len(sc.Sections) != 2 {
		t.Fatalf("name %q, %d sections", sc.Name, len(sc.Sections))
	}
	a, b := sc.Sections[0], sc.Sections[1]
	if a.Name != "Alone it has an unresolved symbol." || a.Line != 19 || len(a.Steps) != 2 || !a.Steps[0].negated || a.Steps[1].negated {
		t.Errorf("section 1: %+v", a)
	}
	if b.Name != "The next." || b.Line != 26 || len(b.Steps) != 1 || b.Steps[0].Op != "insmod" || b.Steps[0].Line != 28 {
		t.Errorf("section 2: %+v", b)
	}
}

func TestParseNamesUnnamedSections(t *testing.T) {
	sc, err := ParseText("a/b.txt", []byte("insmod x\n# Two.\nrmmod x\n"))
	if err != nil || sc.Name != "b" || sc.Sections[0].Name != "b" || sc.Sections[1].Name != "Two." {
		t.Errorf("%+v, %v", sc, err)
	}
}

// mistakes are scripts and what is said of them.
var mistakes = map[string]string{
	"":                                    "x.txt:1: script has no commands",
	"# Only a name.\n":                    "x.txt:1: script has no commands",
	"a\x00b":                              "not a text file",
	"insmod x\n#: cpus 2\n":               "x.txt:2: directive after the first command",
	"#: cpuz 2\ninsmod x\n":               `x.txt:1: unknown directive "cpuz"`,
	"#: cpus 0\ninsmod x\n":               "no number from 1 to 64",
	"#: cpus 1\n#: cpus 1\n":              "x.txt:2: directive cpus: given twice",
	"#: cpus\n":                           "want N",
	"#: cpu a b\n":                        "not one word",
	"#: memory 12\n":                      "no size like",
	"#: rtc tomorrow\n":                   "no time like",
	"#: sysctl x\n":                       "not NAME=VALUE",
	"#: init bin/x\n":                     "not an absolute path",
	"#: timeout soon\n":                   "no duration",
	"#: points many\n":                    "no number",
	"#: hygiene on\n":                     "want off REASON",
	"#: hygiene off\n":                    "want off REASON",
	"#: boot now\n":                       "takes no argument",
	"#: modules a/b\n":                    "no module name",
	"\n\nfly away\n":                      "x.txt:3: fly: unknown command",
	"sleep 1\n":                           "unknown command",
	"exec sh -c \"exit 1\"\n":             "x.txt:1: double quotes do not quote",
	"insmod\n":                            "insmod: wrong arguments, want: [-timeout DUR] module",
	"insmod x 'a\n":                       "unterminated quoted argument",
	"insmod -timeout soon x\n":            "invalid value",
	"insmod x -timeout 5s\n":              "behind the module's name",
	"[nosuch] insmod x\n":                 "unknown condition",
	"[kernel:6] insmod x\n":               "not like >=6.12",
	"[kvm] fly\n":                         "unknown command",
	"[!kvm] fly\n":                        "unknown command",
	"! ! insmod x\n":                      "duplicated",
	"dmesg '('\n":                         "missing closing )",
	"dmesg a b\n":                         "dmesg: wrong arguments",
	"dmesg -count 1\n":                    "dmesg: wrong arguments",
	"exec prog &\n":                       "cannot be run in background",
	"insmod x pid=$PID\n":                 "variable $PID is not defined",
	"start a\nkill USR1 b\n":              "no earlier line starts a helper named b",
	"output x\n":                          "no earlier line starts a helper",
	"start a\n! output x\n":               "cannot be negated",
	"! read -wait /x y\n":                 "cannot be negated",
	"read -wait /x\n":                     "read: wrong arguments",
	"check distinct\n":                    "check: wrong arguments",
	"start a\nkill NOSUCH\n":              `no signal "NOSUCH"`,
	"start a\nwait exit many\n":           "invalid syntax",
	"start a\nwait gone 1\n":              "wrong arguments",
	"start -as a-b x\n":                   "wrong arguments",
	"! dmesg '(?P<x>a)'\ncheck $x == 1\n": "variable $x is not defined",
	"end panic\ninsmod x\n":               "x.txt:2: insmod: there is no guest after end",
	"end boom\n":                          "wrong arguments",
	"end poweroff x\n":                    "wrong arguments",
	"splat boom x\n":                      `no kind "boom"`,
	"tainted z\n":                         "no taint letter",
	"random x\n":                          "wrong arguments",
	"random x int 5 1\n":                  "wrong arguments",
	"random x int a 1\n":                  "no number",
	"random 1x int 0 1\n":                 "wrong arguments",
	"random x word 0\n":                   "wrong arguments",
	"let x\n":                             "wrong arguments",
	"check 1 is 1\n":                      "wrong arguments",
	"check 1 within 2\n":                  `"2" is not C+-D`,
	"check a =~ '('\n":                    "missing closing )",
	"cmp stdout /etc/passwd\n":            "wrong arguments",
	"cmp stdout ../x\n":                   "wrong arguments",
	"skip\n":                              "wrong arguments",
	"read\n":                              "wrong arguments",
	"write\n":                             "wrong arguments",
	"absent\n":                            "wrong arguments",
	"set 1 x\n":                           "wrong arguments",
	"stdout\n":                            "wrong arguments",
}

func TestParseRefuses(t *testing.T) {
	for text, want := range mistakes {
		_, err := ParseText("dir/x.txt", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseText(%q) = %v, want %q", text, err, want)
		}
		if err != nil && !errors.As(err, new(*SyntaxError)) {
			t.Errorf("ParseText(%q): %T is no *SyntaxError", text, err)
		}
	}
	if _, err := Parse("no/such/file.txt"); err == nil {
		t.Error("Parse of a missing file succeeded")
	}
}

func TestVariables(t *testing.T) {
	for line, want := range map[string][]string{
		"insmod x pid=$PID n=${n}": {"PID", "n"}, "dmesg 'x$y'": nil, "dmesg 'a'$PID'b$'": {"PID"}, "x # $no": nil,
		"output ready$": nil, "set a 'it''s $x'": nil,
	} {
		if got := variables(line); !slices.Equal(got, want) {
			t.Errorf("variables(%q) = %v, want %v", line, got, want)
		}
	}
}

func TestEvaluate(t *testing.T) {
	for text, want := range map[string]string{
		"1": "1", "-5": "-5", "- -5": "5", "3 - -5": "8", "2+3*4": "14", "(2+3)*4": "20", "7/2": "3", "-7/2": "-3", "7%4": "3",
		"1<<4": "16", "0xff & 0x0f | 0x100": "271", "6 ^ 3": "5", "~0": "-1", "0xffffffffffffffff": "-1", "0b101": "5", "0o17": "15",
		"010": "10", "1 + 2, 3": "3,3", "1,2,3 * 2": "1,2,6", "(1,2,3) * 2": "2,4,6", "2 * (1,2)": "2,4", "(1,2)+(3,4)": "4,6",
		"isqrt(0,1,3,4,15,16,99)": "0,1,1,2,3,4,9", "isqrt(0xffffffffffffffff)": "4294967295", "abs(-3,3)": "3,3", "len()": "0",
		"len(1,2)": "2", "sum(1,2,3)": "6", "min(3,-1)": "-1", "max(3,-1)": "3", "sorted(3,1,2)": "1,2,3", "rsorted(3,1,2)": "3,2,1",
		"rev(3,1,2)": "2,1,3", "count(1,2,1, 1)": "2", "9223372036854775807 + 1": "-9223372036854775808",
		"-9223372036854775808 / -1": "-9223372036854775808", "": "",
	} {
		if got, err := evaluate(text); err != nil || got.String() != want {
			t.Errorf("evaluate(%q) = %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"a", "1 2", "1 +", "(1", "1)", "1/0", "1%0", "1<<64", "1>>-1", "max()", "cout(1)", "(1,2)+(1,2,3)", "0x", "1.5",
		"99999999999999999999", "count()", strings.Repeat("(", 1000), strings.Repeat("-", 1000) + "1",
	} {
		if got, err := evaluate(text); err == nil {
			t.Errorf("evaluate(%.40q) = %v, want an error", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"# A.\ninsmod hello a=$x\n", "#: cpus 2\n! dmesg '(?P<x>a)' # c\n", "start -as A x\nkill KILL A\nend panic x\ndmesg\n",
		"[kvm] [!arch:x] ? exec -fails 3 -stdin a b\n", "random x ints 3 0 9\ncheck sum($x) <= 27\n", "check a =~ 'b'\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sc, err := ParseText("fuzz.txt", []byte(text))
		if err != nil {
			if !errors.As(err, new(*SyntaxError)) {
				t.Fatalf("%T is no *SyntaxError: %v", err, err)
			}
			return
		}
		lines := strings.Split(text, "\n")
		last := 0
		for _, s := range sc.Sections {
			if len(s.Steps) == 0 || s.Name == "" {
				t.Fatalf("section %+v", s)
			}
			for _, step := range s.Steps {
				if step.Line <= last || strings.TrimSuffix(lines[step.Line-1], "\r") != step.Text || commands[step.Op] == nil {
					t.Fatalf("step %+v after line %d", step, last)
				}
				last = step.Line
			}
		}
	})
}

func FuzzEvaluate(f *testing.F) {
	f.Add("isqrt(1,2) + 3 << 4 % -1")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := evaluate(text)
		if err != nil {
			return
		}
		again, err := evaluate(v.String())
		if err != nil || !slices.Equal(again, v) && len(v) > 0 {
			t.Fatalf("evaluate(%q) = %v, which evaluates to %v, %v", text, v, again, err)
		}
	})
}
