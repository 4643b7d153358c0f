package dmesg

import (
	"fmt"
	"time"
)

// State is what a log and its evidence say about the kernel's health, from best to worst.
type State int

// The states.
const (
	Clean      State = iota // nothing was reported
	Suspicious              // text that looks like a report, which the evidence does not bear out
	Warned                  // a warning, a sanitizer, lockdep, a stall: the kernel went on
	Oopsed                  // the kernel died in one thread and went on with the others
	Panicked                // the kernel stopped
)

// String returns the state in one word.
func (s State) String() string {
	return [...]string{"clean", "suspicious", "warned", "oopsed", "panicked"}[s]
}

// MarshalText gives String's word, for JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Evidence is what is known apart from the log, where no module can print.
type Evidence struct {
	// Tainted has the taint bits (/proc/sys/kernel/tainted, or ReadTaint) that the boot or test under
	// judgement added, if TaintKnown.
	Tainted    uint64
	TaintKnown bool
	// Panicked says that a panic was signalled: QEMU's GUEST_PANICKED by pvpanic. PanicKnown says that it would have
	// been, so that its absence means none. Panicked alone suffices for yes.
	Panicked   bool
	PanicKnown bool
}

// Finding is a splat and whether to believe it.
type Finding struct {
	Splat
	Credible bool
	Why      string // what bears it out, or what speaks against it
}

// Verdict is the judgement of a log.
type Verdict struct {
	State    State
	Findings []Finding
	Reasons  []string // in words, the weightiest first
}

// Judge finds the splats of a log and weighs each against the evidence. A report that the kernel marks
// with a taint bit, or a panic event, needs that mark; one it does not mark needs its whole form: the right level, the
// kernel's own facility, a stack trace. Evidence without a report in the log, which may have lost it,
// counts as well. With no evidence at all, as for a saved log, form decides.
func Judge(recs []Record, ev Evidence) Verdict {
	var v Verdict
	var told State // the worst the log tells credibly
	var marks uint64
	for _, s := range Splats(recs) {
		f := weigh(s, recs, ev, told)
		v.Findings = append(v.Findings, f)
		state := Suspicious
		if f.Credible {
			state = s.info.state
			told = max(told, state)
			marks |= s.info.taint
		}
		v.State = max(v.State, state)
	}
	v.unreported(ev, told, marks)
	for state := Panicked; state > Clean; state-- {
		for _, f := range v.Findings {
			if own := f.state(); own == state {
				v.Reasons = append(v.Reasons, fmt.Sprintf("%s: %s (%s)", state, f.Title, f.Why))
			}
		}
	}
	return v
}

func (f Finding) state() State {
	if f.Credible {
		return f.info.state
	}
	return Suspicious
}

// unreported adds what the evidence says and no credible report of the log explains.
func (v *Verdict) unreported(ev Evidence, told State, marks uint64) {
	add := func(state State, reason string) {
		v.State = max(v.State, state)
		v.Reasons = append(v.Reasons, state.String()+": "+reason)
	}
	if ev.Panicked && told < Panicked {
		add(Panicked, "the guest signalled a panic, the log has none")
	}
	if !ev.TaintKnown {
		return
	}
	for _, mark := range []struct {
		bit   uint64
		state State
	}{{TaintDie, Oopsed}, {TaintWarn, Warned}, {TaintBadPage, Warned}, {TaintSoftLockup, Warned}} {
		if ev.Tainted&mark.bit != 0 && marks&mark.bit == 0 && told < Oopsed {
			t := ParseTaint(mark.bit)[0]
			add(mark.state, fmt.Sprintf("taint %s is set (%s), the log has no report of it", t.Letter, t.Words))
		}
	}
}

// weigh says whether a splat is credible. told is the worst of the credible ones before it.
func weigh(s Splat, recs []Record, ev Evidence, told State) Finding {
	no := func(format string, args ...any) Finding { return Finding{s, false, fmt.Sprintf(format, args...)} }
	yes := func(format string, args ...any) Finding { return Finding{s, true, fmt.Sprintf(format, args...)} }
	head, need := recs[s.index], s.info.taint
	switch {
	case !s.FromKernel:
		return no("a program wrote it to /dev/kmsg")
	case !s.LevelFits:
		return no("printed at level %s, the kernel prints it at %s", LevelName(head.Level), LevelName(s.info.level))
	case foreign(recs, s.index):
		return no("only the console has it, and the kernel's log has no gap there")
	case s.Kind == KindPanic:
		return weighPanic(s, recs, ev, told)
	case need != 0 && ev.TaintKnown && ev.Tainted&need == 0:
		return no("taint %s is not set", TaintLetters(need))
	case need != 0 && ev.TaintKnown:
		return yes("taint %s is set", TaintLetters(ev.Tainted&need))
	case s.info.proof == traceRE && !s.HasTrace:
		return no("no stack trace follows")
	case s.info.proof == traceRE:
		return yes("a stack trace follows")
	case s.info.proof != nil && !s.HasTrace:
		return no("the locks that are held do not follow")
	case s.info.proof != nil:
		return yes("the locks that are held follow")
	}
	return yes("the kernel leaves no other mark of it")
}

// weighPanic weighs a panic: it is the end of the log, and an event if somebody watches for it. It comes
// with a stack trace, or after an oops that had one.
func weighPanic(s Splat, recs []Record, ev Evidence, told State) Finding {
	switch {
	case goesOn(s, recs):
		return Finding{s, false, "the log goes on after it"}
	case ev.Panicked:
		return Finding{s, true, "the guest signalled a panic"}
	case ev.PanicKnown:
		return Finding{s, false, "no panic was signalled"}
	case told == Oopsed:
		return Finding{s, true, "it follows an oops and ends the log"}
	case s.HasTrace:
		return Finding{s, true, "a stack trace follows and it ends the log"}
	}
	return Finding{s, false, "no stack trace follows, and no panic was signalled"}
}

// afterPanic is how long other processors may still print after a panic, before they are stopped.
const afterPanic = time.Second

// goesOn reports whether somebody else prints after a panic, who would have been stopped.
func goesOn(s Splat, recs []Record) bool {
	panicked := recs[s.index]
	for _, r := range recs[s.index+1:] {
		if r.Time-panicked.Time > afterPanic && r.Caller != panicked.Caller && r.Caller != "" {
			return true
		}
	}
	return false
}

// foreign reports whether a record that only a console had stands where the structured log is whole:
// then the kernel did not print it.
func foreign(recs []Record, i int) bool {
	if recs[i].HasSeq {
		return false
	}
	before, after := i-1, i+1
	for before >= 0 && !recs[before].HasSeq {
		before--
	}
	for after < len(recs) && !recs[after].HasSeq {
		after++
	}
	return before >= 0 && after < len(recs) && recs[after].Seq == recs[before].Seq+1
}

// Span returns the time of the first and the last record of the splat, NoTime if it has none.
func (s Splat) Span() (first, last time.Duration) {
	if len(s.Records) == 0 {
		return NoTime, NoTime
	}
	return s.Records[0].Time, s.Records[len(s.Records)-1].Time
}
