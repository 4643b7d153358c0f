// Package vm boots a kernel under QEMU and follows the guest's life to its end.
//
// [Start] returns once the agent in the guest (package vm/guest) has answered.
// The [Instance] then gives the agent, QEMU's monitor (vm/qmp), the kernel log
// merged from three sources (vm/dmesg), and the guest's memory. However the
// guest's life ends, QEMU keeps its memory readable until [Instance.Close], and
// no QEMU outlives Close, nor this process.
//
// A [Snapshot] is a kind of guest that is booted once and saved; from then on it
// is restored in a tenth of the time. A [Cloner] does that by itself, and boots
// where it cannot be done.
//
// QEMU is handed its channels as inherited file descriptors: there are no
// sockets in the file system, and no ports.
package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/digitalocean/go-qemu/qmp/raw"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
	"github.com/linux-kaleidoscope/kaleido/vm/qmp"
)

// Instance is a running guest. Close it. All methods may be called from any
// goroutine.
type Instance struct {
	cfg    Config
	accel  Accel
	dir    RunDir
	argv   []string
	proc   *process
	wires  *wires
	mon    *qmp.Monitor
	con    *console
	agent  *guest.Client
	hello  *guest.Hello
	mem    *memory
	kmsg   *kmsgLog
	syms   func() (dmesg.Symbols, error)
	booted time.Duration
	disk   *ramFile // the file that the guest's RAM is in; nil: it is QEMU's own

	ringLock sync.Mutex
	lastRing []dmesg.Record // as it was read last

	debugged sync.Mutex // held as long as a debugger may be there

	life     context.Context // ends with Close; the background work's
	stopLife context.CancelFunc
	tasks    sync.WaitGroup
	closed   sync.Once
	killing  atomic.Bool // we ended QEMU

	ended chan struct{} // closed when end is set
	end   End
}

// Agent is the client of the guest's agent.
func (m *Instance) Agent() *guest.Client { return m.agent }

// Hello is what the agent said of itself when it answered first.
func (m *Instance) Hello() *guest.Hello { return m.hello }

// Monitor is QEMU's monitor. A guest that was stopped through it is not resumed
// by the methods here.
func (m *Instance) Monitor() *qmp.Monitor { return m.mon }

// Accel is the accelerator the guest runs under, AccelKVM or AccelTCG.
func (m *Instance) Accel() Accel { return m.accel }

// BootTime is the time from the start of QEMU to the agent's answer.
func (m *Instance) BootTime() time.Duration { return m.booted }

// PID is QEMU's process.
func (m *Instance) PID() int { return m.proc.pid }

// Args is QEMU's command line as it was run; the file descriptors in it are of
// no use to anybody else. See Config.CommandLine.
func (m *Instance) Args() []string { return m.argv }

// Dir is the directory of this run.
func (m *Instance) Dir() string { return m.dir.Path }

// ConsoleTail is the end of what the serial console has shown, at most 16 KiB.
func (m *Instance) ConsoleTail() []byte { return m.con.tail() }

// WriteConsole types p on the guest's serial console. It blocks while the guest
// does not read and some 64 KiB wait.
func (m *Instance) WriteConsole(p []byte) (int, error) { return m.con.input.Write(p) }

// launch starts QEMU and the guest's processors. With a disk, which launch
// closes, the guest's RAM is in that file.
func launch(ctx context.Context, cfg Config, accel Accel, disk *ramFile) (*Instance, error) {
	m := &Instance{cfg: cfg, accel: accel, disk: disk, ended: make(chan struct{})}
	m.life, m.stopLife = context.WithCancel(context.Background())
	m.syms = sync.OnceValues(m.loadSymbols)
	if err := m.prepare(); err != nil {
		m.stopLife()
		disk.close()
		return nil, err
	}
	if err := m.startQEMU(); err != nil {
		m.discard()
		return nil, err
	}
	if err := m.connect(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// prepare makes the directory, its files, and the channels.
func (m *Instance) prepare() (err error) {
	if m.cfg.Dir == "" {
		m.dir.Path, err = os.MkdirTemp("", "kaleido-")
	} else if m.dir.Path, err = filepath.Abs(m.cfg.Dir); err == nil {
		err = os.MkdirAll(m.dir.Path, 0o700)
	}
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	if m.kmsg, err = newKmsgLog(m.dir.File(KmsgLog)); err != nil {
		m.removeDir()
		return fmt.Errorf("run directory: %w", err)
	}
	if m.wires, err = newWires(m.dir.File(ConsoleLog), m.disk); err == nil {
		m.con, err = newConsole(m.dir.File(ConsoleLog), m.wires.input, m.cfg.Note)
	}
	if err != nil {
		m.discard()
	}
	return err
}

// discard undoes prepare.
func (m *Instance) discard() {
	m.stopLife()
	if m.wires != nil {
		m.wires.closeTheirs()
		m.wires.closeOurs()
	}
	if m.con != nil {
		m.con.log.Close()
	}
	m.kmsg.close()
	m.removeDir()
}

// removeDir removes the directory if it is ours alone.
func (m *Instance) removeDir() {
	if m.cfg.Dir == "" {
		os.RemoveAll(m.dir.Path) // what is left is in a temporary directory
	}
}

// startQEMU starts the process and everything that listens to it.
func (m *Instance) startQEMU() error {
	m.argv = m.cfg.argv(m.accel, m.disk.channels(inherited))
	proc, err := startProcess(m.argv, m.wires.stdin, m.wires.stdout, m.wires.extra...)
	if err != nil {
		return err
	}
	m.wires.closeTheirs()
	m.proc = proc
	m.mon = qmp.New(m.wires.monitor)
	m.mem = &memory{mon: m.mon, file: m.wires.memory, path: memoryPath, ram: ramOf(m.cfg.MemoryMiB)}
	m.con.start(m.cfg.Console)
	events := m.mon.Subscribe() // before Connect: it misses none
	m.tasks.Go(func() { m.watch(events) })
	return nil
}

// monitorLimit bounds QEMU's own start, which takes some 50 ms.
const monitorLimit = 20 * time.Second

// connect waits for QEMU's monitor and lets the guest go, unless it is to be halted. A QEMU that ends
// before that did not like its arguments: *StartError.
func (m *Instance) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, monitorLimit, errors.New("no answer"))
	defer cancel()
	err := m.mon.ConnectContext(ctx)
	if err == nil {
		err = m.dir.writeCommand(m.argv, m.cfg.argv(m.accel, byHand))
	}
	if err == nil && m.disk != nil {
		err = m.disk.ready(ctx, m)
	}
	if err == nil && !m.cfg.halted {
		err = m.mon.Raw(ctx).Cont()
	}
	if errors.Is(err, qmp.ErrGone) {
		if m.proc.wait(ctx) {
			err = m.proc.err
		}
		return &StartError{QEMU: m.cfg.QEMU, Output: m.proc.stderr.String(), Err: err}
	}
	if err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	return nil
}

// watch follows QEMU's events until the guest's life has ended.
func (m *Instance) watch(events *qmp.Subscription) {
	defer events.Close()
	for e := range events.C() {
		end, ok := endOf(e)
		if !ok && e.Event == qmp.EventStop {
			end, ok = m.emulatorError(e)
		}
		if ok {
			m.finish(end)
			return
		}
	}
	// The monitor is gone, and QEMU with it or about to go.
	<-m.proc.done
	end := End{Reason: QEMUExited, Detail: m.proc.exited(), Time: time.Now()}
	if m.killing.Load() {
		end.Reason = Killed
	}
	m.finish(end)
}

// emulatorError tells whether QEMU stopped the guest because it cannot go on,
// as when KVM meets an instruction it has no way to execute.
func (m *Instance) emulatorError(e qmp.Event) (End, bool) {
	ctx, cancel := context.WithTimeout(m.life, grace)
	defer cancel()
	status, err := m.mon.Raw(ctx).QueryStatus()
	if err != nil || status.Status != raw.RunStateInternalError {
		return End{}, false
	}
	return End{Reason: Failed, Detail: complaint(m.proc.stderr.String()), Time: qmp.Time(e)}, true
}

// finish records how the guest's life ended, and ends the agent's connection so
// that nobody waits for an answer from the dead.
func (m *Instance) finish(end End) {
	if end.Reason == Panicked {
		ctx, cancel := context.WithTimeout(m.life, 5*time.Second)
		end.Detail = m.panicDetail(ctx)
		// Best effort: a panic is worth reporting without them.
		end.Registers, _ = m.mon.Raw(ctx).HumanMonitorCommand("info registers -a", nil)
		cancel()
	}
	m.end = end
	close(m.ended)
	m.wires.agent.Close()
}

// panicDetail is what the kernel said of its panic. If a processor was writing to
// the console meanwhile, the words have got no further than the ring.
func (m *Instance) panicDetail(ctx context.Context) string {
	if text := panicMessage(m.con.tail()); text != "" {
		return text
	}
	// Best effort again: it is for people.
	records, _ := m.Dmesg(ctx)
	for _, rec := range slices.Backward(records) {
		if text := panicMessage([]byte(rec.Text)); text != "" {
			return text
		}
	}
	return ""
}

// Ended is closed when the guest's life has ended; Wait then returns at once.
func (m *Instance) Ended() <-chan struct{} { return m.ended }

// Wait waits for the guest's life to end and for Config.Console to have all the
// guest had written by then. The memory stays readable until Close. The error
// is that of ctx.
func (m *Instance) Wait(ctx context.Context) (End, error) {
	select {
	case <-m.ended:
	case <-ctx.Done():
		return End{}, context.Cause(ctx)
	}
	select {
	case <-m.con.delivered():
		return m.end, nil
	case <-ctx.Done():
		return m.end, context.Cause(ctx)
	}
}

// powerOffLimit bounds a guest's way down, as for KVM.
const powerOffLimit = 5 * time.Second

// PowerOff asks the agent to switch the guest off and waits for that, at most
// five seconds, or twenty under TCG. A guest that does not obey, or that ctx
// does not give the time to, is killed, which is an error. It is no error if the
// guest's life had ended before.
func (m *Instance) PowerOff(ctx context.Context) error {
	limit := powerOffLimit
	if m.accel == AccelTCG {
		limit *= tcgFactor
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("guest still on after %v", limit))
	defer cancel()
	err := m.agent.PowerOff(ctx)
	if err == nil {
		select {
		case <-m.ended:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	select {
	case <-m.ended: // the answer may have gone down with the guest
		return nil
	default:
	}
	m.kill()
	return fmt.Errorf("power off: %w", err)
}

// kill ends QEMU, by quit if it can be, and reaps it.
func (m *Instance) kill() {
	m.killing.Store(true)
	m.proc.stop(func(ctx context.Context) {
		// An error means a QEMU that must be ended the hard way.
		_ = m.mon.Raw(ctx).Quit()
	})
}

// Close ends QEMU if it still runs, and everything else of this instance. It
// takes at most about two seconds, and may be called again.
func (m *Instance) Close() error {
	m.closed.Do(func() {
		m.kill()
		m.stopLife()
		<-m.ended
		if m.agent != nil {
			m.agent.Close() // its connection is closed already
		}
		m.tasks.Wait()
		m.mon.Disconnect()
		m.con.close()
		m.kmsg.close()
		m.wires.memory.Close()
		m.removeDir()
	})
	return nil
}
