package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/modules"
	"github.com/linux-kaleidoscope/kaleido/modules/srcline"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// decoder says where in the source addresses are: in the modules, and in the kernel if it was built with
// debug information.
type decoder struct {
	kernel  *kbuild.Kernel
	modules map[string]*modules.Module
	finder  *srcline.Finder
}

// newDecoder makes a decoder for a kernel, of which several may share the finder, and modules.
func newDecoder(k *kbuild.Kernel, base *srcline.Finder, mods []*modules.Module) *decoder {
	d := &decoder{kernel: k, modules: map[string]*modules.Module{}}
	files := map[string]string{}
	for _, m := range mods {
		d.modules[m.Name] = m
		files[m.Name] = m.Debug
	}
	d.finder = base.With(files)
	return d
}

// kernelLines finds lines of the kernel itself.
func kernelLines(k *kbuild.Kernel) *srcline.Finder {
	return srcline.New(map[string]string{"": k.Vmlinux()})
}

// decode says where a splat's backtrace leads, and shows the lines of source where it begins.
func (d *decoder) decode(splat []dmesg.Record) string {
	where := d.where(splat)
	if source := srcline.Excerpt(d.finder.Places(lines(splat)), d.source); source != "" {
		where += "\n" + source
	}
	return where
}

// where says where in the source backtraces lead.
func (d *decoder) where(records []dmesg.Record) string {
	// A kernel that was not built by us may name its files in full.
	return strings.ReplaceAll(d.finder.Decode(lines(records)), d.kernel.Source+string(filepath.Separator), "")
}

func lines(records []dmesg.Record) []string {
	var all []string
	for _, rec := range records {
		all = append(all, rec.Lines()...)
	}
	return all
}

// source is the text of a file by the name that debug information has.
func (d *decoder) source(module, file string) ([]byte, error) {
	if m, ok := d.modules[module]; ok {
		return m.Source(file)
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(d.kernel.Source, file)
	}
	return os.ReadFile(file)
}

// examiner looks into a guest that is in trouble.
type examiner struct {
	*vm.Instance
	*decoder
}

// others says what the other processors were doing when the kernel complained; log is all of its log.
func (d *decoder) others(s dmesg.Splat, log []dmesg.Record) string {
	var text strings.Builder
	for _, b := range s.Others(log) {
		fmt.Fprintf(&text, "CPU#%d\n", b.CPU)
		for _, rec := range b.Records[1:] {
			if !detailRE.MatchString(rec.Text) {
				fmt.Fprintln(&text, "  "+strings.TrimSpace(rec.Text))
			}
		}
		if where := d.where(b.Records); where != "" {
			fmt.Fprintln(&text, where)
		}
	}
	return text.String()
}

// diagnose says what the guest is doing: the processors' registers, and the backtraces of all
// processors and of the tasks that wait for something uninterruptibly, which the kernel prints when it
// is sent a break and a letter on the serial console (Magic SysRq).
func (e *examiner) diagnose(ctx context.Context) string {
	var text bytes.Buffer
	regs, halted, err := e.registers(ctx)
	if err != nil {
		regs = fmt.Sprintf("registers: %v\n", err)
	}
	text.WriteString(regs)
	if halted {
		text.WriteString("every processor is halted with interrupts off: nothing wakes them\n")
		return text.String()
	}
	ways := []func(context.Context, byte) error{e.sysrqByConsole, e.sysrqByAgent}
	for _, key := range []byte("lw") {
		var more []dmesg.Record
		for len(more) == 0 && len(ways) > 0 {
			if more = e.sysrq(ctx, key, ways[0]); len(more) == 0 {
				ways = ways[1:] // nor will it do for the next key
			}
		}
		if len(more) == 0 {
			fmt.Fprintf(&text, "the kernel does not answer SysRq-%c\n", key)
			break
		}
		for _, rec := range more[:min(maxSysrq, len(more))] {
			if !detailRE.MatchString(rec.Text) {
				fmt.Fprintln(&text, rec)
			}
		}
		if over := len(more) - maxSysrq; over > 0 {
			fmt.Fprintf(&text, "... and %d records more\n", over)
		}
		if where := e.where(more); where != "" {
			fmt.Fprintln(&text, where)
		}
	}
	return text.String()
}

// maxSysrq is how many records of the answer to a key are told: the kernel's come first, and a module may print for ever.
const maxSysrq = 500

// detailRE matches the lines of a backtrace that only the dump itself needs to have: they are in dmesg.txt.
var detailRE = regexp.MustCompile(`^(?:Code: |R[A-Z0-9]{1,2}: .* R|[CFDE]S: |CR2: |RSP: )|^ \? `)

// sysrq has the kernel serve a key of Magic SysRq and returns what it says then.
func (e *examiner) sysrq(ctx context.Context, key byte, press func(context.Context, byte) error) []dmesg.Record {
	before, _ := e.Dmesg(ctx) // without them all of the log is new
	if press(ctx, key) != nil {
		return nil
	}
	return e.newRecords(ctx, before)
}

// sysrqByConsole presses a key by a break and a letter on the serial console, whose interrupt goes to
// processor 0.
func (e *examiner) sysrqByConsole(ctx context.Context, key byte) error {
	if err := e.Monitor().Execute(ctx, "chardev-send-break", map[string]string{"id": "console"}, nil); err != nil {
		return err
	}
	typed := make(chan error, 1)
	go func() { // what was typed before may have nobody who reads it, and then this waits for the guest's end
		_, err := e.WriteConsole([]byte{key})
		typed <- err
	}()
	select {
	case err := <-typed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// agentLimit bounds the agent's part in a diagnosis.
const agentLimit = 2 * time.Second

// sysrqByAgent has the agent press a key. It may be as stuck as all else.
func (e *examiner) sysrqByAgent(ctx context.Context, key byte) error {
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	return e.Agent().Write(ctx, "/proc/sysrq-trigger", []byte{key})
}

// newRecords waits, a little, for the log to say more, and returns what that is.
func (e *examiner) newRecords(ctx context.Context, before []dmesg.Record) []dmesg.Record {
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
		now, err := e.Dmesg(ctx)
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
