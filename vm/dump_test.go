package vm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/iotest"
)

func TestCopySparse(t *testing.T) {
	const pages = 600 // more than are read at once
	data := make([]byte, pages*pageSize+100)
	data[3], data[5*pageSize], data[300*pageSize+1] = 1, 2, 3 // and zeros at the end
	for name, r := range map[string]io.Reader{"whole": bytes.NewReader(data), "in small pieces": iotest.HalfReader(bytes.NewReader(data))} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := copySparse(f, r); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(f.Name())
			if err != nil || !slices.Equal(got, data) {
				t.Errorf("%d bytes, %v; want the %d of the original", len(got), err, len(data))
			}
			var st syscall.Stat_t
			if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
				t.Fatal(err)
			}
			if used := st.Blocks * 512; used > 16*pageSize {
				t.Errorf("%d bytes on the disk for three pages", used)
			}
		})
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := copySparse(f, iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("copySparse() = %v, want the reader's error", err)
	}
}
