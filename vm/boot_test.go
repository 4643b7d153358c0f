package vm_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

func TestBootRunPowerOff(t *testing.T) {
	m := boot(t, guestConfig(t))
	t.Logf("booted in %v: %+v", m.BootTime(), m.Hello())
	if got := sh(t, m, "echo hello"); got != "hello\n" {
		t.Errorf("echo hello: %q", got)
	}
	if mask, err := m.Taint(t.Context()); err != nil || mask != 0 {
		t.Errorf("Taint() = %#x, %v; want none", mask, err)
	}
	if err := m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, m, vm.PoweredOff)
	if err := m.PowerOff(t.Context()); err != nil {
		t.Errorf("PowerOff of a guest that is off = %v", err)
	}
	log, err := m.Dmesg(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last := log[len(log)-1]; last.Text != "reboot: Power down" {
		t.Errorf("last record %q, want the kernel's farewell", last.Text)
	}
	for i, r := range log {
		if !r.HasSeq || r.Seq != uint64(i) {
			t.Fatalf("record %d has number %d: %v", i, r.Seq, r)
		}
	}
}

// failedBoot starts a guest that must not get as far as the agent.
func failedBoot(t *testing.T, cfg vm.Config, want vm.Reason, text string) *vm.BootError {
	t.Helper()
	start := time.Now()
	m, err := vm.Start(t.Context(), cfg)
	if err == nil {
		m.Close()
	}
	var boot *vm.BootError
	if !errors.As(err, &boot) {
		t.Fatalf("Start() = %v, want a *BootError", err)
	}
	if boot.Reason != want || !strings.Contains(boot.Error(), text) || strings.Contains(boot.Error(), "\n") {
		t.Errorf("Start() = %q (%s), want %q with %q", boot, boot.Reason, want, text)
	}
	if !strings.Contains(string(boot.Console), "Linux version") && !strings.Contains(string(boot.Console), "[ ") {
		t.Errorf("the error has no console: %q", boot.Console)
	}
	if len(boot.Records) < 50 {
		t.Errorf("the error has %d records of the log", len(boot.Records))
	}
	t.Logf("after %v: %v", time.Since(start), boot)
	return boot
}

func TestPanicBeforeInit(t *testing.T) {
	for name, archive := range map[string]string{
		"no initrd": "", "initrd without init": initrd(t, "nothing", []byte("nothing")),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := guestConfig(t)
			cfg.Initrd = archive
			cfg.BootTimeout = time.Hour // the event must end it
			boot := failedBoot(t, cfg, vm.Panicked, "panicked: ")
			if !strings.Contains(boot.Registers, "RIP=") {
				t.Errorf("registers = %q", boot.Registers)
			}
		})
	}
}

func TestInitDies(t *testing.T) {
	cfg := guestConfig(t)
	cfg.Quiet = true
	cfg.BootTimeout = time.Hour
	cfg.Initrd = initrd(t, "init", program([]byte{0x0f, 0x0b})) // ud2
	boot := failedBoot(t, cfg, vm.Panicked, "Attempted to kill init")
	if first := boot.Records[0].Text; !strings.HasPrefix(first, "Linux version") {
		t.Errorf("with quiet the log begins with %q, want all of it", first)
	}
}

func TestResetBeforeAgent(t *testing.T) {
	cfg := guestConfig(t)
	cfg.BootTimeout = time.Hour
	cfg.Initrd = initrd(t, "init", rebooter)
	boot := failedBoot(t, cfg, vm.Reset, "reset")
	if last := boot.Records[len(boot.Records)-1].Text; !strings.Contains(last, "reboot: ") {
		t.Errorf("last record %q", last)
	}
}

func TestGuestNeverAnswers(t *testing.T) {
	cfg := guestConfig(t)
	cfg.BootTimeout = 1500 * time.Millisecond // six seconds under TCG
	cfg.Initrd = initrd(t, "init", sleeper)
	failedBoot(t, cfg, vm.TimedOut, "no agent answered within 6s")
}

func TestCancelledBoot(t *testing.T) {
	cfg := guestConfig(t)
	cfg.Initrd = initrd(t, "init", sleeper)
	ctx, cancel := context.WithCancel(t.Context())
	console := &trigger{at: 1000, do: cancel}
	cfg.Console = console
	_, err := vm.Start(ctx, cfg)
	if took := time.Since(console.when); !errors.Is(err, context.Canceled) || took > 2*time.Second {
		t.Errorf("Start() = %v, %v after the cancellation", err, took)
	}
}

// trigger is a writer that acts when so many bytes have come.
type trigger struct {
	at   int
	do   func()
	when time.Time
}

func (tr *trigger) Write(p []byte) (int, error) {
	if tr.at -= len(p); tr.at <= 0 && tr.when.IsZero() {
		tr.when = time.Now()
		tr.do()
	}
	return len(p), nil
}

func TestReset(t *testing.T) {
	m := boot(t, guestConfig(t))
	if err := m.Agent().Reboot(t.Context()); err != nil {
		t.Logf("Reboot() = %v", err) // the answer may be lost
	}
	wait(t, m, vm.Reset)
	if _, err := m.Dmesg(t.Context()); err != nil {
		t.Errorf("Dmesg() after a reset = %v", err)
	}
}

func TestPanic(t *testing.T) {
	cfg := guestConfig(t)
	cfg.Quiet = true
	m := boot(t, cfg)
	before := ring(t, m, cfg.SystemMap)
	// The agent may be answered or not: the guest dies of it.
	_, err := m.Agent().Run(t.Context(), "sh", "-c", "echo c > /proc/sysrq-trigger")
	if err == nil {
		t.Error("Run() of the script that panicked succeeded")
	}
	end := wait(t, m, vm.Panicked)
	if !strings.Contains(end.Detail, "sysrq triggered crash") || !strings.Contains(end.Registers, "CPU#1") {
		t.Errorf("end %v, registers %q", end, end.Registers)
	}
	after := ring(t, m, cfg.SystemMap)
	for i := range before {
		if after[i] != before[i] {
			t.Fatalf("record %d was %v, is %v", i, before[i], after[i])
		}
	}
	if len(after) < len(before)+5 {
		t.Errorf("%d records before the panic, %d after it", len(before), len(after))
	}
	log, err := m.Dmesg(t.Context())
	if err != nil || len(log) != len(after) {
		t.Errorf("Dmesg() = %d records, %v; want the ring's %d", len(log), err, len(after))
	}
	var page [4096]byte
	if err := m.ReadPhysical(1<<20, page[:]); err != nil {
		t.Errorf("ReadPhysical after a panic = %v", err)
	}
}

func TestQEMUKilled(t *testing.T) {
	m := boot(t, guestConfig(t))
	done := make(chan error, 1)
	go func() {
		_, err := m.Agent().Run(context.Background(), "sleep", "1000")
		done <- err
	}()
	before, err := m.Dmesg(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	end := wait(t, m, vm.QEMUExited)
	if !strings.Contains(end.Detail, "killed") {
		t.Errorf("end %v", end)
	}
	if err := <-done; err == nil {
		t.Error("a program of a dead guest ended well")
	}
	log, err := m.Dmesg(t.Context())
	if err != nil || len(log) < len(before) {
		t.Errorf("Dmesg() = %d records, %v; want the %d of before at least", len(log), err, len(before))
	}
	if err := m.ReadPhysical(0, make([]byte, 8)); err == nil {
		t.Error("memory of a dead QEMU was read")
	}
	if err := m.PowerOff(t.Context()); err != nil {
		t.Errorf("PowerOff of a dead guest = %v", err)
	}
}

func TestAgentThatDoesNotPowerOff(t *testing.T) {
	m := boot(t, guestConfig(t))
	if err := m.Monitor().Raw(t.Context()).Stop(); err != nil { // it hangs, so to speak
		t.Fatal(err)
	}
	if log, err := m.Dmesg(t.Context()); err != nil || len(log) < 50 {
		t.Errorf("Dmesg() of a hanging guest = %d records, %v", len(log), err)
	}
	if status, err := m.Monitor().Raw(t.Context()).QueryStatus(); err != nil || status.Running {
		t.Errorf("Dmesg() resumed a guest that somebody else had stopped (%v)", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := m.PowerOff(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("PowerOff() = %v, want DeadlineExceeded", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("PowerOff() took %v", took)
	}
	wait(t, m, vm.Killed)
}

func TestTypeOnTheConsole(t *testing.T) {
	cfg := guestConfig(t)
	m := boot(t, cfg)
	answer := make(chan string, 1)
	go func() {
		out, err := m.Agent().Run(context.Background(), "sh", "-c", "read line < /dev/ttyS0; echo got $line")
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- string(out.Stdout)
	}()
	// Whether typed before or after the shell opens the port: the kernel drops
	// what comes to a closed one, so type until there is an answer.
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		if _, err := m.WriteConsole([]byte("word\n")); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-answer:
			if got != "got word\n" {
				t.Errorf("the shell says %q", got)
			}
			return
		case <-tick.C:
		}
	}
}

func TestCloseOfARunningGuest(t *testing.T) {
	m := boot(t, guestConfig(t))
	start := time.Now()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("Close() took %v", took)
	}
	wait(t, m, vm.Killed)
	if err := m.Close(); err != nil {
		t.Errorf("second Close() = %v", err)
	}
}

func TestGuestsSideBySide(t *testing.T) {
	for range 2 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			cfg := guestConfig(t)
			cfg.Dir = "" // a temporary one
			m := boot(t, cfg)
			if err := m.PowerOff(t.Context()); err != nil {
				t.Error(err)
			}
			wait(t, m, vm.PoweredOff)
			m.Close()
			if _, err := os.Stat(m.Dir()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", m.Dir(), err)
			}
		})
	}
}

// slowWriter takes nothing before its gate is closed.
type slowWriter struct {
	bytes.Buffer
	gate chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.gate
	return w.Buffer.Write(p)
}

func TestSlowConsoleReaderLosesNothing(t *testing.T) {
	cfg := guestConfig(t)
	w := &slowWriter{gate: make(chan struct{})}
	cfg.Console = w
	m := boot(t, cfg) // though nobody reads the console
	start := time.Now()
	sh(t, m, "cat /proc/kallsyms > /dev/ttyS0") // a serial port is slow: some ten seconds
	t.Logf("the guest wrote in %v", time.Since(start))
	if err := m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(w.gate)
	wait(t, m, vm.PoweredOff)
	got := w.Bytes()
	want, err := os.ReadFile(filepath.Join(m.Dir(), vm.ConsoleLog))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the writer has %d bytes, console.log %d", len(got), len(want))
	}
	if len(want) < 1e6 {
		t.Errorf("console.log has %d bytes, want more than 1 MB", len(want))
	}
}

func TestBlockedConsoleReaderDoesNotHoldClose(t *testing.T) {
	cfg := guestConfig(t)
	w := &slowWriter{gate: make(chan struct{})}
	defer close(w.gate)
	cfg.Console = w
	m := boot(t, cfg)
	start := time.Now()
	m.Close()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Close() took %v", took)
	}
}

func TestStartErrors(t *testing.T) {
	cfg := guestConfig(t)
	tests := []struct {
		name   string
		change func(*vm.Config)
		want   string
	}{
		{"bad QEMU argument", func(c *vm.Config) { c.Args = []string{"-no-such-option"} }, "-no-such-option: invalid option"},
		{"bad device", func(c *vm.Config) { c.Args = []string{"-device", "teapot"} }, "teapot"},
		{"bad processor", func(c *vm.Config) { c.CPU = "abacus" }, "abacus"},
		{"kernel that is none", func(c *vm.Config) { c.Kernel = c.SystemMap }, "kernel"},
		{"no kernel file", func(c *vm.Config) { c.Kernel = "/nonexistent/vmlinux" }, "boot: kernel: open /nonexistent/vmlinux: no such file"},
		{"no initrd file", func(c *vm.Config) { c.Initrd = "/nonexistent/cpio" }, "boot: initrd: open /nonexistent/cpio: no such file"},
		{"no QEMU", func(c *vm.Config) { c.QEMU = "qemu-system-abacus" }, "QEMU is not installed"},
		{"QEMU that is none", func(c *vm.Config) { c.QEMU = "false" }, "start false: exit status 1"},
		{"directory that cannot be", func(c *vm.Config) { c.Dir = "/dev/null/x" }, "run directory: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := cfg
			tt.change(&cfg)
			m, err := vm.Start(t.Context(), cfg)
			if err == nil {
				m.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Start() = %v, want %q", err, tt.want)
			}
			if strings.HasPrefix(tt.name, "bad ") && !errors.As(err, new(*vm.StartError)) {
				t.Errorf("Start() = %T, want a *StartError", err)
			}
			if got := errors.Is(err, vm.ErrNoQEMU); got != (tt.name == "no QEMU") {
				t.Errorf("errors.Is(%v, ErrNoQEMU) = %v", err, got)
			}
		})
	}
}

// TestKVMFallback makes the probe believe in KVM. Where KVM works the guest runs
// under it; where it does not, TCG must take over. A KVM that does not work
// fails in two ways, both seen on one host whose /dev/kvm opens: QEMU dies at
// once with -cpu max, and hangs without a byte on the console with -cpu qemu64.
func TestKVMFallback(t *testing.T) {
	for _, cpu := range []string{"max", "qemu64"} {
		t.Run(cpu, func(t *testing.T) {
			var told notes
			cfg := kvmConfig(t)
			cfg.Accel = vm.AccelAuto
			cfg.CPU = cpu
			cfg.KVMTimeout = 3 * time.Second
			cfg.Note = told.add
			start := time.Now()
			m := boot(t, cfg)
			t.Logf("after %v under %s: %s", time.Since(start), m.Accel(), &told)
			if m.Accel() == vm.AccelTCG && strings.Count(told.String(), "using TCG, not KVM: ") != 1 {
				t.Errorf("notes %s, want one line why TCG", &told)
			}
			sh(t, m, "echo hello")
		})
	}
}

func TestForcedKVMThatFails(t *testing.T) {
	for _, cpu := range []string{"max", "qemu64"} {
		t.Run(cpu, func(t *testing.T) {
			cfg := kvmConfig(t)
			cfg.Accel = vm.AccelKVM
			cfg.CPU = cpu
			cfg.BootTimeout = 3 * time.Second
			m, err := vm.Start(t.Context(), cfg)
			if err == nil {
				m.Close()
				t.Skip("needs a KVM that does not work")
			}
			t.Log(err)
		})
	}
}

// kvmConfig is a guest on a host that seems to have KVM.
func kvmConfig(t *testing.T) vm.Config {
	t.Helper()
	cfg := guestConfig(t)
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs a /dev/kvm that opens: %v", err)
	}
	dev.Close()
	cfg.Probe.CPUInfo = filepath.Join(t.TempDir(), "cpuinfo")
	if err := os.WriteFile(cfg.Probe.CPUInfo, []byte("processor\t: 0\nflags\t\t: fpu vmx sse2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// symbols reads a System.map.
func symbols(t *testing.T, name string) dmesg.Symbols {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := dmesg.ParseSystemMap(f)
	if err != nil {
		t.Fatal(err)
	}
	return syms
}

// ring reads the log out of guest memory, and from nowhere else.
func ring(t *testing.T, m *vm.Instance, systemMap string) []dmesg.Record {
	t.Helper()
	records, err := dmesg.ReadRing(m, symbols(t, systemMap))
	if err != nil {
		t.Fatal(err)
	}
	return records
}
