package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Config says what to boot and how. The zero value of every field but Kernel
// works.
type Config struct {
	// QEMU is the emulator, a path or a name looked up in $PATH. Defaults to
	// qemu-system-x86_64.
	QEMU string

	// Kernel is the kernel to boot: an uncompressed vmlinux with a PVH note
	// (CONFIG_PVH), which boots fastest, or a bzImage.
	Kernel string

	// Initrd is the initial RAM file system. Defaults to none, and then the
	// kernel must have one built in to get as far as the agent.
	Initrd string

	// SystemMap is the System.map of Kernel, with whose help the kernel log is
	// read out of the guest's memory. Defaults to none: then the log has only
	// what the agent and the console told.
	SystemMap string

	// Append are further kernel arguments, after ours, so that they win.
	Append []string

	// Quiet keeps all but warnings off the console; nothing is missing in the
	// kernel log. Defaults to a console that shows everything.
	Quiet bool

	// CPUs is the number of virtual processors. Defaults to 2, so that locking
	// is put to the test.
	CPUs int

	// MemoryMiB is the guest's memory. Defaults to 256.
	MemoryMiB int

	// CPU is the processor's model with its flags, as QEMU spells it. Defaults
	// to max, all that the accelerator can do, among it RDRAND, from which the
	// kernel seeds its random numbers; under TCG without ERMS, which is slow.
	CPU string

	// Accel is who executes the guest's code. Defaults to AccelAuto.
	Accel Accel

	// RTC is the value of QEMU's -rtc, such as base=2020-01-01T00:00:00.
	// Defaults to the host's time in UTC.
	RTC string

	// Args are further arguments for QEMU, after ours.
	Args []string

	// Dir is the directory of this run: console.log, kmsg.log and qemu.cmd are
	// written there, over older ones. It is created with mode 0700. Defaults to
	// a temporary directory that Close removes.
	Dir string

	// Console gets every byte of the serial console, in order, however slow it
	// is. A Write that blocks holds up nothing else; one that fails ends the
	// copy. Defaults to none.
	Console io.Writer

	// BootTimeout bounds the time from QEMU's start to the agent's first word,
	// as for KVM; under TCG it is four times as long. Defaults to 30 seconds.
	BootTimeout time.Duration

	// KVMTimeout bounds the wait for a sign of life under AccelAuto's attempt
	// with KVM before TCG is used. Defaults to 10 seconds.
	KVMTimeout time.Duration

	// Note is told, in one plain line, what the user should know though it is
	// no error, such as why TCG is used. Defaults to telling nobody. It must
	// not block.
	Note func(line string)

	// Probe is how AccelAuto finds out about KVM.
	Probe Probe

	halted bool // the guest is not let go: somebody else will
}

// tcgFactor is how many times longer a boot may take without KVM. Measured are
// a factor of two to five.
const tcgFactor = 4

// withDefaults is c with every empty field set.
func (c Config) withDefaults() Config {
	setDefault(&c.QEMU, "qemu-system-x86_64")
	setDefault(&c.CPUs, 2)
	setDefault(&c.MemoryMiB, 256)
	setDefault(&c.Accel, AccelAuto)
	setDefault(&c.BootTimeout, 30*time.Second)
	setDefault(&c.KVMTimeout, 10*time.Second)
	if c.Note == nil {
		c.Note = func(string) {}
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// MinMemory is how much memory a kernel needs at least, in MiB.
const MinMemory = 16

// check finds what no machine can be made of.
func (c *Config) check() error {
	switch {
	case c.Kernel == "":
		return errors.New("boot: no kernel given")
	case c.CPUs < 1 || c.CPUs > 255:
		return fmt.Errorf("boot: %d processors: not between 1 and 255", c.CPUs)
	case c.MemoryMiB < MinMemory:
		return fmt.Errorf("boot: %d MiB of memory: a kernel needs at least %d", c.MemoryMiB, MinMemory)
	}
	if err := c.Accel.check(); err != nil {
		return err
	}
	for _, a := range c.Append {
		if strings.ContainsAny(a, "\n\x00") {
			return fmt.Errorf("kernel argument %q: must be one line", a)
		}
	}
	return nil
}

// checkFiles says which input is missing in our own words; QEMU's depend on its
// version.
func (c *Config) checkFiles() error {
	for _, f := range []struct{ what, name string }{
		{"kernel", c.Kernel}, {"initrd", c.Initrd}, {"System.map", c.SystemMap},
	} {
		if f.name == "" {
			continue
		}
		file, err := os.Open(f.name)
		if err != nil {
			return fmt.Errorf("boot: %s: %w", f.what, err)
		}
		if err := file.Close(); err != nil {
			return fmt.Errorf("boot: %s: %w", f.what, err)
		}
	}
	return nil
}

// absolute makes the names of files absolute, so that qemu.cmd works anywhere.
func (c *Config) absolute() error {
	for _, name := range []*string{&c.Kernel, &c.Initrd, &c.SystemMap} {
		if *name == "" {
			continue
		}
		abs, err := filepath.Abs(*name)
		if err != nil {
			return fmt.Errorf("boot: %w", err)
		}
		*name = abs
	}
	return nil
}

// resolve is c with every default, checked, with names that are absolute, QEMU's
// too, and the accelerator to begin with.
func (c Config) resolve() (Config, choice, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return c, choice{}, err
	}
	if err := c.checkFiles(); err != nil {
		return c, choice{}, err
	}
	var err error
	if c.QEMU, err = findQEMU(c.QEMU); err != nil {
		return c, choice{}, err
	}
	if err := c.absolute(); err != nil {
		return c, choice{}, err
	}
	return c, c.Probe.choose(c.Accel), nil
}

// bootLimit is BootTimeout under an accelerator.
func (c *Config) bootLimit(accel Accel) time.Duration {
	if accel == AccelTCG {
		return tcgFactor * c.BootTimeout
	}
	return c.BootTimeout
}
