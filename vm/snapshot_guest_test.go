package vm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// savedGuest is a snapshot of the test guest, made once for all tests.
func savedGuest(t *testing.T) (*vm.Snapshot, string) {
	t.Helper()
	cfg := guestConfig(t)
	s, err := vm.SnapshotOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	saveOnce.Do(func() {
		if saveDir, saveErr = os.MkdirTemp("", "kaleido-snapshot-"); saveErr != nil {
			return
		}
		vm.AtExit(func() { os.RemoveAll(saveDir) })
		begin := time.Now()
		saveErr = s.Save(t.Context(), cfg, saveDir)
		t.Logf("booted and saved in %v", time.Since(begin))
	})
	if saveErr != nil {
		t.Fatal(saveErr)
	}
	return s, saveDir
}

var (
	saveOnce sync.Once
	saveDir  string
	saveErr  error
)

// restore wakes a guest that ends with the test.
func restore(t *testing.T, s *vm.Snapshot, cfg vm.Config, dir string) *vm.Instance {
	t.Helper()
	m, err := s.Restore(t.Context(), cfg, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestRestore(t *testing.T) {
	s, dir := savedGuest(t)
	var console bytes.Buffer
	cfg := guestConfig(t)
	cfg.Console = &console
	m := restore(t, s, cfg, dir)
	t.Logf("restored in %v", m.BootTime())
	log, err := m.Dmesg(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range log {
		if !r.HasSeq || r.Seq != uint64(i) {
			t.Fatalf("record %d has number %d: %v", i, r.Seq, r)
		}
	}
	if first := log[0].Text; !strings.HasPrefix(first, "Linux version") {
		t.Errorf("the log begins with %q", first)
	}
	if !strings.Contains(string(m.ConsoleTail()), "Run /init") {
		t.Errorf("the console's tail lacks the boot: %q", m.ConsoleTail())
	}
	sh(t, m, "echo told >/dev/ttyS0")
	if mask, err := m.Taint(t.Context()); err != nil || mask != 0 {
		t.Errorf("Taint() = %#x, %v; want none", mask, err)
	}
	if err := m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, m, vm.PoweredOff)
	if got := console.String(); !strings.Contains(got, "Linux version") || !strings.Contains(got, "told\r\n") {
		t.Errorf("console lacks the boot or what came after: %q", got)
	}
}

// TestRestoredEnds: the ends of a life are told as after a boot.
func TestRestoredEnds(t *testing.T) {
	s, dir := savedGuest(t)
	for _, tt := range []struct {
		script string
		want   vm.Reason
	}{
		{"echo c >/proc/sysrq-trigger", vm.Panicked},
		{"echo b >/proc/sysrq-trigger", vm.Reset},
	} {
		m := restore(t, s, guestConfig(t), dir)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := m.Agent().Run(ctx, "sh", "-c", tt.script)
		cancel()
		if err == nil {
			t.Errorf("%s: the guest lives on", tt.script)
		}
		end := wait(t, m, tt.want)
		log, err := m.Dmesg(t.Context())
		if err != nil || len(log) < 50 {
			t.Errorf("%s: %v: the log has %d records, %v", tt.script, end, len(log), err)
		}
	}
}

// TestClones runs four side by side.
func TestClones(t *testing.T) {
	s, dir := savedGuest(t)
	before := fds(t)
	begin := time.Now()
	clones := make([]*vm.Instance, 4)
	var all sync.WaitGroup
	for i := range clones {
		cfg := guestConfig(t)
		all.Go(func() {
			m, err := s.Restore(t.Context(), cfg, dir)
			if err != nil {
				t.Error(err)
			}
			clones[i] = m
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("four restored in %v", time.Since(begin))
	t.Run("random numbers", func(t *testing.T) { differ(t, clones, "head -c 16 /dev/urandom | hexdump") })
	t.Run("boot ids", func(t *testing.T) { differ(t, clones, "cat /proc/sys/kernel/random/boot_id") })
	t.Run("kernel's random numbers", func(t *testing.T) { differ(t, clones, "cat /proc/sys/kernel/random/uuid") })
	for i, m := range clones {
		guest, err := time.Parse(time.UnixDate, strings.TrimSpace(sh(t, m, "date -u")))
		if err != nil {
			t.Fatal(err)
		}
		if off := time.Since(guest); off < -time.Second || off > 10*time.Second {
			t.Errorf("clone %d: the clock is %v behind", i, off)
		}
		sh(t, m, fmt.Sprintf("echo %d >/tmp/own", i))
	}
	for i, m := range clones {
		if got := sh(t, m, "cat /tmp/own"); got != fmt.Sprintln(i) {
			t.Errorf("clone %d has %q in its file", i, got)
		}
		pss, private := smaps(t, m.PID())
		t.Logf("clone %d: Pss %d MiB, private %d MiB", i, pss>>20, private>>20)
	}
	t.Run("modules", func(t *testing.T) { loadInOne(t, clones) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, _ = clones[0].Agent().Run(ctx, "sh", "-c", "echo c >/proc/sysrq-trigger")
	wait(t, clones[0], vm.Panicked)
	for _, m := range clones[1:] {
		if got := sh(t, m, "echo alive"); got != "alive\n" {
			t.Errorf("after another's panic: %q", got)
		}
	}
	for _, m := range clones {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := syscall.Kill(m.PID(), 0); err == nil {
			t.Errorf("QEMU %d outlives Close", m.PID())
		}
	}
	fdsAgain(t, before)
}

// fdsAgain waits for there to be no more open files than before: what goroutines still have in their
// hands when Close returns, or the collector, is closed a moment later.
func fdsAgain(t *testing.T, before int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for {
		runtime.GC()
		after := fds(t)
		if after <= before {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("%d descriptors, %d before", after, before)
			return
		}
	}
}

// loadInOne loads a module in one clone, then in another one.
func loadInOne(t *testing.T, clones []*vm.Instance) {
	t.Helper()
	err := clones[1].Agent().LoadModule(t.Context(), "hello")
	if errors.Is(err, syscall.ENOENT) {
		t.Skip("the initramfs has no module hello")
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range clones {
		if got, want := sh(t, m, "lsmod | grep -c hello; true"), fmt.Sprintln(map[bool]int{true: 1}[i == 1]); got != want {
			t.Errorf("clone %d has the module %q times, want %q", i, got, want)
		}
	}
	if err := clones[2].Agent().LoadModule(t.Context(), "hello"); err != nil {
		t.Error(err)
	}
	if err := clones[1].Agent().UnloadModule(t.Context(), "hello"); err != nil {
		t.Error(err)
	}
}

// differ wants each clone to print something else.
func differ(t *testing.T, clones []*vm.Instance, script string) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range clones {
		text := sh(t, m, script)
		if text == "" || seen[text] {
			t.Errorf("%s: %q a second time, or nothing", script, text)
		}
		seen[text] = true
	}
}

// smaps is a process's proportional share of memory, and its own, in bytes.
func smaps(t *testing.T, pid int) (pss, private int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "Pss":
			pss = kib << 10
		case "Private_Dirty", "Private_Clean":
			private += kib << 10
		}
	}
	return pss, private
}

// fds is how many descriptors this process has.
func fds(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestRestoreIsFaster compares five boots with five restores, by turns.
func TestRestoreIsFaster(t *testing.T) {
	s, dir := savedGuest(t)
	var boots, restores []time.Duration
	for range 5 {
		m := boot(t, guestConfig(t))
		boots = append(boots, m.BootTime())
		m.Close()
		begin := time.Now()
		m = restore(t, s, guestConfig(t), dir)
		t.Logf("agent after %v, restored after %v", m.BootTime(), time.Since(begin))
		restores = append(restores, m.BootTime())
		m.Close()
	}
	slices.Sort(boots)
	slices.Sort(restores)
	ratio := float64(restores[2]) / float64(boots[2])
	t.Logf("boot %v, restore %v: ratio of medians %.3f", boots, restores, ratio)
	if ratio > 0.5 {
		t.Errorf("restoring takes %.2f of a boot", ratio)
	}
	var st syscall.Stat_t
	for _, name := range []string{"ram", "state", "console.log", "snapshot.json"} {
		if err := syscall.Stat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes, %d on the disk", name, st.Size, st.Blocks*512)
	}
}

// copySnapshot is a snapshot of which one file is a copy, to be damaged.
func copySnapshot(t *testing.T, dir, name string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join(dir, e.Name()), filepath.Join(to, e.Name())
		err := os.Link(from, to)
		if e.Name() == name {
			err = errors.Join(os.Remove(to), copySparse(from, to))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestDamagedSnapshot damages each file in each way.
func TestDamagedSnapshot(t *testing.T) {
	s, dir := savedGuest(t)
	for _, name := range []string{"ram", "state", "console.log", "snapshot.json"} {
		for how, damage := range map[string]func(file string, size int64) error{
			"removed":   func(file string, _ int64) error { return os.Remove(file) },
			"truncated": func(file string, size int64) error { return os.Truncate(file, size/2) },
			"emptied":   func(file string, _ int64) error { return os.Truncate(file, 0) },
			"longer":    func(file string, size int64) error { return appendTo(file, "\x00more") },
			"flipped":   func(file string, size int64) error { return flip(file, size) },
			"a folder":  func(file string, _ int64) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
			"a pipe":    func(file string, _ int64) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				damaged := copySnapshot(t, dir, name)
				file := filepath.Join(damaged, name)
				st, err := os.Stat(file)
				if err == nil {
					err = damage(file, st.Size())
				}
				if err != nil {
					t.Fatal(err)
				}
				before := fds(t)
				m, err := s.Restore(t.Context(), guestConfig(t), damaged)
				if err == nil {
					m.Close()
				}
				var want *vm.SnapshotError
				if !errors.As(err, &want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("Restore() = %v, want a *SnapshotError of one line", err)
				}
				fdsAgain(t, before)
			})
		}
	}
}

// copySparse copies a file but for pages of zeros.
func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	var zero [4096]byte
	buf := make([]byte, len(zero))
	for at := int64(0); ; at += int64(len(buf)) {
		n, err := in.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bytes.Equal(buf[:n], zero[:n]) {
			err = errors.Join(err, out.Truncate(at+int64(n)))
		} else if _, err := out.WriteAt(buf[:n], at); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// flip changes a bit of a byte that is not zero.
func flip(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, size-size/3)
	if _, err := f.ReadAt(b, size/3); err != nil {
		return err
	}
	at := slices.IndexFunc(b, func(c byte) bool { return c > ' ' })
	b[at] ^= 0x04
	_, err = f.WriteAt(b[at:at+1], size/3+int64(at))
	return err
}
