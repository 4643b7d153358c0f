package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
	"github.com/linux-kaleidoscope/kaleido/vm"
)

// How a guest gets to its pristine state.
const (
	isolateSnapshot = "snapshot" // a clone of a booted guest
	isolateBoot     = "boot"     // a boot of its own
)

// maxSnapshots is how many snapshots the cache keeps that nobody has given a name: each kernel, initramfs
// and set of arguments has one of some 35 MB, which is made anew in two seconds.
const maxSnapshots = 64

// snapshotStore keeps snapshots in the cache.
type snapshotStore struct{ *cache.Cache }

func (s snapshotStore) Ensure(ctx context.Context, key, describe string, save func(ctx context.Context, dir string) error) (string, error) {
	e, saved, err := s.Cache.Ensure(ctx, cache.Snapshots, key, describe, save)
	if err != nil {
		return "", err
	}
	if saved {
		// Best effort: those that stay cost space, no more.
		_ = s.Limit(cache.Snapshots, maxSnapshots, isNamed)
	}
	return e.Path, nil
}

func (s snapshotStore) Remove(key string) error {
	err := s.Cache.Remove(cache.Snapshots, key)
	var busy *cache.BusyError
	if errors.As(err, &busy) || errors.Is(err, cache.ErrMissing) {
		return nil // somebody else does what is to be done
	}
	return err
}

// starter returns the function that starts guests in one of these ways.
func (p *pipeline) starter(isolate string) func(context.Context, vm.Config) (*vm.Instance, error) {
	if isolate == isolateBoot {
		return vm.Start
	}
	return (&vm.Cloner{Store: snapshotStore{p.store}}).Start
}

func isolateVar(flags *pflag.FlagSet, p *string, fallback string) {
	usage := fmt.Sprintf("get a guest by restoring a booted one (%s) or by a boot of its own (%s)", isolateSnapshot, isolateBoot)
	choiceVar(flags, p, "isolate", fallback, usage, isolateSnapshot, isolateBoot)
}
