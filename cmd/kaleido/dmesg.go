package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/modules/report"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/detach"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

func (a *app) dmesgCommand() *cobra.Command {
	var levels string
	var follow bool
	cmd := &cobra.Command{
		Use:   "dmesg [RUN|NAME]",
		Short: "Print the kernel log of the last run here, of the run in the directory RUN, or of the guest NAME",
		Long: `Dmesg prints the kernel log of a run: what the guest's /dev/kmsg, its console and its memory
said, merged. --json prints one record a line: seq, ts_ns, level, facility, caller, text, dev.

With --follow it goes on with each record as it comes, until the run ends or Ctrl-C. Nobody need be
asked for that: any run can be followed, also a boot in another terminal. Where nothing has been run
here, the only guest that runs is meant.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("dmesg: want at most one run directory or guest, got %d", len(args))
			}
			return nil
		},
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			filter := dmesg.AllLevels
			if levels != "" {
				var err error
				if filter, err = dmesg.ParseLevels(levels); err != nil {
					return usageError("--level: %w", err)
				}
			}
			dir, err := a.runDirectory(args)
			if err != nil {
				return err
			}
			if follow {
				return a.followDmesg(cmd.Context(), dir, filter)
			}
			records, err := dir.ReadDmesg()
			if errors.Is(err, fs.ErrNotExist) {
				records, err = readTestDmesg(dir, err)
			}
			if err != nil {
				return usageError("%w", err)
			}
			return a.printRecords(records, filter)
		},
	}
	cmd.Flags().StringVarP(&levels, "level", "l", "", "only these levels: `LIST` such as err,warn or warn+ (warn and worse)")
	cmd.Flags().BoolVarP(&follow, "follow", "w", false, "go on with what the kernel says, until the run ends")
	return cmd
}

// followDmesg prints the records of a run as they come.
func (a *app) followDmesg(ctx context.Context, dir *vm.RunDir, levels dmesg.Levels) error {
	err := dir.FollowDmesg(ctx, func(r dmesg.Record) error { return a.printRecords([]dmesg.Record{r}, levels) })
	if errors.Is(err, fs.ErrNotExist) {
		return usageError("%w: no guest was started in this run yet", err)
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir.File(vm.ResultJSON)); errors.Is(err, fs.ErrNotExist) {
		a.msg.warningf("the kaleido of this run was killed: the log may lack the guest's last words")
	}
	return nil
}

// runDirectory is the run that args mean.
func (a *app) runDirectory(args []string) (*vm.RunDir, error) {
	if len(args) == 0 {
		dir, err := vm.LatestRun(".")
		if err == nil {
			return dir, nil
		}
		name, noGuest := a.guestName(nil)
		if noGuest != nil {
			return nil, usageError("%w (run 'kaleido up' or 'kaleido boot' here first)", err)
		}
		args = []string{name}
	}
	if st, err := os.Stat(args[0]); err == nil && st.IsDir() || detach.CheckName(args[0]) != nil {
		return &vm.RunDir{Path: args[0]}, nil
	}
	state, err := a.guests().Find(args[0])
	if err != nil {
		return nil, usageError("no run directory %s, and %w", args[0], err)
	}
	if state.RunDir == "" {
		return nil, usageError("guest %q is still starting: it has no log yet", state.Name)
	}
	return &vm.RunDir{Path: state.RunDir}, nil
}

// completeRuns completes the names of guests, and directories.
func (a *app) completeRuns(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	names, _ := a.completeNames(cmd, args, word)
	return names, cobra.ShellCompDirectiveFilterDirs
}

// readTestDmesg reads the log of the only test of a run that has one; several must be named.
func readTestDmesg(dir *vm.RunDir, none error) ([]dmesg.Record, error) {
	logs, err := fs.Glob(os.DirFS(dir.Path), "*/"+vm.DmesgJSON)
	switch {
	case err != nil:
		return nil, err
	case len(logs) == 0:
		if _, err := os.Stat(dir.File(junitFile)); err == nil {
			return nil, errors.New("the logs of tests that passed are not kept (test --keep keeps them)")
		}
		return nil, none
	case len(logs) > 1:
		return nil, fmt.Errorf("several tests of this run have logs, name one: kaleido dmesg %s", dir.File(filepath.Dir(logs[0])))
	}
	test := vm.RunDir{Path: dir.File(filepath.Dir(logs[0]))}
	return test.ReadDmesg()
}

func (a *app) printRecords(records []dmesg.Record, levels dmesg.Levels) error {
	enc := json.NewEncoder(a.stdout)
	for _, r := range records {
		if !levels.Has(r.Level) {
			continue
		}
		var err error
		switch {
		case a.json:
			err = enc.Encode(r)
		case a.onTerminal(): // which does what a module's bytes tell it to
			_, err = fmt.Fprintln(a.stdout, report.Clean(r.String()))
		default:
			_, err = fmt.Fprintln(a.stdout, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
