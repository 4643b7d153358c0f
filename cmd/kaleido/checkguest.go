package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// checkGuest is a running guest as test scripts see it. It only changes the
// form: the agent's errors become refusals, its states the scripts' words.
type checkGuest struct {
	*vm.Instance
}

// refusal turns the agent's no into the scripts'. Other errors mean that the
// guest could not be asked, and pass through.
func refusal(err error) error {
	var no *guest.Error
	switch {
	case errors.As(err, &no):
		return &check.Refusal{Op: no.Op, Name: no.Name, Errno: no.Errno, Signal: no.Signal, Text: no.Text}
	case errors.Is(err, os.ErrProcessDone):
		return &check.Refusal{Op: "signal", Errno: syscall.ESRCH}
	}
	return err
}

func (g checkGuest) Load(ctx context.Context, module string, params []string, deps bool) (int, error) {
	load := g.Agent().InsertModule
	if deps {
		load = g.Agent().Modprobe
	}
	loaded, err := load(ctx, module, params...)
	if loaded == nil {
		return 0, refusal(err)
	}
	return loaded.PID, refusal(err)
}

func (g checkGuest) Unload(ctx context.Context, module string) error {
	return refusal(g.Agent().UnloadModule(ctx, module))
}

func (g checkGuest) Start(ctx context.Context, p check.Program) (check.Process, error) {
	process, err := g.Agent().Start(ctx, guest.Command{Argv: p.Argv, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr})
	if err != nil {
		return nil, refusal(err)
	}
	return checkProcess{process}, nil
}

// maxRead is the most that a test reads of a file, in bytes: a read handler that never comes to an end must
// not fill our memory.
const maxRead = 16 << 20

// fileBuffer takes a file of at most maxRead.
type fileBuffer struct{ data []byte }

var errEndless = fmt.Errorf("the file goes on after %d MiB", maxRead>>20)

// Write implements io.Writer.
func (b *fileBuffer) Write(p []byte) (int, error) {
	if len(b.data)+len(p) > maxRead {
		return 0, errEndless
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

func (g checkGuest) ReadFile(ctx context.Context, name string) ([]byte, error) {
	var text fileBuffer
	err := g.Agent().Get(ctx, name, &text)
	if errors.Is(err, errEndless) {
		return nil, &check.Refusal{Op: "read", Name: name, Text: errEndless.Error()}
	}
	return text.data, refusal(err)
}

func (g checkGuest) WriteFile(ctx context.Context, name string, data []byte) error {
	return refusal(g.Agent().Write(ctx, name, data))
}

func (g checkGuest) Exists(ctx context.Context, name string) (bool, error) {
	err := g.Agent().Stat(ctx, name)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	return err == nil, refusal(err)
}

func (g checkGuest) List(ctx context.Context, dir string) ([]string, error) {
	names, err := g.Agent().List(ctx, dir)
	return names, refusal(err)
}

func (g checkGuest) Follow(ctx context.Context, fn func(dmesg.Record)) error {
	return g.Agent().Kmsg(ctx, func(line string) {
		if r, err := dmesg.ParseKmsg(line); err == nil {
			fn(r)
		}
	})
}

func (g checkGuest) Records(ctx context.Context) ([]dmesg.Record, error) { return g.Dmesg(ctx) }

func (g checkGuest) Done() <-chan struct{} { return g.Ended() }

func (g checkGuest) End() check.End {
	end, err := g.Wait(context.Background()) // it has ended: returns at once
	if err != nil {
		return check.End{Reason: check.EndGone, Detail: err.Error()}
	}
	reasons := map[vm.Reason]check.EndReason{
		vm.Panicked:   check.EndPanic,
		vm.PoweredOff: check.EndPowerOff,
		vm.Reset:      check.EndReboot,
	}
	reason, ok := reasons[end.Reason]
	if !ok {
		return check.End{Reason: check.EndGone, Detail: end.String()}
	}
	return check.End{Reason: reason, Detail: end.Detail}
}

// checkProcess is a program in the guest as test scripts see it.
type checkProcess struct {
	*guest.Process
}

func (p checkProcess) PID() int { return p.Process.PID }

func (p checkProcess) Signal(ctx context.Context, sig syscall.Signal) error {
	return refusal(p.Process.Signal(ctx, sig))
}

func (p checkProcess) Wait(ctx context.Context) (check.ExitStatus, error) {
	status, err := p.Process.Wait(ctx)
	return check.ExitStatus{Code: status.Code, Signal: status.Signal}, err
}
