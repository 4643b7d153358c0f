package guest

import "golang.org/x/sys/unix"

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
