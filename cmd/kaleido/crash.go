package main

import (
	"context"
	"errors"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// examine looks at what the processors do in a guest that ran out of time, or did when it panicked.
func (s *session) examine(ctx context.Context, workErr error) {
	e := examiner{s.guest, s.decoder}
	end, ended := s.ended()
	switch {
	case ended && end.Reason == vm.Panicked && end.Registers != "":
		text, err := s.decoder.processors(end.Registers)
		if err != nil {
			s.app.msg.warningf("registers: %v", err)
		}
		s.crash.Diagnosis = text
	case !ended && errors.Is(workErr, errTimeout):
		s.crash.Diagnosis = e.diagnose(ctx)
	}
}

// explain says of the verdict's findings what they mean and where they lead.
func (s *session) explain(v dmesg.Verdict) {
	for _, f := range v.Findings {
		s.result.Findings = append(s.result.Findings, f.Title)
		splat := check.NewSplat(f)
		if splat.Credible {
			splat.Decoded = s.decoder.decode(splat.Records)
			s.result.Meanings = append(s.result.Meanings, splat.Meaning)
		}
		s.crash.Splats = append(s.crash.Splats, splat)
	}
}

// tell shows the crash, and keeps it with the run.
func (s *session) tell() {
	if err := s.dir.Write(vm.SplatText, s.crash.Write); err != nil {
		s.app.msg.warningf("%v", err)
	}
	if err := s.crash.Write(s.app.stderr); err != nil {
		s.app.msg.warningf("%v", err)
	}
}

// taintWords are the bits of a taint mask in words.
func taintWords(mask uint64) string {
	var words []string
	for _, t := range dmesg.ParseTaint(mask) {
		words = append(words, t.Letter+" ("+t.Words+")")
	}
	return strings.Join(words, ", ")
}
