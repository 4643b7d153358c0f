package guest

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// leaderVariable in the environment makes a process the leader of a console.
const leaderVariable = "KALEIDO_CONSOLE_LEADER"

// consoleLeader stands between the agent and a program on the console: when the
// leader of a session ends, the kernel hangs its terminal up and throws away
// what a serial line has not sent yet, which would be the program's last words.
// This leader waits for the program, then for the line, and ends as the program
// did. Its arguments are the program's file, then its own.
func consoleLeader(args []string) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	if err := os.Unsetenv(leaderVariable); err != nil || len(args) < 2 {
		os.Exit(127)
	}
	pid, err := syscall.ForkExec(args[0], args[1:], &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Foreground: true}, // of terminal 0
	})
	if err != nil {
		os.Stderr.WriteString(args[1] + ": " + errorText(err) + "\n")
		drain()
		os.Exit(127)
	}
	signal.Ignore(unix.SIGTTOU) // only now, as the program would inherit it: drain is a background process's
	go func() {
		for sig := range signals {
			_ = unix.Kill(pid, sig.(syscall.Signal))
		}
	}()
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	drain()
	if status.Signaled() {
		dieOf(status.Signal())
	}
	os.Exit(status.ExitStatus())
}

// drain waits until the terminal has sent all: tcdrain(3).
func drain() {
	_ = unix.IoctlSetInt(0, unix.TCSBRK, 1) // an error means that the terminal is no more
}

// openConsole opens the terminal for a process, in the state a shell expects.
func openConsole(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := sane(fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// sane does what "stty sane" does (termios(3)): the last program may have left
// the terminal raw.
func sane(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag = t.Iflag&^(unix.IGNBRK|unix.INLCR|unix.IGNCR|unix.IXOFF|unix.ISTRIP) | unix.BRKINT | unix.ICRNL | unix.IMAXBEL | unix.IXON
	t.Oflag = t.Oflag&^(unix.OCRNL|unix.ONOCR|unix.ONLRET) | unix.OPOST | unix.ONLCR
	t.Cflag |= unix.CREAD | unix.CLOCAL
	t.Lflag = t.Lflag&^(unix.ECHONL|unix.NOFLSH|unix.TOSTOP) |
		unix.ISIG | unix.ICANON | unix.IEXTEN | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE
	for i, c := range map[int]uint8{
		unix.VINTR: 3, unix.VQUIT: 28, unix.VERASE: 127, unix.VKILL: 21, unix.VEOF: 4,
		unix.VSTART: 17, unix.VSTOP: 19, unix.VSUSP: 26, unix.VREPRINT: 18,
		unix.VWERASE: 23, unix.VLNEXT: 22, unix.VMIN: 1, unix.VTIME: 0,
	} {
		t.Cc[i] = c
	}
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

func setWindowSize(name string, rows, cols uint16) error {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}
