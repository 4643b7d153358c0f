package kconfig

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// kernelTree is a small tree with one of each thing that keeps a symbol from surviving.
var kernelTree = fstest.MapFS{
	"Kconfig": {Data: []byte(`# SPDX
mainmenu "Linux"
source "arch/$(SRCARCH)/Kconfig"
source "lib/Kconfig"
osource "not/there/Kconfig"
`)},
	"arch/x86/Kconfig": {Data: []byte(`config 64BIT
	bool "64-bit kernel" if "$(ARCH)" = "x86"
	default "$(ARCH)" != "i386"
	help
	  Say yes.

	  config NOT_A_SYMBOL is help text
	  if this were read, all would be lost

config X86
	def_bool y
	select HAVE_THING if 64BIT

config NR_CPUS
	int "Maximum number of CPUs" if SMP
	range 2 64
	depends on SMP

config SMP
	bool "SMP"
`)},
	"arch/arm/Kconfig": {Data: []byte("config ARM_ONLY\n\tbool \"arm\"\n")},
	"lib/Kconfig": {Data: []byte(`
menu "Library"
	depends on SMP # the whole menu

config HAVE_THING
	bool

config CC_HAS_IT
	def_bool $(cc-option,-fit,(a))

config FOO
	tristate "Foo"
	depends on BAR && !BAZ

config BAR
	bool "Bar"

config BAZ
	bool "Baz" \
		if EXPERT
	default y

config EXPERT
	bool "Expert"
	select BAZ

config THING
	bool "Thing"
	depends on HAVE_THING && (GONE || NR_CPUS > 8)

if BAR

choice
	prompt "Flavour"
	default SWEET

config SWEET
	bool "Sweet"

config SOUR
	bool "Sour"

endchoice

config COMPILED
	bool "Compiled"
	depends on $(success,test -x cc)

config NAME
	string "Name"

comment "a comment"
	depends on NOBODY

endif # BAR

config TWICE
	bool "Twice"
	depends on EXPERT

endmenu

config TWICE
	bool "Twice"
	depends on 64BIT

config MODULES
	bool "Modules"

config INFO
	bool

choice
	prompt "Debug information"

config INFO_NONE
	bool "None"

config INFO_DWARF
	bool "DWARF"
	select INFO

config INFO_BTF
	bool "BTF"
	depends on SMP && HAVE_BTF
	select INFO

endchoice

config SCRIPTS
	bool "Scripts"
	depends on INFO

config PROVE
	bool "Prove"

config PROVE_MORE
	def_bool PROVE if SMP

config CHECKED
	bool "Checked"
	depends on PROVE_MORE

config FAST
	bool "Fast"
	select NO_CHECKS

config NO_CHECKS
	bool
	select NO_TRACE

config NO_TRACE
	bool "No trace"
`)},
}

func loadTree(t *testing.T) *Tree {
	t.Helper()
	tree, err := LoadTree(kernelTree, "x86")
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestLoadTree(t *testing.T) {
	tree := loadTree(t)
	for _, name := range []string{"64BIT", "X86", "HAVE_THING", "FOO", "SOUR", "NAME", "TWICE", "MODULES"} {
		if !tree.Has(name) {
			t.Errorf("Has(%s) = false", name)
		}
	}
	for _, name := range []string{"NOT_A_SYMBOL", "ARM_ONLY", "GONE", ""} {
		if tree.Has(name) {
			t.Errorf("Has(%s) = true", name)
		}
	}
	if got := tree.lookup("FOO").defs[0].pos; got != (Pos{"lib/Kconfig", 11}) {
		t.Errorf("FOO is at %s", got)
	}
}

func TestLoadTreeFails(t *testing.T) {
	for name, files := range map[string]fstest.MapFS{
		"no Kconfig":         {},
		"missing file":       {"Kconfig": {Data: []byte("source \"lib/Kconfig\"\n")}},
		"loop":               {"Kconfig": {Data: []byte("source \"lib/Kconfig\"\n")}, "lib/Kconfig": {Data: []byte("source \"Kconfig\"\n")}},
		"out of the tree":    {"Kconfig": {Data: []byte("source \"../../etc/passwd\"\n")}},
		"itself, in a guise": {"Kconfig": {Data: []byte("rsource \"./Kconfig\"\n")}},
	} {
		if _, err := LoadTree(files, "x86"); err == nil {
			t.Errorf("%s: LoadTree succeeded", name)
		}
	}
}

func TestVerify(t *testing.T) {
	const allSet = "CONFIG_SMP=y\nCONFIG_64BIT=y\nCONFIG_X86=y\nCONFIG_HAVE_THING=y\nCONFIG_NR_CPUS=8\nCONFIG_BAR=y\nCONFIG_SWEET=y\nCONFIG_MODULES=y\n"
	tests := []struct{ name, ask, result, want string }{
		{"met", "CONFIG_SMP=y\n# CONFIG_FOO is not set\nCONFIG_NR_CPUS=0x8\nCONFIG_NAME=\"\"\n", allSet, ""},
		{"unknown", "CONFIG_FO=y\n", allSet, "FO=y (f:1): unknown symbol; did you mean FOO?"},
		{"unknown and off", "# CONFIG_EXPERTT is not set\n", allSet, "EXPERTT=n (f:1): unknown symbol; did you mean EXPERT?"},
		{"other architecture", "CONFIG_ARM_ONLY=y\n", allSet, "ARM_ONLY=y (f:1): unknown symbol: only another architecture has it, in arch/arm/Kconfig"},
		{"off dependency", "CONFIG_FOO=y\n", "CONFIG_SMP=y\n", "FOO=y (f:1) did not survive: depends on BAR && !BAZ (lib/Kconfig:13), and BAR is not set"},
		{"on dependency", "CONFIG_FOO=y\n", allSet + "CONFIG_BAZ=y\n", "FOO=y (f:1) did not survive: depends on BAR && !BAZ (lib/Kconfig:13), and BAZ is y"},
		{"menu", "CONFIG_BAR=y\n", "", "BAR=y (f:1) did not survive: depends on SMP (lib/Kconfig:3), and SMP is not set"},
		{"if", "CONFIG_NAME=\"x\"\n", "CONFIG_SMP=y\n", `NAME="x" (f:1) did not survive: depends on BAR (lib/Kconfig:31), and BAR is not set`},
		{"or", "CONFIG_THING=y\n", allSet, "THING=y (f:1) did not survive: depends on HAVE_THING && (GONE || NR_CPUS>8) (lib/Kconfig:29), and GONE is not set, nor known to this kernel and NR_CPUS is 8"},
		{"no prompt", "CONFIG_HAVE_THING=y\n", "CONFIG_SMP=y\n", "HAVE_THING=y (f:1) did not survive: has no prompt: only `select` can set it, as X86"},
		{"no prompt, default", "CONFIG_CC_HAS_IT=y\n", allSet, "CC_HAS_IT=y (f:1) did not survive: has no prompt: only its own default sets it"},
		{"prompt's condition", "# CONFIG_BAZ is not set\n", allSet + "CONFIG_BAZ=y\n", "BAZ=n (f:1) did not hold, it is y: can only be set if EXPERT (lib/Kconfig:20), and EXPERT is not set"},
		{"selected", "# CONFIG_BAZ is not set\n", allSet + "CONFIG_BAZ=y\nCONFIG_EXPERT=y\n", "BAZ=n (f:1) did not hold, it is y: EXPERT=y selects it (lib/Kconfig:25)"},
		{"choice", "CONFIG_SOUR=y\n", allSet, "SOUR=y (f:1) did not survive: SWEET=y is another member of the same choice, of which only one can be y"},
		{"choice, both asked for", "CONFIG_SOUR=y\nCONFIG_SWEET=y\n", allSet, "SOUR=y (f:1) did not survive: SWEET=y (f:2) is another member of the same choice, of which only one can be y"},
		{"choice, and a dependency", "CONFIG_INFO_BTF=y\n", allSet + "CONFIG_INFO_NONE=y\n", "INFO_BTF=y (f:1) did not survive: depends on SMP && HAVE_BTF (lib/Kconfig:85), and HAVE_BTF is not set, nor known to this kernel"},
		{"no prompt, default that is off", "CONFIG_PROVE_MORE=y\n", allSet, "PROVE_MORE=y (f:1) did not survive: has no prompt: only its own default sets it, which is PROVE && SMP (lib/Kconfig:98), and PROVE is not set"},
		{"compiler", "CONFIG_COMPILED=y\n", allSet, "COMPILED=y (f:1) did not survive: depends on $(success,test -x cc) (lib/Kconfig:47), and that is a test this compiler may not have passed"},
		{"bool is no module", "CONFIG_BAR=m\n", "CONFIG_SMP=y\nCONFIG_MODULES=y\n", "BAR=m (f:1) did not survive: it is a bool: y or n"},
		{"modules are off", "CONFIG_FOO=m\n", "CONFIG_SMP=y\nCONFIG_BAR=y\n", "FOO=m (f:1) did not survive: m needs MODULES, and MODULES is not set"},
		{"range", "CONFIG_NR_CPUS=99\n", allSet, "NR_CPUS=99 (f:1) became 8: its range is 2 64"},
		{"text for a number", "CONFIG_NR_CPUS=\"x\"\n", allSet, `NR_CPUS="x" (f:1) became 8: it is a number, int`},
		{"number for text", "CONFIG_NAME=1\n", allSet, `NAME=1 (f:1) did not survive: it is a string: "text"`},
		{"defined twice", "CONFIG_TWICE=y\n", "CONFIG_SMP=y\n", "TWICE=y (f:1) did not survive: depends on EXPERT (lib/Kconfig:59), and EXPERT is not set"},
	}
	tree := loadTree(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reqs, conflicts := Merge(Layer{Fragments: []Fragment{fragment(t, "f", test.ask)}})
			if conflicts != nil {
				t.Fatal(conflicts)
			}
			misses, err := Verify(reqs, fragment(t, ".config", test.result).Values(), func() (*Tree, error) { return tree, nil })
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range misses {
				got = append(got, m.String())
			}
			if strings.Join(got, "\n") != test.want {
				t.Errorf("misses = %q\nwant     %q", got, test.want)
			}
		})
	}
}

// All misses are reported, not only the first.
func TestVerifyAll(t *testing.T) {
	reqs, _ := Merge(Layer{Fragments: []Fragment{fragment(t, "f", "CONFIG_NOPE=y\nCONFIG_FOO=y\nCONFIG_SMP=y\n")}})
	misses, err := Verify(reqs, Values{"SMP": "y"}, func() (*Tree, error) { return loadTree(t), nil })
	if err != nil || len(misses) != 2 || !misses[0].Unknown || misses[1].Symbol != "FOO" {
		t.Errorf("Verify = %v, %v", misses, err)
	}
}

// A profile is written for one version of the kernel and gives way to what the user asks for.
func TestVerifySoft(t *testing.T) {
	profile := "CONFIG_NEW_IN_LINUX_9=y\nCONFIG_SWEET=y\nCONFIG_FOO=y\n# CONFIG_GONE is not set\n"
	const info = "CONFIG_INFO_DWARF=y\nCONFIG_SCRIPTS=y\n"
	const prove = "CONFIG_PROVE=y\nCONFIG_PROVE_MORE=y\nCONFIG_CHECKED=y\n"
	tests := []struct{ name, user, result, want, profile string }{
		{"unknown to this version", "", "CONFIG_SMP=y\nCONFIG_BAR=y\nCONFIG_FOO=y\nCONFIG_SWEET=y\n", "", profile},
		{"choice", "CONFIG_SOUR=y\n", "CONFIG_SMP=y\nCONFIG_BAR=y\nCONFIG_FOO=y\nCONFIG_SOUR=y\n", "", profile},
		{"dependency turned off", "# CONFIG_BAR is not set\n", "CONFIG_SMP=y\nCONFIG_SWEET=y\n", "", profile},
		{"nobody turned it off", "", "CONFIG_SMP=y\nCONFIG_SWEET=y\n",
			"FOO=y (lab:3) did not survive: depends on BAR && !BAZ (lib/Kconfig:13), and BAR is not set", profile},
		{"by a choice, and what it selects", "CONFIG_INFO_NONE=y\n", "CONFIG_INFO_NONE=y\n", "", info},
		{"nobody chose another", "", "CONFIG_INFO_DWARF=y\n",
			"SCRIPTS=y (lab:2) did not survive: depends on INFO (lib/Kconfig:92), and INFO is not set (it has no prompt: only `select` can set it, as INFO_DWARF, INFO_BTF)", info},
		{"by a default", "# CONFIG_PROVE is not set\n", "CONFIG_SMP=y\n", "", prove},
		{"nobody turned its default off", "", "CONFIG_PROVE=y\nCONFIG_CHECKED=y\n",
			"PROVE_MORE=y (lab:2) did not survive: has no prompt: only its own default sets it, which is PROVE && SMP (lib/Kconfig:98), and SMP is not set", prove},
		{"by what is selected", "CONFIG_FAST=y\n", "CONFIG_FAST=y\nCONFIG_NO_CHECKS=y\nCONFIG_NO_TRACE=y\n", "", "# CONFIG_NO_TRACE is not set\n"},
		{"by another wish of the profile", "", "CONFIG_FAST=y\nCONFIG_NO_CHECKS=y\nCONFIG_NO_TRACE=y\n", "NO_TRACE=n (lab:1) did not hold, it is y: NO_CHECKS=y selects it (lib/Kconfig:110)", "# CONFIG_NO_TRACE is not set\nCONFIG_FAST=y\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reqs, _ := Merge(Layer{Fragments: []Fragment{fragment(t, "lab", test.profile)}, Soft: true},
				Layer{Fragments: []Fragment{fragment(t, "u", test.user)}})
			misses, err := Verify(reqs, fragment(t, ".config", test.result).Values(), func() (*Tree, error) { return loadTree(t), nil })
			got := ""
			for _, m := range misses {
				got += m.String()
			}
			if err != nil || got != test.want {
				t.Errorf("Verify = %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestVerifyNoTree(t *testing.T) {
	reqs, _ := Merge(Layer{Fragments: []Fragment{fragment(t, "f", "CONFIG_FOO=y\n")}})
	loads := 0
	load := func() (*Tree, error) { loads++; return nil, fs.ErrNotExist }
	misses, err := Verify(reqs, Values{}, load)
	if len(misses) != 1 || !errors.Is(err, fs.ErrNotExist) || loads != 1 {
		t.Errorf("Verify = %v, %v after %d loads", misses, err, loads)
	}
	if misses, err := Verify(reqs, Values{"FOO": "y"}, load); len(misses) != 0 || err != nil || loads != 1 {
		t.Errorf("Verify of what is met = %v, %v after %d loads", misses, err, loads)
	}
}

func TestExpr(t *testing.T) {
	v := Values{"Y": "y", "M": "m", "N": "n", "TEN": "10", "HEX": "0x10", "MOST": "9223372036854775807", "S": `"text"`}
	for text, want := range map[string]tristate{
		"Y":                     yes,
		"M":                     mod,
		"N || UNKNOWN":          no,
		"!M":                    mod,
		"!Y || M && Y":          mod,
		"(N || Y) && !(N && Y)": yes,
		"TEN > 9":               yes,
		"TEN>=11":               no,
		"HEX = 16":              yes,
		"MOST > -1":             yes,
		"S = \"text\"":          yes,
		"S != 'text'":           no,
		"M = m":                 yes,
		"N != n":                no,
		"UNKNOWN = n":           yes,
		"y":                     yes,
		"$(cc-option,-a,(b))":   yes,
		"!$(cc-option,-a)":      yes, // macro tests are open: both ways are thought possible
	} {
		e, err := parseExpr(text)
		if err != nil {
			t.Errorf("parseExpr(%q): %v", text, err)
			continue
		}
		if got := e.eval(v, yes); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
	for _, bad := range []string{"", "A &&", "(A", "A)", "A B", "= A", "||", strings.Repeat("(", 1000), strings.Repeat("!", 1000) + "A"} {
		if e, err := parseExpr(bad); err == nil {
			t.Errorf("parseExpr(%q) = %s, want an error", bad, e)
		}
	}
}

func FuzzExpr(f *testing.F) {
	for _, s := range []string{"A && !B || C=y", `X="a b" && $(cc,-m(x))`, "!(A || B) && C >= 0x10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseExpr(text)
		if err != nil {
			return
		}
		again, err := parseExpr(e.String())
		if err != nil || again.String() != e.String() {
			t.Fatalf("%q prints as %q, which reads as %v, %v", text, e, again, err)
		}
		v := Values{"A": "y", "C": "m"}
		if a, b := e.eval(v, yes), again.eval(v, yes); a != b {
			t.Fatalf("%q is %d, printed and read again %d", text, a, b)
		}
		if (e.eval(v, yes) < yes) != (len(e.blame(v, yes, true)) > 0) {
			t.Fatalf("%q is %d and blames %v", text, e.eval(v, yes), e.blame(v, yes, true))
		}
	})
}

func FuzzLoadTree(f *testing.F) {
	for _, file := range kernelTree {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tree, err := LoadTree(fstest.MapFS{"Kconfig": {Data: text}}, "x86")
		if err != nil {
			return
		}
		reqs, _ := Merge(Layer{Fragments: []Fragment{{Name: "f", Assignments: []Assignment{{Symbol: "FOO", Value: "y"}}}}})
		if misses, _ := Verify(reqs, Values{}, func() (*Tree, error) { return tree, nil }); len(misses) != 1 {
			t.Fatalf("Verify of an empty result = %v", misses)
		}
	})
}
