package check

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rsc.io/script"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// run is one script's run.
type run struct {
	guest Guest
	sc    *Script
	opts  Options
	res   *Result
	file  string // base name, for messages

	ctx     context.Context // ends with the test's time
	live    context.Context // ends with the guest too, its cause then an *endedError
	journal journal
	marks   map[string]bool // the texts of those written

	patience map[string]time.Duration // how long the script let modules take to unload
	random   *mathrand.Rand
	engine   *script.Engine
	state    *script.State

	base    uint64 // sequence number of the test's begin mark
	section uint64 // of the running section's begin mark
	fresh   uint64 // of a mark since which the test has only looked at the log, or 0
	check   *Check // the running section
	step    *Step
	abort   error  // a fault of the step that no "!" or "?" covers
	asked   uint64 // number of the first record that may be an answer to Diagnose, 0 if it was not called
	skip    string // reason given by a skip command
	end     *End   // the guest is no more, and an end command asked for it

	taint   uint64 // of the guest before the test
	allowed uint64 // taint bits that may be added
	claims  map[splatKey]complaint
	blamed  map[splatKey]bool // splats that have failed a check
	helpers map[string]*helper
	started []*helper
	loads   []load
	before  map[string][]string // folder: names in it, for hygiene

	inHygiene bool // the check the engine makes unasked is running
}

// Run runs a script against a guest, which it leaves as it is: the caller throws it away. The error is
// not nil only if the test could not be run or ctx ended; a test that failed is a Result. The result is never nil.
func Run(ctx context.Context, guest Guest, sc *Script, opts Options) (*Result, error) {
	res := &Result{
		Name: sc.Name, File: sc.File, Points: sc.Requires.Points,
		Status: Pass, Verdict: VerdictPass, Seed: opts.Seed, Started: time.Now(),
	}
	defer func() { res.Time = time.Since(res.Started) }()
	if sc.Requires.Skip != "" {
		res.skip(sc.Requires.Skip)
		return res, nil
	}
	r := &run{
		guest: guest, sc: sc, opts: opts, res: res, file: filepath.Base(sc.File), marks: map[string]bool{}, patience: map[string]time.Duration{},
		claims: map[splatKey]complaint{}, blamed: map[splatKey]bool{}, helpers: map[string]*helper{},
		allowed: taintOutOfTree | taintUnsigned,
	}
	h := fnv.New64a()
	h.Write([]byte(sc.Name))
	r.random = mathrand.New(mathrand.NewPCG(opts.Seed, h.Sum64()))
	if err := r.all(ctx); err != nil {
		res.Status, res.Verdict, res.Reason = Error, VerdictError, err.Error()
		return res, fmt.Errorf("run %s: %w", sc.Name, err)
	}
	return res, nil
}

func (r *Result) skip(reason string) {
	r.Status, r.Verdict, r.Reason = Skip, VerdictSkip, reason
}

// all runs the script from the first mark to the judgement.
func (r *run) all(ctx context.Context) error {
	limit := r.opts.test(r.sc.Requires.Timeout)
	testCtx, cancel := context.WithTimeoutCause(ctx, limit, errTestTime)
	defer cancel()
	live, die := context.WithCancelCause(testCtx)
	r.ctx, r.live = testCtx, live
	defer r.attend(die)()
	state, err := newState(testCtx, r.sc.File)
	if err != nil {
		return err
	}
	defer closeState(state)
	r.state, r.engine = state, r.newEngine()
	if err := r.prepare(); err != nil {
		return err
	}
	r.sections()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	r.finish(ctx)
	return nil
}

// attend follows the guest's log and its end. The function it returns stops that.
func (r *run) attend(die context.CancelCauseFunc) (stop func()) {
	follow, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := r.guest.Follow(follow, r.journal.add)
		if err == nil {
			err = errors.New("the kernel log came to its end")
		}
		r.journal.close(err)
	}()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-r.guest.Done():
			die(&endedError{r.guest.End()})
		case <-follow.Done():
			die(context.Canceled)
		}
	}()
	return func() {
		for _, h := range r.started {
			h.close()
		}
		cancel()
		<-done
		<-watched
	}
}

// prepare begins the test's window and brings the guest into the state the directives ask for.
func (r *run) prepare() error {
	seq, err := r.fence()
	if err != nil {
		return fmt.Errorf("begin mark: %w", err)
	}
	r.base, r.section = seq, seq
	r.journal.begin(seq)
	ctx, cancel := r.bounded(0)
	defer cancel()
	if r.taint, err = r.guest.Taint(ctx); err != nil {
		return fmt.Errorf("read taint: %w", err)
	}
	for _, s := range r.sc.Requires.Sysctls {
		if err := r.guest.WriteFile(ctx, s.File(), []byte(s.Value)); err != nil {
			return fmt.Errorf("set sysctl %s=%s: %w", s.Name, s.Value, err)
		}
	}
	if r.before, err = r.inventory(ctx, inventoried); err != nil {
		return fmt.Errorf("take inventory: %w", err)
	}
	return nil
}

// sections runs all sections; those behind a failed one are skipped.
func (r *run) sections() {
	for i := range r.sc.Sections {
		s := &r.sc.Sections[i]
		r.res.Checks = append(r.res.Checks, Check{Name: s.Name, Line: s.Line, Status: Pass})
		r.check = &r.res.Checks[len(r.res.Checks)-1]
		switch {
		case r.res.Status == Fail:
			r.check.Status, r.check.Reason = Skip, "an earlier section failed"
			continue
		case r.skip != "":
			r.check.Status, r.check.Reason = Skip, r.skip
			continue
		}
		if r.opts.Progress != nil {
			r.opts.Progress(s.Name)
		}
		r.runSection(s)
	}
	if r.skip != "" && r.res.Status == Pass {
		r.res.skip(r.skip)
	}
	r.hygieneCheck()
}

// timed runs one check's work and closes its window of the log.
func (r *run) timed(work func() *Fault) {
	start := time.Now()
	r.check.After = r.section
	fault := work()
	if fault == nil {
		fault = r.settle()
	}
	if fault != nil {
		r.blame(fault)
	}
	r.check.Until = r.section
	if r.section == r.check.After {
		r.check.Until = r.asked // no mark came: its window is open, up to our own questions if there were any
	}
	r.check.Time = time.Since(start)
}

func (r *run) runSection(s *Section) {
	r.timed(func() *Fault {
		var log logBuffer
		defer func() { r.check.Log = log.String() }()
		for i := range s.Steps {
			r.step = &s.Steps[i]
			fault := r.execute(&log)
			if fault != nil && r.expectedEnd(fault, s.Steps[i+1:]) {
				fault = nil
			}
			if fault != nil {
				return fault
			}
			if r.skip != "" {
				r.check.Status, r.check.Reason = Skip, r.skip
				break
			}
		}
		return nil
	})
}

// expectedEnd reports whether a step failed as the guest ended or hung, which the next step expects.
func (r *run) expectedEnd(f *Fault, rest []Step) bool {
	return (f.Kind == FaultEnd || f.Kind == FaultTimeout) && len(rest) > 0 && rest[0].Op == "end" && r.ctx.Err() == nil
}

// execute runs one step on the engine.
func (r *run) execute(log *logBuffer) *Fault {
	r.abort = nil
	if r.step.Op != "dmesg" {
		r.fresh = 0
	}
	text := strings.Repeat("\n", r.step.Line-1) + r.step.Text + "\n"
	err := r.engine.Execute(r.state, r.file, bufio.NewReader(strings.NewReader(text)), log)
	if r.abort != nil {
		err = r.placed(err, r.abort)
	}
	if err == nil {
		return nil
	}
	return r.fault(err)
}

// placed puts the cause that counts into the engine's error, which may be about something else or missing.
func (r *run) placed(err, cause error) error {
	var cmd *script.CommandError
	if errors.As(err, &cmd) {
		c := *cmd
		c.Err = cause
		return &c
	}
	return &script.CommandError{File: r.file, Line: r.step.Line, Op: r.step.Op, Err: cause}
}

// fault turns a step's error into a fault.
func (r *run) fault(err error) *Fault {
	f := &Fault{Kind: FaultStep, Op: r.step.Op, Text: err.Error()}
	f.File, f.Line = r.place(r.step.Line)
	var cmd *script.CommandError
	if errors.As(err, &cmd) {
		f.Args, f.Text = cmd.Args, cmd.Err.Error()
	}
	f.Kind = faultKind(err)
	var m *mismatch
	switch {
	case errors.As(err, &m):
		f.Expected, f.Seen = m.expected, m.seen
	case errors.Is(err, script.ErrUnexpectedSuccess):
		f.Expected, f.Seen, f.Text = "it fails", "it succeeded", "succeeded, which the ! says it must not"
	}
	return f
}

// place returns file and line for a message; a check that no line of the script asks for has none.
func (r *run) place(line int) (string, int) {
	if line == 0 {
		return "", 0
	}
	return r.file, line
}

func faultKind(err error) FaultKind {
	switch {
	case errors.As(err, new(*endedError)), errors.As(err, new(*lostError)):
		return FaultEnd
	case errors.As(err, new(*timeoutError)), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errTestTime):
		return FaultTimeout
	}
	return FaultStep
}

// blame fails the running check and the test.
func (r *run) blame(f *Fault) {
	r.check.Status, r.check.Fault = Fail, f
	if r.res.Status == Fail {
		return
	}
	r.res.Status, r.res.Verdict, r.res.Reason = Fail, VerdictFail, f.String()
	switch f.Kind {
	case FaultTimeout:
		r.res.Verdict = VerdictTimeout
		r.diagnose()
	case FaultEnd:
		if r.ended() == nil {
			r.diagnose()
		}
	case FaultSplat, FaultTaint:
		r.res.Verdict = VerdictSplat
	}
}

// diagnose asks what the guest is doing.
func (r *run) diagnose() {
	if r.opts.Diagnose == nil || r.res.Diagnosis != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.opts.scaled(15*time.Second))
	defer cancel()
	r.recover(ctx) // what the module said last may not have come
	r.asked = r.journal.latest() + 1
	r.res.Diagnosis = r.opts.Diagnose(ctx)
}

// bounded returns a context for a step: it ends with its time, the test's, or the guest.
func (r *run) bounded(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.live, r.opts.step(d), errStepTime)
}

// ask calls the guest within a step's time. A Refusal is returned as it is; anything else is the
// step's end, whatever the script expects of it.
func (r *run) ask(d time.Duration, what string, fn func(ctx context.Context) error) error {
	ctx, cancel := r.bounded(d)
	defer cancel()
	err := fn(ctx)
	if err == nil || errors.As(err, new(*Refusal)) || errors.As(err, new(*mismatch)) {
		return err
	}
	r.abort = r.explain(ctx, d, what, err)
	return r.abort
}

// explain finds out why the guest gave no answer.
func (r *run) explain(ctx context.Context, d time.Duration, what string, err error) error {
	cause := context.Cause(ctx)
	if lost := new(lostError); errors.As(err, &lost) {
		err = lost.err
	}
	if cause == nil { // the connection broke; the news of the guest's end may be just behind
		wait, cancel := context.WithTimeoutCause(r.live, min(r.opts.scaled(2*time.Second), r.opts.step(0)), errStepTime)
		<-wait.Done()
		cause = context.Cause(wait)
		cancel()
		if errors.Is(cause, errStepTime) {
			return &lostError{err}
		}
	}
	switch {
	case errors.As(cause, new(*endedError)):
		return cause
	case errors.Is(cause, errStepTime):
		return &timeoutError{what: what, after: r.opts.step(d)}
	case errors.Is(cause, errTestTime):
		return &timeoutError{what: what, after: r.opts.test(r.sc.Requires.Timeout), test: true}
	}
	return cause
}

// markRetry is how long a mark may take before another is written: a flood of records overwrites some.
const markRetry = time.Second

// fence writes a mark to the kernel log and waits until it comes back. Every record of before has come
// then; some of other processors may still be behind it. It returns the mark's sequence number.
func (r *run) fence() (uint64, error) {
	var seq uint64
	err := r.ask(0, "its kernel log to go on", func(step context.Context) error {
		fresh := map[string]bool{}
		for {
			// Nobody can know the text of a mark that is yet to come, and say it before.
			mark := "kaleido: mark " + rand.Text()
			r.marks[mark], fresh[mark] = true, true
			if err := r.guest.WriteFile(step, "/dev/kmsg", []byte("<7>"+mark+"\n")); err != nil {
				return err
			}
			try, cancel := context.WithTimeout(step, min(r.opts.scaled(markRetry), r.opts.step(0)/4))
			rec, err := r.journal.find(try, r.section, func(rec dmesg.Record) bool { return fresh[rec.Text] && r.isMark(rec) })
			cancel()
			if err == nil {
				seq = rec.Seq
				return nil
			}
			if step.Err() != nil || errors.As(err, new(*lostError)) {
				return err
			}
		}
	})
	var refused *Refusal
	if errors.As(err, &refused) {
		r.abort = &lostError{refused}
		err = r.abort
	}
	return seq, err
}

// upToNow is fence, unless there is nothing to wait for: since the last mark the test has only looked at the log, and
// the kernel has said nothing more.
func (r *run) upToNow() (uint64, error) {
	if r.fresh != 0 && r.fresh == r.journal.latest() {
		return r.fresh, nil
	}
	seq, err := r.fence()
	r.fresh = seq
	return seq, err
}

// isMark reports whether a record is one of this run's marks.
func (r *run) isMark(rec dmesg.Record) bool {
	return r.marks[rec.Text] && rec.Facility != 0 // which is the kernel's own, and its modules'
}

// records returns what the kernel said behind a mark, the marks taken out.
func (r *run) records(after uint64) []dmesg.Record {
	recs, _ := r.journal.after(after)
	return slices.DeleteFunc(slices.Clone(recs), r.isMark)
}

// settle ends a section: it waits for the log to come through and looks at the kernel's health.
func (r *run) settle() *Fault {
	if r.end == nil {
		seq, err := r.upToNow()
		if err != nil {
			r.step = &Step{Line: r.check.Line}
			f := r.fault(err)
			f.Op = ""
			f.Text = "after the last step of this section: " + f.Text
			return f
		}
		defer func() { r.section, r.fresh = seq, 0 }()
	}
	return r.health()
}

// finish gathers what is to be told of the test.
func (r *run) finish(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opts.step(0))
	defer cancel()
	if r.res.End = r.ended(); r.res.End == nil {
		r.res.End = r.end
	}
	if r.res.End != nil && r.end == nil && r.res.Status != Fail {
		r.blame(&Fault{Kind: FaultEnd, Text: (&endedError{*r.res.End}).Error() + " after the last step", Expected: "the guest lives on"})
	}
	if r.res.Status == Pass { // what came behind the last mark counts, too
		if f := r.health(); f != nil {
			r.blame(f)
		}
	}
	if r.res.End != nil || r.res.Status == Fail {
		r.recover(bounded)
	}
	r.res.Records = r.records(r.base)
	_, r.res.Lost = r.journal.all()
	if now, err := r.guest.Taint(bounded); err == nil {
		r.res.Taint = dmesg.TaintLetters(now &^ r.taint)
	}
	r.report(bounded)
	if r.res.Verdict == VerdictFail && slices.ContainsFunc(r.res.Splats, func(s Splat) bool { return s.Credible && !s.Claimed }) {
		r.res.Verdict = VerdictSplat // the worse of the two
	}
	if r.res.Status == Fail && r.res.End != nil && r.res.End.Reason == EndPanic && r.end == nil {
		r.res.Verdict = VerdictPanic
	}
}

// ended returns how the guest ended, nil if it has not.
func (r *run) ended() *End {
	select {
	case <-r.guest.Done():
		end := r.guest.End()
		return &end
	default:
		return nil
	}
}

// recover reads the log without the agent's help: after the end of the guest, or when it is mute.
func (r *run) recover(ctx context.Context) {
	recs, err := r.guest.Records(ctx)
	if err != nil {
		r.res.Notes = append(r.res.Notes, "kernel log after the end: "+err.Error())
		return
	}
	r.journal.replace(recs)
}

// logBuffer keeps a section's log, without the middle of one that is too long.
type logBuffer struct {
	head, tail bytes.Buffer
	cut        int
}

// maxLog is how much of each half is kept.
const maxLog = 32 << 10

// Write takes everything.
func (b *logBuffer) Write(p []byte) (int, error) {
	n := len(p)
	room := min(max(maxLog-b.head.Len(), 0), n)
	b.head.Write(p[:room])
	b.tail.Write(p[room:])
	if over := b.tail.Len() - maxLog; over > 0 {
		b.cut += over
		b.tail.Next(over)
	}
	return n, nil
}

// String returns what was kept.
func (b *logBuffer) String() string {
	if b.cut == 0 {
		return b.head.String() + b.tail.String()
	}
	return fmt.Sprintf("%s\n[%d bytes left out]\n%s", b.head.String(), b.cut, b.tail.String())
}
