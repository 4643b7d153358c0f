package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
)

// mark is a variable that everything started by a test inherits, so that
// what outlives kaleido can be found whatever it is.
const mark = "KALEIDO_TEST_MARK"

// A child is kaleido, run by this test binary.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	mark   string
	stdout *bufio.Reader
	stderr *bufio.Reader
	said   bytes.Buffer // what was read of both
}

func startChild(t *testing.T, environment map[string]string, args ...string) *child {
	t.Helper()
	c := &child{t: t, mark: fmt.Sprintf("%s=%s-%d", mark, t.Name(), time.Now().UnixNano())}
	c.cmd = exec.Command(filepath.Join(kaleidoOnPath(t), "kaleido"), args...)
	c.cmd.Dir = t.TempDir()
	c.cmd.Env = append(os.Environ(), c.mark)
	for name, value := range environment {
		c.cmd.Env = append(c.cmd.Env, name+"="+value)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdout, c.stderr = bufio.NewReader(io.TeeReader(out, &c.said)), bufio.NewReader(io.TeeReader(errs, &c.said))
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.cmd.Process.Kill() })
	return c
}

// kaleidoOnPath is the folder in which testscript's Main put this binary
// under the name kaleido.
func kaleidoOnPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("kaleido")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}

// await reads r up to a line with text in it.
func (c *child) await(r *bufio.Reader, text string) {
	c.t.Helper()
	for {
		line, err := r.ReadString('\n')
		if strings.Contains(line, text) {
			return
		}
		if err != nil {
			c.t.Fatalf("kaleido ended before it said %q; it said:\n%s", text, &c.said)
		}
	}
}

// wait waits for the end and returns the exit code.
func (c *child) wait(limit time.Duration) int {
	c.t.Helper()
	code, err := c.end(limit)
	if err != nil {
		c.t.Fatal(err)
	}
	return code
}

// end is wait for a goroutine other than the test's.
func (c *child) end(limit time.Duration) (code int, err error) {
	timer := time.AfterFunc(limit, func() { c.cmd.Process.Kill() })
	io.Copy(io.Discard, c.stderr)
	io.Copy(io.Discard, c.stdout)
	err = c.cmd.Wait()
	if !timer.Stop() {
		return 0, fmt.Errorf("kaleido had not ended after %v; it said:\n%s", limit, &c.said)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return c.cmd.ProcessState.ExitCode(), nil
}

// survivors waits for everything that carries the mark to end, at most limit,
// and returns what did not.
func (c *child) survivors(limit time.Duration) []string {
	deadline := time.Now().Add(limit)
	var left []string
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range environments {
		text, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(text, []byte(c.mark)) {
			continue // gone meanwhile, or none of ours
		}
		var pid int
		fmt.Sscanf(name, "/proc/%d/", &pid)
		if what := outlives(pid, time.Until(deadline)); what != "" {
			left = append(left, what)
		}
	}
	return left
}

// outlives waits for the process to end and names it if it does not.
func outlives(pid int, limit time.Duration) string {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return "" // gone
	}
	defer unix.Close(fd)
	for deadline := time.Now().Add(limit); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, time.Until(deadline)).Milliseconds()))
		if err == nil && n == 1 {
			return ""
		}
		if err != unix.EINTR {
			break
		}
	}
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return fmt.Sprintf("pid %d: %s", pid, bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
}

// TestInterrupt sends SIGINT at every stage. Each must end in two seconds with
// exit code 130, and leave no process and nothing torn.
func TestInterrupt(t *testing.T) {
	environment := realKernel(t)
	source := os.Getenv("KALEIDO_TEST_SOURCE")
	for _, tt := range []struct {
		name  string
		args  []string
		fresh bool // with an empty cache
		until string
	}{
		{"unpack", []string{"fetch"}, true, "kaleido: unpack"},
		{"configure", []string{"build", "kernel", "--profile", "tiny", "--kernel", source}, true, "kaleido: configure"},
		{"build", []string{"build", "kernel", "--profile", "tiny", "--kernel", source}, true, "kaleido: build"},
		{"run", []string{"boot", "--", "sh", "-c", "echo kaleido: up >&2; sleep 1000"}, false, "kaleido: up"},
		{"gdb", []string{"gdb", "--", "-batch", "-ex", "continue"}, false, "guest's console"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := map[string]string{}
			for k, v := range environment {
				env[k] = v
			}
			if tt.fresh {
				env["KALEIDO_CACHE"] = t.TempDir()
			}
			if _, err := exec.LookPath("gdb"); tt.name == "gdb" && err != nil {
				t.Skip(err)
			}
			c := startChild(t, env, tt.args...)
			c.await(c.stderr, tt.until)
			began := time.Now()
			if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			code := c.wait(20 * time.Second)
			took := time.Since(began)
			if code != exitInterrupted {
				t.Errorf("exit code %d, want %d; it said:\n%s", code, exitInterrupted, &c.said)
			}
			if took > 2*time.Second {
				t.Errorf("took %v, want at most 2 s", took)
			}
			if left := c.survivors(time.Second); len(left) > 0 {
				t.Errorf("still running: %q", left)
			}
			torn, err := filepath.Glob(filepath.Join(env["KALEIDO_CACHE"], "*", ".tmp-*"))
			if err != nil || tt.fresh && len(torn) > 0 {
				t.Errorf("left in the cache: %q, %v", torn, err)
			}
		})
	}
}

// TestKilled kills kaleido where it cannot clean up. QEMU must not outlive it.
func TestKilled(t *testing.T) {
	environment := realKernel(t)
	c := startChild(t, environment, "boot", "--", "sh", "-c", "echo up; sleep 1000")
	c.await(c.stdout, "up")
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.wait(20 * time.Second)
	if left := c.survivors(5 * time.Second); len(left) > 0 {
		t.Errorf("still running: %q", left)
	}
}

// TestKilledQEMU kills QEMU while a command runs: that is no fault of the command's.
func TestKilledQEMU(t *testing.T) {
	environment := realKernel(t)
	c := startChild(t, environment, "boot", "--", "sh", "-c", "echo up; sleep 1000")
	c.await(c.stdout, "up")
	if err := syscall.Kill(childOf(t, c.cmd.Process.Pid, "qemu-system"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	code := c.wait(20 * time.Second)
	if said := c.said.String(); code != exitInfra || !strings.Contains(said, "kaleido: error: QEMU exited: signal: killed\n") {
		t.Errorf("exit code %d, want %d; it said:\n%s", code, exitInfra, said)
	}
	if left := c.survivors(time.Second); len(left) > 0 {
		t.Errorf("still running: %q", left)
	}
}

// childOf is the process with that parent whose name begins so.
func childOf(t *testing.T, parent int, name string) int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		pids, _ := os.ReadFile(list) // the thread may be gone
		for _, word := range strings.Fields(string(pids)) {
			comm, _ := os.ReadFile("/proc/" + word + "/comm")
			if pid, err := strconv.Atoi(word); err == nil && strings.HasPrefix(string(comm), name) {
				return pid
			}
		}
	}
	t.Fatalf("process %d has no child %s", parent, name)
	return 0
}

// TestCrowd starts two kaleidos on one empty cache. One builds, the other
// waits and says so, and both boot. The kernel is byte for byte that of the
// other cache, built at another place and time, and perhaps without ccache. So is
// the one that is built in the tree of one with another configuration.
func TestCrowd(t *testing.T) {
	needMatrix(t)
	environment := everydayEnvironment(t)
	cacheDir := t.TempDir()
	environment["KALEIDO_CACHE"] = cacheDir
	args := []string{"up", "--kernel", os.Getenv("KALEIDO_TEST_SOURCE")}
	both := []*child{startChild(t, environment, args...), startChild(t, environment, args...)}
	type ending struct {
		code int
		err  error
	}
	endings := make(chan ending)
	for _, c := range both {
		go func() {
			code, err := c.end(15 * time.Minute)
			endings <- ending{code, err}
		}()
	}
	for range both {
		if e := <-endings; e.err != nil || e.code != exitPass {
			t.Errorf("exit code %d, %v; want 0", e.code, e.err)
		}
	}
	waited := 0
	for _, c := range both {
		if strings.Contains(c.said.String(), "waiting for another kaleido") {
			waited++
		}
	}
	if waited == 0 {
		t.Errorf("none of the two waited for the other; they said:\n%s\n%s", &both[0].said, &both[1].said)
	}
	kernels, err := filepath.Glob(filepath.Join(cacheDir, "kernels", "*", "kernel.json"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("the cache has the kernels %q, %v; want one", kernels, err)
	}
	first := filepath.Dir(kernels[0])
	compareKernels(t, first, filepath.Dir(os.Getenv("KALEIDO_TEST_KBUILD")))

	// Another configuration and back: what kbuild makes again and what it leaves add up to the same bytes.
	run := func(want int, args ...string) {
		t.Helper()
		c := startChild(t, environment, args...)
		if code := c.wait(10 * time.Minute); code != want {
			t.Fatalf("kaleido %s: exit code %d, want %d; it said:\n%s", strings.Join(args, " "), code, want, &c.said)
		}
	}
	build := []string{"build", "kernel", "--kernel", os.Getenv("KALEIDO_TEST_SOURCE")}
	run(exitUsage, append(build, "--set", "LOG_BUF_SHIFTY=19")...)
	run(exitPass, append(build, "--set", "LOG_BUF_SHIFT=19")...)
	run(exitPass, "kernel", "rm", filepath.Base(first))
	run(exitPass, build...)
	k, err := kbuild.OpenKernel(first)
	if err != nil || k.Objects != 0 {
		t.Errorf("the kernel was built in %d steps, %v; want 0, which says that it was not built from the start", k.Objects, err)
	}
	compareKernels(t, first, filepath.Dir(os.Getenv("KALEIDO_TEST_KBUILD")))
}

func compareKernels(t *testing.T, dirA, dirB string) {
	a, errA := kbuild.OpenKernel(dirA)
	b, errB := kbuild.OpenKernel(dirB)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	for _, path := range []func(*kbuild.Kernel) string{
		(*kbuild.Kernel).Image, (*kbuild.Kernel).Vmlinux, (*kbuild.Kernel).BootImage,
		(*kbuild.Kernel).SystemMap, (*kbuild.Kernel).Symvers, (*kbuild.Kernel).ConfigFile,
	} {
		inA, errA := os.ReadFile(path(a))
		inB, errB := os.ReadFile(path(b))
		if errA != nil || errB != nil || !bytes.Equal(inA, inB) {
			t.Errorf("%s and %s differ (%v, %v)", path(a), path(b), errA, errB)
		}
	}
}
