package check

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// The taint a module built by anybody sets: O and E (Documentation/admin-guide/tainted-kernels.rst).
const (
	taintOutOfTree uint64 = 1 << 12
	taintUnsigned  uint64 = 1 << 13
)

// splatKey tells a splat from others as the log grows: its first record stays.
type splatKey struct {
	kind  dmesg.Kind
	title string
	seq   uint64
}

func keyOf(s dmesg.Splat) splatKey {
	k := splatKey{kind: s.Kind, title: s.Title}
	for _, rec := range s.Records {
		if rec.HasSeq {
			k.seq = rec.Seq
			break
		}
	}
	return k
}

// complaint is what a splat is about, as far as it is the same when it happens again.
type complaint struct {
	kind            dmesg.Kind
	title, function string
}

// numberRE matches what differs: processors, pids, addresses, times.
var numberRE = regexp.MustCompile(`\b(?:0x)?[[:xdigit:]]*\d[[:xdigit:]]*s?\b`)

func complaintOf(s dmesg.Splat) complaint {
	c := complaint{kind: s.Kind, title: numberRE.ReplaceAllString(s.Title, "#")}
	switch s.Kind {
	case dmesg.KindSoftLockup, dmesg.KindHardLockup, dmesg.KindRCUStall: // caught wherever the processor is
	default:
		c.function, _, _ = strings.Cut(s.RIP, "+")
	}
	return c
}

// splatNames are the words of the splat command, and the kinds each means.
var splatNames = map[string][]dmesg.Kind{
	"oops": {dmesg.KindOops, dmesg.KindBug}, "warn": {dmesg.KindWarning}, "panic": {dmesg.KindPanic},
	"lockup": {dmesg.KindSoftLockup, dmesg.KindHardLockup}, "stall": {dmesg.KindRCUStall}, "hung": {dmesg.KindHungTask},
	"sleeping": {dmesg.KindAtomicSleep}, "memory": {dmesg.KindBadPage, dmesg.KindSlab},
}

// allKinds are the kinds of splats the splat command also takes by their own names.
var allKinds = []dmesg.Kind{
	dmesg.KindPanic, dmesg.KindOops, dmesg.KindBug, dmesg.KindWarning, dmesg.KindSoftLockup, dmesg.KindHardLockup,
	dmesg.KindWorkqueue, dmesg.KindRCUStall, dmesg.KindHungTask, dmesg.KindKASAN, dmesg.KindKFENCE, dmesg.KindKMSAN,
	dmesg.KindKCSAN, dmesg.KindUBSAN, dmesg.KindKmemleak, dmesg.KindLockdep, dmesg.KindAtomicSleep, dmesg.KindSpinlock,
	dmesg.KindList, dmesg.KindRefcount, dmesg.KindBadPage, dmesg.KindSlab, dmesg.KindNetdevice,
}

// kindsNamed returns the kinds a word of the splat command means, nil if none.
func kindsNamed(word string) []dmesg.Kind {
	if kinds, ok := splatNames[word]; ok {
		return kinds
	}
	if slices.Contains(allKinds, dmesg.Kind(word)) {
		return []dmesg.Kind{dmesg.Kind(word)}
	}
	return nil
}

// kindWords returns all words kindsNamed knows.
func kindWords() []string {
	words := slices.Collect(maps.Keys(splatNames))
	for _, k := range allKinds {
		words = append(words, string(k))
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// taintOf are the bits a claimed splat may set.
func taintOf(kind dmesg.Kind) uint64 {
	switch kind {
	case dmesg.KindOops, dmesg.KindBug, dmesg.KindPanic:
		return dmesg.TaintDie | dmesg.TaintWarn
	case dmesg.KindSoftLockup, dmesg.KindHardLockup, dmesg.KindRCUStall:
		return dmesg.TaintSoftLockup | dmesg.TaintWarn
	case dmesg.KindBadPage, dmesg.KindSlab:
		return dmesg.TaintBadPage
	}
	return dmesg.TaintWarn | dmesg.TaintBadPage
}

// findings judges the splats behind a mark with what is known besides the log.
func (r *run) findings(ctx context.Context, after uint64) ([]dmesg.Finding, uint64) {
	ev := dmesg.Evidence{PanicKnown: !r.opts.NoPanicEvent}
	if now, err := r.guest.Taint(ctx); err == nil {
		ev.Tainted, ev.TaintKnown = now&^r.taint, true
	}
	if end := r.ended(); end != nil {
		ev.Panicked = end.Reason == EndPanic
	}
	return dmesg.Judge(r.records(after), ev).Findings, ev.Tainted
}

// health returns the fault of the kernel that the script did not ask for, if there is one.
func (r *run) health() *Fault {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.opts.step(0))
	defer cancel()
	findings, taint := r.findings(ctx, r.base)
	if slices.ContainsFunc(findings, func(f dmesg.Finding) bool { return !f.Credible }) {
		select {
		case <-time.After(recheck):
			findings, taint = r.findings(ctx, r.base)
		case <-ctx.Done():
		}
	}
	for _, f := range findings {
		key := keyOf(f.Splat)
		if !f.Credible || r.claimed(f.Splat) || r.blamed[key] {
			continue
		}
		r.blamed[key] = true
		file, line := r.place(r.check.Line)
		return &Fault{
			Kind: FaultSplat, File: file, Line: line,
			Text: fmt.Sprintf("the kernel complained: %s (%s)", f.Title, f.Why), Expected: "no " + string(f.Kind) + " report",
			Seen: texts(f.Records),
		}
	}
	if bad := taint &^ r.allowed; bad != 0 {
		r.allowed |= bad // once is enough
		file, line := r.place(r.check.Line)
		return &Fault{
			Kind: FaultTaint, File: file, Line: line, Text: "the kernel is tainted: " + dmesg.TaintWords(bad),
			Expected: "no taint beyond O and E", Seen: dmesg.TaintLetters(taint),
		}
	}
	return nil
}

// claimed reports whether the script asked for a splat. When the engine loads a module once more,
// what the script expected of it before is expected again.
func (r *run) claimed(s dmesg.Splat) bool {
	key, about := keyOf(s), complaintOf(s)
	if _, ok := r.claims[key]; ok {
		return true
	}
	if !r.inHygiene || key.seq <= r.check.After || !slices.Contains(slices.Collect(maps.Values(r.claims)), about) {
		return false
	}
	r.claims[key] = about
	return true
}

func texts(recs []dmesg.Record) string {
	var b strings.Builder
	for _, rec := range recs {
		b.WriteString(rec.Text + "\n")
	}
	return b.String()
}

// claim looks for credible splats of the section that match, and makes them expected ones.
func (r *run) claim(ctx context.Context, kinds []dmesg.Kind, re *regexp.Regexp) (found bool, seen string) {
	findings, _ := r.findings(ctx, r.section)
	var other []string
	for _, f := range findings {
		switch {
		case !slices.Contains(kinds, f.Kind) || !re.MatchString(f.Title+"\n"+f.Message+"\n"+texts(f.Records)):
			other = append(other, fmt.Sprintf("%s: %s", f.Kind, f.Title))
		case !f.Credible:
			other = append(other, fmt.Sprintf("%s: %s, which is no real one: %s", f.Kind, f.Title, f.Why))
		default:
			r.claims[keyOf(f.Splat)] = complaintOf(f.Splat)
			r.allowed |= taintOf(f.Kind)
			found = true
		}
	}
	if len(other) == 0 {
		return found, "no report of the kernel"
	}
	return found, strings.Join(other, "\n")
}

// maxDecoded is how many splats of a test are decoded: what comes after them mostly follows from them.
const maxDecoded = 10

// report fills in the splats of the result.
func (r *run) report(ctx context.Context) {
	findings, _ := r.findings(ctx, r.base)
	decoded := 0
	for _, f := range findings {
		s := NewSplat(f)
		_, s.Claimed = r.claims[keyOf(f.Splat)]
		s.Check = r.during(f.Splat)
		if !s.Claimed && s.Credible && r.opts.Decode != nil && decoded < maxDecoded {
			s.Decoded = r.opts.Decode(ctx, s.Records)
			decoded++
		}
		r.res.Splats = append(r.res.Splats, s)
	}
}

// during returns the name of the check in whose window a splat begins.
func (r *run) during(s dmesg.Splat) string {
	seq, name := keyOf(s).seq, ""
	for _, c := range r.res.Checks {
		if c.Status != Skip && seq > c.After {
			name = c.Name
		}
	}
	return name
}
