package report

import (
	"fmt"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
)

// TextOptions are how much Test tells. The zero value tells a line of a test, and all of a failure.
type TextOptions struct {
	Verbose bool // every check, also of tests that passed
}

// words are what people read of a status.
var words = map[check.Status]string{check.Pass: "ok", check.Fail: "FAIL", check.Skip: "skip", check.Error: "ERROR"}

// Summary returns the line that counts the results.
func Summary(r *Report) string {
	c := r.Count()
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{c.Passed, "passed"}, {c.Failed, "failed"}, {c.Skipped, "skipped"}, {c.Errors, "could not run"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	if len(parts) == 0 {
		parts = []string{"no tests"}
	}
	if c.MaxPoints > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d points", c.Points, c.MaxPoints))
	}
	return fmt.Sprintf("%s (%s s)", strings.Join(parts, ", "), seconds(r.Time))
}

// Test returns one result for people, in plain lines.
func Test(res *check.Result, opts TextOptions) string {
	head := fmt.Sprintf("%-5s %s (%s s)", words[res.Status], line(res.Name), seconds(res.Time))
	if res.Status == check.Skip && res.Reason != "" {
		head += " " + line(res.Reason)
	}
	out := []string{head}
	bad := res.Status == check.Fail || res.Status == check.Error
	for _, c := range checks(res) {
		switch {
		case c.Status == check.Fail:
			out = append(out, checkHead("not ok", c))
			out = append(out, indent("        ", explain(res, c))...)
		case c.Status == check.Error:
			out = append(out, "  error   "+line(c.Reason))
		case bad || opts.Verbose:
			out = append(out, checkHead(words[c.Status], c))
		}
	}
	switch {
	case bad:
		out = append(out, indent("  ", background(res))...)
	case res.Status == check.Pass:
		out = append(out, indent("  ", notes(res))...)
	}
	return strings.Join(out, "\n") + "\n"
}

func checkHead(word string, c check.Check) string {
	s := fmt.Sprintf("  %-7s %s", word, line(c.Name))
	if c.Status == check.Skip && c.Reason != "" {
		s += " (" + line(c.Reason) + ")"
	}
	return s
}
