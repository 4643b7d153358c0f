package check

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// load is a module that was loaded, as it first was.
type load struct {
	module string
	params []string
	deps   bool
	pids   []string // parameters that were the pids of living processes

	timeout time.Duration // of the step that loaded it, 0 if it named none
}

// loadedModules is the folder that lists the modules.
const loadedModules = "/sys/module"

// inventoried are the folders in which a module may leave something behind.
var inventoried = []string{loadedModules, "/proc", "/dev", "/sys/class"}

// processes is where an inventory of /proc has the numbers: those that come and go are no entries of a module's.
const processes = "processes"

// inventory lists folders, all at once: each question costs more than its answer.
func (r *run) inventory(ctx context.Context, dirs []string) (map[string][]string, error) {
	lists := make([][]string, len(dirs))
	asked, ctx := errgroup.WithContext(ctx)
	for i, dir := range dirs {
		asked.Go(func() error {
			names, err := r.guest.List(ctx, dir)
			if err != nil && !errors.As(err, new(*Refusal)) {
				return err
			}
			lists[i] = names
			return nil
		})
	}
	if err := asked.Wait(); err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for i, dir := range dirs {
		for _, name := range lists[i] {
			if _, err := strconv.Atoi(name); dir == "/proc" && err == nil {
				all[processes] = append(all[processes], name)
			} else {
				all[dir] = append(all[dir], name)
			}
		}
	}
	return all, nil
}

// left returns what is in the folders now and was not before the test, in the folders' order.
func (r *run) left(dirs ...string) ([]string, error) {
	var now map[string][]string
	err := r.ask(0, "list "+strings.Join(dirs, " "), func(ctx context.Context) (err error) {
		now, err = r.inventory(ctx, dirs)
		return err
	})
	var more []string
	for _, dir := range dirs {
		for _, name := range now[dir] {
			if !slices.Contains(r.before[dir], name) {
				more = append(more, dir+"/"+name)
			}
		}
	}
	return more, err
}

// maxPIDs is how many numbers of one parameter are looked at: longer lists are no pids.
const maxPIDs = 8

// parameterPIDs returns the parameters' numbers that are processes now.
func (r *run) parameterPIDs(params []string) ([]string, error) {
	var pids []string
	for _, p := range params {
		_, value, _ := strings.Cut(p, "=")
		if strings.Count(value, ",") >= maxPIDs {
			continue
		}
		for v := range strings.SplitSeq(value, ",") {
			if n, err := strconv.Atoi(v); err != nil || n <= 2 {
				continue
			}
			alive, err := r.exists("/proc/" + v)
			if err != nil {
				return nil, err
			}
			if alive {
				pids = append(pids, v)
			}
		}
	}
	return pids, nil
}

func (r *run) exists(name string) (bool, error) {
	var there bool
	err := r.ask(0, "look for "+name, func(ctx context.Context) (err error) {
		there, err = r.guest.Exists(ctx, name)
		return err
	})
	return there, err
}

// hygieneName is the name of the check that is made unasked.
const hygieneName = "Modules unload, load again and leave nothing behind."

// hygieneCheck is the last check of every test that has passed so far.
func (r *run) hygieneCheck() {
	reason := r.sc.Requires.HygieneOff
	switch {
	case r.res.Status != Pass || r.end != nil:
		return
	case reason != "":
		r.res.Checks = append(r.res.Checks, Check{Name: hygieneName, Status: Skip, Reason: reason})
		return
	}
	r.res.Checks = append(r.res.Checks, Check{Name: hygieneName, Status: Pass})
	r.check, r.step = &r.res.Checks[len(r.res.Checks)-1], &Step{}
	r.inHygiene = true
	r.timed(func() *Fault {
		var log logBuffer
		defer func() { r.check.Log = log.String() }()
		err := r.hygiene(&log)
		if err == nil {
			return nil
		}
		f := r.fault(err)
		if f.Kind == FaultStep {
			f.Kind = FaultHygiene
		}
		return f
	})
}

func (r *run) hygiene(log *logBuffer) error {
	if err := r.unloadAll(log); err != nil {
		return err
	}
	var before map[string][]string
	if len(r.loads) > 0 {
		err := r.ask(0, "list processes", func(ctx context.Context) (err error) {
			before, err = r.inventory(ctx, []string{"/proc"})
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, l := range r.loads {
		if gone, err := r.goneProcess(l); err != nil {
			return err
		} else if gone != "" {
			note := fmt.Sprintf("%s is not loaded again: process %s of its parameters has ended", l.module, gone)
			fmt.Fprintln(log, note)
			continue
		}
		command := strings.TrimSpace(l.module + " " + strings.Join(l.params, " "))
		fmt.Fprintf(log, "> insmod %s\n", command)
		if there, err := r.exists(loadedModules + "/" + sysName(l.module)); err != nil {
			return err
		} else if there {
			continue // as what another one needs
		}
		err := r.ask(l.timeout, "load "+command+" again", func(ctx context.Context) error {
			_, err := r.guest.Load(ctx, l.module, l.params, l.deps)
			return err
		})
		if err != nil {
			return fmt.Errorf("load %s again: %w", command, causeOf(err))
		}
	}
	if err := r.unloadAll(log); err != nil {
		return err
	}
	left, err := r.left(inventoried...)
	if err == nil && len(left) > 0 {
		err = &mismatch{"nothing left behind", strings.Join(left, " ")}
	}
	if err != nil || len(r.loads) == 0 {
		return err
	}
	if err := r.threads(before[processes]); err != nil {
		return err
	}
	return r.leaks(log)
}

// threadEnd is how long a kernel thread may take to end that is ending.
const threadEnd = time.Second

// threads looks for kernel threads that run on without their module. The processes in before were there when the modules
// were loaded again, and nothing but that has been done since: what else a test does may start threads of the kernel's own.
func (r *run) threads(before []string) error {
	ctx, cancel := context.WithTimeout(r.live, r.opts.scaled(threadEnd))
	defer cancel()
	again := time.NewTicker(recheck)
	defer again.Stop()
	for {
		left, err := r.newThreads(before)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return &mismatch{"no kernel thread left behind", strings.Join(left, ", ")}
		}
	}
}

// statRE takes a thread's name, state and flags out of /proc/PID/stat; see proc(5).
var statRE = regexp.MustCompile(`(?s)^\d+ \((.*)\) (.)(?: -?\d+){5} (\d+) `)

// PF_KTHREAD and PF_WQ_WORKER of include/linux/sched.h.
const (
	pfKthread  = 0x00200000
	pfWqWorker = 0x00000020
)

// newThreads returns those threads. The workers of work queues, whatever else may have their name, come when there is
// something to do.
func (r *run) newThreads(before []string) ([]string, error) {
	var left []string
	err := r.ask(0, "look for kernel threads", func(ctx context.Context) error {
		now, err := r.inventory(ctx, []string{"/proc"})
		if err != nil {
			return err
		}
		for _, pid := range now[processes] {
			if slices.Contains(before, pid) {
				continue
			}
			text, err := r.guest.ReadFile(ctx, "/proc/"+pid+"/stat")
			if errors.As(err, new(*Refusal)) {
				continue // it has ended
			}
			if err != nil {
				return err
			}
			m := statRE.FindStringSubmatch(string(text))
			if m == nil || strings.Contains("ZX", m[2]) {
				continue
			}
			if flags, err := strconv.ParseUint(m[3], 10, 64); err == nil && flags&(pfKthread|pfWqWorker) == pfKthread {
				left = append(left, m[1]+" ("+pid+")")
			}
		}
		return nil
	})
	return left, err
}

// Of kmemleak, the kernel's memory leak detector (Documentation/dev-tools/kmemleak.rst).
const (
	kmemleakFile = "/sys/kernel/debug/kmemleak"
	// kmemleakAge is how old memory must be before it is reported (MSECS_MIN_AGE in mm/kmemleak.c),
	// and a little.
	kmemleakAge = 5500 * time.Millisecond
	// kmemleakScan is how long a look at all memory may take: a second or two, but on a busy machine.
	kmemleakScan = 30 * time.Second
)

// leaks has a kernel with kmemleak look for memory that nothing points at any more. It reports what has
// not changed between two looks.
func (r *run) leaks(log *logBuffer) error {
	if r.opts.Facts.Config["DEBUG_KMEMLEAK"] != "y" {
		return nil
	}
	scan := func() error {
		fmt.Fprintf(log, "> write %s scan\n", kmemleakFile)
		return r.ask(kmemleakScan, "look for memory leaks", func(ctx context.Context) error {
			return r.guest.WriteFile(ctx, kmemleakFile, []byte("scan"))
		})
	}
	if err := scan(); err != nil {
		if errors.As(err, new(*Refusal)) {
			return nil // switched off (kmemleak=off), or out of memory for itself
		}
		return err
	}
	grow := time.NewTimer(kmemleakAge)
	defer grow.Stop()
	select {
	case <-grow.C:
	case <-r.live.Done():
	}
	if err := scan(); err != nil {
		return err
	}
	var text []byte
	err := r.ask(0, "read "+kmemleakFile, func(ctx context.Context) (err error) {
		text, err = r.guest.ReadFile(ctx, kmemleakFile)
		return err
	})
	if err == nil && len(text) > 0 {
		err = &mismatch{"no memory is leaked", leakText(string(text))}
	}
	return err
}

// leakText is the first of kmemleak's findings, without the memory's content, and how many there are.
func leakText(report string) string {
	first, rest, _ := strings.Cut(strings.TrimPrefix(report, leakHead), leakHead)
	var kept []string
	for line := range strings.Lines(leakHead + first) {
		if !leakDump.MatchString(line) {
			kept = append(kept, strings.TrimRight(line, "\n"))
		}
	}
	if rest != "" {
		kept = append(kept, fmt.Sprintf("and %d more", strings.Count(rest, leakHead)+1))
	}
	return strings.Join(kept, "\n")
}

const leakHead = "unreferenced object "

// leakDump matches the lines of a finding that show the memory.
var leakDump = regexp.MustCompile(`^ +(?:hex dump|(?:[0-9a-f]{2} ){2})`)

// goneProcess returns a pid among a module's parameters that is no longer alive.
func (r *run) goneProcess(l load) (string, error) {
	for _, pid := range l.pids {
		if alive, err := r.exists("/proc/" + pid); err != nil || !alive {
			return pid, err
		}
	}
	return "", nil
}

// sysName is a module's name as the kernel has it.
func sysName(module string) string { return strings.ReplaceAll(module, "-", "_") }

// unloadAll unloads every module that came since the test began, users before what they use. Helpers
// that hold one are killed.
func (r *run) unloadAll(log *logBuffer) error {
	for killed := false; ; {
		err := r.unloadUnused(log)
		if err == nil || r.abort != nil || killed {
			return err
		}
		killed = true
		r.killHelpers()
	}
}

// unloadUnused unloads what nothing uses until nothing is left or nothing can be unloaded.
func (r *run) unloadUnused(log *logBuffer) error {
	for {
		left, err := r.left(loadedModules)
		if err != nil || len(left) == 0 {
			return err
		}
		unloaded, refusal := r.unloadRound(log, left)
		if !unloaded {
			return refusal
		}
	}
}

// unloadRound tries to unload the modules nobody uses; dirs are theirs.
func (r *run) unloadRound(log *logBuffer, dirs []string) (unloaded bool, refusal error) {
	for _, dir := range dirs {
		name := path.Base(dir)
		if count, err := r.references(name); err != nil {
			return false, err
		} else if count != "0" {
			refusal = &mismatch{"reference count of " + name + " is 0", count}
			continue
		}
		fmt.Fprintf(log, "> rmmod %s\n", name)
		err := r.ask(r.patience[name], "unload "+name, func(ctx context.Context) error { return r.guest.Unload(ctx, name) })
		switch {
		case r.abort != nil:
			return false, r.abort
		case err != nil:
			refusal = fmt.Errorf("module %s refuses to unload: %w", name, causeOf(err))
		default:
			unloaded = true
		}
	}
	return unloaded, refusal
}

// references returns what refcnt says, "0" for a module that has none.
func (r *run) references(name string) (string, error) {
	var text []byte
	err := r.ask(0, "reference count of "+name, func(ctx context.Context) (err error) {
		text, err = r.guest.ReadFile(ctx, "/sys/module/"+name+"/refcnt")
		return err
	})
	if errors.As(err, new(*Refusal)) {
		return "0", nil
	}
	return strings.TrimSpace(string(text)), err
}

// causeOf takes operation and name off a refusal, where the message has them already.
func causeOf(err error) error {
	var no *Refusal
	if errors.As(err, &no) {
		return errors.New(no.Cause())
	}
	return err
}
