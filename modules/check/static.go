package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"rsc.io/script"
)

// checker checks commands before there is a guest: it runs each line on an engine whose commands only
// look at their arguments, every variable being "1".
type checker struct {
	engine  *script.Engine
	state   *script.State
	vars    map[string]bool
	helpers map[string]bool
	ended   bool // an end command was seen

	conds int     // conditions the line at hand has asked for
	mask  int     // what to answer them
	name  string  // the command that ran
	found *action // what it parsed to
}

// probe is the value every variable has in a check.
const probe = "1"

// maxConds is how many conditions one line may have.
const maxConds = 4

func newChecker() *checker {
	c := &checker{vars: map[string]bool{"PWD": true, "/": true, ":": true}, helpers: map[string]bool{}}
	c.engine = &script.Engine{Cmds: map[string]script.Cmd{}, Conds: map[string]script.Cond{}}
	for name, cmd := range commands {
		c.engine.Cmds[name] = script.Command(cmd.usage(), func(_ *script.State, args ...string) (script.WaitFunc, error) {
			a, err := cmd.parse(args)
			c.name, c.found = name, a
			return nil, err
		})
	}
	for name, cond := range conditions {
		c.engine.Conds[name] = cond.static(func() bool {
			c.conds++
			return c.mask>>(c.conds-1)&1 == 1
		})
	}
	return c
}

var prefixRE = regexp.MustCompile(`^[ \t\r]*(?:(?:\[[^ \t\r#']*\]|!|\?)[ \t\r]+)*`)

// singleRE matches what is quoted.
var singleRE = regexp.MustCompile(`'[^']*'`)

// doubleQuoted reports whether a word begins with a double quote, which is a character like any other here: who
// writes one means to quote.
func doubleQuoted(line string) bool {
	line, _, _ = strings.Cut(singleRE.ReplaceAllString(line, "''"), "#")
	return slices.ContainsFunc(strings.Fields(line), func(word string) bool { return word[0] == '"' })
}

// step checks a line and returns its step, nil for a line without a command.
func (c *checker) step(n int, line string) (*Step, error) {
	prefix := prefixRE.FindString(line)
	s := &Step{Line: n, Text: line, negated: slices.Contains(strings.Fields(prefix), "!")}
	for _, name := range variables(line) {
		if !c.vars[name] && prefix != line {
			return nil, fmt.Errorf("variable $%s is not defined by an earlier line", name)
		}
	}
	if doubleQuoted(line) {
		return nil, errors.New("double quotes do not quote, single quotes do: '...'")
	}
	c.name, c.found = "", nil
	for c.mask = 1<<maxConds - 1; c.mask >= 0 && c.name == ""; c.mask-- {
		c.conds = 0
		blank, err := c.try(line)
		if err != nil {
			return nil, err
		}
		if blank {
			return nil, nil
		}
	}
	if c.name == "" {
		return nil, fmt.Errorf("more than %d conditions", maxConds)
	}
	s.Op = c.name
	return s, c.meaning(s)
}

// try runs a line with the conditions of the mask. It reports whether the line has no command.
func (c *checker) try(line string) (blank bool, err error) {
	if c.state == nil {
		if c.state, err = newState(context.Background(), "/"); err != nil {
			return false, err
		}
	}
	for _, name := range variables(line) {
		if err := c.state.Setenv(name, probe); err != nil {
			return false, err
		}
	}
	var log strings.Builder
	err = c.engine.Execute(c.state, "", bufio.NewReader(strings.NewReader(line+"\n")), &log)
	if errors.Is(err, script.ErrUnexpectedSuccess) {
		err = nil
	}
	return log.Len() == 0, bare(err)
}

// bare takes the place off an engine's error: the caller knows it better.
func bare(err error) error {
	var cmd *script.CommandError
	if errors.As(err, &cmd) {
		return fmt.Errorf("%s: %w", cmd.Op, cmd.Err)
	}
	if err != nil && errors.Unwrap(err) != nil {
		return errors.Unwrap(err)
	}
	return err
}

// meaning checks what a line has to do with the lines before it.
func (c *checker) meaning(s *Step) error {
	cmd, a := commands[s.Op], c.found
	switch {
	case a == nil:
		return fmt.Errorf("%s: usage: %s %s", s.Op, s.Op, cmd.args)
	case s.negated && cmd.noNegate+a.once != "":
		return fmt.Errorf("%s: cannot be negated: %s", s.Op, cmd.noNegate+a.once)
	case c.ended && !cmd.afterEnd:
		return fmt.Errorf("%s: there is no guest after end", s.Op)
	case a.needs && !c.helpers[a.helper]:
		return fmt.Errorf("%s: no earlier line starts %s", s.Op, helperName(a.helper))
	}
	if a.starts {
		c.helpers[a.helper] = true
	}
	c.ended = c.ended || s.Op == "end"
	if !s.negated || a.always {
		for _, name := range a.defines {
			c.vars[name] = true
		}
	}
	return nil
}

func helperName(name string) string {
	if name == "" {
		return "a helper without a name"
	}
	return "a helper named " + name
}

// variables returns the names a line expands, which it does outside single quotes and before a comment.
func variables(line string) []string {
	var names []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			continue
		}
		part, _, comment := strings.Cut(part, "#")
		os.Expand(part, func(name string) string {
			names = append(names, name)
			return ""
		})
		if comment {
			break
		}
	}
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}

// newState makes an engine's state without anything of the host in it.
func newState(ctx context.Context, file string) (*script.State, error) {
	s, err := script.NewState(ctx, filepath.Dir(file), []string{})
	if err != nil {
		return nil, fmt.Errorf("prepare script: %w", err)
	}
	return s, nil
}

func closeState(s *script.State) {
	// No command of ours runs in the background, so there is nothing to wait for and no error.
	_ = s.CloseAndWait(io.Discard)
}
