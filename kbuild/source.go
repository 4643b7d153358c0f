// Package kbuild turns the name of a Linux version into a built kernel: it fetches and
// verifies the source, unpacks it, configures it from fragments and compares the result
// with the request, and runs make. Every product is in a [cache.Cache] under the hash of
// all that went into it, so that nothing is done twice. Source trees are never written to.
package kbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Source is an unpacked kernel source tree. Nobody writes into it: builds have their own O=.
type Source struct {
	Dir     string `json:"dir"`      // absolute path of the tree
	Version string `json:"version"`  // as its Makefile says: "6.1.8", "6.2.0-rc1"
	ID      string `json:"id"`       // identity of the tree's content, for keys: it changes if the tree does
	Origin  string `json:"origin"`   // where it came from, for people: a URL, a file, a directory
	StandIn bool   `json:"stand_in"` // another version than the default, because kernel.org was out of reach
}

// directory returns a tree of the user's own, which stays where and as it is.
//
// Its ID is that of its path, because a kernel's build tree refers to its source by it, and
// of its content: the commit, if the tree is the top of a git work tree in which git finds
// nothing changed or untracked (files that .gitignore names do not count); else all files'
// names, modes, sizes, and times of the last change of content and of inode, which takes a
// quarter of a second and changes with any write, even one that puts the old content back.
func directory(ctx context.Context, name string) (*Source, error) {
	dir, err := filepath.Abs(name)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fetchError("use", name, err)
	}
	version, err := readVersion(dir)
	if err != nil {
		return nil, fetchError("use", name, err)
	}
	if err := checkClean(dir); err != nil {
		return nil, err
	}
	state, ok := gitCommit(ctx, dir)
	if !ok {
		if state, err = statTree(ctx, dir); err != nil {
			return nil, fetchError("use", name, err)
		}
	}
	return &Source{Dir: dir, Version: version, ID: own + dir + " " + state, Origin: dir}, nil
}

// own begins the ID of a tree of the user's own.
const own = "dir:"

// unchanged reports a tree of the user's own that is another one now.
func (s *Source) unchanged(ctx context.Context) error {
	if !strings.HasPrefix(s.ID, own) {
		return nil
	}
	now, err := directory(ctx, s.Dir)
	if err == nil && now.ID != s.ID {
		err = fmt.Errorf("the source in %s changed while it was built: build it again", s.Dir)
	}
	return err
}

// checkClean reports a tree that was built in place: make refuses O= for one, and says so
// only later. It looks at the same files as the kernel's Makefile (target outputmakefile).
func checkClean(dir string) error {
	for _, name := range []string{".config", "include/config", "arch/x86/include/generated"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return &FetchError{Op: "use", URL: dir, Err: fmt.Errorf("the tree was built in place: it has %s", name),
				Hint: "run make mrproper in it (save its .config before), or use another copy"}
		}
	}
	return nil
}

// gitCommit returns the commit of a clean git work tree whose top is dir.
func gitCommit(ctx context.Context, dir string) (string, bool) {
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err != nil {
		return "", false
	}
	status, err := git(ctx, dir, "status", "--porcelain", "--untracked-files=all", "--ignore-submodules=none")
	if err != nil || len(status) > 0 {
		return "", false
	}
	commit, err := git(ctx, dir, "rev-parse", "--verify", "HEAD^{commit}")
	if err != nil {
		return "", false
	}
	return "git:" + string(bytes.TrimSpace(commit)), true
}

// git runs a git command that writes nothing, not even a fresher index.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-optional-locks", "-C", dir}, args...)...)
	cmd.WaitDelay = time.Second
	for _, kv := range os.Environ() { // GIT_DIR and its like would name another repository
		if !strings.HasPrefix(kv, "GIT_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	return cmd.Output()
}

// statTree returns a hash of what lstat says of everything walkTree visits.
func statTree(ctx context.Context, dir string) (string, error) {
	h := sha256.New()
	err := walkTree(ctx, dir, func(name string, info fs.FileInfo) error {
		return hashStat(h, strings.TrimPrefix(name, dir), info)
	})
	if err != nil {
		return "", err
	}
	return "stat:" + hex.EncodeToString(h.Sum(nil)), nil
}

// notSource are the folders at the top of a tree that do not belong to it: git's own, and what
// a kaleido that is run there leaves of its runs.
var notSource = []string{".git", ".kaleido"}

// walkTree visits everything in a source tree.
func walkTree(ctx context.Context, dir string, visit func(name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if filepath.Dir(name) == dir && slices.Contains(notSource, d.Name()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return visit(name, info)
	})
}

var errBackdated = errors.New("a file is older than its change")

// backdated reports whether a file of a source tree was put there after the stamp was written, but with
// a time of before: make would take what it made of the file's predecessor for up to date. In doubt it
// is true.
func backdated(ctx context.Context, dir, stamp string) bool {
	made, err := os.Stat(stamp)
	if err != nil {
		return true
	}
	err = walkTree(ctx, dir, func(_ string, info fs.FileInfo) error {
		st, ok := info.Sys().(*syscall.Stat_t)
		put := ok && time.Unix(st.Ctim.Unix()).After(made.ModTime())
		if !ok || !info.IsDir() && put && !info.ModTime().After(made.ModTime()) {
			return errBackdated
		}
		return nil
	})
	return err != nil
}

// hashStat adds one file. Of directories only the name counts: what is in them follows.
func hashStat(h hash.Hash, name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("no stat(2) of " + name)
	}
	record := []int64{int64(len(name)), int64(st.Mode)}
	if !info.IsDir() {
		record = append(record, st.Size, int64(st.Ino), st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
	}
	data := []byte(name)
	for _, v := range record {
		data = binary.BigEndian.AppendUint64(data, uint64(v))
	}
	_, err := h.Write(data)
	return err
}
