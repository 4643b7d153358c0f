package modules

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// MissingError says that somebody's folder lacks files that an exercise is to be written in.
type MissingError struct {
	Dir   string
	Files []string
}

// Error names the files.
func (e *MissingError) Error() string {
	return fmt.Sprintf("%s has no %s", e.Dir, strings.Join(e.Files, ", no "))
}

// maxSource is the size of the largest source file that is taken from others.
const maxSource = 1 << 20

// Substitute returns somebody else's sources of the exercise, to be built in place of its own: those of
// the .c and .h files that the exercise names. The build description, the helpers, and the modules
// that are only there for the tests stay the exercise's.
//
// The files are looked for in dir/CHAPTER/NAME, dir/NAME and dir. Links are not followed. The error is
// a [*MissingError] if one that the exercise cannot do without is not there.
func (ex *Exercise) Substitute(dir string) (map[string][]byte, error) {
	needed, err := ex.sources()
	if err != nil {
		return nil, fmt.Errorf("sources of %s: %w", ex.Name, err)
	}
	headers, err := filepath.Glob(filepath.Join(ex.Dir, "*.h"))
	if err != nil {
		return nil, err
	}
	from := ex.folderIn(dir, needed)
	files := map[string][]byte{}
	var missing []string
	take := func(name string) (bool, error) {
		data, err := readRegular(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		files[name] = data
		return true, err
	}
	for _, name := range needed {
		if there, err := take(name); err != nil {
			return nil, err
		} else if !there {
			missing = append(missing, name)
		}
	}
	for _, h := range headers {
		if _, err := take(filepath.Base(h)); err != nil {
			return nil, err
		}
	}
	if len(missing) > 0 {
		return nil, &MissingError{from, missing}
	}
	return files, nil
}

// folderIn returns the folder of a hand-in that has the exercise's files.
func (ex *Exercise) folderIn(dir string, files []string) string {
	for _, sub := range []string{ex.Name, path.Base(ex.Name)} {
		from := filepath.Join(dir, filepath.FromSlash(sub))
		for _, name := range files {
			if _, err := os.Lstat(filepath.Join(from, name)); err == nil {
				return from
			}
		}
	}
	return dir
}

// readRegular reads a file that is one: no link, no device, of a sane size.
func readRegular(name string) ([]byte, error) {
	info, err := os.Lstat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case info.Size() > maxSource:
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxSource)
	}
	return os.ReadFile(name)
}

// The lines of a Kbuild that name what is built. "obj-m := x.o" names the exercise's own modules,
// "obj-m += y.o" further ones that only the tests need, unless there are no others.
var (
	ownModules = regexp.MustCompile(`^obj-m\s*:?=\s*(.*)$`)
	further    = regexp.MustCompile(`^obj-m\s*\+=\s*(.*)$`)
	parts      = regexp.MustCompile(`^([\w-]+)-(?:y|objs)\s*[:+]?=\s*(.*)$`)
	programs   = regexp.MustCompile(`^userprogs-always-y\s*[:+]?=\s*(.*)$`)
)

// sources returns the .c files the exercise is to be written in: those of its own modules; or if it is
// about a program of its name, that program's. Without a build description they are all at its top but the
// helpers'.
func (ex *Exercise) sources() ([]string, error) {
	name, err := buildFile(ex.Dir)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return topSources(ex.Dir)
	}
	text, err := os.ReadFile(filepath.Join(ex.Dir, name))
	if err != nil {
		return nil, err
	}
	base := path.Base(ex.Name)
	var own, more []string
	objects := map[string][]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if m := ownModules.FindStringSubmatch(line); m != nil {
			own = append(own, strings.Fields(m[1])...)
		} else if m := further.FindStringSubmatch(line); m != nil {
			more = append(more, strings.Fields(m[1])...)
		} else if m := parts.FindStringSubmatch(line); m != nil {
			objects[m[1]+".o"] = append(objects[m[1]+".o"], strings.Fields(m[2])...)
		}
		if m := programs.FindStringSubmatch(line); m != nil && slices.Contains(strings.Fields(m[1]), base) {
			return []string{base + ".c"}, nil
		}
	}
	if len(own) == 0 {
		own = more
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("%s has no line of the form obj-m := NAME.o, by which to tell the files to be handed in", filepath.Join(ex.Dir, name))
	}
	var files []string
	for _, object := range own {
		of := objects[object]
		if of == nil {
			of = []string{object}
		}
		for _, o := range of {
			files = append(files, strings.TrimSuffix(o, ".o")+".c")
		}
	}
	return files, nil
}

// topSources are the C files of a folder that has nothing else to say what they are.
func topSources(dir string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(dir, "*.c"))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range all {
		if !strings.HasSuffix(name, helperSuffix) {
			files = append(files, filepath.Base(name))
		}
	}
	return files, nil
}

// substitute puts files in the place of those of the same names, and beside them where there are none.
func substitute(files []sourceFile, by map[string][]byte) []sourceFile {
	files = slices.DeleteFunc(files, func(f sourceFile) bool {
		_, replaced := by[f.name]
		return replaced
	})
	for _, name := range slices.Sorted(maps.Keys(by)) {
		files = append(files, sourceFile{name: name, data: by[name], mode: 0o644})
	}
	return files
}
