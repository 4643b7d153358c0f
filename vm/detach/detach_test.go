package detach_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/detach"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// holderDir in the environment makes the test binary a holder that claims a name in
// that directory, says so, and waits to be killed.
const holderDir = "DETACH_TEST_HOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderDir); dir != "" {
		c, err := detach.Dir(dir).Claim(context.Background(), "held")
		if err == nil {
			err = c.Update(func(s *detach.State) { s.Status = detach.Running })
		}
		fmt.Println(err)
		select {}
	}
	os.Exit(m.Run())
}

// list is what List knows of each guest, as NAME STATUS END.
func list(t *testing.T, d detach.Dir) string {
	t.Helper()
	all, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range all {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Name, s.Status, s.End)))
	}
	return strings.Join(lines, "\n")
}

func claim(t *testing.T, d detach.Dir, name string) *detach.Claim {
	t.Helper()
	c, err := d.Claim(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClaim is a name's life: one guest's, then remembered, then another guest's.
func TestClaim(t *testing.T) {
	d := detach.Dir(filepath.Join(t.TempDir(), "guests"))
	if got := list(t, d); got != "" {
		t.Errorf("before anything: %q", got)
	}
	c := claim(t, d, "a")
	var inUse *detach.InUseError
	if _, err := d.Claim(t.Context(), "a"); !errors.As(err, &inUse) || inUse.State.PID != os.Getpid() {
		t.Errorf("second Claim: %v; want an InUseError that names us", err)
	}
	if err := c.Update(func(s *detach.State) { s.Status, s.RunDir = detach.Running, "/run" }); err != nil {
		t.Fatal(err)
	}
	b := claim(t, d, "b")
	if got, want := list(t, d), "a running\nb starting"; got != want {
		t.Errorf("List: %q, want %q", got, want)
	}
	if err := errors.Join(c.Release("powered off"), b.Release("")); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, d), "a ended powered off"; got != want {
		t.Errorf("List: %q, want %q", got, want)
	}
	var ended *detach.EndedError
	if _, _, err := d.Dial("a"); !errors.As(err, &ended) {
		t.Errorf("Dial of one that has ended: %v", err)
	}
	var unknown *detach.UnknownError
	if _, _, err := d.Dial("c"); !errors.As(err, &unknown) || err.Error() != `no guest is named "c"; there are: a` {
		t.Errorf("Dial of an unknown one: %v", err)
	}
	again := claim(t, d, "a")
	if got, want := list(t, d), "a starting"; got != want {
		t.Errorf("List: %q, want %q", got, want)
	}
	if err := errors.Join(again.Release("stopped"), d.Forget("a")); err != nil {
		t.Fatal(err)
	}
	if got := list(t, d); got != "" {
		t.Errorf("after Forget: %q", got)
	}
}

// TestKilledHolder is a holder that cannot clean up.
func TestKilledHolder(t *testing.T) {
	d := detach.Dir(filepath.Join(t.TempDir(), "guests"))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderDir+"="+string(d))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "<nil>\n" {
		t.Errorf("holder: %q, %v", line, err)
	}
	if got, want := list(t, d), "held running"; got != want {
		t.Errorf("while it lives: %q, want %q", got, want)
	}
	held, err := d.Find("held")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait() // says that it was killed
	if s, err := d.AwaitEnd(t.Context(), held); err != nil || s.Status != detach.Ended {
		t.Errorf("AwaitEnd: %+v, %v", s, err)
	}
	if got, want := list(t, d), "held ended the kaleido that held it was killed"; got != want {
		t.Errorf("after its death: %q, want %q", got, want)
	}
	if err := claim(t, d, "held").Release(""); err != nil {
		t.Error(err)
	}
}

// TestStop goes over a socket whose name is longer than a socket's may be.
func TestStop(t *testing.T) {
	d := detach.Dir(filepath.Join(t.TempDir(), strings.Repeat("long", 40)))
	c := claim(t, d, "a")
	stopped := make(chan struct{}, 1)
	if err := c.Serve(&detach.Server{Stop: func() { stopped <- struct{}{} }}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Dial("a"); err == nil || !strings.Contains(err.Error(), "still starting") {
		t.Errorf("Dial of one that starts: %v", err)
	}
	if err := c.Update(func(s *detach.State) { s.Status = detach.Running }); err != nil {
		t.Fatal(err)
	}
	_, client, err := d.Dial("a")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-stopped
	if err := c.Release("stopped"); err != nil {
		t.Error(err)
	}
	if err := client.Stop(t.Context()); !errors.Is(err, detach.ErrGuestEnded) {
		t.Errorf("Stop after Release: %v, want ErrGuestEnded", err)
	}
}

// TestForgotten: an end is remembered for a day.
func TestForgotten(t *testing.T) {
	d := detach.Dir(filepath.Join(t.TempDir(), "guests"))
	c := claim(t, d, "a")
	if err := c.Release("powered off"); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(string(d), "a", "guest.json")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var state detach.State
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	state.Since = state.Since.Add(-25 * time.Hour)
	if text, err = json.Marshal(state); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := list(t, d); got != "" {
		t.Errorf("a day later: %q", got)
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "lab-1", "6.1_x", strings.Repeat("n", 64)} {
		if err := detach.CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "-a", "a/b", "a b", "a.lock", "ä", strings.Repeat("n", 65)} {
		if detach.CheckName(name) == nil {
			t.Errorf("CheckName(%q) = nil", name)
		}
	}
}

// TestOpenDirectory: a directory that others can look into is not used.
func TestOpenDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := detach.Dir(dir).Claim(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Errorf("Claim in a directory that is open to others: %v", err)
	}
	if _, err := detach.Dir(dir).List(); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Errorf("List of a directory that is open to others: %v", err)
	}
}

// gate is a connection to a guest that stands still while it is shut, as at a breakpoint.
type gate struct {
	net.Conn
	mu sync.Mutex
}

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	return n, err
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.Conn.Write(p)
}

// writer is called for what is written.
type writer func()

func (w writer) Write(p []byte) (int, error) {
	w()
	return len(p), nil
}

// TestOutputBehindTheAnswer lets a program that could not be stopped, as its guest stood still, write when
// its client is long gone. That must not be the end of the holder.
func TestOutputBehindTheAnswer(t *testing.T) {
	host, agentEnd := net.Pipe()
	g := &gate{Conn: agentEnd}
	go func() { _ = guest.NewServer(g, guest.ServerOptions{}).Serve(t.Context()) }()
	agent := guest.NewClient(host)
	t.Cleanup(func() { _ = agent.Close() })
	d := detach.Dir(filepath.Join(t.TempDir(), "g"))
	c := claim(t, d, "a")
	if err := c.Serve(&detach.Server{Agent: agent}); err != nil {
		t.Fatal(err)
	}
	if err := c.Update(func(s *detach.State) { s.Status = detach.Running }); err != nil {
		t.Fatal(err)
	}
	_, client, err := d.Dial("a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, wrote := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := client.Exec(ctx, guest.Command{
			Argv:   []string{"sh", "-c", "while sleep 0.05; do echo tick; done"},
			Stdout: writer(wrote),
		})
		done <- err
	}()
	<-first.Done()
	g.mu.Lock()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("exec: %v", err)
	}
	<-time.After(2500 * time.Millisecond) // the holder no longer waits for it to obey: the request is over
	g.mu.Unlock()
	<-time.After(200 * time.Millisecond) // it writes
	if status, err := client.Exec(t.Context(), guest.Command{Argv: []string{"true"}}); err != nil || status.Code != 0 {
		t.Errorf("exec, later: %+v, %v", status, err)
	}
}
