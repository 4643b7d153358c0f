// Package modules finds, builds and orders kernel modules: the exercises of the catalogue,
// and anybody's own.
//
// An exercise is a folder CHAPTER/NAME below the catalogue's root with a Kbuild (or
// Makefile) that sets obj-m; there is no list of them anywhere. Its name is its module's,
// and the kernel has one flat set of those, so it is unique in the whole catalogue.
package modules

import (
	"bufio"
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

// Exercise is a folder of the catalogue.
type Exercise struct {
	Name string `json:"name"` // "general/hello"
	Dir  string `json:"dir"`
}

// NoMatchError says that a pattern matches no exercise. Near are patterns that would match
// and look like it.
type NoMatchError struct {
	Pattern string
	Near    []string
}

// Error names what is near.
func (e *NoMatchError) Error() string {
	text := fmt.Sprintf("no exercise matches %q", e.Pattern)
	if len(e.Near) > 0 {
		text += ", did you mean " + strings.Join(e.Near, ", ") + "?"
	}
	return text
}

// Find returns the exercises below root that match any of the patterns, sorted by name and
// each once. A pattern is an exercise's whole name ("general/hello"), its last part
// ("hello"), all of a chapter ("general/...") or everything ("..."). With no pattern it
// returns all there are. The error is a [*NoMatchError] for a pattern that matches nothing.
func Find(root string, patterns ...string) ([]*Exercise, error) {
	all, err := discover(root)
	if err != nil {
		return nil, fmt.Errorf("find exercises: %w", err)
	}
	if len(patterns) == 0 {
		return all, nil
	}
	wanted := map[*Exercise]bool{}
	for _, pattern := range patterns {
		found := false
		for _, ex := range all {
			if ex.matches(pattern) {
				wanted[ex], found = true, true
			}
		}
		if !found {
			return nil, &NoMatchError{Pattern: pattern, Near: near(pattern, all)}
		}
	}
	return slices.DeleteFunc(all, func(ex *Exercise) bool { return !wanted[ex] }), nil
}

func (ex *Exercise) matches(pattern string) bool {
	pattern = strings.Trim(pattern, "/")
	if pattern == "..." {
		return true
	}
	if chapter, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(ex.Name, chapter+"/")
	}
	return pattern == ex.Name || pattern == path.Base(ex.Name)
}

// discover returns all exercises below root, sorted by name.
func discover(root string) ([]*Exercise, error) {
	chapters, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var all []*Exercise
	for _, chapter := range folders(chapters) {
		names, err := os.ReadDir(filepath.Join(root, chapter))
		if err != nil {
			return nil, err
		}
		for _, name := range folders(names) {
			dir := filepath.Join(root, chapter, name)
			ok, err := describesModules(dir)
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, &Exercise{Name: chapter + "/" + name, Dir: dir})
			}
		}
	}
	return all, unique(all)
}

// folders returns the names of the folders that can be a chapter or an exercise.
func folders(entries []fs.DirEntry) []string {
	var names []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != "testdata" && !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "_") {
			names = append(names, e.Name())
		}
	}
	return names
}

func unique(all []*Exercise) error {
	seen := map[string]string{}
	for _, ex := range all {
		name := path.Base(ex.Name)
		if other, ok := seen[name]; ok {
			return fmt.Errorf("%s and %s: two modules of one name", other, ex.Name)
		}
		seen[name] = ex.Name
	}
	return nil
}

var objM = regexp.MustCompile(`^\s*obj-(m|y|\$[({]\w+[)}])\s*[+:]?=`)

// buildFile returns the name of the file in dir that kbuild would read, "" if there is none.
func buildFile(dir string) (string, error) {
	for _, name := range []string{"Kbuild", "Makefile"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err == nil && info.Mode().IsRegular() {
			return name, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// describesModules reports whether dir has a Kbuild or Makefile that lists objects.
func describesModules(dir string) (bool, error) {
	name, err := buildFile(dir)
	if name == "" || err != nil {
		return false, err
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if objM.Match(lines.Bytes()) {
			return true, nil
		}
	}
	return false, lines.Err()
}

// near returns up to five patterns that match something and look like the given one.
func near(pattern string, all []*Exercise) []string {
	name := path.Base(strings.TrimSuffix(strings.Trim(pattern, "/"), "/..."))
	var list []string
	for _, ex := range all {
		chapter, last := path.Split(ex.Name)
		if c := chapter + "..."; distance(name, path.Base(chapter)) <= 2 && !slices.Contains(list, c) {
			list = append(list, c)
		}
		if distance(name, last) <= 2 || len(name) > 2 && strings.Contains(last, name) {
			list = append(list, ex.Name)
		}
	}
	return list[:min(len(list), 5)]
}

// distance is the number of letters to insert, delete or replace to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
