package srcline

import (
	"debug/dwarf"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// frames returns the places of an address.
func (img *image) frames(function string, pc uint64) ([]Frame, error) {
	r := img.lines.Reader()
	unit, err := r.SeekPC(pc)
	if err != nil {
		return nil, fmt.Errorf("address %#x: %w", pc, err)
	}
	lines, err := img.lines.LineReader(unit)
	if err == nil && lines == nil {
		err = errors.New("no line table")
	}
	var at dwarf.LineEntry
	if err == nil {
		at, err = seek(lines, pc)
	}
	if err != nil || at.File == nil {
		return nil, fmt.Errorf("address %#x: %w", pc, errors.Join(err, ErrNoLines))
	}
	calls := img.inlined(r, pc)
	files := lines.Files()
	// Names are told as the compiler was given them, without the folder it ran in.
	folder, _ := unit.Val(dwarf.AttrCompDir).(string)
	name := func(f *dwarf.LineFile) string { return strings.TrimPrefix(path.Clean(f.Name), folder+"/") }
	frames := []Frame{{function, name(at.File), at.Line}}
	// The code belongs to the innermost call; each call says where in the next outer function it is.
	for i := len(calls) - 1; i >= 0; i-- {
		frames[len(frames)-1].Function = calls[i].name
		outer := Frame{Function: function, Line: calls[i].line}
		if n := calls[i].file; n >= 0 && n < len(files) && files[n] != nil {
			outer.File = name(files[n])
		}
		frames = append(frames, outer)
	}
	return frames, nil
}

// seek returns the entry of a line table for an address. LineReader's own SeekPC wants the addresses in
// order, which those of a file with several sections are not.
func seek(lines *dwarf.LineReader, pc uint64) (dwarf.LineEntry, error) {
	var at, next dwarf.LineEntry
	for inside := false; ; inside = !next.EndSequence {
		if err := lines.Next(&next); err == io.EOF {
			return at, dwarf.ErrUnknownPC
		} else if err != nil {
			return at, err
		}
		if inside && at.Address <= pc && pc < next.Address {
			return at, nil
		}
		at = next
	}
}

// call is an inlined function and where it is called.
type call struct {
	name       string
	file, line int
}

// inlined returns the inlined calls an address is in, from the outermost in. The reader is in the
// address's compilation unit.
func (img *image) inlined(r *dwarf.Reader, pc uint64) []call {
	var calls []call
	for depth := 1; depth > 0; {
		e, err := r.Next()
		if err != nil || e == nil {
			break
		}
		switch {
		case e.Tag == 0:
			depth--
			continue
		case e.Tag != dwarf.TagSubprogram && e.Tag != dwarf.TagInlinedSubroutine && e.Tag != dwarf.TagLexDwarfBlock:
			r.SkipChildren()
			continue
		case !img.covers(e, pc):
			r.SkipChildren()
			continue
		}
		if e.Tag == dwarf.TagInlinedSubroutine {
			calls = append(calls, img.callOf(e))
		}
		if e.Children {
			depth++
		}
	}
	return calls
}

// covers reports whether an entry's code has an address. A block without addresses may have it.
func (img *image) covers(e *dwarf.Entry, pc uint64) bool {
	ranges, err := img.lines.Ranges(e)
	if err != nil {
		return false
	}
	for _, r := range ranges {
		if r[0] <= pc && pc < r[1] {
			return true
		}
	}
	return len(ranges) == 0 && e.Tag == dwarf.TagLexDwarfBlock
}

func (img *image) callOf(e *dwarf.Entry) call {
	c := call{name: "?"}
	if n, ok := e.Val(dwarf.AttrCallFile).(int64); ok {
		c.file = int(n)
	}
	if n, ok := e.Val(dwarf.AttrCallLine).(int64); ok {
		c.line = int(n)
	}
	origin, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
	if !ok {
		return c
	}
	r := img.lines.Reader()
	r.Seek(origin)
	if of, err := r.Next(); err == nil && of != nil {
		if name, ok := of.Val(dwarf.AttrName).(string); ok {
			c.name = name
		}
	}
	return c
}
