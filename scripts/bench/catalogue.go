package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// waiting are the exercises whose tests must wait for seconds to pass: threads that count
// them, lockups that are noticed.
var waiting = []string{"process/kthread", "process/kthread_cpu", "process/lockit"}

// catalogueRuns bounds the runs of each side, which take a minute or two.
const catalogueRuns = 3

// catalogue measures the tests of all exercises that need not wait, each in a guest of its
// own with one processor: restored and booted, interleaved. All exercises have several
// tests; what one of each takes is measured, too.
func (b *bench) catalogue(ctx context.Context) ([]measurement, error) {
	list, err := exec.CommandContext(ctx, b.kaleido, "test", "--quiet", "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s test --list: %w", b.kaleido, err)
	}
	var all, firsts []string
	last := ""
	for name := range strings.Lines(string(list)) {
		name = strings.TrimSpace(name)
		exercise := name[:max(0, strings.LastIndex(name, "/"))]
		if slices.Contains(waiting, exercise) {
			continue
		}
		all = append(all, name)
		if exercise != last {
			firsts, last = append(firsts, name), exercise
		}
	}
	took := map[string][]float64{}
	runs := min(b.runs, catalogueRuns)
	for run := range runs + 1 {
		for _, side := range []struct {
			name, isolate string
			tests         []string
		}{{"restored", "snapshot", all}, {"booted", "boot", all}, {"firsts", "snapshot", firsts}} {
			args := append([]string{"test", "--quiet", "--cpus", "1", "--isolate", side.isolate}, side.tests...)
			cmd := exec.CommandContext(ctx, b.kaleido, args...)
			cmd.Dir = b.scratch
			seconds, err := timed(cmd)
			if err != nil {
				return nil, err
			}
			if run > 0 { // the first one makes the snapshots
				took[side.name] = append(took[side.name], seconds)
			}
		}
	}
	restored := limited(fmt.Sprintf("the catalogue, %d tests, each in a guest of its own", len(all)), median(took["restored"]), "s", 25, runs)
	restored.A = took["restored"]
	one := limited(fmt.Sprintf("%d of these, one of each exercise", len(firsts)), median(took["firsts"]), "s", 0, runs)
	one.A = took["firsts"]
	// The ratio has a least value, so its inverse has a limit.
	ratio := limited("the catalogue restored / booted", median(took["restored"])/median(took["booted"]), "", 1./6, runs)
	ratio.A, ratio.B = took["restored"], took["booted"]
	ratio.Note = fmt.Sprintf("(%.0f s / %.0f s)", median(took["restored"]), median(took["booted"]))
	return []measurement{restored, one, ratio}, nil
}
