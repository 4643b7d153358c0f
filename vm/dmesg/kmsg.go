package dmesg

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseKmsg parses one record of /dev/kmsg: what one read(2) returns,
//
//	pri,seq,ts_us,flags[,caller=T1][,more...];text\n
//	 KEY=value\n
//
// with non-printable bytes as \xNN. Unknown fields and keys are passed over, as
// Documentation/ABI/testing/dev-kmsg asks. The time has microseconds only. A line that is not of this form is an error.
func ParseKmsg(line string) (Record, error) {
	head, body, ok := strings.Cut(line, ";")
	fields := strings.Split(head, ",")
	if !ok || len(fields) < 3 {
		return Record{}, fmt.Errorf("parse kmsg record %.60q: want pri,seq,time,flags;text", line)
	}
	r := Record{HasSeq: true, Source: SourceKmsg}
	if err := r.parseKmsgNumbers(fields); err != nil {
		return Record{}, fmt.Errorf("parse kmsg record %.60q: %w", line, err)
	}
	for _, f := range fields[3:] {
		if id, ok := strings.CutPrefix(f, "caller="); ok {
			r.Caller = id
		}
	}
	if len(fields) > 3 {
		r.Cont = strings.Contains(fields[3], "c") && !strings.Contains(fields[3], "=")
	}
	text, dict, _ := strings.Cut(body, "\n")
	r.Text = unescapeKmsg(text)
	r.Dev = parseKmsgDict(dict)
	return r, nil
}

func (r *Record) parseKmsgNumbers(fields []string) error {
	pri, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil {
		return fmt.Errorf("priority: %w", err)
	}
	r.Level, r.Facility = int(pri&7), int(pri>>3)
	if r.Seq, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return fmt.Errorf("sequence number: %w", err)
	}
	us, err := strconv.ParseUint(fields[2], 10, 64)
	if err != nil {
		return fmt.Errorf("time: %w", err)
	}
	if us > math.MaxInt64/1000 {
		return errors.New("time: out of range")
	}
	r.Time = time.Duration(us) * time.Microsecond
	return nil
}

func parseKmsgDict(dict string) Dev {
	var dev Dev
	for line := range strings.SplitSeq(dict, "\n") {
		key, value, _ := strings.Cut(strings.TrimPrefix(line, " "), "=")
		switch key {
		case "SUBSYSTEM":
			dev.Subsystem = unescapeKmsg(value)
		case "DEVICE":
			dev.Device = unescapeKmsg(value)
		}
	}
	return dev
}

// unescapeKmsg turns \xNN into the byte it stands for. The kernel escapes the backslash itself too,
// so any other backslash is not the kernel's and stays.
func unescapeKmsg(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\x`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		s = after
		if c, err := strconv.ParseUint(first(after, 2), 16, 8); err == nil && len(after) >= 2 {
			b.WriteByte(byte(c))
			s = after[2:]
		} else {
			b.WriteString(`\x`)
		}
	}
}

func first(s string, n int) string { return s[:min(n, len(s))] }
