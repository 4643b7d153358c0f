// Package srcline finds the lines of source that a kernel's backtrace speaks of.
//
// A backtrace names functions and offsets: "hello_init+0x33/0x40 [hello]". Together with the ELF file of
// the module, or the kernel's vmlinux, and its debug information (DWARF), that is a file and a line.
// Where there is no debug information there is no answer, and none is made up.
package srcline

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Frame is a place in the source.
type Frame struct {
	Function string
	File     string
	Line     int
}

// String returns "function at file:line".
func (f Frame) String() string { return fmt.Sprintf("%s at %s:%d", f.Function, f.File, f.Line) }

// ErrNoLines says that a file has no debug information.
var ErrNoLines = errors.New("no debug information")

// Finder finds lines. Its methods may be called from any goroutine.
type Finder struct {
	files map[string]string // ELF files by module; "" is the kernel itself
	base  *Finder           // knows those that are not there; may be nil

	mu     sync.Mutex
	images map[string]*image // as they were read
}

// New returns a finder for these ELF files, each by the name of its module; that of the kernel is "".
func New(files map[string]string) *Finder {
	return &Finder{files: files, images: map[string]*image{}}
}

// With returns a finder that knows these files besides. What f has read, as a kernel's, is not read again.
func (f *Finder) With(files map[string]string) *Finder {
	more := New(files)
	more.base = f
	return more
}

// addressRE matches an address as the kernel prints it (%pS): "symbol+0xoffset/0xsize [module]".
var addressRE = regexp.MustCompile(`([A-Za-z_][\w.]*)\+0x([0-9a-f]+)/0x[0-9a-f]+(?: \[([\w-]+)[^\]]*\])?`)

// Place is an address of a backtrace and where in the source it is.
type Place struct {
	Address string // as the kernel printed it
	Module  string // empty for the kernel itself
	// Frames are the place, and if the code was inlined there, the places it was inlined into, from the innermost out.
	Frames []Frame
}

// Places returns the places of a backtrace's lines that are known, each once, in their order.
func (f *Finder) Places(trace []string) []Place {
	var places []Place
	seen := map[string]bool{}
	for _, line := range trace {
		m := addressRE.FindStringSubmatch(line)
		if m == nil || seen[m[0]] || strings.Contains(line, "? "+m[0]) {
			continue // "?" marks what merely lay on the stack
		}
		seen[m[0]] = true
		offset, err := strconv.ParseUint(m[2], 16, 64)
		if err != nil {
			continue
		}
		if !strings.Contains(line, "RIP: ") && offset > 0 {
			offset-- // a return address: the call is before it
		}
		if frames, err := f.Lookup(m[3], m[1], offset); err == nil {
			places = append(places, Place{m[0], m[3], frames})
		}
	}
	return places
}

// Decode returns a line for each address of a backtrace's lines whose place is known, with those it was
// inlined into. It is empty if there is none.
func (f *Finder) Decode(trace []string) string {
	var out strings.Builder
	for _, p := range f.Places(trace) {
		fmt.Fprintf(&out, "%s is %s\n", p.Address, p.Frames[0])
		for _, in := range p.Frames[1:] {
			fmt.Fprintf(&out, "    inlined into %s\n", in)
		}
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// Lookup returns the place of an offset in a function of a module, and if the code was inlined there,
// the places it was inlined into, from the innermost out. The error is [ErrNoLines] if there is no debug information.
func (f *Finder) Lookup(module, function string, offset uint64) ([]Frame, error) {
	img, err := f.image(module)
	if err != nil {
		return nil, err
	}
	base, ok := img.functions[function]
	if !ok {
		return nil, fmt.Errorf("no function %s", function)
	}
	img.mu.Lock() // dwarf.Data completes itself as it is read
	defer img.mu.Unlock()
	return img.frames(function, base+offset)
}

// Members returns the offsets, in bytes, of members of a struct as a module's debug information has it, which is
// as its kernel has it.
func (f *Finder) Members(module, structure string, names ...string) ([]uint64, error) {
	img, err := f.image(module)
	if err != nil {
		return nil, err
	}
	img.mu.Lock()
	defer img.mu.Unlock()
	return img.members(structure, names)
}

// image returns what is known of a module's file.
func (f *Finder) image(module string) (*image, error) {
	if _, ok := f.files[module]; !ok && f.base != nil {
		return f.base.image(module)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if img, ok := f.images[module]; ok {
		return img, img.err
	}
	name, ok := f.files[module]
	if !ok {
		return nil, fmt.Errorf("no file of module %s", module)
	}
	img := read(name)
	f.images[module] = img
	return img, img.err
}

// image is an ELF file.
type image struct {
	mu        sync.Mutex
	functions map[string]uint64
	lines     *dwarf.Data
	err       error
}

func read(name string) *image {
	img := &image{functions: map[string]uint64{}}
	if img.err = img.read(name); img.err != nil {
		img.err = fmt.Errorf("lines of %s: %w", name, img.err)
	}
	return img
}

func (img *image) read(name string) error {
	f, err := elf.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Section(".debug_info") == nil {
		return ErrNoLines
	}
	if f.Type == elf.ET_REL {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f.Close()
		if f, err = laidOut(data); err != nil {
			return err
		}
	}
	symbols, err := f.Symbols()
	if err != nil {
		return err
	}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			img.functions[s.Name] = s.Value
		}
	}
	img.lines, err = f.DWARF()
	return err
}

// laidOut returns a relocatable file as if its sections had been given addresses. In the file itself
// all begin at 0, .text and .init.text alike, and no address is unique. What the debug information
// says of addresses is relocated by the symbols' values, so that changing those is enough.
func laidOut(data []byte) (*elf.File, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	const gap = 0x1000
	bases := make([]uint64, len(f.Sections))
	next := uint64(gap)
	for i, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 {
			bases[i] = next
			next += (s.Size + 2*gap - 1) &^ (gap - 1)
		}
	}
	const entry, section, value = 24, 6, 8 // size and fields of Elf64_Sym
	for _, s := range f.Sections {
		if s.Type != elf.SHT_SYMTAB || s.Offset+s.Size > uint64(len(data)) || f.Class != elf.ELFCLASS64 {
			continue
		}
		table := data[s.Offset : s.Offset+s.Size]
		for ; len(table) >= entry; table = table[entry:] {
			in := int(f.ByteOrder.Uint16(table[section:]))
			if in < len(bases) && in != int(elf.SHN_UNDEF) {
				add(f.ByteOrder, table[value:], bases[in])
			}
		}
	}
	return elf.NewFile(bytes.NewReader(data))
}

func add(order binary.ByteOrder, field []byte, n uint64) {
	order.PutUint64(field, order.Uint64(field)+n)
}
