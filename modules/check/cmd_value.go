package check

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var nameRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Commands about values.
var valueCommands = map[string]*command{
	"random": {
		group: "Values", args: "NAME int MIN MAX | word LEN | ints COUNT MIN MAX | pick WORD...", summary: "draw a random value",
		detail: []string{
			"int is a number from MIN to MAX, ints a list of them with commas, word LEN small letters, pick one of the words.",
			"What was drawn is told when a test fails; the same --seed draws the same.",
		},
		noNegate: "it always succeeds", afterEnd: true, build: buildRandom,
	},
	"let": {
		group: "Values", args: "[-hex] NAME EXPR...", summary: "compute",
		detail: []string{
			"Numbers are integers of 64 bits, decimal or 0x..., and overflow wraps. Lists are numbers with commas between.",
			"+ - * / % << >> & | ^ ~ and parentheses; on lists they work element by element, and a single number goes with each.",
			"isqrt() abs() work on each element; sum() min() max() len() give a number; sorted() rsorted() rev() a list; count(list, x) how often x is in it.",
			"-hex writes the result as 0x....",
		},
		noNegate: "it cannot fail", afterEnd: true,
		flags: func(o *options, set *flag.FlagSet) { set.BoolVar(&o.hex, "hex", false, "") },
		build: buildLet,
	},
	"set": {
		group: "Values", args: "NAME TEXT...", summary: "set a variable to a text", noNegate: "it cannot fail", afterEnd: true,
		build: func(_ *options, args []string) (*action, error) {
			if len(args) < 1 || !nameRE.MatchString(args[0]) {
				return nil, errUsage
			}
			return &action{defines: args[:1], do: func(r *run) (*output, error) {
				r.set(args[0], strings.Join(args[1:], " "))
				return nil, nil
			}}, nil
		},
	},
	"check": {
		group: "Values", args: "A OP B | A distinct", summary: "compare two values",
		detail: []string{
			"== != < <= > >= compare expressions, as let has them, or else texts (== and != only).",
			"=~ matches A with the pattern B. in: A is an element of the list B. same: the lists A and B have the same elements, in any order.",
			"within: A is within B, which is C+-D. A list is words with commas or blanks between. OP is a word of its own.",
			"distinct: no element of the list A is there twice.",
		},
		afterEnd: true,
		regexp: func(args []string) []int {
			if i := operator(args); i > 0 && args[i] == "=~" {
				return []int{i + 1}
			}
			return nil
		},
		build: buildCheck,
	},
	"skip": {
		group: "Values", args: "REASON...", summary: "skip the rest of the test", detail: []string{"Mostly behind a condition."},
		noNegate: "it cannot fail",
		build: func(_ *options, args []string) (*action, error) {
			if len(args) == 0 {
				return nil, errUsage
			}
			return &action{do: func(r *run) (*output, error) {
				r.skip = strings.Join(args, " ")
				return nil, nil
			}}, nil
		},
	},
}

func buildRandom(_ *options, args []string) (*action, error) {
	if len(args) < 2 || !nameRE.MatchString(args[0]) {
		return nil, errUsage
	}
	draw, err := drawer(args[1], args[2:])
	if err != nil {
		return nil, err
	}
	return &action{defines: args[:1], do: func(r *run) (*output, error) {
		value := draw(r)
		r.res.Draws = append(r.res.Draws, Draw{Name: args[0], Value: value, Line: r.step.Line})
		r.set(args[0], value)
		return nil, nil
	}}, nil
}

// maxDrawn is how many letters or numbers can be drawn at once.
const maxDrawn = 100_000

// drawer returns the function that draws one value of a kind.
func drawer(kind string, args []string) (func(*run) string, error) {
	var n []int64
	if kind != "pick" {
		for _, a := range args {
			v, err := evaluateOne(a)
			if err != nil {
				return nil, err
			}
			n = append(n, v)
		}
	}
	switch {
	case kind == "pick" && len(args) > 0:
		return func(r *run) string { return args[r.random.IntN(len(args))] }, nil
	case kind == "int" && len(n) == 2 && n[0] <= n[1]:
		return func(r *run) string { return strconv.FormatInt(r.between(n[0], n[1]), 10) }, nil
	case kind == "word" && len(n) == 1 && n[0] > 0 && n[0] <= maxDrawn:
		return func(r *run) string { return r.letters(int(n[0])) }, nil
	case kind == "ints" && len(n) == 3 && n[0] >= 0 && n[0] <= maxDrawn && n[1] <= n[2]:
		return func(r *run) string {
			l := make(list, n[0])
			for i := range l {
				l[i] = r.between(n[1], n[2])
			}
			return l.String()
		}, nil
	}
	return nil, errUsage
}

// between draws a number of a range, which may be that of all numbers.
func (r *run) between(low, high int64) int64 {
	span := uint64(high) - uint64(low)
	if span == math.MaxUint64 {
		return int64(r.random.Uint64())
	}
	return int64(uint64(low) + r.random.Uint64N(span+1))
}

func (r *run) letters(n int) string {
	word := make([]byte, n)
	for i := range word {
		word[i] = 'a' + byte(r.random.IntN(26))
	}
	return string(word)
}

func buildLet(o *options, args []string) (*action, error) {
	if len(args) < 2 || !nameRE.MatchString(args[0]) {
		return nil, errUsage
	}
	expr := strings.Join(args[1:], " ")
	return &action{defines: args[:1], do: func(r *run) (*output, error) {
		v, err := evaluate(expr)
		if err != nil {
			return nil, err
		}
		text := v.String()
		if o.hex {
			words := make([]string, len(v))
			for i, n := range v {
				words[i] = fmt.Sprintf("%#x", uint64(n))
			}
			text = strings.Join(words, ",")
		}
		r.set(args[0], text)
		return nil, nil
	}}, nil
}

// operators of check, and how each compares. The texts are as written; a and b are their values if
// both are expressions.
var operators = []string{"==", "!=", "<", "<=", ">", ">=", "=~", "in", "same", "within"}

// operator returns where the operator is, 0 if there is none.
func operator(args []string) int {
	for i := 1; i < len(args)-1; i++ {
		if slices.Contains(operators, args[i]) {
			return i
		}
	}
	return 0
}

func buildCheck(_ *options, args []string) (*action, error) {
	i := operator(args)
	if last := len(args) - 1; i == 0 && last > 0 && args[last] == "distinct" {
		return &action{do: func(*run) (*output, error) { return nil, compareAll(elements(strings.Join(args[:last], " "))) }}, nil
	}
	if i == 0 {
		return nil, errUsage
	}
	a, op, b := strings.Join(args[:i], " "), args[i], strings.Join(args[i+1:], " ")
	if op == "=~" {
		if len(args) != i+2 {
			return nil, errUsage
		}
		re, err := pattern(b)
		if err != nil {
			return nil, err
		}
		return &action{defines: groups(re), do: func(r *run) (*output, error) {
			m := re.FindStringSubmatch(a)
			if m == nil {
				return nil, &mismatch{"a match of " + b, quote(a)}
			}
			r.capture(re, [][]string{m}, false)
			return nil, nil
		}}, nil
	}
	if op == "within" && !strings.Contains(b, "+-") {
		return nil, fmt.Errorf("%q is not C+-D", b)
	}
	return &action{do: func(r *run) (*output, error) {
		err := compareValues(a, op, b)
		if err != nil && !errors.As(err, new(*mismatch)) {
			err = r.mistake("%v", err) // which is not what '!' asks for
		}
		return nil, err
	}}, nil
}

// compareValues says nothing if the comparison holds, and both sides if not.
func compareValues(a, op, b string) error {
	fits, shownA, shownB := false, quote(a), quote(b)
	switch op {
	case "in":
		fits = slices.Contains(elements(b), plain(a))
	case "same":
		x, y := elements(a), elements(b)
		slices.Sort(x)
		slices.Sort(y)
		fits = slices.Equal(x, y)
	case "within":
		return compareWithin(a, b)
	default:
		x, errA := evaluate(a)
		y, errB := evaluate(b)
		if errA != nil || errB != nil || a == "" || b == "" {
			if op != "==" && op != "!=" {
				if errA == nil {
					errA = errB
				}
				return fmt.Errorf("%s needs numbers: %v", op, errA)
			}
			fits = (a == b) == (op == "==")
			break
		}
		var err error
		if fits, err = compareLists(x, op, y); err != nil {
			return err
		}
		shownA, shownB = valueOf(a, x), valueOf(b, y)
	}
	if fits {
		return nil
	}
	return &mismatch{expected: op + " " + shownB, seen: shownA}
}

// valueOf shows an expression and its value, if that is not what it looks like.
func valueOf(text string, v list) string {
	if text == v.String() {
		return text
	}
	return v.String() + " (" + text + ")"
}

// compareLists compares whole lists for == and !=. The others must hold for each element; a single
// number goes with each.
func compareLists(x list, op string, y list) (bool, error) {
	switch op {
	case "==":
		return slices.Equal(x, y), nil
	case "!=":
		return !slices.Equal(x, y), nil
	}
	signs, err := combine(op, x, y)
	return err == nil && len(signs) > 0 && !slices.Contains(signs, 0), err
}

func compareWithin(a, b string) error {
	centre, radius, _ := strings.Cut(b, "+-")
	x, err := evaluateOne(a)
	if err != nil {
		return err
	}
	c, err := evaluateOne(centre)
	if err != nil {
		return err
	}
	d, err := evaluateOne(radius)
	if err != nil {
		return err
	}
	if x < c-d || x > c+d {
		return &mismatch{fmt.Sprintf("within %d+-%d", c, d), strconv.FormatInt(x, 10)}
	}
	return nil
}

// compareAll compares the elements of a list with each other.
func compareAll(list []string) error {
	seen := map[string]bool{}
	for _, e := range list {
		if seen[e] {
			return &mismatch{"distinct elements", quote(e) + " more than once in " + strings.Join(list, ",")}
		}
		seen[e] = true
	}
	return nil
}

// elements are the words of a list, numbers among them in decimal.
func elements(text string) []string {
	words := strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' })
	for i, w := range words {
		words[i] = plain(w)
	}
	return words
}

// plain writes a number in decimal, and leaves anything else.
func plain(word string) string {
	if n, err := evaluateOne(word); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return word
}
