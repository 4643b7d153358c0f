package check

import (
	"context"
	"regexp"
	"slices"
	"sync"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// maxJournal is how many records are kept. A module that prints for ever must not fill our memory.
const maxJournal = 100_000

// maxOld is how many records of splats are kept of what was dropped.
const maxOld = 10_000

// broadcast wakes everybody who waits for a change.
type broadcast struct{ ch chan struct{} }

// changed returns a channel that is closed at the next change. Call it under the lock of what may change.
func (b *broadcast) changed() <-chan struct{} {
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) change() {
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// journal holds the records of the kernel log as they come.
type journal struct {
	limit int // of records kept, maxJournal if 0

	mu   sync.Mutex
	wake broadcast
	recs []dmesg.Record
	base uint64 // records with a sequence number up to this are not the test's
	last uint64 // the highest number seen
	seen bool
	lost uint64
	hole uint64         // the highest number that was lost
	old  []dmesg.Record // splats among the records that were dropped
	err  error          // why no more records come
}

func (j *journal) add(r dmesg.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.HasSeq {
		if j.seen && r.Seq <= j.last {
			return // replace had it already
		}
		if j.seen && r.Seq > j.last+1 {
			j.lost, j.hole = j.lost+r.Seq-j.last-1, r.Seq-1
		}
		j.last, j.seen = max(j.last, r.Seq), true
	}
	if ofClock(r) {
		return
	}
	j.recs = append(j.recs, r)
	limit := maxJournal
	if j.limit > 0 {
		limit = j.limit
	}
	if len(j.recs) > limit {
		j.drop(limit / 4)
	}
	j.wake.change()
}

// clockRE matches what the kernel says of its clock a second after its boot, whatever goes on then: the TSC is
// measured once more (tsc_refine_calibration_work in arch/x86/kernel/tsc.c). In most tests that is so.
var clockRE = regexp.MustCompile(`^(?:tsc: Refined TSC clocksource calibration: |clocksource: tsc: mask: |clocksource: Switched to clocksource tsc$)`)

// ofClock reports whether a record is one of those, which no test has to do with.
func ofClock(r dmesg.Record) bool { return r.Facility == 0 && clockRE.MatchString(r.Text) }

// drop forgets the oldest records, except for the splats among them.
func (j *journal) drop(n int) {
	for _, s := range dmesg.Splats(j.recs[:n]) {
		if len(j.old) < maxOld {
			j.old = append(j.old, s.Records...)
		}
	}
	j.lost += uint64(n)
	for _, r := range j.recs[:n] {
		if r.HasSeq {
			j.hole = r.Seq
		}
	}
	j.recs = append([]dmesg.Record(nil), j.recs[n:]...)
}

// close says that no more records come.
func (j *journal) close(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.err = err
	j.wake.change()
}

// begin makes the record with this number the last one before the test's window.
func (j *journal) begin(seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.base, j.lost = seq, 0
	j.recs = append([]dmesg.Record(nil), cut(j.recs, seq)...)
}

// replace takes the log as it was read after the guest's end, if that has more to say.
func (j *journal) replace(recs []dmesg.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	recs = cut(recs, j.base)
	if own := slices.DeleteFunc(slices.Clone(recs), ofClock); len(own) >= len(j.recs) {
		j.recs, j.lost, j.hole = own, 0, 0
		at := j.base
		for _, r := range recs {
			if !r.HasSeq {
				continue
			}
			if r.Seq > at+1 {
				j.lost, j.hole = j.lost+r.Seq-at-1, r.Seq-1
			}
			at = r.Seq
			j.last, j.seen = max(j.last, at), true
		}
	}
	j.wake.change()
}

// after returns the records behind a sequence number, and a channel that tells of more. The slice
// must not be changed.
func (j *journal) after(seq uint64) ([]dmesg.Record, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	recs := cut(j.recs, seq)
	if len(j.old) > 0 {
		recs = append(append([]dmesg.Record(nil), cut(j.old, seq)...), recs...)
	}
	return recs, j.wake.changed()
}

// whole reports whether no record behind a sequence number was lost.
func (j *journal) whole(seq uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.hole <= seq
}

// latest returns the highest sequence number seen.
func (j *journal) latest() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// all returns the records of the test and how many were lost.
func (j *journal) all() ([]dmesg.Record, uint64) {
	recs, _ := j.after(j.base)
	j.mu.Lock()
	defer j.mu.Unlock()
	return recs, j.lost
}

// cut returns the records behind the one with a sequence number. Records without one stay with their
// neighbours.
func cut(recs []dmesg.Record, seq uint64) []dmesg.Record {
	for i := len(recs) - 1; i >= 0; i-- {
		if recs[i].HasSeq && recs[i].Seq <= seq {
			return recs[i+1 : len(recs) : len(recs)]
		}
	}
	return recs[:len(recs):len(recs)]
}

// find waits for a record behind seq that fn likes. The error is the context's cause.
func (j *journal) find(ctx context.Context, seq uint64, fn func(dmesg.Record) bool) (dmesg.Record, error) {
	for {
		j.mu.Lock()
		recs, changed, err := cut(j.recs, seq), j.wake.changed(), j.err
		j.mu.Unlock()
		for _, r := range recs {
			if fn(r) {
				return r, nil
			}
			if r.HasSeq {
				seq = max(seq, r.Seq)
			}
		}
		if err != nil {
			return dmesg.Record{}, &lostError{err}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return dmesg.Record{}, context.Cause(ctx)
		}
	}
}
