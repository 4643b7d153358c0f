package guest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tools are the programs for people that the agent is too, by their names.
var tools = map[string]func(flags *flag.FlagSet, args []string) error{
	"insmod":   insmodTool,
	"modprobe": modprobeTool,
	"rmmod":    rmmodTool,
}

// RunTool is insmod, modprobe or rmmod, if args begins with one of these names, and returns its exit
// code. An oops in a module ends the thread that was loading it, and no more of a program; one of
// several threads, as those of u-root are, then waits for ever for what the dead one was to return.
// These load in a child that has one thread, and tell how that ended.
func RunTool(args []string) (code int, ok bool) {
	if len(args) == 0 {
		return 0, false
	}
	name := filepath.Base(args[0])
	tool, ok := tools[name]
	if !ok {
		return 0, false
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(os.Stderr)
	err := tool(flags, args[1:])
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0, true
	case errors.Is(err, errToolUsage):
		flags.Usage()
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	return 1, true
}

var errToolUsage = errors.New("usage")

// toolArgs parses the flags; at least one argument must follow.
func toolArgs(flags *flag.FlagSet, synopsis string, args []string) ([]string, error) {
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: %s %s\n", flags.Name(), synopsis)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = errToolUsage
		}
		return nil, err
	}
	if flags.NArg() == 0 {
		return nil, errToolUsage
	}
	return flags.Args(), nil
}

func insmodTool(flags *flag.FlagSet, args []string) error {
	args, err := toolArgs(flags, "FILE [PARAM=VALUE]...", args)
	if err != nil {
		return err
	}
	return named(args[0], insertFile(args[0], strings.Join(args[1:], " "), insert))
}

func modprobeTool(flags *flag.FlagSet, args []string) error {
	all := flags.Bool("a", false, "load all modules that are named")
	remove := flags.Bool("r", false, "unload")
	args, err := toolArgs(flags, "[-a|-r] MODULE [PARAM=VALUE]...", args)
	switch {
	case err != nil:
		return err
	case *remove:
		return eachNamed(args, unloadTool)
	case *all:
		return eachNamed(args, func(name string) error { return probe(name, "") })
	}
	return named(args[0], probe(args[0], strings.Join(args[1:], " ")))
}

func rmmodTool(flags *flag.FlagSet, args []string) error {
	args, err := toolArgs(flags, "MODULE...", args)
	if err != nil {
		return err
	}
	return eachNamed(args, unloadTool)
}

// eachNamed goes on after an error.
func eachNamed(names []string, do func(name string) error) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, named(name, do(name)))
	}
	return errors.Join(errs...)
}

func named(name string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// probe loads a module after those it needs; one that is loaded already will do.
func probe(name, params string) error {
	files, err := modulesDep(modulesFolder(), name)
	if err != nil {
		return err
	}
	for i, file := range files {
		of := ""
		if i == len(files)-1 {
			of = params
		}
		if err := insertFile(file, of, insert); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

func insert(call systemCall, file uintptr) error { return callInChild("insmod", call, file) }

func remove(call systemCall, file uintptr) error { return callInChild("rmmod", call, file) }

// unloadTool unloads the module with that name.
func unloadTool(name string) error { return removeModule(name, remove) }

// callInChild makes a system call in a child whose name is comm, and returns its errno.
func callInChild(comm string, call systemCall, file uintptr) error {
	cc, err := newChildCall(comm, call, file)
	if err != nil {
		return err
	}
	defer cc.close()
	pid, err := cc.fork()
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return errors.Join(err, cc.end(status))
		}
	}
}
