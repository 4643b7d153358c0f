// Package report writes the results of tests for people and for machines.
//
// Its functions are pure: results in, bytes out. What modules and helpers printed is never trusted to be
// text: control characters and invalid UTF-8 are made visible instead of passed on.
package report

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// Report is what there is to write.
type Report struct {
	Name       string            `json:"name"` // of the whole, "kaleido test"
	Started    time.Time         `json:"started"`
	Time       time.Duration     `json:"time_ns"`
	Properties map[string]string `json:"properties,omitempty"` // kernel, accelerator, version...
	Results    []*check.Result   `json:"results"`
}

// Counts are how many tests ended how, and what that is worth.
type Counts struct {
	Total   int `json:"total"`
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
	Errors  int `json:"errors"`

	Points    int `json:"points"`     // of the tests that passed
	MaxPoints int `json:"max_points"` // of all that were not skipped
}

// Count counts the results.
func (r *Report) Count() Counts {
	c := Counts{Total: len(r.Results)}
	for _, res := range r.Results {
		if res.Status != check.Skip {
			c.MaxPoints += res.Points
		}
		switch res.Status {
		case check.Pass:
			c.Passed++
			c.Points += res.Points
		case check.Fail:
			c.Failed++
		case check.Skip:
			c.Skipped++
		default:
			c.Errors++
		}
	}
	return c
}

// Verdict returns the worst verdict of all results: panic, timeout, splat, fail, and last what kept
// tests from running; pass if there is nothing worse.
func (r *Report) Verdict() check.Verdict {
	order := []check.Verdict{
		check.VerdictPanic, check.VerdictTimeout, check.VerdictSplat, check.VerdictFail, check.VerdictError,
	}
	for _, v := range order {
		for _, res := range r.Results {
			if res.Verdict == v {
				return v
			}
		}
	}
	return check.VerdictPass
}

// Clean makes text of what may be anything: control characters other than newline and tab, characters
// that change the direction of writing, those XML cannot have, and bytes that are no UTF-8 are written as \xNN or \uNNNN.
func Clean(s string) string {
	if !strings.ContainsFunc(s, unclean) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		c, n := utf8.DecodeRuneInString(s)
		switch {
		case c == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unclean(c) && c < 0x80:
			fmt.Fprintf(&b, `\x%02x`, c)
		case unclean(c) && c != utf8.RuneError:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func unclean(c rune) bool {
	if c == '\n' || c == '\t' {
		return false
	}
	return unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c) || c == utf8.RuneError || c == 0xfffe || c == 0xffff ||
		c == 0x2028 || c == 0x2029
}

// line is clean for where one line must do.
func line(s string) string {
	return strings.Join(strings.Fields(Clean(s)), " ")
}

// seconds writes a duration as every format here has it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", max(d, 0).Seconds()) }

// recordLine writes a record with its level.
func recordLine(rec dmesg.Record) string {
	var b strings.Builder
	for i, l := range strings.Split(rec.String(), "\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%-6s %s", dmesg.LevelName(rec.Level), Clean(l))
	}
	return b.String()
}

// Bounds of what is shown of a kernel log.
const (
	maxShown = 60  // records beside a failed check
	maxLog   = 200 // records of a test in a file
)

// recordLines writes the last records of a log.
func recordLines(recs []dmesg.Record, limit int) []string {
	var lines []string
	if over := len(recs) - limit; over > 0 {
		lines = append(lines, fmt.Sprintf("(%d earlier records left out)", over))
		recs = recs[over:]
	}
	for _, rec := range recs {
		lines = append(lines, strings.Split(recordLine(rec), "\n")...)
	}
	return lines
}

// textLines splits text that may be anything into lines, without empty ones at the end.
func textLines(s string) []string {
	s = strings.TrimRight(Clean(strings.ReplaceAll(s, "\r\n", "\n")), "\n \t")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
