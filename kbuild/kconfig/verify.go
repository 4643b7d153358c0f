package kconfig

import (
	"fmt"
	"slices"
	"strings"
)

// A Miss is a request that the resulting .config does not meet.
type Miss struct {
	Assignment
	Got     string   // the value it has instead; "n" if it is off or unknown
	Unknown bool     // this kernel has no such symbol
	Near    []string // for an unknown symbol: names like it
	Reason  string   // why, in one line
}

// String is one line: what was asked where, and why it is not so.
func (m Miss) String() string {
	s := fmt.Sprintf("%s (%s)", m.Assignment, m.Pos)
	switch {
	case m.Unknown:
		s += ": unknown symbol"
	case m.Value == "n":
		s += " did not hold, it is " + m.Got
	case m.Got != "n":
		s += " became " + m.Got
	default:
		s += " did not survive"
	}
	if m.Reason != "" {
		s += ": " + m.Reason
	}
	if len(m.Near) > 0 {
		s += "; did you mean " + strings.Join(m.Near, ", ") + "?"
	}
	return s
}

// Verify compares every request with the resulting .config. load is called at most once, and only if
// there is something to explain or to look up; it returns the source's [Tree]. If it fails, misses
// have no reason, and its error is returned beside them.
//
// A soft request is excused if the kernel has no such symbol, or if a request of a later layer stands
// against it: one for another member of the same choice, or one that turns off what it depends on, be it
// by way of further symbols that nobody asked for, or whose requests lose in the same way.
// Everything else that is not in the result is a Miss; so is a request to turn off a symbol that
// does not exist, which is a slip of the pen more often than not.
func Verify(reqs []Request, result Values, load func() (*Tree, error)) ([]Miss, error) {
	v := &verifier{reqs: map[string]Request{}, result: result, load: load}
	for _, r := range reqs {
		v.reqs[r.Symbol] = r
	}
	var misses []Miss
	for _, r := range reqs {
		if m, missed := v.check(r); missed {
			misses = append(misses, m)
		}
	}
	return misses, v.err
}

type verifier struct {
	reqs   map[string]Request
	result Values
	load   func() (*Tree, error)
	tree   *Tree
	err    error
	loaded bool
}

// symbols returns the tree, nil if it cannot be had.
func (v *verifier) symbols() *Tree {
	if !v.loaded {
		v.loaded = true
		v.tree, v.err = v.load()
	}
	return v.tree
}

func (v *verifier) check(r Request) (Miss, bool) {
	m := Miss{Assignment: r.Assignment, Got: v.result.Get(r.Symbol)}
	if equal(m.Got, r.Value) || m.Got == "n" && r.Value == `""` {
		if r.Value != "n" || r.Soft || mentioned(v.result, r.Symbol) {
			return m, false
		}
		// Off, but is there such a symbol at all?
		if t := v.symbols(); t == nil || t.Has(r.Symbol) {
			return m, false
		}
	}
	t := v.symbols()
	if t == nil {
		return m, true
	}
	s := t.lookup(r.Symbol)
	if s == nil {
		if r.Soft {
			return m, false
		}
		m.Unknown, m.Near = true, t.near(r.Symbol)
		if f := t.elsewhere(r.Symbol); f != "" {
			m.Reason = "only another architecture has it, in " + f
		}
		return m, true
	}
	reason, against := v.explain(s, r.Assignment, m.Got)
	if r.Soft && v.overruled(s, r, against) {
		return m, false
	}
	m.Reason = reason
	return m, true
}

func mentioned(v Values, symbol string) bool {
	_, ok := v[symbol]
	return ok
}

// explain says why a symbol does not have the wanted value, and which symbols stand against it.
func (v *verifier) explain(s *symbol, want Assignment, got string) (reason string, against []string) {
	if sel := v.activeSelector(s); sel != nil && toTristate(got) > toTristate(want.Value) {
		return fmt.Sprintf("%s=%s selects it (%s)", sel.by, v.result.Get(sel.by), sel.pos), []string{sel.by}
	}
	other := v.chosen(s)
	def := v.nearest(s, want.Value)
	if def == nil && other != "" && want.Value != "n" {
		return v.choiceReason(other), []string{other}
	}
	if def == nil {
		return noPrompt(s) + v.defaultReason(s, want), v.decides(s)
	}
	// What depends on something that is missing could not be chosen either; what the compiler cannot do
	// is only a guess.
	for _, macro := range []tristate{yes, no} {
		if want.Value != "n" {
			if reason, against := v.unmet(def.depends, "depends on", want.Value, macro); reason != "" {
				return reason, against
			}
		}
		if reason, against := v.unmet(def.promptIf, "can only be set if", "y", macro); reason != "" {
			return reason, against
		}
		if other != "" && want.Value != "n" {
			return v.choiceReason(other), []string{other}
		}
	}
	return v.typeReason(s, def, want), nil
}

// activeSelector finds a select of the symbol that holds.
func (v *verifier) activeSelector(s *symbol) *selector {
	for i, sel := range s.selectors {
		if v.result.Get(sel.by) != "n" && (sel.cond == nil || sel.cond.eval(v.result, yes) > no) {
			return &s.selectors[i]
		}
	}
	return nil
}

// chosen is the member of the symbol's choice that was taken instead of it.
func (v *verifier) chosen(s *symbol) string {
	for _, d := range s.defs {
		if d.choice == nil {
			continue
		}
		for _, m := range d.choice.members {
			if m != s.name && v.result.Get(m) == "y" {
				return m
			}
		}
	}
	return ""
}

func (v *verifier) choiceReason(other string) string {
	by := ""
	if r, ok := v.reqs[other]; ok && equal(r.Value, "y") {
		by = fmt.Sprintf(" (%s)", r.Pos)
	}
	return fmt.Sprintf("%s=y%s is another member of the same choice, of which only one can be y", other, by)
}

// nearest is the definition with a prompt that lacks least; nil if none has a prompt.
func (v *verifier) nearest(s *symbol, want string) *definition {
	var best *definition
	least := 0
	for _, d := range s.defs {
		if !d.prompt {
			continue
		}
		lack := 0
		for _, c := range append(slices.Clip(d.depends), d.promptIf...) {
			if c.expr.eval(v.result, yes) < needed(want) {
				lack++
			}
		}
		if best == nil || lack < least {
			best, least = d, lack
		}
	}
	return best
}

// needed is how far a dependency must reach for a value to be possible.
func needed(want string) tristate {
	if want == "y" {
		return yes
	}
	return mod
}

// unmet names the first condition that does not hold, and what in it is not so. Tests of the compiler
// count as macro; if that is no, only what has one in it is looked at.
func (v *verifier) unmet(cs []*condition, verb, want string, macro tristate) (reason string, against []string) {
	for _, c := range cs {
		for _, part := range c.expr.conjuncts() {
			if part.eval(v.result, macro) < needed(want) && (macro == yes || part.hasMacro()) {
				return v.unmetReason(c, part, verb, want, macro)
			}
		}
	}
	return "", nil
}

func (v *verifier) unmetReason(c *condition, part *expr, verb, want string, macro tristate) (string, []string) {
	head := fmt.Sprintf("%s %s (%s)", verb, c.expr, c.pos)
	if macro == no {
		return head + ", and that is a test this compiler may not have passed", nil
	}
	var states, against []string
	for _, leaf := range part.blame(v.result, needed(want), true) {
		if s := leaf.state(v.result) + v.offPrompt(leaf.symbol()); !slices.Contains(states, s) {
			states = append(states, s)
			against = append(against, leaf.symbol())
		}
	}
	return head + ", and " + strings.Join(states, " and "), against
}

// offPrompt warns that a symbol that is off cannot be turned on by asking for it.
func (v *verifier) offPrompt(name string) string {
	if v.result.Get(name) != "n" || v.tree == nil {
		return ""
	}
	s := v.tree.lookup(name)
	if s == nil {
		return ", nor known to this kernel"
	}
	if hasPrompt(s) {
		return ""
	}
	return " (it " + noPrompt(s) + ")"
}

// noPrompt explains a symbol that nobody can ask for.
func noPrompt(s *symbol) string {
	if len(s.selectors) == 0 {
		return "has no prompt: only its own default sets it"
	}
	var by []string
	for _, sel := range s.selectors {
		if !slices.Contains(by, sel.by) {
			by = append(by, sel.by)
		}
	}
	more := ""
	if len(by) > 3 {
		more = fmt.Sprintf(" and %d others do", len(by)-3)
		by = by[:3]
	}
	return "has no prompt: only `select` can set it, as " + strings.Join(by, ", ") + more
}

// defaultReason says on what the value hangs that a symbol without a prompt has, if there is but one thing.
func (v *verifier) defaultReason(s *symbol, want Assignment) string {
	if len(s.selectors) > 0 || len(s.defs) != 1 || len(s.defs[0].defaults) != 1 || want.Value == "n" {
		return ""
	}
	reason, _ := v.unmet(s.defs[0].defaults, "which is", want.Value, yes)
	if reason == "" {
		return ""
	}
	return ", " + reason
}

// typeReason is for a symbol whose conditions are all met: the value itself is wrong.
func (v *verifier) typeReason(s *symbol, def *definition, want Assignment) string {
	typ := def.typ
	for _, d := range s.defs {
		if typ == "" {
			typ = d.typ
		}
	}
	isLogic := want.Value == "y" || want.Value == "m" || want.Value == "n"
	switch {
	case typ == "bool" && want.Value != "y" && want.Value != "n":
		return "it is a bool: y or n"
	case typ == "tristate" && !isLogic:
		return "it is a tristate: y, m or n"
	case typ == "tristate" && want.Value == "m" && v.result.Get("MODULES") == "n":
		return "m needs MODULES, and MODULES is not set"
	case typ == "string" && !strings.HasPrefix(want.Value, `"`):
		return `it is a string: "text"`
	case (typ == "int" || typ == "hex") && !numberRE.MatchString(want.Value):
		return "it is a number, " + typ
	case len(def.ranges) > 0:
		return "its range is " + strings.Join(def.ranges, ", or ")
	}
	return fmt.Sprintf("its conditions are met, %s may tell more", def.pos)
}
