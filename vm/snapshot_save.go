package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/vm/qmp"
)

// saveLimit bounds all of a save but the boot, which takes some 0.2 s.
const saveLimit = time.Minute

// Save boots a guest of this kind and saves it, as it is when its agent has
// answered, to files in dir, an empty directory. The files take the guest's
// memory in use on the disk, and are valid for this machine and account.
//
// Of cfg, which must be of this kind, Dir gets the logs of the boot, and Note
// and BootTimeout are used. The error is as Start's, or it wraps ErrNoSnapshot.
// No error leaves a process or a file behind.
func (s *Snapshot) Save(ctx context.Context, cfg Config, dir string) error {
	return s.SavePrepared(ctx, cfg, dir, nil)
}

// SavePrepared is Save of a guest that prepare, unless it is nil, has made ready: its
// modules loaded, its files put, programs running, whose input and output ends. What
// prepare does to the guest is saved; an error of its own is returned as it is, and
// nothing saved. Config.Console is used.
func (s *Snapshot) SavePrepared(ctx context.Context, cfg Config, dir string, prepare func(context.Context, *Instance) error) error {
	cfg, err := s.match(cfg)
	if err != nil {
		return err
	}
	size := int64(cfg.MemoryMiB) << 20
	if err := enoughSpace(dir, size); err != nil {
		return err
	}
	if prepare == nil {
		cfg.Console = nil
		prepare = func(context.Context, *Instance) error { return nil }
	}
	err = s.save(ctx, cfg, dir, prepare)
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && !errors.Is(err, ErrNoSnapshot) {
		err = blameDisk(err, dir)
	}
	for _, name := range []string{snapshotRAM, snapshotState, snapshotConsole, snapshotManifest} {
		if rm := os.Remove(filepath.Join(dir, name)); rm != nil && !errors.Is(rm, os.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	}
	return err
}

// save is Save without the cleaning up.
func (s *Snapshot) save(ctx context.Context, cfg Config, dir string, prepare func(context.Context, *Instance) error) error {
	cfg.Args = s.cfg.Args
	m, err := withFallback(ctx, cfg, s.choice, func(c choice) (*Instance, error) {
		ram, err := os.OpenFile(filepath.Join(dir, snapshotRAM), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("save guest: %w", err)
		}
		return start(ctx, cfg, c, &ramFile{file: ram, ready: allowSnapshots})
	})
	if err != nil {
		return err
	}
	defer m.Close()
	if err := prepare(ctx, m); err != nil {
		return m.unlessEnded(ctx, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, saveLimit, errors.New("QEMU does not come to an end"))
	defer cancel()
	man := manifest{Key: s.Key, QEMU: m.qemuVersion(), Accel: m.accel, Args: m.argv}
	if man.State, err = m.saveState(ctx, filepath.Join(dir, snapshotState)); err != nil {
		return m.unlessEnded(ctx, fmt.Errorf("save guest: %w", err))
	}
	if man.Console, err = copyFile(m.dir.File(ConsoleLog), filepath.Join(dir, snapshotConsole)); err != nil {
		return fmt.Errorf("save guest: %w", err)
	}
	m.Close() // only now does nobody write to the RAM file any more
	if err := man.finish(ctx, dir); err != nil {
		return fmt.Errorf("save guest: %w", err)
	}
	return nil
}

// allowSnapshots has QEMU leave the RAM in the file out of the state, and tell
// by events how far it got. A QEMU that does not know how is too old.
func allowSnapshots(ctx context.Context, m *Instance) error {
	type capability struct {
		Name string `json:"capability"`
		On   bool   `json:"state"`
	}
	args := map[string][]capability{"capabilities": {{"x-ignore-shared", true}, {"events", true}}}
	err := m.mon.Execute(ctx, "migrate-set-capabilities", args, nil)
	return refusal(err)
}

// refusal makes QEMU's no to a command an ErrNoSnapshot.
func refusal(err error) error {
	var no *qmp.Error
	if errors.As(err, &no) {
		return fmt.Errorf("%w: %w", ErrNoSnapshot, err)
	}
	return err
}

// qemuVersion is QEMU's version with its package's.
func (m *Instance) qemuVersion() string {
	v := m.mon.Version()
	return strings.TrimSpace(v.String() + " " + v.Package)
}

// unlessEnded is err, unless the guest's life has ended: that is why, then.
func (m *Instance) unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if errors.Is(err, qmp.ErrGone) || m.agent.Err() != nil {
		select {
		case <-m.ended: // the connections end a moment before
		case <-ctx.Done():
			return err
		}
	}
	select {
	case <-m.ended:
		return m.bootError(m.end)
	default:
		return err
	}
}

// saveState stops the guest and saves what is not in the RAM file. The agent's
// port stays open until QEMU has ended: one that is closed before would read as
// end of file in the guest that is restored.
func (m *Instance) saveState(ctx context.Context, name string) (textSum, error) {
	if err := m.mon.Raw(ctx).Stop(); err != nil {
		return textSum{}, err
	}
	if m.mon.Count(qmp.EventGuestPanicked)+m.mon.Count(qmp.EventShutdown) > 0 {
		<-m.ended
		return textSum{}, errors.New("the guest's life has ended")
	}
	events := m.mon.Subscribe(eventMigration)
	defer events.Close()
	r, err := m.handPipe(ctx, "state")
	if err != nil {
		return textSum{}, err
	}
	defer r.Close()
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return textSum{}, err
	}
	defer file.Close()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(file, r)
		r.Close() // a full disk must not keep QEMU waiting
		copied <- err
	}()
	err = refusal(m.mon.Execute(ctx, "migrate", map[string]string{"uri": "fd:state"}, nil))
	if err == nil {
		err = m.awaitMigration(ctx, events)
	}
	if err != nil {
		r.Close()
	}
	// QEMU has closed its end, or we have closed ours.
	if copyErr := <-copied; copyErr != nil && !errors.Is(copyErr, os.ErrClosed) {
		err = copyErr
	}
	if err != nil {
		return textSum{}, err
	}
	text, err := os.ReadFile(name)
	return sumOf(text), err
}

// handPipe makes a pipe and gives QEMU the end to write to under a name. By
// number, as an inherited descriptor, QEMU takes it only for reading; a plain
// file instead of a pipe is deprecated since QEMU 9.1.
func (m *Instance) handPipe(ctx context.Context, name string) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer w.Close()
	if err := m.wires.sendFile(w); err != nil {
		r.Close()
		return nil, err
	}
	if err := m.mon.Execute(ctx, "getfd", map[string]string{"fdname": name}, nil); err != nil {
		r.Close()
		return nil, refusal(err)
	}
	return r, nil
}

// eventMigration tells how far a migration is; its data are a status.
const eventMigration = "MIGRATION"

// awaitMigration waits until the state is written or loaded.
func (m *Instance) awaitMigration(ctx context.Context, events *qmp.Subscription) error {
	for {
		select {
		case e, ok := <-events.C():
			switch {
			case !ok:
				return fmt.Errorf("migration: %w", qmp.ErrGone)
			case e.Data["status"] == "completed":
				return nil
			case e.Data["status"] == "failed", e.Data["status"] == "cancelled":
				return m.migrationFailed(ctx)
			}
		case <-ctx.Done():
			return fmt.Errorf("migration: %w", context.Cause(ctx))
		}
	}
}

// errMigration says that QEMU gave up.
var errMigration = errors.New("migration failed")

func (m *Instance) migrationFailed(ctx context.Context) error {
	var info struct {
		Desc string `json:"error-desc"`
	}
	if err := m.mon.Execute(ctx, "query-migrate", nil, &info); err != nil || info.Desc == "" {
		return errMigration
	}
	return fmt.Errorf("%w: %s", errMigration, info.Desc)
}

// finish describes the RAM file and writes the manifest.
func (man *manifest) finish(ctx context.Context, dir string) error {
	ram, err := os.OpenFile(filepath.Join(dir, snapshotRAM), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer ram.Close()
	if man.RAM, err = sumRAM(ctx, ram, true); err != nil {
		return err
	}
	man.SHA256 = man.seal()
	text, err := json.MarshalIndent(man, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, snapshotManifest), append(text, '\n'), 0o600)
}

// copyFile copies a small file.
func copyFile(from, to string) (textSum, error) {
	text, err := os.ReadFile(from)
	if err != nil {
		return textSum{}, err
	}
	return sumOf(text), os.WriteFile(to, text, 0o600)
}

// enoughSpace tells whether a guest of this size fits on dir's disk even if it
// uses all of its memory. QEMU would be killed where it does not.
func enoughSpace(dir string, size int64) error {
	free, err := freeSpace(dir)
	if err != nil {
		return fmt.Errorf("save guest: %w", err)
	}
	if free < size {
		return fmt.Errorf("%w: %s has %d MiB free, and the guest has %d: %w", ErrNoSnapshot, dir, free>>20, size>>20, syscall.ENOSPC)
	}
	return nil
}

// blameDisk adds that the disk is full to an error that this may have caused:
// a QEMU that finds no block for its memory dies of a bus error.
func blameDisk(err error, dir string) error {
	const little = 1 << 20
	free, statErr := freeSpace(dir)
	if statErr != nil || free >= little && !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return fmt.Errorf("%w: %s: %w (%w)", ErrNoSnapshot, dir, syscall.ENOSPC, err)
}

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}
