package vm

import (
	"fmt"
	"strings"
)

// device is one part of the machine or of its start.
type device interface {
	qemuArgs() []string
	kernelArgs() []string
}

// channels says what QEMU's ends of the host's channels are: chardev backends,
// such as "socket,fd=4" or "stdio".
type channels struct {
	console, agent string
	monitor        string // empty: nobody controls this QEMU
	ram            string // the backend of the guest's RAM; empty: QEMU's own
	incoming       bool   // the guest's state is loaded: it has booted already
}

// byHand is a QEMU that a person starts in a terminal: console on the
// terminal, no agent's host, no monitor.
var byHand = channels{console: "stdio", agent: "null"}

// CommandLine is the command that boots this guest by hand, in a terminal: the
// same machine as Start's, but with the console on standard input and output,
// and nobody at the other end of the agent's port. AccelAuto counts as TCG,
// which always works. It only looks at the fields, nothing is read or started.
func (c *Config) CommandLine(accel Accel) ([]string, error) {
	d := c.withDefaults()
	if err := d.check(); err != nil {
		return nil, err
	}
	return d.argv(accel, byHand), nil
}

// argv is QEMU's command line with its own name in front.
func (c *Config) argv(accel Accel, ch channels) []string {
	args := []string{c.QEMU}
	if ch.incoming {
		return c.incomingArgs(accel, ch)
	}
	var kernelArgs []string
	for _, d := range c.devices(accel, ch) {
		args = append(args, d.qemuArgs()...)
		kernelArgs = append(kernelArgs, d.kernelArgs()...)
	}
	kernelArgs = append(kernelArgs, c.Append...)
	args = append(args, "-append", strings.Join(kernelArgs, " "))
	return append(args, c.Args...)
}

// incomingArgs is argv for a guest that has booted. Its kernel is in its memory;
// QEMU would keep one more copy of the files for each guest.
func (c *Config) incomingArgs(accel Accel, ch channels) []string {
	args := []string{c.QEMU}
	for _, d := range c.devices(accel, ch) {
		if _, ok := d.(image); !ok {
			args = append(args, d.qemuArgs()...)
		}
	}
	return append(args, c.Args...)
}

// devices is the machine, in the order of the command line.
func (c *Config) devices(accel Accel, ch channels) []device {
	return []device{
		machine{accel: accel, cpu: c.CPU, cpus: c.CPUs, mib: c.MemoryMiB, rtc: c.RTC, ram: ch.ram},
		image{kernel: c.Kernel, initrd: c.Initrd},
		control{monitor: ch.monitor, incoming: ch.incoming},
		serialPort{backend: ch.console},
		kernelLog{quiet: c.Quiet},
		panicNotifier{},
		agentPort{backend: ch.agent},
		fastBoot{accel},
	}
}

// machine is the board and what is soldered to it. Nothing comes with it that
// is not named: no disks, no network, no display.
type machine struct {
	accel     Accel
	cpu       string
	cpus, mib int
	rtc       string
	ram       string // a memory backend, such as "memory-backend-file,share=on,mem-path=ram"
}

// board is q35, which boots a little faster than pc and has PCI Express, without
// what a guest like ours has no use for. The kernel spends a tenth of its boot
// on the HPET, firmware some 50 ms on SMM. All of these options are older than
// QEMU 6.
const board = "q35,sata=off,smbus=off,vmport=off,hpet=off,smm=off"

func (m machine) qemuArgs() []string {
	accel, cpu := m.accel, m.cpu
	if accel != AccelKVM {
		accel = AccelTCG
	}
	if cpu == "" {
		cpu = defaultCPU(accel)
	}
	var args []string
	board := board
	if m.ram != "" {
		args = []string{"-object", objectOption("ram", m.ram) + fmt.Sprintf(",size=%dM", m.mib)}
		board += ",memory-backend=ram"
	}
	args = append(args,
		"-machine", board,
		"-accel", string(accel),
		"-cpu", cpu,
		"-smp", fmt.Sprint(m.cpus),
		"-m", fmt.Sprintf("%dM", m.mib),
		"-nodefaults", "-no-user-config", "-display", "none",
	)
	if m.rtc != "" {
		args = append(args, "-rtc", m.rtc)
	}
	return args
}

func (machine) kernelArgs() []string { return nil }

// defaultCPU is all that the accelerator can do, with RDRAND. TCG copies and
// clears memory a byte at a time when the processor claims to be fast at it
// (ERMS); the kernel then takes a loop that costs less: a twelfth of the boot.
func defaultCPU(accel Accel) string {
	if accel == AccelTCG {
		return "max,-erms"
	}
	return "max"
}

// image is the kernel and its first file system. QEMU itself tells an ELF file
// with a PVH note from a bzImage; the former skips firmware's loader, real mode
// and decompression: a third of the time to boot.
type image struct{ kernel, initrd string }

func (i image) qemuArgs() []string {
	args := []string{"-kernel", i.kernel}
	if i.initrd != "" {
		args = append(args, "-initrd", i.initrd)
	}
	return args
}

func (image) kernelArgs() []string { return nil }

// control is what happens when the guest's life ends. Under a monitor the
// machine then stands still with registers and memory readable, whether it
// panicked, went off or asked for a reset; by hand QEMU just exits. Either way
// a guest never boots twice.
type control struct {
	monitor  string
	incoming bool
}

func (c control) qemuArgs() []string {
	if c.monitor == "" {
		return []string{"-action", "reboot=shutdown,panic=exit-failure"}
	}
	args := []string{
		"-action", "reboot=shutdown,shutdown=pause,panic=pause",
		// The guest waits for QMP's cont: no event is too early for us.
		"-S",
		"-chardev", objectOption("qmp", c.monitor), "-mon", "chardev=qmp,mode=control",
	}
	if c.incoming {
		// QMP's migrate-incoming then says from where.
		args = append(args, "-incoming", "defer")
	}
	return args
}

func (control) kernelArgs() []string { return nil }

// serialPort is the first one: it has the kernel's messages and the shell.
// Kernel messages reach only one ttyS, and hvc0 misses the early ones.
type serialPort struct{ backend string }

func (s serialPort) qemuArgs() []string {
	return []string{"-chardev", objectOption("console", s.backend), "-serial", "chardev:console"}
}

func (serialPort) kernelArgs() []string {
	// The speed matters to QEMU only for the pause before it hands over typed
	// bytes.
	return []string{"console=ttyS0,115200"}
}

// kernelLog is what the kernel writes and keeps.
type kernelLog struct{ quiet bool }

func (kernelLog) qemuArgs() []string { return nil }

func (k kernelLog) kernelArgs() []string {
	// Without it the kernel drops what programs write to /dev/kmsg beyond ten
	// records in five seconds.
	args := []string{"printk.devkmsg=on"}
	if k.quiet {
		args = append(args, "quiet")
	}
	return args
}

// panicNotifier makes a panic the event GUEST_PANICKED. The kernel writes to
// the device after its last words and before it thinks of rebooting, so QEMU
// stops the machine before panic=-1 can; that argument is for kernels without
// the driver, which then end as a reset instead of spinning for ever.
type panicNotifier struct{}

func (panicNotifier) qemuArgs() []string   { return []string{"-device", "pvpanic-pci"} }
func (panicNotifier) kernelArgs() []string { return []string{"panic=-1"} }

// agentPort is the virtio-serial port of the guest's agent; see vm/guest.
type agentPort struct{ backend string }

func (a agentPort) qemuArgs() []string {
	return []string{
		// Each port, there or not, is two queues, and each queue a descriptor that QEMU's main loop polls: with the
		// default of 31 a quarter of that thread's time. This leaves two ports for who wants more.
		"-device", "virtio-serial-pci,max_ports=4",
		"-chardev", objectOption("agent", a.backend),
		"-device", "virtserialport,chardev=agent,name=kaleido.agent",
	}
}

func (agentPort) kernelArgs() []string { return nil }

// fastBoot leaves out what costs time at boot and what no virtual machine
// needs; see Documentation/admin-guide/kernel-parameters.txt.
type fastBoot struct{ accel Accel }

func (fastBoot) qemuArgs() []string { return nil }

func (f fastBoot) kernelArgs() []string {
	args := []string{
		"tsc=reliable",               // no watchdog over the clock: TCG's jitters, and fails it
		"no_timer_check",             // no test whether the timer interrupt works
		"mitigations=off",            // the guest has no secrets
		"8250.nr_uarts=1",            // do not look for three more serial ports
		"i8042.noaux", "i8042.nokbd", // nor for a mouse and a keyboard, where the driver is in
		"rcupdate.rcu_expedited=1", // short grace periods
		"retain_initrd",            // do not fill what held the initramfs with poison; TCG is slow at it
		"random.trust_cpu=on",      // RDRAND seeds the random numbers at once
		"nokaslr",                  // addresses as System.map has them
	}
	if f.accel == AccelKVM {
		return args // the paravirtual clock tells the kernel the rest
	}
	// TCG's TSC jitters so much that the second processor tries in vain, for a
	// tenth of the boot, to calibrate its delay loop, which counts TSC cycles.
	// This is 4 GHz at 250 HZ: a delay may take longer than asked for, as any
	// delay may, but is not cut short.
	return append(args, "lpj=16000000")
}

// objectOption is the option for a chardev or another object: an id put into a
// backend's options.
func objectOption(id, backend string) string {
	kind, rest, more := strings.Cut(backend, ",")
	if more {
		rest = "," + rest
	}
	return kind + ",id=" + id + rest
}
