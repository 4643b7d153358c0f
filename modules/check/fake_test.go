package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// fakeGuest is a guest in memory: its kernel is this struct.
type fakeGuest struct {
	mu       sync.Mutex
	wake     broadcast
	recs     []dmesg.Record
	seq      uint64
	files    map[string]string
	modules  map[string]fakeModule
	loaded   map[string]bool
	programs map[string]fakeProgram
	taint    uint64
	pid      int
	alive    map[int]bool
	hung     chan struct{} // closed: the guest answers nothing
	lost     error         // every call fails with it
	swallow  int           // so many marks get lost
	unread   bool          // nobody reads the kernel log any more
	unlogged bool          // there is no /dev/kmsg any more
	writes   []string
	done     chan struct{}
	end      End
}

type fakeModule struct {
	init func(g *fakeGuest, params []string) error
	exit func(g *fakeGuest) error
}

// fakeProgram runs until it returns; sig gets the signals it does not die of.
type fakeProgram func(p *fakeProcess) ExitStatus

type fakeProcess struct {
	g              *fakeGuest
	pid            int
	argv           []string
	in             *bufio.Reader
	stdout, stderr io.Writer
	sig            chan syscall.Signal
	done           chan struct{}
	status         ExitStatus
}

func newFake() *fakeGuest {
	g := &fakeGuest{
		files:   map[string]string{"/proc/version": "Linux 6.1\n", "/dev/null": "", "/proc/sys/kernel/x": "0"},
		modules: map[string]fakeModule{}, loaded: map[string]bool{}, programs: map[string]fakeProgram{},
		alive: map[int]bool{1: true}, pid: 100, hung: make(chan struct{}), done: make(chan struct{}),
	}
	g.say("Linux version 6.1.192")
	g.addModules()
	g.addPrograms()
	return g
}

func (g *fakeGuest) addModules() {
	g.modules["hello"] = fakeModule{
		init: func(g *fakeGuest, params []string) error {
			g.say("hello: loading out-of-tree module taints kernel.")
			g.taint |= taintOutOfTree
			g.say("hello: Hello, world")
			for _, p := range params {
				g.say("hello: " + p)
			}
			return nil
		},
		exit: func(g *fakeGuest) error { g.say("hello: Goodbye, world"); return nil },
	}
	g.modules["refuse"] = fakeModule{init: func(*fakeGuest, []string) error { return &Refusal{Errno: syscall.ESRCH} }}
	g.modules["slow"] = fakeModule{init: func(*fakeGuest, []string) error { return errStuck }}
	g.modules["oopser"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
		g.oops("crash_init+0x5/0x10 [oopser]")
		return &Refusal{Signal: syscall.SIGKILL}
	}}
	g.modules["liar"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
		g.say("BUG: kernel NULL pointer dereference, address: 0000000000000000")
		g.say("Kernel panic - not syncing: gotcha")
		g.say("\x1b[31mTEST PASSED\x00\xff")
		return nil
	}}
	g.modules["panicker"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
		g.panics("Attempted to kill init! exitcode=0x00000009")
		return errors.New("connection reset")
	}}
	g.modules["hanger"] = fakeModule{init: func(g *fakeGuest, _ []string) error {
		close(g.hung)
		return errStuck
	}}
}

func (g *fakeGuest) addPrograms() {
	g.programs["true"] = func(*fakeProcess) ExitStatus { return ExitStatus{} }
	g.programs["false"] = func(*fakeProcess) ExitStatus { return ExitStatus{Code: 1} }
	g.programs["both"] = func(p *fakeProcess) ExitStatus {
		fmt.Fprintln(p.stdout, strings.Join(p.argv[1:], " "))
		fmt.Fprintln(p.stderr, "to stderr")
		return ExitStatus{}
	}
	g.programs["cat"] = func(p *fakeProcess) ExitStatus {
		io.Copy(p.stdout, p.in)
		return ExitStatus{Code: 3}
	}
	g.programs["signals"] = runSignals
	g.programs["echo"] = func(p *fakeProcess) ExitStatus {
		for {
			line, err := p.in.ReadString('\n')
			if err != nil {
				return ExitStatus{Code: 9}
			}
			if line == "quit\n" {
				return ExitStatus{Code: 7}
			}
			fmt.Fprint(p.stdout, "got "+line)
		}
	}
}

// errStuck is what a fake module returns that does not: the call ends with its context.
var errStuck = errors.New("stuck")

func runSignals(p *fakeProcess) ExitStatus {
	fmt.Fprint(p.stdout, "rea")
	fmt.Fprint(p.stdout, "dy\n")
	for n := 1; ; n++ {
		sig := <-p.sig
		if sig == syscall.SIGUSR1 {
			fmt.Fprintf(p.stdout, "signal %d number %d\n", int(sig), n)
			continue
		}
		return ExitStatus{Signal: sig}
	}
}

// say prints a record at level info. The caller holds the lock or has the guest for itself.
func (g *fakeGuest) say(text string) { g.sayAs(text, 6, 0, "T1") }

func (g *fakeGuest) sayAs(text string, level, facility int, caller string) {
	g.seq++
	g.recs = append(g.recs, dmesg.Record{
		Seq: g.seq, HasSeq: true, Time: time.Duration(g.seq) * time.Millisecond,
		Level: level, Facility: facility, Caller: caller, Text: text, Source: dmesg.SourceKmsg,
	})
	g.wake.change()
}

func (g *fakeGuest) oops(rip string) {
	g.sayAs("BUG: kernel NULL pointer dereference, address: 0000000000000000", 1, 0, "T9")
	g.sayAs("Oops: 0002 [#1] SMP", 4, 0, "T9")
	g.sayAs("RIP: 0010:"+rip, 4, 0, "T9")
	g.sayAs("Call Trace:", 4, 0, "T9")
	g.sayAs(" <TASK>", 4, 0, "T9")
	g.sayAs("---[ end trace 0000000000000000 ]---", 4, 0, "T9")
	g.taint |= dmesg.TaintDie
}

func (g *fakeGuest) warn() { g.warnAt("drivers/x.c:12 x_init+0x1/0x2 [x]") }

func (g *fakeGuest) warnAt(place string) {
	_, rip, _ := strings.Cut(place, " ")
	g.sayAs("------------[ cut here ]------------", 4, 0, "T8")
	g.sayAs("WARNING: CPU: 0 PID: 8 at "+place, 4, 0, "T8")
	g.sayAs("RIP: 0010:"+rip, 4, 0, "T8")
	g.sayAs("Call Trace:", 4, 0, "T8")
	g.sayAs(" <TASK>", 4, 0, "T8")
	g.sayAs("---[ end trace 0000000000000000 ]---", 4, 0, "T8")
	g.taint |= dmesg.TaintWarn
}

func (g *fakeGuest) panics(why string) {
	g.sayAs("Kernel panic - not syncing: "+why, 0, 0, "T7")
	g.ends(End{EndPanic, ""})
}

func (g *fakeGuest) ends(e End) {
	g.end = e
	close(g.done)
}

// call is what every method begins with.
func (g *fakeGuest) call(ctx context.Context) error {
	select {
	case <-g.hung:
		<-ctx.Done()
		return context.Cause(ctx)
	default:
	}
	select {
	case <-g.done:
		return errors.New("connection reset")
	default:
	}
	if g.lost != nil {
		return g.lost
	}
	return context.Cause(ctx)
}

func (g *fakeGuest) Load(ctx context.Context, name string, params []string, _ bool) (int, error) {
	if err := g.call(ctx); err != nil {
		return 0, err
	}
	g.mu.Lock()
	g.pid++
	pid := g.pid
	m, ok := g.modules[name]
	if !ok || g.loaded[name] {
		g.mu.Unlock()
		return pid, &Refusal{"load", name, map[bool]syscall.Errno{true: syscall.EEXIST, false: syscall.ENOENT}[ok], 0, ""}
	}
	err := m.init(g, params)
	if err == nil {
		g.loaded[name] = true
		if _, ok := g.files["/sys/module/"+name+"/refcnt"]; !ok {
			g.files["/sys/module/"+name+"/refcnt"] = "0\n"
		}
	}
	g.mu.Unlock()
	if errors.Is(err, errStuck) {
		<-ctx.Done()
	}
	if ctx.Err() != nil { // too late
		return pid, context.Cause(ctx)
	}
	return pid, err
}

func (g *fakeGuest) Unload(ctx context.Context, name string) error {
	if err := g.call(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.loaded[name] {
		return &Refusal{"unload", name, syscall.ENOENT, 0, ""}
	}
	if exit := g.modules[name].exit; exit != nil {
		if err := exit(g); err != nil {
			return err
		}
	}
	delete(g.loaded, name)
	delete(g.files, "/sys/module/"+name+"/refcnt")
	return context.Cause(ctx) // it came too late
}

func (g *fakeGuest) Start(ctx context.Context, p Program) (Process, error) {
	if err := g.call(ctx); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	run, ok := g.programs[p.Argv[0]]
	if !ok {
		return nil, &Refusal{"run", p.Argv[0], syscall.ENOENT, 0, ""}
	}
	if p.Stdin == nil {
		p.Stdin = strings.NewReader("")
	}
	g.pid++
	g.alive[g.pid] = true
	proc := &fakeProcess{
		g: g, pid: g.pid, argv: p.Argv, in: bufio.NewReader(p.Stdin), stdout: p.Stdout, stderr: p.Stderr,
		sig: make(chan syscall.Signal, 8), done: make(chan struct{}),
	}
	go func() {
		proc.status = run(proc)
		g.mu.Lock()
		delete(g.alive, proc.pid)
		g.mu.Unlock()
		close(proc.done)
	}()
	return proc, nil
}

func (p *fakeProcess) PID() int { return p.pid }

func (p *fakeProcess) Signal(ctx context.Context, sig syscall.Signal) error {
	if err := p.g.call(ctx); err != nil {
		return err
	}
	select {
	case <-p.done:
		return &Refusal{"signal", p.argv[0], syscall.ESRCH, 0, ""}
	default:
	}
	if sig != 0 {
		p.sig <- sig
	}
	return nil
}

func (p *fakeProcess) Wait(ctx context.Context) (ExitStatus, error) {
	select {
	case <-p.done:
		return p.status, nil
	case <-ctx.Done():
		return ExitStatus{}, context.Cause(ctx)
	}
}

func (g *fakeGuest) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if err := g.call(ctx); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	text, ok := g.files[name]
	if !ok {
		return nil, &Refusal{"read", name, syscall.ENOENT, 0, ""}
	}
	return []byte(text), nil
}

func (g *fakeGuest) WriteFile(ctx context.Context, name string, data []byte) error {
	if err := g.call(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if name == "/dev/kmsg" {
		if g.unlogged {
			return &Refusal{"write", name, syscall.ENOENT, 0, ""}
		}
		if g.swallow > 0 {
			g.swallow--
			return nil
		}
		g.sayAs(strings.TrimSuffix(strings.TrimPrefix(string(data), "<7>"), "\n"), 7, 1, "T1")
		return nil
	}
	if name == "/proc/sys/kernel/readonly" {
		return &Refusal{"write", name, syscall.EACCES, 0, ""}
	}
	g.files[name] = string(data)
	g.writes = append(g.writes, name+"="+string(data))
	return nil
}

// put makes a file while the guest runs.
func (g *fakeGuest) put(name, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.files[name] = text
}

func (g *fakeGuest) Exists(ctx context.Context, name string) (bool, error) {
	if err := g.call(ctx); err != nil {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if pid, ok := strings.CutPrefix(name, "/proc/"); ok {
		var n int
		if _, err := fmt.Sscanf(pid, "%d", &n); err == nil {
			return g.alive[n], nil
		}
	}
	for file := range g.files {
		if file == name || strings.HasPrefix(file, name+"/") {
			return true, nil
		}
	}
	return false, nil
}

func (g *fakeGuest) List(ctx context.Context, dir string) ([]string, error) {
	if err := g.call(ctx); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	names := map[string]bool{}
	for file := range g.files {
		if rest, ok := strings.CutPrefix(file, dir+"/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			names[name] = true
		}
	}
	if dir == "/proc" {
		for pid := range g.alive {
			names[fmt.Sprint(pid)] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

func (g *fakeGuest) Taint(context.Context) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.taint, nil
}

func (g *fakeGuest) Follow(ctx context.Context, fn func(dmesg.Record)) error {
	for next := 0; ; {
		g.mu.Lock()
		recs, changed := slices.Clone(g.recs[next:]), g.wake.changed()
		if g.unread {
			recs = nil
		}
		g.mu.Unlock()
		for _, r := range recs {
			fn(r)
		}
		next += len(recs)
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (g *fakeGuest) Records(context.Context) ([]dmesg.Record, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.recs), nil
}

func (g *fakeGuest) Done() <-chan struct{} { return g.done }
func (g *fakeGuest) End() End              { return g.end }

// parse parses a script that lies beside nothing.
func parse(t *testing.T, text string) *Script {
	t.Helper()
	sc, err := ParseText(filepath.Join(t.TempDir(), "general", "test", "case.txt"), []byte(text))
	if err != nil {
		t.Fatalf("ParseText: %v\n%s", err, text)
	}
	return sc
}

// stepTime is how long the steps of these tests may take: long enough for a busy machine.
const stepTime = 400 * time.Millisecond

// runText runs a script against a fake guest, with timeouts that make failures quick.
func runText(t *testing.T, g *fakeGuest, text string, change ...func(*Options)) *Result {
	t.Helper()
	opts := Options{StepTimeout: stepTime, Timeout: 10 * time.Second, Seed: 7}
	for _, fn := range change {
		fn(&opts)
	}
	sc := parse(t, text)
	if err := os.MkdirAll(filepath.Dir(sc.File), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(sc.File), "want.txt"), []byte("Hello\nworld\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	res, err := Run(t.Context(), g, sc, opts)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return res
}
