package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSnapshotCommandLine(t *testing.T) {
	cfg := Config{Kernel: "vmlinux", Initrd: "initramfs.cpio", Append: []string{"debug"}, Args: []string{"-device", "vmcoreinfo"}}
	cfg = cfg.withDefaults()
	for name, disk := range map[string]*ramFile{
		"save":    {},
		"restore": {private: true, state: os.Stdin},
	} {
		argv := cfg.argv(AccelTCG, disk.channels(inherited))
		golden(t, "run-"+name+".golden", strings.Join(argv, "\n")+"\n")
	}
}

func TestSnapshotArgs(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", ""},
		{"-device vmcoreinfo", "-device vmcoreinfo"},
		{"--device vmcoreinfo -gdb unix:/tmp/s,server=on -s -d int -global pvpanic.events=1", "-device vmcoreinfo -global pvpanic.events=1"},
		{"-drive file=disk", "no"},
		{"-device usb-host,hostbus=1", "no"},
		{"-device e1000,romfile=/tmp/rom", "no"},
		{"-snapshot", "no"},
		{"-nic user", "no"},
		{"disk.img", "no"},
	} {
		got, err := snapshotArgs(strings.Fields(tt.args))
		if no := errors.Is(err, ErrNoSnapshot); no != (tt.want == "no") || !no && strings.Join(got, " ") != tt.want {
			t.Errorf("snapshotArgs(%s) = %q, %v; want %s", tt.args, got, err, tt.want)
		}
	}
}

// TestSnapshotKey changes each thing that makes a difference, and some that
// make none.
func TestSnapshotKey(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	qemu, kernel, initrd := file("qemu", "Q"), file("kernel", "K"), file("initrd", "I")
	cpuinfo := file("cpuinfo", "processor: 0\nflags: vmx\ncpu MHz: 1\n\nprocessor: 1\n")
	base := Config{QEMU: qemu, Kernel: kernel, Initrd: initrd, Accel: AccelTCG}
	keyOf := func(name string, change func(*Config)) string {
		cfg := base
		change(&cfg)
		s, err := SnapshotOf(cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return s.Key
	}
	same := keyOf("base", func(*Config) {})
	kvm := keyOf("kvm", func(c *Config) { c.Accel, c.Probe.CPUInfo = AccelKVM, cpuinfo })
	seen := []string{same, kvm}
	for name, change := range map[string]func(*Config){
		"kernel":    func(c *Config) { c.Kernel = file("other", "k") },
		"initrd":    func(c *Config) { c.Initrd = file("other2", "i") },
		"no initrd": func(c *Config) { c.Initrd = "" },
		"append":    func(c *Config) { c.Append = []string{"x"} },
		"quiet":     func(c *Config) { c.Quiet = true },
		"cpus":      func(c *Config) { c.CPUs = 3 },
		"memory":    func(c *Config) { c.MemoryMiB = 300 },
		"cpu":       func(c *Config) { c.CPU = "max" },
		"args":      func(c *Config) { c.Args = []string{"-device", "x"} },
		"qemu":      func(c *Config) { c.QEMU = file("qemu2", "Q") },
		"host":      func(c *Config) { c.Accel, c.Probe.CPUInfo = AccelKVM, file("cpuinfo2", "flags: svm\n") },
	} {
		key := keyOf(name, change)
		if len(key) != 40 || slices.Contains(seen, key) {
			t.Errorf("%s: key %s is another kind's", name, key)
		}
		seen = append(seen, key)
	}
	for name, change := range map[string]func(*Config){
		"name of the kernel": func(c *Config) { c.Kernel = file("kernel2", "K") },
		"gdb":                func(c *Config) { c.Args = []string{"-gdb", "tcp::1"} },
		"how it is run": func(c *Config) {
			c.Dir, c.SystemMap, c.BootTimeout, c.Console = "x", kernel, time.Second, os.Stderr
		},
	} {
		if key := keyOf(name, change); key != same {
			t.Errorf("%s makes a difference", name)
		}
	}
	file("cpuinfo", "processor: 0\nflags: vmx\ncpu MHz: 2\n\nprocessor: 1\n")
	if keyOf("frequency", func(c *Config) { c.Accel, c.Probe.CPUInfo = AccelKVM, cpuinfo }) != kvm {
		t.Error("the processor's frequency makes a difference")
	}
	if err := os.Chtimes(qemu, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if keyOf("newer QEMU", func(*Config) {}) == same {
		t.Error("another QEMU has the same key")
	}
}

func TestNoSnapshotOf(t *testing.T) {
	cfg := Config{QEMU: "/bin/sh", Kernel: "snapshot.go", RTC: "base=2020-01-01"}
	if _, err := SnapshotOf(cfg); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("with a clock of its own: %v", err)
	}
	cfg = Config{QEMU: "/nowhere/qemu", Kernel: "snapshot.go"}
	if _, err := SnapshotOf(cfg); !errors.Is(err, ErrNoQEMU) {
		t.Errorf("without QEMU: %v", err)
	}
}

// oldQEMU plays a QEMU that knows no snapshots like ours.
func oldQEMU(monitor io.ReadWriter) {
	fmt.Fprintln(monitor, `{"QMP": {"version": {"qemu": {"micro": 0, "minor": 11, "major": 3}, "package": ""}, "capabilities": []}}`)
	for in := json.NewDecoder(monitor); ; {
		var command struct{ Execute, ID string }
		if in.Decode(&command) != nil {
			return
		}
		answer := `"return": {}`
		if command.Execute == "migrate-set-capabilities" {
			answer = `"error": {"class": "GenericError", "desc": "Invalid parameter 'x-ignore-shared'"}`
		}
		fmt.Fprintf(monitor, "{%s, \"id\": %q}\n", answer, command.ID)
		if command.Execute == "quit" {
			return
		}
	}
}

// TestOldQEMU finds out before the guest boots.
func TestOldQEMU(t *testing.T) {
	t.Setenv("KALEIDO_TEST_OLD_QEMU", "1")
	cfg := Config{QEMU: os.Args[0], Kernel: "snapshot.go", Accel: AccelTCG}
	s, err := SnapshotOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := s.Save(t.Context(), cfg, dir); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("Save() = %v, want ErrNoSnapshot", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestSumRAM: the sum is of the content, wherever the holes are.
func TestSumRAM(t *testing.T) {
	const size = 3 << 20
	write := func(name string, holes bool, data map[int64]string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err == nil && holes {
			err = f.Truncate(size)
		} else if err == nil {
			_, err = f.Write(make([]byte, size))
		}
		for at, text := range data {
			if err == nil {
				_, err = f.WriteAt([]byte(text), at)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	sum := func(f *os.File, punch bool) ramSum {
		s, err := sumRAM(t.Context(), f, punch)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	sparse := write("sparse", true, map[int64]string{5000: "a", size - 1: "b"})
	full := write("full", false, map[int64]string{5000: "a", size - 1: "b"})
	want := sum(sparse, false)
	if want.Size != size || want.Used != 2*pageSize {
		t.Errorf("sum = %+v, want two pages of %d bytes", want, size)
	}
	for _, punch := range []bool{false, true, false} {
		if got := sum(full, punch); got != want {
			t.Errorf("without holes (punch %t): %+v, want %+v", punch, got, want)
		}
	}
	for name, data := range map[string]map[int64]string{
		"empty":      nil,
		"one page":   {5000: "a"},
		"other page": {9096: "a", size - 1: "b"},
		"other byte": {5001: "a", size - 1: "b"},
	} {
		if got := sum(write("other", true, data), false); got == want {
			t.Errorf("%s has the same sum", name)
		}
	}
}
