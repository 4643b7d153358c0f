package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

func TestRunDirs(t *testing.T) {
	dir := t.TempDir()
	if _, err := LatestRun(dir); !errors.Is(err, ErrNoRun) {
		t.Errorf("LatestRun() = %v, want ErrNoRun", err)
	}
	var mu sync.Mutex
	paths := make(map[string]bool)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r, err := NewRunDir(dir)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			paths[r.Path] = true
		})
	}
	wg.Wait()
	if len(paths) != 20 {
		t.Errorf("%d directories, want 20", len(paths))
	}
	latest, err := LatestRun(dir)
	if err != nil || !paths[latest.Path] {
		t.Errorf("LatestRun() = %v, %v; want one of them", latest, err)
	}
	last, err := NewRunDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if latest, err = LatestRun(dir); err != nil || latest.Path != last.Path {
		t.Errorf("LatestRun() = %v, %v; want %s", latest, err, last.Path)
	}
	st, err := os.Stat(last.Path)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700", st.Mode(), err)
	}
}

func TestRunDirThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := NewRunDir(file)
	if err == nil || !strings.HasPrefix(err.Error(), "run directory: ") || !strings.Contains(err.Error(), file) {
		t.Errorf("NewRunDir() = %v", err)
	}
}

func TestRunDirFiles(t *testing.T) {
	r, err := NewRunDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	records := []dmesg.Record{
		{HasSeq: true, Seq: 7, Time: 1500 * time.Millisecond, Level: 6, Caller: "T1", Text: "hello: one\ntwo"},
		{Time: dmesg.NoTime, Level: dmesg.Unknown, Facility: dmesg.Unknown, Text: "bare"},
	}
	if err := r.WriteDmesg(records); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.File(DmesgText))
	if want := "[    1.500000] hello: one\n[    1.500000] two\nbare\n"; err != nil || string(text) != want {
		t.Errorf("%s = %q, %v; want %q", DmesgText, text, err, want)
	}
	got, err := r.ReadDmesg()
	if err != nil || !reflect.DeepEqual(got, records) {
		t.Errorf("ReadDmesg() = %+v, %v; want %+v", got, err, records)
	}
	if err := os.WriteFile(r.File(DmesgJSON), []byte(`{"text": "whole"}`+"\n"+`{"te`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadDmesg(); err == nil {
		t.Error("a torn file was read without an error")
	}
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte("CONFIG_SMP=y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.CopyConfig(config); err != nil {
		t.Error(err)
	}
	if err := r.CopyConfig(config + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("CopyConfig of nothing = %v", err)
	}
	if _, err := os.Stat(r.File(KernelConfig)); err != nil {
		t.Error(err)
	}
}

func TestQEMUCommandRuns(t *testing.T) {
	r, err := NewRunDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{"/bin/echo", "a b", "it's", `$HOME "quoted"`, "", "-append", "x=1 y", "line\nline'\x01", "\xff"}
	if err := r.writeCommand([]string{"qemu", "two\nlines"}, argv); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/bin/sh", r.File(QEMUCommand)).CombinedOutput()
	if want := strings.Join(argv[1:], " ") + "\n"; err != nil || string(out) != want {
		t.Errorf("the script says %q, %v; want %q", out, err, want)
	}
}

func TestReadKmsg(t *testing.T) {
	k, err := newKmsgLog(filepath.Join(t.TempDir(), KmsgLog))
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	k.add("6,0,0,-,caller=T0;Linux version\n")
	k.add("4,1,10,-;pci 0000:00:01.0: BAR 4\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n")
	k.add("12,2,20,-;a\\x0ab")
	got, err := k.records()
	if err != nil || len(got) != 3 || got[1].Dev.Subsystem != "pci" || got[2].Text != "a\nb" {
		t.Errorf("records() = %+v, %v", got, err)
	}
	// One that is too long to be looked at as a whole.
	text := strings.Repeat("x", 1000)
	for seq := 3; seq < 20_000; seq++ {
		k.add(fmt.Sprintf("6,%d,0,-;%s\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n", seq, text))
	}
	got, err = k.records()
	if err != nil || len(got) < 15_000 || len(got) > 16_500 || got[0].Seq != 0 || got[len(got)-1].Seq != 19_999 {
		t.Errorf("%d records of a long log, the last is %d: %v", len(got), got[len(got)-1].Seq, err)
	}
	var notes []string
	m := &Instance{dir: RunDir{filepath.Dir(k.file.Name())}, cfg: Config{Note: func(line string) { notes = append(notes, line) }}}
	if m.noteLong(); len(notes) != 1 || !strings.Contains(notes[0], KmsgLog) {
		t.Errorf("notes of a long log: %q", notes)
	}
	half := "6,3,30,-;whole\n6,4,40,-;ha"
	if got, err := readKmsg(strings.NewReader(half)); err != nil || len(got) != 1 {
		t.Errorf("readKmsg(%q) = %+v, %v; want the whole record", half, got, err)
	}
	if _, err := readKmsg(strings.NewReader("rubbish\n")); err == nil {
		t.Error("rubbish is a record")
	}
}
