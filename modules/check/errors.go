package check

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// SyntaxError is a mistake in a script, found before it runs.
type SyntaxError struct {
	File string
	Line int
	Err  error
}

// Error returns "file:line: cause".
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap returns the cause.
func (e *SyntaxError) Unwrap() error { return e.Err }

// mismatch is a step that saw something else than the script expects.
type mismatch struct{ expected, seen string }

func (e *mismatch) Error() string { return "want " + e.expected + ", got " + firstLine(e.seen) }

// timeoutError is a step, or a test, that the guest did not finish in time.
type timeoutError struct {
	what  string // "load hello"
	after time.Duration
	test  bool // the whole test's time was up
}

func (e *timeoutError) Error() string {
	if e.test {
		return fmt.Sprintf("the test's time of %v is up, waiting for: %s", e.after, e.what)
	}
	return fmt.Sprintf("no answer from the guest in %v, waiting for: %s", e.after, e.what)
}

// endedError is a guest that ended while the script needed it.
type endedError struct{ end End }

func (e *endedError) Error() string { return "guest ended: " + e.end.String() }

// lostError is a guest that can no longer be asked, though nothing says that it ended.
type lostError struct{ err error }

func (e *lostError) Error() string {
	if errors.As(e.err, new(*Refusal)) {
		return "guest's kernel log is lost: " + e.err.Error()
	}
	return "guest's agent is lost: " + e.err.Error()
}
func (e *lostError) Unwrap() error { return e.err }

// mistakeError is a step that cannot mean what it says: it fails whatever the script expects.
type mistakeError struct{ text string }

func (e *mistakeError) Error() string { return e.text }

var (
	errStepTime = errors.New("step's time is up")
	errTestTime = errors.New("test's time is up")
)

// firstLine is the first line of a text, marked if there is more.
func firstLine(s string) string {
	line, rest, _ := strings.Cut(s, "\n")
	if rest != "" {
		line += " ..."
	}
	return line
}
