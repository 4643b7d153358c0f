package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/detach"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// bootFlags say what is booted, on what, and who else may use it.
type bootFlags struct {
	kernel  kernelFlags
	machine machineFlags
	load    cargo
	isolate string
	from    string // the name of a snapshot
	stay    stayFlags
}

func (a *app) bootCommand() *cobra.Command {
	var f bootFlags
	cmd := &cobra.Command{
		Use:   "boot [flags] [-- CMD [ARG]...]",
		Short: "Boot the kernel with a shell, or run CMD in it and pass on its output and exit code",
		Long: `Boot builds what is missing and boots the kernel.

On a terminal, without CMD, you get a shell on the guest's console; leave it with exit, or end the
guest at once with Ctrl-A x. With CMD (or a script on standard input) the program is run in the
guest: its standard input, output and error are yours, and so is its exit code, unless the kernel
panicked (6), complained (7), or the time ran out (124).

The first guest of a kind is booted and saved; the next ones are restored from that, in a tenth of
the time, with a clock and random numbers of their own. --isolate boot always boots;
--from-snapshot restores one that 'kaleido snapshot --name' has prepared.

With --detach the guest stays, held by a kaleido in the background, when its agent has answered.
With --name others reach into it meanwhile: exec, console, dmesg --follow, gdb --attach, ps, stop.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
				return usageError("boot: unexpected argument %q: the guest's command comes after --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd, args); err != nil {
				return err
			}
			if f.stay.detach && !f.stay.held {
				return a.leaveBehind(cmd.Context())
			}
			return a.boot(cmd.Context(), &f, args)
		},
	}
	f.kernel.add(cmd)
	f.machine.add(cmd)
	f.load.add(cmd)
	f.stay.add(cmd)
	isolateVar(cmd.Flags(), &f.isolate, isolateSnapshot)
	cmd.Flags().StringVar(&f.from, "from-snapshot", "", "restore the prepared guest `NAME`; see kaleido snapshot")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("from-snapshot", a.completeSnapshots))
	f.machine.addTimeout(cmd, 0)
	f.machine.addDump(cmd, dumpAtCrash)
	return cmd
}

// check finds what does not go together, and sets what follows from the rest.
func (f *bootFlags) check(cmd *cobra.Command, argv []string) error {
	if f.stay.detach && len(argv) > 0 {
		return usageError("boot: --detach takes no command: run it afterwards, with kaleido exec")
	}
	if f.from != "" {
		err := refuseBeside(cmd, "from-snapshot", "the snapshot's guest is as it was saved",
			"boot-timeout", "detach", "dump", "held", "name", "qemu-arg", "timeout")
		if err != nil {
			return err
		}
	}
	if f.stay.detach && f.stay.name == "" {
		f.stay.name = defaultName
	}
	if f.stay.name != "" {
		if err := detach.CheckName(f.stay.name); err != nil {
			return usageError("%w", err)
		}
	}
	if !f.load.empty() && !cmd.Flags().Changed("isolate") {
		f.isolate = isolateBoot // what is brought along changes too often to keep a guest of each
	}
	return nil
}

func (a *app) boot(ctx context.Context, f *bootFlags, argv []string) error {
	p, err := a.newPipeline(&f.kernel)
	if err != nil {
		return err
	}
	defer p.close()
	if f.machine.dryRun {
		return p.printAllLines(ctx, &f.machine, f.load)
	}
	p.start = p.starter(f.isolate)
	if f.stay.name == "" {
		_, err := a.bootHere(ctx, p, f, argv, nil)
		return err
	}
	h, ctx, err := a.hold(ctx, &f.stay)
	if err != nil {
		return err
	}
	s, err := a.bootHere(ctx, p, f, argv, h)
	h.release(s)
	return err
}

// bootHere boots and does what the person wants, held under a name unless h is nil.
func (a *app) bootHere(ctx context.Context, p *pipeline, f *bootFlags, argv []string, h *holder) (*session, error) {
	img, cfg, err := p.guestFor(ctx, f)
	if err != nil {
		return nil, err
	}
	p.close()
	p.dump = f.machine.dump
	work := a.command(argv)
	hasShell := len(argv) == 0 && a.interactive()
	switch {
	case f.stay.detach:
		work, hasShell = h.stay, false
	case hasShell:
		t := newTerminal(a)
		cfg.Console = t.console
		work = t.shell
	}
	if h != nil {
		h.image = img
		work = h.serve(hasShell, work)
	}
	s, err := p.boot(ctx, img, cfg, f.machine.timeout, work)
	if s != nil && a.json && !f.stay.detach {
		if jsonErr := a.printJSON(&s.result); jsonErr != nil {
			return s, jsonErr
		}
	}
	return s, err
}

// guestFor makes or finds what the flags ask for.
func (p *pipeline) guestFor(ctx context.Context, f *bootFlags) (*image, vm.Config, error) {
	if f.from != "" {
		return p.fromSnapshot(f.from, &f.machine)
	}
	img, err := p.image(ctx, f.load)
	if err != nil {
		return nil, vm.Config{}, err
	}
	return img, f.machine.config(img), nil
}

// interactive tells whether a person sits at both ends.
func (a *app) interactive() bool {
	return term.IsTerminal(int(a.stdin.Fd())) && a.onTerminal()
}

// onTerminal tells whether standard output is one.
func (a *app) onTerminal() bool {
	out, ok := a.stdout.(*os.File)
	return ok && term.IsTerminal(int(out.Fd()))
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
