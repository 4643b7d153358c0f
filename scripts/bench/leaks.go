package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// leakModule is the module under test: it does nothing.
const leakModule = `// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>

MODULE_LICENSE("GPL");
`

// leakScript is each of the tests.
const leakScript = "insmod leak\nrmmod leak\n"

// usage is what a process has at one moment.
type usage struct{ descriptors, threads, children int }

func (u usage) max(v usage) usage {
	return usage{max(u.descriptors, v.descriptors), max(u.threads, v.threads), max(u.children, v.children)}
}

// leaks runs many tests in one kaleido and looks for what they leave: descriptors,
// threads and children that grow in number, processes that outlive it, files.
func (b *bench) leaks(ctx context.Context) ([]measurement, error) {
	dir, err := b.manyTests()
	if err != nil {
		return nil, err
	}
	temp := filepath.Join(b.scratch, "leaks-tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		return nil, err
	}
	mark := "KALEIDO_BENCH_LEAKS=" + b.scratch
	cmd := b.command(ctx, "test", "--quiet", "--accel", "tcg", dir)
	cmd.Env = append(os.Environ(), mark, "TMPDIR="+temp)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// Looked at when a test has ended, the most in the first and in the last quarter:
	// in between there are as many guests as run side by side.
	var early, late usage
	passed := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "ok ") {
			continue
		}
		passed++
		now := usageOf(cmd.Process.Pid)
		switch {
		case passed <= b.tests/4:
			early = early.max(now)
		case passed > b.tests-b.tests/4:
			late = late.max(now)
		}
	}
	if err := cmd.Wait(); err != nil || passed != b.tests {
		return nil, fmt.Errorf("%d of %d tests passed: %w", passed, b.tests, err)
	}
	left, err := os.ReadDir(temp)
	if err != nil {
		return nil, err
	}
	survivors := processesWith(mark)
	row := func(what string, value int, note string) measurement {
		m := limited(fmt.Sprintf("%d tests: %s", b.tests, what), float64(value), "", 0, 1)
		m.Within, m.Note = value <= 0, note
		return m
	}
	return []measurement{
		row("descriptors gained", late.descriptors-early.descriptors, fmt.Sprintf("(%d, %d)", early.descriptors, late.descriptors)),
		row("children gained", late.children-early.children, fmt.Sprintf("(%d, %d)", early.children, late.children)),
		limited(fmt.Sprintf("%d tests: threads", b.tests), float64(late.threads), "", 0, 1),
		row("processes left", survivors, ""),
		row("temporary files left", len(left), ""),
	}, nil
}

// manyTests is a folder with the module and as many tests as wanted.
func (b *bench) manyTests() (string, error) {
	dir := filepath.Join(b.scratch, "leak")
	if err := os.MkdirAll(filepath.Join(dir, "test"), 0o755); err != nil {
		return "", err
	}
	files := map[string]string{"leak.c": leakModule}
	for i := range b.tests {
		files[fmt.Sprintf("test/t%05d.txt", i)] = leakScript
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// usageOf counts what a process has; nothing if it has just ended.
func usageOf(pid int) usage {
	count := func(pattern string) int {
		names, _ := filepath.Glob(pattern) // the pattern is well formed
		return len(names)
	}
	u := usage{
		descriptors: count(fmt.Sprintf("/proc/%d/fd/*", pid)),
		threads:     count(fmt.Sprintf("/proc/%d/task/*", pid)),
	}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range lists {
		text, _ := os.ReadFile(name) // a thread that has ended has none
		u.children += len(strings.Fields(string(text)))
	}
	return u
}

// processesWith counts the processes that have mark in their environment.
func processesWith(mark string) int {
	n := 0
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range names {
		text, _ := os.ReadFile(name) // somebody else's, or of one that has ended
		if strings.Contains("\x00"+string(text), "\x00"+mark+"\x00") {
			n++
		}
	}
	return n
}
