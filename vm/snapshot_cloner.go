package vm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// SnapshotStore is where a Cloner keeps snapshots: a cache.
type SnapshotStore interface {
	// Ensure returns the directory of the snapshot with that key. If there is
	// none, it has save fill an empty one, which nobody else sees before save
	// has returned nil. Of several at once, also in other processes, one saves.
	Ensure(ctx context.Context, key, describe string, save func(ctx context.Context, dir string) error) (dir string, err error)

	// Remove removes a snapshot. That somebody else has done so, or is saving
	// it anew, is no error.
	Remove(key string) error
}

// Cloner starts guests as Start does, but by restoring a snapshot, which it
// makes when there is none. It may be used from any goroutine.
type Cloner struct {
	// Store keeps the snapshots.
	Store SnapshotStore

	mu    sync.Mutex
	kinds []*cloneKind
	told  map[string]bool // what Config.Note was told
}

// cloneKind is a kind of guest, with what is known of it.
type cloneKind struct {
	argv []string // which guests are of this kind
	snap *Snapshot

	turn   chan struct{} // holds a token when nobody saves or repairs
	mu     sync.Mutex
	made   int   // how many times the snapshot was repaired
	failed int   // how many restores failed for no fault of the snapshot's
	off    error // why guests of this kind are booted
}

// maxFailed is how many restores may fail before a Cloner boots instead. They
// can take as long as a boot may.
const maxFailed = 2

// Start starts a guest: restored where that can be done, booted where not. The
// first one of a kind is booted and saved. A damaged snapshot is made anew.
// Config.Note is told, once, why guests are booted. The errors are Start's.
func (c *Cloner) Start(ctx context.Context, cfg Config) (*Instance, error) {
	k, err := c.kind(cfg)
	if errors.Is(err, ErrNoSnapshot) {
		return c.boot(ctx, cfg, err)
	}
	if err != nil {
		return nil, err
	}
	if off := k.whyOff(); off != nil {
		return Start(ctx, cfg)
	}
	m, err := c.clone(ctx, k, cfg)
	var lost *lostBoot
	switch {
	case err == nil:
		return m, nil
	case errors.As(err, &lost):
		return nil, lost.err
	case ctx.Err() != nil:
		return nil, err
	}
	return c.boot(ctx, cfg, err)
}

// lostBoot is the error of a boot that was to be saved. Another boot would end
// the same way.
type lostBoot struct{ err *BootError }

func (e *lostBoot) Error() string { return e.err.Error() }

// lostIf is err as a lostBoot, if the guest is to blame and not QEMU's fate.
func lostIf(err error) error {
	var boot *BootError
	if !errors.As(err, &boot) || errors.Is(err, ErrNoSnapshot) {
		return err
	}
	switch boot.Reason {
	case QEMUExited, Killed, Failed:
		return err
	}
	return &lostBoot{boot}
}

// boot boots a guest because there is no snapshot, and tells why, once.
func (c *Cloner) boot(ctx context.Context, cfg Config, why error) (*Instance, error) {
	line := fmt.Sprintf("booting, not restoring a snapshot: %v", why)
	c.mu.Lock()
	told := c.told[line]
	if c.told == nil {
		c.told = map[string]bool{}
	}
	c.told[line] = true
	c.mu.Unlock()
	if cfg.Note != nil && !told {
		cfg.Note(line)
	}
	return Start(ctx, cfg)
}

// kind finds out what kind of guest this is.
func (c *Cloner) kind(cfg Config) (*cloneKind, error) {
	own, err := snapshotArgs(cfg.Args)
	if err != nil {
		return nil, err
	}
	guest := cfg
	guest.Args = own
	argv, err := guest.CommandLine(cfg.Accel)
	if err != nil {
		return nil, err
	}
	argv = append(argv, string(cfg.Accel), cfg.RTC)
	c.mu.Lock()
	defer c.mu.Unlock() // the first one looks at the files, the others wait
	for _, k := range c.kinds {
		if slices.Equal(k.argv, argv) {
			return k, nil
		}
	}
	snap, err := SnapshotOf(cfg)
	if err != nil {
		return nil, err
	}
	k := &cloneKind{argv: argv, snap: snap, turn: make(chan struct{}, 1)}
	k.turn <- struct{}{}
	c.kinds = append(c.kinds, k)
	return k, nil
}

// clone restores a guest, once more if its snapshot had to be repaired.
func (c *Cloner) clone(ctx context.Context, k *cloneKind, cfg Config) (*Instance, error) {
	var damaged *SnapshotError
	for range 2 {
		made := k.count()
		dir, err := c.ensure(ctx, k, cfg)
		if err != nil {
			return nil, k.giveUp(ctx, err, maxFailed)
		}
		m, err := k.snap.Restore(ctx, cfg, dir)
		if err == nil {
			return m, nil
		}
		if !errors.As(err, &damaged) {
			return nil, k.giveUp(ctx, err, 1)
		}
		if err := c.remove(ctx, k, cfg, made, err); err != nil {
			return nil, k.giveUp(ctx, err, maxFailed)
		}
	}
	return nil, k.giveUp(ctx, damaged, maxFailed)
}

// ensure is the snapshot's directory.
func (c *Cloner) ensure(ctx context.Context, k *cloneKind, cfg Config) (string, error) {
	if err := k.lock(ctx); err != nil {
		return "", err
	}
	defer k.unlock()
	if err := k.whyOff(); err != nil {
		return "", err // found out by who had the turn before
	}
	var saveErr error
	dir, err := c.Store.Ensure(ctx, k.snap.Key, k.snap.Describe, func(ctx context.Context, dir string) error {
		saveErr = k.snap.Save(ctx, cfg, dir)
		return saveErr
	})
	if saveErr != nil {
		return "", lostIf(saveErr)
	}
	return dir, err
}

// remove removes a snapshot that was found damaged when so many repairs had been
// made.
func (c *Cloner) remove(ctx context.Context, k *cloneKind, cfg Config, made int, damage error) error {
	if err := k.lock(ctx); err != nil {
		return err
	}
	defer k.unlock()
	if k.count() != made {
		return nil // another one has done it
	}
	k.mu.Lock()
	k.made++
	k.mu.Unlock()
	if cfg.Note != nil {
		cfg.Note(fmt.Sprintf("making the snapshot anew: %v", damage))
	}
	return c.Store.Remove(k.snap.Key)
}

func (k *cloneKind) lock(ctx context.Context) error {
	select {
	case <-k.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the snapshot: %w", context.Cause(ctx))
	}
}

func (k *cloneKind) unlock() { k.turn <- struct{}{} }

func (k *cloneKind) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.made
}

func (k *cloneKind) whyOff() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.off
}

// giveUp counts a failure of some weight, unless it is only this caller's: no
// more snapshots after enough of them. It returns err.
func (k *cloneKind) giveUp(ctx context.Context, err error, weight int) error {
	if ctx.Err() != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed += weight; k.failed >= maxFailed && k.off == nil {
		k.off = err
	}
	return err
}
