package main

// What kaleido says to people, and where:
//
//   - standard output carries what was asked for (a table, a log, JSON, the
//     guest's output) and nothing else;
//   - everything about the work itself goes to standard error, one line each,
//     starting with "kaleido: ";
//   - no capitals at the start, no full stop at the end; a cure is a line of
//     its own, "kaleido: hint: ...".

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

type messages struct {
	mu    sync.Mutex
	w     io.Writer
	quiet bool
	// around, when set, wraps every write so that a progress bar is not torn.
	around func(write func(io.Writer))
}

func (m *messages) line(prefix, format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	m.mu.Lock()
	defer m.mu.Unlock()
	write := func(w io.Writer) {
		for _, l := range strings.Split(text, "\n") {
			fmt.Fprintf(w, "kaleido: %s%s\n", prefix, l)
		}
	}
	if m.around != nil {
		m.around(write)
		return
	}
	write(m.w)
}

// printf says what is going on; --quiet silences it.
func (m *messages) printf(format string, args ...any) {
	if !m.quiet {
		m.line("", format, args...)
	}
}

func (m *messages) warningf(format string, args ...any) { m.line("warning: ", format, args...) }

func (m *messages) errorf(format string, args ...any) { m.line("error: ", format, args...) }

func (m *messages) hintf(format string, args ...any) { m.line("hint: ", format, args...) }
