package modules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// sourceFile is a file to be laid out for make: one on disk, or data.
type sourceFile struct {
	name string // slash-separated, below the folder that make is run for
	path string // of the file on disk, or ""
	data []byte
	mode fs.FileMode
}

// hash adds the file to a key.
func (f *sourceFile) hash(h *cache.Hash) error {
	h.String("mode", f.mode.String())
	if f.path == "" {
		h.String(f.name, string(f.data))
		return nil
	}
	return h.File(f.name, f.path)
}

// write writes the file below dir.
func (f *sourceFile) write(dir string) error {
	name := filepath.Join(dir, filepath.FromSlash(f.name))
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	if f.path == "" {
		return os.WriteFile(name, f.data, f.mode)
	}
	return copyFile(name, f.path, f.mode)
}

// Source returns the text of a file that the module was built from, by the name that its debug information
// has. A file that was edited since is as it is now. Of a module that was built by somebody else the files are
// looked for beside it.
func (m *Module) Source(name string) ([]byte, error) {
	if m.sources == nil && filepath.IsLocal(name) {
		return os.ReadFile(filepath.Join(filepath.Dir(m.File), name))
	}
	i := slices.IndexFunc(m.sources, func(f sourceFile) bool { return f.name == name })
	switch {
	case i < 0:
		return nil, &fs.PathError{Op: "source", Path: name, Err: fs.ErrNotExist}
	case m.sources[i].path == "":
		return m.sources[i].data, nil
	}
	return os.ReadFile(m.sources[i].path)
}

// SourceDirs are the folders below which a debugger finds the files that the module was built from.
func (m *Module) SourceDirs() []string {
	if m.sources == nil {
		return []string{filepath.Dir(m.File)}
	}
	var dirs []string
	for _, f := range m.sources {
		dir, ok := strings.CutSuffix(f.path, string(filepath.Separator)+filepath.FromSlash(f.name))
		if ok && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func copyFile(dst, src string, mode fs.FileMode) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// leftover reports whether a file of that name is what an earlier make left behind.
func leftover(name string) bool {
	switch name {
	case "Module.symvers", "modules.order":
		return true
	}
	for _, suffix := range []string{".o", ".ko", ".mod", ".mod.c", ".cmd", ".o.d"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// leftProgram reports whether a file is a program that an earlier make left behind, or [BuildDir] put there: it
// has its source beside it.
func leftProgram(name string) (bool, error) {
	if _, err := os.Lstat(name + ".c"); err != nil {
		return false, nil
	}
	return isProgram(name)
}

// scan returns the files below dir, which may be a link, that make is to see, and
// the names of those left out that are neither files nor folders. Left out silently are leftovers, hidden folders,
// and what has nothing to do with the products, so that it is no reason to compile when it changes.
func scan(dir string) (files []sourceFile, odd []string, err error) {
	root, err := filepath.EvalSymlinks(dir) // WalkDir does not enter a link.
	if err == nil {
		files, odd, err = walkSources(root)
	}
	if err == nil {
		files, err = withoutDocuments(files)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read sources: %w", err)
	}
	return files, odd, nil
}

// walkSources is scan of a folder that is one, documents included.
func walkSources(dir string) (files []sourceFile, odd []string, err error) {
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		slashed := filepath.ToSlash(rel)
		switch {
		case d.IsDir() && rel != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir(), leftover(d.Name()), forTests(slashed) && !compiled(slashed):
			return nil
		case !d.Type().IsRegular():
			odd = append(odd, rel)
			return nil
		}
		if left, err := leftProgram(name); err != nil || left {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files = append(files, sourceFile{name: slashed, path: name, mode: info.Mode().Perm()})
		return nil
	})
	return files, odd, err
}

// forTests reports whether a file is in one of the folders that are there for the tests.
func forTests(name string) bool {
	return strings.HasPrefix(name, "test/") || strings.HasPrefix(name, "mutants/")
}

// compiled reports whether a file by that name is read by make or a compiler.
func compiled(name string) bool {
	switch path.Base(name) {
	case "Kbuild", "Makefile":
		return true
	}
	return slices.Contains([]string{".c", ".h", ".S"}, path.Ext(name))
}

// documents end the names of what people write beside a module, and of reports.
var documents = []string{".txt", ".md", ".json", ".xml", ".tap", ".log"}

// withoutDocuments leaves out documents, but for those that one of the sources names: they are compiled in.
func withoutDocuments(files []sourceFile) ([]sourceFile, error) {
	isDocument := func(f sourceFile) bool { return slices.Contains(documents, path.Ext(f.name)) }
	if !slices.ContainsFunc(files, isDocument) {
		return files, nil
	}
	var sources [][]byte
	for _, f := range files {
		if !compiled(f.name) {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil {
			return nil, err
		}
		sources = append(sources, text)
	}
	return slices.DeleteFunc(files, func(f sourceFile) bool {
		name := []byte(path.Base(f.name))
		return isDocument(f) && !slices.ContainsFunc(sources, func(text []byte) bool { return bytes.Contains(text, name) })
	}), nil
}

// topKbuild returns the build description that descends into the folders of the exercises.
func topKbuild(exercises []*Exercise) sourceFile {
	var text strings.Builder
	for _, ex := range exercises {
		fmt.Fprintf(&text, "obj-m += %s/\n", ex.Name)
	}
	return sourceFile{name: "Kbuild", data: []byte(text.String()), mode: 0o644}
}

// helperSuffix ends the names of user-space programs beside a module.
const helperSuffix = "_helper.c"

// guessKbuild returns a build description for a folder that has none: each C file at its
// top is a module of its own, or a helper program.
func guessKbuild(files []sourceFile) (sourceFile, error) {
	var text strings.Builder
	modules := 0
	for _, f := range files {
		name, isC := strings.CutSuffix(f.name, ".c")
		if !isC || strings.Contains(name, "/") {
			continue
		}
		if strings.ContainsAny(name, " \t#$:%=") {
			return sourceFile{}, fmt.Errorf("make cannot work with the name %q", f.name)
		}
		if strings.HasSuffix(f.name, helperSuffix) {
			fmt.Fprintf(&text, "userprogs-always-y += %s\nuserldflags := -static\n", name)
			continue
		}
		modules++
		fmt.Fprintf(&text, "obj-m += %s.o\n", name)
	}
	if modules == 0 {
		return sourceFile{}, fmt.Errorf("no Kbuild, no Makefile, and no C file of a module")
	}
	return sourceFile{name: "Kbuild", data: []byte(text.String()), mode: 0o644}, nil
}
