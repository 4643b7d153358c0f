package dmesg

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
)

// How a log begins: as MarshalJSON writes it, and as /dev/kmsg gives it.
var (
	jsonHeadRE = regexp.MustCompile(`^\{"(?:seq|ts_ns|level|text)":`)
	kmsgHeadRE = regexp.MustCompile(`(?m)^\d+,\d+,\d+,[-c+][^;]*;`)
)

// ParseLog reads a saved log, whichever of these it is: JSON lines, one record each, as kaleido writes
// dmesg.jsonl; records as /dev/kmsg gives them; or text, as [ParseConsole] takes it. What it is, its
// beginning tells.
func ParseLog(r io.Reader) ([]Record, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, _ := in.Peek(4 << 10) // an error only means that there is less
	head = bytes.TrimLeft(head, " \t\r\n")
	switch {
	case jsonHeadRE.Match(head):
		return parseJSON(in)
	case kmsgHeadRE.Match(head):
		return parseKmsgLog(in)
	}
	return ParseConsole(in)
}

func parseJSON(r io.Reader) ([]Record, error) {
	var records []Record
	dec := json.NewDecoder(r)
	for {
		var rec Record
		err := dec.Decode(&rec)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return records, fmt.Errorf("read log of JSON lines: record %d: %w", len(records)+1, err)
		}
		records = append(records, rec)
	}
}

// parseKmsgLog parses records of /dev/kmsg, a line each; lines that begin with a blank continue it.
// A line that is no record is left out, as what another program wrote.
func parseKmsgLog(in *bufio.Reader) ([]Record, error) {
	var records []Record
	var record []byte
	flush := func() {
		if rec, err := ParseKmsg(string(record)); err == nil && len(record) > 0 {
			records = append(records, rec)
		}
		record = record[:0]
	}
	for {
		line, err := readLine(in)
		if len(line) > 0 {
			if line[0] != ' ' {
				flush()
			}
			record = append(append(record, line...), '\n')
		}
		if errors.Is(err, io.EOF) {
			flush()
			return records, nil
		}
		if err != nil {
			return records, fmt.Errorf("read log of kmsg records: %w", err)
		}
	}
}
