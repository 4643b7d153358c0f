package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// examine looks at what the processors do in a guest that ran out of time, or did when it panicked.
func (s *session) examine(ctx context.Context, workErr error) {
	e := examiner{s.guest, s.decoder}
	end, ended := s.ended()
	switch {
	case ended && end.Reason == vm.Panicked:
		var err error
		if s.crash.Diagnosis, _, err = e.registers(ctx); err != nil {
			s.app.msg.warningf("%v", err)
		}
	case !ended && errors.Is(workErr, errTimeout):
		s.crash.Diagnosis = e.diagnose(ctx)
	}
}

// dumpAtCrash is when boot and up keep the guest's memory.
const dumpAtCrash = "when the kernel complains or the time runs out; an oops then stops the guest, as panic_on_oops does"

// stopAtOops has the kernel panic at an oops: then the processor that had it still stands where it was, and
// with it all that the dump is to show.
func (s *session) stopAtOops(ctx context.Context) {
	if err := s.guest.Agent().Write(ctx, "/proc/sys/kernel/panic_on_oops", []byte("1")); err != nil {
		s.app.msg.warningf("the guest will go on after an oops: %v", err)
	}
}

// dumpLimit bounds what is spent on a dump, which takes a second for a gigabyte.
const dumpLimit = 5 * time.Minute

// keepMemory dumps the guest's memory into the run's directory, if that was asked for.
func (s *session) keepMemory(ctx context.Context) {
	if !s.dump {
		return
	}
	saved, err := dumpMemory(ctx, s.guest, s.dir)
	if err != nil {
		s.app.msg.warningf("%v", err)
		return
	}
	s.result.Dump = s.dir.File(vm.MemoryDump)
	s.crash.Saved = append(s.crash.Saved, saved)
}

// dumpMemory dumps a guest's memory into a directory and says how to look at it.
func dumpMemory(ctx context.Context, guest *vm.Instance, dir *vm.RunDir) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dumpLimit)
	defer cancel()
	name := dir.File(vm.MemoryDump)
	if err := guest.Dump(ctx, name); err != nil {
		return "", err
	}
	if wd, err := os.Getwd(); err == nil {
		if local, err := filepath.Rel(wd, name); err == nil && filepath.IsLocal(local) {
			name = local
		}
	}
	return "memory: " + shellLine([]string{"kaleido", "gdb", "--core", name}), nil
}

// explain says of the verdict's findings what they mean and where they lead.
func (s *session) explain(v dmesg.Verdict) {
	for _, f := range v.Findings {
		s.result.Findings = append(s.result.Findings, f.Title)
		splat := check.NewSplat(f)
		if splat.Credible {
			splat.Decoded = s.decoder.decode(splat.Records)
			s.result.Meanings = append(s.result.Meanings, splat.Meaning)
			if s.crash.Diagnosis == "" {
				s.crash.Diagnosis = s.decoder.others(f.Splat, s.records)
			}
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

// tellBoot is tell for a guest whose agent never answered. The end of its console has been shown.
func (s *session) tellBoot() {
	if len(s.result.Meanings) == 0 {
		return
	}
	for _, meaning := range s.result.Meanings {
		s.app.msg.printf("%s", meaning)
	}
	if err := s.dir.Write(vm.SplatText, s.crash.Write); err != nil {
		s.app.msg.warningf("%v", err)
	}
}
