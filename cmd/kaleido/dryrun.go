package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/vm"
)

// buildOptions are the kernel's, for building it or saying how.
func (p *pipeline) buildOptions(src *kbuild.Source) kbuild.BuildOptions {
	return kbuild.BuildOptions{
		Source:   src,
		Config:   p.flags.config,
		Cache:    p.store,
		Jobs:     p.flags.jobs,
		Ccache:   p.flags.ccache,
		Progress: p.progress.update,
		Log:      p.app.logWriter(),
	}
}

// printMakeLines prints the make lines that build the kernel.
func (p *pipeline) printMakeLines(ctx context.Context) error {
	src, err := p.source(ctx)
	if err != nil {
		return err
	}
	lines, err := p.buildOptions(src).Commands()
	if err != nil {
		return err
	}
	for _, line := range lines {
		p.printLine(line)
	}
	return nil
}

// printAllLines prints the make lines and the QEMU line of a boot. What the
// QEMU line names must exist to be named, so the image is made if it is not
// in the cache; nothing is booted.
func (p *pipeline) printAllLines(ctx context.Context, machine *machineFlags, c cargo) error {
	if err := p.printMakeLines(ctx); err != nil {
		return err
	}
	img, err := p.image(ctx, c)
	if err != nil {
		return err
	}
	cfg := machine.config(img)
	accel := vm.AccelTCG
	if cfg.Probe.KVM() == nil && cfg.Accel != vm.AccelTCG || cfg.Accel == vm.AccelKVM {
		accel = vm.AccelKVM
	}
	line, err := cfg.CommandLine(accel)
	if err != nil {
		return err
	}
	p.printLine(line)
	return nil
}

func (p *pipeline) printLine(argv []string) {
	fmt.Fprintln(p.app.stdout, shellLine(argv))
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// shellLine is a command for a shell. Assignments in front of it stay such: a
// shell takes a quoted one for a command.
func shellLine(argv []string) string {
	var env strings.Builder
	for len(argv) > 0 && assignment.MatchString(argv[0]) {
		name, value, _ := strings.Cut(argv[0], "=")
		env.WriteString(name + "=" + vm.ShellQuote([]string{value}) + " ")
		argv = argv[1:]
	}
	return env.String() + vm.ShellQuote(argv)
}
