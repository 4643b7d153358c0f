package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/vm/detach"
)

func (a *app) psCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ps",
		Short: "List the guests that have a name: those that run, and how others ended",
		Long: `Ps lists the guests that 'kaleido boot --name' and '--detach' started, wherever that was. One that
has ended is listed for a day, or until 'kaleido stop' or a new guest of its name. What a kaleido
that was killed left behind is cleaned up.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := a.guests().List()
			if err != nil {
				return withCode(exitInfra, err)
			}
			if a.json {
				for i := range all {
					if all[i].Status == detach.Ended {
						all[i].PID = 0 // it may be somebody else's by now
					}
				}
				return a.printJSON(append([]detach.State{}, all...))
			}
			rows := []string{"NAME\tSTATE\tFOR\tPID\tKERNEL\tRUN"}
			for _, s := range all {
				rows = append(rows, psRow(s))
			}
			return a.table(rows)
		},
	}
}

func psRow(s detach.State) string {
	pid, state := fmt.Sprint(s.PID), string(s.Status)
	if s.Status == detach.Ended {
		pid, state = "-", "ended: "+s.End
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", s.Name, state, time.Since(s.Since).Round(time.Second), pid, s.Release, s.RunDir)
}
