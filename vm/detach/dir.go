package detach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"github.com/linux-kaleidoscope/kaleido/vm/gdb"
)

// Status is how far a guest's life is.
type Status string

// A guest starts, runs, and has ended.
const (
	Starting Status = "starting"
	Running  Status = "running"
	Ended    Status = "ended"
)

// State is what is known of a guest.
type State struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"` // of the process that holds it
	Status  Status    `json:"status"`
	End     string    `json:"end,omitempty"` // in words, when it has ended
	Release string    `json:"release,omitempty"`
	RunDir  string    `json:"run_dir,omitempty"`
	Since   time.Time `json:"since"` // when it got into this status

	Symbols *gdb.Symbols `json:"symbols,omitempty"` // of its kernel and modules, for a debugger
}

// endKilled is the end of a guest whose holder could not tell.
const endKilled = "the kaleido that held it was killed"

// keepEnded is how long the end of a guest is remembered.
const keepEnded = 24 * time.Hour

// Dir is a directory of names.
type Dir string

// DefaultDir is the user's directory: kaleido-UID in $TMPDIR, else in /tmp. It is not in
// $XDG_RUNTIME_DIR, which goes when the user logs out: guests stay, and their names must.
func DefaultDir(getenv func(string) string) Dir {
	tmp := getenv("TMPDIR")
	if tmp == "" {
		tmp = "/tmp"
	}
	return Dir(filepath.Join(tmp, fmt.Sprintf("kaleido-%d", os.Getuid())))
}

// InUseError says that a name is taken.
type InUseError struct{ State State }

// Error names the holder.
func (e *InUseError) Error() string {
	return fmt.Sprintf("a guest named %q is there already (%s, pid %d)", e.State.Name, e.State.Status, e.State.PID)
}

// UnknownError says that no guest has that name.
type UnknownError struct {
	Name  string
	Known []string
}

// Error lists the names that there are.
func (e *UnknownError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("no guest is named %q; there are none", e.Name)
	}
	return fmt.Sprintf("no guest is named %q; there are: %s", e.Name, strings.Join(e.Known, ", "))
}

// EndedError says that a guest's life has ended.
type EndedError struct{ State State }

// Error tells how.
func (e *EndedError) Error() string {
	return fmt.Sprintf("guest %q has ended: %s", e.State.Name, e.State.End)
}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName tells whether a guest may have that name.
func CheckName(name string) error {
	if !nameRE.MatchString(name) || strings.HasSuffix(name, lockSuffix) {
		return fmt.Errorf("guest name %q: want letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit", name)
	}
	return nil
}

const (
	lockSuffix = ".lock"
	stateFile  = "guest.json"
	socketFile = "socket"
)

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

func (d Dir) lock(name string) *flock.Flock {
	return flock.New(d.path(name)+lockSuffix, flock.SetPermissions(0o600))
}

// create makes the directory.
func (d Dir) create() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("directory of guests: %w", err)
	}
	return d.check()
}

// check refuses a directory that others can write to, or that is theirs: the one for
// temporary files is everybody's.
func (d Dir) check() error {
	st, err := os.Lstat(string(d))
	if err != nil {
		return fmt.Errorf("directory of guests: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || st.Mode().Perm()&0o077 != 0 || !ok || int(sys.Uid) != os.Getuid() {
		return fmt.Errorf("directory of guests: %s is not a directory of yours alone (want mode 0700)", d)
	}
	return nil
}

// read reads a guest's state.
func (d Dir) read(name string) (State, error) {
	text, err := os.ReadFile(filepath.Join(d.path(name), stateFile))
	if err != nil {
		return State{}, err
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, fmt.Errorf("read %s: %w", filepath.Join(d.path(name), stateFile), err)
	}
	return s, nil
}

// write writes a guest's state; the caller has the lock.
func (d Dir) write(s State) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(d.path(s.Name), stateFile), append(text, '\n'), 0o600)
}

// List is every guest that is there or has ended since yesterday, by name. It
// cleans up after holders that were killed.
func (d Dir) List() ([]State, error) {
	err := d.check()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, fmt.Errorf("directory of guests: %w", err)
	}
	var all []State
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil {
			continue
		}
		s, err := d.look(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// look reads a guest's state and corrects it if its holder is dead. The error is
// fs.ErrNotExist if there is no such guest.
func (d Dir) look(name string) (State, error) {
	lock := d.lock(name)
	free, err := lock.TryLock()
	if err != nil {
		return State{}, err
	}
	if !free {
		return d.read(name)
	}
	defer lock.Close()
	s, err := d.read(name)
	if err != nil {
		// A holder that was killed before it wrote anything, or half of it.
		return State{}, errors.Join(fs.ErrNotExist, d.remove(name))
	}
	if s.Status != Ended {
		s.Status, s.End, s.Since = Ended, endKilled, time.Now()
		return s, errors.Join(d.write(s), removeIfThere(d.socket(name)))
	}
	if time.Since(s.Since) > keepEnded {
		return State{}, errors.Join(fs.ErrNotExist, d.remove(name))
	}
	return s, nil
}

func (d Dir) socket(name string) string { return filepath.Join(d.path(name), socketFile) }

// remove forgets a guest; the caller has the lock.
func (d Dir) remove(name string) error { return os.RemoveAll(d.path(name)) }

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Find is the guest of that name, or an *UnknownError.
func (d Dir) Find(name string) (State, error) {
	if err := CheckName(name); err != nil {
		return State{}, err
	}
	all, err := d.List()
	if err != nil {
		return State{}, err
	}
	var known []string
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
		known = append(known, s.Name)
	}
	return State{}, &UnknownError{name, known}
}

// Forget removes the memory of a guest that has ended.
func (d Dir) Forget(name string) error {
	lock := d.lock(name)
	free, err := lock.TryLock()
	if err != nil || !free {
		return err
	}
	defer lock.Close()
	return d.remove(name)
}

// lockRetry is how often a waiting process looks again: flock(2) itself cannot
// wait and be cancelled.
const lockRetry = 20 * time.Millisecond

// AwaitEnd waits until the holder of a guest has ended, and with it everything about
// the guest, and returns the last that is known of it: s itself, as ended, if it was
// forgotten meanwhile.
func (d Dir) AwaitEnd(ctx context.Context, s State) (State, error) {
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for {
		now, err := d.look(s.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && (now.PID != s.PID || now.RunDir != s.RunDir):
			s.Status = Ended
			return s, nil
		case err != nil:
			return s, fmt.Errorf("wait for the end of guest %q: %w", s.Name, err)
		case now.Status == Ended && d.free(s.Name):
			return now, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, fmt.Errorf("wait for the end of guest %q: %w", s.Name, context.Cause(ctx))
		}
	}
}

// free tells whether nobody has a name's lock.
func (d Dir) free(name string) bool {
	lock := d.lock(name)
	free, err := lock.TryLock()
	return err == nil && free && lock.Close() == nil
}
