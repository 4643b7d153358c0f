package check

import (
	"testing"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// What the kernel says of its clock a second after the boot is in no test's log, unless a program says it.
func TestJournalLeavesOutTheClock(t *testing.T) {
	said := []dmesg.Record{
		{Text: "m: here"},
		{Text: "tsc: Refined TSC clocksource calibration: 2445.408 MHz"},
		{Text: "clocksource: tsc: mask: 0xffffffffffffffff max_cycles: 0x233fc6bd520, max_idle_ns: 440795230742 ns"},
		{Text: "clocksource: Switched to clocksource tsc"},
		{Text: "clocksource: Switched to clocksource tsc", Facility: 1},
		{Text: "m: clocksource: Switched to clocksource tsc"},
	}
	for i := range said {
		said[i].Seq, said[i].HasSeq = uint64(i+1), true
	}
	check := func(what string, j *journal) {
		t.Helper()
		got, lost := j.all()
		if len(got) != 3 || got[0].Seq != 1 || got[1].Seq != 5 || got[2].Seq != 6 || lost != 0 || !j.whole(0) {
			t.Errorf("%s: %d lost, got %+v", what, lost, got)
		}
	}
	var streamed, read journal
	for _, r := range said {
		streamed.add(r)
	}
	check("streamed", &streamed)
	read.replace(said)
	check("read after the end", &read)
}
