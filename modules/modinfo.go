package modules

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Param is a parameter of a module.
type Param struct {
	Name        string `json:"name"`
	Type        string `json:"type"` // "charp", "int", "array of int"; "" if not said
	Description string `json:"description,omitempty"`
}

// Module is a kernel module, as the .modinfo section of its file describes it. See
// include/linux/moduleparam.h and scripts/mod/modpost.c in the kernel for what is there.
type Module struct {
	Name        string   `json:"name"` // as the kernel has it: "export_2"
	File        string   `json:"file"`
	Debug       string   `json:"debug"`   // where its debug information is: in File, or in a copy beside it
	Depends     []string `json:"depends"` // names of the modules that it uses symbols of
	Vermagic    string   `json:"vermagic"`
	Params      []Param  `json:"params"`
	Description string   `json:"description,omitempty"`
	Authors     []string `json:"authors,omitempty"`
	License     string   `json:"license,omitempty"`
	Version     string   `json:"version,omitempty"`
	Aliases     []string `json:"aliases,omitempty"`
	InTree      bool     `json:"intree"` // built as a part of the kernel's tree

	sources []sourceFile // what it was built from, by the names that its debug information has
}

// VermagicError says that a module was built for another kernel.
type VermagicError struct {
	Module  *Module
	Release string // of the kernel that it was to be loaded into
}

// Error names both kernels.
func (e *VermagicError) Error() string {
	if e.Module.Release() == "" {
		return e.Module.File + ": does not say for which kernel it was built"
	}
	return fmt.Sprintf("%s: built for kernel %s, not for %s", e.Module.File, e.Module.Release(), e.Release)
}

// ReadModule reads the description of a module's file, a relocatable ELF object.
func ReadModule(file string) (*Module, error) {
	info, err := modinfo(file)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", file, err)
	}
	m := parseModinfo(info)
	m.File, m.Debug = file, file
	if m.Name == "" {
		m.Name = canonical(strings.TrimSuffix(filepath.Base(file), ".ko"))
	}
	return m, nil
}

func modinfo(file string) ([]byte, error) {
	f, err := elf.Open(file)
	var bad *elf.FormatError
	if errors.As(err, &bad) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("not a kernel module: %w", err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if f.Type != elf.ET_REL || section == nil || section.Type == elf.SHT_NOBITS {
		return nil, errors.New("not a kernel module: no .modinfo")
	}
	return section.Data()
}

// parseModinfo parses .modinfo: strings of the form key=value, each ended by one or more NULs.
func parseModinfo(data []byte) *Module {
	m := &Module{}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		key, value, ok := strings.Cut(string(entry), "=")
		if ok {
			m.set(key, value)
		}
	}
	return m
}

func (m *Module) set(key, value string) {
	switch key {
	case "name":
		m.Name = value
	case "vermagic":
		m.Vermagic = value
	case "description":
		m.Description = value
	case "license":
		m.License = value
	case "version":
		m.Version = value
	case "author":
		m.Authors = append(m.Authors, value)
	case "alias":
		m.Aliases = append(m.Aliases, value)
	case "intree":
		m.InTree = value == "Y"
	case "depends":
		for _, name := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' }) {
			m.Depends = append(m.Depends, canonical(name))
		}
	case "parm":
		name, text, _ := strings.Cut(value, ":")
		m.param(name).Description = text
	case "parmtype":
		name, text, _ := strings.Cut(value, ":")
		m.param(name).Type = text
	}
}

// param returns the parameter of that name, which it adds if need be.
func (m *Module) param(name string) *Param {
	for i := range m.Params {
		if m.Params[i].Name == name {
			return &m.Params[i]
		}
	}
	m.Params = append(m.Params, Param{Name: name})
	return &m.Params[len(m.Params)-1]
}

// canonical returns a module's name as the kernel has it.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Release returns the release of the kernel that the module was built for, "" if it does not say.
func (m *Module) Release() string {
	release, _, _ := strings.Cut(m.Vermagic, " ")
	return release
}

// CheckVermagic returns a [*VermagicError] if the module was built for another kernel than
// that of the given release. It says nothing of the rest of the version magic (SMP, preemption):
// that the kernel compares itself.
func (m *Module) CheckVermagic(release string) error {
	if m.Release() == release {
		return nil
	}
	return &VermagicError{Module: m, Release: release}
}
