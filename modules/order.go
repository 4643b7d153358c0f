package modules

import (
	"fmt"
	"strings"
)

// LoadOrder returns the modules so that each comes after those it depends on, and otherwise
// in the order given. It is an error if one depends on a module that is not among them, if
// the dependencies form a cycle, or if two have one name.
func LoadOrder(list []*Module) ([]*Module, error) {
	return order(list, true)
}

// order is LoadOrder; if it is not strict, dependencies that are not in the list do not count.
func order(list []*Module, strict bool) ([]*Module, error) {
	s := sorter{strict: strict, byName: map[string]*Module{}, done: map[*Module]bool{}}
	for _, m := range list {
		if other, ok := s.byName[m.Name]; ok {
			return nil, fmt.Errorf("order modules: %s and %s: two modules of one name", other.File, m.File)
		}
		s.byName[m.Name] = m
	}
	for _, m := range list {
		if err := s.visit(m, nil); err != nil {
			return nil, fmt.Errorf("order modules: %w", err)
		}
	}
	return s.order, nil
}

type sorter struct {
	strict bool
	byName map[string]*Module
	done   map[*Module]bool
	order  []*Module
}

// visit adds m after what it depends on. path are the names that led to it.
func (s *sorter) visit(m *Module, path []string) error {
	if s.done[m] {
		return nil
	}
	for i, name := range path {
		if name == m.Name {
			return fmt.Errorf("modules depend on each other: %s", strings.Join(append(path[i:], m.Name), " -> "))
		}
	}
	path = append(path, m.Name)
	for _, name := range m.Depends {
		needed, ok := s.byName[name]
		if !ok && !s.strict {
			continue
		}
		if !ok {
			return fmt.Errorf("%s depends on %s, which is not among the modules", m.Name, name)
		}
		if err := s.visit(needed, path); err != nil {
			return err
		}
	}
	s.done[m] = true
	s.order = append(s.order, m)
	return nil
}
