package check

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// Commands about what the kernel says and how it ends.
var logCommands = map[string]*command{
	"dmesg": {
		group: "Kernel log", args: "[-timeout DUR] [-all] [-list] [-count N] ['re']", summary: "wait for a record of the kernel log",
		detail: []string{
			"Waits until a record of this section matches; each named group of the pattern, (?P<x>...), becomes the variable $x.",
			"With '!', -count or -list it waits until all that was said before has come, and then looks: no record matches, exactly N do, or the groups of all become lists with commas.",
			"Where records were overwritten before they could be read, what was not said is not known: these and a dmesg without a pattern fail then.",
			"-all looks at the whole test instead of this section. Without a pattern the records go to stdout.",
			"Time stamps, levels and the notices that a module taints the kernel are not part of the text.",
		},
		afterEnd: true, regexp: at(0),
		flags: flags(withTimeout, withMatch, func(o *options, set *flag.FlagSet) { set.BoolVar(&o.all, "all", false, "") }),
		build: buildDmesg,
	},
	"oops": {
		group: "Kernel log", args: "[-timeout DUR] 're'", summary: "expect an oops in this section",
		detail: []string{
			"Waits for a real oops or BUG with a line that matches. One that no oops or splat command asked for fails the test.",
			"What a module prints does not pass for one: the kernel's taint must bear it out.",
		},
		afterEnd: true, regexp: at(0), flags: withTimeout,
		build: func(o *options, args []string) (*action, error) {
			return buildSplat(o, append([]string{"oops"}, args...))
		},
	},
	"splat": {
		group: "Kernel log", args: "[-timeout DUR] KIND 're'", summary: "expect another report of the kernel in this section",
		detail:   []string{"As oops, for these kinds: " + strings.Join(kindWords(), " ") + "."},
		afterEnd: true, regexp: at(1), flags: withTimeout,
		build: buildSplat,
	},
	"tainted": {
		group: "Kernel log", args: "LETTERS", summary: "allow taint from now on",
		detail:   []string{"The letters are those of an oops. O and E are always allowed, and what a splat that was expected sets."},
		noNegate: "taint that is not allowed fails the test anyway", afterEnd: true,
		build: func(_ *options, args []string) (*action, error) {
			if len(args) != 1 {
				return nil, errUsage
			}
			mask, err := dmesg.ParseTaintLetters(args[0])
			return &action{do: func(r *run) (*output, error) {
				r.allowed |= mask
				return nil, nil
			}}, err
		},
	},
	"end": {
		group: "Kernel log", args: "[-timeout DUR] panic ['re'] | poweroff | reboot | hang", summary: "expect the end of the guest",
		detail: []string{
			"Waits for it. For a panic the pattern is matched with the kernel's message. The step before it may fail because the guest ends.",
			"Only commands that look at the log and at variables can follow.",
		},
		noNegate: "an end that nobody expects fails the test anyway", afterEnd: true,
		regexp: at(1), flags: withTimeout, build: buildEnd,
	},
}

func buildDmesg(o *options, args []string) (*action, error) {
	if len(args) > 1 || len(args) == 0 && (o.list || o.count >= 0) {
		return nil, errUsage
	}
	if len(args) == 0 {
		return &action{do: func(r *run) (*output, error) {
			recs, err := r.fenced(o)
			if err == nil {
				err = r.whole(r.since(o))
			}
			if err != nil {
				return nil, err
			}
			return &output{stdout: texts(recs)}, nil
		}}, nil
	}
	re, err := pattern(args[0])
	if err != nil {
		return nil, err
	}
	return &action{defines: groups(re), do: func(r *run) (*output, error) {
		if r.step.negated || o.count >= 0 || o.list || r.end != nil {
			return nil, r.dmesgNow(o, re)
		}
		return nil, r.dmesgWait(o, re)
	}}, nil
}

// noticeRE matches what loading any module of one's own makes the kernel say.
var noticeRE = regexp.MustCompile(`^\S+: (?:loading out-of-tree module taints kernel\.|module verification failed: signature and/or required key missing - tainting kernel)$`)

// said are the records a script sees.
func (r *run) said(rec dmesg.Record) bool { return !r.isMark(rec) && !noticeRE.MatchString(rec.Text) }

func (r *run) since(o *options) uint64 {
	if o.all {
		return r.base
	}
	return r.section
}

// fenced returns the records a script sees, once all of before have come.
func (r *run) fenced(o *options) ([]dmesg.Record, error) {
	if r.end == nil {
		if _, err := r.upToNow(); err != nil {
			return nil, err
		}
	}
	recs := r.records(r.since(o))
	return slices.DeleteFunc(recs, func(rec dmesg.Record) bool { return !r.said(rec) }), nil
}

// whole refuses a log with gaps to a step that asks what is not in it.
func (r *run) whole(after uint64) error {
	if r.journal.whole(after) {
		return nil
	}
	r.abort = errors.New("records of the kernel log were overwritten before they were read: what they said is not known")
	return r.abort
}

// dmesgNow looks at what has been said.
func (r *run) dmesgNow(o *options, re *regexp.Regexp) error {
	recs, err := r.fenced(o)
	if err != nil {
		return err
	}
	if r.step.negated || o.count >= 0 || o.list {
		if err := r.whole(r.since(o)); err != nil {
			return err
		}
	}
	var matches [][]string
	for _, rec := range recs {
		if m := re.FindStringSubmatch(rec.Text); m != nil {
			matches = append(matches, m)
		}
	}
	switch {
	case o.count >= 0 && len(matches) != o.count:
		return &mismatch{fmt.Sprintf("%d records that match %s", o.count, written(re)), fmt.Sprintf("%d among %s", len(matches), listed(recs))}
	case o.count < 0 && len(matches) == 0:
		return &mismatch{"a record that matches " + written(re), listed(recs)}
	}
	r.capture(re, matches, o.list)
	return nil
}

// dmesgWait waits for a record. When none comes in time it makes sure that the guest is still there:
// if not, that is the fault.
func (r *run) dmesgWait(o *options, re *regexp.Regexp) error {
	var match []string
	ctx, cancel := r.bounded(o.timeout)
	defer cancel()
	_, err := r.journal.find(ctx, r.since(o), func(rec dmesg.Record) bool {
		if r.said(rec) {
			match = re.FindStringSubmatch(rec.Text)
		}
		return match != nil
	})
	if err == nil {
		r.capture(re, [][]string{match}, false)
		return nil
	}
	if !errors.Is(err, errStepTime) {
		r.abort = r.explain(ctx, o.timeout, "a record that matches "+written(re), err)
		return r.abort
	}
	recs, err := r.fenced(o)
	if err != nil {
		return err
	}
	return &mismatch{fmt.Sprintf("in %v a record that matches %s", r.opts.step(o.timeout), written(re)), listed(recs)}
}

// listed shows records in a message.
func listed(recs []dmesg.Record) string {
	if len(recs) == 0 {
		return "0 records"
	}
	if len(recs) == 1 {
		return "1 record:\n" + texts(recs)
	}
	return fmt.Sprintf("%d records:\n%s", len(recs), texts(recs))
}

func buildSplat(o *options, args []string) (*action, error) {
	if len(args) != 2 {
		return nil, errUsage
	}
	kinds := kindsNamed(args[0])
	if kinds == nil {
		return nil, fmt.Errorf("no kind %q, want one of %s", args[0], strings.Join(kindWords(), " "))
	}
	re, err := pattern(args[1])
	if err != nil {
		return nil, err
	}
	return &action{do: func(r *run) (*output, error) { return nil, r.expectSplat(o, args[0], kinds, re) }}, nil
}

// recheck is how soon a report is weighed anew while no record comes: WARN sets its taint bit after its last record.
const recheck = 100 * time.Millisecond

// expectSplat waits for a splat, or with "!" makes sure there is none.
func (r *run) expectSplat(o *options, kind string, kinds []dmesg.Kind, re *regexp.Regexp) error {
	want := "a real " + kind + " that matches " + written(re)
	if r.end == nil && r.step.negated {
		if _, err := r.fence(); err != nil {
			return err
		}
	}
	ctx, cancel := r.bounded(o.timeout)
	if r.end != nil {
		ctx, cancel = context.WithTimeout(context.WithoutCancel(r.ctx), r.opts.step(o.timeout))
	}
	defer cancel()
	for {
		_, changed := r.journal.after(r.section)
		found, seen := r.claim(ctx, kinds, re)
		if found {
			return nil
		}
		if r.step.negated {
			if err := r.whole(r.section); err != nil {
				return err
			}
		}
		if r.step.negated || r.end != nil {
			return &mismatch{want, seen}
		}
		select {
		case <-changed:
		case <-time.After(recheck):
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errStepTime) {
				r.abort = r.explain(ctx, o.timeout, want, cause)
				return r.abort
			}
			if _, err := r.fence(); err != nil {
				return err
			}
			return &mismatch{fmt.Sprintf("in %v %s", r.opts.step(o.timeout), want), seen}
		}
	}
}

func buildEnd(o *options, args []string) (*action, error) {
	if len(args) == 0 || len(args) > 2 || len(args) == 2 && args[0] != "panic" {
		return nil, errUsage
	}
	reason := EndReason(args[0])
	if !slices.Contains([]EndReason{EndPanic, EndPowerOff, EndReboot, EndHang}, reason) {
		return nil, errUsage
	}
	var re *regexp.Regexp
	if len(args) == 2 {
		var err error
		if re, err = pattern(args[1]); err != nil {
			return nil, err
		}
	}
	return &action{do: func(r *run) (*output, error) { return nil, r.expectEnd(o, reason, re) }}, nil
}

// expectEnd waits for the guest's end, takes the log as it was left, and compares.
func (r *run) expectEnd(o *options, reason EndReason, re *regexp.Regexp) error {
	if r.end != nil {
		return r.mistake("the guest has ended before: %v", *r.end)
	}
	end, err := r.awaitEnd(o, reason)
	if err != nil {
		return err
	}
	if end.Reason != reason {
		r.abort = &endedError{end}
		return r.abort
	}
	r.end = &end
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.opts.step(o.timeout))
	defer cancel()
	r.recover(ctx)
	if reason != EndPanic {
		return nil
	}
	message := end.Detail
	findings, _ := r.findings(ctx, r.section)
	for _, f := range findings {
		if f.Kind == dmesg.KindPanic {
			message = f.Title + "\n" + message
			r.claims[keyOf(f.Splat)] = complaintOf(f.Splat)
		}
	}
	if re != nil && !re.MatchString(message) {
		return &mismatch{"a panic that matches " + written(re), message}
	}
	r.allowed |= taintOf(dmesg.KindPanic)
	return nil
}

// awaitEnd waits for the guest to be no more; a guest that should hang must not answer.
func (r *run) awaitEnd(o *options, reason EndReason) (End, error) {
	if reason == EndHang {
		_, err := r.fence()
		hung := errors.As(err, new(*timeoutError)) && r.ctx.Err() == nil
		switch {
		case err == nil:
			return End{}, &mismatch{"the guest hangs", "it answers"}
		case hung:
			r.abort = nil
			return End{Reason: EndHang, Detail: "no answer from its agent"}, nil
		}
		return End{}, err
	}
	ctx, cancel := context.WithTimeoutCause(r.ctx, r.opts.step(o.timeout), errStepTime)
	defer cancel()
	select {
	case <-r.guest.Done():
		return r.guest.End(), nil
	case <-ctx.Done():
		if !errors.Is(context.Cause(ctx), errStepTime) {
			r.abort = r.explain(ctx, o.timeout, "the guest's end", context.Cause(ctx))
			return End{}, r.abort
		}
		return End{}, &mismatch{fmt.Sprintf("in %v the guest ends: %s", r.opts.step(o.timeout), reason), "it goes on"}
	}
}
