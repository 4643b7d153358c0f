package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// kmsgLog keeps the records of the guest's /dev/kmsg as they come, in a file in
// the device's own format: memory would have no bound.
type kmsgLog struct {
	mu   sync.Mutex
	file *os.File
	err  error // the first error of a write
}

func newKmsgLog(name string) (*kmsgLog, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	markWritten(f)
	return &kmsgLog{file: f}, nil
}

// add appends a record, which may have continuation lines.
func (k *kmsgLog) add(record string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		_, k.err = k.file.WriteString(strings.TrimSuffix(record, "\n") + "\n")
	}
}

// records reads what came so far.
func (k *kmsgLog) records() ([]dmesg.Record, error) {
	k.mu.Lock()
	st, err := k.file.Stat()
	err = errors.Join(k.err, err)
	k.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("kernel log of the agent: %w", err)
	}
	text, err := ends(k.file, st.Size())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", k.file.Name(), err)
	}
	records, err := readKmsg(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", k.file.Name(), err)
	}
	return records, nil
}

func (k *kmsgLog) close() { k.file.Close() }

// readKmsg parses records in the format of /dev/kmsg: a line each, with lines
// that begin with a space continuing it.
func readKmsg(r io.Reader) ([]dmesg.Record, error) {
	var records []dmesg.Record
	var record strings.Builder
	flush := func() error {
		if record.Len() == 0 {
			return nil
		}
		rec, err := dmesg.ParseKmsg(record.String())
		record.Reset()
		records = append(records, rec)
		return err
	}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if last := errors.Is(err, io.EOF); last || !strings.HasPrefix(line, " ") {
			if err := flush(); err != nil {
				return nil, err
			}
			if last {
				return records, nil // what has no newline yet is still being written
			}
		}
		record.WriteString(line)
	}
}
