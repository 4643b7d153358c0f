package kbuild

import (
	"fmt"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// Update is news of work that takes its time: how far a stage has come, or a line worth
// telling. A stage may send many, from any goroutine but one at a time.
type Update struct {
	Stage string // "download", "verify", "unpack", "configure", "build"
	Done  int64  // how much is done
	Total int64  // of how much; 0 if that is not known
	Unit  string // of Done and Total: "bytes", "objects", or "" if they say nothing
	Note  string // one plain line for people, no full stop: a stand-in is used, a lock is waited for

	Warning bool // the note is one that everybody should read
}

// progressEvery is how often a stage tells how far it has come.
const progressEvery = 100 * time.Millisecond

// throttle lets a call through now and then.
type throttle struct {
	every time.Duration
	last  time.Time
}

func (t *throttle) do(f func()) {
	if now := time.Now(); now.Sub(t.last) >= t.every {
		t.last = now
		f()
	}
}

// noteWait returns a callback for [cache.Cache.WithOnWait] that tells whom a stage waits for.
func noteWait(stage string, progress func(Update)) func(cache.Wait) {
	return func(w cache.Wait) {
		who := "another kaleido"
		if w.Holder.PID != 0 {
			who = fmt.Sprintf("another kaleido (pid %d)", w.Holder.PID)
		}
		what := w.Holder.Describe
		if what == "" {
			what = fmt.Sprintf("%s/%s", w.Kind, w.Key)
		}
		progress(Update{Stage: stage, Note: fmt.Sprintf("waiting for %s that is making %s", who, what)})
	}
}
