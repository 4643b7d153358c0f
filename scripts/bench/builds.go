package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cost is what a build took.
type cost struct{ wall, cpu float64 } // seconds; cpu of all its processes

func (c cost) String() string { return fmt.Sprintf("%.0f CPU s, %.0f s", c.cpu, c.wall) }

// builds compares builds of kernels, once each: it takes half an hour. Cache and ccache
// are empty at first, and not the user's.
func (b *bench) builds(ctx context.Context) ([]measurement, error) {
	cacheDir := filepath.Join(b.scratch, "cache")
	env := append(os.Environ(), "KALEIDO_CACHE="+cacheDir, "CCACHE_DIR="+filepath.Join(b.scratch, "ccache"))
	var failed error
	run := func(name string, args ...string) cost {
		if failed != nil {
			return cost{}
		}
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Env = b.scratch, env
		start := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			failed = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
			return cost{}
		}
		c := cost{time.Since(start).Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()}
		fmt.Fprintf(os.Stderr, "%s: %v\n", strings.Join(cmd.Args, " "), c)
		return c
	}
	forget := func(kinds ...string) {
		for _, kind := range kinds {
			if err := os.RemoveAll(filepath.Join(cacheDir, kind)); err != nil && failed == nil {
				failed = err
			}
		}
	}
	source := exec.CommandContext(ctx, b.kaleido, "fetch", "--quiet")
	source.Env, source.Stderr = env, os.Stderr
	text, err := source.Output()
	if err != nil {
		return nil, fmt.Errorf("kaleido fetch: %w", err)
	}

	lab := run(b.kaleido, "build", "kernel", "--ccache", "off")
	forget("kernels", "objects")
	filling := run(b.kaleido, "build", "kernel", "--ccache", "on")
	forget("kernels", "objects")
	warm := run(b.kaleido, "build", "kernel", "--ccache", "on")
	change := run(b.kaleido, "build", "kernel", "--ccache", "on", "--set", "LOG_BUF_SHIFT=19")

	run(b.kaleido, "build", "modules")
	forget("modules")
	modules := run(b.kaleido, "build", "modules")
	again := run(b.kaleido, "build", "modules")

	tree := []string{"-C", strings.TrimSpace(string(text)), "O=" + filepath.Join(b.scratch, "defconfig")}
	run("make", append(tree, "defconfig")...)
	whole := run("make", append(tree, "-j2", "bzImage", "modules")...)
	if failed != nil {
		return nil, failed
	}
	ratio := func(name string, a, b, limit float64, note string) measurement {
		m := limited(name, a/b, "", limit, 1)
		m.A, m.B, m.Note = []float64{a}, []float64{b}, note
		return m
	}
	return []measurement{
		ratio("lab / defconfig, CPU", lab.cpu, whole.cpu, 1./6, fmt.Sprintf("(%v / %v)", lab, whole)),
		ratio("lab with a warm ccache / without ccache, CPU", warm.cpu, lab.cpu, 1./4, fmt.Sprintf("(%v / %v)", warm, lab)),
		ratio("lab filling an empty ccache / without ccache, CPU", filling.cpu, lab.cpu, 0, fmt.Sprintf("(%v)", filling)),
		ratio("lab after a change of one line / from the start, CPU", change.cpu, lab.cpu, 0, fmt.Sprintf("(%v)", change)),
		limited("catalogue's modules and helpers, all anew", modules.wall, "s", 30, 1),
		limited("the same, nothing changed", again.wall, "s", 1, 1),
	}, nil
}
