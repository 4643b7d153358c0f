// Bench measures kaleido against its limits: how long a boot takes beside a
// plain QEMU command line, what kaleido itself adds, what the kernel log out
// of guest memory costs, how much memory kaleido holds, what clones of a snapshot
// cost, whether many tests in a row leak anything, what the exercises' tests take
// in restored and in booted guests, and what builds cost.
//
// Runs of what is compared are interleaved and the ratio is that of medians,
// since single timings on a shared machine say little. The table goes to
// standard output, the same as JSON to the file that -json names.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A measurement is one line of the table.
type measurement struct {
	Name   string    `json:"name"`
	Value  float64   `json:"value"`
	Unit   string    `json:"unit"`
	Limit  float64   `json:"limit,omitempty"` // 0: none
	Within bool      `json:"within"`
	Runs   int       `json:"runs"`
	A      []float64 `json:"a,omitempty"`
	B      []float64 `json:"b,omitempty"`
	Note   string    `json:"note,omitempty"`
}

// bench is one session of measuring.
type bench struct {
	kaleido string
	runs    int
	tests   int // of the look for leaks
	scratch string
	image   image
}

// image is what `kaleido build --json` says about the kernel under test.
type image struct {
	Release   string `json:"release"`
	Kernel    string `json:"kernel"`
	BootImage string `json:"boot_image"`
	SystemMap string `json:"system_map"`
	Initramfs string `json:"initramfs"`
}

func main() {
	if len(os.Args) > 0 && filepath.Base(os.Args[0]) == clockName {
		stampAndDie()
	}
	kaleido := flag.String("kaleido", "bin/kaleido", "the kaleido to measure")
	runs := flag.Int("n", 9, "runs of each side")
	tests := flag.Int("tests", 100, "tests to run in a row, looking for leaks")
	only := flag.String("only", "", "measure only these, comma-separated: boot, own, ring, memory, restore, clones, leaks; catalogue (ten minutes) and builds (half an hour) must be named")
	jsonFile := flag.String("json", "", "write the measurements to this file")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: go run ./scripts/bench [flags]\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *kaleido, *runs, *tests, *only, *jsonFile); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A measure is what -only names.
type measure struct {
	name string
	long bool // not without being named
	run  func(*bench, context.Context) ([]measurement, error)
}

// measures are in the order of the table.
var measures = []measure{
	{"boot", false, (*bench).boot},
	{"own", false, (*bench).own},
	{"ring", false, (*bench).ring},
	{"memory", false, (*bench).memory},
	{"restore", false, (*bench).restore},
	{"clones", false, (*bench).clones},
	{"leaks", false, (*bench).leaks},
	{"catalogue", true, (*bench).catalogue},
	{"builds", true, (*bench).builds},
}

func run(ctx context.Context, kaleido string, runs, tests int, only, jsonFile string) error {
	var chosen []string
	if only != "" {
		chosen = strings.Split(only, ",")
	}
	for _, name := range chosen {
		if !slices.ContainsFunc(measures, func(m measure) bool { return m.name == name }) {
			return fmt.Errorf("-only %s: nothing is called that", name)
		}
	}
	b, err := newBench(ctx, kaleido, runs)
	if err != nil {
		return err
	}
	b.tests = tests
	defer os.RemoveAll(b.scratch)
	var done []measurement
	for _, m := range measures {
		if !slices.Contains(chosen, m.name) && (len(chosen) > 0 || m.long) {
			continue
		}
		ms, err := m.run(b, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		done = append(done, ms...)
	}
	if err := printTable(done); err != nil {
		return err
	}
	if jsonFile == "" {
		return nil
	}
	text, err := json.MarshalIndent(done, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(jsonFile, append(text, '\n'), 0o644)
}

// newBench builds what is measured, so that no timing includes a build.
func newBench(ctx context.Context, kaleido string, runs int) (*bench, error) {
	path, err := filepath.Abs(kaleido)
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, path, "build", "all", "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("%s build all: %w", kaleido, err)
	}
	b := &bench{kaleido: path, runs: runs}
	if err := json.Unmarshal(out, &b.image); err != nil {
		return nil, fmt.Errorf("%s build all --json: %w", kaleido, err)
	}
	b.scratch, err = os.MkdirTemp("", "kaleido-bench-")
	return b, err
}

func printTable(done []measurement) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "MEASURED\tVALUE\tLIMIT\tRUNS\t")
	for _, m := range done {
		verdict := "ok"
		if !m.Within {
			verdict = "OVER"
		}
		limit := "-"
		if m.Limit > 0 {
			limit = fmt.Sprintf("%.3g", m.Limit)
		}
		fmt.Fprintf(w, "%s\t%.3g %s\t%s\t%d\t%s %s\n", m.Name, m.Value, m.Unit, limit, m.Runs, verdict, m.Note)
	}
	return w.Flush()
}

func limited(name string, value float64, unit string, limit float64, runs int) measurement {
	return measurement{Name: name, Value: value, Unit: unit, Limit: limit, Within: limit == 0 || value <= limit, Runs: runs}
}

func median(xs []float64) float64 {
	sorted := slices.Sorted(slices.Values(xs))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// timed runs a command to its end and returns its wall time in seconds.
func timed(cmd *exec.Cmd) (float64, error) {
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return time.Since(start).Seconds(), nil
}
