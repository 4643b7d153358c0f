package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

var update = flag.Bool("update", false, "write the golden files anew")

// garbage is what a module may print.
const garbage = "\x1b[2J\x00\xff\r\nok 1 - fake\n]]> <&'\" \u202e\u2028\ufffe\x7f # SKIP"

func rec(seq uint64, level int, text string) dmesg.Record {
	return dmesg.Record{Seq: seq, HasSeq: true, Time: time.Duration(seq) * time.Second, Level: level, Text: text}
}

func passed() *check.Result {
	return &check.Result{
		Name: "general/hello/load", Status: check.Pass, Verdict: check.VerdictPass, Points: 5, Seed: 7, Time: 1234 * time.Millisecond,
		Checks:  []check.Check{{Name: "Loading greets.", Status: check.Pass, Log: "> insmod hello\n", Time: time.Second, After: 1, Until: 3}},
		Records: []dmesg.Record{rec(2, 6, "hello: Hello, world")},
	}
}

func failed() *check.Result {
	fault := &check.Fault{
		Kind: check.FaultStep, File: "swap.txt", Line: 12, Op: "output", Args: []string{"H2 got 10"}, Text: "want a new line, got nothing",
		Expected: "a new line that matches H2 got 10", Seen: "helper is running\nits last lines: " + garbage,
	}
	splat := []dmesg.Record{rec(12, 1, "BUG: kernel NULL pointer dereference"), rec(13, 4, "RIP: 0010:x+0x1/0x2 [x]")}
	return &check.Result{
		Name: "process/sighand/swap", Status: check.Fail, Verdict: check.VerdictFail, Reason: fault.String(), Points: 3, Seed: 42, Time: 2 * time.Second,
		Started: time.Date(2026, 11, 24, 13, 0, 0, 0, time.UTC),
		Checks: []check.Check{
			{Name: "It starts.", Status: check.Pass, Time: time.Second, After: 1, Until: 10},
			{Name: "The module # swaps them.", Line: 7, Status: check.Fail, Fault: fault, Log: "> output 'H2 got 10'\n", After: 10, Until: 20},
			{Name: "A pid nobody has.", Status: check.Skip, Reason: "an earlier section failed"},
		},
		Records: append([]dmesg.Record{rec(11, 6, "sighand: "+garbage)}, splat...),
		Splats: []check.Splat{
			{Kind: dmesg.KindOops, Title: splat[0].Text, Check: "The module # swaps them.", Credible: true, Why: "taint D is set", Records: splat},
			{Kind: dmesg.KindPanic, Title: "Kernel panic - not syncing: joke", Why: "no panic was signalled"},
			{Kind: dmesg.KindWarning, Title: "WARNING: asked for", Claimed: true, Credible: true},
		},
		Draws: []check.Draw{{Name: "n", Value: "5", Line: 3}}, Taint: "DO", Lost: 3, Diagnosis: "RIP=1\x1b", Notes: []string{"a\nnote"},
		End:   &check.End{Reason: check.EndReboot},
		Facts: map[string]string{"kernel": "6.1.192"},
	}
}

func sample() *Report {
	return &Report{
		Name: "kaleido test", Time: 5 * time.Second, Properties: map[string]string{"accel": "tcg"},
		Results: []*check.Result{
			passed(), failed(),
			{Name: "general/cr/pae", Status: check.Skip, Verdict: check.VerdictSkip, Reason: "no # such CPU"},
			{Name: "memory/rss/walk", Status: check.Error, Verdict: check.VerdictError, Reason: "start qemu: no such file"},
		},
	}
}

func TestCrash(t *testing.T) {
	splats := failed().Splats
	splats[0].Meaning, splats[0].Chapter, splats[0].RIP = "NULL dereference: x() followed NULL", "general/crash", "x+0x1/0x2 [x]"
	splats[0].Decoded = "x+0x1/0x2 [x] is x at x.c:7\nx.c:\n>     7          \x1b*p = 1;"
	crash := Crash{Splats: splats[:2], Taint: "D (died)", Diagnosis: "CPU#0\n  in f+0x1", Saved: []string{"memory: kaleido gdb --core m.elf"}}
	var got strings.Builder
	if err := crash.Write(&got); err != nil {
		t.Fatal(err)
	}
	want := `oops: BUG: kernel NULL pointer dereference (taint D is set)
  NULL dereference: x() followed NULL
  the handbook on it: general/crash
  at x+0x1/0x2 [x]
  x+0x1/0x2 [x] is x at x.c:7
  x.c:
  >     7          \x1b*p = 1;
  the kernel's report:
  [   12.000000] BUG: kernel NULL pointer dereference
  [   13.000000] RIP: 0010:x+0x1/0x2 [x]
taint added: D (died)
what the processors were doing:
  CPU#0
    in f+0x1
memory: kaleido gdb --core m.elf
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
}

// writers are all formats, by golden file.
var writers = map[string]func(io.Writer, *Report) error{
	"report.txt":   text(TextOptions{}),
	"verbose.txt":  text(TextOptions{Verbose: true}),
	"report.tap":   TAP,
	"report.json":  JSON,
	"report.junit": JUnit,
}

// text is what a run shows to people.
func text(opts TextOptions) func(io.Writer, *Report) error {
	return func(w io.Writer, r *Report) error {
		for _, res := range r.Results {
			fmt.Fprint(w, Test(res, opts))
		}
		_, err := fmt.Fprintln(w, Summary(r))
		return err
	}
}

func write(t *testing.T, name string, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := writers[name](&b, r); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	for name := range writers {
		got, file := write(t, name, sample()), filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from %s; -update writes it anew. Got:\n%s", name, file, got)
		}
	}
}

func TestNothingHarmfulComesOut(t *testing.T) {
	for name := range writers {
		out := string(write(t, name, sample()))
		if !utf8.ValidString(out) {
			t.Errorf("%s is not UTF-8", name)
		}
		for _, bad := range []string{"\x1b", "\x00", "\r", "\x7f", "\u202e", "\u2028", "\ufffe"} {
			if name == "report.json" && bad >= "\x7f" {
				continue // JSON may hold them
			}
			if strings.Contains(out, bad) {
				t.Errorf("%s has %q", name, bad)
			}
		}
	}
}

func TestAllShowsWhatMatters(t *testing.T) {
	for name := range writers {
		out := string(write(t, name, sample()))
		for _, want := range []string{"H2 got 10", "BUG: kernel NULL pointer dereference", "42", "start qemu: no such file", "an earlier section failed", "6.1.192"} {
			if want == "6.1.192" && name != "report.json" && name != "report.junit" {
				continue
			}
			if !strings.Contains(out, want) {
				t.Errorf("%s does not tell %q", name, want)
			}
		}
	}
}

// program returns a program's path. CI has it: a missing validator must not pass for a valid report there.
func program(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: apt-get install %s", name, debian)
		}
		t.Skipf("%s is missing: apt-get install %s", name, debian)
	}
	return path
}

func TestJUnitFitsTheSchema(t *testing.T) {
	xmllint := program(t, "xmllint", "libxml2-utils")
	lint := func(text []byte) error {
		cmd := exec.CommandContext(t.Context(), xmllint, "--noout", "--nonet", "--schema", "testdata/junit.xsd", "-")
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	for name, r := range map[string]*Report{"sample": sample(), "empty": {}, "nameless": {Results: []*check.Result{{Name: "a", Status: check.Fail}}}} {
		if err := lint(write(t, "report.junit", r)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := string(write(t, "report.junit", sample()))
	for _, bad := range [][2]string{
		{`<testcase name="`, `<testcase nom="`}, {`time="`, `time="about `}, {"</failure>", "</failure><skipped/>"}, {`tests="`, `tests="-`},
		{"<system-out>", "<stdout/><system-out>"}, {"</testsuites>", ""},
	} {
		if lint([]byte(strings.Replace(good, bad[0], bad[1], 1))) == nil {
			t.Errorf("the schema takes %s for %s", bad[1], bad[0])
		}
	}
}

func TestJUnitCounts(t *testing.T) {
	var got xmlSuites
	if err := xml.Unmarshal(write(t, "report.junit", sample()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Tests != 6 || got.Failures != 1 || got.Errors != 1 || len(got.Suites) != 4 || got.Suites[1].Skipped != 1 {
		t.Errorf("tests %d, failures %d, errors %d, suites %d", got.Tests, got.Failures, got.Errors, len(got.Suites))
	}
	if c := got.Suites[1].Cases[1]; c.Class != "process.sighand.swap" || c.Failure == nil || !strings.Contains(c.Failure.Text, "]]>") {
		t.Errorf("case %+v", c)
	}
}

func TestProveReadsTAP(t *testing.T) {
	prove := program(t, "prove", "perl")
	run := func(r *Report) (string, error) {
		file := filepath.Join(t.TempDir(), "results.tap")
		if err := os.WriteFile(file, write(t, "report.tap", r), 0o666); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), prove, "-v", "--exec", "cat", file).CombinedOutput()
		return string(out), err
	}
	out, err := run(sample())
	if err == nil || !strings.Contains(out, "Failed 2/4 subtests") || !strings.Contains(out, "Failed tests:  2, 4") || strings.Contains(out, "Parse errors") {
		t.Errorf("prove of failures: %v\n%s", err, out)
	}
	good := &Report{Results: []*check.Result{passed(), sample().Results[2]}}
	if out, err := run(good); err != nil || !strings.Contains(out, "Tests=2") || !strings.Contains(out, "Result: PASS") {
		t.Errorf("prove of a pass and a skip: %v\n%s", err, out)
	}
	if out, err := run(&Report{}); err != nil {
		t.Errorf("prove of nothing: %v\n%s", err, out)
	}
}

func TestTAPSubtestsAddUp(t *testing.T) {
	out := string(write(t, "report.tap", sample()))
	plan := regexp.MustCompile(`(?m)^ {4}1\.\.(\d+)$`).FindAllStringSubmatch(out, -1)
	points := regexp.MustCompile(`(?m)^ {4}(?:not )?ok \d+ - `).FindAllString(out, -1)
	if len(plan) != 4 || len(points) != 6 {
		t.Errorf("%d plans, %d points, want 4 and 6:\n%s", len(plan), len(points), out)
	}
	if regexp.MustCompile(`(?m)^ok 1 - fake`).MatchString(out) {
		t.Error("a module made a test point")
	}
}

func TestJSONComesBack(t *testing.T) {
	var got struct {
		Schema  int
		Verdict check.Verdict
		Counts  Counts
		Results []check.Result
	}
	if err := json.Unmarshal(write(t, "report.json", sample()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Schema != Schema || got.Verdict != check.VerdictFail || got.Counts != (Counts{4, 1, 1, 1, 1, 5, 8}) || len(got.Results) != 4 {
		t.Errorf("%+v", got)
	}
	if f := got.Results[1].Checks[1].Fault; f == nil || f.Line != 12 || got.Results[1].Records[1].Text != "BUG: kernel NULL pointer dereference" {
		t.Errorf("%+v", got.Results[1])
	}
	if out := write(t, "report.json", &Report{}); !bytes.Contains(out, []byte(`"results": []`)) {
		t.Errorf("no results: %s", out)
	}
}

func TestVerdictIsTheWorst(t *testing.T) {
	r := &Report{}
	if v := r.Verdict(); v != check.VerdictPass {
		t.Errorf("of nothing: %s", v)
	}
	for _, v := range []check.Verdict{
		check.VerdictSkip, check.VerdictPass, check.VerdictError, check.VerdictFail, check.VerdictSplat, check.VerdictTimeout, check.VerdictPanic,
	} {
		r.Results = append(r.Results, &check.Result{Verdict: v})
		want := v
		if v == check.VerdictSkip {
			want = check.VerdictPass
		}
		if got := r.Verdict(); got != want {
			t.Errorf("with %s: %s", v, got)
		}
	}
}

// brokenWriter fails at once.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriteErrors(t *testing.T) {
	for name, fn := range writers {
		if err := fn(brokenWriter{}, sample()); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReports(f *testing.F) {
	f.Add(garbage, "x")
	f.Add("ok 1\n1..1\nBail out!", "]]>")
	f.Fuzz(func(t *testing.T, a, b string) {
		res := &check.Result{
			Name: a, Status: check.Fail, Reason: b, Records: []dmesg.Record{rec(1, 3, a+b)}, Diagnosis: b, Notes: []string{a},
			Checks: []check.Check{{Name: b, Status: check.Fail, Log: a, Fault: &check.Fault{Text: a, Seen: b, Args: []string{a}, Op: "x"}}},
		}
		r := &Report{Name: a, Results: []*check.Result{res}}
		for name := range writers {
			out := write(t, name, r)
			if !utf8.Valid(out) {
				t.Fatalf("%s is not UTF-8: %q", name, out)
			}
		}
		if err := xml.Unmarshal(write(t, "report.junit", r), &xmlSuites{}); err != nil {
			t.Fatalf("JUnit: %v", err)
		}
		if n := len(regexp.MustCompile(`(?m)^(?:not )?ok |^Bail`).FindAll(write(t, "report.tap", r), -1)); n != 1 {
			t.Fatalf("%d test points in:\n%s", n, write(t, "report.tap", r))
		}
	})
}

func TestPoints(t *testing.T) {
	result := func(status check.Status, points int) *check.Result {
		return &check.Result{Status: status, Points: points}
	}
	for _, c := range []struct {
		results     []*check.Result
		points, max int
		summary     string
	}{
		{[]*check.Result{result(check.Pass, 0), result(check.Fail, 0)}, 0, 0, "1 passed, 1 failed (0.000 s)"},
		{[]*check.Result{result(check.Pass, 5), result(check.Fail, 3), result(check.Skip, 2)}, 5, 8, "1 passed, 1 failed, 1 skipped, 5 of 8 points (0.000 s)"},
		{[]*check.Result{result(check.Error, 4)}, 0, 4, "1 could not run, 0 of 4 points (0.000 s)"},
	} {
		r := &Report{Results: c.results}
		if got := r.Count(); got.Points != c.points || got.MaxPoints != c.max {
			t.Errorf("%s: %d of %d points, want %d of %d", c.summary, got.Points, got.MaxPoints, c.points, c.max)
		}
		if got := Summary(r); got != c.summary {
			t.Errorf("Summary() = %q, want %q", got, c.summary)
		}
	}
}
