package guest

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// threadCheck is how soon, and how often, it is looked whether the thread is still there that does
// what takes its time.
const threadCheck = 100 * time.Millisecond

// serveFile does what ends in a file's handler, a module's perhaps. An oops in that ends the thread that called
// it, for which the runtime would wait for ever: then the request's reply says so.
func (st *agentStream) serveFile(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread := unix.Gettid()
	if thread == unix.Getpid() {
		// A process's first thread is there, as a zombie, until all of them have ended. While this goroutine has
		// it, another goroutine cannot.
		done := make(chan error)
		go func() { done <- st.serveFile(do) }()
		return <-done
	}
	var (
		mu    sync.Mutex
		over  bool
		timer *time.Timer
	)
	mu.Lock()
	timer = time.AfterFunc(threadCheck, func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		if unix.Tgkill(unix.Getpid(), thread, 0) == unix.ESRCH {
			st.finish(failed(diedError(unix.SIGKILL)))
			return
		}
		timer.Reset(threadCheck)
	})
	mu.Unlock()
	err := do()
	mu.Lock()
	defer mu.Unlock()
	over = true
	timer.Stop()
	return err
}
