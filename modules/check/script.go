package check

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Script is a parsed test.
type Script struct {
	Name     string // "sighand/swap" for .../sighand/test/swap.txt; the caller may lengthen it
	File     string // as it was given to Parse
	Requires Requirements
	Sections []Section
}

// Requirements are what a script's directives ask for. Zero fields were not given.
type Requirements struct {
	CPU        string   // QEMU's -cpu
	RTC        string   // QEMU's -rtc base
	MemoryMiB  int      //
	CPUs       int      //
	Append     []string // kernel arguments
	Sysctls    []Sysctl // set before the first step
	Init       string   // name under which the agent runs as PID 1
	Timeout    time.Duration
	Points     int
	Skip       string   // reason to skip the whole test
	HygieneOff string   // reason to make no hygiene check
	OwnBoot    bool     // never from a snapshot
	BzImage    bool     // entered by the bzImage's boot code
	Modules    []string // modules it may use
}

// Sysctl is a kernel parameter to set.
type Sysctl struct{ Name, Value string }

// File returns the file under /proc/sys.
func (s Sysctl) File() string { return "/proc/sys/" + strings.ReplaceAll(s.Name, ".", "/") }

// Section is a named part of a script: one check of the report.
type Section struct {
	Name  string
	Line  int // of the name
	Steps []Step
}

// Step is one command of a script.
type Step struct {
	Line    int
	Text    string // the line as written
	Op      string // the command's name
	negated bool   // "!"
}

// maxScript is the size of the largest script.
const maxScript = 1 << 20

// Parse reads a script and checks it: directives, the grammar, commands and their arguments, variables
// and helper names. A mistake is a *SyntaxError.
func Parse(file string) (*Script, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read script: %w", err)
	}
	return ParseText(file, text)
}

// ParseText is Parse for text at hand; the file need not exist.
func ParseText(file string, text []byte) (*Script, error) {
	sc := &Script{File: file, Name: scriptName(file)}
	if len(text) > maxScript || !utf8.Valid(text) || slices.Contains(text, 0) {
		return nil, &SyntaxError{filepath.Base(file), 1, errors.New("not a text file of at most 1 MiB")}
	}
	text = bytes.TrimPrefix(text, []byte("\uFEFF")) // as some editors begin a file
	p := parser{sc: sc, checker: newChecker()}
	for i, line := range strings.Split(string(text), "\n") {
		if err := p.line(i+1, strings.TrimSuffix(line, "\r")); err != nil {
			return nil, &SyntaxError{filepath.Base(file), i + 1, err}
		}
	}
	if len(sc.Sections) == 0 {
		return nil, &SyntaxError{filepath.Base(file), 1, errors.New("script has no commands")}
	}
	return sc, nil
}

// Default returns the script for modules that have none: each is loaded, in the order given; what
// comes with every test does the rest.
func Default(name string, modules []string) (*Script, error) {
	var b strings.Builder
	for _, m := range modules {
		if !moduleRE.MatchString(m) {
			return nil, fmt.Errorf("script for %s: %q is no module name", name, m)
		}
		fmt.Fprintf(&b, "# %s loads.\nmodprobe %s\n", m, m)
	}
	sc, err := ParseText(name, []byte(b.String()))
	if err != nil {
		return nil, fmt.Errorf("script for %s: %w", name, err)
	}
	sc.Name = name
	return sc, nil
}

// scriptName returns "sighand/swap" for .../sighand/test/swap.txt, "swap" for any other swap.txt.
func scriptName(file string) string {
	what := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	if dir := filepath.Dir(file); filepath.Base(dir) == "test" {
		if name := filepath.Base(filepath.Dir(dir)); name != "." && name != "/" {
			return name + "/" + what
		}
	}
	return what
}

// parser builds a script line by line.
type parser struct {
	sc      *Script
	checker *checker
	title   []string // the last paragraph of comment, which may name the next section
	gap     bool     // a blank line came after it
	titleAt int
	section *Section
	given   map[string]bool // directives seen
}

func (p *parser) line(n int, line string) error {
	if rest, ok := strings.CutPrefix(line, "#:"); ok {
		if len(p.sc.Sections) > 0 {
			return errors.New("directive after the first command")
		}
		return p.directive(rest)
	}
	if text, ok := strings.CutPrefix(line, "#"); ok {
		if p.section != nil || p.gap || len(p.title) == 0 {
			p.section, p.title, p.titleAt = nil, nil, n
		}
		p.gap = false
		p.title = append(p.title, text)
		return nil
	}
	step, err := p.checker.step(n, line)
	if err != nil {
		return err
	}
	if step == nil {
		p.gap = true
		return nil
	}
	p.open(n)
	p.section.Steps = append(p.section.Steps, *step)
	return nil
}

// open begins the section that a command belongs to.
func (p *parser) open(n int) {
	if p.section != nil {
		return
	}
	s := Section{Name: p.sc.Name, Line: n}
	if name := strings.Join(strings.Fields(strings.Join(p.title, " ")), " "); name != "" {
		s.Name, s.Line = name, p.titleAt
	}
	p.sc.Sections = append(p.sc.Sections, s)
	p.section = &p.sc.Sections[len(p.sc.Sections)-1]
	p.title = nil
}
