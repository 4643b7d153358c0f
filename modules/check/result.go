package check

import (
	"fmt"
	"strings"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// Status is what became of a test or of one of its checks.
type Status string

// The statuses.
const (
	Pass  Status = "pass"
	Fail  Status = "fail"
	Skip  Status = "skip"
	Error Status = "error" // it could not be judged; only the caller that could not run a test says so
)

// Verdict is a test's outcome as the exit code tells it.
type Verdict string

// The verdicts, from best to worst.
const (
	VerdictPass    Verdict = "pass"
	VerdictSkip    Verdict = "skip"
	VerdictFail    Verdict = "fail"
	VerdictSplat   Verdict = "splat" // the kernel complained, whether or not every step passed
	VerdictTimeout Verdict = "timeout"
	VerdictPanic   Verdict = "panic" // the kernel panicked, and nobody had asked for it
	VerdictError   Verdict = "error"
)

// Result is what a script's run gave. It has all that reports need.
type Result struct {
	Name    string  `json:"name"`
	File    string  `json:"file,omitempty"`
	Points  int     `json:"points,omitempty"`
	Status  Status  `json:"status"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"` // one line, if the status is not pass

	Checks  []Check        `json:"checks,omitempty"`
	Splats  []Splat        `json:"splats,omitempty"`  // of the test's window
	Records []dmesg.Record `json:"records,omitempty"` // the test's window of the kernel log
	Lost    uint64         `json:"lost,omitempty"`    // records of the window that were overwritten before they were read
	Taint   string         `json:"taint,omitempty"`   // letters the test added
	End     *End           `json:"end,omitempty"`     // of the guest, if it ended during the test

	Seed      uint64            `json:"seed"`
	Draws     []Draw            `json:"draws,omitempty"`
	Diagnosis string            `json:"diagnosis,omitempty"` // what the guest was doing at a timeout
	Notes     []string          `json:"notes,omitempty"`
	Started   time.Time         `json:"started"`
	Time      time.Duration     `json:"time_ns"`
	Facts     map[string]string `json:"facts,omitempty"` // the caller's: kernel, accelerator, attempt...
}

// BuildFailure returns the result of a test whose module does not compile: that is the module's fault,
// so it is a failed check. The words are the compiler's.
func BuildFailure(sc *Script, text, words string) *Result {
	f := &Fault{Kind: FaultBuild, Text: text, Expected: "it compiles", Seen: words}
	return &Result{
		Name: sc.Name, File: sc.File, Points: sc.Requires.Points, Status: Fail, Verdict: VerdictFail, Reason: f.String(),
		Checks: []Check{{Name: "The module compiles.", Status: Fail, Fault: f}}, Started: time.Now(),
	}
}

// Passed reports whether the test passed.
func (r *Result) Passed() bool { return r.Status == Pass }

// Window returns the records of one check.
func (r *Result) Window(c Check) []dmesg.Record {
	var recs []dmesg.Record
	for _, rec := range r.Records {
		if rec.HasSeq && rec.Seq > c.After && (c.Until == 0 || rec.Seq < c.Until) {
			recs = append(recs, rec)
		}
	}
	return recs
}

// Check is one section of a script, or one of the checks the engine makes unasked.
type Check struct {
	Name   string        `json:"name"`
	Line   int           `json:"line,omitempty"`
	Status Status        `json:"status"`
	Fault  *Fault        `json:"fault,omitempty"`
	Reason string        `json:"reason,omitempty"` // of a skip
	Log    string        `json:"log,omitempty"`    // the commands and what they printed
	Time   time.Duration `json:"time_ns"`
	After  uint64        `json:"after,omitempty"` // its records have sequence numbers above this
	Until  uint64        `json:"until,omitempty"` // and below this, if not 0
}

// FaultKind says what sort of thing went wrong.
type FaultKind string

// The kinds of faults.
const (
	FaultStep    FaultKind = "step"    // a command did not do what the script expects
	FaultSplat   FaultKind = "splat"   // the kernel complained
	FaultTaint   FaultKind = "taint"   // the kernel is tainted
	FaultHygiene FaultKind = "hygiene" // a module cannot be unloaded or leaves something behind
	FaultTimeout FaultKind = "timeout" // the guest did not answer in time
	FaultEnd     FaultKind = "end"     // the guest ended, or its agent is lost
	FaultBuild   FaultKind = "build"   // the module does not compile
)

// Fault is why a check failed.
type Fault struct {
	Kind     FaultKind `json:"kind"`
	File     string    `json:"file,omitempty"`
	Line     int       `json:"line,omitempty"`
	Op       string    `json:"op,omitempty"`
	Args     []string  `json:"args,omitempty"`
	Text     string    `json:"text"`               // one line
	Expected string    `json:"expected,omitempty"` // if it can be told apart from what was seen
	Seen     string    `json:"seen,omitempty"`     // may have many lines
}

// String returns "file:line: op args: text".
func (f *Fault) String() string {
	if place := f.Place(); place != "" {
		return place + ": " + f.Text
	}
	return f.Text
}

// Place returns "file:line: op args", as much of it as there is.
func (f *Fault) Place() string {
	var b strings.Builder
	if f.File != "" {
		fmt.Fprintf(&b, "%s:%d", f.File, f.Line)
	}
	if f.Op != "" {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(f.Op)
		for _, a := range f.Args {
			b.WriteString(" " + quote(a))
		}
	}
	return b.String()
}

// quote writes an argument as the script would have it.
func quote(arg string) string {
	if arg != "" && !strings.ContainsAny(arg, " \t\r\n'#$\\^*+?()[]{}|") {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", "''") + "'"
}

// Splat is a complaint of the kernel within a test.
type Splat struct {
	Kind     dmesg.Kind     `json:"kind"`
	Title    string         `json:"title"`
	RIP      string         `json:"rip,omitempty"`
	Check    string         `json:"check,omitempty"` // the check that was running
	Claimed  bool           `json:"claimed"`         // the script asked for it
	Credible bool           `json:"credible"`        // false: text that only looks like one; fails nothing
	Why      string         `json:"why,omitempty"`
	Meaning  string         `json:"meaning,omitempty"` // what kind of fault it is, in a sentence
	Chapter  string         `json:"chapter,omitempty"` // the handbook's exercise on it
	Decoded  string         `json:"decoded,omitempty"`
	Records  []dmesg.Record `json:"records,omitempty"`
}

// NewSplat describes a finding; what it means is said of a credible one.
func NewSplat(f dmesg.Finding) Splat {
	s := Splat{Kind: f.Kind, Title: f.Title, RIP: f.RIP, Credible: f.Credible, Why: f.Why, Records: f.Records}
	if s.Credible {
		s.Meaning, s.Chapter = f.Explain(), f.Chapter()
	}
	return s
}

// Draw is a random value a script drew.
type Draw struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Line  int    `json:"line"`
}
