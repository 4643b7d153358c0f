package kconfig

import "slices"

// overruled tells whether a request does not hold because a later layer's do: one of the symbols that stand
// against it has its value for that.
func (v *verifier) overruled(s *symbol, r Request, against []string) bool {
	if other := v.chosen(s); other != "" {
		against = append(against, other)
	}
	o := overruler{v, r.Layer, map[string]bool{r.Symbol: true}}
	return slices.ContainsFunc(against, o.decided)
}

// overruler looks for what was asked above a layer.
type overruler struct {
	*verifier
	layer int
	seen  map[string]bool
}

// decided tells whether a symbol has its present value because of a request above the layer: one for that
// value, or one for a symbol that keeps it from having another.
func (o overruler) decided(name string) bool {
	if o.seen[name] {
		return false
	}
	o.seen[name] = true
	got := o.result.Get(name)
	r, asked := o.reqs[name]
	if asked && equal(r.Value, got) {
		return r.Layer > o.layer
	}
	s := o.tree.lookup(name)
	switch {
	case s == nil:
		return false
	case asked:
		_, against := o.explain(s, r.Assignment, got)
		if other := o.chosen(s); other != "" {
			against = append(against, other)
		}
		return slices.ContainsFunc(against, o.decided)
	}
	if sel := o.activeSelector(s); sel != nil {
		return o.decided(sel.by)
	}
	return !hasPrompt(s) && slices.ContainsFunc(o.decides(s), o.decided)
}

// decides lists the symbols by which one that nobody can ask for has its value: who could select it, and
// what its defaults hang on.
func (v *verifier) decides(s *symbol) []string {
	var names []string
	for _, sel := range s.selectors {
		names = append(names, sel.by)
	}
	on := v.result.Get(s.name) != "n"
	for _, d := range s.defs {
		for _, c := range append(slices.Clip(d.depends), d.defaults...) {
			leaves := c.expr.blame(v.result, mod, true)
			if on {
				leaves = c.expr.blame(v.result, yes, false)
			}
			for _, leaf := range leaves {
				names = append(names, leaf.symbol())
			}
		}
	}
	return names
}

// hasPrompt tells whether a symbol can be asked for.
func hasPrompt(s *symbol) bool {
	return slices.ContainsFunc(s.defs, func(d *definition) bool { return d.prompt })
}
