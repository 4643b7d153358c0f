package vm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"syscall"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// BootError says that QEMU ran but the guest's agent never answered.
type BootError struct {
	// Reason is Panicked, Reset, PoweredOff, Failed, QEMUExited, Killed, or
	// TimedOut if none of these happened.
	Reason Reason

	// Detail says more in a few words: the panic's message, how QEMU ended, how
	// long the wait was.
	Detail string

	// Console is the end of what the serial console showed, at most 16 KiB.
	Console []byte

	// Records are the kernel log, as far as it could be read.
	Records []dmesg.Record

	// Registers are the processors' after a panic.
	Registers string

	exit error // QEMU's, if the reason is QEMUExited
}

// Error is one line.
func (e *BootError) Error() string {
	return "boot guest: " + End{Reason: e.Reason, Detail: e.Detail}.String()
}

// Start boots a guest and returns when its agent has answered. The caller closes
// the Instance. When ctx ends before, so does the guest.
//
// A QEMU that dies of a fault of its own while the guest boots, as one of some
// thousands does under TCG, is started once more, which Config.Note is told.
//
// An error that wraps ErrNoQEMU tells of a missing emulator, a *StartError of
// one that ended at once, a *BootError of a guest whose agent never answered. No
// error leaves a process behind.
func Start(ctx context.Context, cfg Config) (*Instance, error) {
	cfg, c, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if c.note != "" {
		cfg.Note(c.note)
	}
	m, err := withFallback(ctx, cfg, c, func(c choice) (*Instance, error) {
		m, err := start(ctx, cfg, c, nil)
		if sig, ok := crashOf(err); ok && ctx.Err() == nil {
			cfg.Note(fmt.Sprintf("starting QEMU once more: it died while the guest booted (%v)", sig))
			return start(ctx, cfg, c, nil)
		}
		return m, err
	})
	if err == nil {
		m.tasks.Go(m.collectKmsg)
	}
	return m, err
}

// StartHalted starts a guest whose processors stand still before their first instruction, for a debugger, which
// lets it go (see [Instance.Debug]). Only the monitor, the memory, and the end of its
// life are there before [Instance.AwaitAgent]. The caller closes the Instance.
//
// KVM that shows no life is not replaced by TCG. The errors are those of [Start], but for *BootError.
func StartHalted(ctx context.Context, cfg Config) (*Instance, error) {
	cfg, c, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	cfg.halted = true
	m, err := launch(ctx, cfg, c.accel, nil)
	if err == nil {
		m.agent = guest.NewClient(m.wires.agent)
	}
	return m, err
}

// AwaitAgent waits for the agent of a guest that was started halted, for as long as a person with a debugger
// takes: until ctx ends, or the guest's life. It is called once; Hello and the agent's part of the kernel log are
// there when it has returned without error.
func (m *Instance) AwaitAgent(ctx context.Context) error {
	var err error
	if m.hello, err = m.agent.Greeting(ctx); err != nil {
		return fmt.Errorf("boot guest: %w", err)
	}
	m.tasks.Go(m.collectKmsg)
	return nil
}

// withFallback makes an attempt with the accelerator chosen, and another with
// TCG if KVM shows no life.
func withFallback(ctx context.Context, cfg Config, c choice, attempt func(choice) (*Instance, error)) (*Instance, error) {
	m, err := attempt(c)
	if why, lifeless := noLife(err); lifeless && c.fallback && ctx.Err() == nil {
		cfg.Note("using TCG, not KVM: " + why)
		return attempt(choice{accel: AccelTCG})
	}
	return m, err
}

// crashOf tells whether err means that QEMU died of a fault of its own, and by
// which signal.
func crashOf(err error) (syscall.Signal, bool) {
	var boot *BootError
	if errors.As(err, &boot) {
		err = boot.exit
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0, false
	}
	switch sig := status.Signal(); sig {
	case syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE:
		return sig, true
	default:
		return 0, false
	}
}

// start makes one attempt with a Config that was resolved. It does not begin to collect the kernel log.
func start(ctx context.Context, cfg Config, c choice, disk *ramFile) (*Instance, error) {
	begin := time.Now()
	m, err := launch(ctx, cfg, c.accel, disk)
	if err != nil {
		return nil, err
	}
	if err := m.awaitAgent(ctx, c.fallback); err != nil {
		m.Close()
		return nil, err
	}
	m.booted = time.Since(begin)
	return m, nil
}

// errNoLife says that a guest never gave a sign of life under KVM.
var errNoLife = errors.New("no sign of life")

// noLife tells whether err means that the accelerator does not work, and says
// so in words.
func noLife(err error) (string, bool) {
	var start *StartError
	var boot *BootError
	switch {
	case errors.Is(err, errNoLife):
		return err.Error(), true
	case errors.As(err, &start):
		return start.Error(), true
	case errors.As(err, &boot) && (boot.Reason == Failed || boot.Reason == QEMUExited) && len(boot.Console) == 0:
		return boot.Error(), true
	}
	return "", false
}

// errSlow is the cause when the boot takes too long.
var errSlow = errors.New("agent did not answer")

// awaitAgent waits for the agent's first word, whatever else happens. With
// needLife set, silence for KVMTimeout is errNoLife.
func (m *Instance) awaitAgent(ctx context.Context, needLife bool) error {
	limit := m.cfg.bootLimit(m.accel)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	m.agent = guest.NewClient(m.wires.agent)
	answered := make(chan error, 1)
	m.tasks.Go(func() {
		var err error
		m.hello, err = m.agent.Greeting(ctx)
		answered <- err
	})
	life := m.con.alive
	var silence <-chan time.Time
	if needLife {
		silence = time.After(m.cfg.KVMTimeout)
	}
	for {
		select {
		case err := <-answered:
			if err == nil {
				return nil
			}
			return m.agentFailed(ctx, err)
		case <-m.ended:
			return m.bootError(m.end)
		case <-life:
			life, silence = nil, nil
		case <-silence:
			if !m.inLinux(ctx) {
				return fmt.Errorf("%w within %v", errNoLife, m.cfg.KVMTimeout)
			}
			silence = nil
		}
	}
}

// linuxRE matches the registers of a processor that is in the kernel or in user space: one that KVM cannot
// run stands in the firmware.
var linuxRE = regexp.MustCompile(`(?m)^RIP=ffffffff|\bCPL=3\b`)

// inLinux tells whether a processor of the guest has got as far as Linux, of which a quiet console says nothing.
func (m *Instance) inLinux(ctx context.Context) bool {
	registers, err := m.mon.Raw(ctx).HumanMonitorCommand("info registers -a", nil)
	return err == nil && linuxRE.MatchString(registers)
}

// agentFailed explains why the agent's first answer did not come.
func (m *Instance) agentFailed(ctx context.Context, err error) error {
	switch {
	case errors.Is(context.Cause(ctx), errSlow):
		return m.bootError(End{Reason: TimedOut, Detail: fmt.Sprintf("no agent answered within %v", m.cfg.bootLimit(m.accel))})
	case ctx.Err() != nil:
		return fmt.Errorf("boot guest: %w", context.Cause(ctx))
	}
	if m.agent.Err() == nil {
		return fmt.Errorf("boot guest: %w", err)
	}
	// The connection ends with the guest's life, or with QEMU: watch knows.
	select {
	case <-m.ended:
		return m.bootError(m.end)
	case <-ctx.Done():
		return fmt.Errorf("boot guest: %w", err)
	}
}

// bootLogLimit bounds what is spent on the log of a failed boot.
const bootLogLimit = 3 * time.Second

// bootError gathers what can be known of a failed boot.
func (m *Instance) bootError(end End) error {
	ctx, cancel := context.WithTimeout(m.life, bootLogLimit)
	defer cancel()
	e := &BootError{Reason: end.Reason, Detail: end.Detail, Registers: end.Registers, Console: m.con.tail()}
	if end.Reason == QEMUExited {
		e.exit = m.proc.err
	}
	// An error leaves the records empty; the console's tail is there anyway.
	e.Records, _ = m.Dmesg(ctx)
	return e
}

// collectKmsg streams the guest's /dev/kmsg into its file. The connection ends
// with the guest's life; any other end of the stream is worth a line.
func (m *Instance) collectKmsg() {
	err := m.agent.Kmsg(m.life, m.kmsg.add)
	if err != nil && m.agent.Err() == nil && m.life.Err() == nil {
		m.cfg.Note(fmt.Sprintf("kernel log: the agent's stream ended: %v", err))
	}
}
