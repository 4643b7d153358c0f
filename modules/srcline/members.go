package srcline

import (
	"debug/dwarf"
	"fmt"
)

// members returns the offsets of members of a struct. Those of a struct or union without a name inside are not found.
func (img *image) members(structure string, names []string) ([]uint64, error) {
	r := img.lines.Reader()
	for {
		e, err := r.Next()
		if err == nil && e == nil {
			err = ErrNoLines
		}
		if err != nil {
			return nil, fmt.Errorf("struct %s: %w", structure, err)
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		switch {
		case e.Tag == dwarf.TagCompileUnit: // in which the types are
		case e.Tag == dwarf.TagStructType && name == structure && e.Children: // a mere declaration has none
			return offsets(r, structure, names)
		default:
			r.SkipChildren()
		}
	}
}

// offsets reads a struct's members, before which r is.
func offsets(r *dwarf.Reader, structure string, names []string) ([]uint64, error) {
	known := map[string]uint64{}
	for {
		e, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("struct %s: %w", structure, err)
		}
		if e == nil || e.Tag == 0 {
			break
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		if at, ok := e.Val(dwarf.AttrDataMemberLoc).(int64); ok && e.Tag == dwarf.TagMember && at >= 0 {
			known[name] = uint64(at)
		}
		r.SkipChildren()
	}
	all := make([]uint64, len(names))
	for i, name := range names {
		at, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("struct %s has no member %s", structure, name)
		}
		all[i] = at
	}
	return all, nil
}
