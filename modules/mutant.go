package modules

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// Mutant is a wrong variant of an exercise, which its tests must fail: a patch in its folder mutants.
type Mutant struct {
	Name     string // "general/hello/fixed"
	File     string // of the patch
	Why      string // what is wrong with it, as the text before the patch says
	Exercise *Exercise
	Files    map[string][]byte // the files it changes, changed
}

// Mutants returns the exercise's mutants, sorted by name. It is an error if a patch does not apply.
func (ex *Exercise) Mutants() ([]*Mutant, error) {
	dir := filepath.Join(ex.Dir, "mutants")
	names, err := filesIn(dir, ".patch")
	if err != nil {
		return nil, fmt.Errorf("mutants of %s: %w", ex.Name, err)
	}
	var mutants []*Mutant
	for _, name := range names {
		m := &Mutant{Name: ex.Name + "/" + strings.TrimSuffix(name, ".patch"), File: filepath.Join(dir, name), Exercise: ex}
		if err := m.read(); err != nil {
			return nil, fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		mutants = append(mutants, m)
	}
	return mutants, nil
}

// read applies the patch to copies of the exercise's files.
func (m *Mutant) read() error {
	text, err := os.ReadFile(m.File)
	if err != nil {
		return err
	}
	patches, preamble, err := gitdiff.Parse(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if len(patches) == 0 {
		return errors.New("no patch in it")
	}
	m.Why = strings.Join(strings.Fields(preamble), " ")
	m.Files = map[string][]byte{}
	for _, p := range patches {
		_, name, _ := strings.Cut(p.NewName, "/") // as patch -p1 does
		if p.IsNew || p.IsDelete || p.IsRename || p.IsBinary || !filepath.IsLocal(name) {
			return fmt.Errorf("%s: want a change of a text file of the exercise", p.NewName)
		}
		source, err := os.ReadFile(filepath.Join(m.Exercise.Dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the exercise has no %s", name)
		}
		if err != nil {
			return err
		}
		if m.Files[name], err = applyPatch(source, p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// applyPatch applies the changes to one file, wherever the text they are for has moved to.
func applyPatch(source []byte, p *gitdiff.File) ([]byte, error) {
	lines := strings.SplitAfter(string(source), "\n")
	shift := 0
	for i, f := range p.TextFragments {
		at := locate(lines, f, int(f.OldPosition)-1+shift)
		if at < 0 {
			return nil, fmt.Errorf("change %d does not apply: its text is not there, or not in one place", i+1)
		}
		shift = at + 1 - int(f.OldPosition)
		f.OldPosition = int64(at + 1)
	}
	var out bytes.Buffer
	if err := gitdiff.Apply(&out, bytes.NewReader(source), p); err != nil {
		return nil, err
	}
	if bytes.Equal(out.Bytes(), source) {
		return nil, errors.New("the patch changes nothing")
	}
	return out.Bytes(), nil
}

// locate returns the index of the line at which a fragment's old text begins: where it should be, or
// else the only place that has it; -1 if there is none.
func locate(lines []string, f *gitdiff.TextFragment, want int) int {
	var old []string
	for _, l := range f.Lines {
		if l.Old() {
			old = append(old, l.Line)
		}
	}
	matches := func(at int) bool {
		return at >= 0 && at+len(old) <= len(lines) && slices.Equal(lines[at:at+len(old)], old)
	}
	if matches(want) {
		return want
	}
	found := -1
	for at := range lines {
		if !matches(at) {
			continue
		}
		if found >= 0 {
			return -1
		}
		found = at
	}
	return found
}
