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

// boot compares `kaleido boot -- true` with the plainest thing that boots the
// same kernel: its bzImage and a busybox on `-M pc`.
func (b *bench) boot(ctx context.Context) ([]measurement, error) {
	archive := filepath.Join(b.scratch, "busybox.cpio")
	if err := writeBusybox(archive); err != nil {
		return nil, err
	}
	var ours, plain []float64
	for range b.runs {
		t, err := timed(b.command(ctx, "boot", "--quiet", "--accel", "tcg", "--", "true"))
		if err != nil {
			return nil, err
		}
		ours = append(ours, t)
		t, err = timed(exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-smp", "2", "-m", "256",
			"-kernel", b.image.Kernel, "-initrd", archive, "-append", "console=ttyS0", "-nographic", "-no-reboot"))
		if err != nil {
			return nil, err
		}
		plain = append(plain, t)
	}
	m := limited("boot -- true / plain QEMU", median(ours)/median(plain), "", 0.9, b.runs)
	m.A, m.B = ours, plain
	m.Note = fmt.Sprintf("(%.2f s / %.2f s)", median(ours), median(plain))
	return []measurement{m}, nil
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
