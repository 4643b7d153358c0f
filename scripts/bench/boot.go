package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cavaliergopher/cpio"
)

// busybox is where Debian's busybox-static puts it.
const busybox = "/bin/busybox"

// boot compares `kaleido boot -- true`, restored and booted, with the plainest
// thing that boots the same kernel: its bzImage and a busybox on `-M pc`.
func (b *bench) boot(ctx context.Context) ([]measurement, error) {
	archive := filepath.Join(b.scratch, "busybox.cpio")
	if err := writeBusybox(archive); err != nil {
		return nil, err
	}
	// The first run of a kind saves the guest that the others restore.
	if _, err := timed(b.command(ctx, "boot", "--quiet", "--accel", "tcg", "--", "true")); err != nil {
		return nil, err
	}
	sides := map[string][]float64{}
	for range b.runs {
		for side, cmd := range map[string]*exec.Cmd{
			"restored": b.command(ctx, "boot", "--quiet", "--accel", "tcg", "--", "true"),
			"booted":   b.command(ctx, "boot", "--quiet", "--accel", "tcg", "--isolate", "boot", "--", "true"),
			"plain": exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-smp", "2", "-m", "256",
				"-kernel", b.image.Kernel, "-initrd", archive, "-append", "console=ttyS0", "-nographic", "-no-reboot"),
		} {
			t, err := timed(cmd)
			if err != nil {
				return nil, err
			}
			sides[side] = append(sides[side], t)
		}
	}
	compare := func(name, side string, limit float64) measurement {
		a, p := median(sides[side]), median(sides["plain"])
		m := limited(name, a/p, "", limit, b.runs)
		m.A, m.B, m.Note = sides[side], sides["plain"], fmt.Sprintf("(%.2f s / %.2f s)", a, p)
		return m
	}
	return []measurement{
		compare("boot -- true / plain QEMU", "restored", 0.9),
		compare("boot --isolate boot -- true / plain QEMU", "booted", 0),
	}, nil
}

func (b *bench) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.kaleido, args...)
	cmd.Dir = b.scratch // run directories are not left in the tree
	return cmd
}

// writeBusybox packs the smallest initramfs that powers off by itself.
func writeBusybox(name string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return fmt.Errorf("%w (apt-get install busybox-static)", err)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := cpio.NewWriter(f)
	for _, file := range []struct {
		name string
		mode fs.FileMode
		data []byte
	}{
		{"bin", fs.ModeDir | 0o755, nil},
		{"bin/busybox", 0o755, program},
		{"init", 0o755, []byte("#!/bin/busybox sh\n/bin/busybox poweroff -f\n")},
	} {
		mode := cpio.FileMode(file.mode.Perm()) | cpio.TypeReg
		if file.mode.IsDir() {
			mode = cpio.FileMode(file.mode.Perm()) | cpio.TypeDir
		}
		if err := w.WriteHeader(&cpio.Header{Name: file.name, Mode: mode, Size: int64(len(file.data))}); err != nil {
			return err
		}
		if _, err := w.Write(file.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}
