package kbuild

import "regexp"

// stepRE is a line by which kbuild tells what it makes ("  CC      kernel/fork.o"); scripts/Kbuild.include,
// quiet_cmd_*. The form "  CC [M]  hello.o" is for modules.
var stepRE = regexp.MustCompile(`^  ([A-Z][A-Z0-9_+-]*)( \[[A-Z]\])? +(\S+)$`)

// isStep tells a step from all else that make prints.
func isStep(line string) bool { return stepRE.MatchString(line) }

// steps counts kbuild's steps and reports them as objects done out of those expected.
type steps struct {
	stage  string
	done   int64
	total  int64 // expected; 0 if unknown
	report func(Update)
	pace   throttle
}

// line takes a line of make's output.
func (s *steps) line(line string) {
	if !isStep(line) {
		return
	}
	s.done++
	if s.total > 0 {
		s.total = max(s.total, s.done) // An estimate that was too low is not a reason to lie.
	}
	s.pace.do(s.send)
}

func (s *steps) send() {
	if s.report != nil {
		s.report(Update{Stage: s.stage, Done: s.done, Total: s.total, Unit: "objects"})
	}
}

// finish reports the end: however many there were, that was all.
func (s *steps) finish() {
	s.total = s.done
	s.send()
}
