package dmesg

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Symbols are the kernel addresses [ReadRing] and [ReadTaint] need, by name.
type Symbols map[string]uint64

// wantedSymbols are the names ParseSystemMap keeps.
var wantedSymbols = map[string]bool{
	"vmcoreinfo_data": true, "prb": true, "page_offset_base": true, "tainted_mask": true, "_text": true,
}

// ParseSystemMap reads a System.map, lines of "address type name", and keeps the few symbols this
// package uses: a map of everything would cost more than reading the ring does. A file with none of them is an error.
func ParseSystemMap(r io.Reader) (Symbols, error) {
	syms := make(Symbols, len(wantedSymbols))
	in := bufio.NewReaderSize(r, 256<<10)
	for {
		line, err := in.ReadSlice('\n')
		if i := bytes.LastIndexByte(line, ' '); i >= 0 {
			// The conversion in a map index does not allocate.
			if name := bytes.TrimRight(line[i+1:], "\r\n"); wantedSymbols[string(name)] {
				if err := syms.add(line, string(name)); err != nil {
					return nil, err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read System.map: %w", err)
		}
	}
	if len(syms) == 0 {
		return nil, errors.New("read System.map: no known kernel symbol in it")
	}
	return syms, nil
}

func (s Symbols) add(line []byte, name string) error {
	hex, _, _ := bytes.Cut(line, []byte(" "))
	addr, err := strconv.ParseUint(string(hex), 16, 64)
	if err != nil {
		return fmt.Errorf("read System.map: symbol %s: %w", name, err)
	}
	s[name] = addr
	return nil
}
