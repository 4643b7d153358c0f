package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// guestConfig is the guest that is booted, restored and looked into.
func (b *bench) guestConfig() vm.Config {
	return vm.Config{
		Kernel:    b.image.BootImage,
		Initrd:    b.image.Initramfs,
		SystemMap: b.image.SystemMap,
		Accel:     vm.AccelTCG,
		Quiet:     true,
	}
}

// saved makes a snapshot of the guest in a directory of its own.
func (b *bench) saved(ctx context.Context) (*vm.Snapshot, string, error) {
	cfg := b.guestConfig()
	snap, err := vm.SnapshotOf(cfg)
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp(b.scratch, "snapshot-")
	if err != nil {
		return nil, "", err
	}
	return snap, dir, snap.Save(ctx, cfg, dir)
}

// restore compares a guest that is restored with the same one booted: from the exec of
// QEMU to the agent's first answer, and all that the call takes, with a clock and random
// numbers of its own. Each process verifies the files of the snapshot once, which is not
// in it.
func (b *bench) restore(ctx context.Context) ([]measurement, error) {
	snap, dir, err := b.saved(ctx)
	if err != nil {
		return nil, err
	}
	ways := []func() (*vm.Instance, error){
		func() (*vm.Instance, error) { return snap.Restore(ctx, b.guestConfig(), dir) },
		func() (*vm.Instance, error) { return vm.Start(ctx, b.guestConfig()) },
	}
	answered, ready := make([][]float64, len(ways)), make([][]float64, len(ways))
	for run := range b.runs + 1 {
		for i, start := range ways {
			begin := time.Now()
			guest, err := start()
			if err != nil {
				return nil, err
			}
			if run > 0 { // the first one of each reads the files
				answered[i] = append(answered[i], guest.BootTime().Seconds())
				ready[i] = append(ready[i], time.Since(begin).Seconds())
			}
			guest.Close()
		}
	}
	ratio := func(name string, took [][]float64, limit float64) measurement {
		restored, booted := median(took[0]), median(took[1])
		m := limited(name, restored/booted, "", limit, b.runs)
		m.A, m.B, m.Note = took[0], took[1], fmt.Sprintf("(%.3f s / %.3f s)", restored, booted)
		return m
	}
	return []measurement{
		ratio("restore / boot, to the agent's answer", answered, 0.12),
		ratio("restore / boot, ready for a test", ready, 0),
	}, nil
}

// clones measures what guests cost that are restored side by side: memory and time.
func (b *bench) clones(ctx context.Context) ([]measurement, error) {
	snap, dir, err := b.saved(ctx)
	if err != nil {
		return nil, err
	}
	var done []measurement
	for _, n := range []int{1, 4, 16} {
		memory, err := b.memoryOf(ctx, snap, dir, n)
		if err != nil {
			return nil, err
		}
		rate, err := b.rateOf(ctx, snap, dir, n)
		if err != nil {
			return nil, err
		}
		done = append(done,
			limited(fmt.Sprintf("%d clones at once: memory of each", n), memory, "MiB", 0, 1),
			limited(fmt.Sprintf("%d clones at once: guests per second", n), rate, "/s", 0, 1))
	}
	return done, nil
}

// useGuest is what a short test does in a guest.
func useGuest(ctx context.Context, guest *vm.Instance) error {
	if err := guest.Agent().LoadModule(ctx, "hello"); err != nil {
		return err
	}
	return guest.Agent().UnloadModule(ctx, "hello")
}

// memoryOf has n clones alive, each used, and returns the memory of one in MiB: the
// proportional set size of its QEMU, in which what they share counts once.
func (b *bench) memoryOf(ctx context.Context, snap *vm.Snapshot, dir string, n int) (float64, error) {
	guests := make([]*vm.Instance, n)
	defer func() {
		for _, g := range guests {
			if g != nil {
				g.Close()
			}
		}
	}()
	var group errgroup.Group
	for i := range guests {
		group.Go(func() (err error) {
			if guests[i], err = snap.Restore(ctx, b.guestConfig(), dir); err != nil {
				return err
			}
			return useGuest(ctx, guests[i])
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	total := 0.0
	for _, g := range guests {
		kib, err := kibOf(g.PID(), "smaps_rollup", "Pss")
		if err != nil {
			return 0, err
		}
		total += kib / 1024
	}
	return total / float64(n), nil
}

// rateOf restores, uses and ends guests, n at a time, and returns how many a second.
func (b *bench) rateOf(ctx context.Context, snap *vm.Snapshot, dir string, n int) (float64, error) {
	total := max(2*n, b.runs)
	var group errgroup.Group
	group.SetLimit(n)
	start := time.Now()
	for range total {
		group.Go(func() error {
			guest, err := snap.Restore(ctx, b.guestConfig(), dir)
			if err != nil {
				return err
			}
			defer guest.Close()
			return useGuest(ctx, guest)
		})
	}
	err := group.Wait()
	return float64(total) / time.Since(start).Seconds(), err
}
