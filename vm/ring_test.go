package vm_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// kmsgReader reads the guest's /dev/kmsg as it grows.
type kmsgReader struct {
	t     *testing.T
	mu    sync.Mutex
	recs  []dmesg.Record
	grown chan struct{}
}

func readKmsg(t *testing.T, m *vm.Instance) *kmsgReader {
	r := &kmsgReader{t: t, grown: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		_ = m.Agent().Kmsg(ctx, r.add) // ends with ctx or the guest
	}()
	return r
}

func (r *kmsgReader) add(line string) {
	rec, err := dmesg.ParseKmsg(line)
	if err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recs = append(r.recs, rec)
	select {
	case r.grown <- struct{}{}:
	default:
	}
}

// until waits for a record with a text, and returns all so far.
func (r *kmsgReader) until(text string) []dmesg.Record {
	r.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		recs := r.recs[:len(r.recs):len(r.recs)]
		r.mu.Unlock()
		for i := len(recs) - 1; i >= 0; i-- {
			if recs[i].Text == text {
				return recs
			}
		}
		select {
		case <-r.grown:
		case <-limit:
			r.t.Fatalf("no record %q among %d", text, len(recs))
		}
	}
}

// sameRecords compares a reading of the ring with the kernel's own of
// /dev/kmsg, record by record, from the first record of the ring on.
func sameRecords(t *testing.T, ring, kmsg []dmesg.Record) {
	t.Helper()
	if len(ring) == 0 {
		t.Fatal("the ring is empty")
	}
	bySeq := make(map[uint64]dmesg.Record, len(kmsg))
	for _, r := range kmsg {
		bySeq[r.Seq] = r
	}
	compared := 0
	for i, got := range ring {
		if i > 0 && got.Seq != ring[i-1].Seq+1 {
			t.Fatalf("record %d follows %d in the ring", got.Seq, ring[i-1].Seq)
		}
		want, ok := bySeq[got.Seq]
		if !ok {
			continue // later than the reading of /dev/kmsg
		}
		compared++
		if got.Time/time.Microsecond != want.Time/time.Microsecond {
			t.Fatalf("record %d: time %v, /dev/kmsg has %v", got.Seq, got.Time, want.Time)
		}
		got.Time, got.Source = want.Time, want.Source
		if got != want {
			t.Fatalf("record %d:\n ring %+v\n kmsg %+v", got.Seq, got, want)
		}
	}
	if last := kmsg[len(kmsg)-1].Seq; ring[len(ring)-1].Seq < last {
		t.Errorf("the ring ends with record %d, /dev/kmsg with %d", ring[len(ring)-1].Seq, last)
	}
	t.Logf("%d records are the same, %d to %d", compared, ring[0].Seq, ring[len(ring)-1].Seq)
}

// TestRingAgainstKmsg proves the reading of guest memory by the kernel's own.
func TestRingAgainstKmsg(t *testing.T) {
	cfg := guestConfig(t)
	cfg.Quiet = true
	m := boot(t, cfg)
	kmsg := readKmsg(t, m)

	mark := func(name string) []dmesg.Record {
		t.Helper()
		sh(t, m, "echo mark-"+name+" > /dev/kmsg")
		return kmsg.until("mark-" + name)
	}
	recs := mark("boot")
	sameRecords(t, ring(t, m, cfg.SystemMap), recs)
	if recs[0].Seq != 0 || !strings.HasPrefix(recs[0].Text, "Linux version") {
		t.Errorf("the first record is %+v", recs[0])
	}

	sh(t, m, `printf x > /dev/kmsg
		printf '<11>%0900d' 7 > /dev/kmsg
		printf 'one\ntwo\nthree' > /dev/kmsg
		printf '<30>tab\there, bell \a, umlaut \303\274, back\\slash' > /dev/kmsg`)
	recs = mark("shapes")
	sameRecords(t, ring(t, m, cfg.SystemMap), recs)

	t.Run("wrap", func(t *testing.T) { testRingWrap(t, m, cfg, mark) })

	before := mark("end")
	if _, err := m.Agent().Run(t.Context(), "sh", "-c", "echo c > /proc/sysrq-trigger"); err == nil {
		t.Error("the script that panicked ended well")
	}
	wait(t, m, vm.Panicked)
	after := ring(t, m, cfg.SystemMap)
	sameRecords(t, after, before)
	var text strings.Builder
	for _, r := range after {
		fmt.Fprintln(&text, r)
	}
	if !strings.Contains(text.String(), "Kernel panic - not syncing: sysrq triggered crash") {
		t.Error("the panic is not in the ring")
	}
	all, err := m.Dmesg(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameRecords(t, all, before)
	if all[0].Seq != 0 {
		t.Errorf("Dmesg() begins with record %d after the ring wrapped, want what the agent had sent", all[0].Seq)
	}
}

// ringBytes is more than the test kernel's ring holds (CONFIG_LOG_BUF_SHIFT=18).
const ringBytes = 300 << 10

func testRingWrap(t *testing.T, m *vm.Instance, cfg vm.Config, mark func(string) []dmesg.Record) {
	sh(t, m, fmt.Sprintf(`line=$(printf '%%0100d' 0); i=0
		while [ $i -lt %d ]; do echo "line $i $line" > /dev/kmsg; i=$((i+1)); done`, ringBytes/100))
	want := mark("wrap")
	reads := m.Reads()
	start := time.Now()
	recs := ring(t, m, cfg.SystemMap)
	took := time.Since(start)
	sameRecords(t, recs, want)
	if recs[0].Seq == 0 {
		t.Error("the ring did not wrap")
	}
	t.Logf("%d records in %v by %d reads of guest memory", len(recs), took, m.Reads()-reads)
	start = time.Now()
	all, err := m.Dmesg(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Dmesg: %d records in %v", len(all), time.Since(start))
	sameRecords(t, all, want)
}
