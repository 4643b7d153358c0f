package dmesg

import (
	"regexp"
	"strconv"
	"time"
)

// Backtrace is what one processor was doing when the kernel asked all of them.
type Backtrace struct {
	CPU     int
	Records []Record
}

var (
	backtraceRE = regexp.MustCompile(`^NMI backtrace for cpu (\d+)`)
	askingRE    = regexp.MustCompile(`^Sending NMI from CPU `)
	cpuRE       = regexp.MustCompile(`^CPU: (\d+) (?:UID: \d+ )?PID: `)
)

// aroundSplat is how far from a report the kernel asks the processors for it.
const aroundSplat = 2 * time.Second

// Others returns what the other processors were doing at the time of a splat. The kernel asks them just before the
// report of an oops, or after that of a lockup, if kernel.oops_all_cpu_backtrace and kernel.softlockup_all_cpu_backtrace
// say so; recs is the log the splat was found in.
func (s Splat) Others(recs []Record) []Backtrace {
	own := -1
	if m := s.find(cpuRE); m != nil {
		own, _ = strconv.Atoi(m[1]) // the pattern has digits only
	}
	first, last := s.Span()
	var others []Backtrace
	for i, r := range recs {
		m := backtraceRE.FindStringSubmatch(r.FirstLine())
		if m == nil || r.Time < first-aroundSplat || r.Time > last+aroundSplat {
			continue
		}
		cpu, err := strconv.Atoi(m[1])
		if err != nil || cpu == own {
			continue
		}
		others = append(others, Backtrace{cpu, backtrace(recs[i:])})
	}
	return others
}

// backtrace returns the records of the backtrace that begins a log.
func backtrace(recs []Record) []Record {
	caller := recs[0].Caller
	own := recs[:1:1]
	for _, r := range recs[1:] {
		line := r.FirstLine()
		switch {
		case r.Caller != caller:
			continue
		case !bodyRE.MatchString(line), backtraceRE.MatchString(line), askingRE.MatchString(line),
			kindOf(line) != nil, len(own) == maxRecords, r.Time-recs[0].Time > aroundSplat:
			return own
		}
		own = append(own, r)
	}
	return own
}
