package vm_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// children are this process's.
func children(t *testing.T) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ") // the state and the parent follow the name
		fields := strings.Fields(rest)
		if len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// nothingLeft checks, when the test has ended, that it has left no process and
// no descriptor.
func nothingLeft(t *testing.T) {
	t.Helper()
	procs, files := children(t), fds(t)
	t.Cleanup(func() {
		if now := children(t); len(now) > len(procs) {
			t.Errorf("child processes %v, %v before", now, procs)
		}
		fdsAgain(t, files)
	})
}

// when calls do as soon as the file is there, unless it is stopped before, at
// the latest by the test's end.
func when(t *testing.T, file string, do func()) (stop func()) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(file), unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	var task sync.WaitGroup
	task.Go(func() {
		buf := make([]byte, 4096)
		for {
			if _, err := os.Stat(file); err == nil {
				do()
				return
			}
			if _, err := events.Read(buf); err != nil {
				return
			}
		}
	})
	stop = func() {
		events.Close()
		task.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// empty checks that a failed Save has cleaned up.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

// TestKilledSave kills QEMU when a file appears.
func TestKilledSave(t *testing.T) {
	for _, file := range []string{"ram", "state"} {
		t.Run(file, func(t *testing.T) {
			nothingLeft(t)
			cfg := guestConfig(t)
			s, err := vm.SnapshotOf(cfg)
			if err != nil {
				t.Fatal(err)
			}
			others := children(t)
			dir := t.TempDir()
			ctx, over := context.WithCancel(t.Context())
			stop := when(t, filepath.Join(dir, file), func() {
				for ctx.Err() == nil { // QEMU comes a moment after the first file
					for _, pid := range children(t) {
						if !slices.Contains(others, pid) {
							_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
							return
						}
					}
				}
			})
			err = s.Save(t.Context(), cfg, dir)
			over()
			stop()
			t.Logf("Save() = %v", err)
			if err == nil && file == "ram" {
				t.Error("Save() = nil with QEMU killed")
			}
			if err != nil {
				empty(t, dir)
				return
			}
			// Killed when all was written: then it must be right.
			if got := sh(t, restore(t, s, cfg, dir), "echo fine"); got != "fine\n" {
				t.Errorf("the restored guest says %q", got)
			}
		})
	}
}

func TestCancelledSave(t *testing.T) {
	for _, file := range []string{"ram", "state"} {
		t.Run(file, func(t *testing.T) {
			nothingLeft(t)
			cfg := guestConfig(t)
			s, err := vm.SnapshotOf(cfg)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			when(t, filepath.Join(dir, file), cancel)
			switch err := s.Save(ctx, cfg, dir); {
			case err == nil && file == "state": // all but done
			case !errors.Is(err, context.Canceled):
				t.Errorf("Save() = %v, want that it was cancelled", err)
			default:
				empty(t, dir)
			}
		})
	}
}

// TestKilledRestore kills QEMU at any time of a restore: that is an error, or
// the end of a guest.
func TestKilledRestore(t *testing.T) {
	s, dir := savedGuest(t)
	nothingLeft(t)
	others := children(t)
	for delay := time.Duration(0); delay < 250*time.Millisecond; delay += 25 * time.Millisecond {
		var task sync.WaitGroup
		var killed []int
		task.Go(func() {
			<-time.After(delay)
			for _, pid := range children(t) {
				if !slices.Contains(others, pid) && syscall.Kill(pid, syscall.SIGKILL) == nil {
					killed = append(killed, pid)
				}
			}
		})
		m, err := s.Restore(t.Context(), guestConfig(t), dir)
		task.Wait()
		if err == nil {
			if slices.Contains(killed, m.PID()) { // else it was not there yet
				wait(t, m, vm.QEMUExited)
			}
			m.Close()
		}
		var damaged *vm.SnapshotError
		if errors.As(err, &damaged) {
			t.Errorf("after %v: the snapshot is blamed: %v", delay, err)
		}
		t.Logf("killed after %v: %v", delay, err)
	}
}

func TestCancelledRestore(t *testing.T) {
	s, dir := savedGuest(t)
	nothingLeft(t)
	for delay := time.Duration(0); delay < 200*time.Millisecond; delay += 40 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), delay)
		m, err := s.Restore(ctx, guestConfig(t), dir)
		cancel()
		if err == nil {
			m.Close()
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", delay, err)
		}
	}
}

// TestFullDisk saves where there is no space: from the start, and from when the
// guest boots.
func TestFullDisk(t *testing.T) {
	cfg := guestConfig(t)
	cfg.MemoryMiB = 128
	for _, tt := range []struct {
		name    string
		mib     int
		fillsUp bool
	}{
		{"small", 100, false},
		{"fills up", 130, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nothingLeft(t)
			s, err := vm.SnapshotOf(cfg)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dM", tt.mib)); err != nil {
				t.Skipf("mount a small tmpfs: %v", err)
			}
			defer func() {
				if err := syscall.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			}()
			if tt.fillsUp {
				when(t, filepath.Join(dir, "ram"), func() { fill(t, filepath.Join(dir, "filler"), int64(tt.mib-20)<<20) })
			}
			err = s.Save(t.Context(), cfg, dir)
			t.Logf("Save() = %v", err)
			if !errors.Is(err, vm.ErrNoSnapshot) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Save() = %v, want ErrNoSnapshot and ENOSPC", err)
			}
			if err := os.Remove(filepath.Join(dir, "filler")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			empty(t, dir)
		})
	}
}

// fill takes space on a disk.
func fill(t *testing.T, file string, size int64) {
	t.Helper()
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// TestNotMigratable: a device that QEMU cannot save.
func TestNotMigratable(t *testing.T) {
	nothingLeft(t)
	cfg := guestConfig(t)
	cfg.Args = []string{"-device", "nvme,serial=1"}
	s, err := vm.SnapshotOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := s.Save(t.Context(), cfg, dir); !errors.Is(err, vm.ErrNoSnapshot) {
		t.Errorf("Save() = %v, want ErrNoSnapshot", err)
	}
	empty(t, dir)
}

// TestForeignSnapshot restores what another kind of guest has left.
func TestForeignSnapshot(t *testing.T) {
	_, dir := savedGuest(t)
	nothingLeft(t)
	cfg := guestConfig(t)
	cfg.Append = []string{"foreign"}
	s, err := vm.SnapshotOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var want *vm.SnapshotError
	if _, err := s.Restore(t.Context(), cfg, dir); !errors.As(err, &want) {
		t.Errorf("Restore() = %v, want a *SnapshotError", err)
	}
	if _, err := s.Restore(t.Context(), guestConfig(t), dir); err == nil {
		t.Error("Restore() of another kind's Config = nil")
	}
}

// folder is a store without locks, for one Cloner.
type folder struct {
	dir   string
	saves int
}

func (f *folder) Ensure(ctx context.Context, key, _ string, save func(context.Context, string) error) (string, error) {
	dir := filepath.Join(f.dir, key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	f.saves++
	tmp := filepath.Join(f.dir, ".tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := save(ctx, tmp); err != nil {
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

func (f *folder) Remove(key string) error { return os.RemoveAll(filepath.Join(f.dir, key)) }

// startAll starts some guests at once and closes them.
func startAll(t *testing.T, c *vm.Cloner, n int, change func(*vm.Config)) string {
	t.Helper()
	var told notes
	var all sync.WaitGroup
	for range n {
		cfg := guestConfig(t)
		cfg.Note = told.add
		cfg.Probe.Device = "/nowhere"
		if change != nil {
			change(&cfg)
		}
		all.Go(func() {
			m, err := c.Start(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			defer m.Close()
			if out, err := m.Agent().Run(t.Context(), "echo", "fine"); err != nil || string(out.Stdout) != "fine\n" {
				t.Errorf("echo fine: %v, %v", out, err)
			}
		})
	}
	all.Wait()
	return told.String()
}

func TestCloner(t *testing.T) {
	nothingLeft(t)
	store := &folder{dir: t.TempDir()}
	c := &vm.Cloner{Store: store}
	if told := startAll(t, c, 3, nil); store.saves != 1 || told != "[]" {
		t.Errorf("three guests: %d saves, told %v", store.saves, told)
	}
	names, err := filepath.Glob(filepath.Join(store.dir, "*", "ram"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if err := os.Truncate(names[0], 12345); err != nil {
		t.Fatal(err)
	}
	if told := startAll(t, c, 2, nil); store.saves != 2 || strings.Count(told, "anew") != 1 {
		t.Errorf("after damage: %d saves, told %v", store.saves, told)
	}
}

// TestClonerBoots: where there is no snapshot, guests are booted, and that is
// told once.
func TestClonerBoots(t *testing.T) {
	for name, change := range map[string]func(*vm.Config){
		"disk":   func(cfg *vm.Config) { cfg.Args = []string{"-drive", "if=none,id=d,driver=null-co,size=1M"} },
		"device": func(cfg *vm.Config) { cfg.Args = []string{"-device", "nvme,serial=1"} },
	} {
		t.Run(name, func(t *testing.T) {
			nothingLeft(t)
			c := &vm.Cloner{Store: &folder{dir: t.TempDir()}}
			if told := startAll(t, c, 2, change); strings.Count(told, "booting, not restoring") != 1 {
				t.Errorf("told %v, want one line", told)
			}
		})
	}
}

// TestClonerLostBoot: a guest that does not get as far as the agent is not
// booted again.
func TestClonerLostBoot(t *testing.T) {
	nothingLeft(t)
	cfg := guestConfig(t)
	cfg.Initrd = initrd(t, "nothing", []byte("nothing"))
	_, err := (&vm.Cloner{Store: &folder{dir: t.TempDir()}}).Start(t.Context(), cfg)
	var boot *vm.BootError
	if !errors.As(err, &boot) || boot.Reason != vm.Panicked {
		t.Errorf("Start() = %v, want a *BootError of the panic", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, vm.ConsoleLog)); err != nil {
		t.Errorf("the run has no console: %v", err)
	}
}
