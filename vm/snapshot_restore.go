package vm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Restore wakes a guest from the files that Save left in dir, which may be
// removed as soon as it returns. The guest is as one that Start has booted: its
// memory is its own, its log and console begin with the boot, its clock is the
// host's, its random numbers are its own.
//
// cfg must be of this kind. The error is a *SnapshotError if the files are of no
// use, wraps ErrNoSnapshot if QEMU cannot restore any, and else is as Start's.
// No error leaves a process behind.
func (s *Snapshot) Restore(ctx context.Context, cfg Config, dir string) (*Instance, error) {
	cfg, err := s.match(cfg)
	if err != nil {
		return nil, err
	}
	if s.choice.note != "" {
		cfg.Note(s.choice.note)
	}
	saved, err := s.open(ctx, dir)
	if err != nil {
		return nil, err
	}
	if saved.Accel != s.choice.accel {
		cfg.Note(fmt.Sprintf("using %s, not %s, by which no guest came to life when this snapshot was made", saved.Accel, s.choice.accel))
	}
	disk, err := saved.disk()
	if err != nil {
		saved.ram.Close()
		return nil, fmt.Errorf("restore guest: %w", err)
	}
	m, err := start(ctx, cfg, choice{accel: saved.Accel}, disk)
	if err != nil {
		return nil, saved.explain(err, dir)
	}
	if err := m.wake(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// saved is a snapshot that was found whole.
type saved struct {
	manifest
	ram            *os.File
	state, console []byte
	loading        bool // QEMU has begun to load it
}

// open opens a snapshot's files and verifies them.
func (s *Snapshot) open(ctx context.Context, dir string) (*saved, error) {
	v := &saved{}
	err := v.read(dir)
	if err == nil && v.Key != s.Key {
		err = fmt.Errorf("of another kind of guest: %s, not %s", v.Key, s.Key)
	}
	if err == nil {
		err = s.openRAM(ctx, v, dir)
	}
	if err == nil {
		return v, nil
	}
	for _, ours := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EACCES} {
		if errors.Is(err, ours) {
			return nil, fmt.Errorf("restore guest: %w", err)
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("restore guest: %w", context.Cause(ctx))
	}
	return nil, &SnapshotError{Dir: dir, Err: err}
}

// maxManifest bounds a manifest; one has about 2 KB.
const maxManifest = 1 << 20

// read reads the small files.
func (v *saved) read(dir string) error {
	text, err := readSmall(filepath.Join(dir, snapshotManifest), maxManifest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &v.manifest); err != nil {
		return fmt.Errorf("%s: %w", snapshotManifest, err)
	}
	if v.SHA256 != v.seal() {
		return fmt.Errorf("%s is damaged", snapshotManifest)
	}
	if v.Accel != AccelKVM && v.Accel != AccelTCG {
		return fmt.Errorf("%s: accelerator %q", snapshotManifest, v.Accel)
	}
	if v.state, err = v.State.read(filepath.Join(dir, snapshotState)); err != nil {
		return err
	}
	v.console, err = v.Console.read(filepath.Join(dir, snapshotConsole))
	return err
}

// read reads a file that must have this content.
func (s textSum) read(name string) ([]byte, error) {
	text, err := readSmall(name, s.Size)
	if err != nil {
		return nil, err
	}
	if sumOf(text) != s {
		return nil, fmt.Errorf("%s is damaged: %d bytes, and not those that were saved", filepath.Base(name), len(text))
	}
	return text, nil
}

// readSmall reads a regular file, of which more than limit bytes are too many.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := openRegular(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is too long", filepath.Base(name))
	}
	return text, err
}

// openRegular opens a file and nothing else, such as a link or a pipe.
func openRegular(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if _, err := identify(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openRAM opens the RAM file and reads it, once as long as it does not change.
func (s *Snapshot) openRAM(ctx context.Context, v *saved, dir string) (err error) {
	// QEMU opens it for writing, though it maps it copy-on-write.
	if v.ram, err = openRegular(filepath.Join(dir, snapshotRAM), os.O_RDWR); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			v.ram.Close()
		}
	}()
	if want := int64(s.cfg.MemoryMiB) << 20; v.RAM.Size != want {
		return fmt.Errorf("%s is for %d bytes of memory, not %d", snapshotRAM, v.RAM.Size, want)
	}
	s.mu.Lock()
	defer s.mu.Unlock() // when many start at once, one reads and the others wait for it
	id, err := identify(v.ram)
	if err != nil || id == s.verified {
		return err
	}
	if id.size != v.RAM.Size {
		return fmt.Errorf("%s is damaged: it has %d bytes, not %d", snapshotRAM, id.size, v.RAM.Size)
	}
	sum, err := sumRAM(ctx, v.ram, false)
	if err != nil {
		return err
	}
	if sum != v.RAM {
		return fmt.Errorf("%s is damaged: its content is not what was saved", snapshotRAM)
	}
	s.verified = id
	return nil
}

// disk is the snapshot as QEMU gets it: the RAM file, and the state through a
// pipe, as it was verified.
func (v *saved) disk() (*ramFile, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	go func() {
		defer w.Close()
		// Ends with QEMU, or when nobody has the other end: that is told by
		// whoever wanted the state.
		_, _ = io.Copy(w, bytes.NewReader(v.state))
	}()
	return &ramFile{file: v.ram, private: true, state: r, console: v.console, ready: v.load}, nil
}

// load has QEMU load the state.
func (v *saved) load(ctx context.Context, m *Instance) error {
	if got := m.qemuVersion(); got != v.QEMU {
		return &SnapshotError{Err: fmt.Errorf("saved by QEMU %s, and this is %s", v.QEMU, got)}
	}
	events := m.mon.Subscribe(eventMigration)
	defer events.Close()
	if err := allowSnapshots(ctx, m); err != nil {
		return err
	}
	v.loading = true
	uri := map[string]string{"uri": fmt.Sprintf("fd:%d", stateFD)}
	if err := m.mon.Execute(ctx, "migrate-incoming", uri, nil); err != nil {
		return refusal(err)
	}
	return m.awaitMigration(ctx, events)
}

// explain tells a snapshot that QEMU does not load from a QEMU that failed.
func (v *saved) explain(err error, dir string) error {
	var damaged *SnapshotError
	if errors.As(err, &damaged) {
		damaged.Dir = dir
		return damaged
	}
	var start *StartError
	var exit *exec.ExitError
	gaveUp := errors.As(err, &start) && errors.As(start.Err, &exit) && exit.Exited() // not by a signal
	if errors.Is(err, errMigration) || v.loading && gaveUp {
		return &SnapshotError{Dir: dir, Err: err}
	}
	return err
}

// wake makes a clone a guest of its own: its clock, its random numbers. The log
// is collected from here on.
func (m *Instance) wake(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.cfg.bootLimit(m.accel), errSlow)
	defer cancel()
	m.tasks.Go(m.collectKmsg)
	// QEMU's vmgenid would have the kernel reseed, too, but that costs a tenth of
	// the restore, and leaves a record in the log.
	var seed [64]byte
	rand.Read(seed[:]) // never fails
	err := m.agent.AddEntropy(ctx, seed[:])
	if err == nil {
		err = m.agent.SetClock(ctx, time.Now())
	}
	if err != nil {
		return m.unlessEnded(ctx, fmt.Errorf("restore guest: %w", err))
	}
	return nil
}
