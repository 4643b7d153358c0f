package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// app is one invocation: its streams and its global flags.
type app struct {
	stdin  *os.File
	stdout io.Writer
	stderr io.Writer
	msg    *messages
	args   []string // the command line, without the program's name

	startDir string // where we were started; "" is here
	workDir  string
	cacheDir string
	shared   string // another cache, only read
	config   string
	progress string
	json     bool
	quiet    bool
	verbose  bool
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, msg: &messages{w: stderr}, args: args}
	cmd := a.rootCommand()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	code := exitCode(ctx, err)
	a.report(err, code)
	return code
}

// report prints what is left to say about err: one line, and the cure where
// one is known.
func (a *app) report(err error, code int) {
	var coded *codedError
	switch {
	case err == nil, errors.As(err, &coded) && coded.err == nil:
		return
	case code == exitInterrupted:
		a.msg.errorf("interrupted")
		return
	}
	a.msg.errorf("%v", err)
	var config *kbuild.ConfigError
	if errors.As(err, &config) {
		for _, more := range config.Details()[min(1, len(config.Details())):] {
			a.msg.errorf("%s", more)
		}
	}
	if hint := hintFor(err); hint != "" {
		a.msg.hintf("%s", hint)
	}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "kaleido",
		Short: "Build a Linux kernel and its modules, boot them under QEMU, judge what the kernel says",
		Long: `Kaleido takes you from nothing to a kernel you can play with.

  kaleido up                fetch, configure, build and boot Linux, with the handbook's modules on board
  kaleido boot              the same kernel again, with a shell in it
  kaleido boot -- CMD       run CMD in the guest; its output and exit code come back
  kaleido boot --detach     leave a guest running, for exec, console, dmesg --follow, ps and stop
  kaleido test hello        run a module's tests, each in a pristine guest; your own module's: kaleido test ./DIR
  kaleido gdb crash         gdb on the kernel, with a module's symbols
  kaleido module build DIR  build your own module against it
  kaleido dmesg             the kernel log of the last run
  kaleido parse LOG         the verdict on any saved kernel log
  kaleido doctor            what is missing on this machine, and how to install it

Exit codes: 0 passed, 1 failed, 2 usage or config, 3 fetch or verify, 4 build, 5 could not run,
6 kernel panic, 7 the kernel complained though the command passed, 124 timeout, 130 interrupted.

Every flag can be set as KALEIDO_<FLAG> in the environment; those that describe kernel, build and
guest also in a kaleido.toml, found upward from the working directory (its keys are in README). The
command line wins over the environment, the environment over the file.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              noArgs,
		PersistentPreRunE: a.prepare,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if strings.Contains(cmd.Use, "-- CMD") && !errors.As(err, new(*pflag.InvalidValueError)) {
			err = fmt.Errorf("%w; the command for the guest comes after --", err)
		}
		return usageError("%w (see '%s --help')", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVarP(&a.workDir, "directory", "C", "", "work in `DIR`")
	flags.StringVar(&a.shared, "shared-cache", "", "find also what the cache `DIR` has, without writing to it")
	flags.StringVar(&a.cacheDir, "cache", "", "keep sources, kernels and archives in `DIR` (default $XDG_CACHE_HOME/kaleido)")
	flags.StringVar(&a.config, "config", "", "read `FILE` instead of the kaleido.toml found upward from here")
	choiceVar(flags, &a.progress, "progress", "auto", "progress as bars or lines: auto, bar, plain, none", "auto", "bar", "plain", "none")
	flags.BoolVar(&a.json, "json", false, "print the result as JSON on standard output")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "say only warnings and errors")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "show the commands that are run and what they print")
	root.AddCommand(
		a.upCommand(), a.bootCommand(), a.testCommand(), a.gdbCommand(), a.mutantsCommand(), a.fetchCommand(), a.configCommand(), a.buildCommand(), a.moduleCommand(),
		a.execCommand(), a.consoleCommand(), a.psCommand(), a.stopCommand(), a.dmesgCommand(), a.parseCommand(), a.kernelCommand(), a.snapshotCommand(), a.cacheCommand(), a.doctorCommand(), a.versionCommand(),
	)
	return root
}

// prepare runs before every command: directory, settings, checks of the
// global flags.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	if err := applyEnvironment(cmd, os.LookupEnv); err != nil {
		return err
	}
	if a.workDir != "" {
		var err error
		if a.startDir, err = os.Getwd(); err != nil {
			return withCode(exitInfra, err)
		}
		if err := os.Chdir(a.workDir); err != nil {
			return usageError("%w", err)
		}
	}
	if err := applyFile(cmd, a.config); err != nil {
		return err
	}
	a.msg.quiet = a.quiet
	if f := cmd.Flags().Lookup("json"); f.Changed && f.Annotations[fromEnvironment] == nil && slices.Contains(plain, cmd.CommandPath()) {
		return usageError("%s has no --json", cmd.CommandPath())
	}
	return nil
}

func (a *app) openCache() (*cache.Cache, error) {
	dir := a.cacheDir
	if dir == "" {
		var err error
		if dir, err = cache.DefaultDir(os.Getenv); err != nil {
			return nil, usageError("%w", err)
		}
	}
	c, err := cache.Open(dir)
	if err != nil {
		return nil, withCode(exitInfra, err)
	}
	if err := lendCaches(c.Dir()); err != nil {
		return nil, err
	}
	if a.shared == "" {
		return c, nil
	}
	if _, err := os.ReadDir(a.shared); err != nil {
		return nil, usageError("--shared-cache: %w", err)
	}
	shared, err := cache.Open(a.shared)
	if err != nil {
		return nil, withCode(exitInfra, err)
	}
	return c.WithShared(shared), nil
}

// lendCaches gives ccache and go, which keep theirs below the home directory, a place in our cache where there
// is no home or nobody can write to it, as in many a container.
func lendCaches(dir string) error {
	home, homeErr := os.UserHomeDir()
	caches, cachesErr := os.UserCacheDir()
	for _, tool := range []struct {
		variable, place string
		err             error
	}{
		{"CCACHE_DIR", filepath.Join(caches, "ccache"), cachesErr},
		{"GOCACHE", filepath.Join(caches, "go-build"), cachesErr},
		{"GOPATH", filepath.Join(home, "go"), homeErr},
	} {
		if os.Getenv(tool.variable) != "" || tool.err == nil && creatable(tool.place) {
			continue
		}
		if err := os.Setenv(tool.variable, filepath.Join(dir, "tools", strings.ToLower(tool.variable))); err != nil {
			return err
		}
	}
	return nil
}

// creatable tells whether a directory is there, or could be made, and we can write to it.
func creatable(dir string) bool {
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if !errors.Is(err, fs.ErrNotExist) {
			return err == nil
		}
		dir = filepath.Dir(dir)
	}
}

// bars tells whether progress is drawn on a terminal.
func (a *app) bars() bool {
	switch a.progress {
	case "auto":
		f, ok := a.stderr.(*os.File)
		return ok && !a.quiet && os.Getenv("CI") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
	case "bar":
		return true
	}
	return false
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		cmd.SuggestionsMinimumDistance = 2
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			return usageError("unknown command %q for %q: did you mean %s?", args[0], cmd.CommandPath(), strings.Join(similar, " or "))
		}
		return usageError("unknown command %q for %q (see '%s --help')", args[0], cmd.CommandPath(), cmd.CommandPath())
	}
	return usageError("%s takes no argument, got %q", cmd.CommandPath(), args[0])
}

// plain are the commands whose output is a word or a line, the guest's or gdb's.
var plain = []string{
	"kaleido cache dir", "kaleido cache key", "kaleido config check", "kaleido config show", "kaleido console", "kaleido exec",
	"kaleido gdb", "kaleido snapshot rm", "kaleido kernel rm", "kaleido stop",
}

// someArgs is cobra.MinimumNArgs(1) with an error that names what is wanted.
func someArgs(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return nil
		}
		return usageError("%s: want at least one %s: usage: %s", cmd.CommandPath(), name, cmd.UseLine())
	}
}

// exactArgs is cobra.ExactArgs with an error that names what is wanted.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usageError("%s: want %d argument(s), got %d: usage: %s", cmd.CommandPath(), len(names), len(args), cmd.UseLine())
	}
}
