package dmesg

import (
	"fmt"
	"strings"
	"testing"
)

func TestOthers(t *testing.T) {
	recs := log(4,
		"T9 NMI backtrace for cpu 0", "T9 CPU: 0 PID: 9 Comm: insmod", "T9 Call Trace:", "T9  oops_enter+0x1/0x2",
		"T9 Sending NMI from CPU 0 to CPUs 1-2:",
		"C2 NMI backtrace for cpu 2", "T0 NMI backtrace for cpu 1", "C2 CPU: 2 UID: 0 PID: 3 Comm: b", "T0 CPU: 1 PID: 0 Comm: swapper/1",
		"C2 Tainted: [O]=OOT_MODULE", "C2 Call Trace:", "T0 Call Trace:", "C2  busy+0x1/0x2", "T0  do_idle+0x1/0x2", "T0 m: not of it", "T0  nor this",
		"T9 BUG: kernel NULL pointer dereference, address: 0000000000000000", "T9 CPU: 0 UID: 0 PID: 9 Comm: insmod", "T9 Call Trace:", "T9  f+0x1/0x2", "T9 ---[ end trace 0 ]---")
	old := log(4, "T0 NMI backtrace for cpu 1", "T0 Call Trace:")
	for i := range recs {
		recs[i].Level, recs[i].Time, recs[i].Seq = 1, recs[i].Time+10*aroundSplat, recs[i].Seq+uint64(len(old))
	}
	recs = append(old, recs...)
	splats := Splats(recs)
	if len(splats) != 1 {
		t.Fatalf("%d splats", len(splats))
	}
	var got []string
	for _, b := range splats[0].Others(recs) {
		got = append(got, fmt.Sprintf("%d: %s", b.CPU, ranges(b.Records)))
	}
	if want := "2: 7,9,11-12,14|1: 8,10,13,15"; strings.Join(got, "|") != want {
		t.Errorf("Others() = %s, want %s", strings.Join(got, "|"), want)
	}
}
