package kconfig

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	text := "# a comment\n\nCONFIG_SMP=y\r\n# CONFIG_INPUT is not set\nCONFIG_NR_CPUS=16\n" +
		"CONFIG_PHYSICAL_START=0x1000000\n  CONFIG_LOCALVERSION=\"-a \\\"b\\\"\"\nCONFIG_USB=n\nCONFIG_8139TOO=m\n" +
		"# CONFIG_IN_A_COMMENT=y\n"
	want := []Assignment{
		{"SMP", "y", Pos{"f", 3}},
		{"INPUT", "n", Pos{"f", 4}},
		{"NR_CPUS", "16", Pos{"f", 5}},
		{"PHYSICAL_START", "0x1000000", Pos{"f", 6}},
		{"LOCALVERSION", `"-a \"b\""`, Pos{"f", 7}},
		{"USB", "n", Pos{"f", 8}},
		{"8139TOO", "m", Pos{"f", 9}},
	}
	f, err := Parse("f", []byte(text))
	if err != nil || !reflect.DeepEqual(f.Assignments, want) {
		t.Errorf("Parse = %v, %v\nwant %v", f.Assignments, err, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"SMP=y":                      "CONFIG_NAME=value",
		"CONFIG_SMP y":               "no =",
		"CONFIG_SMP =y":              "letters",
		"CONFIG_=y":                  "letters",
		"CONFIG_S-P=y":               "letters",
		"CONFIG_SMP=":                "value is",
		"CONFIG_SMP=yes":             "value is",
		"CONFIG_SMP=y # multi":       "value is",
		`CONFIG_LOCALVERSION="a`:     "value is",
		`CONFIG_LOCALVERSION="a"b"`:  "value is",
		"CONFIG_NR_CPUS=0x":          "value is",
		"# CONFIG_A-B is not set":    "letters",
		"make menuconfig":            "CONFIG_NAME=value",
		"CONFIG_NR_CPUS=16 ignored?": "value is",
	} {
		_, err := Parse("dir/f.config", []byte("\n"+line+"\n"))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Pos.Line != 2 || !strings.HasPrefix(err.Error(), "dir/f.config:2: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want it to say %q at line 2", line, err, want)
		}
	}
}

func TestParseSet(t *testing.T) {
	f, err := ParseSet([]string{"SMP=y", "CONFIG_USB=n", "LOCALVERSION=-mine", `CMDLINE=a="b" c`, `X="quoted"`, "EMPTY=", "BASE=0xff"})
	want := []string{"SMP=y", "USB=n", `LOCALVERSION="-mine"`, `CMDLINE="a=\"b\" c"`, `X="quoted"`, `EMPTY=""`, "BASE=0xff"}
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range f.Assignments {
		if a.String() != want[i] || a.Pos.String() != "--set" {
			t.Errorf("assignment %d = %s (%s), want %s (--set)", i, a, a.Pos, want[i])
		}
	}
	for _, bad := range []string{"SMP", "=y", "A B=y", "", "X=a\nb"} {
		if _, err := ParseSet([]string{bad}); err == nil || !strings.HasPrefix(err.Error(), "--set: ") {
			t.Errorf("ParseSet(%q) = %v, want an error", bad, err)
		}
	}
}

func fragment(t *testing.T, name, text string) Fragment {
	t.Helper()
	f, err := Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestMerge(t *testing.T) {
	base := fragment(t, "base", "CONFIG_PVPANIC=y\n")
	profile := fragment(t, "lab", "CONFIG_PREEMPT_NONE=y\nCONFIG_LOG_BUF_SHIFT=18\nCONFIG_USB=n\n")
	tests := []struct {
		name      string
		user      []string // texts of fragments u0, u1...
		set       []string
		want      string // the merged text
		conflicts []string
	}{
		{"nothing", nil, nil, "PVPANIC=y PREEMPT_NONE=y LOG_BUF_SHIFT=18 USB=n", nil},
		{"user over profile, at its own place", []string{"CONFIG_USB=y\n"}, nil, "PVPANIC=y PREEMPT_NONE=y LOG_BUF_SHIFT=18 USB=y", nil},
		{"set over user, without a word", []string{"CONFIG_USB=y\n"}, []string{"USB=m"}, "PVPANIC=y PREEMPT_NONE=y LOG_BUF_SHIFT=18 USB=m", nil},
		{"two users agree", []string{"CONFIG_X=0x10\n", "CONFIG_X=16\n"}, nil, "PVPANIC=y PREEMPT_NONE=y LOG_BUF_SHIFT=18 USB=n X=0x10", nil},
		{"two users disagree", []string{"CONFIG_X=y\n", "\n# CONFIG_X is not set\n"}, nil, "",
			[]string{"X=y (u0:1) and X=n (u1:2) contradict each other"}},
		{"one user with itself", []string{"CONFIG_X=y\nCONFIG_X=m\n"}, nil, "", []string{"X=y (u0:1) and X=m (u0:2) contradict each other"}},
		{"two sets", nil, []string{"X=y", "X=n"}, "", []string{"X=y (--set) and X=n (--set) contradict each other"}},
		{"against the base", []string{"CONFIG_PVPANIC=n\n"}, []string{"PVPANIC=n"}, "", []string{
			"PVPANIC=n (u0:1) stands against PVPANIC=y (base:1), which no kernel here can do without",
			"PVPANIC=n (--set) stands against PVPANIC=y (base:1), which no kernel here can do without"}},
		{"with the base", []string{"CONFIG_PVPANIC=y\n"}, nil, "PVPANIC=y PREEMPT_NONE=y LOG_BUF_SHIFT=18 USB=n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var user Layer
			for i, text := range test.user {
				user.Fragments = append(user.Fragments, fragment(t, "u"+string(rune('0'+i)), text))
			}
			set, err := ParseSet(test.set)
			if err != nil {
				t.Fatal(err)
			}
			reqs, conflicts := Merge(Layer{Fragments: []Fragment{base}, Firm: true},
				Layer{Fragments: []Fragment{profile}, Soft: true}, user, Layer{Fragments: []Fragment{set}})
			var got []string
			for _, c := range conflicts {
				got = append(got, c.String())
			}
			if !reflect.DeepEqual(got, test.conflicts) {
				t.Fatalf("conflicts = %q\nwant %q", got, test.conflicts)
			}
			if merged := assignments(reqs); len(conflicts) == 0 && !sameSet(merged, test.want) {
				t.Errorf("requests = %s\nwant %s", merged, test.want)
			}
		})
	}
}

func assignments(reqs []Request) string {
	var words []string
	for _, a := range Assignments(reqs) {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

func sameSet(a, b string) bool {
	set := func(s string) map[string]bool {
		m := map[string]bool{}
		for _, w := range strings.Fields(s) {
			m[w] = true
		}
		return m
	}
	return reflect.DeepEqual(set(a), set(b))
}

// The kernel takes the last of a choice's members: what comes later must stand later.
func TestMergeOrder(t *testing.T) {
	reqs, _ := Merge(
		Layer{Fragments: []Fragment{fragment(t, "lab", "CONFIG_PREEMPT=y\nCONFIG_SMP=y\n")}},
		Layer{Fragments: []Fragment{fragment(t, "u", "CONFIG_PREEMPT_NONE=y\nCONFIG_PREEMPT=y\n")}})
	if got, want := assignments(reqs), "SMP=y PREEMPT_NONE=y PREEMPT=y"; got != want {
		t.Errorf("requests = %s, want %s", got, want)
	}
}

func TestFormat(t *testing.T) {
	got := string(Format([]Assignment{{Symbol: "A", Value: "y"}, {Symbol: "B", Value: "n"}, {Symbol: "C", Value: `"x"`}}))
	if want := "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\n"; got != want {
		t.Errorf("Format = %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"a\\\"\"\nCONFIG_D=0x1F\n"))
	f.Add([]byte("CONFIG_A=y # no\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := Parse("f", text)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Pos.Line < 1 {
				t.Fatalf("Parse(%q) = %v, want a *SyntaxError with a line", text, err)
			}
			return
		}
		again, err := Parse("f", Format(first.Assignments))
		if err != nil || len(again.Assignments) != len(first.Assignments) {
			t.Fatalf("Parse(Format(Parse(%q))) = %v, %v", text, again, err)
		}
		for i, a := range again.Assignments {
			if a.String() != first.Assignments[i].String() {
				t.Fatalf("assignment %d of %q became %s, was %s", i, text, a, first.Assignments[i])
			}
		}
	})
}

func FuzzParseSet(f *testing.F) {
	f.Add("LOCALVERSION=a\"b\\")
	f.Add("CONFIG_X=0x")
	f.Fuzz(func(t *testing.T, arg string) {
		set, err := ParseSet([]string{arg})
		if err != nil {
			return
		}
		again, err := Parse("f", Format(set.Assignments))
		if err != nil || len(again.Assignments) != 1 || again.Assignments[0].String() != set.Assignments[0].String() {
			t.Fatalf("ParseSet(%q) = %v, which as a file is %v, %v", arg, set, again, err)
		}
	})
}
