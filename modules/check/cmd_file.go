package check

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Commands about files.
var fileCommands = map[string]*command{
	"read": {
		group: "Files", args: "[-timeout DUR] [-wait] [-list] [-count N] FILE ['re']", summary: "read a file of the guest",
		detail: []string{
			"Its contents go to stdout. With a pattern they must match, and named groups become variables, as stdout does it.",
			"With -wait it is read again until they match, as long as the step's time lasts, even if it is not there yet.",
			"If it cannot be read stderr is the errno's name and words.",
		},
		flags:  flags(withTimeout, withMatch, func(o *options, set *flag.FlagSet) { set.BoolVar(&o.wait, "wait", false, "") }),
		regexp: at(1), build: buildRead,
	},
	"write": {
		group: "Files", args: "[-timeout DUR] FILE TEXT...", summary: "write a file of the guest, as a sysctl or a parameter",
		detail: []string{"The words are joined by blanks and written at once, without a newline. If that fails stderr is the errno's name and words."},
		flags:  withTimeout,
		build: func(o *options, args []string) (*action, error) {
			if len(args) < 1 || args[0] == "" {
				return nil, errUsage
			}
			text := strings.Join(args[1:], " ")
			return &action{do: func(r *run) (*output, error) {
				return refused(r.ask(o.timeout, "write "+args[0], func(ctx context.Context) error {
					return r.guest.WriteFile(ctx, args[0], []byte(text))
				}))
			}}, nil
		},
	},
	"absent": {
		group: "Files", args: "FILE", summary: "there is no such file in the guest",
		build: func(_ *options, args []string) (*action, error) {
			if len(args) != 1 || args[0] == "" {
				return nil, errUsage
			}
			return &action{do: func(r *run) (*output, error) {
				there, err := r.exists(args[0])
				if err == nil && there {
					err = &mismatch{"no " + args[0], "it is there"}
				}
				return nil, err
			}}, nil
		},
	},
	"cmp": {
		group: "Files", args: "stdout|stderr FILE", summary: "compare what the last command printed with a file beside the script",
		afterEnd: true,
		build: func(_ *options, args []string) (*action, error) {
			if len(args) != 2 || args[0] != "stdout" && args[0] != "stderr" || !filepath.IsLocal(args[1]) {
				return nil, errUsage
			}
			return &action{do: func(r *run) (*output, error) { return nil, r.compare(args[0], args[1]) }}, nil
		},
	},
}

func buildRead(o *options, args []string) (*action, error) {
	if len(args) < 1 || len(args) > 2 || args[0] == "" || len(args) == 1 && (o.list || o.count >= 0 || o.wait) {
		return nil, errUsage
	}
	a := &action{}
	match := func(*run, string) error { return nil }
	if len(args) == 2 {
		re, err := pattern(args[1])
		if err != nil {
			return nil, err
		}
		a.defines = groups(re)
		match = func(r *run, text string) error { return r.matchText(o, re, args[0], text) }
	}
	a.do = func(r *run) (*output, error) {
		var data []byte
		out, err := refused(r.ask(o.timeout, "read "+args[0], func(ctx context.Context) (err error) {
			data, err = r.guest.ReadFile(ctx, args[0])
			return err
		}))
		if err != nil {
			return out, err
		}
		return &output{stdout: string(data)}, match(r, string(data))
	}
	if once := a.do; o.wait {
		a.once = "what has not come may still come; leave -wait out"
		a.do = func(r *run) (*output, error) { return r.repeat(o, once) }
	}
	return a, nil
}

// reread is how often a file is read that is to change: nothing tells when it does.
const reread = 100 * time.Millisecond

// repeat does something until it succeeds or the step's time is up. Its error is the last one.
func (r *run) repeat(o *options, do func(*run) (*output, error)) (*output, error) {
	ctx, cancel := r.bounded(o.timeout)
	defer cancel()
	tick := time.NewTicker(reread)
	defer tick.Stop()
	for {
		out, err := do(r)
		if err == nil || r.abort != nil {
			return out, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, errStepTime) {
				r.abort = r.explain(ctx, o.timeout, "what is not there yet", cause)
				return nil, r.abort
			}
			if m := new(mismatch); errors.As(err, &m) {
				err = &mismatch{fmt.Sprintf("in %v %s", r.opts.step(o.timeout), m.expected), m.seen}
			}
			return out, err
		}
	}
}

func (r *run) compare(what, name string) error {
	got := r.state.Stdout()
	if what == "stderr" {
		got = r.state.Stderr()
	}
	want, err := os.ReadFile(filepath.Join(filepath.Dir(r.sc.File), name))
	if err != nil {
		return r.mistake("%v", err)
	}
	if got == string(want) {
		return nil
	}
	wantLines, gotLines := strings.SplitAfter(string(want), "\n"), strings.SplitAfter(got, "\n")
	for i := range wantLines {
		if i >= len(gotLines) || wantLines[i] != gotLines[i] {
			rest := strings.Join(gotLines[min(i, len(gotLines)):], "")
			return &mismatch{fmt.Sprintf("%s as in %s, whose line %d is %q", what, name, i+1, wantLines[i]), fmt.Sprintf("from there:\n%s", rest)}
		}
	}
	return errors.New(what + " and " + name + " differ")
}

// maxOutput is how much of a program's output is kept.
const maxOutput = 8 << 20

// bound keeps the first bytes of what a program prints.
type bound struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write takes everything.
func (b *bound) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p[:min(len(p), max(maxOutput-b.buf.Len(), 0))])
	return len(p), nil
}

// String returns what was kept.
func (b *bound) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
