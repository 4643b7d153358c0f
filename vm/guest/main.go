package guest

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Main is the guest's PID 1: it mounts what a Linux system needs, serves the host
// on the port called [PortName], reaps orphans, and never returns. Only what
// makes it impossible to go on ends the machine; /dev/kmsg then says what.
func Main() {
	defer func() {
		if p := recover(); p != nil {
			die("agent fault: " + panicText(p))
		}
	}()
	if os.Getenv(leaderVariable) != "" {
		consoleLeader(os.Args[1:])
	}
	if os.Getpid() != 1 {
		os.Stderr.WriteString("uinit: this is the agent of a kaleido guest, which runs as PID 1\n")
		os.Exit(1)
	}
	keepSignals()
	openStandardFiles()
	mountAll()
	setEnvironment()
	askAll()
	port := &port{}
	server := NewServer(port, ServerOptions{Init: true})
	for {
		port.open()
		if err := server.Serve(context.Background()); err != nil {
			complain("agent port: " + err.Error())
			port.Close()
		}
	}
}

// openStandardFiles makes sure that descriptors 0 to 2 are taken: a kernel that
// found no /dev/console leaves them free, and a file of ours would become the
// place where the Go runtime writes its last words.
func openStandardFiles() {
	for {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil || fd > 2 {
			unix.Close(fd)
			return
		}
	}
}

// A mountPoint is a file system to mount; what is mounted there already, and
// what the kernel was built without, is left out.
type mountPoint struct {
	fstype, dir string
	flags       uintptr
	data        string
}

const mountFlags = unix.MS_NOSUID | unix.MS_NODEV

var mountPoints = []mountPoint{
	{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
	{"sysfs", "/sys", mountFlags | unix.MS_NOEXEC, ""},
	{"proc", "/proc", mountFlags | unix.MS_NOEXEC, ""},
	{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5"},
	{"tmpfs", "/dev/shm", mountFlags, "mode=1777"},
	{"tmpfs", "/tmp", mountFlags, "mode=1777"},
	{"tmpfs", "/run", mountFlags, "mode=0755"},
	{"debugfs", "/sys/kernel/debug", mountFlags | unix.MS_NOEXEC, ""},
	{"tracefs", "/sys/kernel/tracing", mountFlags | unix.MS_NOEXEC, ""},
}

// MountedOver returns the directory that the agent mounts over a file of the initramfs with that
// name, which nobody sees then, or "".
func MountedOver(name string) string {
	name = path.Join("/", name)
	for _, m := range mountPoints {
		if name == m.dir || strings.HasPrefix(name, m.dir+"/") {
			return m.dir
		}
	}
	return ""
}

func mountAll() {
	for _, m := range mountPoints {
		if !strings.HasPrefix(m.dir, "/sys/") {
			_ = unix.Mkdir(m.dir, 0o755)
		}
		_ = unix.Mount(m.fstype, m.dir, m.fstype, m.flags, m.data)
	}
	for name, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	} {
		_ = unix.Symlink(target, name)
	}
}

// setEnvironment sets what programs inherit. Neither the oom score nor limits
// need care: the kernel never picks PID 1, and starts it with its defaults.
func setEnvironment() {
	const home = "/root"
	_ = unix.Mkdir(home, 0o700)
	for name, value := range map[string]string{
		"PATH": "/bbin:/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin", "HOME": home,
		"USER": "root", "TERM": "linux", "TMPDIR": "/tmp", "SHELL": "/bin/sh",
	} {
		os.Setenv(name, value)
	}
	_ = unix.Sethostname([]byte("kaleido"))
	unix.Umask(0o022)
}

// askAll has the kernel tell, along with an oops or a lockup, what all processors
// are doing. A kernel that cannot goes without.
func askAll() {
	for _, event := range []string{"oops", "softlockup", "hardlockup"} {
		_ = writeOnce("/proc/sys/kernel/"+event+"_all_cpu_backtrace", []byte("1"))
	}
}

// A port is the virtio-serial port. It is used with blocking system calls only:
// a port that is polled as well, as Go does with files that allow it, loses
// wake-ups (github.com/lmb/vimto commit fc25e09).
type port struct{ *os.File }

// open opens the port, if it is not open, as soon as there is one.
func (p *port) open() {
	if p.File != nil {
		return
	}
	node := waitForPort()
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		die("open " + node + ": " + errorText(err))
	}
	p.File = os.NewFile(uintptr(fd), node) // blocking, so no poller
}

func (p *port) Close() error {
	err := p.File.Close()
	p.File = nil
	return err
}

// waitForPort returns the port's device node. The driver makes it while the
// kernel boots, in a work queue, so it is there already as a rule. If not, the
// node's creation is an inotify event on /dev, but its name comes a little
// later and without any event, so the wait is in steps.
func waitForPort() string {
	const step, patience = 5, 10 * time.Second
	if node := findPort(); node != "" {
		return node
	}
	var events []unix.PollFd
	if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
		defer unix.Close(fd)
		_, _ = unix.InotifyAddWatch(fd, "/dev", unix.IN_CREATE)
		events = append(events, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	begin := time.Now()
	for told := false; ; {
		if node := findPort(); node != "" {
			return node
		}
		if !told && time.Since(begin) > patience {
			complain("no virtio-serial port named " + PortName)
			told = true
		}
		if n, _ := unix.Poll(events, step); n > 0 {
			var event [4096]byte
			_, _ = unix.Read(int(events[0].Fd), event[:])
		}
	}
}

// findPort returns the port's node in /dev, "" if there is none yet.
func findPort() string {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, file := range names {
		name, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(name)) == PortName {
			return "/dev/" + filepath.Base(filepath.Dir(file))
		}
	}
	return ""
}

// complain writes to the kernel log, at level error.
func complain(text string) {
	fd, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Write(fd, []byte("<3>kaleido: "+text+"\n"))
}

// die ends a machine whose agent cannot work.
func die(text string) {
	complain(text)
	unix.Sync()
	_ = syscall.Reboot(unix.LINUX_REBOOT_CMD_HALT)
	select {}
}

func errorText(err error) string {
	if errno, ok := err.(syscall.Errno); ok {
		return errnoText(errno)
	}
	return err.Error()
}
