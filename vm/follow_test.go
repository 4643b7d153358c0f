package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// TestFollowDmesg is a log with its writer and a reader, to the run's end.
func TestFollowDmesg(t *testing.T) {
	dir := RunDir{Path: t.TempDir()}
	log, err := newKmsgLog(dir.File(KmsgLog))
	if err != nil {
		t.Fatal(err)
	}
	log.add("6,1,100,-;before")
	said := make(chan string, 8)
	done := make(chan error, 1)
	go func() {
		done <- dir.FollowDmesg(t.Context(), func(r dmesg.Record) error {
			said <- r.Text + r.Dev.Subsystem
			return nil
		})
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-said; got != want {
			t.Errorf("followed %q, want %q", got, want)
		}
	}
	expect("before")
	log.add("6,2,200,-;device \n SUBSYSTEM=pci\n DEVICE=+pci:0")
	expect("device pci")
	last := dmesg.Record{Seq: 3, HasSeq: true, Text: "last words"}
	if err := dir.WriteDmesg([]dmesg.Record{{Seq: 2, HasSeq: true, Text: "device "}, last, {Text: "on the console"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("FollowDmesg() = %v while the log is open", err)
	default:
	}
	log.close()
	expect("last words")
	expect("on the console")
	if err := <-done; err != nil {
		t.Errorf("FollowDmesg() = %v", err)
	}

	// Who comes too late gets all of it at once.
	var all []string
	if err := dir.FollowDmesg(t.Context(), func(r dmesg.Record) error {
		all = append(all, r.Text)
		return nil
	}); err != nil {
		t.Errorf("FollowDmesg() afterwards = %v", err)
	}
	if got, want := strings.Join(all, ","), "before,device ,last words,on the console"; got != want {
		t.Errorf("followed %q, want %q", got, want)
	}
}

// TestFollowEnds: a reader ends with its context, and has what was written before.
func TestFollowEnds(t *testing.T) {
	dir := RunDir{Path: t.TempDir()}
	f, err := os.Create(dir.File(ConsoleLog))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	markWritten(f)
	ctx, cancel := context.WithCancelCause(t.Context())
	first := make(chan struct{})
	var out strings.Builder
	done := make(chan error, 1)
	go func() {
		done <- dir.FollowConsole(ctx, writerFunc(func(p []byte) (int, error) {
			if out.Len() == 0 {
				close(first)
			}
			return out.Write(p)
		}))
	}()
	fmt.Fprint(f, "one ")
	<-first
	fmt.Fprint(f, "two")
	why := errors.New("enough")
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("FollowConsole() = %v, want %v", err, why)
	}
	if out.String() != "one two" {
		t.Errorf("followed %q", out.String())
	}
}

// TestFollowPolling follows a file to its writer's end without inotify.
func TestFollowPolling(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	markWritten(f)
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	fmt.Fprint(f, "one ")
	var out strings.Builder
	idle := 0
	err = followPolling(t.Context(), in, &out, func() error {
		if idle++; idle == 2 {
			fmt.Fprint(f, "two")
			f.Close()
		}
		return nil
	})
	if err != nil || out.String() != "one two" {
		t.Errorf("followed %q, %v", out.String(), err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestFollowTail: of a long console, its end from a whole line on.
func TestFollowTail(t *testing.T) {
	dir := RunDir{Path: t.TempDir()}
	text := strings.Repeat("0123456789\n", 10_000)
	if err := os.WriteFile(filepath.Join(dir.Path, ConsoleLog), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := dir.FollowConsole(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if out.Len() > pastConsole || out.Len() < pastConsole-20 || !strings.HasPrefix(out.String(), "0123456789\n0") {
		t.Errorf("%d bytes, beginning with %.20q", out.Len(), out.String())
	}
}
