package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/linux-kaleidoscope/kaleido/modules/report"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// What is spent on the kernel log of a run at most: all the time a slow machine
// may need, but when somebody waits for us to go, no more than goes unnoticed.
const (
	logLimit  = 30 * time.Second
	lastWords = time.Second
)

var (
	errTimeout    = errors.New("timeout")
	errGuestEnded = errors.New("the guest's life ended")
)

// The words for how a run ended; README lists them with their exit codes.
const (
	statusPassed      = "passed"
	statusFailed      = "failed"
	statusInfra       = "could not run"
	statusPanic       = "panic"
	statusSplat       = "splat"
	statusTimeout     = "timeout"
	statusInterrupted = "interrupted"
)

// result is what result.json and --json say of a run.
type result struct {
	Status   string        `json:"status"`
	ExitCode int           `json:"exit_code"`
	Reason   string        `json:"reason,omitempty"` // in words, when not passed
	Release  string        `json:"release"`
	Uname    string        `json:"uname,omitempty"`
	Accel    string        `json:"accel,omitempty"`
	Command  []string      `json:"command,omitempty"`
	Exit     *int          `json:"command_exit_code,omitempty"`
	End      string        `json:"guest_end,omitempty"`
	Kernel   string        `json:"kernel_state"` // clean, suspicious, warned, oopsed, panicked
	Findings []string      `json:"findings,omitempty"`
	Dump     string        `json:"dump,omitempty"`     // the file with the guest's memory
	Meanings []string      `json:"meanings,omitempty"` // of the findings that are true, in words
	Stages   []stage       `json:"stages"`
	Started  time.Time     `json:"started"`
	Took     time.Duration `json:"ns"`
	RunDir   string        `json:"run_dir"`
}

// session is one boot of a guest, from its start to what is said of it.
type session struct {
	atShell bool // a person sits at the guest's shell
	app     *app
	dir     *vm.RunDir
	guest   *vm.Instance
	decoder *decoder
	records []dmesg.Record
	crash   report.Crash
	dump    bool
	result  result
}

// boot starts a guest, lets work use it, and finds out how all that went. The
// context that work gets ends with the guest's life and with the timeout. The
// error has the run's exit code.
func (p *pipeline) boot(ctx context.Context, img *image, cfg vm.Config, timeout time.Duration, work func(context.Context, *session) error) (*session, error) {
	dir, err := vm.NewRunDir(".")
	if err != nil {
		return nil, withCode(exitInfra, err)
	}
	s := &session{app: p.app, dir: dir, decoder: newDecoder(img.kernel, kernelLines(img.kernel), img.modules), dump: p.dump, result: result{Release: img.kernel.Release, RunDir: dir.Path, Started: time.Now()}}
	if err := dir.CopyConfig(img.kernel.ConfigFile()); err != nil {
		return nil, withCode(exitInfra, err)
	}
	defer s.close()
	cfg.Dir = dir.Path
	cfg.Note = p.note
	err = s.live(ctx, p, cfg, timeout, work)
	s.result.Stages = p.stages
	s.result.Took = time.Since(s.result.Started)
	switch saveErr := s.save(); {
	case saveErr != nil && err == nil:
		err = withCode(exitInfra, saveErr)
	case saveErr != nil:
		p.app.msg.warningf("%v", saveErr)
	}
	return s, err
}

// live is the guest's life: boot, work, end, verdict.
func (s *session) live(ctx context.Context, p *pipeline, cfg vm.Config, timeout time.Duration, work func(context.Context, *session) error) error {
	err := p.clocked("boot", func() (err error) {
		s.guest, err = p.start(ctx, cfg)
		return err
	})
	if err != nil {
		return s.neverStarted(ctx, err)
	}
	s.result.Accel = string(s.guest.Accel())
	if s.dump {
		s.stopAtOops(ctx)
	}
	s.result.Uname = unameOf(s.guest)

	err = p.clocked("run", func() error { return s.work(ctx, timeout, work) })
	if err == nil {
		err = p.clocked("power off", func() error { return s.guest.PowerOff(ctx) })
	}
	return s.judge(ctx, err)
}

// unameOf is what a guest is, as uname -srvm prints it.
func unameOf(m *vm.Instance) string {
	h := m.Hello()
	return fmt.Sprintf("Linux %s %s %s", h.Release, h.Version, h.Machine)
}

// close ends the guest. Who follows its logs takes that for the end of the run, so
// it comes after everything is written.
func (s *session) close() {
	if s.guest != nil {
		s.guest.Close()
	}
}

// work runs work under a context that ends with the guest or the timeout.
func (s *session) work(ctx context.Context, timeout time.Duration, work func(context.Context, *session) error) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
		defer cancel()
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		select {
		case <-s.guest.Ended():
			end(errGuestEnded)
		case <-ctx.Done():
		}
	}()
	err := work(ctx, s)
	if errors.Is(err, guest.ErrClosed) {
		// The connection breaks as QEMU ends, of which the news is just behind.
		news := time.NewTimer(lastWords)
		defer news.Stop()
		select {
		case <-ctx.Done():
		case <-news.C:
		}
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// neverStarted says what became of a guest whose agent never answered.
func (s *session) neverStarted(ctx context.Context, err error) error {
	var boot *vm.BootError
	code := exitInfra
	if errors.As(err, &boot) {
		s.records = boot.Records
		code = bootExitCode(boot)
		s.app.showTail(boot.Console)
		s.explain(dmesg.Judge(s.records, dmesg.Evidence{PanicKnown: true, Panicked: boot.Reason == vm.Panicked}))
		s.tellBoot()
	}
	if ctx.Err() != nil {
		code = exitInterrupted
	}
	s.settle(code, err.Error(), false)
	return withCode(code, err)
}

// bootExitCode tells the kernel's fault from ours.
func bootExitCode(err *vm.BootError) int {
	switch err.Reason {
	case vm.Panicked:
		return exitPanic
	case vm.TimedOut:
		return exitTimeout
	}
	return exitInfra
}

// judge collects the kernel log and decides. The kernel's health comes before
// the command's: a command that passed in a kernel that oopsed did not pass.
func (s *session) judge(ctx context.Context, workErr error) error {
	limit := logLimit
	if ctx.Err() != nil {
		limit = lastWords
	}
	logCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	s.examine(logCtx, workErr)
	var logErr error
	if s.records, logErr = s.guest.Dmesg(logCtx); logErr != nil {
		s.app.msg.warningf("%v", logErr)
	}
	verdict, known := s.verdict(ctx)
	s.result.Kernel = verdict.State.String()
	s.explain(verdict)
	code, reason, own := s.outcome(ctx, workErr, verdict)
	if code == exitPass && logErr != nil && !known {
		code, reason = exitInfra, "what the kernel said is not known: "+logErr.Error()
	}
	s.settle(code, reason, own)
	if code == exitPass {
		return nil
	}
	if code == exitPanic || code == exitSplat || code == exitTimeout {
		s.keepMemory(ctx)
		s.tell()
	}
	if own {
		return &codedError{code: code} // the command's own affair: it has said what it had to say
	}
	return &codedError{code: code, err: errors.New(reason)}
}

// taintLimit bounds how long the kernel's taint is asked for.
const taintLimit = 5 * time.Second

// verdict judges the log by what is known besides. known says that the kernel's taint is.
func (s *session) verdict(ctx context.Context) (v dmesg.Verdict, known bool) {
	evidence := dmesg.Evidence{PanicKnown: true}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), taintLimit)
	defer cancel()
	if taint, err := s.guest.Taint(ctx); err == nil {
		evidence.Tainted, evidence.TaintKnown = taint, true
		s.crash.Taint = dmesg.TaintWords(taint)
	}
	if end, ended := s.ended(); ended {
		s.result.End = end.String()
		evidence.Panicked = end.Reason == vm.Panicked
	}
	return dmesg.Judge(s.records, evidence), evidence.TaintKnown
}

// ended returns how the guest's life ended, if it has.
func (s *session) ended() (vm.End, bool) {
	select {
	case <-s.guest.Ended():
		end, _ := s.guest.Wait(context.Background()) // it has ended: returns at once
		return end, true
	default:
		return vm.End{}, false
	}
}

// outcome is the run's exit code, the reason in words when it is not 0, and whether the code is
// the command's own. The worst wins: interrupted, panic, timeout, splat, and then the command.
func (s *session) outcome(ctx context.Context, workErr error, verdict dmesg.Verdict) (code int, reason string, own bool) {
	if ctx.Err() != nil {
		return exitInterrupted, "interrupted", false
	}
	end, ended := s.ended()
	if s.atShell && end.Reason == vm.PoweredOff && errors.Is(workErr, errGuestEnded) {
		s.app.msg.printf("the guest powered off")
		workErr = nil
	}
	var cmd *commandError
	switch {
	case ended && end.Reason == vm.Panicked:
		return exitPanic, "the guest's kernel panicked: " + end.Detail, false
	case errors.Is(workErr, errTimeout):
		return exitTimeout, "timeout: the guest was ended", false
	case verdict.State >= dmesg.Warned:
		return exitSplat, fmt.Sprintf("the kernel complained (%s): %s", verdict.State, verdict.Reasons[0]), false
	case errors.Is(workErr, errGuestEnded) && (end.Reason == vm.QEMUExited || end.Reason == vm.Failed):
		return exitInfra, end.String(), false
	case errors.Is(workErr, errGuestEnded):
		return exitFailed, fmt.Sprintf("the guest %s before the command had ended", end.Reason), false
	case errors.As(workErr, &cmd):
		return cmd.code(), cmd.Error(), true
	case noProgram(workErr) != 0:
		return noProgram(workErr), workErr.Error(), false
	case workErr != nil:
		return exitFailed, workErr.Error(), false
	}
	if verdict.State == dmesg.Suspicious {
		s.app.msg.warningf("the log has text that looks like a kernel report, but the kernel does not bear it out: %s", verdict.Reasons[0])
	}
	return exitPass, "", false
}

// noProgram is what a shell exits with if it cannot execute a command: 127 if that is not there, else 126.
// It is 0 for any other error.
func noProgram(err error) int {
	var failed *guest.Error
	switch {
	case !errors.As(err, &failed) || failed.Op != "run":
		return 0
	case failed.Errno == syscall.ENOENT:
		return 127
	}
	return 126
}

// statuses are the words for exit codes that are ours.
var statuses = map[int]string{
	exitPass: statusPassed, exitInfra: statusInfra, exitPanic: statusPanic, exitSplat: statusSplat,
	exitTimeout: statusTimeout, exitInterrupted: statusInterrupted,
}

// settle writes the outcome into the result. A code that is the command's own means that it failed,
// whatever else it means as ours.
func (s *session) settle(code int, reason string, own bool) {
	s.result.ExitCode, s.result.Reason = code, reason
	s.result.Status = statusFailed
	if status, ok := statuses[code]; ok && !own {
		s.result.Status = status
	}
}

// save writes the log and the result into the run's directory.
func (s *session) save() error {
	return errors.Join(s.dir.WriteDmesg(s.records), s.dir.WriteResult(&s.result))
}

// commandError says that the command run in the guest did not pass.
type commandError struct {
	argv   []string
	status guest.Status
}

func (e *commandError) Error() string { return fmt.Sprintf("%s: %s", e.argv[0], e.status) }

// code is the exit code a shell would give.
func (e *commandError) code() int {
	if e.status.Signal != 0 {
		return 128 + int(e.status.Signal)
	}
	return e.status.Code
}

// showTail prints the end of a console, for a guest that never answered.
func (a *app) showTail(console []byte) {
	const most = 15
	records, err := dmesg.ParseConsole(bytes.NewReader(console))
	if err != nil || len(records) == 0 {
		return
	}
	for _, r := range records[max(0, len(records)-most):] {
		fmt.Fprintln(a.stderr, "  "+r.String())
	}
}
