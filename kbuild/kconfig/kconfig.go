// Package kconfig merges kernel configuration fragments and says which of the symbols they ask for
// did not reach the resulting .config, and why.
//
// It reads and writes text only: no file is opened except through the fs.FS of [LoadTree], no program
// is run. Formats: Documentation/kbuild/kconfig-language.rst (Kconfig files) and
// Documentation/kbuild/kconfig.rst (.config files) in the kernel tree.
//
// Symbol names are written without the CONFIG_ prefix everywhere in this package's interface.
package kconfig

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// SetFile is the file name in the position of an assignment that came from a command line's --set.
const SetFile = "--set"

// A Pos says where an assignment or a definition stands.
type Pos struct {
	File string // as the caller named it
	Line int    // from 1; for SetFile the argument's number
}

// String is file:line, or for --set just that.
func (p Pos) String() string {
	if p.File == SetFile {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// An Assignment asks for one symbol to have one value.
type Assignment struct {
	Symbol string // without CONFIG_
	Value  string // y, m, n, a decimal or 0x number, or a string with its double quotes; "is not set" is n
	Pos    Pos
}

// String is SYMBOL=value, as --set takes it.
func (a Assignment) String() string { return a.Symbol + "=" + a.Value }

// A Fragment is a named list of assignments, in file order.
type Fragment struct {
	Name        string
	Assignments []Assignment
}

// A SyntaxError is a line that is no assignment.
type SyntaxError struct {
	Pos  Pos
	Text string // the offending line or argument
	Msg  string // what is wrong with it
}

// Error is file:line: what is wrong.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s: %q: %s", e.Pos, e.Text, e.Msg) }

var (
	symbolRE = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	unsetRE  = regexp.MustCompile(`^#\s*CONFIG_(\S+) is not set$`)
	numberRE = regexp.MustCompile(`^(-?[0-9]+|0[xX][0-9a-fA-F]+)$`)
	stringRE = regexp.MustCompile(`^"([^"\\]|\\.)*"$`)
)

// Parse reads the text of a fragment or of a .config. The only lines with a meaning are
// CONFIG_NAME=value and "# CONFIG_NAME is not set"; other comments and blank lines are skipped, and
// anything else is a *SyntaxError, because a kernel's own tools would pass over it in silence.
func Parse(name string, text []byte) (Fragment, error) {
	f := Fragment{Name: name}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		pos := Pos{File: name, Line: i + 1}
		if m := unsetRE.FindStringSubmatch(line); m != nil {
			if !symbolRE.MatchString(m[1]) {
				return Fragment{}, &SyntaxError{pos, line, "a symbol is made of letters, digits and _"}
			}
			f.Assignments = append(f.Assignments, Assignment{Symbol: m[1], Value: "n", Pos: pos})
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		a, err := parseLine(pos, line)
		if err != nil {
			return Fragment{}, err
		}
		f.Assignments = append(f.Assignments, a)
	}
	return f, nil
}

func parseLine(pos Pos, line string) (Assignment, error) {
	rest, ok := strings.CutPrefix(line, "CONFIG_")
	if !ok {
		return Assignment{}, &SyntaxError{pos, line, "a line is CONFIG_NAME=value or # CONFIG_NAME is not set"}
	}
	symbol, value, ok := strings.Cut(rest, "=")
	if !ok {
		return Assignment{}, &SyntaxError{pos, line, "no = after the symbol"}
	}
	if !symbolRE.MatchString(symbol) {
		return Assignment{}, &SyntaxError{pos, line, "a symbol is made of letters, digits and _"}
	}
	if !validValue(value) {
		return Assignment{}, &SyntaxError{pos, line, `a value is y, m, n, a number or "text", with nothing after it`}
	}
	return Assignment{Symbol: symbol, Value: value, Pos: pos}, nil
}

func validValue(v string) bool {
	return v == "y" || v == "m" || v == "n" || numberRE.MatchString(v) || stringRE.MatchString(v)
}

// ParseSet reads the arguments of --set: NAME=value, with or without CONFIG_. A value that is
// neither y, m, n, a number nor already quoted is taken for text and quoted, so that a shell needs no
// second pair of quotes. A bad argument is a *SyntaxError.
func ParseSet(args []string) (Fragment, error) {
	f := Fragment{Name: SetFile}
	for i, arg := range args {
		pos := Pos{File: SetFile, Line: i + 1}
		symbol, value, ok := strings.Cut(strings.TrimPrefix(arg, "CONFIG_"), "=")
		if !ok || !symbolRE.MatchString(symbol) {
			return Fragment{}, &SyntaxError{pos, arg, "wanted NAME=value"}
		}
		if strings.ContainsAny(value, "\n\r") {
			return Fragment{}, &SyntaxError{pos, arg, "a value is one line"}
		}
		if !validValue(value) {
			value = quote(value)
		}
		f.Assignments = append(f.Assignments, Assignment{Symbol: symbol, Value: value, Pos: pos})
	}
	return f, nil
}

// quote is the reverse of what the kernel's reader does: only \ and " are escaped.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Format writes assignments as the text of a fragment, one a line.
func Format(as []Assignment) []byte {
	var b strings.Builder
	for _, a := range as {
		if a.Value == "n" {
			fmt.Fprintf(&b, "# CONFIG_%s is not set\n", a.Symbol)
		} else {
			fmt.Fprintf(&b, "CONFIG_%s=%s\n", a.Symbol, a.Value)
		}
	}
	return []byte(b.String())
}

// Values is what a .config says: symbol to value. A symbol that is off is "n" or absent.
type Values map[string]string

// Values collects the fragment's assignments; of several for one symbol the last counts, as it does
// for the kernel.
func (f Fragment) Values() Values {
	v := make(Values, len(f.Assignments))
	for _, a := range f.Assignments {
		v[a.Symbol] = a.Value
	}
	return v
}

// Get is the value of a symbol, "n" if it is off or unknown.
func (v Values) Get(symbol string) string {
	if s, ok := v[symbol]; ok {
		return s
	}
	return "n"
}

// equal compares values as the kernel does: numbers by value, all else by text.
func equal(a, b string) bool {
	if a == b {
		return true
	}
	if !numberRE.MatchString(a) || !numberRE.MatchString(b) {
		return false
	}
	x, errX := number(a)
	y, errY := number(b)
	return errX == nil && errY == nil && x == y
}

// number reads decimal and 0x numbers; a leading 0 is no octal in Kconfig.
func number(s string) (int64, error) {
	if hex, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		u, err := strconv.ParseUint(hex, 16, 64)
		return int64(u), err
	}
	return strconv.ParseInt(s, 10, 64)
}
