package guest

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func setClock(ns int64) error {
	ts := unix.NsecToTimespec(ns)
	return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
}

// addEntropy credits data in full and has the generator use it at once: see
// random(4) and drivers/char/random.c.
func addEntropy(data []byte) error {
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// struct rand_pool_info { int entropy_count; int buf_size; __u32 buf[]; }
	info := binary.NativeEndian.AppendUint32(nil, uint32(8*len(data)))
	info = binary.NativeEndian.AppendUint32(info, uint32(len(data)))
	info = append(info, data...)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0])))
	runtime.KeepAlive(info)
	if errno != 0 {
		return errno
	}
	const RNDRESEEDCRNG = 0x5207 // uapi/linux/random.h: _IO('R', 7)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), RNDRESEEDCRNG, 0); errno != 0 {
		return errno
	}
	return nil
}

// end replies and then ends the machine. It returns only if that failed.
func (st *agentStream) end(how int) error {
	unix.Sync()
	b, err := jsonFrame(typeReply, st.id, reply{})
	if err != nil {
		return err
	}
	_ = st.link.flush(st.link.session, b) // nobody there is no reason to stay
	return syscall.Reboot(how)
}
