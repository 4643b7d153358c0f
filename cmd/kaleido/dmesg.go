package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

func (a *app) dmesgCommand() *cobra.Command {
	var levels string
	cmd := &cobra.Command{
		Use:   "dmesg [RUN]",
		Short: "Print the kernel log of the last run, or of the run in the directory RUN",
		Long: `Dmesg prints the kernel log of a run: what the guest's /dev/kmsg, its console and its memory
said, merged. --json prints one record a line: seq, ts_ns, level, facility, caller, text, dev.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("dmesg: want at most one run directory, got %d", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			filter := dmesg.AllLevels
			if levels != "" {
				var err error
				if filter, err = dmesg.ParseLevels(levels); err != nil {
					return usageError("--level: %w", err)
				}
			}
			dir, err := runDirectory(args)
			if err != nil {
				return err
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
	return cmd
}

func runDirectory(args []string) (*vm.RunDir, error) {
	if len(args) == 1 {
		return &vm.RunDir{Path: args[0]}, nil
	}
	dir, err := vm.LatestRun(".")
	if err != nil {
		return nil, usageError("%w (run 'kaleido up' or 'kaleido boot' here first)", err)
	}
	return dir, nil
}

// readTestDmesg reads the log of the only test of a run that has one; several must be named.
func readTestDmesg(dir *vm.RunDir, none error) ([]dmesg.Record, error) {
	logs, err := filepath.Glob(filepath.Join(dir.Path, "*", vm.DmesgJSON))
	switch {
	case err != nil:
		return nil, err
	case len(logs) == 0:
		return nil, none
	case len(logs) > 1:
		return nil, fmt.Errorf("several tests of this run have logs, name one: kaleido dmesg %s", filepath.Dir(logs[0]))
	}
	test := vm.RunDir{Path: filepath.Dir(logs[0])}
	return test.ReadDmesg()
}

func (a *app) printRecords(records []dmesg.Record, levels dmesg.Levels) error {
	enc := json.NewEncoder(a.stdout)
	for _, r := range records {
		if !levels.Has(r.Level) {
			continue
		}
		var err error
		if a.json {
			err = enc.Encode(r)
		} else {
			_, err = fmt.Fprintln(a.stdout, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
