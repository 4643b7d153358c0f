package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/linux-kaleidoscope/kaleido/vm/detach"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

func (a *app) execCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec [NAME] -- CMD [ARG]...",
		Short: "Run CMD in a guest that runs; pass on its output and exit code",
		Long: `Exec runs a program in a guest that 'kaleido boot --name' started. Its standard input, output and
error are yours, and so is its exit code (128 and the signal's number if one ended it). Ctrl-C ends
the program and not the guest. NAME can be left out when one guest runs.

When the guest's life ends meanwhile, the exit code is that of its run: 6 for a panic.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case dash < 0 || dash == len(args):
				return usageError("exec: no command: it comes after --, as in: kaleido exec NAME -- uname -a")
			case dash > 1:
				return usageError("exec: want one guest's name before --, got %q", args[:dash])
			}
			return nil
		},
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			return a.exec(cmd.Context(), args[:dash], args[dash:])
		},
	}
}

func (a *app) exec(ctx context.Context, names, argv []string) error {
	state, client, err := a.dial(names)
	if err != nil {
		return err
	}
	defer client.Close()
	cmd := guest.Command{Argv: argv, Env: []string{"TERM=" + os.Getenv("TERM")}, Stdout: a.stdout, Stderr: a.stderr}
	if !term.IsTerminal(int(a.stdin.Fd())) {
		cmd.Stdin = a.stdin
	}
	status, err := client.Exec(ctx, cmd)
	if errors.Is(err, detach.ErrGuestEnded) {
		state, endErr := a.verdictOf(ctx, state)
		if endErr == nil {
			endErr = withCode(exitFailed, &detach.EndedError{State: state})
		}
		return endErr
	}
	if code := noProgram(err); code != 0 {
		return withCode(code, err)
	}
	if err != nil {
		return err
	}
	if status.Success() {
		return nil
	}
	return &codedError{code: (&commandError{argv, status}).code()} // it has said what it had to say
}
