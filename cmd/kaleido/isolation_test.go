package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/modules/report"
)

// TestIsolation runs the whole catalogue in guests restored from snapshots and in guests that are booted,
// with the same random values: each test must do the same in both.
func TestIsolation(t *testing.T) {
	needMatrix(t)
	restored, booted := catalogueRun(t, isolateSnapshot), catalogueRun(t, isolateBoot)
	if len(restored.Results) < 47 || len(restored.Results) != len(booted.Results) {
		t.Fatalf("%d tests restored, %d booted", len(restored.Results), len(booted.Results))
	}
	for i, a := range restored.Results {
		b := booted.Results[i]
		if gist(restored, i) != gist(booted, i) {
			t.Errorf("restored and booted differ:\n%s%s\n%s%s", gist(restored, i), a.Reason, gist(booted, i), b.Reason)
		}
	}
	t.Logf("%d tests; restored %v, booted %v: %.1f times as long", len(restored.Results),
		restored.Time.Round(time.Second), booted.Time.Round(time.Second), booted.Time.Seconds()/restored.Time.Seconds())
}

// needMatrix skips what takes minutes.
func needMatrix(t *testing.T) {
	t.Helper()
	if os.Getenv("KALEIDO_TEST_MATRIX") == "" {
		t.Skip("KALEIDO_TEST_MATRIX is not set: this takes minutes; make test-matrix runs it")
	}
}

// catalogueRun is the report of a run of all tests. One that could not be run, as QEMU 7.2 itself dies in one
// boot of some hundreds (seen: SIGSEGV before the agent has answered), is run again.
func catalogueRun(t *testing.T, isolate string) *report.Report {
	file := filepath.Join(t.TempDir(), "report.json")
	c := startChild(t, nil, "test", "--seed", "1", "--isolate", isolate, "--retries", "1", "--json", file)
	if code := c.wait(15 * time.Minute); code != exitPass {
		t.Errorf("--isolate %s: exit code %d; it said:\n%s", isolate, code, &c.said)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rep := &report.Report{}
	if err := json.Unmarshal(text, rep); err != nil {
		t.Fatal(err)
	}
	return rep
}

// gist is what must be the same of two runs of a test.
func gist(rep *report.Report, i int) string {
	res := rep.Results[i]
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s %s, taint %q\n", res.Name, res.Status, res.Verdict, res.Taint)
	for _, c := range res.Checks {
		fmt.Fprintf(&text, "  %s: %s\n", c.Name, c.Status)
	}
	return text.String()
}
