package kallsyms

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
)

// ram is memory of a few pages.
type ram struct {
	base uint64
	data []byte
}

var errUnmapped = errors.New("unmapped")

func (r *ram) read(addr uint64, p []byte) error {
	if addr < r.base || addr+uint64(len(p)) > r.base+uint64(len(r.data)) {
		return errUnmapped
	}
	copy(p, r.data[addr-r.base:])
	return nil
}

func (r *ram) put(addr uint64, values ...any) {
	var buf bytes.Buffer
	for _, v := range values {
		if err := binary.Write(&buf, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	copy(r.data[addr-r.base:], buf.Bytes())
}

// Where the test has its things: the list, two modules, and the symbols of the first, whose names end with memory.
const (
	start  = 0xffffffffa0000000
	head   = start
	one    = start + 0x100
	two    = start + 0x200
	table  = start + 0x300
	symtab = start + 0x400
	strtab = start + 2*page - 30
)

var layout = &Layout{List: 8, Name: 24, Kallsyms: 80, Symtab: 0, Num: 8, Strtab: 16}

func memory() *ram {
	const function = uint8(elf.STB_GLOBAL)<<4 | uint8(elf.STT_FUNC)
	r := &ram{base: start, data: make([]byte, 2*page)}
	r.put(head, uint64(one+8))
	r.put(one+8, uint64(two+8))
	r.put(one+24, []byte("one"))
	r.put(one+80, uint64(table))
	r.put(two+8, uint64(head)) // its symbols are not there yet
	r.put(two+24, []byte("two"))
	r.put(table, uint64(symtab), uint32(5), uint32(0), uint64(strtab))
	r.put(symtab, elf.Sym64{}, // every table begins so
		elf.Sym64{Name: 1, Info: function, Shndx: 2, Value: start + 0x1000, Size: 0x20},
		elf.Sym64{Name: 10, Info: function, Shndx: 2, Value: start + 0x1000, Size: 0x20},
		elf.Sym64{Name: 22, Info: uint8(elf.STT_OBJECT), Shndx: 3, Value: start + 0x900},
		elf.Sym64{Name: 22, Info: function, Shndx: 1, Value: start + 0x800, Size: 0x10})
	r.put(strtab, []byte("\x00one_init\x00init_module\x00walk\x00"))
	return r
}

func TestRead(t *testing.T) {
	got, err := Read(head, layout, memory().read)
	if err != nil {
		t.Fatal(err)
	}
	want := []Function{
		{"one", "walk", start + 0x800, 0x10},
		{"one", "init_module", start + 0x1000, 0x20},
		{"one", "one_init", start + 0x1000, 0x20},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A module that runs wild writes anywhere, also here: there is an end, and an error.
func TestReadDamaged(t *testing.T) {
	for name, test := range map[string]struct {
		at    uint64
		value uint64
		left  int
	}{
		"the list leads nowhere":     {head, 1, 0},
		"the list goes round":        {two + 8, two + 8, 3},
		"the table is elsewhere":     {one + 80, 0x1000, 0},
		"the symbols are elsewhere":  {table, 0x1000, 0},
		"too many symbols":           {table + 8, 0xffffffff, 0},
		"more symbols than memory":   {table + 8, 1 << 16, 0},
		"the names are elsewhere":    {table + 16, 1, 0},
		"a name has no end":          {start + 2*page - 8, 0xffffffffffffffff, 0},
		"a module without a name":    {one + 24, 0, 0},
		"a name for the terminal":    {one + 24, 0x1b5b324a, 0},
		"a name is behind all names": {symtab + 4*elf.Sym64Size, 0x0001_00_02_ffffffff, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := memory()
			r.put(test.at, test.value)
			got, err := Read(head, layout, r.read)
			if err == nil || len(got) != test.left {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// A function's name that would do something to a terminal is left out.
func TestReadUnprintable(t *testing.T) {
	r := memory()
	r.put(strtab+1, []byte("one\x1binit"))
	got, err := Read(head, layout, r.read)
	if err != nil || len(got) != 2 || got[1].Name != "init_module" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestNewLayout(t *testing.T) {
	got, err := NewLayout(func(structure string, names ...string) ([]uint64, error) {
		return map[string][]uint64{"module": {8, 24, 80}, "mod_kallsyms": {0, 8, 16}}[structure], nil
	})
	if err != nil || !reflect.DeepEqual(got, layout) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := NewLayout(func(string, ...string) ([]uint64, error) { return nil, errUnmapped }); !errors.Is(err, errUnmapped) {
		t.Errorf("got %v", err)
	}
}
