package vm_test

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// TestDump dumps the memory of a live guest and of one that panicked. The core must have the kernel where System.map
// says that it is, and take no more room than the guest uses.
func TestDump(t *testing.T) {
	cfg := guestConfig(t)
	m := boot(t, cfg)
	dir := t.TempDir()
	check := func(name string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := m.Dump(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		checkCore(t, file, cfg.SystemMap)
	}
	check("live")
	if got := sh(t, m, "echo goes on"); got != "goes on\n" {
		t.Errorf("after the dump the guest says %q", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no time")
	cancel(why)
	if err := m.Dump(ctx, filepath.Join(dir, "none")); !errors.Is(err, why) {
		t.Errorf("Dump() without time = %v", err)
	}
	if err := m.Agent().Write(t.Context(), "/proc/sysrq-trigger", []byte("c")); err == nil {
		t.Error("the agent answers in a kernel that panicked")
	}
	wait(t, m, vm.Panicked)
	check("dead")
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("files: %v, %v; want live and dead", left, err)
	}
}

func checkCore(t *testing.T, file, systemMap string) {
	t.Helper()
	core, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	if core.Type != elf.ET_CORE || core.Machine != elf.EM_X86_64 {
		t.Errorf("%s is a %v for %v", file, core.Type, core.Machine)
	}
	const greeting = "Linux version "
	banner, text := symbol(t, systemMap, "linux_banner"), make([]byte, len(greeting))
	for _, p := range core.Progs {
		if p.Type == elf.PT_LOAD && banner >= p.Vaddr && banner < p.Vaddr+p.Filesz {
			if _, err := p.ReadAt(text, int64(banner-p.Vaddr)); err != nil {
				t.Error(err)
			}
		}
	}
	if string(text) != greeting {
		t.Errorf("%s has %q at linux_banner", file, text)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; st.Size < 256<<20 || used > st.Size/2 {
		t.Errorf("%s: %d bytes, %d on the disk", file, st.Size, used)
	}
	if st.Mode&0o077 != 0 {
		t.Errorf("%s: mode %o: the memory is nobody else's business", file, st.Mode)
	}
}

// symbol is an address of System.map.
func symbol(t *testing.T, systemMap, name string) uint64 {
	t.Helper()
	f, err := os.Open(systemMap)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) == 3 && words[2] == name {
			addr, err := strconv.ParseUint(words[0], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return addr
		}
	}
	t.Fatalf("no %s in %s", name, systemMap)
	return 0
}
