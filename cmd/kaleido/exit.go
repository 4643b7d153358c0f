package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/vm"
)

// Exit codes, a contract with scripts and CI. README documents them.
const (
	exitPass        = 0
	exitFailed      = 1   // a test, or the command run in the guest, failed
	exitUsage       = 2   // wrong command line, configuration file or kernel config
	exitFetch       = 3   // the source could not be fetched or verified
	exitBuild       = 4   // kernel, module or initramfs did not build
	exitInfra       = 5   // the machine could not be run: no QEMU, guest did not start
	exitPanic       = 6   // the guest's kernel panicked
	exitSplat       = 7   // the kernel complained (oops, WARN, lockdep...) though the command passed
	exitTimeout     = 124 // timeout or stall, as timeout(1) has it
	exitInterrupted = 130 // Ctrl-C or SIGTERM
)

// codedError gives an error the exit code its maker knows it deserves.
type codedError struct {
	code int
	err  error // nil: the code says it all, print nothing more
}

func (e *codedError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codedError) Unwrap() error { return e.err }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code, err}
}

func usageError(format string, args ...any) error {
	return withCode(exitUsage, fmt.Errorf(format, args...))
}

// exitCode maps an error to the process's exit code. A cancelled context wins
// over whatever the cancelled work said about it.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitPass
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	var (
		coded  *codedError
		config *kbuild.ConfigError
		fetch  *kbuild.FetchError
		mk     *kbuild.MakeError
		boot   *vm.BootError
	)
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &config):
		return exitUsage
	case errors.As(err, &fetch):
		return exitFetch
	case errors.As(err, &mk):
		return exitBuild
	case errors.As(err, &boot):
		return bootExitCode(boot)
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}
