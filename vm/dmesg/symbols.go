package dmesg

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Symbols are the kernel addresses [ReadRing] and [ReadTaint] need, by name.
type Symbols map[string]uint64

// wantedSymbols are the names ParseSystemMap keeps.
var wantedSymbols = [...]string{"vmcoreinfo_data", "prb", "page_offset_base", "tainted_mask"}

// mapChunk is how much of a System.map is searched at a time; a line is never longer.
const mapChunk = 256 << 10

// ParseSystemMap reads a System.map, lines of "address type name", and keeps the few symbols this
// package uses. It searches for those instead of parsing the 60,000 lines: all of them would cost
// more than reading the ring does. A file with none of them is an error.
func ParseSystemMap(r io.Reader) (Symbols, error) {
	syms := make(Symbols, len(wantedSymbols))
	buf, n := make([]byte, mapChunk), 0
	for {
		k, err := io.ReadFull(r, buf[n:])
		n += k
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return nil, fmt.Errorf("read System.map: %w", err)
		}
		whole := bytes.LastIndexByte(buf[:n], '\n') + 1
		if last && whole < n {
			buf[n] = '\n' // there is room: the buffer was not filled
			n++
			whole = n
		}
		if err := syms.search(buf[:whole]); err != nil {
			return nil, fmt.Errorf("read System.map: %w", err)
		}
		switch {
		case last && len(syms) == 0, whole == 0:
			return nil, errors.New("read System.map: no known kernel symbol in it")
		case last:
			return syms, nil
		}
		n = copy(buf, buf[whole:n])
	}
}

// search adds the symbols found in some whole lines.
func (s Symbols) search(lines []byte) error {
	for _, name := range wantedSymbols {
		if _, ok := s[name]; ok {
			continue
		}
		end := bytes.Index(lines, []byte(" "+name+"\n"))
		if end < 0 {
			continue
		}
		line := lines[bytes.LastIndexByte(lines[:end], '\n')+1 : end]
		hex, _, _ := bytes.Cut(line, []byte(" "))
		addr, err := strconv.ParseUint(string(hex), 16, 64)
		if err != nil {
			return fmt.Errorf("symbol %s: %w", name, err)
		}
		s[name] = addr
	}
	return nil
}
