package dmesg

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// Merge makes one log of readings of the same boot: structured ones (/dev/kmsg, the ring), each record
// of which has a sequence number, and console text. Every record is in the result once:
//
//   - Structured readings of one record become one, the time from the finer source, the text the longer
//     one where one begins with the other: a ring can be read while a line still grows.
//   - A console line that a structured record has (same microsecond, same text, or a piece of it
//     where the console cut or tore it) goes away.
//   - Any other console line stays, without a sequence number, where the console had it: the kernel
//     dropped the record before anybody read it, or no kernel printed it.
//   - A console line repeated later than its time, as by a program that prints the log, goes away.
//
// Structured records come by sequence number, which need not be the order of their times.
func Merge(structured [][]Record, console []Record) []Record {
	recs := mergeStructured(structured)
	m := newMatcher(recs)
	before := make([][]Record, len(recs)+1) // console-only records to go before recs[i]
	next := 0                               // index after the last structured record the console has shown
	seen := make(map[consoleKey]bool)
	latest, again := NoTime, false // the latest time so far; whether the console has gone back since
	for _, c := range console {
		if i := m.find(c); i >= 0 {
			next = max(next, i+1)
			continue
		}
		again = c.Time < latest || again && c.Time == latest
		key := consoleKey{c.Time, c.Caller, c.Text}
		if again && c.Time >= 0 && seen[key] {
			continue
		}
		seen[key], latest = true, max(latest, c.Time)
		next = place(recs, next, c.Time)
		before[next] = append(before[next], c)
	}
	merged := make([]Record, 0, len(recs)+len(seen))
	for i, r := range recs {
		merged = append(append(merged, before[i]...), r)
	}
	return append(merged, before[len(recs)]...)
}

type consoleKey struct {
	time   time.Duration
	caller string
	text   string
}

// place returns the index before which a console record of this time goes, at least next.
func place(recs []Record, next int, t time.Duration) int {
	// Behind what has the same time, but in front of a log of which nothing has been matched.
	last := t.Microseconds()
	if next == 0 {
		last--
	}
	for t >= 0 && next < len(recs) && micros(recs[next].Time) <= last {
		next++
	}
	return next
}

func micros(t time.Duration) int64 { return t.Microseconds() }

// mergeStructured returns the records of all readings by sequence number, each once.
func mergeStructured(readings [][]Record) []Record {
	bySeq := make(map[uint64]Record)
	for _, recs := range readings {
		for _, r := range recs {
			if old, ok := bySeq[r.Seq]; ok {
				r = better(old, r)
			}
			bySeq[r.Seq] = r
		}
	}
	return slices.SortedFunc(maps.Values(bySeq), func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
}

// better combines two readings of one record.
func better(a, b Record) Record {
	if b.Source > a.Source {
		a, b = b, a
	}
	if len(b.Text) > len(a.Text) && strings.HasPrefix(b.Text, a.Text) {
		a.Text = b.Text
	}
	if a.Caller == "" {
		a.Caller = b.Caller
	}
	if a.Dev == (Dev{}) {
		a.Dev = b.Dev
	}
	return a
}

// matcher finds the structured record of a console line.
type matcher struct {
	recs []Record
	at   map[int64][]int // indices of the records of a microsecond
}

func newMatcher(recs []Record) *matcher {
	m := &matcher{recs: recs, at: make(map[int64][]int, len(recs))}
	for i, r := range recs {
		m.at[micros(r.Time)] = append(m.at[micros(r.Time)], i)
	}
	return m
}

// minPiece is the length from which on a part of a line is taken for that line.
const minPiece = 8

// find returns the index of the record that has the console line, or -1.
func (m *matcher) find(c Record) int {
	if c.Time < 0 {
		return -1
	}
	candidates := m.at[micros(c.Time)]
	for _, same := range []func(line, text string) bool{sameLine, pieceOfLine} {
		for _, i := range candidates {
			r := m.recs[i]
			if c.Caller != "" && r.Caller != "" && c.Caller != r.Caller {
				continue
			}
			for _, line := range r.Lines() {
				if same(cleanLine(line), c.Text) {
					return i
				}
			}
		}
	}
	return -1
}

func sameLine(line, text string) bool { return line == text }

// pieceOfLine holds for a line the console cut short, and for one that something else was written behind.
func pieceOfLine(line, text string) bool {
	return len(line) >= minPiece && len(text) >= minPiece &&
		(strings.HasPrefix(line, text) || strings.HasPrefix(text, line))
}
