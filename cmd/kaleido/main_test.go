package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
	"github.com/linux-kaleidoscope/kaleido/kbuild/confine"
	"github.com/linux-kaleidoscope/kaleido/vm/detach"
)

// atExit has the race detector not wait for a second at the end of every process, as
// each kaleido of a script is one.
const atExit = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	confine.Main()
	if err := os.Setenv("GORACE", atExit); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"kaleido": func() { os.Exit(Main()) },
	})
}

// TestScripts runs testdata/*.txt: the command line as people and CI see it,
// without a kernel or a virtual machine.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", atExit)
			env.Setenv("HOME", env.WorkDir+"/home")
			return os.Mkdir(env.WorkDir+"/home", 0o755)
		},
	})
}

// realKernel skips a test that boots unless scripts/test has put a kernel
// into the cache, and returns the environment in which kaleido finds it.
func realKernel(t *testing.T) map[string]string {
	t.Helper()
	if os.Getenv("KALEIDO_TEST_KERNEL") == "" {
		t.Skip("KALEIDO_TEST_KERNEL is not set: this test boots a kernel; make test runs it")
	}
	return everydayEnvironment(t)
}

// everydayEnvironment is the one in which kaleido finds its cache, and go its own.
func everydayEnvironment(t *testing.T) map[string]string {
	t.Helper()
	dir, err := cache.DefaultDir(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"KALEIDO_CACHE": dir, "HOME": os.Getenv("HOME")}
	out, err := exec.CommandContext(t.Context(), "go", "env", "-json", "GOMODCACHE", "GOCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &env); err != nil {
		t.Fatal(err)
	}
	return env
}

// TestGuestScripts runs testdata/vm/*.txt, each of which boots real kernels.
func TestGuestScripts(t *testing.T) {
	environment := realKernel(t)
	t.Parallel()
	runGuestScripts(t, "testdata/vm", environment)
}

// TestMatrixScripts runs testdata/matrix/*.txt: what needs another kernel.
func TestMatrixScripts(t *testing.T) {
	needMatrix(t)
	runGuestScripts(t, "testdata/matrix", everydayEnvironment(t))
}

func runGuestScripts(t *testing.T, dir string, environment map[string]string) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", atExit)
			for name, value := range environment {
				env.Setenv(name, value)
			}
			// Guests that stay are in the script's own $TMPDIR, and end with it at the latest.
			env.Defer(func() { endGuests(env) })
			// The cache is everybody's, and what scripts put there by name is not.
			env.Setenv("UNIQUE", filepath.Base(filepath.Dir(env.WorkDir)))
			schema, err := filepath.Abs("../../modules/report/testdata/junit.xsd")
			env.Setenv("SCHEMA", schema)
			return err
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"tmpfs": mountTmpfs, "survivors": findSurvivors},
	})
}

// endGuests ends the guests that a script which failed has left.
func endGuests(env *testscript.Env) {
	left, err := detach.DefaultDir(env.Getenv).List()
	if err != nil {
		env.T().Log(err)
	}
	for _, s := range left {
		if s.Status != detach.Ended {
			env.T().Log("ending guest", s.Name, syscall.Kill(s.PID, syscall.SIGKILL))
		}
	}
}

// findSurvivors is the scripts' "! survivors": nothing that a command of the script started is left.
func findSurvivors(ts *testscript.TestScript, neg bool, args []string) {
	if !neg || len(args) != 0 {
		ts.Fatalf("usage: ! survivors")
	}
	// What is left carries the script's environment, QEMU too.
	c := child{mark: "WORK=" + ts.Getenv("WORK") + "\x00"}
	if left := c.survivors(2 * time.Second); len(left) > 0 {
		ts.Fatalf("still running: %q", left)
	}
}

// mountTmpfs is the scripts' "tmpfs DIR OPTIONS": a file system of its own,
// small or read-only, for the script's time.
func mountTmpfs(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: tmpfs DIR OPTIONS")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(exec.Command("mount", "-t", "tmpfs", "-o", args[1], "none", dir).Run())
	ts.Defer(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			ts.Logf("unmount %s: %v", dir, err)
		}
	})
}
