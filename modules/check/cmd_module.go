package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Commands that load and unload modules.
var moduleCommands = map[string]*command{
	"insmod": {
		group: "Modules", args: "[-timeout DUR] module [param=value...]", summary: "load a module",
		detail: []string{
			"Calls finit_module(2) exactly once, in a process of its own, whose pid becomes $LOADER, also if it fails.",
			"If it fails stderr is the errno's name and words, as in 'ENOENT: no such file or directory', or 'killed by SIGKILL' if an oops ended the process.",
			"A module the test's folder does not have fails the step even after '!'.",
		},
		flags: withTimeout,
		build: func(o *options, args []string) (*action, error) { return buildLoad(o, args, false) },
	},
	"modprobe": {
		group: "Modules", args: "[-timeout DUR] module [param=value...]", summary: "load a module after those it needs",
		detail: []string{"Like insmod otherwise."},
		flags:  withTimeout,
		build:  func(o *options, args []string) (*action, error) { return buildLoad(o, args, true) },
	},
	"rmmod": {
		group: "Modules", args: "[-timeout DUR] module", summary: "unload a module",
		detail: []string{"Calls delete_module(2) without waiting. If it fails stderr is the errno's name and words."},
		flags:  withTimeout,
		build: func(o *options, args []string) (*action, error) {
			if len(args) != 1 {
				return nil, errUsage
			}
			return &action{do: func(r *run) (*output, error) { return r.unload(o, args[0]) }}, nil
		},
	},
}

func buildLoad(o *options, args []string, deps bool) (*action, error) {
	if len(args) < 1 {
		return nil, errUsage
	}
	for _, p := range args[1:] {
		if strings.HasPrefix(p, "-") {
			return nil, fmt.Errorf("flag %s behind the module's name", p)
		}
	}
	return &action{
		defines: []string{"LOADER"}, always: true,
		do: func(r *run) (*output, error) { return r.load(o, load{module: args[0], params: args[1:], deps: deps}) },
	}, nil
}

// known makes sure that a module is one of the test's.
func (r *run) known(module string) error {
	same := func(name string) bool { return sysName(name) == sysName(module) }
	if len(r.opts.Modules) > 0 && !slices.ContainsFunc(r.opts.Modules, same) {
		return r.mistake("no module %s here: there is %s", module, strings.Join(r.opts.Modules, ", "))
	}
	return nil
}

func (r *run) load(o *options, l load) (*output, error) {
	if err := r.known(l.module); err != nil {
		return nil, err
	}
	var err error
	l.timeout = o.timeout
	if l.pids, err = r.parameterPIDs(l.params); err != nil {
		return nil, err
	}
	var pid int
	err = r.ask(o.timeout, "load "+l.module, func(ctx context.Context) (err error) {
		pid, err = r.guest.Load(ctx, l.module, l.params, l.deps)
		return err
	})
	if pid > 0 {
		r.set("LOADER", strconv.Itoa(pid))
	}
	if err == nil && !slices.ContainsFunc(r.loads, func(old load) bool { return old.module == l.module }) {
		r.loads = append(r.loads, l)
	}
	return refused(err)
}

func (r *run) unload(o *options, module string) (*output, error) {
	if err := r.known(module); err != nil {
		return nil, err
	}
	r.patience[sysName(module)] = max(r.patience[sysName(module)], o.timeout)
	return refused(r.ask(o.timeout, "unload "+module, func(ctx context.Context) error {
		return r.guest.Unload(ctx, module)
	}))
}

// refused puts the guest's refusal on stderr, where scripts look for it.
func refused(err error) (*output, error) {
	var no *Refusal
	if errors.As(err, &no) {
		return &output{stderr: no.Cause() + "\n"}, errors.New(no.Cause())
	}
	if err != nil {
		return nil, err
	}
	return &output{}, nil
}
