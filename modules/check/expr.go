package check

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A value of an expression is a list of 64-bit integers; a single number is a list of one.
type list []int64

// String returns the numbers with commas between them.
func (l list) String() string {
	words := make([]string, len(l))
	for i, n := range l {
		words[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(words, ",")
}

// evaluate computes an expression. Overflow wraps.
func evaluate(text string) (list, error) {
	p := &exprParser{rest: text}
	v, err := p.list()
	if err != nil {
		return nil, fmt.Errorf("evaluate %q: %w", text, err)
	}
	if p.skip(); p.rest != "" {
		return nil, fmt.Errorf("evaluate %q: cannot make sense of %q", text, p.rest)
	}
	return v, nil
}

// evaluateOne computes an expression that must be a single number.
func evaluateOne(text string) (int64, error) {
	v, err := evaluate(text)
	if err != nil {
		return 0, err
	}
	if len(v) != 1 {
		return 0, fmt.Errorf("evaluate %q: a list of %d, want one number", text, len(v))
	}
	return v[0], nil
}

// maxDepth bounds the nesting of an expression, and so the parser's stack.
const maxDepth = 100

type exprParser struct {
	rest  string
	depth int
}

func (p *exprParser) skip() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *exprParser) take(token string) bool {
	p.skip()
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

// list parses expressions with commas between them; nothing is the empty list.
func (p *exprParser) list() (list, error) {
	if p.skip(); p.rest == "" || p.rest[0] == ')' {
		return nil, nil
	}
	var all list
	for {
		v, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		if all = append(all, v...); !p.take(",") {
			return all, nil
		}
	}
}

// binaryOps are the operators, from the loosest to the tightest.
var binaryOps = [][]string{{"|"}, {"^"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "/", "%"}}

func (p *exprParser) binary(level int) (list, error) {
	if level == len(binaryOps) {
		return p.unary()
	}
	v, err := p.binary(level + 1)
	for err == nil {
		i := slices.IndexFunc(binaryOps[level], p.take)
		if i < 0 {
			return v, nil
		}
		var w list
		if w, err = p.binary(level + 1); err == nil {
			v, err = combine(binaryOps[level][i], v, w)
		}
	}
	return nil, err
}

func (p *exprParser) unary() (list, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errors.New("nested too deep")
	}
	defer func() { p.depth-- }()
	switch {
	case p.take("-"):
		v, err := p.unary()
		return each(v, func(n int64) (int64, error) { return -n, nil }, err)
	case p.take("+"):
		return p.unary()
	case p.take("~"):
		v, err := p.unary()
		return each(v, func(n int64) (int64, error) { return ^n, nil }, err)
	case p.take("("):
		return p.closed()
	}
	return p.atom()
}

// closed parses a list and the parenthesis behind it.
func (p *exprParser) closed() (list, error) {
	v, err := p.list()
	if err == nil && !p.take(")") {
		err = errors.New("missing )")
	}
	return v, err
}

func (p *exprParser) atom() (list, error) {
	p.skip()
	end := strings.IndexFunc(p.rest, func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	if p.rest = p.rest[end:]; word == "" {
		return nil, errors.New("a number is missing")
	}
	if fn, ok := functions[word]; ok && p.take("(") {
		v, err := p.closed()
		if err != nil {
			return nil, err
		}
		if v, err = fn(v); err != nil {
			return nil, fmt.Errorf("%s: %w", word, err)
		}
		return v, nil
	}
	n, err := parseNumber(word)
	return list{n}, err
}

// parseNumber takes decimal, 0x, 0o and 0b numbers of up to 64 bits, signed or not.
func parseNumber(word string) (int64, error) {
	digits, base := word, 10
	if len(word) > 2 && word[0] == '0' {
		switch word[1] {
		case 'x', 'X':
			digits, base = word[2:], 16
		case 'o':
			digits, base = word[2:], 8
		case 'b':
			digits, base = word[2:], 2
		}
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no number", word)
	}
	return int64(n), nil
}

func each(v list, fn func(int64) (int64, error), err error) (list, error) {
	if err != nil {
		return nil, err
	}
	out := make(list, len(v))
	for i, n := range v {
		if out[i], err = fn(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// combine applies an operator element by element; a single number goes with each element of a list.
func combine(op string, a, b list) (list, error) {
	switch {
	case len(a) == len(b):
	case len(b) == 1:
		b = slices.Repeat(b, len(a))
	case len(a) == 1:
		a = slices.Repeat(a, len(b))
	default:
		return nil, fmt.Errorf("%s of lists of %d and %d", op, len(a), len(b))
	}
	out := make(list, len(a))
	for i := range a {
		var err error
		if out[i], err = apply(op, a[i], b[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func apply(op string, a, b int64) (int64, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "&":
		return a & b, nil
	case "|":
		return a | b, nil
	case "^":
		return a ^ b, nil
	case "<<", ">>":
		if b < 0 || b > 63 {
			return 0, fmt.Errorf("shift by %d", b)
		}
		if op == "<<" {
			return a << b, nil
		}
		return a >> b, nil
	}
	return divideOrCompare(op, a, b)
}

// divideOrCompare has the rest of the operators; the comparisons are check's and give 1 or 0.
func divideOrCompare(op string, a, b int64) (int64, error) {
	truth := map[bool]int64{true: 1}
	switch op {
	case "<":
		return truth[a < b], nil
	case "<=":
		return truth[a <= b], nil
	case ">":
		return truth[a > b], nil
	case ">=":
		return truth[a >= b], nil
	}
	if b == 0 {
		return 0, errors.New("division by zero")
	}
	if op == "/" {
		return a / b, nil
	}
	return a % b, nil
}

// functions are what an expression can call.
var functions = map[string]func(list) (list, error){
	"isqrt": func(v list) (list, error) { return each(v, isqrt, nil) },
	"abs":   func(v list) (list, error) { return each(v, abs, nil) },
	"len":   func(v list) (list, error) { return list{int64(len(v))}, nil },
	"sum": func(v list) (list, error) {
		var sum int64
		for _, n := range v {
			sum += n
		}
		return list{sum}, nil
	},
	"min":     func(v list) (list, error) { return extreme(v, slices.Min[list]) },
	"max":     func(v list) (list, error) { return extreme(v, slices.Max[list]) },
	"sorted":  func(v list) (list, error) { return slices.Sorted(slices.Values(v)), nil },
	"rsorted": func(v list) (list, error) { return reversed(slices.Sorted(slices.Values(v))), nil },
	"rev":     func(v list) (list, error) { return reversed(v), nil },
	"count":   count,
}

func extreme(v list, fn func(list) int64) (list, error) {
	if len(v) == 0 {
		return nil, errors.New("of an empty list")
	}
	return list{fn(v)}, nil
}

func reversed(v list) list {
	v = slices.Clone(v)
	slices.Reverse(v)
	return v
}

// count returns how often the last number is among the ones before it.
func count(v list) (list, error) {
	if len(v) == 0 {
		return nil, errors.New("what is to be counted is missing")
	}
	var n int64
	for _, x := range v[:len(v)-1] {
		if x == v[len(v)-1] {
			n++
		}
	}
	return list{n}, nil
}

func abs(n int64) (int64, error) { return max(n, -n), nil }

// isqrt returns the integer square root, as int_sqrt64 of lib/math/int_sqrt.c does: of the 64 bits
// taken as an unsigned number.
func isqrt(n int64) (int64, error) {
	x := uint64(n)
	r := uint64(math.Sqrt(float64(x)))
	for r > math.MaxUint32 || r*r > x {
		r--
	}
	for r < math.MaxUint32 && (r+1)*(r+1) <= x {
		r++
	}
	return int64(r), nil
}
