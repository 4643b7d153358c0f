package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/modules/report"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// parseResult is the verdict on a saved log.
type parseResult struct {
	State    dmesg.State   `json:"state"` // clean, suspicious, warned, oopsed, panicked
	ExitCode int           `json:"exit_code"`
	Records  int           `json:"records"`
	Findings []check.Splat `json:"findings"`
}

func (a *app) parseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "parse LOG|-",
		Short: "Judge a saved kernel log: console text, dmesg's output, /dev/kmsg records, or dmesg.jsonl",
		Long: `Parse says whether the kernel was well, from a saved log alone: a serial console's text, what
dmesg printed (also with -r), records of /dev/kmsg, or a dmesg.jsonl of kaleido's. Reports of the
kernel (panic, oops, warning, lockup, sanitizer, lockdep...) are shown with their records, and what
they mean.

A log alone can lie: a module can print whatever it likes. Here the form of a report decides; in a
run of kaleido's own the kernel's taint and QEMU's events do, too.

Exit codes: 0 the kernel was well, 6 it panicked, 7 it complained, 2 the log cannot be read.`,
		Args: exactArgs("LOG"),
		RunE: func(_ *cobra.Command, args []string) error {
			records, err := a.readLog(args[0])
			if err != nil {
				return withCode(exitUsage, err)
			}
			return a.parse(records)
		},
	}
}

func (a *app) readLog(name string) ([]dmesg.Record, error) {
	var in io.Reader = a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("parse: %w", err)
		}
		defer f.Close()
		in = f
	}
	records, err := dmesg.ParseLog(in)
	switch {
	case err != nil:
	case len(records) == 0:
		err = errors.New("no record of a kernel's in it")
	case !slices.ContainsFunc(records, ofKernel):
		err = errors.New("this does not look like a kernel log: no line has a time, and none is a report")
	}
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return records, nil
}

// ofKernel tells whether a record has what only a kernel's have.
func ofKernel(r dmesg.Record) bool {
	return r.Time != dmesg.NoTime || r.HasSeq || r.Level != dmesg.Unknown || len(dmesg.Splats([]dmesg.Record{r})) > 0
}

func (a *app) parse(records []dmesg.Record) error {
	verdict := dmesg.Judge(records, dmesg.Evidence{})
	res := parseResult{State: verdict.State, Records: len(records), Findings: []check.Splat{}}
	switch verdict.State {
	case dmesg.Panicked:
		res.ExitCode = exitPanic
	case dmesg.Oopsed, dmesg.Warned:
		res.ExitCode = exitSplat
	}
	for _, f := range verdict.Findings {
		res.Findings = append(res.Findings, check.NewSplat(f))
	}
	if err := a.printParsed(&res); err != nil {
		return err
	}
	if res.ExitCode == exitPass {
		return nil
	}
	return &codedError{code: res.ExitCode}
}

func (a *app) printParsed(res *parseResult) error {
	if a.json {
		return a.printJSON(res)
	}
	for _, f := range res.Findings {
		if !f.Credible {
			fmt.Fprintf(a.stdout, "text that looks like a %s: %s (%s)\n", f.Kind, f.Title, f.Why)
			continue
		}
		if err := (&report.Crash{Splats: []check.Splat{f}}).Write(a.stdout); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %d records\n", res.State, res.Records)
	return err
}
