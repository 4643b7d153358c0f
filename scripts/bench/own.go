package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// clockName is the name under which this program plays a QEMU that only
	// notes when it was started.
	clockName = "qemu-clock"
	clockFile = "KALEIDO_BENCH_CLOCK"
)

// stampAndDie writes the time into the file that the environment names.
func stampAndDie() {
	now := strconv.FormatInt(time.Now().UnixNano(), 10)
	if err := os.WriteFile(os.Getenv(clockFile), []byte(now), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

// own measures what `kaleido up` does before QEMU is exec'ed when everything
// is in the cache.
func (b *bench) own(ctx context.Context) ([]measurement, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	clock := filepath.Join(b.scratch, clockName)
	if err := os.Link(self, clock); err != nil {
		if err := os.Symlink(self, clock); err != nil {
			return nil, err
		}
	}
	stamp := filepath.Join(b.scratch, "stamp")
	var took []float64
	for range b.runs {
		cmd := b.command(ctx, "up", "--quiet", "--accel", "tcg", "--qemu", clock)
		cmd.Env = append(os.Environ(), clockFile+"="+stamp)
		start := time.Now()
		if err := cmd.Run(); err == nil {
			return nil, fmt.Errorf("%s: passed with a QEMU that does nothing", strings.Join(cmd.Args, " "))
		}
		text, err := os.ReadFile(stamp)
		if err != nil {
			return nil, fmt.Errorf("QEMU was not started: %w", err)
		}
		ns, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return nil, err
		}
		took = append(took, float64(time.Unix(0, ns).Sub(start).Microseconds())/1000)
		if err := os.Remove(stamp); err != nil {
			return nil, err
		}
	}
	m := limited("up, all cached: before QEMU", median(took), "ms", 100, b.runs)
	m.A = took
	return []measurement{m}, nil
}

// memory measures the most that kaleido itself held while a guest ran.
func (b *bench) memory(ctx context.Context) ([]measurement, error) {
	cmd := b.command(ctx, "boot", "--quiet", "--", "sh", "-c", "echo ready; cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer cmd.Wait()
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("the guest said %q: %w", line, err)
	}
	kib, err := kibOf(cmd.Process.Pid, "status", "VmHWM")
	if err != nil {
		return nil, err
	}
	return []measurement{limited("kaleido's own memory", kib/1024, "MiB", 64, 1)}, nil
}

// kibOf reads an amount of memory, in KiB, from one of a running process's files in /proc.
func kibOf(pid int, file, name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name+":" {
			return strconv.ParseFloat(fields[1], 64)
		}
	}
	return 0, fmt.Errorf("no %s for pid %d", name, pid)
}
