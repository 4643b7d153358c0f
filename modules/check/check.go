// Package check runs test scripts against a guest and says what came of them.
//
// A script is a text file of one behaviour, beside the module it tests; README.md in this folder is
// the manual of its language, made from the commands' own descriptions. [Parse] finds every mistake
// it can before anything is booted; [Run] runs a script against a [Guest], which it takes as pristine,
// and returns a [Result]. A test that fails is a result, never an error.
//
// A test fails when a step fails, and also when the kernel complained and the script did not ask for
// it, when it is tainted by more than a module of one's own, and when a module leaves something behind.
package check

import (
	"context"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// Defaults of Options and of a script's directives.
const (
	DefaultStepTimeout = 5 * time.Second
	DefaultTimeout     = time.Minute
)

// Facts are what a script's conditions ask about.
type Facts struct {
	Release string            // uname -r of the guest, for [kernel:>=6.12]
	Arch    string            // as uname -m says it, for [arch:x86_64]
	KVM     bool              // the guest runs under KVM
	Config  map[string]string // the kernel's configuration without CONFIG_: "SMP": "y"
}

// Options are how to run a script. The zero value works.
type Options struct {
	Seed        uint64        // of the random values; the same seed and script draw the same values
	StepTimeout time.Duration // for a step that names none; default 5 s
	Timeout     time.Duration // for a test that names none; default a minute
	Scale       float64       // multiplies every timeout, as emulation needs it; default 1
	Facts       Facts
	// Modules are those the guest has for this test. If there are any, a step that names another fails
	// whatever it expects, as a misspelt name would pass for a module that cannot be loaded.
	Modules []string
	// NoPanicEvent says that End would not tell a panic, as with a kernel that lacks pvpanic. Then the
	// text of the log alone must do.
	NoPanicEvent bool
	// Diagnose says what the guest is doing (registers, backtraces); called once, after a timeout.
	Diagnose func(ctx context.Context) string
	// Decode finds file and line of a splat's addresses; called for splats that fail a test.
	Decode func(ctx context.Context, splat []dmesg.Record) string
	// Progress is told of each section before it runs.
	Progress func(section string)
}

func (o Options) scaled(d time.Duration) time.Duration {
	if o.Scale > 0 {
		return time.Duration(float64(d) * o.Scale)
	}
	return d
}

func (o Options) step(d time.Duration) time.Duration {
	if d <= 0 {
		d = o.StepTimeout
	}
	if d <= 0 {
		d = DefaultStepTimeout
	}
	return o.scaled(d)
}

func (o Options) test(d time.Duration) time.Duration {
	if d <= 0 {
		d = o.Timeout
	}
	if d <= 0 {
		d = DefaultTimeout
	}
	return o.scaled(d)
}
