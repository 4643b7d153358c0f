package guest

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A reaper waits for the agent's children. There is one for all of them, since
// PID 1 must also reap processes it never started, and wait4(-1) would take a
// child from whoever waits for it by its pid.
type reaper struct {
	orphans bool // reap all children of this process, as PID 1 must

	mu       sync.Mutex // held across fork and register, and across wait and unregister
	children map[int]*child
	started  chan struct{} // cap 1: there is a child to wait for
}

// A child is a process the agent started.
type child struct {
	reaper *reaper
	pid    int
	done   chan struct{}   // closed when it was reaped
	status unix.WaitStatus // valid then
}

func newReaper(orphans bool) *reaper {
	r := &reaper{orphans: orphans, children: map[int]*child{}, started: make(chan struct{}, 1)}
	if orphans {
		go r.reapAll()
	}
	return r
}

// start registers the process that fork makes before it can be reaped.
func (r *reaper) start(fork func() (int, error)) (*child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return nil, err
	}
	c := &child{reaper: r, pid: pid, done: make(chan struct{})}
	r.children[pid] = c
	if r.orphans {
		select {
		case r.started <- struct{}{}:
		default:
		}
	} else {
		go r.reapOne(pid)
	}
	return c, nil
}

// reapAll waits for any child, for ever. It waits with WNOWAIT first, so that the
// child stays a zombie, and its pid its own, until the lock is held.
func (r *reaper) reapAll() {
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == unix.ECHILD {
			<-r.started // only a child of ours can leave us an orphan
			continue
		}
		for err == nil || err == unix.EINTR {
			if !r.reap(-1) {
				break
			}
		}
	}
}

func (r *reaper) reapOne(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	r.reap(pid)
}

// reap takes one dead child, if there is one, and tells who waits for it.
func (r *reaper) reap(which int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(which, &status, unix.WNOHANG, nil)
	if err != nil || pid <= 0 {
		return err == unix.EINTR
	}
	if c := r.children[pid]; c != nil {
		delete(r.children, pid)
		c.status = status
		close(c.done)
	}
	return true
}

// signal sends a signal to the child, or to its process group; ESRCH if it has
// been reaped.
func (c *child) signal(sig syscall.Signal, group bool) error {
	c.reaper.mu.Lock()
	defer c.reaper.mu.Unlock()
	select {
	case <-c.done:
		return unix.ESRCH
	default:
	}
	pid := c.pid
	if group {
		pid = -pid
	}
	return unix.Kill(pid, sig)
}
