package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// Holder is who has an entry's lock: what its process wrote into the lock file.
type Holder struct {
	PID      int       `json:"pid"`      // 0 if not known
	Describe string    `json:"describe"` // the entry, or what is done to it
	Since    time.Time `json:"since"`
}

// Wait tells that somebody waits for an entry that another one is building.
type Wait struct {
	Kind   Kind
	Key    string
	Holder Holder
}

// WithOnWait returns the same cache with a callback, which [Cache.Ensure] calls once before
// it waits for another one's lock, in the goroutine that waits.
func (c *Cache) WithOnWait(f func(Wait)) *Cache {
	with := *c
	with.onWait = f
	return &with
}

// Hold keeps an entry from being removed, by this process or another, until release is
// called or the process ends. A cache that cannot be written to keeps everything anyway.
func (c *Cache) Hold(e *Entry) (release func(), err error) {
	if c.shared != nil && e.Path == c.shared.Path(e.Kind, e.Key) {
		return c.shared.Hold(e)
	}
	f, ok, err := c.open(e.Kind, e.Key, (*flock.Flock).TryRLock)
	if err != nil && unwritable(err) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hold %s/%s: %w", e.Kind, e.Key, err)
	}
	if !ok {
		return nil, &BusyError{e.Kind, e.Key, c.holder(e.Kind, e.Key)}
	}
	if _, err := c.read(e.Kind, e.Key); err != nil {
		_ = f.Unlock()
		return nil, fmt.Errorf("%s/%s: %w", e.Kind, e.Key, ErrMissing)
	}
	return func() { _ = f.Unlock() }, nil
}

// lockRetry is how often a waiting process looks again: flock(2) itself cannot wait and
// be cancelled.
const lockRetry = 50 * time.Millisecond

// nameRetries is how often a waiting process looks again for who has the lock: it says so only
// when it has it.
const nameRetries = 20

type lock struct {
	file *flock.Flock
	path string
}

func (c *Cache) lockFile(kind Kind, key string) string {
	return filepath.Join(c.dir, "locks", string(kind)+"-"+key)
}

// lock takes the entry's lock, waiting for it until ctx ends.
func (c *Cache) lock(ctx context.Context, kind Kind, key, describe string) (*lock, error) {
	l, err := c.tryLock(kind, key, describe)
	var busy *BusyError
	for i := 0; errors.As(err, &busy) && busy.Holder.PID == 0 && i < nameRetries; i++ {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockRetry):
			l, err = c.tryLock(kind, key, describe)
		}
	}
	if !errors.As(err, &busy) {
		return l, err
	}
	if c.onWait != nil {
		c.onWait(Wait{kind, key, busy.Holder})
	}
	file := flock.New(c.lockFile(kind, key))
	if _, err := file.TryLockContext(ctx, lockRetry); err != nil {
		return nil, err
	}
	return newLock(file, describe), nil
}

// tryLock takes the entry's lock; the error is a *BusyError if another one has it.
func (c *Cache) tryLock(kind Kind, key, describe string) (*lock, error) {
	file, ok, err := c.open(kind, key, (*flock.Flock).TryLock)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &BusyError{kind, key, c.holder(kind, key)}
	}
	return newLock(file, describe), nil
}

// open opens the entry's lock file, making it if need be, and tries to lock it.
func (c *Cache) open(kind Kind, key string, try func(*flock.Flock) (bool, error)) (*flock.Flock, bool, error) {
	name := c.lockFile(kind, key)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return nil, false, err
	}
	file := flock.New(name)
	ok, err := try(file)
	return file, ok, err
}

// newLock writes the holder into the file of a lock just taken. That is news for people,
// no more: if the disk is full, they learn less.
func newLock(file *flock.Flock, describe string) *lock {
	l := &lock{file: file, path: file.Path()}
	if data, err := json.Marshal(Holder{os.Getpid(), describe, time.Now().Round(0)}); err == nil {
		_ = os.WriteFile(l.path, append(data, '\n'), 0o600)
	}
	return l
}

// release gives the lock up. The file stays: to remove it would let two processes have
// the lock at once, one by the old file and one by a new one.
func (l *lock) release() {
	_ = os.Truncate(l.path, 0)
	_ = l.file.Unlock()
}

// holder reads who has the entry's lock.
func (c *Cache) holder(kind Kind, key string) Holder {
	var h Holder
	data, err := os.ReadFile(c.lockFile(kind, key))
	if err != nil || json.Unmarshal(data, &h) != nil {
		return Holder{}
	}
	return h
}
