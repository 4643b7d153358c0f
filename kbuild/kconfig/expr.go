package kconfig

import (
	"cmp"
	"fmt"
	"strings"
)

// tristate is a value of Kconfig's logic; && is min, || is max.
type tristate int

const (
	no tristate = iota
	mod
	yes
)

func toTristate(s string) tristate {
	switch s {
	case "y":
		return yes
	case "m":
		return mod
	}
	return no
}

// expr is a dependency expression: kconfig-language.rst, "Menu dependencies".
type expr struct {
	op          string // "||" "&&" "!" "=" "!=" "<" "<=" ">" ">=", or "" for a leaf
	left, right *expr  // "!" has only left
	leaf        string // symbol name, or constant without quotes
	kind        leafKind
}

type leafKind int

const (
	symbolLeaf leafKind = iota
	constLeaf           // quoted
	macroLeaf           // $(...): a test of the compiler or of the environment
)

// String prints the expression as Kconfig files write it, with the fewest parentheses.
func (e *expr) String() string { return e.print(0) }

func (e *expr) print(outer int) string {
	prec := map[string]int{"||": 1, "&&": 2, "!": 3, "": 5}
	p, ok := prec[e.op]
	if !ok {
		p = 4
	}
	var s string
	switch e.op {
	case "":
		s = e.leaf
		if e.kind == constLeaf {
			s = `"` + s + `"`
		}
	case "!":
		s = "!" + e.left.print(p)
	case "||", "&&":
		s = e.left.print(p) + " " + e.op + " " + e.right.print(p)
	default:
		s = e.left.print(p) + e.op + e.right.print(p)
	}
	if p < outer {
		return "(" + s + ")"
	}
	return s
}

// eval computes the expression over a .config. Macros count as macro: what the compiler can do is
// not known here.
func (e *expr) eval(v Values, macro tristate) tristate {
	switch e.op {
	case "":
		if e.kind == macroLeaf {
			return macro
		}
		return toTristate(e.value(v))
	case "||":
		return max(e.left.eval(v, macro), e.right.eval(v, macro))
	case "&&":
		return min(e.left.eval(v, macro), e.right.eval(v, macro))
	case "!":
		return yes - e.left.eval(v, yes-macro)
	}
	if e.left.kind == macroLeaf || e.right.kind == macroLeaf {
		return macro
	}
	if compare(e.op, e.left.value(v), e.right.value(v)) {
		return yes
	}
	return no
}

// value is a leaf's value as text. A symbol nobody gave a value stands for itself in a comparison
// (numbers and y, m, n are written without quotes), and is off where it looks like a symbol.
func (e *expr) value(v Values) string {
	if e.kind == constLeaf {
		return e.leaf
	}
	if s, ok := v[e.leaf]; ok {
		return strings.Trim(s, `"`)
	}
	if e.leaf == "y" || e.leaf == "m" || numberRE.MatchString(e.leaf) {
		return e.leaf
	}
	return "n"
}

func compare(op, a, b string) bool {
	c := strings.Compare(a, b)
	if x, err := number(a); err == nil {
		if y, err := number(b); err == nil {
			c = cmp.Compare(x, y)
		}
	}
	switch op {
	case "=":
		return c == 0
	case "!=":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

// conjuncts splits a && b && c.
func (e *expr) conjuncts() []*expr {
	if e.op != "&&" {
		return []*expr{e}
	}
	return append(e.left.conjuncts(), e.right.conjuncts()...)
}

// hasMacro tells whether the value depends on a test of the compiler.
func (e *expr) hasMacro() bool {
	if e == nil {
		return false
	}
	return e.kind == macroLeaf || e.left.hasMacro() || e.right.hasMacro()
}

// blame lists the leaves that keep the expression from reaching want; positive is false below an odd
// number of negations.
func (e *expr) blame(v Values, want tristate, positive bool) []*expr {
	ok := func(x *expr) bool {
		if positive {
			return x.eval(v, yes) >= want
		}
		return yes-x.eval(v, no) >= want
	}
	switch {
	case ok(e):
		return nil
	case e.op == "!":
		return e.left.blame(v, want, !positive)
	case e.op == "||" || e.op == "&&":
		return append(e.left.blame(v, want, positive), e.right.blame(v, want, positive)...)
	}
	return []*expr{e}
}

// state says in words what a blamed leaf is now.
func (e *expr) state(v Values) string {
	if e.op != "" {
		return fmt.Sprintf("%s is %s", e.left, show(v, e.left.leaf))
	}
	return fmt.Sprintf("%s is %s", e.leaf, show(v, e.leaf))
}

func show(v Values, symbol string) string {
	if s := v.Get(symbol); s != "n" {
		return s
	}
	return "not set"
}

// symbol is the name a blamed leaf is about.
func (e *expr) symbol() string {
	if e.op != "" {
		return e.left.leaf
	}
	return e.leaf
}

// parseExpr reads an expression; what follows it (an " if ..." of the caller) is an error.
func parseExpr(s string) (*expr, error) {
	p := &exprParser{toks: tokens(s)}
	e, err := p.or(0)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", s, err)
	}
	if len(p.toks) > 0 {
		return nil, fmt.Errorf("expression %q: unexpected %q", s, p.toks[0])
	}
	return e, nil
}

// maxDepth bounds nesting, so that a hostile file cannot exhaust the stack.
const maxDepth = 200

type exprParser struct{ toks []string }

func (p *exprParser) take(tok string) bool {
	if len(p.toks) > 0 && p.toks[0] == tok {
		p.toks = p.toks[1:]
		return true
	}
	return false
}

func (p *exprParser) or(depth int) (*expr, error) {
	return p.binary(depth, "||", func(d int) (*expr, error) {
		return p.binary(d, "&&", p.unary)
	})
}

func (p *exprParser) binary(depth int, op string, operand func(int) (*expr, error)) (*expr, error) {
	e, err := operand(depth)
	for err == nil && p.take(op) {
		var right *expr
		right, err = operand(depth)
		e = &expr{op: op, left: e, right: right}
	}
	return e, err
}

func (p *exprParser) unary(depth int) (*expr, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	if p.take("!") {
		e, err := p.unary(depth + 1)
		return &expr{op: "!", left: e}, err
	}
	if p.take("(") {
		e, err := p.or(depth + 1)
		if err == nil && !p.take(")") {
			err = fmt.Errorf("no ) for (")
		}
		return e, err
	}
	left, err := p.leaf()
	if err != nil {
		return nil, err
	}
	for _, op := range []string{"=", "!=", "<", "<=", ">", ">="} {
		if p.take(op) {
			right, err := p.leaf()
			return &expr{op: op, left: left, right: right}, err
		}
	}
	return left, nil
}

func (p *exprParser) leaf() (*expr, error) {
	if len(p.toks) == 0 {
		return nil, fmt.Errorf("it ends too early")
	}
	t := p.toks[0]
	p.toks = p.toks[1:]
	switch {
	case strings.Contains(t, "$("):
		return &expr{leaf: t, kind: macroLeaf}, nil
	case t[0] == '"' || t[0] == '\'':
		return &expr{leaf: strings.Trim(t, `"'`), kind: constLeaf}, nil
	case isWord(t[0]):
		return &expr{leaf: t}, nil
	}
	return nil, fmt.Errorf("unexpected %q", t)
}

func isWord(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c == '/' ||
		c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// tokens cuts a Kconfig line into words, quoted strings (with their quotes), $(macros) and operators.
func tokens(s string) []string {
	var out []string
	for i := 0; i < len(s); {
		n := tokenLen(s[i:])
		if c := s[i]; c != ' ' && c != '\t' {
			out = append(out, s[i:i+n])
		}
		i += n
	}
	return out
}

func tokenLen(s string) int {
	switch c := s[0]; {
	case c == '"' || c == '\'':
		return quotedLen(s)
	case strings.HasPrefix(s, "$("):
		return macroLen(s)
	case isWord(c):
		n := 1
		for n < len(s) && isWord(s[n]) {
			n++
		}
		return n
	}
	for _, op := range []string{"||", "&&", "!=", "<=", ">="} {
		if strings.HasPrefix(s, op) {
			return len(op)
		}
	}
	return 1
}

func quotedLen(s string) int {
	for n := 1; n < len(s); n++ {
		switch s[n] {
		case '\\':
			n++
		case s[0]:
			return n + 1
		}
	}
	return len(s)
}

func macroLen(s string) int {
	depth := 0
	for n := 0; n < len(s); n++ {
		switch s[n] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return n + 1
			}
		}
	}
	return len(s)
}
