package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// upModule is the handbook's first exercise, which `up` greets with.
const upModule = "hello"

func (a *app) upCommand() *cobra.Command {
	var kernel kernelFlags
	var machine machineFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "From nothing to a booted kernel: fetch, configure, build, boot, load a module, power off",
		Long: `Up does everything once: it fetches and verifies the kernel's source, gives it a pruned config,
builds it, builds the handbook's modules, packs a u-root initramfs with them, boots the result
under QEMU, loads the first module, shows what it said in the kernel log, and powers off. What is
already in the cache is not made again.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.up(cmd.Context(), &kernel, &machine) },
	}
	kernel.add(cmd)
	machine.add(cmd)
	machine.addTimeout(cmd, 5*time.Minute)
	machine.addDump(cmd, dumpAtCrash)
	return cmd
}

// upResult is a run and what the module said.
type upResult struct {
	*result
	Log []dmesg.Record `json:"log"`
}

func (a *app) up(ctx context.Context, kernel *kernelFlags, machine *machineFlags) error {
	p, err := a.newPipeline(kernel)
	if err != nil {
		return err
	}
	defer p.close()
	if machine.dryRun {
		return p.printAllLines(ctx, machine, cargo{})
	}
	img, err := p.image(ctx, cargo{})
	if err != nil {
		return err
	}
	p.close()
	p.dump = machine.dump
	s, err := p.boot(ctx, img, machine.config(img), machine.timeout, greet)
	if s == nil {
		return err
	}
	said := recordsOf(s.records, upModule)
	if a.json {
		if jsonErr := a.printJSON(upResult{&s.result, said}); jsonErr != nil {
			return jsonErr
		}
		return err
	}
	if s.result.Uname != "" {
		fmt.Fprintln(a.stdout, s.result.Uname)
	}
	for _, r := range said {
		fmt.Fprintln(a.stdout, r)
	}
	if err == nil {
		err = a.table(stageTable(s.result.Stages))
		a.msg.printf("the guest %s; its log: kaleido dmesg; a shell in it: kaleido boot", s.result.End)
	}
	return err
}

// greet loads and unloads the first module.
func greet(ctx context.Context, s *session) error {
	agent := s.guest.Agent()
	if err := agent.LoadModule(ctx, upModule); err != nil {
		return err
	}
	return agent.UnloadModule(ctx, upModule)
}

// recordsOf selects what a module said: the handbook's modules begin every
// line with their name.
func recordsOf(records []dmesg.Record, module string) []dmesg.Record {
	said := []dmesg.Record{}
	for _, r := range records {
		if strings.HasPrefix(r.Text, module+": ") {
			said = append(said, r)
		}
	}
	return said
}
