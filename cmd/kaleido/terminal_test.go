package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestShell is a person at a terminal: a prompt, a command, the window's
// size, and the ways out.
func TestShell(t *testing.T) {
	environment := realKernel(t)
	for _, tt := range []struct {
		name string
		out  string // how the person leaves
		code int
	}{
		{"exit", "exit\r", exitPass},
		{"escape", "\x01x", exitPass},
		{"poweroff", "poweroff\r", exitPass},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(kaleidoOnPath(t)+"/kaleido", "boot")
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "TERM=xterm")
			for name, value := range environment {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
			tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
			if err != nil {
				t.Fatal(err)
			}
			defer tty.Close()
			screen := newScreen(t, tty, cmd)
			screen.await("# ", "$ ")
			fmt.Fprint(tty, "echo $((6*7)) $(uname -s)\r")
			screen.await("42 Linux")
			fmt.Fprint(tty, tt.out)
			screen.end()
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != tt.code {
				t.Errorf("%v, want exit code %d; the screen:\n%s", err, tt.code, screen.text)
			}
		})
	}
}

// TestConsole is a person who sits down at a guest that stays, leaves it, comes back
// and ends it.
func TestConsole(t *testing.T) {
	environment := realKernel(t)
	kaleido := func(args ...string) *exec.Cmd {
		cmd := exec.Command(kaleidoOnPath(t)+"/kaleido", args...)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "TERM=xterm")
		for name, value := range environment {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		return cmd
	}
	environment["TMPDIR"] = t.TempDir()
	if out, err := kaleido("boot", "--quiet", "--detach", "--name", "lab").CombinedOutput(); err != nil {
		t.Fatalf("boot: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := kaleido("stop", "--all").CombinedOutput(); err != nil {
			t.Errorf("stop: %v\n%s", err, out)
		}
	})
	sit := func(command, show, leave, farewell string) {
		t.Helper()
		cmd := kaleido("console", "lab")
		tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
		if err != nil {
			t.Fatal(err)
		}
		defer tty.Close()
		screen := newScreen(t, tty, cmd)
		screen.await("$ ")
		fmt.Fprint(tty, command)
		screen.await(show)
		fmt.Fprint(tty, leave)
		screen.await(farewell)
		screen.end()
		if err := cmd.Wait(); err != nil {
			t.Errorf("console: %v; the screen:\n%s", err, screen.text)
		}
	}
	sit("v=$((6*7)); echo is $v\r", "is 42", "\x01d", `guest "lab" goes on`)
	sit("echo still $v\r", "still 42", "\x01x", `guest "lab" powered off`)
}

// TestGDBInterrupt is a person in gdb whose Ctrl-C stops the guest, and nothing else.
func TestGDBInterrupt(t *testing.T) {
	environment := realKernel(t)
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(kaleidoOnPath(t)+"/kaleido", "gdb", "--isolate", "snapshot", "--", "-ex", "set confirm off", "-ex", "set debug remote 1")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "TERM=dumb")
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	screen := newScreen(t, tty, cmd)
	screen.await("(gdb) ")
	fmt.Fprint(tty, "continue\n")
	// A Ctrl-C before QEMU has let the guest go is lost between gdb and QEMU, and is sooner than a person's.
	screen.await("vCont;c:")
	screen.await("Ack")
	fmt.Fprint(tty, "\x03")
	screen.await("received signal SIGINT")
	fmt.Fprint(tty, "print (char *)linux_banner\nquit\n")
	screen.await("Linux version ")
	screen.end()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v; the screen:\n%s", err, screen.text)
	}
}

// screen is what a terminal has shown.
type screen struct {
	t    *testing.T
	tty  *os.File
	cmd  *exec.Cmd // what shows it
	text *bytes.Buffer
	seen int // up to here await has looked
}

func newScreen(t *testing.T, tty *os.File, cmd *exec.Cmd) *screen {
	return &screen{t: t, tty: tty, cmd: cmd, text: &bytes.Buffer{}}
}

// await reads until one of the texts is new on the screen.
func (s *screen) await(texts ...string) {
	s.t.Helper()
	for {
		for _, text := range texts {
			if at := strings.Index(s.text.String()[s.seen:], text); at >= 0 {
				s.seen += at + len(text)
				return
			}
		}
		if !s.read() {
			s.t.Fatalf("the terminal ended or stood still before it showed %q; the screen:\n%s", texts, s.text)
		}
	}
}

// end reads until the other side closes.
func (s *screen) end() {
	for s.read() {
	}
}

func (s *screen) read() bool {
	buf := make([]byte, 4096)
	// A terminal knows no deadline.
	enough := time.AfterFunc(time.Minute, func() { s.cmd.Process.Kill() })
	defer enough.Stop()
	n, err := s.tty.Read(buf)
	s.text.Write(buf[:n])
	return err == nil
}

func TestUnescape(t *testing.T) {
	for _, tt := range []struct {
		typed []string
		ends  string
		keys  string
		end   byte
	}{
		{[]string{"ls\r"}, "x", "ls\r", 0},
		{[]string{"a\x01x"}, "x", "a", 'x'},
		{[]string{"\x01", "x"}, "x", "", 'x'},
		{[]string{"\x01\x01"}, "x", "\x01", 0},
		{[]string{"\x01b"}, "x", "\x01b", 0},
		{[]string{"x\x01\x01x"}, "x", "x\x01x", 0},
		{[]string{"\x01d"}, "x", "\x01d", 0},
		{[]string{"a\x01dx"}, "dx", "a", 'd'},
	} {
		var escaped bool
		var end byte
		var keys []byte
		for _, typed := range tt.typed {
			var k []byte
			k, end = unescape([]byte(typed), &escaped, tt.ends)
			keys = append(keys, k...)
		}
		if string(keys) != tt.keys || end != tt.end {
			t.Errorf("unescape(%q, %q) = %q, %q; want %q, %q", tt.typed, tt.ends, keys, end, tt.keys, tt.end)
		}
	}
}
