package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChooseAccelerator(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	device := write("kvm", "")
	intel := write("intel", "processor\t: 0\nflags\t\t: fpu vmx sse2\n")
	amd := write("amd", "processor\t: 0\nflags\t\t: fpu svm\nprocessor\t: 1\n")
	neither := write("neither", "model name\t: vmx svm\nflags\t\t: fpu vmxish\nvmx flags\t: ept\n")
	none := filepath.Join(dir, "none")
	kvm := choice{accel: AccelKVM, fallback: true}
	tests := []struct {
		name  string
		want  Accel
		probe Probe
		got   choice
		note  string
	}{
		{"intel", AccelAuto, Probe{device, intel}, kvm, ""},
		{"amd", AccelAuto, Probe{device, amd}, kvm, ""},
		{"no device", AccelAuto, Probe{none, intel}, choice{accel: AccelTCG}, "there is no " + none},
		{"device that does not open", AccelAuto, Probe{dir, intel}, choice{accel: AccelTCG}, "is a directory"},
		{"no extensions", AccelAuto, Probe{device, neither}, choice{accel: AccelTCG}, "neither vmx nor svm"},
		{"no cpuinfo", AccelAuto, Probe{device, none}, choice{accel: AccelTCG}, "no such file"},
		{"cpuinfo that does not read", AccelAuto, Probe{device, dir}, choice{accel: AccelTCG}, "is a directory"},
		{"forced kvm", AccelKVM, Probe{none, none}, choice{accel: AccelKVM}, ""},
		{"forced tcg", AccelTCG, Probe{device, intel}, choice{accel: AccelTCG}, ""},
	}
	for _, tt := range tests {
		got := tt.probe.choose(tt.want)
		note := got.note
		got.note = ""
		if got != tt.got || !strings.Contains(note, tt.note) || (note == "") != (tt.note == "") {
			t.Errorf("%s: choose(%s) = %+v, note %q; want %+v, %q", tt.name, tt.want, got, note, tt.got, tt.note)
		}
		if strings.Contains(note, "\n") {
			t.Errorf("%s: note %q is not one line", tt.name, note)
		}
	}
}
