package kbuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild/confine"
)

func TestMain(m *testing.M) {
	confine.Main()
	os.Exit(m.Run())
}

// limited runs a script as if it were make, for the modules in dir.
func limited(t *testing.T, l *Limits, dir, script string) error {
	t.Helper()
	k := &Kernel{Dir: t.TempDir(), Source: t.TempDir()}
	return l.run(t.Context(), k, dir, &command{argv: []string{"sh", "-c", script, "sh", dir}})
}

func TestLimits(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, script, want string
		limits             Limits
	}{
		{"fifo", `cat "$1"/fifo`, "compiling takes more than 50ms", Limits{Time: 50 * time.Millisecond}},
		{"processor", `while :; do :; done`, "signal: CPU time limit exceeded", Limits{CPU: time.Second}},
		{"file", `head -c 8192 /usr/bin/env >"$1"/x || echo "x: error: $?"`, "", Limits{FileSize: 4096}},
		{"memory", `echo "cc1: out of memory allocating 1 bytes"; exit 1`, "cc1: out of memory allocating 1 bytes", Limits{Memory: 1 << 30}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := limited(t, &test.limits, filepath.Dir(fifo), test.script)
			if test.want == "" {
				if info, statErr := os.Stat(filepath.Join(filepath.Dir(fifo), "x")); err != nil || statErr != nil || info.Size() != 4096 {
					t.Errorf("%v, %v, %v; want 4096 bytes", err, info, statErr)
				}
				return
			}
			var e *MakeError
			if !errors.As(err, &e) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestLimitsTemporaryFiles(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	err := limited(t, &Limits{}, t.TempDir(), `test "$TMPDIR" != `+os.TempDir()+` && echo >"$TMPDIR"/x`)
	if left, _ := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("%v; left behind: %v", err, left)
	}
}

// That we cannot confine it is nobody's fault but ours, and so is Ctrl-C.
func TestLimitsOurFault(t *testing.T) {
	var e *MakeError
	if err := limited(t, &Limits{}, "/no such folder", "exit 1"); confine.Supported() && (err == nil || errors.As(err, &e)) {
		t.Errorf("confined to a folder that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cmd := &command{argv: []string{"sh", "-c", "exit 1"}}
	if err := DefaultLimits().run(ctx, &Kernel{}, t.TempDir(), cmd); !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("cancelled: %v", err)
	}
}
