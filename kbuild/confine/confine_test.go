package confine

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// confined runs a shell script by the rules; it may read where the shell and its libraries are.
func confined(t *testing.T, r Rules, script string, args ...string) (out string, err error) {
	t.Helper()
	r.Read = append(r.Read, "/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/no such place")
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
	self, env, err := r.Command(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Env = self, append(os.Environ(), env)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	return said.String(), err
}

func TestFiles(t *testing.T) {
	if !Supported() {
		t.Skip("this kernel has no Landlock")
	}
	dir := t.TempDir()
	secret, mine := filepath.Join(dir, "secret"), filepath.Join(dir, "mine")
	if err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o644), os.Mkdir(mine, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, script, want string
		ok                 bool
	}{
		{"write and read", `cd "$2" && mkdir a && echo hi >a/x && mv a/x a/y && cat a/y && rm -r a`, "hi", true},
		{"null", `echo >/dev/null </dev/null && echo done`, "done", true},
		{"no variable", `env | grep ^KALEIDO_CONFINE || echo none`, "none", true},
		{"secret", `cat "$1"`, "Permission denied", false},
		{"secret in another way", `cat /proc/self/root"$1"`, "Permission denied", false},
		{"write elsewhere", `echo >>"$1"`, "Permission denied", false},
		{"write where it may read", `>/usr/x`, "Permission denied", false},
		{"link to it", `ln "$1" "$2"/link && cat "$2"/link`, "ln: ", false},
		{"symbolic link to it", `ln -s "$1" "$2"/soft && cat "$2"/soft`, "Permission denied", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := confined(t, Rules{Write: []string{mine}}, test.script, secret, mine)
			if (err == nil) != test.ok || !strings.Contains(out, test.want) || strings.Contains(out, "secret\n") {
				t.Errorf("%s: %v, %q; want %q in it", test.script, err, out, test.want)
			}
		})
	}
	if out, err := confined(t, Rules{Read: []string{secret}}, `cat "$1"`, secret); err != nil || out != "secret" {
		t.Errorf("a file that may be read: %v, %q", err, out)
	}
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name, script, want string
		rules              Rules
	}{
		{"none", `ulimit -t; ulimit -v; ulimit -f`, "", Rules{}},
		{"processor", `ulimit -St`, "2\n", Rules{CPU: 1500 * time.Millisecond}},
		{"memory", `ulimit -Sv`, "1048576\n", Rules{Memory: 1 << 30}},
		{"file", `cd "$1"; head -c 1000000 /usr/bin/env /usr/bin/env >x; stat -c %s x`, "4096\n", Rules{FileSize: 4096, Write: []string{dir}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if out, err := confined(t, test.rules, test.script, dir); err != nil || !strings.HasSuffix(out, test.want) {
				t.Errorf("%s: %v, %q; want %q", test.script, err, out, test.want)
			}
		})
	}
}

// One that is not run says so with a code of its own.
func TestFailure(t *testing.T) {
	for _, test := range []struct {
		name, program string
		rules         Rules
	}{
		{"no program", "/no such program", Rules{}},
		{"no folder to write to", "/bin/sh", Rules{Write: []string{"/no such folder"}}},
	} {
		if !Supported() && test.rules.Write != nil {
			continue
		}
		self, env, err := test.rules.Command(test.program)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = []string{env}
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != ExitCode || !strings.HasPrefix(string(out), "confine "+test.program+": ") {
			t.Errorf("%s: %v, %q", test.name, cmd.ProcessState, out)
		}
	}
}

// A program that lacks the call of Main does not run itself for ever.
func TestNoMain(t *testing.T) {
	t.Setenv(variable, "{}")
	if _, _, err := new(Rules).Command("/bin/sh"); err == nil || !strings.Contains(err.Error(), "confine.Main") {
		t.Errorf("Command in a process that was to become another: %v", err)
	}
}
