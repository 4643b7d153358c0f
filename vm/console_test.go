package vm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// logFile is a console.log and QEMU's end of it.
func logFile(t *testing.T) (*console, *os.File) {
	t.Helper()
	name := filepath.Join(t.TempDir(), ConsoleLog)
	w, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	r, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	c, err := newConsole(name, input, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	return c, w
}

// collector is a writer whose reader waits.
type collector struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func (w *collector) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
	return w.buf.Write(p)
}

func (w *collector) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// until waits for the text to be s.
func (w *collector) until(t *testing.T, s string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for w.String() != s {
		select {
		case <-w.more:
		case <-limit:
			t.Fatalf("got %q, want %q", w.String(), s)
		}
	}
}

func TestConsoleFollowsTheFile(t *testing.T) {
	c, file := logFile(t)
	w := &collector{more: make(chan struct{}, 1)}
	c.start(w)
	select {
	case <-c.alive:
		t.Error("alive before the first byte")
	default:
	}
	want := ""
	for _, s := range []string{"x", "Linux version\n", strings.Repeat("long ", 100_000), "~ # "} {
		if _, err := file.WriteString(s); err != nil {
			t.Fatal(err)
		}
		want += s
		w.until(t, want)
	}
	<-c.alive
	<-c.delivered()
	if _, err := file.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	c.close()
	if got := w.String(); got != want+"last words" {
		t.Errorf("%d bytes delivered, want %d", len(got), len(want)+10)
	}
	<-c.delivered() // not for ever
}

func TestConsolePolls(t *testing.T) {
	c, file := logFile(t)
	w := &collector{more: make(chan struct{}, 1)}
	go c.poll()
	go c.feed(w)
	if _, err := file.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	<-c.alive
	w.until(t, "hello")
	c.close()
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestConsoleOfABrokenWriter(t *testing.T) {
	c, file := logFile(t)
	told := make(chan string, 1)
	c.note = func(line string) { told <- line }
	c.start(brokenWriter{})
	if _, err := file.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	if got, want := <-told, "console: no more copies of it: broken pipe"; got != want {
		t.Errorf("note %q, want %q", got, want)
	}
	<-c.delivered() // takes no more
	c.close()
}

func TestConsoleTail(t *testing.T) {
	c, file := logFile(t)
	c.start(nil)
	defer c.close()
	if got := c.tail(); len(got) != 0 {
		t.Errorf("tail of nothing: %q", got)
	}
	lines := strings.Repeat("a line of the log\n", 2000)
	if _, err := file.WriteString(lines); err != nil {
		t.Fatal(err)
	}
	got := string(c.tail())
	if !strings.HasSuffix(lines, got) || !strings.HasPrefix(got, "a line") || len(got) < tailSize-100 {
		t.Errorf("tail has %d bytes and begins %.20q", len(got), got)
	}
}

func TestPanicMessage(t *testing.T) {
	tests := map[string]string{
		"": "",
		"[    1.0] Run /init\n[    1.1][    T1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[ 1.1] CPU: 0": "VFS: Unable to mount root fs",
		"Kernel panic - not syncing: first\nKernel panic - not syncing: second":                                            "second",
	}
	for console, want := range tests {
		if got := panicMessage([]byte(console)); got != want {
			t.Errorf("panicMessage(%q) = %q, want %q", console, got, want)
		}
	}
}
