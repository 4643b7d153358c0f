package kbuild

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild/confine"
)

// Limits are for compiling a stranger's code: files that are not the build's are out of its reach, by
// [confine.Rules], and it may take no more than this. What is 0 has no limit.
type Limits struct {
	Time     time.Duration // of the whole build
	CPU      time.Duration // of each process, in seconds
	Memory   uint64        // bytes of each process's address space
	FileSize uint64        // bytes of each file
}

// DefaultLimits are a hundred times what an exercise takes.
func DefaultLimits() *Limits {
	return &Limits{Time: 2 * time.Minute, CPU: time.Minute, Memory: 4 << 30, FileSize: 256 << 20}
}

// Kept says which of the limits this machine keeps, for a product's key.
func (l *Limits) Kept() string {
	if !confine.Supported() {
		return "resources"
	}
	return "resources and files"
}

// system are the folders and files in which there is a toolchain, and nobody's secrets.
var system = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
	"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload",
}

// toolchain returns the folders of the compiler and the linker in $PATH, wherever they are: of /opt/gcc/bin/gcc
// it is /opt/gcc.
func toolchain() []string {
	var dirs []string
	for _, name := range []string{"gcc", "ld"} {
		file, err := exec.LookPath(name)
		if err == nil {
			file, err = filepath.EvalSymlinks(file)
		}
		if err != nil {
			continue // Make will say so.
		}
		dir := filepath.Dir(filepath.Dir(file))
		if home := os.Getenv("HOME"); !strings.HasPrefix(home+"/", strings.TrimRight(dir, "/")+"/") {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// run runs make for the modules in dir within the limits. That one is exceeded is a *MakeError.
func (l *Limits) run(ctx context.Context, k *Kernel, dir string, cmd *command) error {
	tmp, err := os.MkdirTemp("", "kaleido-make-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	// A ccache in $PATH could not reach its cache.
	cmd.argv = append([]string{"TMPDIR=" + tmp, "CCACHE_DISABLE=1"}, cmd.argv...)
	cmd.confine = &confine.Rules{
		Read: append(append(toolchain(), system...), k.BuildTree(), k.Source), Write: []string{dir, tmp},
		CPU: l.CPU, Memory: l.Memory, FileSize: l.FileSize,
	}
	limited := ctx
	if l.Time > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, l.Time)
		defer cancel()
	}
	err = cmd.run(limited)
	if limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	_, argv := splitEnv(cmd.argv)
	first := fmt.Sprintf("compiling takes more than %v", l.Time)
	return &MakeError{Args: argv, First: first, Output: []byte(first + "\n"), Err: err}
}
