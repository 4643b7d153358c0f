package report

import (
	"fmt"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
)

// explain says why a check failed, in lines without indentation: the step, what was expected and seen,
// the commands, and the kernel's records of its window.
func explain(res *check.Result, c check.Check) []string {
	var out []string
	if c.Fault != nil {
		out = append(out, faultLines(c.Fault)...)
	}
	out = append(out, clip(textLines(c.Log), maxLogLines)...)
	if recs := res.Window(c); len(recs) > 0 {
		out = append(out, "the kernel's log of this check:")
		out = append(out, indent("  ", recordLines(recs, maxShown))...)
	} else if c.Fault != nil && c.Fault.Kind != check.FaultBuild {
		out = append(out, "the kernel said nothing during this check")
	}
	return out
}

// faultLines tells of a fault. Where both sides can be shown they need not be told in words as well; the
// records of a splat are in the log below.
func faultLines(f *check.Fault) []string {
	if f.Expected == "" || f.Kind == check.FaultSplat {
		return []string{line(f.String())}
	}
	out := []string{line(f.Place())}
	if f.Kind != check.FaultStep || f.Op == "" {
		out = []string{line(f.String())}
	}
	out = append(out, labelled("expected: ", f.Expected)...)
	return append(out, labelled("seen:     ", f.Seen)...)
}

// background tells what concerns the whole test, if it did not pass.
func background(res *check.Result) []string {
	var out []string
	for _, s := range res.Splats[:min(maxSplats, len(res.Splats))] {
		out = append(out, splatLines(s)...)
	}
	if more := len(res.Splats) - maxSplats; more > 0 {
		out = append(out, fmt.Sprintf("and %d reports more", more))
	}
	if res.End != nil {
		out = append(out, "the guest ended: "+line(res.End.String()))
	}
	if res.Taint != "" {
		out = append(out, "taint added: "+line(res.Taint))
	}
	if res.Lost > 0 {
		out = append(out, fmt.Sprintf("%d records of the kernel log were overwritten before they were read", res.Lost))
	}
	if len(res.Draws) > 0 {
		words := []string{}
		for _, d := range res.Draws {
			words = append(words, line(d.Name+"="+d.Value))
		}
		out = append(out, fmt.Sprintf("random values (again with --seed %d): %s", res.Seed, strings.Join(words, " ")))
	}
	if res.Diagnosis != "" {
		out = append(out, "what the guest was doing:")
		out = append(out, indent("  ", clip(textLines(res.Diagnosis), maxDiagnosis))...)
	}
	return append(out, noteLines(res)...)
}

// notes tells what is to be known of a test that passed, too: that its log has the text of a report though the
// kernel denies one, the attempts before that did not pass.
func notes(res *check.Result) []string {
	var out []string
	for _, s := range res.Splats {
		if !s.Credible && !s.Claimed && len(out) < maxSplats {
			out = append(out, "note: "+splatLines(s)[0])
		}
	}
	return append(out, noteLines(res)...)
}

func noteLines(res *check.Result) []string {
	var out []string
	for _, n := range res.Notes {
		out = append(out, "note: "+line(n))
	}
	return out
}

// splatLines tells of a splat: where it was if it fails the test, else only that it was.
func splatLines(s check.Splat) []string {
	switch {
	case s.Claimed:
		return []string{"expected " + string(s.Kind) + ": " + line(s.Title)}
	case !s.Credible:
		return []string{fmt.Sprintf("text that looks like a %s, but is not one: %s (%s)", s.Kind, line(s.Title), line(s.Why))}
	}
	during := ""
	if s.Check != "" {
		during = fmt.Sprintf(" during %q", line(s.Check))
	}
	out := []string{fmt.Sprintf("%s%s: %s (%s)", s.Kind, during, line(s.Title), line(s.Why))}
	return append(out, indent("  ", meaningLines(s))...)
}

// labelled puts a label before the first line of a text and blanks before the others.
func labelled(label, text string) []string {
	lines := clip(textLines(text), maxSeenLines)
	for i := range lines {
		if i == 0 {
			lines[i] = label + lines[i]
		} else {
			lines[i] = strings.Repeat(" ", len(label)) + lines[i]
		}
	}
	return lines
}

// Bounds of what is shown of texts; the JSON report has them whole.
const (
	maxLogLines  = 40 // of a check's commands and what they printed
	maxSeenLines = 15 // of what a step saw
	maxDiagnosis = 200
	maxSplats    = 5
)

// clip takes the middle out of too many lines.
func clip(lines []string, limit int) []string {
	over := len(lines) - limit
	if over <= 1 {
		return lines
	}
	half := limit / 2
	note := fmt.Sprintf("... %d lines left out ...", over)
	return append(append(append([]string(nil), lines[:half]...), note), lines[len(lines)-limit+half:]...)
}

func indent(by string, lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = by + l
	}
	return out
}

// checks returns the checks of a result; one that has none counts as a check of its own.
func checks(res *check.Result) []check.Check {
	if len(res.Checks) > 0 && res.Status != check.Error {
		return res.Checks
	}
	c := check.Check{Name: "it runs", Status: res.Status, Reason: res.Reason, Time: res.Time}
	if res.Status == check.Fail {
		c.Fault = &check.Fault{Kind: check.FaultStep, Text: res.Reason}
	}
	return append(append([]check.Check(nil), res.Checks...), c)
}
