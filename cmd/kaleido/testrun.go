package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/linux-kaleidoscope/kaleido/initramfs"
	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/confine"
	"github.com/linux-kaleidoscope/kaleido/modules"
	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/modules/report"
	"github.com/linux-kaleidoscope/kaleido/modules/srcline"
	"github.com/linux-kaleidoscope/kaleido/modules/suite"
	"github.com/linux-kaleidoscope/kaleido/vm"
)

// testRun is one invocation of `test`.
type testRun struct {
	app      *app
	flags    *testFlags
	repeat   []string // flags for running one of its tests again
	selected []scripted
	started  time.Time
	dir      *vm.RunDir
	text     io.Writer // what people read
	said     sync.Map  // notes that were told
	start    func(context.Context, vm.Config) (*vm.Instance, error)

	tests  []*suite.Test
	cargos map[*suite.Test]*testCargo
}

// testCargo is what a test's guest is made of.
type testCargo struct {
	target *testTarget
	built  *modules.Built // nil if there is nothing to run
	dir    string         // for its logs
	again  []string       // the command that repeats it
}

// testTarget is a kernel that tests run on.
type testTarget struct {
	kernel *kbuild.Kernel
	name   string // as given to --kernel; empty for the default
	initrd string
	config map[string]string
	lines  *srcline.Finder // of the kernel
}

func (r *testRun) run(ctx context.Context, p *pipeline) error {
	r.text = r.app.stdout
	if r.flags.json == "-" || r.flags.junit == "-" || r.flags.tap == "-" {
		r.text = r.app.stderr
	}
	if r.flags.source != "" && !confine.Supported() {
		r.app.msg.warningf("this kernel has no Landlock: code in %s can read your files while it is compiled", r.flags.source)
	}
	if err := r.prepare(ctx, p); err != nil {
		return err
	}
	p.close()
	if r.flags.machine.dryRun {
		return r.printLines(p)
	}
	var err error
	if r.dir, err = r.newDir(); err != nil {
		return withCode(exitInfra, err)
	}
	r.announce()
	view := newTestView(r)
	results := suite.Run(ctx, r.tests, suite.Options{
		Parallel: r.flags.parallel,
		Retries:  r.flags.retries,
		FailFast: r.flags.failFast,
		Seed:     r.flags.seed,
		Timeout:  r.flags.machine.timeout,
		Boot:     r.boot,
		Watch:    view.watch,
	})
	view.close()
	return r.conclude(ctx, results)
}

// newDir makes the run's directory, with the config of the kernel in it, if it is one.
func (r *testRun) newDir() (*vm.RunDir, error) {
	dir, err := vm.NewRunDir(".")
	if err == nil && len(r.flags.kernels) < 2 && len(r.tests) > 0 {
		err = dir.CopyConfig(r.cargos[r.tests[0]].target.kernel.ConfigFile())
	}
	return dir, err
}

// announce says what is about to be run.
func (r *testRun) announce() {
	var releases []string
	for _, c := range r.cargos {
		if release := c.target.kernel.Release; !slices.Contains(releases, release) {
			releases = append(releases, release)
		}
	}
	slices.Sort(releases)
	tests := "tests"
	if len(r.tests) == 1 {
		tests = "test"
	}
	r.app.msg.printf("running %d %s on linux %s, seed %d", len(r.tests), tests, strings.Join(releases, " and "), r.flags.seed)
}

// prepare builds for each kernel what its tests need.
func (r *testRun) prepare(ctx context.Context, p *pipeline) error {
	r.cargos = map[*suite.Test]*testCargo{}
	kernels := r.flags.kernels
	if len(kernels) == 0 {
		kernels = []string{""}
	}
	for _, name := range kernels {
		p.flags.kernel = name
		t, err := r.newTarget(ctx, p)
		if err != nil {
			return err
		}
		suffix := ""
		if len(kernels) > 1 {
			suffix = "@" + t.kernel.Release
		}
		built, err := r.prepareTests(ctx, p, t, suffix)
		if err != nil {
			return err
		}
		if err := r.prepareArchive(ctx, p, t, built); err != nil {
			return err
		}
	}
	return nil
}

// newTarget makes a kernel to test on.
func (r *testRun) newTarget(ctx context.Context, p *pipeline) (*testTarget, error) {
	t := &testTarget{name: p.flags.kernel}
	var err error
	if t.kernel, err = p.kernel(ctx); err != nil {
		return nil, err
	}
	t.lines = kernelLines(t.kernel)
	t.config, err = readConfig(t.kernel.ConfigFile())
	return t, withBuildCode(err)
}

// prepareArchive makes the initramfs. Modules and helpers are not in it: each test's are pushed into
// its guest, so that the archive is small, quick to boot, and the same whatever is edited. It has the
// libraries that the helpers need.
func (r *testRun) prepareArchive(ctx context.Context, p *pipeline, t *testTarget, built []*modules.Built) (err error) {
	opts := initramfs.Options{Release: t.kernel.Release}
	for _, b := range built {
		opts.Programs = append(opts.Programs, b.Helpers...)
	}
	inits := map[string]bool{"": true, "/init": true} // that need no link
	for _, s := range r.selected {
		for _, sc := range s.scripts {
			if name := sc.Requires.Init; !inits[name] {
				inits[name] = true
				opts.Files = append(opts.Files, initramfs.File{Name: name, Data: []byte("/bbin/uinit"), Mode: os.ModeSymlink | 0o777})
			}
		}
	}
	t.initrd, err = p.archive(ctx, opts)
	return err
}

// readConfig reads a .config: "SMP": "y".
func readConfig(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config := map[string]string{}
	for line := range strings.Lines(string(text)) {
		symbol, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if name, isSymbol := strings.CutPrefix(symbol, "CONFIG_"); ok && isSymbol {
			config[name] = strings.Trim(value, `"`)
		}
	}
	return config, nil
}

// prepareTests builds the modules and makes the list of tests. It returns what was built.
func (r *testRun) prepareTests(ctx context.Context, p *pipeline, t *testTarget, suffix string) ([]*modules.Built, error) {
	var outcomes []modules.Outcome
	err := p.timed("modules", func() (made bool, err error) {
		outcomes, err = r.build(ctx, p, t.kernel)
		for _, o := range outcomes {
			made = made || o.Built != nil && o.Built.Made
		}
		return made, err
	})
	if err != nil {
		return nil, withBuildCode(err)
	}
	var built []*modules.Built
	for i, s := range r.selected {
		scripts, failure, err := r.judgeBuild(s, outcomes[i])
		if err != nil {
			return nil, withBuildCode(err)
		}
		if o := outcomes[i]; o.Built != nil {
			built = append(built, o.Built)
		}
		for _, sc := range scripts {
			test := &suite.Test{Name: r.unique(sc.Name + suffix), Script: sc}
			cargo := &testCargo{target: t, built: outcomes[i].Built, dir: r.folder(test.Name), again: r.again(sc, s, t)}
			if failure != nil {
				test.Result = check.BuildFailure(sc, failure.text, failure.words)
				test.Result.Name = test.Name
			} else {
				test.Modules = moduleNames(outcomes[i].Built, sc)
			}
			r.tests = append(r.tests, test)
			r.cargos[test] = cargo
		}
	}
	return built, nil
}

// unique returns a name that no test has yet: folders of two people may have the same name.
func (r *testRun) unique(name string) string {
	for n, try := 1, name; ; try = fmt.Sprintf("%s#%d", name, n) {
		if !slices.ContainsFunc(r.tests, func(t *suite.Test) bool { return t.Name == try }) {
			return try
		}
		n++
	}
}

// build builds what is selected; the outcomes are in its order.
func (r *testRun) build(ctx context.Context, p *pipeline, k *kbuild.Kernel) ([]modules.Outcome, error) {
	outcomes := make([]modules.Outcome, len(r.selected))
	var jobs []modules.Job
	var at []int // index of each job's selection
	opts := p.moduleOptions()
	if r.flags.source != "" {
		opts.Limits = kbuild.DefaultLimits()
	}
	for i, s := range r.selected {
		job := modules.Job{Exercise: s.Exercise}
		if r.flags.source != "" {
			if job.Files, outcomes[i].Err = s.Exercise.Substitute(r.flags.source); outcomes[i].Err != nil {
				continue
			}
		}
		if s.Own {
			own := opts
			own.Files = job.Files
			outcomes[i].Built, outcomes[i].Err = modules.BuildFolder(ctx, k, s.Exercise.Dir, own)
			continue
		}
		jobs, at = append(jobs, job), append(at, i)
	}
	some, err := modules.BuildAll(ctx, k, jobs, opts)
	for j, o := range some {
		outcomes[at[j]] = o
	}
	return outcomes, err
}

// buildFailure is what the compiler had to say of somebody's module.
type buildFailure struct{ text, words string }

// judgeBuild returns the scripts to run, and if a module does not compile, what to say of each. That is
// the module's fault where it is somebody's, and ours in the catalogue.
func (r *testRun) judgeBuild(s scripted, o modules.Outcome) ([]*check.Script, *buildFailure, error) {
	scripts := s.scripts
	if o.Err == nil {
		if len(scripts) > 0 {
			return scripts, nil, nil
		}
		sc, err := check.Default(s.Exercise.Name, o.Built.Names())
		return []*check.Script{sc}, nil, err
	}
	if len(scripts) == 0 {
		scripts = []*check.Script{{Name: s.Exercise.Name}}
	}
	var failed *kbuild.MakeError
	var missing *modules.MissingError
	switch {
	case !s.Own && r.flags.source == "":
		return nil, nil, o.Err
	case errors.As(o.Err, &failed):
		return scripts, &buildFailure{"the module does not compile: " + failed.First, string(failed.Output)}, nil
	case errors.As(o.Err, &missing):
		return scripts, &buildFailure{missing.Error(), missing.Error()}, nil
	case errors.Is(o.Err, modules.ErrNoModule):
		return scripts, &buildFailure{o.Err.Error(), o.Err.Error()}, nil
	}
	return nil, nil, o.Err
}

// moduleNames are the modules a script may use.
func moduleNames(built *modules.Built, sc *check.Script) []string {
	if len(sc.Requires.Modules) > 0 {
		return sc.Requires.Modules
	}
	return built.Names()
}

// again is the command that runs a test once more as it was run now.
func (r *testRun) again(sc *check.Script, s scripted, t *testTarget) []string {
	name := sc.Name
	if s.Own {
		name = sc.File
		if len(s.scripts) == 0 {
			name = s.Exercise.Dir
		}
	}
	words := append([]string{"kaleido", "test", name, "--seed", fmt.Sprint(r.flags.seed)}, r.repeat...)
	if t.name != "" {
		words = append(words, "--kernel", t.name)
	}
	return words
}

// folder is the name of a test's folder in the run's directory.
func (r *testRun) folder(test string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_', c == '@':
			return c
		}
		return '-'
	}, strings.TrimLeft(test, "./"))
	for _, c := range r.cargos {
		if c.dir == name {
			return fmt.Sprintf("%s-%d", name, len(r.cargos))
		}
	}
	return name
}

// printLines prints the QEMU line of each test.
func (r *testRun) printLines(p *pipeline) error {
	for _, test := range r.tests {
		cfg := r.config(test)
		line, err := cfg.CommandLine(cfg.Accel)
		if err != nil {
			return usageError("%s: %w", test.Name, err)
		}
		p.printLine(line)
	}
	return nil
}

// junitFile is the report that only a run of tests has.
const junitFile = "junit.xml"

// writeReports writes the results into the run's directory and where the flags say.
func (r *testRun) writeReports(rep *report.Report) error {
	var errs []error
	formats := []struct {
		name, also string
		write      func(io.Writer, *report.Report) error
	}{
		{vm.ResultJSON, r.flags.json, report.JSON},
		{junitFile, r.flags.junit, report.JUnit},
		{"results.tap", r.flags.tap, report.TAP},
	}
	for _, f := range formats {
		errs = append(errs, r.dir.Write(f.name, func(w io.Writer) error { return f.write(w, rep) }))
		switch f.also {
		case "":
		case "-":
			errs = append(errs, f.write(r.app.stdout, rep))
		default:
			errs = append(errs, writeTo(f.also, func(w io.Writer) error { return f.write(w, rep) }))
		}
	}
	return errors.Join(errs...)
}

// special tells whether a name is that of something that is there and no file.
func special(name string) bool {
	st, err := os.Lstat(name)
	return err == nil && !st.Mode().IsRegular()
}

// writeTo writes a file, at once or not at all; a link, a pipe or a device is written to as it is.
func writeTo(name string, fill func(io.Writer) error) error {
	if !special(name) {
		there := vm.RunDir{Path: filepath.Dir(name)}
		return there.Write(filepath.Base(name), fill)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}
