package kconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A Tree is what the Kconfig files of a kernel source say of its symbols.
type Tree struct {
	symbols map[string]*symbol
	fsys    fs.FS
	arch    string
}

// symbol is one name with all its definitions (a symbol may be defined in several places).
type symbol struct {
	name      string
	defs      []*definition
	selectors []selector // who selects it
}

type selector struct {
	by   string
	cond *expr // nil: always
	pos  Pos
}

type definition struct {
	pos      Pos
	typ      string // bool, tristate, string, int, hex; "" if another definition says
	prompt   bool
	promptIf []*condition // of the prompt alone
	depends  []*condition // of the blocks around it, outermost first, then its own
	defaults []*condition // values it takes of itself, each with the condition that it has
	choice   *choice
	ranges   []string
}

type condition struct {
	expr *expr
	pos  Pos
}

// choice is a set of symbols of which one is y.
type choice struct {
	members []string
	prompt  bool
}

// maxFiles bounds how many files are read, so that a tree whose files include each other comes to an
// end. Linux 6.1 has 1,700 in all architectures together.
const maxFiles = 20000

// LoadTree reads the Kconfig files of a kernel source tree, beginning at Kconfig and following every
// source line as the kernel's own tools do for that architecture ("x86"). A file that is named but
// cannot be read is an error.
func LoadTree(fsys fs.FS, arch string) (*Tree, error) {
	t := &Tree{symbols: map[string]*symbol{}, fsys: fsys, arch: arch}
	r := &reader{tree: t, vars: strings.NewReplacer("$(SRCARCH)", arch, "$(HEADER_ARCH)", arch, "$(ARCH)", arch)}
	if err := r.file("Kconfig"); err != nil {
		return nil, fmt.Errorf("read Kconfig files: %w", err)
	}
	return t, nil
}

func (t *Tree) symbol(name string) *symbol {
	s := t.symbols[name]
	if s == nil {
		s = &symbol{name: name}
		t.symbols[name] = s
	}
	return s
}

// lookup finds a symbol that is defined, not just selected by somebody.
func (t *Tree) lookup(name string) *symbol {
	if s := t.symbols[name]; s != nil && len(s.defs) > 0 {
		return s
	}
	return nil
}

// Has tells whether the tree defines a symbol for this architecture.
func (t *Tree) Has(symbol string) bool { return t.lookup(symbol) != nil }

// near lists up to three defined symbols with names like the given one, nearest first.
func (t *Tree) near(name string) []string {
	type cand struct {
		name string
		dist int
	}
	var cands []cand
	limit := 1 + len(name)/5
	for n := range t.symbols {
		if t.lookup(n) == nil {
			continue
		}
		if d := distance(name, n, limit); d <= limit {
			cands = append(cands, cand{n, d})
		}
	}
	slices.SortFunc(cands, func(a, b cand) int {
		return 2*(a.dist-b.dist) + strings.Compare(a.name, b.name)
	})
	var names []string
	for _, c := range cands[:min(3, len(cands))] {
		names = append(names, c.name)
	}
	return names
}

// distance is the number of letters to insert, delete or replace, or limit+1 if it is more than that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diag+cost)
		}
	}
	return row[len(b)]
}

// elsewhere finds a definition that only another architecture has; "" if there is none.
func (t *Tree) elsewhere(name string) string {
	re := regexp.MustCompile(`(?m)^[ \t]*(menu)?config[ \t]+` + regexp.QuoteMeta(name) + `[ \t]*$`)
	for _, pattern := range []string{"arch/*/Kconfig*", "arch/*/*/Kconfig*"} {
		files, _ := fs.Glob(t.fsys, pattern) // The pattern is well formed; no other error is possible.
		for _, f := range files {
			if text, err := fs.ReadFile(t.fsys, f); err == nil && re.Match(text) {
				return f
			}
		}
	}
	return ""
}

// reader walks the Kconfig files.
type reader struct {
	tree  *Tree
	vars  *strings.Replacer
	files int
	path  []string // files being read, for loops
	block []block
	def   *definition // the config whose attributes are being read
	name  string      // its symbol
}

// block is an open if, menu or choice.
type block struct {
	kind    string
	depends []*condition
	choice  *choice
	header  bool // its attributes may still follow
}

// errTooMany ends the walk of a tree that has no end.
var errTooMany = errors.New("too many files")

func (r *reader) file(name string) error {
	if r.files++; r.files > maxFiles {
		return errTooMany
	}
	if slices.Contains(r.path, name) {
		return fmt.Errorf("%s: it includes itself", name)
	}
	text, err := fs.ReadFile(r.tree.fsys, name)
	if err != nil {
		return err
	}
	r.path = append(r.path, name)
	defer func() { r.path = r.path[:len(r.path)-1] }()
	lines := lineReader{rest: text}
	for {
		line, ok := lines.next()
		if !ok {
			return nil
		}
		if err := r.line(&lines, r.vars.Replace(line), Pos{name, lines.num}); err != nil {
			return err
		}
	}
}

// line reads one statement or attribute. What it does not know it passes over: this is a reader of
// trees that the kernel's own tools accept.
func (r *reader) line(lines *lineReader, line string, pos Pos) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "config", "menuconfig":
		r.config(rest, pos)
	case "if", "menu", "choice":
		r.open(word, rest, pos)
	case "endif", "endmenu", "endchoice":
		r.close()
	case "comment", "mainmenu":
		r.endHeader()
		r.def, r.name = &definition{}, "" // Its attributes are nobody's.
	case "source", "osource", "rsource", "orsource":
		r.endHeader()
		return r.source(word, rest, pos)
	case "help", "---help---":
		lines.skipHelp()
	default:
		r.attribute(word, rest, pos)
	}
	return nil
}

func (r *reader) endHeader() {
	r.def, r.name = nil, ""
	if n := len(r.block); n > 0 {
		r.block[n-1].header = false
	}
}

func (r *reader) config(name string, pos Pos) {
	r.endHeader()
	r.name = name
	r.def = &definition{pos: pos}
	for _, b := range r.block {
		r.def.depends = append(r.def.depends, b.depends...)
		if b.choice != nil {
			r.def.choice = b.choice
		}
	}
	if c := r.def.choice; c != nil {
		c.members = append(c.members, name)
	}
	s := r.tree.symbol(name)
	s.defs = append(s.defs, r.def)
}

func (r *reader) open(kind, rest string, pos Pos) {
	r.endHeader()
	b := block{kind: kind, header: kind != "if"}
	if kind == "if" {
		b.depends = appendCondition(nil, rest, pos)
	}
	if kind == "choice" {
		b.choice = &choice{}
	}
	r.block = append(r.block, b)
}

func (r *reader) close() {
	r.endHeader()
	if n := len(r.block); n > 0 {
		r.block = r.block[:n-1]
	}
}

func (r *reader) source(word, rest string, pos Pos) error {
	name := strings.Trim(rest, `"`)
	if strings.Contains(name, "$") {
		return nil // A variable of the environment: not a part of the kernel's own tree.
	}
	if strings.Contains(word, "rsource") {
		name = path.Join(path.Dir(pos.File), name)
	}
	err := r.file(path.Clean(name))
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(word, "o") {
		return nil
	}
	return err
}

// attribute reads a line of the current config, or of the menu or choice just opened.
func (r *reader) attribute(word, rest string, pos Pos) {
	if r.def == nil {
		r.headerAttribute(word, rest, pos)
		return
	}
	switch word {
	case "bool", "tristate", "string", "int", "hex":
		r.def.typ = word
		if rest != "" {
			r.prompt(rest, pos)
		}
	case "prompt":
		r.prompt(rest, pos)
	case "def_bool", "def_tristate":
		r.def.typ = strings.TrimPrefix(word, "def_")
		r.def.defaults = appendDefault(r.def.defaults, rest, pos)
	case "default":
		r.def.defaults = appendDefault(r.def.defaults, rest, pos)
	case "depends":
		r.def.depends = appendCondition(r.def.depends, strings.TrimPrefix(rest, "on"), pos)
	case "range":
		r.def.ranges = append(r.def.ranges, rest)
	case "select":
		r.selects(rest, pos)
	}
}

func (r *reader) headerAttribute(word, rest string, pos Pos) {
	n := len(r.block)
	if n == 0 || !r.block[n-1].header {
		return
	}
	b := &r.block[n-1]
	switch word {
	case "depends":
		b.depends = appendCondition(b.depends, strings.TrimPrefix(rest, "on"), pos)
	case "prompt", "bool", "tristate":
		if b.choice != nil && rest != "" {
			b.choice.prompt = true
		}
	}
}

// prompt reads "text" if EXPR.
func (r *reader) prompt(rest string, pos Pos) {
	r.def.prompt = true
	if rest[0] != '"' && rest[0] != '\'' {
		return
	}
	after := strings.TrimSpace(rest[quotedLen(rest):])
	if cond, ok := strings.CutPrefix(after, "if "); ok {
		r.def.promptIf = appendCondition(r.def.promptIf, cond, pos)
	}
}

func (r *reader) selects(rest string, pos Pos) {
	if r.name == "" {
		return
	}
	target, cond, _ := strings.Cut(rest, " ")
	sel := selector{by: r.name, pos: pos}
	if cond, ok := strings.CutPrefix(strings.TrimSpace(cond), "if "); ok {
		sel.cond, _ = parseExpr(cond) // One that cannot be read counts as always.
	}
	s := r.tree.symbol(target)
	s.selectors = append(s.selectors, sel)
}

func appendCondition(cs []*condition, text string, pos Pos) []*condition {
	e, err := parseExpr(text)
	if err != nil {
		return cs
	}
	return append(slices.Clip(cs), &condition{e, pos})
}

// appendDefault reads VALUE if EXPR. One that cannot be read is left out.
func appendDefault(cs []*condition, text string, pos Pos) []*condition {
	value, cond, conditional := strings.Cut(text, " if ")
	e, err := parseExpr(value)
	if err != nil {
		return cs
	}
	if conditional {
		only, err := parseExpr(cond)
		if err != nil {
			return cs
		}
		e = &expr{op: "&&", left: e, right: only}
	}
	return append(cs, &condition{e, pos})
}

// lineReader yields logical lines: comments cut, continuations joined, white space made single blanks
// outside of quotes at the beginning of words.
type lineReader struct {
	rest []byte
	num  int // of the last line handed out
}

func (l *lineReader) raw() (string, bool) {
	if len(l.rest) == 0 {
		return "", false
	}
	line, rest, _ := bytes.Cut(l.rest, []byte("\n"))
	l.rest = rest
	l.num++
	return string(line), true
}

func (l *lineReader) next() (string, bool) {
	for {
		line, ok := l.raw()
		if !ok {
			return "", false
		}
		for strings.HasSuffix(line, `\`) {
			more, ok := l.raw()
			line = strings.TrimSuffix(line, `\`) + " " + more
			if !ok {
				break
			}
		}
		line = strings.TrimSpace(uncomment(strings.ReplaceAll(line, "\t", " ")))
		if line != "" {
			return line, true
		}
	}
}

// uncomment cuts a # comment that is not within quotes.
func uncomment(line string) string {
	for i := 0; i < len(line); {
		switch line[i] {
		case '#':
			return line[:i]
		case '"', '\'':
			i += quotedLen(line[i:])
		default:
			i++
		}
	}
	return line
}

// skipHelp passes over a help text: it ends before the first line that is indented less than its first.
func (l *lineReader) skipHelp() {
	indent := -1
	for {
		saved := *l
		line, ok := l.raw()
		if !ok {
			return
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		n := indentation(line)
		if indent < 0 {
			indent = n
		}
		if n < indent || n == 0 {
			*l = saved
			return
		}
	}
}

// indentation counts columns, with tab stops of 8.
func indentation(line string) int {
	n := 0
	for _, c := range line {
		switch c {
		case ' ':
			n++
		case '\t':
			n = n&^7 + 8
		default:
			return n
		}
	}
	return n
}
