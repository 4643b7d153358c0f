package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/modules"
	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/modules/suite"
	"github.com/linux-kaleidoscope/kaleido/vm"
)

func (a *app) mutantsCommand() *cobra.Command {
	f := testFlags{machine: machineFlags{timeout: check.DefaultTimeout}}
	cmd := &cobra.Command{
		Use:    "mutants [flags] [NAME|GLOB]...",
		Short:  "Prove that the tests fail wrong solutions: the exercises' mutants",
		Hidden: true,
		Long: `Mutants applies each patch in the folder mutants of the exercises, builds the result, and runs the
exercise's tests on it until one fails. A mutant that passes them all survives: the tests are too weak.
A test that fails a mutant must pass on the exercise itself, in the same circumstances.

Exit codes: 0 all were killed, 1 one survived, 5 one could not be judged.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.mutants(cmd.Context(), &f, args) },
	}
	f.kernel.addSource(cmd)
	f.kernel.addConfig(cmd)
	f.kernel.addBuild(cmd, "")
	f.machine.add(cmd)
	// Most wait for what will not come, which costs nothing.
	numberVarP(cmd.Flags(), &f.parallel, "parallel", "j", 2*runtime.GOMAXPROCS(0), 1, math.MaxInt, "run `N` virtual machines at once")
	periodVar(cmd.Flags(), &f.step, "step-timeout", 2*time.Second, "give up on a step that names no time after `TIME` (four times as long under TCG)")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "keep the logs of tests that passed, too")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "draw the random values from the seed `N`")
	return cmd
}

// mutantResult is what became of a mutant.
type mutantResult struct {
	Name   string        `json:"name"`
	Why    string        `json:"why,omitempty"` // what is wrong with it
	Killed bool          `json:"killed"`
	By     string        `json:"by,omitempty"`    // the test that failed
	Fault  string        `json:"fault,omitempty"` // what that test said
	Error  string        `json:"error,omitempty"` // why it could not be judged
	Took   time.Duration `json:"ns"`
}

// mutantRun is a mutant with its tests.
type mutantRun struct {
	mutant *modules.Mutant
	tests  []*suite.Test
	sound  []func() error // of each test: whether the exercise itself passes it
	result mutantResult
	done   chan struct{}
}

func (a *app) mutants(ctx context.Context, f *testFlags, args []string) error {
	p, err := a.newPipeline(&f.kernel)
	if err != nil {
		return err
	}
	defer p.close()
	r := &testRun{app: a, flags: f, started: time.Now(), start: p.starter(isolateSnapshot), cargos: map[*suite.Test]*testCargo{}}
	if r.selected, err = p.selectTests(ctx, args, regexp.MustCompile("")); err != nil {
		return err
	}
	runs, err := r.prepareMutants(ctx, p)
	if err != nil {
		return err
	}
	p.close()
	if r.dir, err = vm.NewRunDir("."); err != nil {
		return withCode(exitInfra, err)
	}
	go r.runMutants(ctx, runs)
	results := make([]mutantResult, len(runs))
	for i, m := range runs {
		<-m.done
		results[i] = m.result
		if !a.json {
			fmt.Fprintln(a.stdout, results[i])
		}
	}
	return r.concludeMutants(ctx, results)
}

// prepareMutants builds all mutants, and the exercises themselves, and makes the lists of tests.
func (r *testRun) prepareMutants(ctx context.Context, p *pipeline) ([]*mutantRun, error) {
	target, err := r.newTarget(ctx, p)
	if err != nil {
		return nil, err
	}
	var runs []*mutantRun
	var jobs, originals []modules.Job
	for _, s := range r.selected {
		mutants, err := s.Exercise.Mutants()
		if err != nil {
			return nil, withBuildCode(err)
		}
		for _, m := range mutants {
			runs = append(runs, &mutantRun{mutant: m, done: make(chan struct{}), result: mutantResult{Name: m.Name, Why: m.Why}})
			jobs = append(jobs, modules.Job{Exercise: s.Exercise, Files: m.Files})
		}
		originals = append(originals, modules.Job{Exercise: s.Exercise})
	}
	var outcomes []modules.Outcome
	err = p.timed("mutants", func() (made bool, err error) {
		outcomes, err = modules.BuildAll(ctx, target.kernel, append(jobs, originals...), p.moduleOptions())
		return true, withBuildCode(err)
	})
	if err != nil {
		return nil, err
	}
	n := 0
	var built []*modules.Built
	for i, s := range r.selected {
		original := outcomes[len(jobs)+i]
		if original.Err != nil {
			return nil, withBuildCode(original.Err)
		}
		built = append(built, original.Built)
		sound := r.baseline(ctx, s, &testCargo{target: target, built: original.Built})
		for ; n < len(runs) && runs[n].mutant.Exercise == s.Exercise; n++ {
			run, o := runs[n], outcomes[n]
			run.sound = sound
			if o.Err != nil {
				run.result.Error = o.Err.Error()
				continue
			}
			for _, sc := range s.scripts {
				run.tests = append(run.tests, r.mutantTest(run.mutant.Name+":", sc, &testCargo{target: target, built: o.Built}))
			}
		}
	}
	return runs, r.prepareArchive(ctx, p, target, built)
}

// mutantTest makes a test of a script on what was built.
func (r *testRun) mutantTest(prefix string, sc *check.Script, cargo *testCargo) *suite.Test {
	t := &suite.Test{Name: prefix + sc.Name, Script: sc, Modules: moduleNames(cargo.built, sc)}
	own := *cargo
	own.dir = r.folder(t.Name)
	r.cargos[t] = &own
	return t
}

// baseline returns for each script of an exercise a function that says, by one run at most, whether the
// exercise passes it.
func (r *testRun) baseline(ctx context.Context, s scripted, cargo *testCargo) []func() error {
	var sound []func() error
	for _, sc := range s.scripts {
		t := r.mutantTest("", sc, cargo)
		sound = append(sound, sync.OnceValue(func() error {
			res := suite.Run(ctx, []*suite.Test{t}, r.mutantOptions())[0]
			if res.Passed() {
				return nil
			}
			return fmt.Errorf("the exercise itself does not pass: %s", res.Reason)
		}))
	}
	return sound
}

func (r *testRun) mutantOptions() suite.Options {
	return suite.Options{
		FailFast:    true,
		Seed:        r.flags.seed,
		Timeout:     r.flags.machine.timeout,
		StepTimeout: r.flags.step,
		Boot:        r.boot,
	}
}

// runMutants judges the mutants, several at a time.
func (r *testRun) runMutants(ctx context.Context, runs []*mutantRun) {
	free := make(chan struct{}, max(1, r.flags.parallel))
	for _, m := range runs {
		free <- struct{}{}
		go func() {
			defer func() { <-free }()
			defer close(m.done)
			if m.result.Error == "" {
				r.runMutant(ctx, m)
			}
		}()
	}
}

// runMutant runs a mutant's tests until one fails.
func (r *testRun) runMutant(ctx context.Context, m *mutantRun) {
	start := time.Now()
	results := suite.Run(ctx, m.tests, r.mutantOptions())
	m.result.Took = time.Since(start)
	for i, res := range results {
		switch res.Status {
		case check.Fail:
			if err := m.sound[i](); err != nil {
				m.result.Error = fmt.Sprintf("%s: %v", m.tests[i].Script.Name, err)
				return
			}
			m.result.Killed, m.result.By, m.result.Fault = true, m.tests[i].Script.Name, res.Reason
			return
		case check.Error:
			m.result.Error = res.Reason
		}
	}
}

// String returns the mutant's fate in a line.
func (m mutantResult) String() string {
	switch {
	case m.Killed:
		return fmt.Sprintf("killed   %s (%s) by %s", m.Name, seconds(m.Took), m.Fault)
	case m.Error != "":
		return fmt.Sprintf("ERROR    %s: %s", m.Name, m.Error)
	}
	return fmt.Sprintf("SURVIVED %s (%s): %s", m.Name, seconds(m.Took), m.Why)
}

// concludeMutants tells the sum and returns the error that has the exit code.
func (r *testRun) concludeMutants(ctx context.Context, results []mutantResult) error {
	killed, failed := 0, 0
	var survivors []string
	for _, m := range results {
		switch {
		case m.Killed:
			killed++
		case m.Error != "":
			failed++
		default:
			survivors = append(survivors, m.Name)
		}
	}
	var out io.Writer = r.app.stdout
	if r.app.json {
		out = r.app.stderr
		if err := r.app.printJSON(results); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d of %d mutants killed (%s)\n", killed, len(results), seconds(time.Since(r.started)))
	if len(survivors) > 0 {
		fmt.Fprintf(out, "survived: %s\n", strings.Join(survivors, " "))
	}
	err := r.dir.WriteResult(results)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case len(survivors) > 0:
		return &codedError{code: exitFailed}
	case failed > 0:
		return withCode(exitInfra, errors.New("some mutants could not be judged"))
	}
	return err
}
