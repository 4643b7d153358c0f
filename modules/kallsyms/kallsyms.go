// Package kallsyms reads from a kernel's memory where the functions of its modules are, without any help from the
// kernel: it may have hung while a module was being loaded.
//
// The kernel has its modules in a list, "modules" (kernel/module/main.c), and each has a symbol table, which is
// that of its file with the true addresses (struct mod_kallsyms, include/linux/module.h; needs CONFIG_KALLSYMS).
// Until a module's init function has returned, the functions of its init section are there, too.
package kallsyms

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// Function is a function of a module.
type Function struct {
	Module string
	Name   string
	Addr   uint64
	Size   uint64 // in bytes
}

// Layout has the offsets, in bytes, of what is read.
type Layout struct {
	List, Name, Kallsyms uint64 // in struct module
	Symtab, Num, Strtab  uint64 // in struct mod_kallsyms
}

// NewLayout asks members, which is to know the structs of this very kernel, for the layout.
func NewLayout(members func(structure string, names ...string) ([]uint64, error)) (*Layout, error) {
	module, err := members("module", "list", "name", "kallsyms")
	if err != nil {
		return nil, err
	}
	table, err := members("mod_kallsyms", "symtab", "num_symtab", "strtab")
	if err != nil {
		return nil, err
	}
	return &Layout{module[0], module[1], module[2], table[0], table[1], table[2]}, nil
}

// Memory reads the kernel's memory: it fills p from a virtual address.
type Memory func(addr uint64, p []byte) error

// What is read may be damaged, or made up by a module: more than this is not believed.
const (
	mostModules = 1 << 12
	mostSymbols = 1 << 17 // of all modules
	mostNames   = 8 << 20
	mostName    = 512 // KSYM_NAME_LEN
	page        = 4096
)

// moduleNameSize is MODULE_NAME_LEN.
const moduleNameSize = 64 - 8

// Read returns the functions of all modules, sorted by address; of one that has two names its own comes last. head is
// the address of the list. Names are those of an assembler and can be printed. Where memory is damaged the error says
// so, and what could be read is returned as well.
func Read(head uint64, layout *Layout, memory Memory) ([]Function, error) {
	var all []Function
	var errs []error
	seen := map[uint64]bool{}
	at, err := memory.pointer(head)
	for err == nil && at != head {
		if seen[at] || len(seen) == mostModules {
			err = errors.New("the list of modules has no end")
			break
		}
		seen[at] = true
		functions, moduleErr := layout.module(at-layout.List, memory, mostSymbols-len(all))
		all, errs = append(all, functions...), append(errs, moduleErr)
		at, err = memory.pointer(at)
	}
	slices.SortStableFunc(all, func(a, b Function) int {
		return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(ownName(a.Name), ownName(b.Name)))
	})
	return all, errors.Join(append(errs, err)...)
}

// module returns the functions of one module, which may have so many symbols.
func (l *Layout) module(addr uint64, memory Memory, most int) ([]Function, error) {
	name := make([]byte, moduleNameSize)
	if err := memory(addr+l.Name, name); err != nil {
		return nil, err
	}
	name, _, _ = bytes.Cut(name, []byte{0})
	if !nameRE.Match(name) {
		return nil, fmt.Errorf("%q is no module's name", name)
	}
	table, err := memory.pointer(addr + l.Kallsyms)
	if err != nil || table == 0 { // its loading has just begun
		return nil, err
	}
	functions, err := l.functions(table, memory, most)
	if err != nil {
		return nil, fmt.Errorf("symbols of module %q: %w", name, err)
	}
	for i := range functions {
		functions[i].Module = string(name)
	}
	return functions, nil
}

func (l *Layout) functions(table uint64, memory Memory, most int) ([]Function, error) {
	symtab, err := memory.pointer(table + l.Symtab)
	if err != nil {
		return nil, err
	}
	strtab, err := memory.pointer(table + l.Strtab)
	if err != nil {
		return nil, err
	}
	num := make([]byte, 4)
	if err := memory(table+l.Num, num); err != nil {
		return nil, err
	}
	count := int(binary.LittleEndian.Uint32(num))
	if count > most {
		return nil, fmt.Errorf("%d symbols are too many", count)
	}
	raw := make([]byte, count*elf.Sym64Size)
	if err := memory(symtab, raw); err != nil {
		return nil, err
	}
	symbols := make([]elf.Sym64, count)
	if _, err := binary.Decode(raw, binary.LittleEndian, symbols); err != nil {
		return nil, err
	}
	symbols = slices.DeleteFunc(symbols, func(s elf.Sym64) bool {
		return elf.ST_TYPE(s.Info) != elf.STT_FUNC || elf.SectionIndex(s.Shndx) == elf.SHN_UNDEF
	})
	names := names{addr: strtab, memory: memory}
	var functions []Function
	for _, s := range symbols {
		name, err := names.at(s.Name)
		if err != nil {
			return nil, err
		}
		if nameRE.MatchString(name) {
			functions = append(functions, Function{Name: name, Addr: s.Value, Size: s.Size})
		}
	}
	return functions, nil
}

// ownName is 0 for the second names by which the kernel calls two functions of every module (module_init,
// module_exit), else 1.
func ownName(name string) int {
	if name == "init_module" || name == "cleanup_module" {
		return 0
	}
	return 1
}

// nameRE matches the names of modules and of functions.
var nameRE = regexp.MustCompile(fmt.Sprintf(`^[\w.$-]{1,%d}$`, mostName))

// names is a string table of which the length is not known.
type names struct {
	addr   uint64
	text   []byte
	memory Memory
}

// at returns the name at an offset.
func (n *names) at(offset uint32) (string, error) {
	for {
		if int(offset) < len(n.text) {
			if name, _, whole := bytes.Cut(n.text[offset:], []byte{0}); whole {
				return string(name), nil
			}
		}
		if len(n.text) > mostNames {
			return "", fmt.Errorf("the name at %d has no end", offset)
		}
		next := n.addr + uint64(len(n.text))
		p := make([]byte, page-next%page) // the page after it may not be there
		if err := n.memory(next, p); err != nil {
			return "", err
		}
		n.text = append(n.text, p...)
	}
}

func (m Memory) pointer(addr uint64) (uint64, error) {
	var p [8]byte
	err := m(addr, p[:])
	return binary.LittleEndian.Uint64(p[:]), err
}
