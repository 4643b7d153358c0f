package main

import (
	"io"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
)

// plainInterval is how often a long step says how far it is where no terminal
// draws a bar: often enough that CI does not take it for dead.
const plainInterval = 15 * time.Second

// progress shows what long work does: one bar on a terminal, lines elsewhere.
type progress struct {
	app *app

	mu    sync.Mutex
	pool  *mpb.Progress
	bar   *mpb.Bar
	stage string
	last  time.Time
}

func (a *app) newProgress() *progress {
	p := &progress{app: a}
	if a.bars() {
		p.pool = mpb.New(mpb.WithOutput(a.stderr), mpb.WithAutoRefresh(), mpb.WithWidth(40))
		a.msg.around = func(write func(io.Writer)) { write(p.pool) }
	}
	return p
}

// update takes one report of kbuild's. It may be called from any goroutine.
func (p *progress) update(u kbuild.Update) {
	switch {
	case u.Warning:
		p.app.msg.warningf("%s", u.Note)
		return
	case u.Note != "":
		p.app.msg.printf("%s", u.Note)
		return
	}
	if p.app.progress == "none" || p.app.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool != nil {
		p.draw(u)
		return
	}
	p.tell(u)
}

func (p *progress) draw(u kbuild.Update) {
	if u.Stage != p.stage {
		p.dropBar()
		p.stage = u.Stage
		p.bar = p.pool.AddBar(u.Total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name("kaleido: "+u.Stage+" ")),
			mpb.AppendDecorators(counters(u.Unit), decor.Name(" "), decor.Elapsed(decor.ET_STYLE_GO)))
	}
	if u.Total > 0 {
		p.bar.SetTotal(u.Total, false)
	}
	p.bar.SetCurrent(u.Done)
}

func counters(unit string) decor.Decorator {
	if unit == "bytes" {
		return decor.CountersKibiByte("% .1f / % .1f")
	}
	return decor.CountersNoUnit("%d/%d " + unit)
}

func (p *progress) tell(u kbuild.Update) {
	now := time.Now()
	switch {
	case u.Stage != p.stage:
		p.stage, p.last = u.Stage, now
		p.app.msg.printf("%s", u.Stage)
	case now.Sub(p.last) >= plainInterval:
		p.last = now
		p.app.msg.printf("%s: %s", u.Stage, amount(u))
	}
}

func amount(u kbuild.Update) string {
	show := func(n int64) string { return humanize.Comma(n) }
	unit := " " + u.Unit
	if u.Unit == "bytes" {
		show, unit = func(n int64) string { return humanize.IBytes(uint64(n)) }, ""
	}
	if u.Total == 0 {
		return show(u.Done) + unit
	}
	return show(u.Done) + " of " + show(u.Total) + unit
}

func (p *progress) dropBar() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bar.Wait()
		p.bar = nil
	}
}

// close removes the bar and gives the terminal back.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pool == nil {
		return
	}
	p.dropBar()
	p.app.msg.around = nil
	p.pool.Wait()
	p.pool = nil
}

// logWriter is where the output of make and friends goes: standard error
// with --verbose, nowhere else (the full log is kept in a file).
func (a *app) logWriter() io.Writer {
	if a.verbose {
		return a.stderr
	}
	return io.Discard
}
