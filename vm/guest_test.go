package vm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// guestConfig is the test kernel with the agent's initramfs.
func guestConfig(t *testing.T) vm.Config {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a guest")
	}
	env := func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			t.Skipf("needs a kernel to boot: %s is not set", name)
		}
		return value
	}
	return vm.Config{
		Kernel:    env("KALEIDO_TEST_KERNEL"),
		Initrd:    env("KALEIDO_TEST_INITRD"),
		SystemMap: env("KALEIDO_TEST_SYSTEMMAP"),
		Accel:     vm.AccelTCG,
		Dir:       t.TempDir(),
		Note:      func(line string) { t.Log("note:", line) },
	}
}

// boot starts a guest that ends with the test.
func boot(t *testing.T, cfg vm.Config) *vm.Instance {
	t.Helper()
	m, err := vm.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pid := m.PID()
		if err := m.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("QEMU %d outlives Close", pid)
		}
	})
	return m
}

// sh runs a script in the guest and returns what it wrote.
func sh(t *testing.T, m *vm.Instance, script string) string {
	t.Helper()
	out, err := m.Agent().Run(t.Context(), "sh", "-c", script)
	if err != nil {
		t.Fatalf("sh -c %.100q: %v", script, err)
	}
	return string(out.Stdout)
}

// wait waits for the guest's end.
func wait(t *testing.T, m *vm.Instance, want vm.Reason) vm.End {
	t.Helper()
	select {
	case <-m.Ended():
	case <-time.After(30 * time.Second):
		t.Fatalf("guest has not ended; want %q. console:\n%s", want, m.ConsoleTail())
	}
	end, err := m.Wait(t.Context())
	if err != nil || end.Reason != want {
		t.Fatalf("Wait() = %v, %v; want %q", end, err, want)
	}
	return end
}

// program is a static x86-64 ELF executable that consists of code.
func program(code []byte) []byte {
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(code))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, field := range []any{
		uint16(2), uint16(62), uint32(1), uint64(base + headers), uint64(64), uint64(0), // EXEC, x86-64, entry, program headers
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(4096), // LOAD, r-x
	} {
		if err := binary.Write(&b, binary.LittleEndian, field); err != nil {
			panic(err)
		}
	}
	return append(b.Bytes(), code...)
}

var (
	// sleeper calls pause(2) for ever.
	sleeper = program([]byte{
		0xb8, 34, 0, 0, 0, // mov eax, pause
		0x0f, 0x05, //        syscall
		0xeb, 0xf7, //        jmp to the start
	})

	// rebooter calls reboot(2) with RESTART.
	rebooter = program([]byte{
		0xbf, 0xad, 0xde, 0xe1, 0xfe, // mov edi, LINUX_REBOOT_MAGIC1
		0xbe, 0x69, 0x19, 0x12, 0x28, // mov esi, LINUX_REBOOT_MAGIC2
		0xba, 0x67, 0x45, 0x23, 0x01, // mov edx, LINUX_REBOOT_CMD_RESTART
		0xb8, 169, 0, 0, 0, //           mov eax, reboot
		0x0f, 0x05, //                   syscall
		0xeb, 0xfe, //                   jmp to itself
	})
)

// initrd is an archive with one file.
func initrd(t *testing.T, name string, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | 0o755, Size: int64(len(data))})
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "initrd.cpio")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// notes collects what Config.Note is told.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprint(n.lines)
}
