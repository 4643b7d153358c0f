package modules

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// foreign are the files that were compiled into products without being among the sources: headers
// that a Kbuild's -I finds in a folder elsewhere. They are known only when make has run.
type foreign struct {
	Files []string `json:"files"` // absolute, sorted
	Sum   string   `json:"sum"`   // of their content then; "" if one was changed while make ran
}

// foreignFile is where an entry of the cache has its foreign, if there are any.
const foreignFile = "foreign.json"

// readForeign returns an entry's foreign, nil if it has none.
func readForeign(dir string) (*foreign, error) {
	text, err := os.ReadFile(filepath.Join(dir, foreignFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := &foreign{}
	return f, json.Unmarshal(text, f)
}

// sum hashes what is in the files now.
func (f *foreign) sum() (string, error) {
	h := cache.NewHash(cache.Modules)
	for _, name := range f.Files {
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			h.String(name, "is no file")
			continue
		}
		if err := h.File(name, name); err != nil {
			return "", err
		}
	}
	return h.Sum(), nil
}

// find looks for the products in the cache. If they were made from foreign files as these are not now, the
// key is one that has their present content in it, too.
func (b *builder) find() (*cache.Entry, error) {
	for {
		e, err := b.opts.Cache.Lookup(cache.Modules, b.key)
		if err != nil {
			return nil, err
		}
		f, err := readForeign(e.Path)
		if err != nil || f == nil {
			return e, err
		}
		sum, err := f.sum()
		if err != nil || sum == f.Sum {
			return e, err
		}
		h := cache.NewHash(cache.Modules)
		h.String("sources", b.key)
		h.String("foreign", sum)
		b.key = h.Sum()
	}
}

// keepForeign notes in dir what make, whose folder work is, has compiled from elsewhere for the products in from.
func (b *builder) keepForeign(work, from, dir string) error {
	files, err := compiledFiles(from)
	if err != nil {
		return err
	}
	// What comes with the kernel is in its key. Packages may put new headers below /usr, for the
	// programs, at any time: as everywhere, that is no reason to compile again.
	known := []string{work, b.kernel.BuildTree(), b.kernel.Source, "/usr/include", "/usr/lib"}
	f := foreign{Files: slices.DeleteFunc(files, func(name string) bool {
		return slices.ContainsFunc(known, func(dir string) bool { return strings.HasPrefix(name, dir+"/") })
	})}
	if len(f.Files) == 0 {
		return nil
	}
	if f.Sum, err = f.sum(); err != nil {
		return err
	}
	for _, name := range f.Files {
		if info, err := os.Stat(name); err != nil || !info.ModTime().Before(b.began) {
			f.Sum = ""
		}
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, foreignFile), text, 0o666)
}

// compiledFiles returns the absolute names of the files that anything below dir was compiled from, sorted, by the
// lists of dependencies that kbuild keeps beside what it makes (scripts/basic/fixdep.c).
func compiledFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".cmd") || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(name)
		for line := range bytes.Lines(text) {
			dep := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(line)), `\`))
			if filepath.IsAbs(dep) && !strings.ContainsAny(dep, " :") {
				files = append(files, filepath.Clean(dep))
			}
		}
		return err
	})
	slices.Sort(files)
	return slices.Compact(files), err
}
