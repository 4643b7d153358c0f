package kbuild

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/kbuild/kconfig"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

func values(reqs []kconfig.Request) map[string]string {
	m := map[string]string{}
	for _, r := range reqs {
		m[r.Symbol] = r.Value
	}
	return m
}

func TestProfiles(t *testing.T) {
	if got := Profiles(); !reflect.DeepEqual(got, []string{"debug", "lab", "tiny"}) {
		t.Errorf("Profiles() = %q", got)
	}
	if DefaultProfile != (Config{}).profile() {
		t.Errorf("the zero Config has profile %q", Config{}.profile())
	}
	for _, name := range Profiles() {
		reqs, err := Config{Profile: name}.Requests()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := values(reqs)
		for _, symbol := range []string{"PVPANIC", "PVPANIC_PCI", "VIRTIO_CONSOLE", "SERIAL_8250_CONSOLE", "PVH", "PROC_KCORE", "MODULES"} {
			if got[symbol] != "y" {
				t.Errorf("%s: %s is %q", name, symbol, got[symbol])
			}
		}
	}
}

// debug is lab and more.
func TestDebugIncludesLab(t *testing.T) {
	lab, err := Config{}.Requests()
	if err != nil {
		t.Fatal(err)
	}
	debug, err := Config{Profile: "debug"}.Requests()
	if err != nil {
		t.Fatal(err)
	}
	got := values(debug)
	for symbol, value := range values(lab) {
		if symbol != "LOCALVERSION" && got[symbol] != value {
			t.Errorf("%s is %s in lab and %q in debug", symbol, value, got[symbol])
		}
	}
}

func TestRequests(t *testing.T) {
	dir := t.TempDir()
	a := write(t, filepath.Join(dir, "a.config"), "CONFIG_FOO=y\nCONFIG_LOG_BUF_SHIFT=20\n")
	b := write(t, filepath.Join(dir, "b.config"), "\n# CONFIG_FOO is not set\n")
	bad := write(t, filepath.Join(dir, "bad.config"), "FOO=y\n")
	tests := []struct {
		name   string
		config Config
		want   string // the error
		value  string // of LOG_BUF_SHIFT
	}{
		{"lab", Config{}, "", "18"},
		{"fragment over profile", Config{Fragments: []string{a}}, "", "20"},
		{"set over fragment", Config{Fragments: []string{a}, Set: []string{"LOG_BUF_SHIFT=12", "FOO=m"}}, "", "12"},
		{"no such profile", Config{Profile: "labs"}, `config: no profile "labs": there are debug, lab, tiny`, ""},
		{"no such file", Config{Fragments: []string{filepath.Join(dir, "none")}}, "config: read fragment: open " + dir + "/none: no such file or directory", ""},
		{"bad line", Config{Fragments: []string{bad}}, "config: " + bad + `:1: "FOO=y": a line is CONFIG_NAME=value or # CONFIG_NAME is not set`, ""},
		{"bad set", Config{Set: []string{"FOO"}}, `config: --set: "FOO": wanted NAME=value`, ""},
		{"fragments disagree", Config{Fragments: []string{a, b}}, "config: FOO=y (" + a + ":1) and FOO=n (" + b + ":2) contradict each other", ""},
		{"against base", Config{Set: []string{"PVPANIC=n", "PVH=n"}}, "config: PVPANIC=n (--set) stands against PVPANIC=y (base.config:", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reqs, err := test.config.Requests()
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := values(reqs)["LOG_BUF_SHIFT"]; got != test.value {
					t.Errorf("LOG_BUF_SHIFT=%s, want %s", got, test.value)
				}
				return
			}
			var e *ConfigError
			if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("Requests = %v\nwant a *ConfigError that says %s", err, test.want)
			}
		})
	}
}

func TestRequestsOwnProfiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "base.config"), "CONFIG_A=y\n")
	write(t, filepath.Join(dir, "tiny.config"), "CONFIG_B=y\n")
	reqs, err := Config{Profile: "tiny", Dir: dir}.Requests()
	if err != nil || len(reqs) != 2 || reqs[1].Pos.File != filepath.Join(dir, "tiny.config") {
		t.Errorf("Requests = %v, %v", reqs, err)
	}
	if _, err := (Config{Dir: dir}).Requests(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Requests without lab.config = %v", err)
	}
}

func TestConfigErrorCounts(t *testing.T) {
	e := &ConfigError{Misses: []kconfig.Miss{
		{Assignment: kconfig.Assignment{Symbol: "A", Value: "y", Pos: kconfig.Pos{File: "f", Line: 1}}, Unknown: true},
		{Assignment: kconfig.Assignment{Symbol: "B", Value: "y", Pos: kconfig.Pos{File: "f", Line: 2}}, Got: "n", Reason: "no luck"},
	}}
	if got, want := e.Error(), "config: A=y (f:1): unknown symbol (and 1 more)"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if got, want := e.Details()[1], "B=y (f:2) did not survive: no luck"; got != want {
		t.Errorf("Details()[1] = %q, want %q", got, want)
	}
}

func TestConfigureSource(t *testing.T) {
	out := t.TempDir()
	clean := t.TempDir()
	write(t, filepath.Join(clean, "Kconfig"), "")
	if err := checkSource(clean, out); err != nil {
		t.Errorf("a clean tree: %v", err)
	}
	for _, product := range []string{".config", "include/config/auto.conf", "arch/x86/include/generated/x.h"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "Kconfig"), "")
		write(t, filepath.Join(dir, product), "")
		_, err := Configure(t.Context(), &Source{Dir: dir}, Config{}, out)
		var e *FetchError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), "make mrproper") {
			t.Errorf("with %s: Configure = %v, want a *FetchError that tells of make mrproper", product, err)
		}
		if _, err := os.Stat(filepath.Join(dir, product)); err != nil {
			t.Errorf("it was removed: %v", err)
		}
	}
	if err := checkSource(t.TempDir(), out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
	if err := checkSource("/src/my linux", out); err == nil || !strings.Contains(err.Error(), "blanks") {
		t.Errorf("a blank in the path: %v", err)
	}
}
