package modules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Selection is an exercise, or anybody's folder, and those of its test scripts that are meant.
type Selection struct {
	Exercise *Exercise
	Own      bool     // a folder that is not of the catalogue; its exercise has the folder's name
	Scripts  []Script // sorted by name
}

// Script is a file with a test.
type Script struct {
	Name string // "general/hello/load"
	File string
}

// readme matches the names of files beside sources that are there to be read by people.
var readme = regexp.MustCompile(`(?i)^(readme|licen[cs]e|copying|copyright|authors|changelog|to-?do|notes?|cmakelists|requirements)([^a-z]|$)`)

// Scripts returns the exercise's tests: the .txt files in its folder test, sorted. If there is no such
// folder they are those beside the sources that are not named as a README.txt, LICENSE.txt or NOTES.txt is.
func (ex *Exercise) Scripts() ([]Script, error) {
	dir := filepath.Join(ex.Dir, "test")
	entries, err := os.ReadDir(dir)
	beside := errors.Is(err, fs.ErrNotExist)
	if beside {
		dir = ex.Dir
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("find tests: %w", err)
	}
	var scripts []Script
	for _, e := range entries {
		what, ok := strings.CutSuffix(e.Name(), ".txt")
		if beside && readme.MatchString(what) {
			continue
		}
		if ok && e.Type().IsRegular() && !strings.HasPrefix(what, ".") {
			scripts = append(scripts, Script{Name: ex.Name + "/" + what, File: filepath.Join(dir, e.Name())})
		}
	}
	return scripts, nil
}

// Select returns the exercises below root that match any of the patterns, with the tests that are
// meant, sorted by name and each once. A pattern is one of Find's, or one with *, ? or [ as
// [path.Match] has them, or either followed by "/" and a test's name: "hello/load", "general/*/load".
// With no pattern it returns all there are. The error is a [*NoMatchError] for a pattern that matches nothing.
func Select(root string, patterns ...string) ([]Selection, error) {
	all, err := discover(root)
	if err != nil {
		return nil, fmt.Errorf("find exercises: %w", err)
	}
	matched := make([]bool, len(patterns))
	var selected []Selection
	for _, ex := range all {
		scripts, err := ex.Scripts()
		if err != nil {
			return nil, err
		}
		s := Selection{Exercise: ex}
		whole := len(patterns) == 0
		for i, p := range patterns {
			if ex.globs(p) {
				whole, matched[i] = true, true
			}
		}
		for _, script := range scripts {
			keep := whole
			for i, p := range patterns {
				if matchesTest(p, script.Name) {
					keep, matched[i] = true, true
				}
			}
			if keep {
				s.Scripts = append(s.Scripts, script)
			}
		}
		if whole || len(s.Scripts) > 0 {
			selected = append(selected, s)
		}
	}
	if i := slices.Index(matched, false); i >= 0 {
		return nil, &NoMatchError{Pattern: patterns[i], Near: near(patterns[i], all)}
	}
	return selected, nil
}

// globs is matches with wildcards.
func (ex *Exercise) globs(pattern string) bool {
	return ex.matches(pattern) || glob(pattern, ex.Name) || glob(pattern, path.Base(ex.Name))
}

// matchesTest reports whether a pattern means a test: by its whole name, or without the chapter.
func matchesTest(pattern, test string) bool {
	_, short, _ := strings.Cut(test, "/")
	return glob(pattern, test) || glob(pattern, short)
}

func glob(pattern, name string) bool {
	ok, err := path.Match(strings.Trim(pattern, "/"), name)
	return ok && err == nil
}

// Folder returns anybody's folder with all of its tests, or with one of them if name is a script's, in
// the folder or in its folder test. The folder may be a link: its name is that of the exercise.
func Folder(name string) (*Selection, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("find tests: %w", err)
	}
	dir := name
	if !info.IsDir() {
		dir = filepath.Dir(name)
		if filepath.Base(dir) == "test" {
			dir = filepath.Dir(dir)
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find tests: %w", err)
	}
	real, err := filepath.EvalSymlinks(abs) // the working directory may have been entered by a link, too
	if err != nil {
		return nil, fmt.Errorf("find tests: %w", err)
	}
	s := &Selection{Exercise: &Exercise{Name: filepath.Base(abs), Dir: real}, Own: true}
	s.Scripts, err = s.Exercise.Scripts()
	if err == nil && !info.IsDir() {
		what := strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
		s.Scripts = []Script{{Name: s.Exercise.Name + "/" + what, File: name}}
	}
	return s, err
}

// Index returns the text of a modules.dep for the modules (see modules.dep(5)), whose files are in the
// folder "extra" beside it.
func Index(list []*Module) []byte {
	byName := map[string]*Module{}
	for _, m := range list {
		byName[m.Name] = m
	}
	var text strings.Builder
	for _, m := range list {
		fmt.Fprintf(&text, "extra/%s:", filepath.Base(m.File))
		for _, needed := range slices.Backward(needs(m, byName, nil)) {
			fmt.Fprintf(&text, " extra/%s", filepath.Base(needed.File))
		}
		text.WriteString("\n")
	}
	return []byte(text.String())
}

// needs adds to a list what a module needs, in load order.
func needs(m *Module, byName map[string]*Module, list []*Module) []*Module {
	for _, name := range m.Depends {
		if needed := byName[name]; needed != nil && needed != m && !slices.Contains(list, needed) {
			list = append(needs(needed, byName, list), needed)
		}
	}
	return list
}
