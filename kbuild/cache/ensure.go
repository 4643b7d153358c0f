package cache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ensure returns the entry of that key. If it is missing, Ensure calls build under the
// entry's lock with an empty directory to fill; when build returns nil, that directory
// gets its manifest, is flushed to disk and renamed into place, and built is true.
//
// The directory has another name while it is being built: see [Cache.Path] for its last
// one. If build fails, or the process is killed, no entry appears; the next Ensure of the
// key removes what was left. If another process builds the entry already, Ensure waits for
// it (see [Cache.WithOnWait]) and then finds the entry, or builds it if the other one could
// not. While it waits it returns ctx's error as soon as ctx ends; cancelling build is
// build's own work.
func (c *Cache) Ensure(ctx context.Context, kind Kind, key, describe string, build func(ctx context.Context, dir string) error) (e *Entry, built bool, err error) {
	if err := checkName(kind, key); err != nil {
		return nil, false, err
	}
	if e, err := c.find(kind, key); err == nil {
		return e, false, nil
	}
	l, err := c.lock(ctx, kind, key, describe)
	if err != nil {
		return nil, false, fmt.Errorf("lock %s/%s: %w", kind, key, err)
	}
	defer l.release()
	if e, err := c.find(kind, key); err == nil {
		return e, false, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	e, err = c.build(ctx, kind, key, describe, build)
	return e, err == nil, err
}

// build makes the entry; the caller has its lock.
func (c *Cache) build(ctx context.Context, kind Kind, key, describe string, build func(ctx context.Context, dir string) error) (*Entry, error) {
	if err := c.discard(kind, key); err != nil {
		return nil, fmt.Errorf("clear %s/%s: %w", kind, key, err)
	}
	tmp := c.tmp(kind, key)
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		return nil, fmt.Errorf("write to cache: %w", err)
	}
	defer removeAll(tmp) // After the rename there is nothing left to remove.
	if err := build(ctx, tmp); err != nil {
		return nil, err
	}
	m := &manifest{Kind: kind, Key: key, Describe: describe, Created: time.Now().Round(0)}
	if err := m.seal(tmp); err != nil {
		return nil, fmt.Errorf("write to cache: %w", err)
	}
	if err := os.Rename(tmp, c.Path(kind, key)); err != nil {
		return nil, fmt.Errorf("write to cache: %w", err)
	}
	if err := syncFile(filepath.Dir(tmp)); err != nil {
		return nil, fmt.Errorf("write to cache: %w", err)
	}
	return c.find(kind, key)
}

// Rework has work go on in an entry of that key, in the place that it keeps: what was
// worked on before if that was whole, else an empty directory, and fresh is true. It has
// the entry's lock and waits for it as Ensure does. If work says that the directory is
// whole, it is an entry from then on; else it is removed, as one is whose process is killed
// at it. The error is work's, if it has one.
func (c *Cache) Rework(ctx context.Context, kind Kind, key, describe string, work func(ctx context.Context, dir string, fresh bool) (whole bool, err error)) error {
	if err := checkName(kind, key); err != nil {
		return err
	}
	l, err := c.lock(ctx, kind, key, describe)
	if err != nil {
		return fmt.Errorf("lock %s/%s: %w", kind, key, err)
	}
	defer l.release()
	dir := c.Path(kind, key)
	_, err = c.read(kind, key)
	fresh := err != nil
	if fresh {
		if err = c.discard(kind, key); err == nil {
			err = os.MkdirAll(dir, 0o777)
		}
	} else if err = os.Remove(filepath.Join(dir, manifestName)); err == nil {
		err = syncFile(dir) // torn, should the power fail now
	}
	if err != nil {
		return fmt.Errorf("write to cache: %w", err)
	}
	whole, err := work(ctx, dir, fresh)
	if whole {
		m := &manifest{Kind: kind, Key: key, Describe: describe, Created: time.Now().Round(0)}
		if sealErr := m.seal(dir); sealErr == nil {
			return err
		}
	}
	return errors.Join(err, c.discard(kind, key))
}

// seal counts and lists what is in dir, flushes it to disk and writes the manifest.
func (m *manifest) seal(dir string) error {
	if err := m.scan(dir); err != nil {
		return err
	}
	if err := m.flush(dir); err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, manifestName))
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	return errors.Join(err, f.Sync(), f.Close(), syncFile(dir))
}

// scan fills in the files of dir, shallowest first.
func (m *manifest) scan(dir string) error {
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if rel == manifestName {
			return fmt.Errorf("%s: the name is the cache's own", name)
		}
		m.Size += onDisk(info)
		m.Count++
		m.Files = append(m.Files, file{filepath.ToSlash(rel), info.Size()})
		return nil
	})
	slices.SortFunc(m.Files, func(a, b file) int {
		return cmp.Or(cmp.Compare(strings.Count(a.Name, "/"), strings.Count(b.Name, "/")), cmp.Compare(a.Name, b.Name))
	})
	m.Files = m.Files[:min(len(m.Files), maxListed)]
	return err
}

// flush writes dir's files to disk, so that a manifest never outlives them in a power cut:
// one by one if they are few, else with the rest of the file system.
func (m *manifest) flush(dir string) error {
	if m.Count > len(m.Files) {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer f.Close()
		return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
	}
	dirs := map[string]bool{}
	for _, f := range m.Files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := syncFile(name); err != nil {
			return err
		}
		dirs[filepath.Dir(name)] = true
	}
	for d := range dirs {
		if err := syncFile(d); err != nil {
			return err
		}
	}
	return nil
}

// onDisk is the space that a file takes, which is less than its size if it is sparse.
func onDisk(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(st.Blocks*512, info.Size())
	}
	return info.Size()
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
