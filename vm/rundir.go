package vm

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"mvdan.cc/sh/v3/syntax"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// Names of the files of a run.
const (
	ConsoleLog   = "console.log"   // every byte of the serial console
	KmsgLog      = "kmsg.log"      // the agent's /dev/kmsg records as they came
	DmesgJSON    = "dmesg.jsonl"   // the kernel log, a record a line
	DmesgText    = "dmesg.txt"     // the same as dmesg(1) prints it
	QEMUCommand  = "qemu.cmd"      // a shell script that boots the guest by hand
	KernelConfig = "kernel.config" // the kernel's .config
	ResultJSON   = "result.json"   // what became of the run
	SplatText    = "splat.txt"     // what the kernel complained of, explained
	MemoryDump   = "memory.elf"    // the guest's memory, if it was kept; see Instance.Dump
)

// ErrNoRun is wrapped by LatestRun's error when nothing has been run yet.
var ErrNoRun = errors.New("nothing has been run here yet")

// RunDir is the directory of one run, .kaleido/runs/<time>-<id> in some working
// directory.
type RunDir struct {
	Path string // absolute
}

// runsDir is where a working directory's runs are.
func runsDir(dir string) string { return filepath.Join(dir, ".kaleido", "runs") }

// NewRunDir makes the directory of a new run in the working directory dir, for
// our eyes only, and points the link "latest" to it. Any number of runs may
// begin at once; latest is then one of them.
func NewRunDir(dir string) (*RunDir, error) {
	runs, err := filepath.Abs(runsDir(dir))
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if err := os.MkdirAll(runs, 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	var id [4]byte
	rand.Read(id[:]) // never fails
	name := time.Now().Format("20060102-150405") + "-" + hex.EncodeToString(id[:])
	path := filepath.Join(runs, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if err := renameio.Symlink(name, filepath.Join(runs, "latest")); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	return &RunDir{Path: path}, nil
}

// LatestRun is the directory of the last run in the working directory dir. The
// error wraps ErrNoRun when there is none.
func LatestRun(dir string) (*RunDir, error) {
	link := filepath.Join(runsDir(dir), "latest")
	path, err := filepath.EvalSymlinks(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("latest run: %w: no %s", ErrNoRun, link)
	}
	if err != nil {
		return nil, fmt.Errorf("latest run: %w", err)
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("latest run: %w", err)
	}
	return &RunDir{Path: path}, nil
}

// File is the path of a file of this run.
func (r *RunDir) File(name string) string { return filepath.Join(r.Path, name) }

// CopyConfig keeps the kernel's .config with the run.
func (r *RunDir) CopyConfig(config string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return fmt.Errorf("keep kernel config: %w", err)
	}
	return r.Write(KernelConfig, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// WriteDmesg writes the kernel log as JSON lines and as text.
func (r *RunDir) WriteDmesg(records []dmesg.Record) error {
	err := r.Write(DmesgJSON, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for i := range records {
			if err := enc.Encode(&records[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.Write(DmesgText, func(w io.Writer) error {
		for i := range records {
			if _, err := fmt.Fprintln(w, records[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// WriteResult writes what became of the run, as JSON.
func (r *RunDir) WriteResult(result any) error {
	return r.Write(ResultJSON, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(result)
	})
}

// ReadResult reads what WriteResult wrote.
func (r *RunDir) ReadResult(result any) error {
	text, err := os.ReadFile(r.File(ResultJSON))
	if err != nil {
		return fmt.Errorf("result of run: %w", err)
	}
	if err := json.Unmarshal(text, result); err != nil {
		return fmt.Errorf("read %s: %w", r.File(ResultJSON), err)
	}
	return nil
}

// ReadDmesg reads the records WriteDmesg wrote, or of a run that has not ended, or
// was killed, those that the agent has streamed.
func (r *RunDir) ReadDmesg() ([]dmesg.Record, error) {
	f, err := os.Open(r.File(DmesgJSON))
	if errors.Is(err, fs.ErrNotExist) {
		if records, kmsgErr := r.readKmsgLog(); kmsgErr == nil {
			return records, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("kernel log of run: %w", err)
	}
	defer f.Close()
	var records []dmesg.Record
	dec := json.NewDecoder(bufio.NewReader(f))
	for {
		var rec dmesg.Record
		err := dec.Decode(&rec)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		records = append(records, rec)
	}
}

func (r *RunDir) readKmsgLog() ([]dmesg.Record, error) {
	f, err := os.Open(r.File(KmsgLog))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readKmsg(f)
}

// Write writes a file of the run; it is there whole or not at all.
func (r *RunDir) Write(name string, fill func(io.Writer) error) error {
	f, err := renameio.NewPendingFile(r.File(name), renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write %s: %w", r.File(name), err)
	}
	defer f.Cleanup()
	w := bufio.NewWriter(f)
	err = fill(w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", r.File(name), err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", r.File(name), err)
	}
	return nil
}

// writeCommand writes qemu.cmd: a script that boots the same guest by hand, and
// for the record what was really run.
func (r *RunDir) writeCommand(argv, byHand []string) error {
	ran := strings.ReplaceAll(ShellQuote(argv), "\n", "\n# ")
	return r.Write(QEMUCommand, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "#!/bin/sh\n# kaleido ran, with file descriptors of its own:\n# %s\n"+
			"# The same guest by hand, on this terminal (Ctrl-C ends it):\nexec %s\n", ran, ShellQuote(byHand))
		return err
	})
}

// ShellQuote writes a command so that a POSIX shell reads the same words again.
func ShellQuote(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		q, err := syntax.Quote(a, syntax.LangPOSIX)
		if err != nil { // it has no word for control characters, which may stand between quotes
			q = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words[i] = q
	}
	return strings.Join(words, " ")
}
