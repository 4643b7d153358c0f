package gdb

import (
	"slices"
	"strings"
	"testing"
)

func TestArgv(t *testing.T) {
	live := Session{
		Symbols: Symbols{Vmlinux: "/k/build/vmlinux", Source: "/k/linux", Dirs: []string{"/home/me/my modules"}},
		Socket:  "/tmp/x/gdb.sock", Args: []string{"-batch"},
	}
	core := live
	core.GDB, core.Core = "gdb-multiarch", "memory.elf"
	for _, test := range []struct {
		session Session
		want    string
	}{
		{live, `gdb|-q|-iex|add-auto-load-safe-path /k/build|-iex|add-auto-load-safe-path /k/linux|` +
			`-iex|directory /k/linux|-iex|directory /home/me/my\ modules|` +
			`-iex|python import sys; sys.dont_write_bytecode = True|/k/build/vmlinux|` +
			`-ex|set breakpoint pending on|-ex|target remote /tmp/x/gdb.sock|-ex|source symbols.py|-batch`},
		{core, `gdb-multiarch|-q|-iex|add-auto-load-safe-path /k/build|-iex|add-auto-load-safe-path /k/linux|` +
			`-iex|directory /k/linux|-iex|directory /home/me/my\ modules|` +
			`-iex|python import sys; sys.dont_write_bytecode = True|/k/build/vmlinux|memory.elf|` +
			`-ex|set breakpoint pending on|-ex|source symbols.py|-batch`},
	} {
		if got := strings.Join(test.session.Argv("symbols.py"), "|"); got != test.want {
			t.Errorf("Argv() = %s\nwant     %s", got, test.want)
		}
	}
}

func TestScript(t *testing.T) {
	for _, test := range []struct {
		session Session
		want    []string
	}{
		{Session{}, []string{"kaleido_modules = {}\n", "kaleido_core = False\n", "kaleido_booted = False\n"}},
		{Session{Booted: true, Symbols: Symbols{Modules: map[string]string{"m": `/a "b"/m.ko`}}},
			[]string{`kaleido_modules = {"m":"/a \"b\"/m.ko"}` + "\n", "kaleido_core = False\n", "kaleido_booted = True\n"}},
		{Session{Core: "x"}, []string{"kaleido_core = True\n", "kaleido_booted = True\n"}},
	} {
		got, err := test.session.Script()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range test.want {
			if !strings.Contains(got, line) {
				t.Errorf("%+v: no %q in the script", test.session, line)
			}
		}
	}
}

func TestOption(t *testing.T) {
	want := []string{"-chardev", "socket,id=gdb,server=on,wait=off,path=/tmp/a,,b/s", "-gdb", "chardev:gdb"}
	if got := Option("/tmp/a,b/s"); !slices.Equal(got, want) {
		t.Errorf("Option() = %q, want %q", got, want)
	}
}
