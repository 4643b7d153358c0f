// Package confine runs a program that works on a stranger's files with no more of the machine than it needs:
// files by Landlock, which takes no root, and time, memory and disk by resource limits.
package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksyscall "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Rules are what a program and its children may touch and take. /dev/null is anybody's; the network is nobody's.
type Rules struct {
	Read     []string      // files and folders to read and execute; those that are not there are left out
	Write    []string      // folders to read and write
	CPU      time.Duration // of a processor for each process, in seconds; 0 for no limit
	Memory   uint64        // bytes of each process's address space; 0 for no limit
	FileSize uint64        // bytes of each file; 0 for no limit
}

// variable has the order for a process that is to confine itself.
const variable = "KALEIDO_CONFINE"

// order is what such a process is to do.
type order struct {
	Program string // to become
	Rules   Rules
}

// ExitCode is that of a process that could not become the program. It has said why.
const ExitCode = 125

// Supported reports whether the kernel has Landlock. If not, the rules on files are void.
func Supported() bool {
	abi, err := landlocksyscall.LandlockGetABIVersion()
	return err == nil && abi > 0
}

// Command returns the path of this program and a variable for the environment, with which it becomes
// the confined program, with the same arguments: its main function must call [Main].
func (r *Rules) Command(program string) (self, env string, err error) {
	if _, ok := os.LookupEnv(variable); ok {
		return "", "", fmt.Errorf("%s is set: unset it (or this program lacks the call of confine.Main)", variable)
	}
	text, err := json.Marshal(order{program, *r})
	return "/proc/self/exe", variable + "=" + string(text), err
}

// Main makes this process the program that [Rules.Command] was called for, if that started it. Else it
// returns. Main functions, and those of tests, call it first.
func Main() {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return
	}
	var o order
	err := errors.Join(os.Unsetenv(variable), json.Unmarshal([]byte(text), &o))
	if err == nil {
		err = o.obey()
	}
	fmt.Fprintf(os.Stderr, "confine %s: %v\n", o.Program, err)
	os.Exit(ExitCode)
}

// obey returns only if it fails.
func (o *order) obey() error {
	if err := o.Rules.restrictFiles(); err != nil {
		return err
	}
	limits := []struct {
		name     string
		resource int
		value    uint64
	}{
		{"RLIMIT_CPU", unix.RLIMIT_CPU, uint64(math.Ceil(o.Rules.CPU.Seconds()))},
		{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, o.Rules.FileSize},
		{"RLIMIT_AS", unix.RLIMIT_AS, o.Rules.Memory}, // the last, as it is ours, too
	}
	for _, l := range limits {
		if err := limit(l.resource, l.value); err != nil {
			return fmt.Errorf("set %s: %w", l.name, err)
		}
	}
	return syscall.Exec(o.Program, os.Args, os.Environ())
}

// restrictFiles does what this kernel's Landlock can do. Files are not moved from folder to folder, as
// the right to do so would have kernels before 5.19 do nothing.
func (r *Rules) restrictFiles() error {
	rules := []landlock.Rule{landlock.RWFiles(os.DevNull), landlock.RWDirs(r.Write...)}
	for _, name := range r.Read {
		switch info, err := os.Stat(name); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case info.IsDir():
			rules = append(rules, landlock.RODirs(name))
		default:
			rules = append(rules, landlock.ROFiles(name))
		}
	}
	return landlock.V7.BestEffort().Restrict(rules...)
}

// limit sets a resource limit, for good; one that is lower already stays. The signal for going over the soft
// limit on CPU tells what happened, that for the hard one would not.
func limit(resource int, value uint64) error {
	if value == 0 {
		return nil
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return err
	}
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: min(value, now.Max), Max: min(value+1, now.Max)})
}
