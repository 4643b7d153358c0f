package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// firstThread has functions called by the process's first thread.
var firstThread = make(chan func())

func init() { runtime.LockOSThread() } // main, and with it TestMain, stays on the first thread

// TestMain lets the test binary lead consoles, as the agent's does.
func TestMain(m *testing.M) {
	if os.Getenv(leaderVariable) != "" {
		consoleLeader(os.Args[1:])
	}
	var code int
	go func() {
		code = m.Run()
		close(firstThread)
	}()
	for do := range firstThread {
		do()
	}
	os.Exit(code)
}

// A file's handler that ends its thread must not end the first one: nobody would see that.
func TestServeFileSparesTheFirstThread(t *testing.T) {
	done := make(chan int)
	firstThread <- func() {
		if unix.Gettid() != unix.Getpid() {
			t.Error("this is not the first thread")
		}
		var st agentStream
		var thread int
		if err := st.serveFile(func() error { thread = unix.Gettid(); return unix.EBADF }); err != unix.EBADF {
			t.Errorf("serveFile = %v", err)
		}
		done <- thread
	}
	if <-done == unix.Getpid() {
		t.Error("the first thread served a file")
	}
}

// socketPair returns the two ends of a connection.
func socketPair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0], ends[1]
}

// serve runs a server in this process until the test ends.
func serve(t *testing.T, conn net.Conn, opts ServerOptions) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = NewServer(conn, opts).Serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func newPair(t *testing.T, opts ServerOptions) *Client {
	t.Helper()
	host, guest := socketPair(t)
	serve(t, guest, opts)
	c := NewClient(host)
	t.Cleanup(func() { c.Close() })
	return c
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestHello(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	h, err := c.Hello(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if h.Protocol != ProtocolVersion || h.Release != uname().Release || h.PID != os.Getpid() {
		t.Errorf("Hello() = %+v", h)
	}
	if h.Garbage != 0 || c.Garbage() != 0 {
		t.Errorf("garbage: agent %d, client %d; want none", h.Garbage, c.Garbage())
	}
}

func TestRun(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	for _, tt := range []struct {
		argv           []string
		stdout, stderr string
		status         Status
	}{
		{[]string{"true"}, "", "", Status{}},
		{[]string{"sh", "-c", "echo out; echo err >&2; exit 7"}, "out\n", "err\n", Status{Code: 7}},
		{[]string{"sh", "-c", "kill -SEGV $$"}, "", "", Status{Signal: syscall.SIGSEGV}},
		{[]string{"cat"}, "", "", Status{}},
		{[]string{"sh", "-c", "echo a; sleep 30 & exit 3"}, "a\n", "", Status{Code: 3}},
	} {
		out, err := c.Run(ctx, tt.argv...)
		if err != nil {
			t.Errorf("Run(%q): %v", tt.argv, err)
			continue
		}
		if string(out.Stdout) != tt.stdout || string(out.Stderr) != tt.stderr || out.Status != tt.status {
			t.Errorf("Run(%q) = %q, %q, %v; want %q, %q, %v", tt.argv,
				out.Stdout, out.Stderr, out.Status, tt.stdout, tt.stderr, tt.status)
		}
	}
}

func TestRunErrors(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	_, err := c.Run(ctx, "no-such-program")
	var e *Error
	if !errors.As(err, &e) || e.Errno != syscall.ENOENT {
		t.Errorf("Run(no-such-program): %v, want *Error ENOENT", err)
	}
	if want := "run no-such-program: ENOENT: no such file or directory"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if _, err := c.Run(ctx, "/etc/passwd"); !errors.Is(err, syscall.EACCES) {
		t.Errorf("Run(/etc/passwd): %v, want EACCES", err)
	}
	if _, err := c.Run(ctx, "echo", strings.Repeat("x", maxPayload)); !errors.Is(err, syscall.E2BIG) {
		t.Errorf("Run with a long argument: %v, want E2BIG", err)
	}
}

func TestEnvironmentAndDir(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	dir := t.TempDir()
	var out bytes.Buffer
	p, err := c.Start(ctx, Command{
		Argv:   []string{"sh", "-c", "echo $A $HOME; pwd"},
		Env:    []string{"A=1", "HOME=/h", "A=2"},
		Dir:    dir,
		Stdout: &out,
	})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(ctx); err != nil || !st.Success() {
		t.Fatal(st, err)
	}
	if got, want := out.String(), "2 /h\n"+dir+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStdin(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	data := bytes.Repeat([]byte("kaleido\x00\n"), 300_000)
	var out bytes.Buffer
	p, err := c.Start(ctx, Command{Argv: []string{"cat"}, Stdin: bytes.NewReader(data), Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(ctx); err != nil || !st.Success() {
		t.Fatal(st, err)
	}
	if !bytes.Equal(out.Bytes(), data) {
		t.Errorf("cat gave %d bytes back, want the same %d", out.Len(), len(data))
	}
}

// A program that does not read its input must not keep Wait from returning.
func TestStdinUnread(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	r, w := io.Pipe()
	defer w.Close()
	go io.Copy(w, zeros{})
	p, err := c.Start(ctx, Command{Argv: []string{"true"}, Stdin: r})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(ctx); err != nil || !st.Success() {
		t.Fatal(st, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// blocker is a writer that does not return until released.
type blocker struct {
	reached chan struct{}
	release chan struct{}
	once    sync.Once
}

func newBlocker() *blocker {
	return &blocker{reached: make(chan struct{}), release: make(chan struct{})}
}

func (b *blocker) Write(p []byte) (int, error) {
	b.once.Do(func() { close(b.reached) })
	<-b.release
	return len(p), nil
}

// Neither output that nobody takes nor input that nobody reads holds up others.
func TestSlowStreamsHoldUpNobody(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	slow := newBlocker()
	noisy, err := c.Start(ctx, Command{Argv: []string{"cat", "/dev/zero"}, Stdout: slow})
	if err != nil {
		t.Fatal(err)
	}
	deaf, err := c.Start(ctx, Command{Argv: []string{"sleep", "1000"}, Stdin: zeros{}})
	if err != nil {
		t.Fatal(err)
	}
	<-slow.reached
	for i := range 20 {
		out, err := c.Run(ctx, "head", "-c", "1000000", "/dev/zero")
		if err != nil || len(out.Stdout) != 1_000_000 {
			t.Fatalf("run %d beside slow streams: %v", i, err)
		}
	}
	for _, p := range []*Process{noisy, deaf} {
		if err := p.Signal(ctx, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	close(slow.release)
	for _, p := range []*Process{noisy, deaf} {
		if st, err := p.Wait(ctx); err != nil || st.Signal != syscall.SIGKILL {
			t.Errorf("Wait() = %v, %v", st, err)
		}
		if err := p.Signal(ctx, syscall.SIGTERM); err != os.ErrProcessDone {
			t.Errorf("Signal to a dead process: %v", err)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			out, err := c.Run(ctx, "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i))
			if err != nil || out.Status.Code != i || string(out.Stdout) != fmt.Sprintln(i) {
				t.Errorf("run %d: %+v, %v", i, out, err)
			}
		})
	}
	wg.Wait()
}

func TestOutputWriterFails(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	r, w := io.Pipe()
	r.CloseWithError(errors.New("disk full"))
	p, err := c.Start(ctx, Command{Argv: []string{"head", "-c", "2000000", "/dev/zero"}, Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Wait(ctx)
	if !st.Success() || err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("Wait() = %v, %v; want success and the writer's error", st, err)
	}
}

func TestRunCanceled(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	pidFile := filepath.Join(t.TempDir(), "pid")
	short, cancel := context.WithCancel(ctx)
	started := make(chan struct{})
	go func() {
		<-started
		cancel()
	}()
	p, err := c.Start(ctx, Command{Argv: []string{"sh", "-c", "mkfifo " + pidFile + "; cat " + pidFile}})
	if err != nil {
		t.Fatal(err)
	}
	close(started)
	if _, err := p.Wait(short); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with an ended context: %v", err)
	}
	p.stream.abandon() // what Run does
	// The whole group dies, though nobody waits for it any more.
	waitGone(t, ctx, p.PID)
	if _, err := c.Hello(ctx); err != nil {
		t.Error(err)
	}
}

// waitGone waits until a process is no more.
func waitGone(t *testing.T, ctx context.Context, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	deadline, _ := ctx.Deadline()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
	if n != 1 {
		t.Fatalf("process %d lives on: %v", pid, err)
	}
}

func TestPutGet(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	dir := t.TempDir()
	for _, size := range []int{0, 1, maxPayload, window, 3<<20 + 17} {
		name := filepath.Join(dir, "a", "b", fmt.Sprint(size))
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * i >> 3)
		}
		if err := c.Put(ctx, name, 0o751, bytes.NewReader(data)); err != nil {
			t.Fatalf("Put %d bytes: %v", size, err)
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode() != 0o751 || info.Size() != int64(size) {
			t.Errorf("put file: %v, %v", info, err)
		}
		var got bytes.Buffer
		if err := c.Get(ctx, name, &got); err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("Get %d bytes: %d bytes, %v", size, got.Len(), err)
		}
	}
	var got bytes.Buffer
	if err := c.Get(ctx, "/proc/self/status", &got); err != nil || !strings.HasPrefix(got.String(), "Name:") {
		t.Errorf("Get /proc/self/status: %q, %v", got.String(), err)
	}
	// Who wants no more of a file without an end gets no more.
	r, w := io.Pipe()
	r.Close()
	if err := c.Get(ctx, "/dev/zero", w); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Get of a file without an end for somebody who is gone: %v", err)
	}
	if err := c.Get(ctx, "/no/such", io.Discard); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Get /no/such: %v", err)
	}
	if err := c.Put(ctx, "/proc/x/y", 0o644, zeros{}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Put under /proc: %v", err)
	}
}

func TestWriteListStat(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	dir := t.TempDir()
	for _, text := range []string{"a long first text", "short"} {
		if err := c.Write(ctx, dir+"/b", []byte(text)); err != nil {
			t.Fatalf("Write: %v", err)
		}
	}
	if got, err := os.ReadFile(dir + "/b"); string(got) != "shortg first text" {
		t.Errorf("Write cut or replaced the file: %q, %v", got, err)
	}
	if err := c.Write(ctx, dir+"/a b", nil); err != nil {
		t.Errorf("Write of nothing: %v", err)
	}
	if err := c.Write(ctx, "/dev/full", []byte("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Write /dev/full: %v, want ENOSPC", err)
	}
	if err := c.Write(ctx, "/dev/no such device", []byte("x")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Write to a device that is not there: %v, want ENOENT", err)
	}
	if err := c.Write(ctx, dir+"/c", make([]byte, maxWrite+1)); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("Write of too much: %v, want EFBIG", err)
	}
	if names, err := c.List(ctx, dir); err != nil || !slices.Equal(names, []string{"a b", "b"}) {
		t.Errorf("List: %q, %v", names, err)
	}
	if names, err := c.List(ctx, dir+"/b"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("List of a file: %q, %v, want ENOTDIR", names, err)
	}
	if err := c.Stat(ctx, dir+"/b"); err != nil {
		t.Errorf("Stat: %v", err)
	}
	if err := c.Stat(ctx, dir+"/nosuch"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Stat: %v, want ENOENT", err)
	}
}

// A put that fails half way leaves the old file and nothing else.
func TestPutIsAtomic(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := c.Put(ctx, name, 0o644, strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	bad := io.MultiReader(io.LimitReader(zeros{}, 100_000), errReader{})
	if err := c.Put(ctx, name, 0o644, bad); err == nil || !strings.Contains(err.Error(), "put "+name+": bad disk") {
		t.Errorf("Put of a failing reader: %v", err)
	}
	short, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	go func() {
		w.Write(make([]byte, 1000))
		cancel()
	}()
	if err := c.Put(short, name, 0o644, r); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Put: %v", err)
	}
	w.Close()
	if _, err := c.Hello(ctx); err != nil { // behind the cancels
		t.Fatal(err)
	}
	if data, err := os.ReadFile(name); string(data) != "old" {
		t.Errorf("file is now %q, %v", data, err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("bad disk") }

// Garbage on the port, both ways, harms no frame around it.
func TestGarbageOnThePort(t *testing.T) {
	ctx := testContext(t)
	host, guest := socketPair(t)
	serve(t, guest, ServerOptions{})
	if _, err := host.Write([]byte("garbage before \xf5kl\n and after")); err != nil {
		t.Fatal(err)
	}
	c := NewClient(host)
	defer c.Close()
	if _, err := c.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := host.Write([]byte("Oops: \xf5kl\n\x01\x00\x00 \x00\xff\xff")); err != nil {
			t.Fatal(err)
		}
		if _, err := guest.Write([]byte("\xf5kl\nkernel panic")); err != nil {
			t.Fatal(err)
		}
		if out, err := c.Run(ctx, "echo", "hi"); err != nil || string(out.Stdout) != "hi\n" {
			t.Fatalf("run among garbage: %v, %v", out, err)
		}
	}
	h, err := c.Hello(ctx)
	if err != nil || h.Garbage == 0 || c.Garbage() != 20*16 {
		t.Errorf("garbage: agent %+v, client %d; want some, 320 (%v)", h, c.Garbage(), err)
	}
}

// A second client on the same port, as after a snapshot: the first's streams
// are gone, its processes are not, and a frame cut short does no harm.
func TestNewClientTakesOver(t *testing.T) {
	ctx := testContext(t)
	host, guest := socketPair(t)
	serve(t, guest, ServerOptions{})
	shared := &sharedConn{Conn: host, ended: make(chan struct{})}
	first := NewClient(shared)
	r, w := io.Pipe()
	defer w.Close()
	p, err := first.Start(ctx, Command{Argv: []string{"sh", "-c", "echo first; sleep 1000"}, Stdout: w, Stdin: zeros{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	long := seal(append(newFrame(maxPayload), make([]byte, maxPayload)...), typeData, chanIn, 1)
	if err := first.link.flush(ctx, long[:len(long)-5000]); err != nil {
		t.Fatal(err)
	}
	first.Close()
	<-shared.ended
	host.SetReadDeadline(time.Time{})

	second := NewClient(host)
	defer second.Close()
	out, err := second.Run(ctx, "echo", "second")
	if err != nil || string(out.Stdout) != "second\n" {
		t.Fatalf("second client: %+v, %v", out, err)
	}
	if err := syscall.Kill(p.PID, 0); err != nil {
		t.Errorf("the first client's process: %v, want it alive", err)
	}
	syscall.Kill(-p.PID, syscall.SIGKILL)
	waitGone(t, ctx, p.PID)
}

// A sharedConn is a connection that outlives the client's Close.
type sharedConn struct {
	net.Conn
	ended chan struct{} // closed when the client reads no more
}

func (c *sharedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		close(c.ended)
	}
	return n, err
}

func (c *sharedConn) Close() error { return c.SetReadDeadline(time.Unix(1, 0)) }

// When the agent starts anew on the same port the calls under way fail and
// later ones work.
func TestAgentRestart(t *testing.T) {
	ctx := testContext(t)
	host, guest := socketPair(t)
	serverCtx, stop := context.WithCancel(ctx)
	served := make(chan error)
	conn := &sharedConn{Conn: guest, ended: make(chan struct{})}
	go func() { served <- NewServer(conn, ServerOptions{}).Serve(serverCtx) }()
	c := NewClient(host)
	defer c.Close()
	if _, err := c.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := c.Start(ctx, Command{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	<-served
	guest.SetReadDeadline(time.Time{})
	serve(t, guest, ServerOptions{})
	if _, err := p.Wait(ctx); !errors.Is(err, ErrRestarted) {
		t.Errorf("Wait over a restart: %v", err)
	}
	if out, err := c.Run(ctx, "echo", "again"); err != nil || string(out.Stdout) != "again\n" {
		t.Errorf("Run after a restart: %+v, %v", out, err)
	}
	syscall.Kill(-p.PID, syscall.SIGKILL)
}

func TestConnectionLost(t *testing.T) {
	ctx := testContext(t)
	host, guest := socketPair(t)
	serve(t, guest, ServerOptions{})
	c := NewClient(host)
	p, err := c.Start(ctx, Command{Argv: []string{"sh", "-c", "kill -STOP $$"}})
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(p.PID, syscall.SIGKILL)
	guest.(*net.UnixConn).CloseWrite()
	if _, err := p.Wait(ctx); !errors.Is(err, ErrClosed) || !errors.Is(err, io.EOF) {
		t.Errorf("Wait after the connection ended: %v", err)
	}
	if _, err := c.Hello(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Hello after the connection ended: %v", err)
	}
	if err := c.Put(ctx, "/tmp/x", 0o644, zeros{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Put after the connection ended: %v", err)
	}
}

// An agent that never answers costs no more than the context allows.
func TestNoAgent(t *testing.T) {
	host, _ := socketPair(t)
	c := NewClient(host)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Hello(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Hello: %v", err)
	}
}

func TestModuleErrors(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	c := newPair(t, ServerOptions{Modules: dir})
	write := func(name, text string) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("extra/general/bad-elf.ko", "this is no module, but it is longer than an ELF header is, which is 64 bytes")
	write("kernel/x.ko", "")
	write("modules.dep", "kernel/x.ko: extra/general/bad-elf.ko\n")
	if err := c.LoadModule(ctx, "nosuch"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("load nosuch: %v", err)
	}
	for _, name := range []string{"bad_elf", "bad-elf", dir + "/extra/general/bad-elf.ko"} {
		loaded, err := c.InsertModule(ctx, name, "a=1")
		var e *Error
		if !errors.As(err, &e) || e.Errno == 0 || e.Errno == syscall.ENOENT {
			t.Errorf("load %s: %v, want the kernel's errno", name, err)
		}
		if loaded == nil || loaded.PID <= 0 || loaded.PID == os.Getpid() || !strings.HasSuffix(loaded.File, "/bad-elf.ko") {
			t.Errorf("load %s: %+v, want the child's pid and the file", name, loaded)
		}
	}
	if _, err := c.Modprobe(ctx, "x"); err == nil || errors.Is(err, syscall.ENOENT) {
		t.Errorf("modprobe x: %v, want the dependency's errno", err)
	}
	if err := c.UnloadModule(ctx, "no-such-module"); err == nil {
		t.Error("unload no-such-module: no error")
	}
}

func TestModulesDep(t *testing.T) {
	dir := t.TempDir()
	text := "kernel/a.ko:\nextra/b-b.ko: kernel/a.ko\nextra/c.ko: extra/b-b.ko kernel/a.ko\n"
	if err := os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "a", "b_b": "a b-b", "b-b": "a b-b", "c": "a b-b c"} {
		files, err := modulesDep(dir, name)
		var got []string
		for _, f := range files {
			got = append(got, strings.TrimSuffix(filepath.Base(f), ".ko"))
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("modulesDep(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := modulesDep(dir, "d"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("modulesDep(d): %v", err)
	}
}

// A forked child tells errno and signal, and changes nothing in its parent.
func TestChildCall(t *testing.T) {
	r := newReaper(false)
	start := func(call systemCall) (*childCall, *child) {
		t.Helper()
		cc, err := newChildCall("test", call, noFile)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cc.close)
		c, err := r.start(cc.fork)
		if err != nil {
			t.Fatal(err)
		}
		return cc, c
	}
	for range 50 {
		for _, tt := range []struct {
			call systemCall
			want error
		}{
			{systemCall{unix.SYS_GETPID, 0, 0, 0}, nil},
			{systemCall{unix.SYS_CLOSE, 1 << 20, 0, 0}, unix.EBADF},
			{systemCall{unix.SYS_KILL, 1 << 30, 0, 0}, unix.ESRCH},
			{systemCall{unix.SYS_EXIT_GROUP, 0, 0, 0}, errors.New("the process that made the call has exited: 0")},
		} {
			cc, c := start(tt.call)
			<-c.done
			if err := cc.end(c.status); fmt.Sprint(err) != fmt.Sprint(tt.want) {
				t.Fatalf("system call %d: %v, want %v", tt.call.trap, err, tt.want)
			}
		}
	}
	_, c := start(systemCall{unix.SYS_PAUSE, 0, 0, 0})
	if err := c.signal(unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if <-c.done; c.status.Signal() != unix.SIGTERM {
		t.Errorf("status %v", c.status)
	}
	if err := c.signal(unix.SIGTERM, false); err != unix.ESRCH {
		t.Errorf("signal after death: %v", err)
	}
}

func TestInitOnly(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	for name, err := range map[string]error{
		"PowerOff": c.PowerOff(ctx), "Reboot": c.Reboot(ctx), "Halt": c.Halt(ctx),
		"SetClock": c.SetClock(ctx, time.Now()), "AddEntropy": c.AddEntropy(ctx, []byte{1}),
	} {
		if !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s of a server that is not PID 1: %v, want EPERM", name, err)
		}
	}
	if _, err := c.call(ctx, "dance", "", request{Op: "dance"}); err == nil || err.Error() != "dance: unknown operation dance" {
		t.Errorf("unknown operation: %v", err)
	}
}

func TestConsole(t *testing.T) {
	ctx := testContext(t)
	terminal, tty, err := pty.Open()
	if err != nil {
		t.Skip("no pseudo terminal: ", err)
	}
	defer terminal.Close()
	defer tty.Close()
	c := newPair(t, ServerOptions{Console: tty.Name()})
	if err := c.SetWindowSize(ctx, 33, 111); err != nil {
		t.Fatal(err)
	}
	p, err := c.Start(ctx, Command{Argv: []string{"sh", "-c", "stty size; stty -a; cat < /dev/tty; exit 5"}, Console: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := terminal.Write([]byte("typed\r\x04")); err != nil {
		t.Fatal(err)
	}
	st, err := p.Wait(ctx)
	if err != nil || st.Code != 5 {
		t.Fatalf("Wait() = %v, %v", st, err)
	}
	tty.Close() // so that the terminal ends after what was written
	shown, _ := io.ReadAll(terminal)
	for _, want := range []string{"33 111", " icanon", " echo "} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("console lacks %q:\n%s", want, shown)
		}
	}
	if n := strings.Count(string(shown), "typed\r\n"); n != 2 {
		t.Errorf("%d times typed, want the echo and cat's:\n%s", n, shown)
	}
}

// The bytes of both ends survive when everything happens at the same time.
func TestTrafficMix(t *testing.T) {
	ctx := testContext(t)
	c := newPair(t, ServerOptions{})
	dir := t.TempDir()
	want := sha256.New()
	io.Copy(want, io.LimitReader(zeros{}, 4<<20))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := filepath.Join(dir, fmt.Sprint(i))
			if err := c.Put(ctx, name, 0o600, io.LimitReader(zeros{}, 4<<20)); err != nil {
				t.Error(err)
			}
			got := sha256.New()
			if err := c.Get(ctx, name, got); err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("get %d: %v", i, err)
			}
		})
		wg.Go(func() {
			got := sha256.New()
			p, err := c.Start(ctx, Command{Argv: []string{"cat"}, Stdin: io.LimitReader(zeros{}, 4<<20), Stdout: got})
			if err != nil {
				t.Error(err)
				return
			}
			if st, err := p.Wait(ctx); err != nil || !st.Success() || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("cat %d: %v, %v", i, st, err)
			}
		})
	}
	wg.Wait()
}
