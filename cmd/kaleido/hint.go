package main

import (
	"errors"
	"io/fs"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/initramfs"
	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/vm"
)

// hintFor is what the user can do about an error, or "".
func hintFor(err error) string {
	var mk *kbuild.MakeError
	var fetch *kbuild.FetchError
	switch {
	case errors.As(err, &fetch):
		return "" // says so itself
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space there ('kaleido cache prune' does in the cache), or name another place: --cache DIR for the cache, -C DIR for the run's files"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission) && !unreadable(err):
		return "name a place that can be written to: --cache DIR for the cache, -C DIR for the run's files, -o DIR for the products of module build"
	case errors.Is(err, vm.ErrNoQEMU):
		return aptInstall("qemu-system-x86")
	case errors.Is(err, initramfs.ErrNoDepmod):
		return aptInstall("kmod")
	case errors.Is(err, exec.ErrNotFound):
		return "'kaleido doctor' says what is missing and how to install it"
	case errors.As(err, &mk) && mk.LogFile != "":
		return "the whole log is in " + mk.LogFile
	}
	return ""
}

// unreadable tells whether an error is about a file that is there and may not be read.
func unreadable(err error) bool {
	var at *fs.PathError
	return errors.As(err, &at) && at.Op == "open" && errors.Is(unix.Access(at.Path, unix.R_OK), fs.ErrPermission)
}
