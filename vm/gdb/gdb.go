// Package gdb makes the command line that puts gdb onto a kernel: one that runs under QEMU, or a dump
// of its memory. It runs nothing.
package gdb

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

//go:embed symbols.py
var symbolsScript string

// Symbols say where the names and lines of a guest's code are found.
type Symbols struct {
	// Vmlinux is the kernel with its symbols. The kernel's own scripts for gdb are used if they are beside it.
	Vmlinux string `json:"vmlinux"`

	// Modules are the files of modules with their debug information, by name.
	Modules map[string]string `json:"modules"`

	// Source is the kernel's source tree; its scripts for gdb, which are part of it, are trusted.
	Source string `json:"source"`

	// Dirs are the folders below which the modules' source files are, as debug information names them.
	Dirs []string `json:"dirs"`
}

// Session says what gdb is to look at.
type Session struct {
	// GDB is the program. Defaults to gdb.
	GDB string

	Symbols

	// Socket is the UNIX socket on which QEMU waits for gdb, see [Option].
	Socket string

	// Core is a dump of the guest's memory, instead of Socket.
	Core string

	// Booted says that the kernel is up: modules that are loaded already get their symbols, too. It is true
	// of a core in any case.
	Booted bool

	// Args are further arguments for gdb, after ours.
	Args []string
}

// Option is the argument for QEMU that makes it wait for gdb on a UNIX socket.
func Option(socket string) []string {
	return []string{"-chardev", "socket,id=gdb,server=on,wait=off,path=" + strings.ReplaceAll(socket, ",", ",,"), "-gdb", "chardev:gdb"}
}

// Argv is gdb's command line. script is where [Session.Script]'s text is.
func (s *Session) Argv(script string) []string {
	program := s.GDB
	if program == "" {
		program = "gdb"
	}
	argv := []string{program, "-q"}
	for _, dir := range []string{filepath.Dir(s.Vmlinux), s.Source} {
		argv = append(argv, "-iex", "add-auto-load-safe-path "+dir)
	}
	for _, dir := range append([]string{s.Source}, s.Dirs...) { // the last is looked at first
		argv = append(argv, "-iex", "directory "+quote(dir))
	}
	// The kernel's scripts are in the cache, which is only read.
	argv = append(argv, "-iex", "python import sys; sys.dont_write_bytecode = True", s.Vmlinux)
	if s.Core != "" {
		argv = append(argv, s.Core)
	}
	argv = append(argv, "-ex", "set breakpoint pending on")
	if s.Core == "" {
		argv = append(argv, "-ex", "target remote "+s.Socket)
	}
	argv = append(argv, "-ex", "source "+script)
	return append(argv, s.Args...)
}

// Script is the Python program that loads the symbols of modules.
func (s *Session) Script() (string, error) {
	modules := s.Modules
	if modules == nil {
		modules = map[string]string{} // nil would be null, which is no Python
	}
	files, err := json.Marshal(modules)
	if err != nil {
		return "", fmt.Errorf("gdb's script: %w", err)
	}
	truth := map[bool]string{false: "False", true: "True"}
	return fmt.Sprintf("kaleido_modules = %s\nkaleido_core = %s\nkaleido_booted = %s\n\n%s",
		files, truth[s.Core != ""], truth[s.Booted || s.Core != ""], symbolsScript), nil
}

// quote keeps gdb from taking a folder with blanks in its name for two.
func quote(dir string) string {
	return strings.NewReplacer(`\`, `\\`, ` `, `\ `, `'`, `\'`, `"`, `\"`).Replace(dir)
}
