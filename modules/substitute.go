package modules

import (
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
	Dir     string
	Files   []string // that are not there
	Refused []string // what is there, but is not taken, and why
}

// Error names the files.
func (e *MissingError) Error() string {
	said := slices.Clone(e.Refused)
	if len(e.Files) > 0 {
		said = slices.Insert(said, 0, fmt.Sprintf("%s has no %s", e.Dir, strings.Join(e.Files, ", no ")))
	}
	return strings.Join(said, "; ")
}

// Substitute returns somebody else's sources of the exercise, to be built in place of its own: those of
// the .c and .h files that the exercise names. The build description, the helpers, and the modules
// that are only there for the tests stay the exercise's.
//
// The files are looked for in dir/CHAPTER/NAME, dir/NAME and dir. Links below dir are not followed. The error is
// a [*MissingError] if one that the exercise cannot do without is not there, or one is no file that can be read.
func (ex *Exercise) Substitute(dir string) (map[string][]byte, error) {
	needed, err := ex.sources()
	if err != nil {
		return nil, fmt.Errorf("sources of %s: %w", ex.Name, err)
	}
	headers, err := ex.headers()
	if err != nil {
		return nil, fmt.Errorf("headers of %s: %w", ex.Name, err)
	}
	h, err := openHandIn(dir)
	if err != nil {
		return nil, err
	}
	defer h.root.Close()
	from, skipped, err := h.folder(ex.Name, needed)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	missing := &MissingError{Dir: filepath.Join(dir, filepath.FromSlash(from))}
	for _, name := range slices.Concat(needed, headers) {
		data, err := h.read(path.Join(from, name))
		var no *refusal
		switch {
		case err == nil:
			files[name] = data
		case errors.As(err, &no):
			missing.Refused = append(missing.Refused, no.Error())
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case slices.Contains(needed, name):
			missing.Files = append(missing.Files, name)
		}
	}
	if len(missing.Files) > 0 {
		missing.Refused = append(missing.Refused, skipped...)
	}
	if len(missing.Files)+len(missing.Refused) > 0 {
		return nil, missing
	}
	return files, nil
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
	file := filepath.Join(ex.Dir, name)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	base := path.Base(ex.Name)
	var own, more []string
	objects := map[string][]string{}
	for _, line := range makeLines(string(text)) {
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
		return nil, fmt.Errorf("%s has no line of the form obj-m := NAME.o, by which to tell the files to be handed in", file)
	}
	var files []string
	for _, object := range own {
		of := objects[object]
		if of == nil {
			of = []string{object}
		}
		for _, o := range of {
			name := strings.TrimSuffix(o, ".o") + ".c"
			if !filepath.IsLocal(name) {
				return nil, fmt.Errorf("%s builds %s: want a file that can be handed in, below the folder", file, o)
			}
			files = append(files, name)
		}
	}
	return files, nil
}

// headers returns the .h files of the exercise, those in folders below it too, but for those of its tests.
func (ex *Exercise) headers() ([]string, error) {
	files, _, err := scan(ex.Dir)
	var names []string
	for _, f := range files {
		if path.Ext(f.name) == ".h" && !forTests(f.name) {
			names = append(names, f.name)
		}
	}
	return names, err
}

// makeLines returns the lines of a makefile as make sees them: those that are continued in one, without
// comments and the blanks around.
func makeLines(text string) []string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\\\n", " ")
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(makeComment.ReplaceAllString(line, "$1"))
	}
	return lines
}

var makeComment = regexp.MustCompile(`(^|[^\\])#.*`)

// topSources are the C files of a folder that has nothing else to say what they are.
func topSources(dir string) ([]string, error) {
	files, err := filesIn(dir, ".c")
	files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, helperSuffix) })
	if err == nil && len(files) == 0 {
		return nil, fmt.Errorf("%s has neither a Kbuild nor a .c file, by which to tell the files to be handed in: add a Kbuild with obj-m := NAME.o", dir)
	}
	return files, err
}

// filesIn returns the names in dir that end so, sorted; none if there is no such folder.
func filesIn(dir, suffix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
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
