package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

func (a *app) bootCommand() *cobra.Command {
	var kernel kernelFlags
	var machine machineFlags
	var load cargo
	var isolate string
	cmd := &cobra.Command{
		Use:   "boot [flags] [-- CMD [ARG]...]",
		Short: "Boot the kernel with a shell, or run CMD in it and pass on its output and exit code",
		Long: `Boot builds what is missing and boots the kernel.

On a terminal, without CMD, you get a shell on the guest's console; leave it with exit, or end the
guest at once with Ctrl-A x. With CMD (or a script on standard input) the program is run in the
guest: its standard input, output and error are yours, and so is its exit code, unless the kernel
panicked (6), complained (7), or the time ran out (124).

The first guest of a kind is booted and saved; the next ones are restored from that, in a tenth of
the time, with a clock and random numbers of their own. --isolate boot always boots.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
				return usageError("boot: unexpected argument %q: the guest's command comes after --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if !load.empty() && !cmd.Flags().Changed("isolate") {
				isolate = isolateBoot // what is brought along changes too often to keep a guest of each
			}
			return a.boot(cmd.Context(), &kernel, &machine, load, isolate, args)
		},
	}
	kernel.add(cmd)
	machine.add(cmd)
	load.add(cmd)
	cmd.Flags().StringVar(&isolate, "isolate", isolateSnapshot, isolateHelp)
	machine.addTimeout(cmd, 0)
	machine.addDump(cmd, dumpAtCrash)
	return cmd
}

func (a *app) boot(ctx context.Context, kernel *kernelFlags, machine *machineFlags, load cargo, isolate string, argv []string) error {
	p, err := a.newPipeline(kernel)
	if err != nil {
		return err
	}
	defer p.close()
	if machine.dryRun {
		return p.printAllLines(ctx, machine, load)
	}
	if p.start, err = p.starter(isolate); err != nil {
		return err
	}
	img, err := p.image(ctx, load)
	if err != nil {
		return err
	}
	p.close()
	cfg := machine.config(img)
	p.dump = machine.dump
	work := a.command(argv)
	if len(argv) == 0 && a.interactive() {
		t := newTerminal(a)
		cfg.Console = t.console
		work = t.shell
	}
	s, err := p.boot(ctx, img, cfg, machine.timeout, work)
	if s != nil && a.json {
		if jsonErr := a.printJSON(&s.result); jsonErr != nil {
			return jsonErr
		}
	}
	return err
}

// interactive tells whether a person sits at both ends.
func (a *app) interactive() bool {
	out, ok := a.stdout.(*os.File)
	return ok && term.IsTerminal(int(a.stdin.Fd())) && term.IsTerminal(int(out.Fd()))
}

// command returns the work of running argv in the guest, or the shell with our
// standard input as its script.
func (a *app) command(argv []string) func(context.Context, *session) error {
	if len(argv) == 0 {
		argv = []string{"sh"}
	}
	return func(ctx context.Context, s *session) error {
		s.result.Command = argv
		cmd := guest.Command{Argv: argv, Env: []string{"TERM=" + os.Getenv("TERM")}, Stdout: a.guestOutput(), Stderr: a.stderr}
		if !term.IsTerminal(int(a.stdin.Fd())) {
			cmd.Stdin = a.stdin
		}
		process, err := s.guest.Agent().Start(ctx, cmd)
		if err != nil {
			return err
		}
		status, err := process.Wait(ctx)
		if err != nil {
			return err
		}
		failed := &commandError{argv, status}
		code := failed.code()
		s.result.Exit = &code
		if status.Success() {
			return nil
		}
		return failed
	}
}

// guestOutput is where the guest's standard output goes: ours, unless that is
// promised to JSON.
func (a *app) guestOutput() io.Writer {
	if a.json {
		return a.stderr
	}
	return a.stdout
}
