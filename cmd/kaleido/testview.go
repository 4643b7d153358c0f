package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/modules/report"
	"github.com/linux-kaleidoscope/kaleido/modules/suite"
	"github.com/linux-kaleidoscope/kaleido/vm"
)

// testView shows a run while it goes on: the results in the order of the tests, and what is going on,
// on a terminal as bars, elsewhere as a line now and then.
type testView struct {
	run  *testRun
	pool *mpb.Progress
	sum  *mpb.Bar
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	running map[int]*testLine
	ended   int
	bad     int
}

// testLine is a test under way.
type testLine struct {
	name, state string
	since       time.Time
	bar         *mpb.Bar
}

func newTestView(r *testRun) *testView {
	v := &testView{run: r, stop: make(chan struct{}), running: map[int]*testLine{}}
	switch a := r.app; {
	case a.bars():
		v.pool = mpb.New(mpb.WithOutput(a.stderr), mpb.WithAutoRefresh(), mpb.WithWidth(30))
		v.sum = v.pool.AddBar(int64(len(r.tests)), mpb.BarPriority(1<<20),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return v.summary() })),
			mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO)))
		a.msg.around = func(write func(io.Writer)) { write(v.pool) }
	case a.progress != "none" && !a.quiet:
		v.done.Go(v.tell)
	}
	return v
}

// watch takes the news of the suite.
func (v *testView) watch(e suite.Event) {
	switch e.State {
	case suite.Booting:
		v.begin(e)
	case suite.Running:
		v.mu.Lock()
		v.running[e.Index].state = e.Section
		v.mu.Unlock()
	case suite.Ended:
		v.end(e)
	case suite.Told:
		v.print(e)
	}
}

func (v *testView) begin(e suite.Event) {
	line := &testLine{name: e.Test.Name, state: "booting", since: time.Now()}
	v.mu.Lock()
	old := v.running[e.Index]
	v.running[e.Index] = line
	v.mu.Unlock()
	switch {
	case old != nil: // another attempt
		line.bar = old.bar
	case v.pool != nil:
		line.bar = v.pool.New(0, mpb.NopStyle(), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return v.describe(e.Index) })))
	}
}

// describe is what a running test's bar says.
func (v *testView) describe(i int) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	line := v.running[i]
	if line == nil {
		return ""
	}
	return line.String()
}

func (l *testLine) String() string {
	return fmt.Sprintf("%s: %s (%s)", l.name, l.state, time.Since(l.since).Round(time.Second))
}

func (v *testView) end(e suite.Event) {
	v.mu.Lock()
	line := v.running[e.Index]
	delete(v.running, e.Index)
	v.ended++
	if e.Result.Status == check.Fail || e.Result.Status == check.Error {
		v.bad++
	}
	v.mu.Unlock()
	if line != nil && line.bar != nil {
		line.bar.Abort(true)
	}
	if v.sum != nil {
		v.sum.Increment()
	}
}

func (v *testView) summary() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := fmt.Sprintf("kaleido: %d of %d tests ", v.ended, len(v.run.tests))
	if v.bad > 0 {
		text += fmt.Sprintf("(%d bad) ", v.bad)
	}
	return text
}

// print writes a result, and beside one that is bad how to see more.
func (v *testView) print(e suite.Event) {
	r := v.run
	text := bytes.NewBufferString(report.Test(e.Result, report.TextOptions{Verbose: r.app.verbose}))
	cargo := r.cargos[e.Test]
	if e.Result.Status == check.Fail || e.Result.Status == check.Error {
		if dir := r.dir.File(cargo.dir); exists(dir) {
			fmt.Fprintf(text, "  logs:  %s\n", dir)
		}
		fmt.Fprintf(text, "  again: %s\n", vm.ShellQuote(cargo.again))
	}
	if f, ok := r.text.(*os.File); ok && v.pool != nil && term.IsTerminal(int(f.Fd())) {
		_, _ = v.pool.Write(text.Bytes()) // to the terminal, above the bars
		return
	}
	_, _ = r.text.Write(text.Bytes())
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// tell says now and then what runs, so that CI does not take us for dead.
func (v *testView) tell() {
	tick := time.NewTicker(plainInterval)
	defer tick.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-tick.C:
		}
		v.mu.Lock()
		var lines []string
		for _, l := range v.running {
			if time.Since(l.since) >= plainInterval {
				lines = append(lines, l.String())
			}
		}
		v.mu.Unlock()
		slices.Sort(lines)
		if len(lines) > 0 {
			v.run.app.msg.printf("running %s", strings.Join(lines, ", "))
		}
	}
}

// close removes the bars and gives the terminal back.
func (v *testView) close() {
	close(v.stop)
	v.done.Wait()
	if v.pool == nil {
		return
	}
	v.sum.Abort(true)
	v.pool.Wait()
	v.run.app.msg.around = nil
}
