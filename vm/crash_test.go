package vm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// killer is a Config.Console that sends a signal to each QEMU it sees, as soon as the guest says
// something, as often as it may.
type killer struct {
	pids   string // file with a line for each QEMU
	signal syscall.Signal

	mu     sync.Mutex
	left   int
	killed int
}

func (k *killer) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	text, err := os.ReadFile(k.pids)
	if err != nil {
		return 0, err
	}
	pids := strings.Fields(string(text))
	if k.left == 0 || len(pids) == k.killed {
		return len(p), nil
	}
	pid, err := strconv.Atoi(pids[len(pids)-1])
	if err != nil {
		return 0, err
	}
	k.left--
	k.killed++
	return len(p), syscall.Kill(pid, k.signal)
}

func TestQEMUCrash(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("needs qemu-system-x86_64")
	}
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		times  int
		wants  int  // QEMUs started
		boots  bool // at last
	}{
		{"once", syscall.SIGSEGV, 1, 2, true},
		{"always", syscall.SIGABRT, 9, 2, false},
		{"killed by somebody", syscall.SIGKILL, 9, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := guestConfig(t)
			dir := t.TempDir()
			k := &killer{pids: filepath.Join(dir, "pids"), signal: c.signal, left: c.times}
			cfg.QEMU = filepath.Join(dir, "qemu")
			script := fmt.Sprintf("#!/bin/sh\necho $$ >>'%s'\nulimit -c 0\nexec '%s' \"$@\"\n", k.pids, qemu)
			if err := os.WriteFile(cfg.QEMU, []byte(script), 0o777); err != nil {
				t.Fatal(err)
			}
			cfg.Console = k
			var notes []string
			cfg.Note = func(line string) { notes = append(notes, line) }
			m, err := vm.Start(t.Context(), cfg)
			if err == nil {
				defer m.Close()
			}
			var boot *vm.BootError
			if c.boots != (err == nil) || !c.boots && (!errors.As(err, &boot) || boot.Reason != vm.QEMUExited || !strings.Contains(boot.Detail, c.signal.String())) {
				t.Errorf("Start = %v", err)
			}
			started, err := os.ReadFile(k.pids)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(strings.Fields(string(started))); n != c.wants {
				t.Errorf("QEMU was started %d times, want %d", n, c.wants)
			}
			told := fmt.Sprintf("starting QEMU once more: it died while the guest booted (%v)", c.signal)
			if c.wants > 1 != (len(notes) == 1 && notes[0] == told) {
				t.Errorf("notes: %q", notes)
			}
		})
	}
}
