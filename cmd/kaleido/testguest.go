package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/linux-kaleidoscope/kaleido/modules"
	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/modules/report"
	"github.com/linux-kaleidoscope/kaleido/modules/suite"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// tcgScale is how many times longer than under KVM everything may take under TCG.
const tcgScale = 4

// config is the machine a test runs on: the flags', with what its script asks for.
func (r *testRun) config(t *suite.Test) vm.Config {
	target := r.cargos[t].target
	cfg := r.flags.machine.config(&image{kernel: target.kernel, initrd: target.initrd})
	need := t.Script.Requires
	if need.CPU != "" {
		cfg.CPU = need.CPU
	}
	if need.RTC != "" {
		cfg.RTC = "base=" + need.RTC
	}
	if need.MemoryMiB != 0 {
		cfg.MemoryMiB = need.MemoryMiB
	}
	if need.CPUs != 0 {
		cfg.CPUs = need.CPUs
	}
	if need.BzImage {
		cfg.Kernel = target.kernel.Image()
	}
	cfg.Append = append(append([]string(nil), cfg.Append...), need.Append...)
	if need.Init != "" {
		cfg.Append = append(cfg.Append, "rdinit="+need.Init)
	}
	return cfg
}

// testGuest is a guest that runs one test.
type testGuest struct {
	run   *testRun
	test  *suite.Test
	cargo *testCargo
	dir   *vm.RunDir
	examiner
}

// boot starts the guest of a test and puts its modules and helpers into it.
func (r *testRun) boot(ctx context.Context, t *suite.Test, attempt int) (*suite.Machine, error) {
	cargo := r.cargos[t]
	cfg := r.config(t)
	name := cargo.dir
	if attempt > 1 {
		name = fmt.Sprintf("%s-%d", name, attempt)
	}
	g := &testGuest{run: r, test: t, cargo: cargo, dir: &vm.RunDir{Path: r.dir.File(name)}}
	cfg.Dir = g.dir.Path
	cfg.Note = r.noteOnce
	var err error
	start := r.start
	if t.Script.Requires.OwnBoot {
		start = vm.Start
	}
	g.decoder = newDecoder(cargo.target.kernel, cargo.target.lines, cargo.built.Modules)
	if g.Instance, err = start(ctx, cfg); err != nil {
		var boot *vm.BootError
		if errors.As(err, &boot) {
			err = errors.Join(err, g.dir.WriteDmesg(boot.Records))
		}
		return nil, err
	}
	if err := g.deploy(ctx, cargo.built); err != nil {
		g.Instance.Close()
		return nil, err
	}
	hello := g.Hello()
	opts := check.Options{
		Facts:    check.Facts{Release: hello.Release, Arch: hello.Machine, KVM: g.Accel() == vm.AccelKVM, Config: cargo.target.config},
		Diagnose: g.diagnose,
		Decode:   func(_ context.Context, splat []dmesg.Record) string { return g.decode(splat) },
	}
	if g.Accel() == vm.AccelTCG {
		opts.Scale = tcgScale
	}
	return &suite.Machine{Guest: checkGuest{g.Instance}, Options: opts, Close: g.end}, nil
}

// deployLimit bounds the way of modules and helpers into a guest, which takes some 100 ms.
const deployLimit = time.Minute

// deploy puts the products of a build where insmod, modprobe and the scripts' commands look for them, all at once:
// under TCG a question costs more than what is done for it.
func (g *testGuest) deploy(ctx context.Context, built *modules.Built) error {
	ctx, cancel := context.WithTimeoutCause(ctx, deployLimit, errors.New("the guest is too slow"))
	defer cancel()
	folder := "/lib/modules/" + g.Hello().Release
	puts, ctx := errgroup.WithContext(ctx)
	for _, m := range built.Modules {
		puts.Go(func() error { return g.put(ctx, folder+"/extra/"+filepath.Base(m.File), 0o644, m.File) })
	}
	for _, h := range built.Helpers {
		puts.Go(func() error { return g.put(ctx, "/usr/local/bin/"+filepath.Base(h), 0o755, h) })
	}
	puts.Go(func() error {
		return g.Agent().Put(ctx, folder+"/modules.dep", 0o644, bytes.NewReader(modules.Index(built.Modules)))
	})
	return puts.Wait()
}

func (g *testGuest) put(ctx context.Context, name string, mode fs.FileMode, host string) error {
	f, err := os.Open(host)
	if err != nil {
		return err
	}
	defer f.Close()
	return g.Agent().Put(ctx, name, mode, f)
}

// end ends the guest and keeps what there is to know of the test, if it is worth keeping.
func (g *testGuest) end(res *check.Result) {
	defer g.Instance.Close()
	res.Facts = map[string]string{"kernel": g.Hello().Release, "accel": string(g.Accel())}
	if (res.Status == check.Pass || res.Status == check.Skip) && !g.run.flags.keep {
		g.Instance.Close()
		if err := os.RemoveAll(g.dir.Path); err != nil {
			res.Notes = append(res.Notes, err.Error())
		}
		return
	}
	if g.run.flags.machine.dump && (complained(res) || res.Verdict == check.VerdictPanic || res.Verdict == check.VerdictTimeout) {
		if saved, err := dumpMemory(context.Background(), g.Instance, g.dir); err != nil {
			res.Notes = append(res.Notes, err.Error())
		} else {
			res.Notes = append(res.Notes, saved)
		}
	}
	if err := g.save(res); err != nil {
		res.Notes = append(res.Notes, "logs: "+err.Error())
	}
}

// save writes the logs of a test into its folder.
func (g *testGuest) save(res *check.Result) error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	records, err := g.Dmesg(ctx)
	if err != nil {
		records = res.Records
	}
	err = errors.Join(err, g.dir.WriteDmesg(records), g.dir.WriteResult(res))
	shorten(res)
	if crash := g.crashOf(res); crash != nil {
		err = errors.Join(err, g.dir.Write(vm.SplatText, crash.Write))
	}
	return err
}

// maxRecords is how many records of one test the run's reports have; dmesg.jsonl has them all.
const maxRecords = 2000

// shorten takes the middle out of a long log.
func shorten(res *check.Result) {
	if over := len(res.Records) - maxRecords; over > 0 {
		half := maxRecords / 2
		res.Records = append(res.Records[:half:half], res.Records[len(res.Records)-half:]...)
		res.Notes = append(res.Notes, fmt.Sprintf("%d records are left out here; dmesg.jsonl has them", over))
	}
}

// crashOf is what is to be told of a test's kernel, nil if that was well.
func (g *testGuest) crashOf(res *check.Result) *report.Crash {
	c := &report.Crash{Splats: res.Splats, Taint: res.Taint, Diagnosis: res.Diagnosis}
	for _, s := range res.Splats {
		if s.Credible && c.Diagnosis == "" {
			c.Diagnosis = g.others(dmesg.Splat{Records: s.Records}, res.Records)
		}
	}
	if c.Diagnosis == "" && !complained(res) {
		return nil
	}
	return c
}

// complained tells whether the kernel of a test did.
func complained(res *check.Result) bool {
	return slices.ContainsFunc(res.Splats, func(s check.Splat) bool { return s.Credible })
}

// noteOnce passes on what a machine has to say, unless another has said it before.
func (r *testRun) noteOnce(line string) {
	if _, said := r.said.LoadOrStore(line, true); !said {
		r.app.msg.printf("%s", line)
	}
}
