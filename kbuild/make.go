package kbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild/confine"
)

// MakeError says that make, or a tool that belongs to the build, failed. What it said that matters
// rides along; the text of the error is one line.
type MakeError struct {
	Args    []string // the command line
	First   string   // the first complaint of compiler, linker, modpost or make; "" if none was found
	Output  []byte   // First with what belongs to it, or the end of the output if there is no First
	LogFile string   // everything it wrote; "" if no such file is kept
	Err     error    // the exit status; errors.Is(Err, syscall.ENOSPC) if a disk was full
}

// Error is one line: the targets and the first complaint.
func (e *MakeError) Error() string {
	what := e.First
	if what == "" {
		what = e.Err.Error()
	}
	return fmt.Sprintf("%s: %s", commandName(e.Args), what)
}

// Unwrap returns Err.
func (e *MakeError) Unwrap() error { return e.Err }

// commandName is a command line without its environment, options and variables: "make bzImage modules".
func commandName(argv []string) string {
	var words []string
	skip := false
	for _, a := range argv {
		switch {
		case skip:
			skip = false
		case a == "-C":
			skip = true
		case strings.Contains(a, "=") || strings.HasPrefix(a, "-"):
		case len(words) == 0:
			words = append(words, filepath.Base(a))
		default:
			words = append(words, a)
		}
	}
	return strings.Join(words, " ")
}

// stopGrace is how long a build has to end after SIGTERM; then its process group is killed.
const stopGrace = time.Second

// command is one program to run for a build.
type command struct {
	argv    []string                 // words NAME=value in front are its environment, as in a shell
	log     io.Writer                // gets all it writes; nil discards it
	line    func(line string)        // gets every line; may be nil
	logFile string                   // where the log is kept, for the error
	name    func(line string) string // rewrites a complaint for people; may be nil
	confine *confine.Rules           // nil: it may do all that we may
}

// run runs the program to its end. It has a process group of its own, so that a terminal's Ctrl-C
// reaches only us, and no input. When ctx ends the group gets SIGTERM, by which make ends its children
// and removes half-made targets, and SIGKILL after stopGrace: nothing outlives run. Should we be
// killed, make gets that SIGTERM from the kernel.
//
// The error is ctx's if that ended, else a *MakeError.
func (c *command) run(ctx context.Context) error {
	env, argv := splitEnv(c.argv)
	out := &complaints{log: c.log, line: c.line}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(environ(os.Environ()), env...)
	cmd.Stdout, cmd.Stderr = out, out
	if c.confine != nil && cmd.Err == nil {
		self, rules, err := c.confine.Command(cmd.Path)
		if err != nil {
			return fmt.Errorf("run %s: %w", commandName(argv), err)
		}
		cmd.Path, cmd.Env = self, append(cmd.Env, rules)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	var kill *time.Timer
	cmd.Cancel = func() error {
		group := -cmd.Process.Pid
		kill = time.AfterFunc(stopGrace, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
		return syscall.Kill(group, syscall.SIGTERM)
	}
	// By then the group is dead; only a program that left it could still hold the pipe.
	cmd.WaitDelay = 2 * stopGrace

	// The death signal is sent when the thread that forked ends, so this one must stay.
	runtime.LockOSThread()
	err := cmd.Run()
	runtime.UnlockOSThread()
	if kill != nil {
		kill.Stop()
	}
	out.close()
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", commandName(argv), context.Cause(ctx))
	}
	if err == nil {
		return nil
	}
	return out.failure(c, err)
}

// splitEnv cuts the NAME=value words off a command line's front.
func splitEnv(argv []string) (env, rest []string) {
	for len(argv) > 0 && strings.Contains(argv[0], "=") {
		env, argv = append(env, argv[0]), argv[1:]
	}
	return env, argv
}

// environ is the part of our environment that a build gets to see. The rest stays out, because kbuild
// listens to dozens of variables (KCFLAGS, ARCH, LLVM, MAKEFLAGS of a make that started us...), which
// would change the product without changing its key. Messages are in English for the sake of [complaints].
func environ(all []string) []string {
	env := []string{"LC_ALL=C"}
	for _, e := range all {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME":
			env = append(env, e)
		default:
			if strings.HasPrefix(name, "CCACHE_") {
				env = append(env, e)
			}
		}
	}
	return env
}

// complaints reads a build's output as it comes, and keeps of it what tells why it failed: each error
// with the lines that introduce and explain it, of whichever of make's jobs, without the warnings.
type complaints struct {
	log     io.Writer
	line    func(string)
	rest    []byte   // an unfinished line
	context []string // lines that introduce an error, if one follows
	keeping bool     // the last diagnostic was an error: its explanations are kept
	first   string   // the first error
	excerpt []string // all errors
	size    int      // bytes in excerpt
	tail    []string // the last lines
	full    bool     // a disk was full
}

const (
	maxLine    = 4 << 10 // of a line in an excerpt
	maxExcerpt = 8 << 10
	maxContext = 20
	maxTail    = 20
)

// Write never fails: a log that cannot be written, on a full disk say, must not hide what make says.
func (c *complaints) Write(p []byte) (int, error) {
	if c.log != nil {
		_, _ = c.log.Write(p)
	}
	c.rest = append(c.rest, p...)
	for {
		i := bytes.IndexByte(c.rest, '\n')
		if i < 0 && len(c.rest) < 16*maxLine {
			return len(p), nil
		}
		if i < 0 {
			i = len(c.rest) - 1
		}
		c.add(string(bytes.TrimRight(c.rest[:i+1], "\r\n")))
		c.rest = c.rest[i+1:]
	}
}

// close takes the last line, if it had no end.
func (c *complaints) close() {
	if len(c.rest) > 0 {
		c.add(string(c.rest))
		c.rest = nil
	}
}

var (
	// What a tool says when it fails. What make adds to it ("Error 1") comes later in the output.
	errorRE = regexp.MustCompile(strings.Join([]string{
		`: (fatal |internal compiler )?error: |: out of memory `, // cc
		`: (Fatal e|E)rror: `, // as
		`^ERROR: |^error: `,   // modpost; others
		`undefined reference to |multiple definition of |^\S*\bld(\.\w+)?: `,
		`\bsh: (line )?\d+: .*not found$|: command not found$`,
		`No space left on device`,
		`^\*\*\* .*[a-z]`, // kbuild's own words
		`^\S*Kconfig\S*:\d+: |^\S*(Makefile|Kbuild)\S*:\d+: \*\*\* `,
		`: \*\*\* No rule to make target`,
	}, "|"))
	warningRE = regexp.MustCompile(`: warning: |^WARNING: |^\S*\bld(\.\w+)?: (warning|NOTE)`)
	contextRE = regexp.MustCompile(`: In function |: At top level:|^In file included from |^ +from `)
	noteRE    = regexp.MustCompile(`: note: |^\s`)
	makeRE    = regexp.MustCompile(`^make(\[\d+\])?: (\*\*\* )?`)
	stopRE    = regexp.MustCompile(`^make(?:\[\d+\])?: \*\*\* \[(?:[^:\]]*:\d+: )?([^\]]+)\] (.*)$`)
)

func (c *complaints) add(line string) {
	if c.line != nil {
		c.line(line)
	}
	if strings.Contains(line, "No space left on device") {
		c.full = true
	}
	if len(line) > maxLine {
		line = line[:maxLine]
	}
	if isStep(line) || line == "" {
		return
	}
	c.tail = append(c.tail, line)
	if len(c.tail) > maxTail {
		c.tail = c.tail[1:]
	}
	c.judge(line)
}

// judge decides what a line is to the excerpt.
func (c *complaints) judge(line string) {
	switch {
	case warningRE.MatchString(line):
		c.keeping, c.context = false, nil
	case errorRE.MatchString(line):
		if c.first == "" {
			c.first = strings.Trim(makeRE.ReplaceAllString(line, ""), "* ")
		}
		c.keep(append(c.context, line)...)
		c.keeping, c.context = true, nil
	case contextRE.MatchString(line):
		if len(c.context) < maxContext {
			c.context = append(c.context, line)
		}
	case noteRE.MatchString(line):
		if c.keeping {
			c.keep(line)
		}
	default:
		c.context = nil
		if c.first != "" && !makeRE.MatchString(line) {
			c.keep(line)
		}
	}
}

func (c *complaints) keep(lines ...string) {
	for _, line := range lines {
		if c.size += len(line) + 1; c.size <= maxExcerpt {
			c.excerpt = append(c.excerpt, line)
		}
	}
}

// failure makes the error of a command that ended with err.
func (c *complaints) failure(cmd *command, err error) error {
	if c.full {
		err = fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("run %s: %w", commandName(cmd.argv), err)
	}
	var exit *exec.ExitError
	if cmd.confine != nil && errors.As(err, &exit) && exit.ExitCode() == confine.ExitCode {
		return fmt.Errorf("run %s: %s", commandName(cmd.argv), strings.Join(c.tail, "; "))
	}
	lines, first := c.excerpt, c.first
	if first == "" {
		lines = c.tail
		first = c.stopped()
	}
	output := strings.Join(lines, "\n") + "\n"
	if cmd.name != nil {
		first, output = cmd.name(first), cmd.name(output)
	}
	_, argv := splitEnv(cmd.argv)
	return &MakeError{Args: argv, First: first, Output: []byte(output), LogFile: cmd.logFile, Err: err}
}

// stopped is the deepest make's own line on what it gave up, as "kernel/fork.o: Error 1".
func (c *complaints) stopped() string {
	for _, line := range c.tail {
		if m := stopRE.FindStringSubmatch(line); m != nil {
			return m[1] + ": " + m[2]
		}
	}
	return ""
}
