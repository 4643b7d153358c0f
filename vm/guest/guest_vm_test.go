package guest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A machine is a real guest whose PID 1 is the agent.
type machine struct {
	client *Client
	conn   net.Conn
	ended  chan struct{} // closed when QEMU has exited
	serial string        // file with the console's output
	began  time.Time
}

// bootMachine boots the kernel named by KALEIDO_TEST_KERNEL (a bzImage, or a vmlinux with
// PVH) with an initramfs of the agent, a static busybox, and the modules in the folder
// KALEIDO_TEST_MODULES.
func bootMachine(t *testing.T) *machine {
	t.Helper()
	kernel := os.Getenv("KALEIDO_TEST_KERNEL")
	if kernel == "" {
		t.Skip("KALEIDO_TEST_KERNEL names no kernel to boot")
	}
	dir := t.TempDir()
	archive := buildArchive(t, dir)
	host, guest := socketPair(t)
	guestFile, err := guest.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	guest.Close()
	m := &machine{conn: host, ended: make(chan struct{}), serial: filepath.Join(dir, "serial")}
	qemu := exec.Command("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max",
		"-smp", "2", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "file:"+m.serial, "-kernel", kernel, "-initrd", archive,
		"-append", "console=ttyS0 quiet panic=-1 printk.devkmsg=on tsc=reliable no_timer_check",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=3",
		"-device", "virtserialport,chardev=agent,name="+PortName)
	qemu.ExtraFiles = []*os.File{guestFile}
	qemu.Stderr = os.Stderr
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.began = time.Now()
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	guestFile.Close()
	go func() {
		_ = qemu.Wait()
		close(m.ended)
	}()
	m.client = NewClient(host)
	t.Cleanup(func() {
		m.client.Close()
		_ = qemu.Process.Kill()
		<-m.ended
		if t.Failed() {
			console, _ := os.ReadFile(m.serial)
			t.Logf("console:\n%s", console)
		}
	})
	return m
}

// buildArchive makes an initramfs from files, by cpio(1).
func buildArchive(t *testing.T, dir string) string {
	t.Helper()
	root := filepath.Join(dir, "root")
	for _, d := range []string{"bin", "lib/modules"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(root, "init"), "../../cmd/uinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	script := `set -e
cp /bin/busybox bin/busybox
for name in sh cat head sleep yes true echo kill dd sha256sum stty ls date hostname ps mount id setsid; do ln -s busybox bin/$name; done
if [ -n "$KALEIDO_TEST_MODULES" ]; then mkdir extra; cp "$KALEIDO_TEST_MODULES"/*.ko extra/; fi
find . | cpio -o -H newc --quiet > ../initramfs`
	archive := exec.Command("sh", "-c", script)
	archive.Dir = root
	for _, c := range []*exec.Cmd{build, archive} {
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c.Args, err, out)
		}
	}
	return filepath.Join(dir, "initramfs")
}

func vmContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// All in one guest: to boot one for each would cost most of the time.
func TestRealGuest(t *testing.T) {
	m := bootMachine(t)
	ctx := vmContext(t)
	h, err := m.client.Hello(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("hello %v after the start of QEMU: %+v", time.Since(m.began).Round(time.Millisecond), *h)
	if h.PID != 1 {
		t.Errorf("agent's pid %d", h.PID)
	}
	for _, tt := range []struct {
		name string
		test func(*testing.T, context.Context, *machine)
	}{
		{"latency", guestLatency},
		{"environment", guestEnvironment},
		{"big output", guestBigOutput},
		{"stdin", guestStdin},
		{"signals", guestSignals},
		{"orphans", guestOrphans},
		{"files", guestFiles},
		{"module errno", guestModuleErrno},
		{"modules", guestModules},
		{"kmsg flood", guestKmsgFlood},
		{"clock and entropy", guestClock},
		{"console", guestConsole},
		{"garbage", guestGarbage},
		{"signals to PID 1", guestSignalsToInit},
		{"out of memory", guestOutOfMemory},
		{"power off", guestPowerOff},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, ctx, m) })
	}
}

func mustRun(t *testing.T, ctx context.Context, c *Client, argv ...string) string {
	t.Helper()
	out, err := c.Run(ctx, argv...)
	if err != nil {
		t.Fatal(err)
	}
	if !out.Status.Success() {
		t.Fatalf("%q: %v: %s", argv, out.Status, out.Stderr)
	}
	return string(out.Stdout)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2].Round(10 * time.Microsecond)
}

func guestLatency(t *testing.T, ctx context.Context, m *machine) {
	measure := func(name string, f func() error) {
		var d []time.Duration
		for range 100 {
			begin := time.Now()
			if err := f(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			d = append(d, time.Since(begin))
		}
		t.Logf("%s: median %v, worst %v of 100", name, median(d), d[len(d)-1].Round(10*time.Microsecond))
	}
	measure("hello", func() error { _, err := m.client.Hello(ctx); return err })
	measure("run true", func() error { _, err := m.client.Run(ctx, "true"); return err })
	measure("unload (ENOENT)", func() error {
		if err := m.client.UnloadModule(ctx, "nosuch"); !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unload: %v", err)
		}
		return nil
	})
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			out, err := m.client.Run(ctx, "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i))
			if err != nil || out.Status.Code != i || string(out.Stdout) != fmt.Sprintln(i) {
				t.Errorf("run %d: %+v, %v", i, out, err)
			}
		})
	}
	wg.Wait()
	t.Logf("50 shells at once: %v", time.Since(begin).Round(time.Millisecond))
}

func guestEnvironment(t *testing.T, ctx context.Context, m *machine) {
	got := mustRun(t, ctx, m.client, "sh", "-c", "hostname; echo $HOME $PATH; ls /dev/pts/ptmx; ls -d /proc/1 /sys/class; id -u; ls /proc/self/fd | wc -l; ulimit -n; cat /proc/self/oom_score_adj; cat /proc/mounts")
	for _, want := range []string{"kaleido\n", "/root /bbin:/bin", "/dev/pts/ptmx\n", "/proc/1\n", "/sys/class\n", " /tmp tmpfs", " /run tmpfs", " /dev/shm tmpfs"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if got := mustRun(t, ctx, m.client, "ls", "-l", "/proc/self/fd"); strings.Contains(got, "vport") {
		t.Errorf("a child has the port:\n%s", got)
	}
}

func guestBigOutput(t *testing.T, ctx context.Context, m *machine) {
	const size = 50 << 20
	sum := sha256.New()
	begin := time.Now()
	p, err := m.client.Start(ctx, Command{Argv: []string{"dd", "if=/dev/zero", "bs=64k", fmt.Sprint("count=", size>>16)}, Stdout: sum})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(ctx); err != nil || !st.Success() {
		t.Fatal(st, err)
	}
	t.Logf("50 MiB of output: %v, %.1f MiB/s", time.Since(begin).Round(time.Millisecond), 50/time.Since(begin).Seconds())
	want := sha256.New()
	_, _ = io.Copy(want, io.LimitReader(zeros{}, size))
	if !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		t.Error("50 MiB arrived otherwise than they were written")
	}
}

func guestStdin(t *testing.T, ctx context.Context, m *machine) {
	var out bytes.Buffer
	sum := sha256.New()
	in := io.TeeReader(io.LimitReader(zeros{}, 5<<20), sum)
	p, err := m.client.Start(ctx, Command{Argv: []string{"sha256sum"}, Stdin: in, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(ctx); err != nil || !st.Success() {
		t.Fatal(st, err)
	}
	if got, want := out.String(), fmt.Sprintf("%x  -\n", sum.Sum(nil)); got != want {
		t.Errorf("sha256sum of standard input: %q, want %q", got, want)
	}
}

func guestSignals(t *testing.T, ctx context.Context, m *machine) {
	p, err := m.client.Start(ctx, Command{Argv: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := p.Signal(ctx, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	st, err := p.Wait(ctx)
	if err != nil || st.Signal != syscall.SIGTERM {
		t.Errorf("Wait() = %v, %v", st, err)
	}
	t.Logf("kill and wait: %v", time.Since(begin).Round(10*time.Microsecond))
	group, err := m.client.Start(ctx, Command{Argv: []string{"sh", "-c", "sleep 1000 & sleep 1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := group.SignalGroup(ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st, err := group.Wait(ctx); err != nil || st.Signal != syscall.SIGKILL {
		t.Errorf("Wait() = %v, %v", st, err)
	}
}

// guestOrphans leaves PID 1 processes to reap.
func guestOrphans(t *testing.T, ctx context.Context, m *machine) {
	mustRun(t, ctx, m.client, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (setsid true & setsid sh -c 'exit 3' &) ; done")
	for {
		out := mustRun(t, ctx, m.client, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; true")
		if !strings.Contains(out, ") Z ") {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("zombies stay:\n%s", out)
		}
	}
}

func guestFiles(t *testing.T, ctx context.Context, m *machine) {
	const size = 20 << 20
	want := sha256.New()
	in := io.TeeReader(io.LimitReader(pattern{}, size), want)
	begin := time.Now()
	if err := m.client.Put(ctx, "/tmp/a/b/file", 0o4751, in); err != nil {
		t.Fatal(err)
	}
	put := time.Since(begin)
	got := sha256.New()
	begin = time.Now()
	if err := m.client.Get(ctx, "/tmp/a/b/file", got); err != nil {
		t.Fatal(err)
	}
	get := time.Since(begin)
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Error("20 MiB came back otherwise than they were put")
	}
	t.Logf("put 20 MiB: %.1f MiB/s, get: %.1f MiB/s", 20/put.Seconds(), 20/get.Seconds())
	var modules bytes.Buffer
	if err := m.client.Get(ctx, "/proc/iomem", &modules); err != nil || !strings.Contains(modules.String(), "System RAM") {
		t.Errorf("get /proc/iomem: %q, %v", modules.String(), err)
	}
	if out := mustRun(t, ctx, m.client, "ls", "-a", "/tmp/a/b"); out != ".\n..\nfile\n" {
		t.Errorf("ls: %q", out)
	}
	mustRun(t, ctx, m.client, "sh", "-c", "rm -r /tmp/a || busybox rm -r /tmp/a")
	small := make([]time.Duration, 100)
	for i := range small {
		begin := time.Now()
		if err := m.client.Put(ctx, "/tmp/small", 0o644, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		small[i] = time.Since(begin)
	}
	t.Logf("put 1 byte: median %v", median(small))
}

// pattern is data that does not repeat within a frame.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i ^ i>>8)
	}
	return len(p), nil
}

func guestModuleErrno(t *testing.T, ctx context.Context, m *machine) {
	if err := m.client.Put(ctx, "/tmp/bad.ko", 0o644, io.LimitReader(pattern{}, 5000)); err != nil {
		t.Fatal(err)
	}
	loaded, err := m.client.InsertModule(ctx, "/tmp/bad.ko")
	if !errors.Is(err, syscall.ENOEXEC) || loaded == nil || loaded.PID < 2 {
		t.Errorf("load of a file that is no module: %+v, %v; want ENOEXEC and a pid", loaded, err)
	}
	if err := m.client.LoadModule(ctx, "nosuch"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("load nosuch: %v", err)
	}
}

// guestModules needs hello.ko (a parameter "who", prints it, comm and pid), oops.ko (whose init oopses) and
// refuse.ko (whose init returns -EBUSY).
func guestModules(t *testing.T, ctx context.Context, m *machine) {
	if os.Getenv("KALEIDO_TEST_MODULES") == "" {
		t.Skip("KALEIDO_TEST_MODULES names no folder of modules")
	}
	mustRun(t, ctx, m.client, "sh", "-c", "busybox mkdir -p /lib/modules/$(busybox uname -r) && busybox mv /extra /lib/modules/$(busybox uname -r)/")
	begin := time.Now()
	loaded, err := m.client.InsertModule(ctx, "hello", "who=guest")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("load hello: %v, %+v", time.Since(begin).Round(10*time.Microsecond), *loaded)
	if err := m.client.LoadModule(ctx, "hello"); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("load hello again: %v, want EEXIST", err)
	}
	begin = time.Now()
	if err := m.client.UnloadModule(ctx, "hello"); err != nil {
		t.Error(err)
	}
	t.Logf("unload hello: %v", time.Since(begin).Round(10*time.Microsecond))
	if err := m.client.LoadModule(ctx, "refuse"); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("load refuse: %v, want EBUSY", err)
	}
	err = m.client.LoadModule(ctx, "oops")
	var e *Error
	if !errors.As(err, &e) || e.Signal != syscall.SIGKILL {
		t.Errorf("load oops: %v, want SIGKILL", err)
	}
	t.Logf("load oops: %v", err)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := m.client.LoadModule(short, "hang"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("load hang: %v", err)
	}
	// The cancel kills the loader, whose sleep a signal ends.
	for strings.Contains(mustRun(t, ctx, m.client, "sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null; true"), "insmod") {
	}
	if err := m.client.LoadModule(ctx, "procbug"); err != nil {
		t.Fatal(err)
	}
	// A file that oopses who reads it takes a thread of the agent, not the agent.
	for range 10 {
		var failed *Error
		if err := m.client.Get(ctx, "/proc/procbug", io.Discard); !errors.As(err, &failed) || failed.Signal != syscall.SIGKILL {
			t.Errorf("get of a file that oopses: %v", err)
		}
	}
	for range 200 {
		mustRun(t, ctx, m.client, "true")
	}
}

func guestKmsgFlood(t *testing.T, ctx context.Context, m *machine) {
	const lines = 100_000
	kctx, stop := context.WithCancel(ctx)
	defer stop()
	var records, gaps, last int
	first := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- m.client.Kmsg(kctx, func(line string) {
			if records == 0 {
				close(first)
			}
			records++
			fields := strings.SplitN(line, ",", 3)
			seq, err := strconv.Atoi(fields[1])
			if err != nil || seq <= last && last > 0 {
				t.Errorf("record %q after seq %d", line, last)
			}
			if seq != last+1 && records > 1 {
				gaps += seq - last - 1
			}
			last = seq
			if strings.HasSuffix(line, ";flood ends") {
				stop()
			}
		})
	}()
	<-first
	begin := time.Now()
	mustRun(t, ctx, m.client, "sh", "-c", fmt.Sprintf("echo 1 > /proc/sys/kernel/printk; i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done > /dev/kmsg; echo flood ends > /dev/kmsg", lines))
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("Kmsg: %v", err)
	}
	t.Logf("%d records in %v, %d lost to overruns (their numbers are missing)", records, time.Since(begin).Round(time.Millisecond), gaps)
	if records+gaps < lines {
		t.Errorf("%d records and %d gaps for %d lines", records, gaps, lines)
	}
	// From a sequence number on, with nothing before it.
	kctx, stop = context.WithCancel(ctx)
	defer stop()
	var got string
	err := m.client.KmsgFrom(kctx, uint64(last), func(line string) { got = line; stop() })
	if !strings.HasSuffix(got, ";flood ends") {
		t.Errorf("KmsgFrom(%d) gave %q, %v", last, got, err)
	}
}

func guestClock(t *testing.T, ctx context.Context, m *machine) {
	want := time.Date(2001, 9, 9, 1, 46, 40, 0, time.UTC)
	if err := m.client.SetClock(ctx, want); err != nil {
		t.Fatal(err)
	}
	got := strings.TrimSpace(mustRun(t, ctx, m.client, "date", "+%s"))
	if sec, _ := strconv.Atoi(got); sec < 1e9 || sec > 1e9+10 {
		t.Errorf("the guest's clock says %s", got)
	}
	if err := m.client.AddEntropy(ctx, bytes.Repeat([]byte{0x5a}, 64)); err != nil {
		t.Error(err)
	}
	if err := m.client.Sync(ctx); err != nil {
		t.Error(err)
	}
}

func guestConsole(t *testing.T, ctx context.Context, m *machine) {
	if err := m.client.SetWindowSize(ctx, 50, 132); err != nil {
		t.Fatal(err)
	}
	p, err := m.client.Start(ctx, Command{Argv: []string{"sh", "-c", "stty size; echo tty $(ls -l /proc/self/fd/0); set -m; sleep 0.01 & wait; echo console done; exit 4"}, Console: true})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(ctx); err != nil || st.Code != 4 {
		t.Errorf("Wait() = %v, %v", st, err)
	}
	shown := waitSerial(t, ctx, m, "console done")
	for _, want := range []string{"50 132\r\n", "/dev/ttyS0"} {
		if !strings.Contains(shown, want) {
			t.Errorf("console lacks %q:\n%s", want, shown)
		}
	}
	if strings.Contains(shown, "job control turned off") {
		t.Errorf("no job control:\n%s", shown)
	}
	onConsole := func(script string) Status {
		t.Helper()
		p, err := m.client.Start(ctx, Command{Argv: []string{"sh", "-c", script}, Console: true})
		if err != nil {
			t.Fatal(err)
		}
		st, err := p.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGSEGV, syscall.SIGKILL, syscall.SIGUSR1} {
		if st := onConsole(fmt.Sprintf("kill -%d $$", sig)); st.Signal != sig {
			t.Errorf("killed by %s on the console: %s", sig, st)
		}
	}
	// What the line has not sent yet when the program ends.
	onConsole("busybox seq 100000 101000; echo last; echo words")
	waitSerial(t, ctx, m, "last\r\nwords\r\n")
}

// waitSerial waits until the console has shown a text.
func waitSerial(t *testing.T, ctx context.Context, m *machine, text string) string {
	t.Helper()
	for {
		shown, err := os.ReadFile(m.serial)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(shown), text) {
			return string(shown)
		}
		// The guest takes a turn, so this is no busy loop.
		if _, err := m.client.Hello(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func guestGarbage(t *testing.T, ctx context.Context, m *machine) {
	junk := make([]byte, 100_000)
	for i := range junk {
		junk[i] = byte(i*i>>4) ^ byte(i>>9)
	}
	for range 10 {
		copy(junk[500:], magic)
		if _, err := m.conn.Write(junk); err != nil {
			t.Fatal(err)
		}
		if got := mustRun(t, ctx, m.client, "echo", "alive"); got != "alive\n" {
			t.Fatalf("got %q", got)
		}
	}
	h, err := m.client.Hello(ctx)
	if err != nil || h.Garbage < 500_000 {
		t.Errorf("agent counted %+v, %v", h, err)
	}
}

// guestSignalsToInit sends the agent all signals, and those that the Go runtime does not
// handle among others, whose handlers block them.
func guestSignalsToInit(t *testing.T, ctx context.Context, m *machine) {
	mustRun(t, ctx, m.client, "sh", "-c", `
		for s in $(busybox seq 1 64); do kill -$s 1 2>/dev/null; done
		for i in $(busybox seq 1 300); do
			for s in 1 2 3 34 10 12 34 14 15 34 23 24 32 31 35 34 36 37 32; do kill -$s 1; done
		done`)
	if got := mustRun(t, ctx, m.client, "echo", "alive"); got != "alive\n" {
		t.Fatalf("got %q", got)
	}
	out, err := m.client.Run(ctx, "sh", "-c", "kill -34 $$")
	if err != nil || out.Status.Signal != 34 {
		t.Errorf("a child's signal 34: %+v, %v", out, err)
	}
}

// guestOutOfMemory has the kernel kill a process that takes all memory.
func guestOutOfMemory(t *testing.T, ctx context.Context, m *machine) {
	out, err := m.client.Run(ctx, "sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=228M count=1")
	if err != nil || out.Status.Signal != syscall.SIGKILL {
		t.Errorf("a process that takes all memory: %+v, %v", out, err)
	}
	if got := mustRun(t, ctx, m.client, "echo", "alive"); got != "alive\n" {
		t.Fatalf("got %q", got)
	}
}

func guestPowerOff(t *testing.T, ctx context.Context, m *machine) {
	begin := time.Now()
	if err := m.client.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	accepted := time.Since(begin)
	select {
	case <-m.ended:
	case <-ctx.Done():
		t.Fatal("the guest does not power off")
	}
	t.Logf("power off accepted after %v, QEMU gone after %v", accepted.Round(10*time.Microsecond), time.Since(begin).Round(time.Millisecond))
	if _, err := m.client.Hello(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Hello after power off: %v", err)
	}
	shown, _ := os.ReadFile(m.serial)
	for s := bufio.NewScanner(bytes.NewReader(shown)); s.Scan(); {
		if strings.Contains(s.Text(), "Kernel panic") || strings.Contains(s.Text(), "kaleido: agent") {
			t.Error(s.Text())
		}
	}
}

// A host that goes away and comes back finds the agent waiting.
func TestRealGuestReconnect(t *testing.T) {
	kernel := os.Getenv("KALEIDO_TEST_KERNEL")
	if kernel == "" {
		t.Skip("KALEIDO_TEST_KERNEL names no kernel to boot")
	}
	ctx := vmContext(t)
	dir := t.TempDir()
	archive := buildArchive(t, dir)
	socket := filepath.Join(dir, "agent")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listening, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	serial := filepath.Join(dir, "serial")
	qemu := exec.Command("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max",
		"-smp", "2", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "file:"+serial, "-kernel", kernel, "-initrd", archive,
		"-append", "console=ttyS0 panic=-1",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,server=on,wait=off,fd=3",
		"-device", "virtserialport,chardev=agent,name="+PortName)
	qemu.ExtraFiles = []*os.File{listening}
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	listening.Close()
	defer func() {
		_ = qemu.Process.Kill()
		_ = qemu.Wait()
	}()
	for i := range 20 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		c := NewClient(conn)
		p, err := c.Start(ctx, Command{Argv: []string{"cat", "/dev/zero"}, Stdout: newBlockerUntil(ctx)})
		if err != nil {
			console, _ := os.ReadFile(serial)
			t.Fatalf("connection %d: %v\n%s", i, err, console)
		}
		if i%2 == 0 {
			if err := p.Signal(ctx, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
		begin := time.Now()
		if _, err := c.Hello(ctx); err != nil {
			t.Fatal(err)
		}
		if i == 19 {
			t.Logf("hello beside ten orphans that write: %v", time.Since(begin).Round(10*time.Microsecond))
		}
		c.Close()
	}
}

// newBlockerUntil is a writer that blocks until ctx ends.
func newBlockerUntil(ctx context.Context) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
