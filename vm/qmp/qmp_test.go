package qmp_test

import (
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
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qemu"
	"github.com/digitalocean/go-qemu/qmp/raw"

	"github.com/linux-kaleidoscope/kaleido/vm/qmp"
)

// pair is a connected pair of sockets: ours, and a file for a child.
func pair(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours := os.NewFile(uintptr(fds[0]), "qmp")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "qmp of qemu")
	t.Cleanup(func() { conn.Close(); theirs.Close() })
	return conn, theirs
}

// startQEMU starts a real QEMU without a guest; it ends with the test.
func startQEMU(t *testing.T, args ...string) (*exec.Cmd, net.Conn) {
	t.Helper()
	bin, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skipf("needs QEMU: %v", err)
	}
	conn, theirs := pair(t)
	cmd := exec.Command(bin, append([]string{"-nodefaults", "-display", "none", "-S", "-accel", "tcg",
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"}, args...)...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, conn
}

// connect starts QEMU and returns its monitor, connected.
func connect(t *testing.T, args ...string) (*qmp.Monitor, *exec.Cmd) {
	t.Helper()
	cmd, conn := startQEMU(t, args...)
	m := qmp.New(conn)
	t.Cleanup(func() { m.Disconnect() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := m.ConnectContext(ctx); err != nil {
		t.Fatal(err)
	}
	return m, cmd
}

// next waits for the next event.
func next(t *testing.T, s *qmp.Subscription) qmp.Event {
	t.Helper()
	select {
	case e, ok := <-s.C():
		if !ok {
			t.Fatalf("events ended: %v", s.Err())
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event within 10 s")
	}
	panic("not reached")
}

func TestVersionAndErrorClass(t *testing.T) {
	m, _ := connect(t, "-machine", "none")
	if got := m.Version().QEMU.Major; got < 5 {
		t.Errorf("major version = %d, want at least 5", got)
	}
	tests := []struct {
		command, class string
		args           any
	}{
		{"no-such-command", "CommandNotFound", nil},
		{"qom-get", "DeviceNotFound", map[string]string{"path": "/nowhere", "property": "x"}},
		{"pmemsave", "GenericError", map[string]any{"val": 0}},
	}
	for _, tt := range tests {
		var refused *qmp.Error
		err := m.Execute(t.Context(), tt.command, tt.args, nil)
		if !errors.As(err, &refused) {
			t.Errorf("Execute(%s) = %v, want a *qmp.Error", tt.command, err)
			continue
		}
		if refused.Class != tt.class || refused.Command != tt.command || refused.Desc == "" {
			t.Errorf("Execute(%s) = %+v, want class %s", tt.command, refused, tt.class)
		}
	}
}

func TestThousandConcurrentCalls(t *testing.T) {
	m, _ := connect(t, "-machine", "none", "-name", "many")
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			if i%2 == 0 {
				name, err := m.Raw(t.Context()).QueryName()
				if err != nil || name.Name == nil || *name.Name != "many" {
					t.Errorf("query-name = %+v, %v", name, err)
				}
				return
			}
			want := fmt.Sprintf("/nowhere/%d", i)
			err := m.Execute(t.Context(), "qom-list", map[string]string{"path": want}, nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("qom-list %s = %v: the reply of another call", want, err)
			}
		})
	}
	wg.Wait()
}

func TestReplyLargerThanASocketBuffer(t *testing.T) {
	m, _ := connect(t, "-machine", "none")
	var schema []struct{ Name string }
	if err := m.Execute(t.Context(), "query-qmp-schema", nil, &schema); err != nil {
		t.Fatal(err)
	}
	if len(schema) < 500 {
		t.Errorf("schema has %d entries, want at least 500", len(schema))
	}
}

func TestEveryEventInOrder(t *testing.T) {
	m, _ := connect(t, "-machine", "none")
	life := m.Subscribe(qmp.EventStop, qmp.EventResume)
	idle := m.Subscribe() // is never read and must hold up nobody
	defer idle.Close()
	before := time.Now().Add(-time.Minute)
	for range 100 {
		if err := m.Raw(t.Context()).Cont(); err != nil {
			t.Fatal(err)
		}
		if err := m.Raw(t.Context()).Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.Count(qmp.EventStop); got != 100 {
		t.Errorf("Count(STOP) = %d when the last stop returned, want 100", got)
	}
	for i := range 200 {
		want := []string{qmp.EventResume, qmp.EventStop}[i%2]
		e := next(t, life)
		if e.Event != want {
			t.Fatalf("event %d = %s, want %s", i, e.Event, want)
		}
		if at := qmp.Time(e); at.Before(before) || at.After(time.Now().Add(time.Minute)) {
			t.Fatalf("event %d has the time %v", i, at)
		}
	}
	m.Disconnect()
	if e, ok := <-life.C(); ok {
		t.Errorf("event %v after the last", e)
	}
	if !errors.Is(life.Err(), qmp.ErrClosed) {
		t.Errorf("Err() = %v, want ErrClosed", life.Err())
	}
}

func TestShutdownEventThenGone(t *testing.T) {
	m, _ := connect(t, "-machine", "none")
	s := m.Subscribe()
	if err := m.Raw(t.Context()).Quit(); err != nil {
		t.Fatal(err)
	}
	e := next(t, s)
	want := qmp.Shutdown{Reason: "host-qmp-quit"}
	if got := qmp.ShutdownOf(e); e.Event != qmp.EventShutdown || got != want {
		t.Errorf("event %s %+v, want SHUTDOWN %+v", e.Event, got, want)
	}
	if _, ok := <-s.C(); ok || !errors.Is(s.Err(), qmp.ErrGone) {
		t.Errorf("Err() = %v, want ErrGone", s.Err())
	}
	err := m.Execute(t.Context(), "query-status", nil, nil)
	if !errors.Is(err, qmp.ErrGone) {
		t.Errorf("query-status after quit = %v, want ErrGone", err)
	}
	if _, err := m.Events(t.Context()); !errors.Is(err, qmp.ErrGone) {
		t.Errorf("Events after quit = %v, want ErrGone", err)
	}
	late := m.Subscribe()
	if _, ok := <-late.C(); ok || !errors.Is(late.Err(), qmp.ErrGone) {
		t.Errorf("Subscribe after quit: %v, want ErrGone", late.Err())
	}
}

func TestPeerKilledDuringCalls(t *testing.T) {
	m, cmd := connect(t, "-machine", "none")
	// A stopped QEMU answers nothing: these calls are under way when it dies.
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 20)
	for range cap(errs) {
		go func() { errs <- m.Execute(context.Background(), "query-status", nil, nil) }()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Execute(ctx, "query-status", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("query-status of a stopped QEMU = %v, want DeadlineExceeded", err)
	}
	cmd.Process.Kill()
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, qmp.ErrGone) {
			t.Errorf("query-status = %v, want ErrGone", err)
		}
	}
}

func TestCallGivenUpDoesNotDisturbTheNext(t *testing.T) {
	m, cmd := connect(t, "-machine", "none", "-name", "later")
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.Raw(ctx).QueryStatus(); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("query-status = %v, want DeadlineExceeded", err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	name, err := m.Raw(t.Context()).QueryName()
	if err != nil || name.Name == nil || *name.Name != "later" {
		t.Errorf("query-name = %+v, %v", name, err)
	}
}

func TestGreeting(t *testing.T) {
	tests := []struct {
		name, sends string
		want        error
		text        string
	}{
		{"peer ends", "", qmp.ErrGone, "qmp greeting"},
		{"half a greeting", `{"QMP": {"ver`, qmp.ErrGone, "qmp greeting"},
		{"not QMP", "login: ", nil, "invalid character"},
		{"wrong types", `{"event": 7}`, nil, "cannot unmarshal"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, theirs := pair(t)
			if _, err := theirs.WriteString(tt.sends); err != nil {
				t.Fatal(err)
			}
			theirs.Close()
			err := qmp.New(conn).Connect()
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Connect() = %v, want %q (%v)", err, tt.text, tt.want)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		conn, _ := pair(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		m := qmp.New(conn)
		defer m.Disconnect()
		if err := m.ConnectContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Connect() = %v, want DeadlineExceeded", err)
		}
	})
}

func TestBadCommands(t *testing.T) {
	m, _ := connect(t, "-machine", "none")
	for _, text := range []string{"", "{", "[]", `{"execute": 3}`, `{"arguments": {}}`} {
		if _, err := m.Run([]byte(text)); err == nil {
			t.Errorf("Run(%q) succeeded", text)
		}
	}
	if err := m.Execute(t.Context(), "x", func() {}, nil); err == nil {
		t.Error("Execute with arguments that do not marshal succeeded")
	}
	var n int
	if err := m.Execute(t.Context(), "query-name", nil, &n); err == nil {
		t.Error("an object was unmarshalled into an int")
	}
}

func TestOverflowEndsTheSubscription(t *testing.T) {
	conn, theirs := pair(t)
	m := qmp.New(conn)
	defer m.Disconnect()
	s := m.Subscribe()
	go func() {
		fmt.Fprintln(theirs, `{"QMP": {"version": {"qemu": {"major": 9}}}}`)
		var c struct{ ID string }
		if err := json.NewDecoder(theirs).Decode(&c); err != nil {
			return
		}
		// Two full queues: one may be in the deliverer's hands already.
		stop := []byte(`{"event": "STOP"}` + "\n")
		for range 2<<16 + 10 {
			if _, err := theirs.Write(stop); err != nil {
				return
			}
		}
		fmt.Fprintf(theirs, "{\"return\": {}, \"id\": %q}\n", c.ID)
	}()
	if err := m.Connect(); err != nil { // the reply comes after all events
		t.Fatal(err)
	}
	n := 0
	for range s.C() {
		n++
	}
	if !errors.Is(s.Err(), qmp.ErrOverflow) || n < 1<<16 {
		t.Errorf("%d events, then %v; want ErrOverflow after at least %d", n, s.Err(), 1<<16)
	}
}

// TestTypedCalls runs the calls of go-qemu's qmp/raw that the rest of the
// project relies on against the QEMU at hand.
func TestTypedCalls(t *testing.T) {
	m, _ := connect(t, "-machine", "q35", "-m", "64M", "-device", "i6300esb")
	r := m.Raw(t.Context())
	save := filepath.Join(t.TempDir(), "ram")
	ram := int64(4096)
	calls := []struct {
		name string
		call func() error
	}{
		{"query-status", func() error { _, err := r.QueryStatus(); return err }},
		{"query-version", func() error { _, err := r.QueryVersion(); return err }},
		{"query-kvm", func() error { _, err := r.QueryKVM(); return err }},
		{"query-name", func() error { _, err := r.QueryName(); return err }},
		{"query-commands", func() error { _, err := r.QueryCommands(); return err }},
		{"query-chardev", func() error { _, err := r.QueryChardev(); return err }},
		{"query-memory-size-summary", func() error { _, err := r.QueryMemorySizeSummary(); return err }},
		{"query-migrate", func() error { _, err := r.QueryMigrate(); return err }},
		{"qom-list", func() error { _, err := r.QomList("/machine"); return err }},
		{"info registers", func() error { _, err := r.HumanMonitorCommand("info registers -a", nil); return err }},
		{"send-key", func() error {
			return r.SendKey([]raw.KeyValue{raw.KeyValueQcode(raw.QKeyCodeA)}, nil)
		}},
		{"inject-nmi", func() error { return r.InjectNmi() }},
		{"pmemsave", func() error { return r.Pmemsave(0, ram, save) }},
		{"cont", func() error { return r.Cont() }},
		{"stop", func() error { return r.Stop() }},
		{"system_reset", func() error { return r.SystemReset() }},
		{"system_powerdown", func() error { return r.SystemPowerdown() }},
		{"watchdog-set-action", func() error { return r.WatchdogSetAction(raw.WatchdogActionPause) }},
		{"quit", func() error { return r.Quit() }},
	}
	for _, c := range calls {
		if err := c.call(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if st, err := os.Stat(save); err != nil || st.Size() != ram {
		t.Errorf("pmemsave left %v, %v; want %d bytes", st, err, ram)
	}
}

func TestDomainOfGoQEMU(t *testing.T) {
	m, _ := connect(t, "-machine", "none")
	d, err := qemu.NewDomain(m.WithContext(t.Context()), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	events, done, err := d.Events()
	if err != nil {
		t.Fatal(err)
	}
	defer close(done)
	if status, err := d.Status(); err != nil || status == qemu.StatusRunning {
		t.Errorf("Status() = %v, %v; want a guest that does not run", status, err)
	}
	if err := m.Raw(t.Context()).Cont(); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-events:
		if e.Event != qmp.EventResume {
			t.Errorf("event %s, want RESUME", e.Event)
		}
	case <-time.After(10 * time.Second):
		t.Error("no RESUME event")
	}
}
