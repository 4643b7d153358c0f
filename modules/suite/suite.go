// Package suite runs many tests, each on a machine of its own, several at a time.
//
// It knows nothing of how a machine is made: the caller gives it a function that boots one. However a
// test goes, there is a result for it: one that could not be run, or whose machine failed, is an error,
// never a pass.
package suite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
)

// Test is a script and what it runs with.
type Test struct {
	Name    string // as reports have it: "general/hello/load"
	Script  *check.Script
	Modules []string      // names of the modules it may use
	Result  *check.Result // not nil: it is known without running, as that of a module that does not compile
}

// Machine is a booted guest for one test.
type Machine struct {
	Guest check.Guest
	// Options are those that depend on the machine: Scale, Facts, NoPanicEvent, Diagnose, Decode. The
	// others are the suite's.
	Options check.Options
	// Close ends the machine. It gets the result, to keep what belongs to it.
	Close func(res *check.Result)
}

// Options say how to run. Boot is mandatory.
type Options struct {
	Parallel int           // tests at a time; default 1
	Retries  int           // how often a test that did not pass is run again
	FailFast bool          // begin no test after one has failed
	Seed     uint64        // of the random values
	Timeout  time.Duration // for a test that names none; default check's
	// StepTimeout is for a step that names none; default check's.
	StepTimeout time.Duration

	// Boot makes a machine for a test. It is called for the first attempt with 1.
	Boot func(ctx context.Context, t *Test, attempt int) (*Machine, error)
	// Watch is told what happens, never by two goroutines at once. It may be nil.
	Watch func(e Event)
}

// Event is news of a test.
type Event struct {
	Test    *Test
	Index   int // of the test
	Attempt int
	State   State
	Section string        // of Running: the section that begins
	Result  *check.Result // of Ended and Told
}

// State is where a test is.
type State int

// The states. Told comes in the order of the tests, when this one and all before it have ended.
const (
	Booting State = iota
	Running
	Ended
	Told
)

// Reasons of results of tests that were not run, or not to their end.
const (
	notRun      = "not run: another test failed before"
	interrupted = "interrupted"
)

// Run runs the tests and returns their results in the same order. A cancelled context ends the tests
// under way; what had been done is in the results nevertheless.
func Run(ctx context.Context, tests []*Test, opts Options) []*check.Result {
	s := &state{tests: tests, opts: &opts, results: make([]*check.Result, len(tests))}
	var workers sync.WaitGroup
	for range max(1, min(opts.Parallel, len(tests))) {
		workers.Go(func() {
			for {
				i, ok := s.next()
				if !ok {
					return
				}
				s.finish(i, s.run(ctx, i))
			}
		})
	}
	workers.Wait()
	return s.results
}

// state is a suite under way.
type state struct {
	tests []*Test
	opts  *Options

	mu      sync.Mutex
	taken   int
	told    int
	failed  bool
	results []*check.Result

	news sync.Mutex // held while Watch runs
}

func (s *state) next() (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	return s.taken - 1, s.taken <= len(s.tests)
}

func (s *state) watch(e Event) {
	if s.opts.Watch == nil {
		return
	}
	s.news.Lock()
	defer s.news.Unlock()
	s.opts.Watch(e)
}

// finish records a result, and tells of all that are due.
func (s *state) finish(i int, res *check.Result) {
	s.watch(Event{Test: s.tests[i], Index: i, State: Ended, Result: res})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[i] = res
	s.failed = s.failed || res.Status == check.Fail || res.Status == check.Error
	for ; s.told < len(s.results) && s.results[s.told] != nil; s.told++ {
		s.watch(Event{Test: s.tests[s.told], Index: s.told, State: Told, Result: s.results[s.told]})
	}
}

// run runs one test, as often as need be.
func (s *state) run(ctx context.Context, i int) *check.Result {
	t := s.tests[i]
	s.mu.Lock()
	stop := s.failed && s.opts.FailFast
	s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return t.unknown(interrupted)
	case stop:
		res := t.unknown(notRun)
		res.Status, res.Verdict = check.Skip, check.VerdictSkip
		return res
	case t.Result != nil:
		return t.Result
	}
	var failed []string
	for attempt := 1; ; attempt++ {
		res := s.attempt(ctx, i, attempt)
		res.Notes = append(res.Notes, failed...)
		if !again(res) || attempt > s.opts.Retries || ctx.Err() != nil {
			return res
		}
		failed = append(failed, fmt.Sprintf("attempt %d of at most %d: %s", attempt, s.opts.Retries+1, res.Reason))
	}
}

// again tells whether a test may have failed by chance. What a kernel has reported, once is enough.
func again(res *check.Result) bool {
	switch res.Verdict {
	case check.VerdictPass, check.VerdictSkip, check.VerdictSplat, check.VerdictPanic:
		return false
	}
	return !slices.ContainsFunc(res.Splats, func(s check.Splat) bool { return s.Credible && !s.Claimed })
}

// unknown is the result of a test of which nothing is known.
func (t *Test) unknown(reason string) *check.Result {
	return &check.Result{
		Name: t.Name, File: t.Script.File, Points: t.Script.Requires.Points,
		Status: check.Error, Verdict: check.VerdictError, Reason: reason, Started: time.Now(),
	}
}

// attempt boots a machine and runs a test on it.
func (s *state) attempt(ctx context.Context, i, attempt int) *check.Result {
	t := s.tests[i]
	event := Event{Test: t, Index: i, Attempt: attempt}
	if t.Script.Requires.Skip != "" { // it needs no machine
		res := t.unknown(t.Script.Requires.Skip)
		res.Status, res.Verdict = check.Skip, check.VerdictSkip
		return res
	}
	s.watch(event)
	start := time.Now()
	m, err := s.opts.Boot(ctx, t, attempt)
	if err != nil {
		res := t.unknown(reasonOf(ctx, err))
		res.Started, res.Time = start, time.Since(start)
		return res
	}
	opts := m.Options
	opts.Seed, opts.Timeout, opts.StepTimeout, opts.Modules = s.opts.Seed, s.opts.Timeout, s.opts.StepTimeout, t.Modules
	opts.Progress = func(section string) {
		e := event
		e.State, e.Section = Running, section
		s.watch(e)
	}
	res, err := check.Run(ctx, m.Guest, t.Script, opts)
	if err != nil {
		res.Status, res.Verdict, res.Reason = check.Error, check.VerdictError, reasonOf(ctx, err)
	}
	res.Name = t.Name
	m.Close(res)
	return res
}

func reasonOf(ctx context.Context, err error) string {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return interrupted
	}
	return err.Error()
}
