package kconfig

import "fmt"

// A Layer is a set of fragments of equal standing. Within a layer two fragments must not disagree;
// between layers the later one has the last word.
type Layer struct {
	Fragments []Fragment
	Firm      bool // no later layer may change what this one asks for
	Soft      bool // a wish: dropped where the kernel has no such symbol or a later layer stands against it
}

// A Request is an assignment that won the merge.
type Request struct {
	Assignment
	Layer int // index of the layer it came from
	Soft  bool
}

// A Conflict is two assignments of one symbol that cannot both hold.
type Conflict struct {
	First, Second Assignment
	Firm          bool // First cannot be overridden at all
}

// String names both places.
func (c Conflict) String() string {
	if c.Firm {
		return fmt.Sprintf("%s (%s) stands against %s (%s), which no kernel here can do without",
			c.Second, c.Second.Pos, c.First, c.First.Pos)
	}
	return fmt.Sprintf("%s (%s) and %s (%s) contradict each other", c.First, c.First.Pos, c.Second, c.Second.Pos)
}

// Merge puts layers on top of each other. The requests come in the order of layers and lines, each
// symbol once, at the place of its last assignment: of two members of one choice the kernel takes the
// later. All conflicts are returned; with any, the requests are not to be used.
func Merge(layers ...Layer) ([]Request, []Conflict) {
	m := merger{last: map[string]int{}, firm: map[string]bool{}}
	for i, l := range layers {
		inLayer := map[string]Assignment{}
		for _, f := range l.Fragments {
			for _, a := range f.Assignments {
				m.add(i, l, inLayer, a)
			}
		}
	}
	var reqs []Request
	for i, r := range m.all {
		if m.last[r.Symbol] == i {
			reqs = append(reqs, r)
		}
	}
	return reqs, m.conflicts
}

type merger struct {
	all       []Request
	last      map[string]int  // symbol to index in all
	firm      map[string]bool // symbols of firm layers
	conflicts []Conflict
}

func (m *merger) add(layer int, l Layer, inLayer map[string]Assignment, a Assignment) {
	if prev, ok := inLayer[a.Symbol]; ok {
		if !equal(prev.Value, a.Value) {
			m.conflicts = append(m.conflicts, Conflict{First: prev, Second: a})
		}
		return
	}
	inLayer[a.Symbol] = a
	if m.firm[a.Symbol] {
		if prev := m.all[m.last[a.Symbol]].Assignment; !equal(prev.Value, a.Value) {
			m.conflicts = append(m.conflicts, Conflict{First: prev, Second: a, Firm: true})
		}
		return
	}
	m.firm[a.Symbol] = l.Firm
	m.last[a.Symbol] = len(m.all)
	m.all = append(m.all, Request{Assignment: a, Layer: layer, Soft: l.Soft})
}

// Assignments is the requests without their standing, for [Format].
func Assignments(reqs []Request) []Assignment {
	as := make([]Assignment, len(reqs))
	for i, r := range reqs {
		as[i] = r.Assignment
	}
	return as
}
