package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/detach"
	"github.com/linux-kaleidoscope/kaleido/vm/gdb"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// gdbFlags are what `gdb` can be told.
type gdbFlags struct {
	kernel  kernelFlags
	machine machineFlags
	load    cargo
	isolate string
	core    string
	attach  string // the name of a guest that runs
	program string
}

func (a *app) gdbCommand() *cobra.Command {
	var f gdbFlags
	cmd := &cobra.Command{
		Use:   "gdb [flags] [EXERCISE]... [-- GDB ARG...]",
		Short: "Debug the kernel and its modules with gdb",
		Long: `Gdb starts a guest and gdb on it, with the kernel's symbols, its lx- commands (lx-dmesg, lx-ps...), and
the symbols of each module at their true addresses, also of those that are loaded later.

The guest stands before its first instruction: set breakpoints, then continue. When it is up, the
modules of the exercises named, and those brought with --module, are loaded. A breakpoint in a module
that is not there yet waits for it:

  kaleido gdb crash -- -ex 'break crash_init' -ex continue

With --isolate snapshot a booted guest is restored instead, in a fraction of the time, and stands still. With --core a dump of
memory is looked at, as 'boot --dump' and 'test --dump' keep it; each of its threads is a processor.

With --attach gdb goes to a guest that 'kaleido boot --name' started, which stands still meanwhile, and
runs on when gdb has ended, whatever gdb left behind.

Ctrl-C is gdb's: it stops the guest. When gdb ends, so does a guest of its own. The exit code is gdb's.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var own []string
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, own = args[:dash], args[dash:]
			}
			if f.attach != "" {
				if err := refuseBeside(cmd, "attach", "the guest is there already", "gdb"); err != nil {
					return err
				}
			}
			if !cmd.Flags().Changed("accel") {
				f.machine.accel = string(vm.AccelTCG) // breakpoints anywhere, at any time
			}
			return a.gdb(cmd.Context(), &f, args, own)
		},
	}
	f.kernel.add(cmd)
	f.machine.add(cmd)
	f.load.add(cmd)
	flags := cmd.Flags()
	isolateVar(flags, &f.isolate, isolateBoot)
	flags.StringVar(&f.core, "core", "", "look at the dump `FILE` of a guest's memory; nothing is booted")
	flags.StringVar(&f.attach, "attach", "", "debug the guest `NAME` that runs already; see boot --name")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("attach", a.completeNames))
	flags.StringVar(&f.program, "gdb", "gdb", "the gdb `PROGRAM`")
	return cmd
}

func (a *app) gdb(ctx context.Context, f *gdbFlags, exercises, own []string) error {
	program, err := exec.LookPath(f.program)
	if err != nil {
		return withCode(exitInfra, fmt.Errorf("gdb: %w: %s", err, aptInstall("gdb")))
	}
	if f.core != "" {
		if _, err := os.Stat(f.core); err != nil {
			return usageError("--core: %w", err)
		}
	}
	d := &debugging{app: a, flags: f, session: gdb.Session{GDB: program, Core: f.core, Args: own}}
	if f.attach != "" {
		return d.runAttached(ctx, exercises)
	}
	p, err := a.newPipeline(&f.kernel)
	if err != nil {
		return err
	}
	defer p.close()
	p.start = p.starter(f.isolate)
	if f.isolate == isolateBoot {
		p.start = vm.StartHalted
	}
	d.names, err = p.toLoad(ctx, exercises, f.load.modules)
	if err != nil {
		return err
	}
	img, err := p.image(ctx, f.load)
	if err != nil {
		return err
	}
	p.close()
	d.session.Symbols, d.session.Booted = *img.symbols(), f.isolate == isolateSnapshot
	if f.machine.dryRun {
		return d.printLines(p, f.machine.config(img))
	}
	if f.core != "" {
		return d.runGDB(ctx)
	}
	return d.run(ctx, p, f.machine.config(img))
}

// toLoad returns the names of the modules that the guest is to load: those of the exercises, and the user's own.
func (p *pipeline) toLoad(ctx context.Context, exercises, own []string) ([]string, error) {
	if len(exercises)+len(own) == 0 {
		return nil, nil
	}
	k, err := p.kernel(ctx)
	if err != nil {
		return nil, err
	}
	built, err := p.ownModules(ctx, k, own)
	if err == nil && len(exercises) > 0 {
		b, buildErr := p.modules(ctx, k, exercises...)
		built, err = append(built, b), buildErr
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, b := range built {
		names = append(names, b.Names()...)
	}
	return names, nil
}

// debugging is one guest and gdb on it.
type debugging struct {
	app     *app
	flags   *gdbFlags
	names   []string // of the modules to load
	session gdb.Session
}

// symbols say where gdb finds those of the kernel and the modules.
func (img *image) symbols() *gdb.Symbols {
	s := &gdb.Symbols{Vmlinux: img.kernel.Vmlinux(), Source: img.kernel.Source, Modules: map[string]string{}}
	for _, m := range img.modules {
		if _, known := s.Modules[m.Name]; known {
			continue // the user's own come first
		}
		s.Modules[m.Name] = absolute(m.Debug) // gdb may be told to go elsewhere
		for _, dir := range m.SourceDirs() {
			if dir = absolute(dir); !slices.Contains(s.Dirs, dir) {
				s.Dirs = append(s.Dirs, dir)
			}
		}
	}
	return s
}

// absolute is a path from the root; one that cannot be made such is left as it is.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// printLines prints the lines of QEMU, by hand, and of gdb.
func (d *debugging) printLines(p *pipeline, cfg vm.Config) error {
	d.session.Socket = "gdb.sock"
	cfg.Args = append(append(slices.Clone(cfg.Args), "-S"), gdb.Option(d.session.Socket)...)
	line, err := cfg.CommandLine(cfg.Accel)
	if err != nil {
		return err
	}
	if d.session.Core == "" {
		p.printLine(line)
	}
	p.printLine(d.session.Argv("symbols.py"))
	return nil
}

// run starts the guest, gdb on it, and ends the guest with gdb.
func (d *debugging) run(ctx context.Context, p *pipeline, cfg vm.Config) error {
	dir, err := vm.NewRunDir(".")
	if err != nil {
		return withCode(exitInfra, err)
	}
	cfg.Dir = dir.Path
	cfg.Note = p.note
	guest, err := p.start(ctx, cfg)
	if err != nil {
		return withCode(exitInfra, err)
	}
	defer guest.Close()
	d.app.msg.printf("the guest's console is %s", dir.File(vm.ConsoleLog))
	err = d.debug(ctx, guest.Debug, func(ctx context.Context) error {
		if d.flags.isolate == isolateBoot {
			return guest.AwaitAgent(ctx)
		}
		return nil
	}, func(ctx context.Context, name string) error {
		_, err := guest.Agent().Modprobe(ctx, name)
		return err
	})
	return errors.Join(err, d.keepLog(guest, dir))
}

// runAttached puts gdb on a guest that another kaleido holds.
func (d *debugging) runAttached(ctx context.Context, names []string) error {
	state, client, err := d.app.dial([]string{d.flags.attach})
	if err != nil {
		return err
	}
	defer client.Close()
	if state.Symbols == nil {
		return usageError("guest %q is held by a kaleido that does not know gdb --attach (pid %d): start it anew", state.Name, state.PID)
	}
	d.names = names
	d.session.Symbols, d.session.Booted = *state.Symbols, true
	for _, name := range names {
		if d.session.Modules[name] == "" {
			return usageError("gdb: no module %q is aboard guest %q", name, state.Name)
		}
	}
	up := func(context.Context) error { return nil }
	return d.debug(ctx, client.Debug, up, func(ctx context.Context, name string) error {
		var words bytes.Buffer
		status, err := client.Exec(ctx, guest.Command{Argv: []string{"modprobe", name}, Stderr: &words})
		if err == nil && !status.Success() {
			err = errors.New(strings.TrimSpace(words.String()))
		}
		return err
	})
}

// debug runs gdb on a guest that attach lets it at, and meanwhile has modprobe load the modules, once up says
// that the guest is.
func (d *debugging) debug(ctx context.Context, attach func(context.Context, func(socket string)) error, up func(context.Context) error,
	modprobe func(context.Context, string) error) error {
	live, end := context.WithCancel(ctx)
	defer end()
	socket, attached := make(chan string, 1), make(chan error, 1)
	go func() { attached <- attach(live, func(name string) { socket <- name }) }()
	select {
	case d.session.Socket = <-socket:
	case err := <-attached:
		return withCode(exitInfra, err)
	}
	var loading sync.WaitGroup
	loading.Go(func() {
		if up(live) != nil {
			return // the guest ended, or gdb: there is nothing to load any more
		}
		for _, name := range d.names {
			if err := modprobe(live, name); err != nil && live.Err() == nil {
				d.app.msg.warningf("load %s: %v", name, err)
			}
		}
	})
	err := d.runGDB(ctx)
	end()
	loading.Wait()
	attachErr := <-attached
	if errors.Is(attachErr, context.Canceled) || errors.Is(attachErr, detach.ErrGuestEnded) { // gdb has noticed
		attachErr = nil
	}
	return errors.Join(err, withCode(exitInfra, attachErr))
}

// keepLog writes the kernel log into the run's directory.
func (d *debugging) keepLog(guest *vm.Instance, dir *vm.RunDir) error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	records, err := guest.Dmesg(ctx)
	return withCode(exitInfra, errors.Join(err, dir.WriteDmesg(records)))
}

// runGDB runs gdb until it ends. It is in our process group, so that Ctrl-Z stops both of us and fg goes on; of a
// Ctrl-C gdb has the use and we have none.
func (d *debugging) runGDB(ctx context.Context) error {
	script, err := d.writeScript()
	if err != nil {
		return withCode(exitInfra, err)
	}
	defer os.Remove(script)
	if in := int(d.app.stdin.Fd()); term.IsTerminal(in) {
		signal.Ignore(os.Interrupt)
		if saved, err := term.GetState(in); err == nil {
			defer term.Restore(in, saved) // a gdb that was ended may leave it raw
		}
	}
	argv := d.session.Argv(script)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = d.app.stdin, d.app.stdout, d.app.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return withCode(exitInterrupted, errors.New("interrupted"))
	case errors.As(err, &failed) && failed.ExitCode() > 0:
		return &codedError{code: failed.ExitCode()} // it has said why
	}
	return withCode(exitInfra, err)
}

// writeScript puts the script for gdb where gdb finds it.
func (d *debugging) writeScript() (string, error) {
	text, err := d.session.Script()
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp("", "kaleido-gdb-*.py")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	return f.Name(), errors.Join(err, f.Close())
}
