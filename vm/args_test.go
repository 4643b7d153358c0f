package vm

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (-update writes it anew):\n%s", file, got)
	}
}

// full sets every field that is seen on a command line.
var full = Config{
	QEMU: "/opt/qemu 9/bin/qemu", Kernel: "/k/bzImage", Initrd: "/k/my initrd.cpio", Quiet: true,
	Append: []string{"debug", "loglevel=7"}, CPUs: 4, MemoryMiB: 1024, CPU: "Nehalem,+rdrand",
	RTC: "base=2020-01-01", Args: []string{"-device", "vmcoreinfo"},
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		name  string
		cfg   Config
		accel Accel
	}{
		{"default", Config{Kernel: "vmlinux"}, AccelAuto},
		{"full", full, AccelKVM},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			argv, err := tt.cfg.CommandLine(tt.accel)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "byhand-"+tt.name+".golden", strings.Join(argv, "\n")+"\n")
			run := tt.cfg.withDefaults()
			golden(t, "run-"+tt.name+".golden", strings.Join(run.argv(tt.accel, inherited), "\n")+"\n")
		})
	}
}

func TestCommandLineIsPure(t *testing.T) {
	cfg := full
	first, err := cfg.CommandLine(AccelTCG)
	if err != nil {
		t.Fatal(err)
	}
	second, err := cfg.CommandLine(AccelTCG)
	if err != nil || !slices.Equal(first, second) {
		t.Errorf("CommandLine() = %q, then %q, %v", first, second, err)
	}
}

func TestBadConfig(t *testing.T) {
	tests := []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no kernel given"},
		{Config{Kernel: "k", CPUs: -1}, "-1 processors"},
		{Config{Kernel: "k", CPUs: 1000}, "1000 processors"},
		{Config{Kernel: "k", MemoryMiB: 4}, "4 MiB of memory"},
		{Config{Kernel: "k", Accel: "magic"}, `accelerator "magic"`},
		{Config{Kernel: "k", Append: []string{"a\nb"}}, `kernel argument "a\nb"`},
	}
	for _, tt := range tests {
		if _, err := tt.cfg.CommandLine(AccelTCG); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("CommandLine of %+v = %v, want %q", tt.cfg, err, tt.want)
		}
		if m, err := Start(t.Context(), tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Start of %+v = %v, %v, want %q", tt.cfg, m, err, tt.want)
		}
	}
}

func TestRAMOf(t *testing.T) {
	tests := []struct {
		mib        int
		addr, size uint64
		want       bool
	}{
		{256, 0, 256 << 20, true},
		{256, 0, 256<<20 + 1, false},
		{256, 256 << 20, 1, false},
		{256, ^uint64(0), 2, false},
		{256, 4096, ^uint64(0), false},
		{4096, 0x80000000, 1, false},
		{4096, 0x7fffffff, 1, true},
		{4096, 0x7fffffff, 2, false},
		{4096, 4 << 30, 2 << 30, true},
		{4096, 6 << 30, 1, false},
		{2815, 0xafefffff, 1, true},
	}
	for _, tt := range tests {
		m := &memory{ram: ramOf(tt.mib)}
		if got := m.holds(tt.addr, tt.size); got != tt.want {
			t.Errorf("with %d MiB, holds(%#x, %#x) = %v, want %v", tt.mib, tt.addr, tt.size, got, tt.want)
		}
	}
}
