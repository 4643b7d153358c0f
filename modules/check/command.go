package check

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"rsc.io/script"
)

// command is one command of the language.
type command struct {
	group    string
	args     string
	summary  string
	detail   []string
	noNegate string // why "!" makes no sense
	afterEnd bool   // it can be used when the guest is no more
	flags    func(*options, *flag.FlagSet)
	regexp   func(positional []string) []int // which positional arguments are patterns
	build    func(o *options, args []string) (*action, error)
}

// options are the flags of commands; each declares the ones it has.
type options struct {
	timeout time.Duration
	list    bool
	all     bool
	hex     bool
	wait    bool
	close   bool
	count   int
	fails   int
	as      string
	stdin   string
}

// action is a command with its arguments, ready to run.
type action struct {
	do      func(r *run) (*output, error)
	defines []string // variables
	always  bool     // it defines them also when it fails
	once    string   // why this action, unlike others of the command, cannot be negated
	helper  string   // name of the helper it needs or starts
	needs   bool
	starts  bool
}

// output is what a command leaves for stdout and stderr; nil leaves them as they are.
type output struct{ stdout, stderr string }

var errUsage = errors.New("wrong arguments")

// flagSet returns the command's flags bound to a fresh options.
func (c *command) flagSet() (*flag.FlagSet, *options) {
	o := &options{count: -1, fails: -1}
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	if c.flags != nil {
		c.flags(o, set)
	}
	return set, o
}

// parse makes an action of the arguments, or says what is wrong with them.
func (c *command) parse(args []string) (*action, error) {
	set, o := c.flagSet()
	if c.flags != nil {
		if err := set.Parse(args); err != nil {
			return nil, err
		}
		args = set.Args()
	}
	if o.timeout < 0 {
		return nil, fmt.Errorf("timeout of %v", o.timeout)
	}
	a, err := c.build(o, args)
	if errors.Is(err, errUsage) {
		return nil, fmt.Errorf("%w, want: %s", errUsage, c.args)
	}
	return a, err
}

// usage describes the command to the engine, which needs to know which arguments are patterns.
func (c *command) usage() script.CmdUsage {
	return script.CmdUsage{Summary: c.summary, Args: c.args, Detail: c.detail, RegexpArgs: c.patterns}
}

func (c *command) patterns(args ...string) []int {
	if c.regexp == nil {
		return nil
	}
	set, _ := c.flagSet()
	if c.flags != nil {
		if set.Parse(args) != nil {
			return nil
		}
	} else if set.Parse(append([]string{"--"}, args...)) != nil {
		return nil
	}
	first := len(args) - set.NArg()
	var at []int
	for _, i := range c.regexp(set.Args()) {
		at = append(at, first+i)
	}
	return at
}

// Flags that several commands have.
func withTimeout(o *options, set *flag.FlagSet) { set.DurationVar(&o.timeout, "timeout", 0, "") }

func withMatch(o *options, set *flag.FlagSet) {
	set.BoolVar(&o.list, "list", false, "")
	set.IntVar(&o.count, "count", -1, "")
}

func withName(o *options, set *flag.FlagSet) { set.StringVar(&o.as, "as", "", "") }

func flags(fns ...func(*options, *flag.FlagSet)) func(*options, *flag.FlagSet) {
	return func(o *options, set *flag.FlagSet) {
		for _, fn := range fns {
			fn(o, set)
		}
	}
}

func at(i int) func([]string) []int { return func([]string) []int { return []int{i} } }

// multiLine begins every pattern: the lines of what it is matched with count.
const multiLine = "(?m)"

// pattern compiles a pattern of a script.
func pattern(text string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(multiLine + text)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", text, err)
	}
	return re, nil
}

// written is a pattern as the script has it.
func written(re *regexp.Regexp) string { return strings.TrimPrefix(re.String(), multiLine) }

// groups returns the names of a pattern's groups.
func groups(re *regexp.Regexp) []string {
	return slices.DeleteFunc(slices.Clone(re.SubexpNames()), func(s string) bool { return s == "" })
}

// commands are the language.
var commands = func() map[string]*command {
	all := map[string]*command{}
	for _, m := range []map[string]*command{moduleCommands, logCommands, helperCommands, fileCommands, valueCommands} {
		maps.Copy(all, m)
	}
	return all
}()

// newEngine returns an engine whose commands act on the run's guest.
func (r *run) newEngine() *script.Engine {
	e := &script.Engine{Cmds: map[string]script.Cmd{}, Conds: map[string]script.Cond{}}
	for name, c := range commands {
		e.Cmds[name] = script.Command(c.usage(), func(_ *script.State, args ...string) (script.WaitFunc, error) {
			a, err := c.parse(args)
			if err != nil {
				return nil, r.mistake("%v", err)
			}
			out, err := a.do(r)
			if out == nil {
				return nil, err
			}
			return func(*script.State) (string, string, error) { return out.stdout, out.stderr, err }, nil
		})
	}
	for name, c := range conditions {
		e.Conds[name] = c.live(r.opts.Facts)
	}
	return e
}

// mistake makes the step fail, whatever the script expects of it.
func (r *run) mistake(format string, args ...any) error {
	r.abort = &mistakeError{fmt.Sprintf(format, args...)}
	return r.abort
}

// set sets a variable and logs it.
func (r *run) set(name, value string) {
	r.state.Logf("[%s=%s]\n", name, value)
	// The engine's Setenv has no error to return.
	_ = r.state.Setenv(name, value)
}

// capture sets the named groups of the first match, or with every of all of them, as lists.
func (r *run) capture(re *regexp.Regexp, matches [][]string, every bool) {
	for i, name := range re.SubexpNames() {
		if name == "" || len(matches) == 0 {
			continue
		}
		values := make([]string, 0, len(matches))
		for _, m := range matches {
			values = append(values, m[i])
		}
		if !every {
			values = values[:1]
		}
		r.set(name, strings.Join(values, ","))
	}
}

// matchText compares a text with a pattern as stdout, stderr and read do.
func (r *run) matchText(o *options, re *regexp.Regexp, what, text string) error {
	matches := re.FindAllStringSubmatch(text, -1)
	seen := text
	if strings.TrimSpace(text) == "" {
		seen = what + " is empty"
	}
	switch {
	case o.count >= 0 && len(matches) != o.count:
		return &mismatch{fmt.Sprintf("%d matches of %s in %s", o.count, written(re), what), fmt.Sprintf("%d in:\n%s", len(matches), seen)}
	case o.count < 0 && len(matches) == 0:
		return &mismatch{"a match of " + written(re) + " in " + what, seen}
	}
	r.capture(re, matches, o.list)
	return nil
}
