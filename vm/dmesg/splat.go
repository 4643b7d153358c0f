package dmesg

import (
	"regexp"
	"strings"
	"time"
)

// Splat is a report of the kernel that something is wrong: a panic, an oops, a warning, a sanitizer's
// or lockdep's finding. It is text only. Whether it is true is for [Judge] to say: a module can print any of it.
type Splat struct {
	Kind    Kind
	Title   string // the line that names it
	Message string // what WARN() had to say, if anything
	RIP     string // the instruction, "crash_init+0x33/0x1000 [crash]", if the report has it
	Caller  string // who printed it
	Records []Record

	// Evidence within the log. What the log cannot tell (console text has no level) counts as fitting.
	HasTrace   bool // a stack trace follows, from the same caller, or what the kernel prints in its place
	LevelFits  bool // the title came at a level at which the kernel prints it
	FromKernel bool // not written through /dev/kmsg by a program

	info  *kindInfo
	index int // of the title in the records given
}

// Lines that belong to reports, whatever their kind.
var (
	cutRE    = regexp.MustCompile(`^-+\[ cut here \]-+`)
	endRE    = regexp.MustCompile(`^-+\[ end (?:trace|Kernel panic)`)
	ruleRE   = regexp.MustCompile(`^={16,}$`)
	dieRE    = regexp.MustCompile(`^` + dieExpr) // die(): "Oops: 0002 [#1] SMP"
	rightRE  = regexp.MustCompile(`^RIP: 0010:(\S+(?: \[\w+\])?)`)
	bodyTags = `#PF:|PGD |Oops: |CPU: |RIP: |EIP: |Code: |R[A-Z0-9]{1,2}: |E[A-Z]{2}: |[CDEFGS]S: |CR\d: |DR\d: |PKRU: |` +
		`Call Trace:|Tainted: |Modules linked in:|Unloaded tainted modules:|Hardware name:|Workqueue: |Kernel Offset:|-+\[ |` +
		`rcu: |Sending NMI |NMI backtrace |task:|Task dump |irq event stamp:|(?:hard|soft)irqs last |note: |` +
		`Preemption disabled at|\d+ locks? held by |page:|flags: |raw: |page dumped because|head:|Fixing recursive fault|` +
		dieExpr
	bodyRE = regexp.MustCompile(`^(?:[ \t]|$|` + bodyTags + `)`)
)

// Bounds of a report.
const (
	maxRecords  = 400             // records in one
	maxPreface  = 12              // records between "cut here" and the title
	maxForeign  = 16              // records of others between its own, where callers are unknown
	maxSplatGap = 5 * time.Second // between two records of one
)

// Splats finds the reports in a log, in the order of their titles. A title counts only at the start of a record: "hello: BUG: x" is
// none, nor is the second line of a record (as long as the log is not mere console text, where each line is a record).
// Lines of other callers that come between are left out. A record is in one splat at most.
func Splats(recs []Record) []Splat {
	var splats []Splat
	taken := make([]bool, len(recs))
	for i, r := range recs {
		if taken[i] {
			continue
		}
		if info := kindOf(r.FirstLine()); info != nil {
			g := grouper{recs: recs, taken: taken, info: info, caller: r.Caller}
			splats = append(splats, g.group(i))
		}
	}
	return splats
}

// grouper collects the records of one splat.
type grouper struct {
	recs   []Record
	taken  []bool
	info   *kindInfo
	caller string
	own    []int // indices of its records
}

func (g *grouper) group(title int) Splat {
	g.preface(title)
	message := g.message()
	g.take(title)
	hasTrace := g.follow(title)
	head := g.recs[title]
	s := Splat{
		Kind: g.info.kind, Title: head.FirstLine(), Message: message, Caller: g.caller,
		HasTrace:   hasTrace,
		LevelFits:  head.Level == Unknown || head.Level <= g.info.level,
		FromKernel: head.Facility <= 0,
		info:       g.info, index: title,
	}
	for _, i := range g.own {
		s.Records = append(s.Records, g.recs[i])
		if m := rightRE.FindStringSubmatch(g.recs[i].Text); m != nil && s.RIP == "" {
			s.RIP = m[1]
		}
	}
	return s
}

func (g *grouper) take(i int) {
	g.own = append(g.own, i)
	g.taken[i] = true
}

// preface takes what the kernel prints before the title: a line of "=", or "cut here" and WARN's message.
func (g *grouper) preface(title int) {
	var before []int // from the title backwards
	for i := title - 1; i >= 0 && title-i <= 4*maxPreface && len(before) < maxPreface; i-- {
		r := g.recs[i]
		if r.Caller != g.caller {
			continue
		}
		if g.taken[i] || g.tooFar(r, g.recs[title]) {
			return
		}
		before = append(before, i)
		if cutRE.MatchString(r.Text) || len(before) == 1 && ruleRE.MatchString(r.Text) {
			for len(before) > 0 {
				g.take(before[len(before)-1])
				before = before[:len(before)-1]
			}
			return
		}
	}
}

// message returns the text between "cut here" and the title.
func (g *grouper) message() string {
	var lines []string
	for _, i := range g.own[min(1, len(g.own)):] {
		lines = append(lines, g.recs[i].Text)
	}
	return strings.Join(lines, "\n")
}

func (g *grouper) tooFar(a, b Record) bool {
	return a.Time >= 0 && b.Time >= 0 && b.Time-a.Time > maxSplatGap
}

// follow takes the records after the title, and reports whether there was a stack trace among them.
func (g *grouper) follow(title int) bool {
	var loose []int // text that belongs to the report only if a trace follows
	trace, ended, asked, foreign, last := false, false, false, 0, title
	ruled := g.info.closed
	for i := title + 1; i < len(g.recs) && len(g.own)+len(loose) < maxRecords; i++ {
		r := g.recs[i]
		line := r.FirstLine()
		if g.stranger(r, line) {
			continue
		}
		// Between "kernel BUG at" and "invalid opcode" the kernel may ask all processors what they do, itself first.
		asked = (asked || g.info.state == Oopsed && !trace && backtraceRE.MatchString(line)) && !dieRE.MatchString(line)
		if asked && !g.tooFar(g.recs[last], r) {
			last = i
			continue
		}
		if g.taken[i] || g.tooFar(g.recs[last], r) || g.begins(line, trace) {
			break
		}
		switch {
		case endRE.MatchString(line), ruled && ruleRE.MatchString(line):
			loose = g.takeAll(append(loose, i))
			trace, ended, ruled = true, true, false
		case g.proves(line), bodyRE.MatchString(line) && !(ended && g.info.closed):
			trace = trace || g.proves(line)
			if loose = append(loose, i); trace || len(loose) == 1 {
				loose = g.takeAll(loose)
			}
		case !trace || ruled:
			loose = append(loose, i)
		case ended || foreign == maxForeign || g.caller != "":
			return trace
		default:
			foreign++
			continue
		}
		last = i
	}
	return trace
}

// proves reports whether a line is the one that has to follow the title.
func (g *grouper) proves(line string) bool {
	if g.info.proof == nil {
		return traceRE.MatchString(line)
	}
	return g.info.proof.MatchString(line)
}

func (g *grouper) takeAll(list []int) []int {
	for _, i := range list {
		g.take(i)
	}
	return nil
}

// stranger reports whether a record is another caller's. An RCU stall is told by several processors.
func (g *grouper) stranger(r Record, line string) bool {
	if r.Caller == g.caller {
		return false
	}
	return g.info.kind != KindRCUStall || !bodyRE.MatchString(line) || kindOf(line) != nil
}

// begins reports whether a line begins another report. Before the trace of one some titles only go on
// with it: "BUG: unable to handle page fault" and then "Oops: 0002 [#1]" are one report.
func (g *grouper) begins(line string, trace bool) bool {
	next := kindOf(line)
	if next == nil && !cutRE.MatchString(line) {
		return false
	}
	if trace {
		return true
	}
	now := g.info
	switch {
	case now.kind == KindRefcount || now.kind == KindList: // the text of a WARN or before a BUG
		return next != nil && next.kind != KindWarning && next.kind != KindBug && !dieRE.MatchString(line)
	case now.state == Oopsed:
		return !dieRE.MatchString(line) && (now.header != nxHeader || next == nil || next.kind != KindOops)
	}
	return true
}
