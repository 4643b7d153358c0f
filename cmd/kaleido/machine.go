package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// machineFlags say what machine the kernel boots on.
type machineFlags struct {
	memory      memorySize
	cpus        int
	cpu         string
	accel       string
	append      []string
	qemu        string
	qemuArgs    []string
	bootTimeout time.Duration
	timeout     time.Duration
	dryRun      bool
	dump        bool
}

func (f *machineFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.memory = 256
	flags.VarP(&f.memory, "memory", "m", "give the guest `SIZE` of memory: MiB, or with M or G")
	numberVarP(flags, &f.cpus, "cpus", "p", 2, 1, 255, "give the guest `N` processors")
	flags.StringVar(&f.cpu, "cpu", "", "QEMU's `MODEL` of processor, with its flags (default all that the accelerator can do)")
	choiceVar(flags, &f.accel, "accel", string(vm.AccelAuto), "who executes the guest: auto, kvm or tcg",
		string(vm.AccelAuto), string(vm.AccelKVM), string(vm.AccelTCG))
	flags.StringArrayVarP(&f.append, "append", "a", nil, "add the kernel argument `ARG` (repeatable)")
	flags.StringVar(&f.qemu, "qemu", "qemu-system-x86_64", "the QEMU `PROGRAM`")
	flags.StringArrayVar(&f.qemuArgs, "qemu-arg", nil, "give QEMU the argument `ARG` (repeatable)")
	periodVar(flags, &f.bootTimeout, "boot-timeout", 30*time.Second, "give up when the guest has not answered for `TIME` (four times as long under TCG)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "build what is missing, boot nothing, and print the exact make and QEMU lines")
}

func (f *machineFlags) addTimeout(cmd *cobra.Command, fallback time.Duration) {
	periodVar(cmd.Flags(), &f.timeout, "timeout", fallback, "end the guest after `TIME`; 0 is never")
}

func (f *machineFlags) addDump(cmd *cobra.Command, when string) {
	cmd.Flags().BoolVar(&f.dump, "dump", false, "keep the guest's memory for gdb, crash and drgn "+when)
}

// vmcoreinfo is the device by which the kernel tells where it describes itself, so that a dump has that: crash and
// drgn ask for it.
const vmcoreinfo = "vmcoreinfo"

// config is the machine for an image.
func (f *machineFlags) config(img *image) vm.Config {
	args := slices.Clone(f.qemuArgs)
	if f.dump {
		args = append(args, "-device", vmcoreinfo)
	}
	return vm.Config{
		QEMU:        f.qemu,
		Kernel:      img.kernel.BootImage(),
		Initrd:      img.initrd,
		SystemMap:   img.kernel.SystemMap(),
		Append:      f.append,
		Quiet:       true,
		CPUs:        f.cpus,
		MemoryMiB:   int(f.memory),
		CPU:         f.cpu,
		Accel:       vm.Accel(f.accel),
		Args:        args,
		BootTimeout: f.bootTimeout,
	}
}

// memorySize is an amount of memory in MiB, written as QEMU's -m takes it.
type memorySize int

func (m *memorySize) String() string { return strconv.Itoa(int(*m)) + "M" }

// Type names the value in help texts.
func (m *memorySize) Type() string { return "size" }

// Set parses 512, 512M or 2G.
func (m *memorySize) Set(text string) error {
	digits, unit := strings.TrimRight(text, "MmGg"), 1
	switch suffix := strings.ToUpper(text[len(digits):]); suffix {
	case "", "M":
	case "G":
		unit = 1024
	default:
		return fmt.Errorf("want MiB, or a number with M or G")
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n <= 0 || n > math.MaxInt32/unit {
		return fmt.Errorf("want MiB, or a number with M or G")
	}
	if n*unit < vm.MinMemory {
		return fmt.Errorf("a kernel needs at least %d MiB", vm.MinMemory)
	}
	*m = memorySize(n * unit)
	return nil
}
