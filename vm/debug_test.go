package vm_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// rsp is a debugger that sets a breakpoint and is rude: it says no goodbye.
type rsp struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dialRSP(t *testing.T, path string) *rsp {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return &rsp{t, conn, bufio.NewReader(conn)}
}

// ask sends a packet and returns the answer.
func (r *rsp) ask(packet string) string {
	r.t.Helper()
	var sum byte
	for _, c := range []byte(packet) {
		sum += c
	}
	if _, err := fmt.Fprintf(r.conn, "$%s#%02x", packet, sum); err != nil {
		r.t.Fatal(err)
	}
	return r.answer()
}

// answer waits for a packet and returns what is in it.
func (r *rsp) answer() string {
	r.t.Helper()
	text, err := r.in.ReadString('#')
	if err == nil {
		_, err = r.in.Discard(2)
	}
	if err != nil {
		r.t.Fatalf("debugger: %q, %v", text, err)
	}
	fmt.Fprint(r.conn, "+")
	return strings.Trim(text, "+$#")
}

// symbolAddress finds a symbol of the test kernel.
func symbolAddress(t *testing.T, systemMap, name string) string {
	t.Helper()
	text, err := os.ReadFile(systemMap)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == name {
			return f[0]
		}
	}
	t.Fatalf("%s has no %s", systemMap, name)
	return ""
}

// TestDebug has a debugger stop a guest at a breakpoint and vanish, in both ways: its connection breaks, and it
// keeps it. The guest runs on, and the breakpoint is gone.
func TestDebug(t *testing.T) {
	cfg := guestConfig(t)
	m := boot(t, cfg)
	for _, hangsUp := range []bool{true, false} {
		t.Run(fmt.Sprint("hangsUp=", hangsUp), func(t *testing.T) {
			tmp := filepath.Join(t.TempDir(), "odd, isn't \"it")
			if err := os.Mkdir(tmp, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Setenv("TMPDIR", tmp)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ready, done := make(chan string, 1), make(chan error, 1)
			go func() { done <- m.Debug(ctx, func(socket string) { ready <- socket }) }()
			var r *rsp
			select {
			case socket := <-ready:
				r = dialRSP(t, socket)
			case err := <-done:
				t.Fatalf("Debug() = %v", err)
			}
			if err := m.Debug(ctx, nil); !errors.Is(err, vm.ErrDebugged) {
				t.Errorf("second Debug() = %v", err)
			}
			defer r.conn.Close()
			if got := r.ask("Z1," + symbolAddress(t, cfg.SystemMap, "__x64_sys_sethostname") + ",1"); got != "OK" {
				t.Fatalf("breakpoint: %q", got)
			}
			fmt.Fprint(r.conn, "$c#63")
			named := make(chan error, 1)
			go func() {
				_, err := m.Agent().Run(t.Context(), "sh", "-c", "hostname stopped")
				named <- err
			}()
			if got := r.answer(); !strings.HasPrefix(got, "T05") {
				t.Fatalf("the guest stopped with %q, not at the breakpoint", got)
			}
			if hangsUp {
				r.conn.Close()
			}
			cancel()
			if err := <-done; err != nil {
				t.Fatalf("Debug() = %v", err)
			}
			if err := <-named; err != nil {
				t.Errorf("the command that was stopped: %v", err)
			}
			if left, err := os.ReadDir(tmp); len(left) != 0 {
				t.Errorf("files left: %v, %v", left, err)
			}
			if got := sh(t, m, "hostname again; hostname"); got != "again\n" {
				t.Errorf("after the debugger the guest says %q", got)
			}
		})
	}
}
