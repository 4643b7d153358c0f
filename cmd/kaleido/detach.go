package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/detach"
)

// A guest that stays is held by a kaleido of its own: `boot --detach` starts itself
// once more, in a session without a terminal, and returns when that one says that the
// guest has answered. Until then the two share their fate: what is said and the exit
// code are the holder's, Ctrl-C goes on to it, and it gives up when the other is gone.

// defaultName is the name of a guest that stays and was given none.
const defaultName = "guest"

// holderLog is, in the run's directory, what the holder says when nobody listens.
const holderLog = "kaleido.log"

// stayFlags say under what name others find a guest.
type stayFlags struct {
	detach bool
	name   string
	held   bool // we are the holder
}

func (f *stayFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVarP(&f.detach, "detach", "d", false, "leave the guest running in the background; see exec, console, dmesg --follow, ps, stop")
	flags.StringVarP(&f.name, "name", "n", "", "give the guest a `NAME`, by which exec, console and the others find it")
	flags.BoolVar(&f.held, "held", false, "")
	cobra.CheckErr(flags.MarkHidden("held"))
}

// guests is the directory of the guests' names.
func (a *app) guests() detach.Dir { return detach.DefaultDir(os.Getenv) }

// readyFD is where the holder says that the guest has answered.
const readyFD = 3

// leaveBehind starts the holder and waits for its word.
func (a *app) leaveBehind(ctx context.Context) error {
	leash, ours, err := os.Pipe() // the holder's standard input ends when we do
	if err != nil {
		return withCode(exitInfra, err)
	}
	defer ours.Close()
	defer leash.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return withCode(exitInfra, err)
	}
	defer ready.Close()
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{os.Args[0]}, a.args...)
	cmd.Dir = a.startDir
	cmd.Env = append(os.Environ(), "KALEIDO_HELD=true")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = leash, a.stdout, a.stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return withCode(exitInfra, fmt.Errorf("start the kaleido that is to hold the guest: %w", err))
	}
	theirs.Close()
	stop := context.AfterFunc(ctx, func() {
		// An error means that it has ended, which is what is wanted.
		_ = cmd.Process.Signal(os.Interrupt)
	})
	defer stop()
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		return cmd.Process.Release()
	}
	err = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return &codedError{code: code} // it has said what there is to say
	}
	return withCode(exitInfra, fmt.Errorf("the kaleido that was to hold the guest ended: %w", err))
}

// holder holds a guest under a name.
type holder struct {
	app   *app
	claim *detach.Claim
	image *image
	ready *os.File // not nil: we are in the background, and somebody waits for our word
	lost  func()   // ends the context of the start when nobody waits any more
}

// hold takes the name. The context it returns ends, until the guest has answered, with
// the kaleido that waits for that.
func (a *app) hold(ctx context.Context, f *stayFlags) (*holder, context.Context, error) {
	h := &holder{app: a}
	if f.held {
		unix.CloseOnExec(readyFD)
		h.ready = os.NewFile(readyFD, "ready")
		ctx, h.lost = context.WithCancel(ctx)
	}
	var err error
	h.claim, err = a.guests().Claim(ctx, f.name)
	var inUse *detach.InUseError
	if errors.As(err, &inUse) {
		return nil, nil, usageError("%w: choose another --name, or end it: kaleido stop %s", inUse, f.name)
	}
	if err != nil {
		return nil, nil, withCode(exitInfra, err)
	}
	if f.held {
		go h.watchLeash()
	}
	return h, ctx, nil
}

// release gives the name up, with what became of the guest.
func (h *holder) release(s *session) {
	end := ""
	if s != nil && s.guest != nil {
		if end = s.result.Reason; end == "" {
			end = s.result.End
		}
	}
	if err := h.claim.Release(end); err != nil {
		h.app.msg.warningf("%v", err)
	}
}

// errStopped is the cause when somebody has asked for the guest's end.
var errStopped = errors.New("stopped")

// serve lets others reach into the guest while work, and what comes after it, goes on.
func (h *holder) serve(hasShell bool, work func(context.Context, *session) error) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		err := h.claim.Serve(&detach.Server{
			Agent:    s.guest.Agent(),
			Console:  consoleOf(s.guest),
			HasShell: hasShell,
			Debug: func(client context.Context, ready func(socket string)) error {
				client, end := context.WithCancel(client)
				defer end()
				defer context.AfterFunc(ctx, end)() // a guest that stands still could not be powered off
				return s.guest.Debug(client, ready)
			},
			Stop:     func() { stop(errStopped) },
			ErrorLog: log.New(io.Discard, "", 0), // a client that goes is no news
		})
		if err == nil {
			err = h.claim.Update(func(state *detach.State) {
				state.Status, state.Release, state.RunDir = detach.Running, s.result.Release, s.result.RunDir
				state.Symbols = h.image.symbols()
			})
		}
		if err != nil {
			return withCode(exitInfra, err)
		}
		err = work(ctx, s)
		if errors.Is(context.Cause(ctx), errStopped) {
			return nil // as asked for
		}
		return err
	}
}

// consoleOf types on a guest's console.
func consoleOf(m *vm.Instance) io.Writer { return consoleWriter{m} }

type consoleWriter struct{ *vm.Instance }

func (w consoleWriter) Write(p []byte) (int, error) { return w.WriteConsole(p) }

// stay is the work of a holder in the background: to be there until the guest's end.
func (h *holder) stay(ctx context.Context, s *session) error {
	if err := h.letGo(s); err != nil {
		return err
	}
	<-ctx.Done()
	if end, ended := s.ended(); ended && end.Reason == vm.PoweredOff {
		return nil
	}
	return context.Cause(ctx)
}

// letGo tells who waits that the guest has answered, and that it need not wait.
func (h *holder) letGo(s *session) error {
	file, err := os.OpenFile(s.dir.File(holderLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	state := h.claim.State()
	if h.app.json {
		err = h.app.printJSON(state)
	} else {
		h.app.msg.printf("guest %q runs (pid %d): kaleido exec %s -- CMD, kaleido console %s, kaleido stop %s",
			state.Name, state.PID, state.Name, state.Name, state.Name)
	}
	for _, fd := range []int{1, 2} {
		err = errors.Join(err, unix.Dup2(int(file.Fd()), fd))
	}
	_, writeErr := h.ready.Write([]byte("!"))
	return errors.Join(err, writeErr, h.ready.Close())
}

// watchLeash ends the start of the guest when the kaleido that waits for it is gone.
// After letGo that is as it should be.
func (h *holder) watchLeash() {
	// Nothing comes: it ends with the other side.
	_, _ = io.Copy(io.Discard, h.app.stdin)
	if h.claim.State().Status == detach.Starting {
		h.lost()
	}
}

// guestName is the guest that args name, or else the only one that runs.
func (a *app) guestName(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	all, err := a.guests().List()
	if err != nil {
		return "", withCode(exitInfra, err)
	}
	var running []string
	for _, s := range all {
		if s.Status != detach.Ended {
			running = append(running, s.Name)
		}
	}
	switch len(running) {
	case 0:
		return "", usageError("no guest is running (start one: kaleido boot --detach)")
	case 1:
		return running[0], nil
	}
	return "", usageError("several guests are running, name one of them: %v", running)
}

// dial reaches for the guest that args name.
func (a *app) dial(args []string) (detach.State, *detach.Client, error) {
	name, err := a.guestName(args)
	if err != nil {
		return detach.State{}, nil, err
	}
	state, client, err := a.guests().Dial(name)
	if err != nil {
		return state, nil, usageError("%w", err)
	}
	return state, client, nil
}

// verdictOf waits until a guest's holder has ended, and returns what it found: how the
// guest ended, and an error with the run's exit code unless all is well.
func (a *app) verdictOf(ctx context.Context, state detach.State) (detach.State, error) {
	state, err := a.guests().AwaitEnd(ctx, state)
	if err != nil {
		return state, withCode(exitInfra, err)
	}
	if state.RunDir == "" {
		state.End = "was ended before it had started"
		return state, nil
	}
	var r result
	if err := (&vm.RunDir{Path: state.RunDir}).ReadResult(&r); err != nil {
		return state, withCode(exitInfra, fmt.Errorf("guest %q has ended: %s; its log: kaleido dmesg %s", state.Name, state.End, state.RunDir))
	}
	if state.End == "" {
		state.End = r.End
	}
	if r.ExitCode == exitPass {
		return state, nil
	}
	return state, withCode(r.ExitCode, fmt.Errorf("guest %q: %s", state.Name, r.Reason))
}

// completeNames completes the names of guests, also of those that have ended: stop and dmesg take them.
func (a *app) completeNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := a.guests().List()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name+"\t"+string(s.Status)+" since "+s.Since.Format(time.TimeOnly))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
