package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
)

// Crash is what is known of a kernel that complained, or that did not answer any more.
type Crash struct {
	Splats    []check.Splat // those that are not credible are left out
	Taint     string        // what the run added, in words
	Diagnosis string        // what the processors were doing
	Saved     []string      // what else was kept of it, one a line
}

// Write writes the crash for people: of each splat what it means and where in the source it was, and
// then the kernel's own report.
func (c *Crash) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, s := range c.Splats {
		if !s.Credible {
			continue
		}
		fmt.Fprintf(out, "%s: %s (%s)\n", s.Kind, line(s.Title), line(s.Why))
		writeIndented(out, meaningLines(s))
		writeIndented(out, []string{"the kernel's report:"})
		for _, rec := range s.Records {
			writeIndented(out, textLines(rec.String()))
		}
	}
	if c.Taint != "" {
		fmt.Fprintf(out, "taint added: %s\n", line(c.Taint))
	}
	if c.Diagnosis != "" {
		fmt.Fprintln(out, "what the processors were doing:")
		writeIndented(out, textLines(c.Diagnosis))
	}
	for _, s := range c.Saved {
		fmt.Fprintln(out, line(s))
	}
	return out.Flush()
}

func writeIndented(w io.Writer, lines []string) {
	for _, l := range indent("  ", lines) {
		fmt.Fprintln(w, strings.TrimRight(l, " "))
	}
}

// meaningLines say what a splat means and where it was.
func meaningLines(s check.Splat) []string {
	var out []string
	if s.Meaning != "" {
		out = append(out, line(s.Meaning))
	}
	if s.Chapter != "" {
		out = append(out, "the handbook on it: "+line(s.Chapter))
	}
	if s.RIP != "" {
		out = append(out, "at "+line(s.RIP))
	}
	return append(out, textLines(s.Decoded)...)
}
