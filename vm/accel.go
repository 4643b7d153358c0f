package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Accel is who executes the guest's code.
type Accel string

const (
	// AccelAuto is KVM where it works and TCG elsewhere.
	AccelAuto Accel = "auto"
	// AccelKVM is the host's processor; it is an error where KVM does not work.
	AccelKVM Accel = "kvm"
	// AccelTCG is QEMU's own translator. It works everywhere, more slowly.
	AccelTCG Accel = "tcg"
)

func (a Accel) check() error {
	switch a {
	case AccelAuto, AccelKVM, AccelTCG:
		return nil
	}
	return fmt.Errorf("accelerator %q: must be auto, kvm or tcg", a)
}

// Probe is where to look for KVM.
type Probe struct {
	Device  string // the KVM device; defaults to /dev/kvm
	CPUInfo string // the processors' description; defaults to /proc/cpuinfo
}

// KVM says why KVM cannot be used, or nil if it is worth an attempt: the device
// opens for reading and writing, and the processor has the extensions for it.
// Neither alone is proof: there are hosts whose /dev/kvm opens and creates
// virtual processors that never execute an instruction.
func (p Probe) KVM() error {
	setDefault(&p.Device, "/dev/kvm")
	setDefault(&p.CPUInfo, "/proc/cpuinfo")
	dev, err := os.OpenFile(p.Device, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s", p.Device)
	case err != nil:
		return err
	}
	dev.Close() // nothing was written
	return p.extensions()
}

// extensions looks for the processor flags vmx (Intel) and svm (AMD).
func (p Probe) extensions() error {
	f, err := os.Open(p.CPUInfo)
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := hasVirtualization(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", p.CPUInfo, err)
	}
	if !found {
		return fmt.Errorf("%s opens, but the processor has neither vmx nor svm", p.Device)
	}
	return nil
}

// hasVirtualization looks for vmx or svm among the flags of /proc/cpuinfo.
func hasVirtualization(r io.Reader) (bool, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		for _, flag := range strings.Fields(value) {
			if flag == "vmx" || flag == "svm" {
				return true, nil
			}
		}
	}
	return false, lines.Err()
}

// choice is the accelerator to start with.
type choice struct {
	accel    Accel
	fallback bool   // when it shows no life, TCG is next
	note     string // why not KVM, if that was open
}

// choose picks the accelerator for a request.
func (p Probe) choose(want Accel) choice {
	if want != AccelAuto {
		return choice{accel: want}
	}
	if err := p.KVM(); err != nil {
		return choice{accel: AccelTCG, note: fmt.Sprintf("using TCG, not KVM: %v", err)}
	}
	return choice{accel: AccelKVM, fallback: true}
}
