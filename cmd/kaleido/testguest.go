package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/linux-kaleidoscope/kaleido/modules"
	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/modules/srcline"
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
	*vm.Instance
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
		Decode:   g.decode,
	}
	if g.Accel() == vm.AccelTCG {
		opts.Scale = tcgScale
	}
	return &suite.Machine{Guest: checkGuest{g.Instance}, Options: opts, Close: g.end}, nil
}

// deployLimit bounds the way of modules and helpers into a guest, which takes some 100 ms.
const deployLimit = time.Minute

// deploy puts the products of a build where insmod, modprobe and the scripts' commands look for them.
func (g *testGuest) deploy(ctx context.Context, built *modules.Built) error {
	ctx, cancel := context.WithTimeoutCause(ctx, deployLimit, errors.New("the guest is too slow"))
	defer cancel()
	folder := "/lib/modules/" + g.Hello().Release
	for _, m := range built.Modules {
		if err := g.put(ctx, folder+"/extra/"+filepath.Base(m.File), 0o644, m.File); err != nil {
			return err
		}
	}
	for _, h := range built.Helpers {
		if err := g.put(ctx, "/usr/local/bin/"+filepath.Base(h), 0o755, h); err != nil {
			return err
		}
	}
	return g.Agent().Put(ctx, folder+"/modules.dep", 0o644, bytes.NewReader(modules.Index(built.Modules)))
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
	if text := splatText(res); text != "" {
		err = errors.Join(err, g.dir.Write("splat.txt", func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}))
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

// splatText is what the kernel complained of, for splat.txt.
func splatText(res *check.Result) string {
	var text bytes.Buffer
	for _, s := range res.Splats {
		if !s.Credible {
			continue
		}
		fmt.Fprintf(&text, "%s: %s\n", s.Kind, s.Title)
		for _, rec := range s.Records {
			fmt.Fprintln(&text, rec)
		}
		if s.Decoded != "" {
			fmt.Fprintln(&text, s.Decoded)
		}
		fmt.Fprintln(&text)
	}
	return text.String()
}

// decode says where in the source a backtrace leads: in the test's modules, and in the kernel if it was
// built with debug information.
func (g *testGuest) decode(_ context.Context, splat []dmesg.Record) string {
	files := map[string]string{"": g.cargo.target.kernel.Vmlinux()}
	for _, m := range g.cargo.built.Modules {
		files[m.Name] = m.Debug
	}
	var trace []string
	for _, rec := range splat {
		trace = append(trace, rec.Lines()...)
	}
	where := srcline.New(files).Decode(trace)
	return strings.ReplaceAll(where, g.cargo.target.kernel.Source+string(filepath.Separator), "")
}

// noteOnce passes on what a machine has to say, unless another has said it before.
func (r *testRun) noteOnce(line string) {
	if _, said := r.said.LoadOrStore(line, true); !said {
		r.app.msg.printf("%s", line)
	}
}

// diagnose says what the guest is doing: the processors' registers, and the backtraces of all
// processors and of the tasks that wait for something uninterruptibly, which the kernel prints when it
// is sent a break and a letter on the serial console (Magic SysRq).
func (g *testGuest) diagnose(ctx context.Context) string {
	var text bytes.Buffer
	regs, halted, err := g.registers(ctx)
	if err != nil {
		regs = fmt.Sprintf("registers: %v\n", err)
	}
	text.WriteString(regs)
	if halted {
		text.WriteString("every processor is halted with interrupts off: nothing wakes them\n")
		return text.String()
	}
	ways := []func(context.Context, byte) error{g.sysrqByConsole, g.sysrqByAgent}
	for _, key := range []byte("lw") {
		var more []dmesg.Record
		for len(more) == 0 && len(ways) > 0 {
			if more = g.sysrq(ctx, key, ways[0]); len(more) == 0 {
				ways = ways[1:] // nor will it do for the next key
			}
		}
		if len(more) == 0 {
			fmt.Fprintf(&text, "the kernel does not answer SysRq-%c\n", key)
			break
		}
		for _, rec := range more {
			if !detailRE.MatchString(rec.Text) {
				fmt.Fprintln(&text, rec)
			}
		}
		if where := g.decode(ctx, more); where != "" {
			fmt.Fprintln(&text, where)
		}
	}
	return text.String()
}

// detailRE matches the lines of a backtrace that only the dump itself needs to have: they are in dmesg.txt.
var detailRE = regexp.MustCompile(`^(?:Code: |R[A-Z0-9]{1,2}: .* R|[CFDE]S: |CR2: |RSP: )|^ \? `)

// sysrq has the kernel serve a key of Magic SysRq and returns what it says then.
func (g *testGuest) sysrq(ctx context.Context, key byte, press func(context.Context, byte) error) []dmesg.Record {
	before, _ := g.Dmesg(ctx) // without them all of the log is new
	if press(ctx, key) != nil {
		return nil
	}
	return g.newRecords(ctx, before)
}

// sysrqByConsole presses a key by a break and a letter on the serial console, whose interrupt goes to
// processor 0.
func (g *testGuest) sysrqByConsole(ctx context.Context, key byte) error {
	if err := g.Monitor().Execute(ctx, "chardev-send-break", map[string]string{"id": "console"}, nil); err != nil {
		return err
	}
	_, err := g.WriteConsole([]byte{key})
	return err
}

// agentLimit bounds the agent's part in a diagnosis.
const agentLimit = 2 * time.Second

// sysrqByAgent has the agent press a key. It may be as stuck as all else.
func (g *testGuest) sysrqByAgent(ctx context.Context, key byte) error {
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	return g.Agent().Write(ctx, "/proc/sysrq-trigger", []byte{key})
}

// newRecords waits, a little, for the log to say more, and returns what that is.
func (g *testGuest) newRecords(ctx context.Context, before []dmesg.Record) []dmesg.Record {
	const quiet, most = 500 * time.Millisecond, 3 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	var more []dmesg.Record
	for {
		select {
		case <-ctx.Done():
			return more
		case <-tick.C:
		}
		now, err := g.Dmesg(ctx)
		if err != nil || len(now) < len(before) {
			return more
		}
		if latest := now[len(before):]; len(latest) > len(more) || len(latest) == 0 {
			more = latest
			continue
		}
		return more
	}
}
