package suite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// guest is a guest that only has a kernel log: all a script of values needs.
type guest struct {
	records chan dmesg.Record
	seq     atomic.Uint64
	done    chan struct{}
}

func newGuest() *guest {
	return &guest{records: make(chan dmesg.Record, 100), done: make(chan struct{})}
}

var errNone = &check.Refusal{Op: "ask", Name: "the guest", Errno: syscall.ENOSYS}

func (g *guest) Load(context.Context, string, []string, bool) (int, error) { return 0, errNone }
func (g *guest) Unload(context.Context, string) error                      { return errNone }
func (g *guest) Start(context.Context, check.Program) (check.Process, error) {
	return nil, errNone
}
func (g *guest) ReadFile(context.Context, string) ([]byte, error) { return nil, errNone }
func (g *guest) WriteFile(_ context.Context, name string, data []byte) error {
	if name != "/dev/kmsg" {
		return errNone
	}
	_, text, _ := strings.Cut(strings.TrimSpace(string(data)), ">")
	g.records <- dmesg.Record{Seq: g.seq.Add(1), HasSeq: true, Text: text, Facility: 1, Level: 7}
	return nil
}
func (g *guest) Exists(context.Context, string) (bool, error)    { return false, nil }
func (g *guest) List(context.Context, string) ([]string, error)  { return nil, nil }
func (g *guest) Taint(context.Context) (uint64, error)           { return 0, nil }
func (g *guest) Records(context.Context) ([]dmesg.Record, error) { return nil, nil }
func (g *guest) Done() <-chan struct{}                           { return g.done }
func (g *guest) End() check.End                                  { return check.End{} }
func (g *guest) Follow(ctx context.Context, fn func(dmesg.Record)) error {
	for {
		select {
		case r := <-g.records:
			fn(r)
		case <-ctx.Done():
			return nil
		}
	}
}

// tests makes a test of each script.
func tests(t *testing.T, scripts ...string) []*Test {
	t.Helper()
	var list []*Test
	for i, text := range scripts {
		name := fmt.Sprintf("test%d", i)
		sc, err := check.ParseText(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		sc.Name = name
		list = append(list, &Test{Name: name, Script: sc})
	}
	return list
}

const (
	good = "let x 1\ncheck $x == 1\n"
	bad  = "let x 1\ncheck $x == 2\n"
	skip = "#: skip not today\nlet x 1\n"
)

// booter boots guests and counts.
type booter struct {
	mu             sync.Mutex
	boots, open    int
	most           int
	closed         []string
	fail           func(t *Test, attempt int) error
	hold           chan struct{} // boots wait for it, if it is not nil
	startedWaiting chan struct{}
}

func (b *booter) boot(ctx context.Context, t *Test, attempt int) (*Machine, error) {
	b.mu.Lock()
	b.boots++
	b.open++
	b.most = max(b.most, b.open)
	b.mu.Unlock()
	if b.hold != nil {
		b.startedWaiting <- struct{}{}
		select {
		case <-b.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if b.fail != nil {
		if err := b.fail(t, attempt); err != nil {
			return nil, err
		}
	}
	return &Machine{Guest: newGuest(), Close: func(res *check.Result) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.open--
		b.closed = append(b.closed, res.Name)
	}}, nil
}

// outcomes writes results as "name status".
func outcomes(results []*check.Result) string {
	var list []string
	for _, r := range results {
		list = append(list, r.Name+" "+string(r.Status))
	}
	return strings.Join(list, ", ")
}

func TestRun(t *testing.T) {
	b := &booter{}
	list := tests(t, good, bad, skip, good)
	list = append(list, &Test{Name: "known", Script: list[0].Script, Result: &check.Result{Name: "known", Status: check.Fail, Verdict: check.VerdictFail}})
	var told []string
	results := Run(t.Context(), list, Options{Parallel: 3, Boot: b.boot, Watch: func(e Event) {
		if e.State == Told {
			told = append(told, e.Result.Name)
		}
	}})
	if got, want := outcomes(results), "test0 pass, test1 fail, test2 skip, test3 pass, known fail"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if want := []string{"test0", "test1", "test2", "test3", "known"}; !slices.Equal(told, want) {
		t.Errorf("told of %q", told)
	}
	if b.boots != 3 || b.open != 0 || len(b.closed) != 3 {
		t.Errorf("%d boots, %d still open, closed %q", b.boots, b.open, b.closed)
	}
}

func TestParallel(t *testing.T) {
	b := &booter{hold: make(chan struct{}), startedWaiting: make(chan struct{})}
	go func() {
		<-b.startedWaiting
		<-b.startedWaiting // two are booting at once
		close(b.hold)
		for range b.startedWaiting {
		}
	}()
	Run(t.Context(), tests(t, good, good, good, good, good), Options{Parallel: 2, Boot: b.boot})
	close(b.startedWaiting)
	if b.most != 2 {
		t.Errorf("%d at once, want 2", b.most)
	}
}

func TestFailFast(t *testing.T) {
	b := &booter{}
	results := Run(t.Context(), tests(t, good, bad, good), Options{FailFast: true, Boot: b.boot})
	if got, want := outcomes(results), "test0 pass, test1 fail, test2 skip"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if results[2].Reason != notRun {
		t.Errorf("reason %q", results[2].Reason)
	}
}

func TestRetries(t *testing.T) {
	b := &booter{fail: func(_ *Test, attempt int) error {
		if attempt < 3 {
			return errors.New("no machine")
		}
		return nil
	}}
	results := Run(t.Context(), tests(t, good), Options{Retries: 2, Boot: b.boot})
	if got := outcomes(results); got != "test0 pass" || b.boots != 3 {
		t.Errorf("got %s after %d boots", got, b.boots)
	}
	if want := []string{"attempt 1 of at most 3: no machine", "attempt 2 of at most 3: no machine"}; !slices.Equal(results[0].Notes, want) {
		t.Errorf("notes %q", results[0].Notes)
	}
	b = &booter{}
	if got := outcomes(Run(t.Context(), tests(t, bad), Options{Retries: 2, Boot: b.boot})); got != "test0 fail" || b.boots != 3 {
		t.Errorf("got %s after %d boots", got, b.boots)
	}
}

func TestNoMachine(t *testing.T) {
	b := &booter{fail: func(*Test, int) error { return fs.ErrNotExist }}
	results := Run(t.Context(), tests(t, good), Options{Boot: b.boot})
	if r := results[0]; r.Status != check.Error || r.Verdict != check.VerdictError || r.Reason != fs.ErrNotExist.Error() {
		t.Errorf("got %+v", r)
	}
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &booter{fail: func(t *Test, _ int) error {
		if t.Name == "test1" {
			cancel()
		}
		return nil
	}}
	results := Run(ctx, tests(t, good, good, good), Options{Retries: 5, Boot: b.boot})
	if got, want := outcomes(results), "test0 pass, test1 error, test2 error"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, r := range results[1:] {
		if r.Reason != interrupted || r.Verdict != check.VerdictError {
			t.Errorf("%s: %s, %s", r.Name, r.Reason, r.Verdict)
		}
	}
	if b.open != 0 {
		t.Errorf("%d machines left", b.open)
	}
}

func TestSeedAndNames(t *testing.T) {
	list := tests(t, "random x int 0 1000000\nlet y $x\n", "random x int 0 1000000\nlet y $x\n")
	list[1].Script.Name, list[1].Name = list[0].Script.Name, "test0@6.12" // the same test on another kernel
	results := Run(t.Context(), list, Options{Seed: 7, Boot: (&booter{}).boot})
	a, b := results[0], results[1]
	if a.Draws[0].Value != b.Draws[0].Value || a.Seed != 7 {
		t.Errorf("draws %v and %v", a.Draws, b.Draws)
	}
	if b.Name != "test0@6.12" {
		t.Errorf("name %q", b.Name)
	}
}
