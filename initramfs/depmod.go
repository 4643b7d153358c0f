package initramfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// ErrNoDepmod says that the depmod program of kmod is missing.
var ErrNoDepmod = errors.New("depmod is not installed: install the package kmod")

// moduleFiles returns the modules as files of the archive.
func moduleFiles(opts *Options) ([]File, error) {
	if len(opts.Modules) == 0 {
		return nil, nil
	}
	if opts.Release == "" {
		return nil, errors.New("add modules to archive: no kernel release given")
	}
	var files []File
	for _, m := range opts.Modules {
		if !strings.HasSuffix(m, ".ko") {
			return nil, fmt.Errorf("add %s to archive: not a .ko file", m)
		}
		files = append(files, File{Name: path.Join(moduleFolder(opts.Release), "extra", filepath.Base(m)), Source: m, Mode: 0o644})
	}
	return files, nil
}

func moduleFolder(release string) string { return path.Join("lib/modules", release) }

// findDepmod returns the path of depmod, which is in a folder that is not on everybody's PATH.
func findDepmod() (string, error) {
	for _, name := range []string{"depmod", "/usr/sbin/depmod", "/sbin/depmod"} {
		if found, err := exec.LookPath(name); err == nil {
			return found, nil
		}
	}
	return "", ErrNoDepmod
}

// depmodIdentity stands for the depmod program in keys. Its version would cost a process to
// know; its size and time change with it.
func depmodIdentity() (string, error) {
	name, err := findDepmod()
	if err != nil {
		return "", err
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("find depmod: %w", err)
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano()), nil
}

// addIndex adds the files that depmod makes of the modules: modules.dep and others, as
// depmod(8) lists them. It works in a folder of dir.
func addIndex(ctx context.Context, opts *Options, t *tree, dir string) error {
	root := filepath.Join(dir, "depmod")
	index := filepath.Join(root, filepath.FromSlash(moduleFolder(opts.Release)))
	if err := stage(t, opts, root, index); err != nil {
		return fmt.Errorf("run depmod: %w", err)
	}
	depmod, err := findDepmod()
	if err != nil {
		return err
	}
	c := command{args: []string{depmod, "-b", root, opts.Release}, dir: root, env: os.Environ(), log: opts.Log}
	if _, err := c.run(ctx); err != nil {
		return err
	}
	if err := readIndex(t, opts, index); err != nil {
		return fmt.Errorf("run depmod: %w", err)
	}
	return os.RemoveAll(root)
}

// stage lays out the modules as depmod wants them.
func stage(t *tree, opts *Options, root, index string) error {
	extra := filepath.Join(index, "extra")
	if err := os.MkdirAll(extra, 0o777); err != nil {
		return err
	}
	// Where kmod was configured for a merged /usr, it looks below usr/lib.
	if err := os.Mkdir(filepath.Join(root, "usr"), 0o777); err != nil {
		return err
	}
	if err := os.Symlink("../lib", filepath.Join(root, "usr", "lib")); err != nil {
		return err
	}
	// Without these it warns. Nothing of the catalogue is built in, and the order is free.
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if err := os.WriteFile(filepath.Join(index, name), nil, 0o666); err != nil {
			return err
		}
	}
	for _, m := range opts.Modules {
		n := t.nodes[path.Join(moduleFolder(opts.Release), "extra", filepath.Base(m))]
		if err := n.copyTo(filepath.Join(extra, filepath.Base(m))); err != nil {
			return err
		}
	}
	return nil
}

// copyTo writes the node's content to a new file.
func (n *node) copyTo(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(n.copy(f), f.Close())
}

// readIndex adds depmod's files to the tree.
func readIndex(t *tree, opts *Options, index string) error {
	entries, err := os.ReadDir(index)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(index, e.Name()))
		if err != nil {
			return err
		}
		if err := t.add(File{Name: path.Join(moduleFolder(opts.Release), e.Name()), Data: data}); err != nil {
			return err
		}
	}
	return nil
}
