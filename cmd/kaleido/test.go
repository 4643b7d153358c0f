package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/linux-kaleidoscope/kaleido/modules"
	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/modules/report"
)

// testFlags are what `test` can be told.
type testFlags struct {
	kernel   kernelFlags
	kernels  []string
	machine  machineFlags
	source   string
	filter   string
	list     bool
	failFast bool
	retries  int
	parallel int
	step     time.Duration // for a step that names none
	seed     uint64
	keep     bool
	isolate  string
	junit    string
	tap      string
	json     string
}

func (f *testFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.kernels, "kernel", "k", nil, "kernel `SOURCE`: a version X.Y.Z, a tarball, or a source tree (default linux-6.1.8); repeated, every test runs on each")
	f.kernel.addFetch(cmd)
	f.kernel.addConfig(cmd)
	f.kernel.addBuild(cmd, "")
	f.machine.add(cmd)
	f.machine.addDump(cmd, "when a test ends in a report of the kernel or a timeout")
	periodVar(flags, &f.machine.timeout, "timeout", check.DefaultTimeout, "end a test that names no time after `TIME` (four times as long under TCG)")
	flags.StringVar(&f.source, "source", "", "test the .c and .h files in `DIR` in place of the exercise's own")
	flags.StringVar(&f.filter, "filter", "", "only tests whose names match the regular expression `RE`")
	flags.BoolVar(&f.list, "list", false, "list the tests instead")
	flags.BoolVar(&f.failFast, "fail-fast", false, "begin no test after one has failed")
	numberVarP(flags, &f.retries, "retries", "", 0, 0, math.MaxInt, "run a test that does not pass up to `N` times more")
	numberVarP(flags, &f.parallel, "parallel", "j", runtime.GOMAXPROCS(0), 1, math.MaxInt, "run `N` virtual machines at once")
	flags.Uint64Var(&f.seed, "seed", 0, "draw the random values of an earlier run, which said its seed `N` (default another one each time)")
	isolateVar(flags, &f.isolate, isolateSnapshot)
	flags.BoolVar(&f.keep, "keep", false, "keep the logs of tests that passed, too")
	flags.StringVar(&f.junit, "junit", "", "write the results as JUnit XML to `FILE`, or - for standard output")
	flags.StringVar(&f.tap, "tap", "", "write the results as TAP to `FILE`, or - for standard output")
	flags.StringVar(&f.json, "json", "", "write the results as JSON to `FILE`.json, or - for standard output")
}

func (a *app) testCommand() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test [flags] [NAME|GLOB|PATH]...",
		Short: "Run the tests of modules, each in a pristine virtual machine, and judge the kernel's log",
		Long: `Test runs the test scripts of modules: those of the catalogue ("hello", "general/hello/load",
"process/...", "general/*"; all of them by default), or those of the folder PATH ("./mymodule"), which
may be anybody's: scripts are PATH/test/*.txt, or without that folder PATH/*.txt but for README.txt and
the like, and without one, each module is loaded, unloaded and loaded again.

A test fails when one of its steps does, and when the kernel complains and the script did not ask for
it. The language of the scripts is described in modules/check/README.md. Logs of tests that did not
pass are kept under .kaleido/runs/latest, with all results as JSON, JUnit XML and TAP.

Exit codes: 0 all passed, 1 one failed, 5 one could not be run, 6 a kernel panicked, 7 a kernel
complained though its test passed, 124 timeout, 130 interrupted.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("seed") {
				f.seed = uint64(rand.Uint32())
			}
			return a.test(cmd.Context(), &f, args, repeatFlags(cmd))
		},
	}
	f.add(cmd)
	return cmd
}

// unrepeated are the flags that do not belong to what a single test needs to be run again.
var unrepeated = []string{
	"seed", "filter", "fail-fast", "retries", "parallel", "jobs", "keep", "junit", "tap", "json", "progress", "quiet", "verbose", "kernel",
}

// repeatFlags are the flags of this run that another of the same test needs.
func repeatFlags(cmd *cobra.Command) []string {
	var words []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains(unrepeated, f.Name) {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			if f.NoOptDefVal != "" { // it would take no word of its own
				words = append(words, "--"+f.Name+"="+v)
			} else {
				words = append(words, "--"+f.Name, v)
			}
		}
	})
	return words
}

func (a *app) test(ctx context.Context, f *testFlags, args, repeat []string) error {
	filter, err := regexp.Compile(f.filter)
	if err != nil {
		return usageError("--filter: %w", err)
	}
	if f.source != "" {
		if info, err := os.Stat(f.source); err != nil || !info.IsDir() {
			return usageError("--source %s: want a directory", f.source)
		}
	}
	if on, err := strconv.ParseBool(f.json); err == nil { // as KALEIDO_JSON and other commands have it
		f.json = map[bool]string{true: "-"}[on]
	}
	if f.json != "" && f.json != "-" && filepath.Ext(f.json) != ".json" && !special(f.json) {
		return usageError("--json %s: of this command it takes a FILE.json, or - for standard output", f.json)
	}
	for _, name := range []string{f.junit, f.tap, f.json} {
		if info, err := os.Stat(filepath.Dir(name)); err != nil || !info.IsDir() {
			return usageError("%s: there is no directory %s", name, filepath.Dir(name))
		}
	}
	p, err := a.newPipeline(&f.kernel)
	if err != nil {
		return err
	}
	defer p.close()
	selected, err := p.selectTests(ctx, args, filter)
	if err != nil {
		return err
	}
	if f.list {
		p.close()
		return a.listTests(selected, f.json != "")
	}
	r := &testRun{app: a, flags: f, repeat: repeat, selected: selected, started: time.Now(), start: p.starter(f.isolate)}
	return r.run(ctx, p)
}

// scripted is a selection with its scripts parsed.
type scripted struct {
	modules.Selection
	scripts []*check.Script // of a folder without any: none yet
}

// selectTests finds the tests that are meant, and every mistake in them.
func (p *pipeline) selectTests(ctx context.Context, args []string, filter *regexp.Regexp) ([]scripted, error) {
	selections, err := p.selections(ctx, args)
	if err != nil {
		return nil, err
	}
	var selected []scripted
	var mistakes []error
	for _, sel := range selections {
		s := scripted{Selection: sel}
		for _, script := range sel.Scripts {
			if !filter.MatchString(script.Name) {
				continue
			}
			sc, err := check.Parse(script.File)
			if err != nil {
				if filepath.Dir(script.File) == sel.Exercise.Dir {
					err = fmt.Errorf("%w (if it is no test, put the tests into a folder test)", err)
				}
				mistakes = append(mistakes, fmt.Errorf("%s: %w", sel.Exercise.Name, err))
				continue
			}
			sc.Name = script.Name
			s.scripts = append(s.scripts, sc)
		}
		if len(s.scripts) > 0 || len(sel.Scripts) == 0 && filter.MatchString(sel.Exercise.Name) {
			selected = append(selected, s)
		}
	}
	if len(mistakes) > 0 {
		return nil, withCode(exitUsage, errors.Join(mistakes...))
	}
	if len(selected) == 0 {
		return nil, usageError("no test matches (kaleido test --list says which there are)")
	}
	return selected, nil
}

// selections tells folders from names of the catalogue.
func (p *pipeline) selections(ctx context.Context, args []string) ([]modules.Selection, error) {
	var own []modules.Selection
	var patterns []string
	for _, arg := range args {
		if !isPath(arg) {
			patterns = append(patterns, arg)
			continue
		}
		sel, err := modules.Folder(arg)
		if err != nil {
			return nil, usageError("%w", err)
		}
		own = append(own, *sel)
	}
	if len(args) > 0 && len(patterns) == 0 {
		return own, nil
	}
	root, err := p.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	selections, err := modules.Select(root, patterns...)
	var none *modules.NoMatchError
	if errors.As(err, &none) {
		if _, statErr := os.Stat(none.Pattern); !errors.Is(statErr, fs.ErrNotExist) {
			return nil, usageError("%w (for the folder, say ./%s)", err, none.Pattern)
		}
		return nil, usageError("%w", err)
	}
	return append(selections, own...), err
}

// isPath reports whether an argument is a path, as the shell's users write them.
func isPath(arg string) bool {
	return arg == "." || arg == ".." || strings.HasPrefix(arg, "./") || strings.HasPrefix(arg, "../") || strings.HasPrefix(arg, "/")
}

func (a *app) listTests(selected []scripted, asJSON bool) error {
	names := []string{}
	for _, s := range selected {
		for _, sc := range s.scripts {
			names = append(names, sc.Name)
		}
		if len(s.scripts) == 0 {
			names = append(names, s.Exercise.Name)
		}
	}
	if asJSON {
		return a.printJSON(names)
	}
	for _, name := range names {
		fmt.Fprintln(a.stdout, name)
	}
	return nil
}

// testExitCode is the exit code for the worst verdict.
func testExitCode(v check.Verdict) int {
	switch v {
	case check.VerdictPass, check.VerdictSkip:
		return exitPass
	case check.VerdictPanic:
		return exitPanic
	case check.VerdictTimeout:
		return exitTimeout
	case check.VerdictSplat:
		return exitSplat
	case check.VerdictError:
		return exitInfra
	}
	return exitFailed
}

// conclude writes the reports and returns the error that has the exit code.
func (r *testRun) conclude(ctx context.Context, results []*check.Result) error {
	rep := &report.Report{
		Name: "kaleido test", Started: r.started, Time: time.Since(r.started), Results: results,
		Properties: map[string]string{"kaleido": buildVersion().Kaleido, "seed": fmt.Sprint(r.flags.seed), "run": r.dir.Path},
	}
	fmt.Fprintln(r.text, report.Summary(rep))
	err := r.writeReports(rep)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if code := testExitCode(rep.Verdict()); code != exitPass && err == nil {
		return &codedError{code: code}
	}
	return withCode(exitInfra, err)
}
