package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// awaitFile waits for a file with something in it.
func awaitFile(t *testing.T, pattern string, limit time.Duration) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-tick.C {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.Size() > 0 {
				return
			}
		}
	}
	t.Fatalf("no %s after %v", pattern, limit)
}

// TestInterruptedTest sends SIGINT while one test is done, two run and one has not begun. It must end in
// two seconds, and tell nevertheless what was done.
func TestInterruptedTest(t *testing.T) {
	environment := realKernel(t)
	dir := t.TempDir()
	files := map[string]string{
		"m/m.c":        "// SPDX-License-Identifier: GPL-2.0\n#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n",
		"m/test/a.txt": "insmod m\n",
		"m/test/b.txt": "insmod m\nwrite /dev/kmsg waiting\nexec -timeout 1000s sleep 1000\n",
		"m/test/c.txt": "insmod m\nwrite /dev/kmsg waiting\nexec -timeout 1000s sleep 1000\n",
		"m/test/d.txt": "insmod m\n",
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	c := startChild(t, environment, "-C", dir, "test", "--parallel", "2", "--timeout", "10m", "./m")
	c.await(c.stdout, "ok    m/a ")
	awaitFile(t, filepath.Join(dir, ".kaleido/runs/latest/m-b/kmsg.log"), time.Minute)
	awaitFile(t, filepath.Join(dir, ".kaleido/runs/latest/m-c/kmsg.log"), time.Minute)
	began := time.Now()
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	code := c.wait(20 * time.Second)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v, want at most 2 s", took)
	}
	if code != exitInterrupted {
		t.Errorf("exit code %d, want %d; it said:\n%s", code, exitInterrupted, &c.said)
	}
	if left := c.survivors(time.Second); len(left) > 0 {
		t.Errorf("still running: %q", left)
	}
	text, err := os.ReadFile(filepath.Join(dir, ".kaleido/runs/latest/result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var result struct {
		Results []struct{ Name, Status, Reason string }
	}
	if err := json.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	if n := len(result.Results); n != 4 {
		t.Fatalf("%d results, want 4", n)
	}
	for i, want := range []string{"pass", "error", "error", "error"} {
		if r := result.Results[i]; r.Status != want || want == "error" && r.Reason != "interrupted" {
			t.Errorf("%s: %s (%s), want %s", r.Name, r.Status, r.Reason, want)
		}
	}
}
