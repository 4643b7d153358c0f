package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/vm/detach"
)

// stopLimit is more than a guest's way down and the collecting of its log take.
const stopLimit = time.Minute

func (a *app) stopCommand() *cobra.Command {
	var limit time.Duration
	var all bool
	cmd := &cobra.Command{
		Use:   "stop [NAME]...",
		Short: "Power guests off, judge their runs, and forget their names",
		Long: `Stop powers a guest off, or kills one that does not obey, and waits until its log is collected and
its run judged: the exit code is that of the run (7 if the kernel complained). A guest that has
ended before is judged the same way. NAME can be left out when one guest runs.`,
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := a.toStop(args, all)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range names {
				errs = append(errs, a.stop(cmd.Context(), name, limit))
			}
			return errors.Join(errs...)
		},
	}
	// Not --timeout, which the settings set for what a guest does.
	periodVar(cmd.Flags(), &limit, "grace", stopLimit, "kill the kaleido that holds the guest after `TIME`")
	cmd.Flags().BoolVar(&all, "all", false, "stop all guests")
	return cmd
}

// toStop are the names of the guests to stop.
func (a *app) toStop(args []string, all bool) ([]string, error) {
	switch {
	case all && len(args) > 0:
		return nil, usageError("stop: --all and %q: want one of the two", args)
	case len(args) > 0:
		return args, nil
	case !all:
		name, err := a.guestName(nil)
		return []string{name}, err
	}
	states, err := a.guests().List()
	if err != nil {
		return nil, withCode(exitInfra, err)
	}
	var names []string
	for _, s := range states {
		names = append(names, s.Name)
	}
	return names, nil
}

// stop ends a guest, and its holder with it, and says what was found.
func (a *app) stop(ctx context.Context, name string, limit time.Duration) error {
	guests := a.guests()
	state, err := guests.Find(name)
	if err != nil {
		return usageError("%w", err)
	}
	if state.Status != detach.Ended {
		if err := a.end(ctx, state, limit); err != nil {
			return err
		}
	}
	state, verdict := a.verdictOf(ctx, state)
	if ctx.Err() != nil {
		return verdict
	}
	switch {
	case verdict == nil && state.RunDir == "":
		a.msg.printf("guest %q %s", name, state.End)
	case verdict == nil:
		a.msg.printf("guest %q %s; its log: kaleido dmesg %s", name, state.End, state.RunDir)
	}
	return errors.Join(verdict, guests.Forget(name))
}

// end ends a guest that has not ended by itself.
func (a *app) end(ctx context.Context, state detach.State, limit time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := a.askToEnd(limited, state)
	if err == nil {
		_, err = a.guests().AwaitEnd(limited, state)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	a.msg.warningf("guest %q: killing the kaleido that holds it (pid %d): %v", state.Name, state.PID, err)
	// It has the lock of the name, so the pid is its own; QEMU goes with it.
	if err := syscall.Kill(state.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return withCode(exitInfra, fmt.Errorf("kill pid %d: %w", state.PID, err))
	}
	return nil
}

// askToEnd has a guest end in order; one that only starts is interrupted.
func (a *app) askToEnd(ctx context.Context, state detach.State) error {
	if state.Status == detach.Starting {
		return syscall.Kill(state.PID, syscall.SIGINT)
	}
	_, client, err := a.guests().Dial(state.Name)
	var ended *detach.EndedError
	if errors.As(err, &ended) {
		return nil // meanwhile
	}
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Stop(ctx); !errors.Is(err, detach.ErrGuestEnded) {
		return err
	}
	return nil
}
