package vm_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm"
)

// guestConfig is the test kernel, with the agent's initramfs.
func guestConfig(t *testing.T) vm.Config {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a guest")
	}
	cfg := vm.Config{
		Kernel:    os.Getenv("KALEIDO_TEST_KERNEL"),
		Initrd:    os.Getenv("KALEIDO_TEST_INITRD"),
		SystemMap: os.Getenv("KALEIDO_TEST_SYSTEMMAP"),
		Accel:     vm.AccelTCG,
		Dir:       t.TempDir(),
		Note:      func(line string) { t.Log("note:", line) },
	}
	for name, value := range map[string]string{
		"KALEIDO_TEST_KERNEL": cfg.Kernel, "KALEIDO_TEST_INITRD": cfg.Initrd, "KALEIDO_TEST_SYSTEMMAP": cfg.SystemMap,
	} {
		if value == "" {
			t.Skipf("needs a kernel to boot: %s is not set", name)
		}
	}
	return cfg
}

func TestPanicBeforeInit(t *testing.T) {
	cfg := guestConfig(t)
	cfg.Initrd = ""
	start := time.Now()
	m, err := vm.Start(t.Context(), cfg)
	var boot *vm.BootError
	if !errors.As(err, &boot) {
		t.Fatalf("Start() = %v, %v; want a *BootError", m, err)
	}
	if boot.Reason != vm.Panicked || !strings.Contains(boot.Error(), "No working init found") {
		t.Errorf("Start() = %v", boot)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("noticed after %v: by a timeout, not by the event", took)
	}
	if !strings.Contains(boot.Registers, "RIP=") {
		t.Errorf("registers = %q", boot.Registers)
	}
	t.Logf("after %v: %v; %d records, %d bytes of console", time.Since(start), err, len(boot.Records), len(boot.Console))
	for _, r := range boot.Records[max(0, len(boot.Records)-4):] {
		t.Logf("%d %v", r.Seq, r)
	}
}
