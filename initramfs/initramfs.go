// Package initramfs assembles the guest's root file system: one busybox made of u-root's
// commands and kaleido's agent, kernel modules with the index that modprobe needs, and
// whatever other files it is told to bring.
//
// # What is where in the guest
//
//	/init                            the agent, PID 1: a link to /bbin/uinit
//	/bbin/bb                         the busybox; /bbin/NAME are links to it
//	/bin /sbin /usr/bin /usr/sbin    the same folder as /bbin
//	/usr/local/bin                   empty, for programs of the user's own
//	/lib64 /lib/TRIPLET              the host's dynamic linker and libraries, if Options.Files need any
//	/lib/modules/RELEASE/extra/*.ko  Options.Modules, and depmod's files in the folder above
//	/etc/{passwd,group,hostname,os-release}
//	/dev /proc /sys /run /tmp /root /mnt /var/{log,tmp}
//
// There is no device node in it: the kernel's built-in archive has /dev/console, and
// devtmpfs does the rest.
//
// # Two products
//
// The busybox is compiled by the go command on PATH, from u-root's sources in the Go module
// cache and from the agent's, which are part of this package (or come from a checkout, see
// [Options]). That takes seconds and happens once. The archive is the busybox and the files;
// that takes milliseconds. Both are kept in the cache under the hash of all that went into
// them, and the same input gives the same bytes on any machine.
//
// The archive is an uncompressed "newc" cpio, as
// https://docs.kernel.org/driver-api/early-userspace/buffer-format.html describes it.
package initramfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// File is a file to put into the archive.
type File struct {
	// Name is its path in the guest; a leading slash may be left out. Folders above it
	// are made. It replaces a file that the archive has of itself, but not a command.
	Name string
	// Source is the file on the host whose content it gets. If Source is empty, Data is
	// the content.
	Source string
	Data   []byte
	// Mode is its permission bits; the default is Source's, or 0644 for Data. With
	// fs.ModeDir it is a folder, with fs.ModeSymlink a link to Data.
	Mode fs.FileMode
}

// Options say what is to be in an archive. Only Cache is mandatory.
type Options struct {
	// Cache keeps the busybox and the archive.
	Cache *cache.Cache
	// Release is the release of the kernel, as uname -r prints it. Modules need it.
	Release string
	// Modules are .ko files on the host. No two may have the same base name.
	Modules []string
	// Files are further files. The dynamic linker and the libraries that programs among
	// them need come along.
	Files []File
	// Programs are files on the host that may be put into the guest later: only what they
	// need of the dynamic linker and libraries is brought.
	Programs []string
	// SourceDir is the root of a checkout of kaleido, from which the agent is compiled
	// instead of from the sources in this package.
	SourceDir string
	// Arch is the guest's machine, as GOARCH has it. The default is amd64.
	Arch string
	// Log gets the output of the commands that are run. Nil discards it.
	Log io.Writer
	// Note gets a line for people when something begins that takes its time.
	Note func(line string)
}

func (o *Options) note(line string) {
	if o.Note != nil {
		o.Note(line)
	}
}

// archiveName is the archive's name in its entry of the cache.
const archiveName = "initramfs.cpio"

// Build returns the path of an archive with what opts ask for, and whether it had to be
// made. The file is the cache's: nobody may write to it.
//
// The error is a [*BuildError] if a command failed, [ErrNoGo] or [ErrNoDepmod] if one is
// missing on this machine. When ctx ends, everything that was started is killed, and
// nothing is left behind.
func Build(ctx context.Context, opts Options) (path string, made bool, err error) {
	if opts.Arch == "" {
		opts.Arch = "amd64"
	}
	box, err := newBusybox(ctx, &opts)
	if err != nil {
		return "", false, err
	}
	t, err := box.tree()
	if err != nil {
		return "", false, err
	}
	key, err := addAll(t, &opts, box.key)
	if err != nil {
		return "", false, err
	}
	e, made, err := opts.Cache.Ensure(ctx, cache.Initramfs, key, describe(&opts), func(ctx context.Context, dir string) error {
		return assemble(ctx, &opts, box, t, dir)
	})
	if err != nil {
		return "", false, err
	}
	return filepath.Join(e.Path, archiveName), made, nil
}

func describe(o *Options) string {
	text := "archive"
	if o.Release != "" {
		text += " for linux " + o.Release
	}
	return fmt.Sprintf("%s, %d modules, %d files", text, len(o.Modules), len(o.Files))
}

// addAll adds the modules and files to the tree and returns the archive's key.
func addAll(t *tree, opts *Options, busyboxKey string) (key string, err error) {
	modules, err := moduleFiles(opts)
	if err != nil {
		return "", err
	}
	h := cache.NewHash(cache.Initramfs)
	h.String("format", "1")
	h.String("busybox", busyboxKey)
	h.String("release", opts.Release)
	if err := addReleaseFolder(t, opts.Release); err != nil {
		return "", err
	}
	if len(modules) > 0 {
		id, err := depmodIdentity()
		if err != nil {
			return "", err
		}
		h.String("depmod", id)
	}
	programs := slices.Clone(opts.Files)
	for _, p := range opts.Programs {
		programs = append(programs, File{Source: p})
	}
	libs, err := libraries(programs)
	if err != nil {
		return "", err
	}
	for _, f := range slices.Concat(modules, libs, opts.Files) {
		if err := t.add(f); err != nil {
			return "", err
		}
	}
	t.hash(h)
	return h.Sum(), nil
}

// addReleaseFolder adds the folder of the kernel's modules, into which modules may be put later.
func addReleaseFolder(t *tree, release string) error {
	if release == "" {
		return nil
	}
	if release == "." || release == ".." || strings.ContainsAny(release, "/\x00") {
		return fmt.Errorf("assemble archive: bad kernel release %q", release)
	}
	return t.add(File{Name: moduleFolder(release) + "/extra", Mode: fs.ModeDir | 0o755})
}

// assemble makes the archive in dir.
func assemble(ctx context.Context, opts *Options, box *busybox, t *tree, dir string) error {
	program, err := box.ensure(ctx)
	if err != nil {
		return err
	}
	if err := t.nodes[programName].fill(File{Source: program}); err != nil {
		return fmt.Errorf("read busybox: %w", err)
	}
	if len(opts.Modules) > 0 {
		if err := addIndex(ctx, opts, t, dir); err != nil {
			return err
		}
	}
	return t.writeFile(filepath.Join(dir, archiveName))
}

// writeFile writes the archive to a new file.
func (t *tree) writeFile(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err = t.write(w); err == nil {
		err = w.Flush()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// base returns the tree that every archive has, without the busybox's content.
func base(commands []string) (*tree, error) {
	t := newTree()
	files := []File{
		{Name: programName, Mode: 0o755},
		{Name: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Name: "var/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Name: "root", Mode: fs.ModeDir | 0o700},
		{Name: "init", Data: []byte("bbin/uinit"), Mode: fs.ModeSymlink},
		{Name: "bin", Data: []byte("bbin"), Mode: fs.ModeSymlink},
		{Name: "sbin", Data: []byte("bbin"), Mode: fs.ModeSymlink},
		{Name: "usr/bin", Data: []byte("../bbin"), Mode: fs.ModeSymlink},
		{Name: "usr/sbin", Data: []byte("../bbin"), Mode: fs.ModeSymlink},
		{Name: "etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{Name: "etc/group", Data: []byte("root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")},
		{Name: "etc/hostname", Data: []byte("kaleido\n")},
		{Name: "etc/os-release", Data: []byte("ID=kaleido\nNAME=kaleido\nPRETTY_NAME=\"kaleido guest (u-root)\"\n")},
	}
	for _, dir := range strings.Fields("dev proc sys run mnt var/log usr/local/bin lib/modules") {
		files = append(files, File{Name: dir, Mode: fs.ModeDir | 0o755})
	}
	for _, name := range commands {
		files = append(files, File{Name: "bbin/" + name, Data: []byte("bb"), Mode: fs.ModeSymlink})
	}
	for _, f := range files {
		if err := t.add(f); err != nil {
			return nil, err
		}
	}
	t.own()
	return t, nil
}
