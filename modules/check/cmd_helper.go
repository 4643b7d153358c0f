package check

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Commands about programs in the guest.
var helperCommands = map[string]*command{
	"exec": {
		group: "Programs", args: "[-timeout DUR] [-stdin TEXT] [-fails N] program [args...]", summary: "run a program in the guest",
		detail: []string{
			"Succeeds if it exits with status 0, or N. What it prints is for stdout and stderr.",
			"A program that does not exist fails the step even after '!'. There is no background: see start.",
		},
		flags: flags(withTimeout, func(o *options, set *flag.FlagSet) {
			set.StringVar(&o.stdin, "stdin", "", "")
			set.IntVar(&o.fails, "fails", -1, "")
		}),
		build: func(o *options, args []string) (*action, error) {
			if len(args) == 0 || args[0] == "" || args[len(args)-1] == "&" {
				return nil, errUsage
			}
			return &action{do: func(r *run) (*output, error) { return r.exec(o, args) }}, nil
		},
	},
	"start": {
		group: "Programs", args: "[-as NAME] program [args...]", summary: "start a program in the background",
		detail: []string{
			"Its pid is $PID, and $NAME_PID if it has a name. output, input, kill, wait and alive act on it; without a name on the last one that was started without one.",
			"It should print whole lines, flushed at once, and say when it is ready.",
		},
		noNegate: "whether a program started can be seen by what it does",
		flags:    flags(withTimeout, withName), build: buildStart,
	},
	"output": {
		group: "Programs", args: "[-timeout DUR] [-as NAME] 're'", summary: "wait for a line a program prints",
		detail:   []string{"The line must be behind the one the last output command found. Named groups become variables. It fails at once if the program has ended."},
		noNegate: "what has not come may still come; end the program and use wait",
		flags:    flags(withTimeout, withName), regexp: at(0), build: buildOutput,
	},
	"input": {
		group: "Programs", args: "[-timeout DUR] [-as NAME] [-close] TEXT...", summary: "send a line to a program's standard input",
		detail:   []string{"With -close that is the last it reads: the end of the input comes behind the line, or at once if there is no text."},
		noNegate: "the line may be read later",
		flags:    flags(withTimeout, withName, func(o *options, set *flag.FlagSet) { set.BoolVar(&o.close, "close", false, "") }),
		build: func(o *options, args []string) (*action, error) {
			return needs(o.as, func(r *run, h *helper) (*output, error) { return nil, r.input(o, h, args) }), nil
		},
	},
	"kill": {
		group: "Programs", args: "SIGNAL [NAME]", summary: "send a signal to a program",
		detail: []string{"The signal is a name without SIG, or a number. It fails if the program has ended."},
		build:  buildKill,
	},
	"wait": {
		group: "Programs", args: "[-timeout DUR] [NAME] exit N | signal SIGNAL", summary: "wait for a program's end",
		detail:   []string{"Compares how it ended."},
		noNegate: "say how it ends", flags: withTimeout, build: buildWait,
	},
	"alive": {
		group: "Programs", args: "[-timeout DUR] [NAME]", summary: "a program is still running",
		detail: []string{"Sends signal 0 and reads nothing in /proc, where a lock that is held may block. With '!' it waits for the program's end."},
		flags:  withTimeout,
		build: func(o *options, args []string) (*action, error) {
			name, rest := helperArg(args, 0)
			if len(rest) != 0 {
				return nil, errUsage
			}
			return needs(name, func(r *run, h *helper) (*output, error) { return nil, r.alive(o, h) }), nil
		},
	},
	"stdout": {
		group: "Programs", args: "[-list] [-count N] 're'", summary: "match what the last exec, read or dmesg printed",
		detail:   []string{"Named groups become variables: of the first match, or with -list of all, with commas between."},
		afterEnd: true, flags: withMatch, regexp: at(0),
		build: buildMatch("stdout", func(r *run) string { return r.state.Stdout() }),
	},
	"stderr": {
		group: "Programs", args: "[-list] [-count N] 're'", summary: "match what the last command printed as error, an errno's name for one",
		detail: []string{"As stdout."},
		flags:  withMatch, regexp: at(0),
		build: buildMatch("stderr", func(r *run) string { return r.state.Stderr() }),
	},
}

// needs makes an action on a helper that was started.
func needs(name string, do func(*run, *helper) (*output, error)) *action {
	return &action{helper: name, needs: true, do: func(r *run) (*output, error) {
		h := r.helpers[name]
		if h == nil { // its start was guarded by a condition
			return nil, r.mistake("no running %s", helperName(name))
		}
		return do(r, h)
	}}
}

// helperArg takes a helper's name off the arguments if there are more than a command needs.
func helperArg(args []string, want int) (name string, rest []string) {
	if len(args) == want+1 {
		return args[0], args[1:]
	}
	return "", args
}

// input sends a line, and the end of the input if it is to be closed.
func (r *run) input(o *options, h *helper, words []string) error {
	if h.closed {
		return &mismatch{"its input is open", "an earlier step closed it"}
	}
	if h.closed = o.close; h.closed {
		defer h.stdin.Close()
		if len(words) == 0 {
			return nil
		}
	}
	return r.ask(o.timeout, "input of "+h.argv[0], func(ctx context.Context) error {
		err := h.write(ctx, strings.Join(words, " ")+"\n")
		if err != nil && ctx.Err() == nil {
			return &mismatch{"it reads a line", h.String()}
		}
		return err
	})
}

func (r *run) exec(o *options, argv []string) (*output, error) {
	var stdout, stderr bound
	p := Program{Argv: argv, Stdout: &stdout, Stderr: &stderr}
	if o.stdin != "" {
		p.Stdin = strings.NewReader(o.stdin + "\n")
	}
	var status ExitStatus
	err := r.ask(o.timeout, strings.Join(argv, " "), func(ctx context.Context) error {
		proc, err := r.guest.Start(ctx, p)
		if err != nil {
			return err
		}
		status, err = proc.Wait(ctx)
		return err
	})
	if no := new(Refusal); errors.As(err, &no) {
		return nil, r.mistake("%s: %s", argv[0], no.Cause())
	}
	if err != nil {
		return nil, err
	}
	out := &output{stdout.String(), stderr.String()}
	if want := max(o.fails, 0); status != (ExitStatus{Code: want}) {
		seen := status.String()
		if out.stderr != "" {
			seen += "\nstderr: " + out.stderr
		}
		return out, &mismatch{fmt.Sprintf("exit %d", want), seen}
	}
	return out, nil
}

func buildStart(o *options, args []string) (*action, error) {
	if len(args) == 0 || args[0] == "" || o.as != "" && !nameRE.MatchString(o.as) {
		return nil, errUsage
	}
	a := &action{helper: o.as, starts: true, defines: []string{"PID"}}
	if o.as != "" {
		a.defines = append(a.defines, o.as+"_PID")
	}
	a.do = func(r *run) (*output, error) {
		err := r.ask(o.timeout, "start "+args[0], func(ctx context.Context) error {
			_, err := r.startHelper(ctx, o.as, args)
			return err
		})
		if no := new(Refusal); errors.As(err, &no) {
			return nil, r.mistake("%s: %s", args[0], no.Cause())
		}
		if err == nil {
			for _, name := range a.defines {
				r.set(name, strconv.Itoa(r.helpers[o.as].proc.PID()))
			}
		}
		return nil, err
	}
	return a, nil
}

func buildOutput(o *options, args []string) (*action, error) {
	if len(args) != 1 {
		return nil, errUsage
	}
	re, err := pattern(args[0])
	if err != nil {
		return nil, err
	}
	a := needs(o.as, func(r *run, h *helper) (*output, error) {
		ctx, cancel := r.bounded(o.timeout)
		defer cancel()
		line, err := h.out.find(ctx, re.MatchString)
		switch {
		case err == nil:
			r.capture(re, [][]string{re.FindStringSubmatch(line)}, false)
			return &output{stdout: line + "\n"}, nil
		case errors.Is(err, errNoMore):
			if _, err := h.wait(ctx); ctx.Err() != nil && err != nil {
				return nil, r.late(ctx, o, "end of "+h.argv[0], err, nil)
			}
		}
		want := "a new line that matches " + written(re)
		return nil, r.late(ctx, o, want, err, func() error { return &mismatch{want, h.String() + "; its last lines:\n" + h.out.last()} })
	})
	a.defines = groups(re)
	return a, nil
}

// late says why something did not come: it just did not, if the guest is well.
func (r *run) late(ctx context.Context, o *options, what string, err error, otherwise func() error) error {
	switch {
	case errors.Is(err, errNoMore):
	case !errors.Is(err, errStepTime):
		r.abort = r.explain(ctx, o.timeout, what, err)
		return r.abort
	default:
		if _, err := r.fence(); err != nil {
			return err
		}
	}
	if otherwise == nil {
		return &mismatch{what, "nothing"}
	}
	return otherwise()
}

func buildKill(_ *options, args []string) (*action, error) {
	if len(args) == 0 || len(args) > 2 {
		return nil, errUsage
	}
	sig, err := parseSignal(args[0])
	if err != nil {
		return nil, err
	}
	name := ""
	if len(args) == 2 {
		name = args[1]
	}
	return needs(name, func(r *run, h *helper) (*output, error) {
		return refused(r.ask(0, "signal "+args[0], func(ctx context.Context) error { return h.proc.Signal(ctx, sig) }))
	}), nil
}

// parseSignal takes KILL, SIGKILL or 9.
func parseSignal(word string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(word); err == nil && n >= 0 && n <= 64 {
		return syscall.Signal(n), nil
	}
	if sig := unix.SignalNum("SIG" + strings.TrimPrefix(word, "SIG")); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("no signal %q", word)
}

func buildWait(o *options, args []string) (*action, error) {
	name, rest := helperArg(args, 2)
	if len(rest) != 2 {
		return nil, errUsage
	}
	var want ExitStatus
	var err error
	switch rest[0] {
	case "exit":
		want.Code, err = strconv.Atoi(rest[1])
	case "signal":
		want.Signal, err = parseSignal(rest[1])
	default:
		return nil, errUsage
	}
	if err != nil {
		return nil, err
	}
	return needs(name, func(r *run, h *helper) (*output, error) {
		ctx, cancel := r.bounded(o.timeout)
		defer cancel()
		status, err := h.wait(ctx)
		if err != nil {
			what := "the end of " + h.argv[0]
			return nil, r.late(ctx, o, what, err, func() error { return &mismatch{what + " by " + want.String(), h.String()} })
		}
		if status != want {
			return nil, &mismatch{want.String(), h.String()}
		}
		return nil, nil
	}), nil
}

func (r *run) alive(o *options, h *helper) error {
	if r.step.negated {
		ctx, cancel := r.bounded(o.timeout)
		defer cancel()
		if _, err := h.wait(ctx); err != nil {
			// Not ended: success, which the "!" makes a failure.
			return r.late(ctx, o, "the end of "+h.argv[0], err, func() error { return nil })
		}
		return errors.New(h.String())
	}
	if h.ended() {
		return &mismatch{"it is running", h.String()}
	}
	_, err := refused(r.ask(o.timeout, "signal 0", func(ctx context.Context) error { return h.proc.Signal(ctx, 0) }))
	return err
}

func buildMatch(what string, text func(*run) string) func(*options, []string) (*action, error) {
	return func(o *options, args []string) (*action, error) {
		if len(args) != 1 {
			return nil, errUsage
		}
		re, err := pattern(args[0])
		if err != nil {
			return nil, err
		}
		return &action{defines: groups(re), do: func(r *run) (*output, error) {
			return nil, r.matchText(o, re, what, text(r))
		}}, nil
	}
}
