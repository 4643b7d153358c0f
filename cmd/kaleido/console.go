package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/detach"
)

func (a *app) consoleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "console [NAME]",
		Short: "Sit down at the serial console of a guest that runs, where there is a shell",
		Long: `Console shows what a guest's serial console has shown (the last 64 KiB) and goes on with it; what
you type goes there, where a shell waits. Any number of people may sit at one console. Leave it
with Ctrl-A d, and the guest stays; with exit, and the next one gets a new shell; end the guest
with Ctrl-A x. NAME can be left out when one guest runs.`,
		Args:              atMostOneName,
		ValidArgsFunction: a.completeNames,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.console(cmd.Context(), args) },
	}
}

// atMostOneName checks the arguments of the verbs that take a guest's name.
func atMostOneName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError("%s: want at most one guest's name, got %q", cmd.CommandPath(), args)
	}
	return nil
}

var errDetached = errors.New("left by Ctrl-A d")

func (a *app) console(ctx context.Context, names []string) error {
	state, client, err := a.dial(names)
	if err != nil {
		return err
	}
	defer client.Close()
	err = a.sitDown(ctx, client, &vm.RunDir{Path: state.RunDir})
	switch {
	case errors.Is(err, errDetached):
		a.msg.printf("guest %q goes on; back to it: kaleido console %s", state.Name, state.Name)
		return nil
	case errors.Is(err, errEscaped):
		return a.stop(ctx, state.Name, stopLimit)
	case errors.Is(err, detach.ErrGuestEnded):
		state, err := a.verdictOf(ctx, state)
		a.msg.printf("guest %q has ended: %s", state.Name, state.End)
		return err
	}
	return err
}

// sitDown joins our terminal, or standard input and output, to the console.
func (a *app) sitDown(ctx context.Context, client *detach.Client, dir *vm.RunDir) error {
	keys := io.Reader(a.stdin)
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	ready := func() {}
	if in := int(a.stdin.Fd()); a.interactive() {
		a.msg.printf("leave with Ctrl-A d, end the guest with Ctrl-A x")
		saved, err := term.MakeRaw(in)
		if err != nil {
			return err
		}
		defer term.Restore(in, saved)
		typed, w := io.Pipe()
		keys = typed
		go typeInto(w, a.stdin, leave)
		t := &terminal{app: a}
		ready = func() {
			t.resize(ctx, client, in)
			go t.follow(ctx, client, in)
		}
	}
	screen, turnOff := context.WithCancelCause(ctx)
	shown := make(chan error, 1)
	go func() { shown <- dir.FollowConsole(screen, a.stdout) }()
	_, err := client.Console(ctx, keys, []string{"TERM=" + os.Getenv("TERM")}, ready)
	turnOff(errEscaped)
	if showErr := <-shown; err == nil && !errors.Is(showErr, errEscaped) {
		err = showErr
	}
	return err
}

// typeInto passes on what a person types until they leave.
func typeInto(w *io.PipeWriter, in io.Reader, leave context.CancelCauseFunc) {
	buf := make([]byte, 4096)
	escaped := false
	for {
		n, err := in.Read(buf)
		if err != nil {
			w.CloseWithError(err)
			return
		}
		keys, end := unescape(buf[:n], &escaped, string([]byte{escapeDetach, escapeEnd}))
		switch end {
		case escapeDetach:
			leave(errDetached)
			return
		case escapeEnd:
			leave(errEscaped)
			return
		}
		if _, err := w.Write(keys); err != nil {
			return // the console is gone
		}
	}
}
