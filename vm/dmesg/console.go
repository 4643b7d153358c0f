package dmesg

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxLine is the length from which on the rest of a line is dropped. The kernel's lines end below
// 1 KiB; what is longer is a program's output, and may have no end.
const maxLine = 1 << 20

// The prefixes of a line of the log (kernel/printk/printk.c, info_print_prefix; dmesg(1) -r, -x and -T).
var (
	stampRE    = regexp.MustCompile(`(?:<(\d{1,4})>)?\[( *\d{1,10}\.\d{6})\](?:\[ *([TC]\d{1,10})\])?(?: |$)`)
	bareRE     = regexp.MustCompile(`^(?:<(\d{1,4})>)?(?:\[ *([TC]\d{1,10})\] )?`)
	dateRE     = regexp.MustCompile(`^\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] `)
	decodedRE  = regexp.MustCompile(`^(\w+) *:(\w+) *: $`)
	escapeRE   = regexp.MustCompile("\x1b(?:\\[[0-9;?]*[@-~]|[@-Z\\\\-_a-z])")
	facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
		"authpriv", "ftp", "res0", "res1", "res2", "res3", "local0", "local1", "local2", "local3", "local4",
		"local5", "local6", "local7"}
)

// stampWidth is the least width of a stamp's seconds as the kernel prints them, "[%5lu.%06lu]".
const stampWidth = len("    0.000000")

// ParseConsole reads the log out of console text: what a serial console gave, or what dmesg(1) printed
// and somebody saved. It takes "[    1.234567] text", with or without "[    T1]" (PRINTK_CALLER) and
// "<6>", after whatever a program had left on the line, and passes over all that is no kernel line:
// firmware, shells, programs. A record of several lines is one record a line here, since the console
// gives each line its prefix and says nowhere what belongs together; [Merge] puts that right.
//
// If no line at all has a time stamp (printk.time=0, or a plain syslog), every line that is not empty is a record without
// a time. What a program prints in the kernel's form cannot be told from the kernel's words, except by Merge.
//
// Any bytes make some result; the only errors are those of r.
func ParseConsole(r io.Reader) ([]Record, error) {
	var stamped, bare []Record
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		raw, err := readLine(in)
		line := cleanLine(raw)
		if recs := stampedRecords(line); recs != nil {
			stamped, bare = append(stamped, recs...), nil
		} else if stamped == nil {
			bare = appendBare(bare, line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return stamped, fmt.Errorf("read console text: %w", err)
		}
	}
	if stamped == nil {
		return bare, nil
	}
	return stamped, nil
}

// readLine reads a line of any length, and returns at most maxLine bytes of it without its end.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part[:min(len(part), maxLine-len(line))]...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return string(bytes.TrimRight(line, "\r\n")), err
		}
	}
}

// cleanLine takes out what a console adds to text: terminal escapes, NULs, carriage returns at the end.
func cleanLine(s string) string {
	if strings.IndexByte(s, 0x1b) >= 0 {
		s = escapeRE.ReplaceAllString(s, "")
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return strings.TrimRight(s, "\r")
}

// stampedRecords returns the records of a line: none, one, or more where lines were torn and a record
// begins in the middle of another.
func stampedRecords(line string) []Record {
	if !strings.Contains(line, "]") {
		return nil
	}
	var recs []Record
	text := 0 // where the text of the last record begins
	for _, m := range stampRE.FindAllStringSubmatchIndex(line, -1) {
		rec, ok := stampRecord(line, m)
		if !ok {
			continue
		}
		if n := len(recs); n > 0 {
			last := &recs[n-1]
			if rec.Time < last.Time || (rec.Caller == "") != (last.Caller == "") {
				continue // a time that is part of the text
			}
			last.Text = line[text:m[0]]
		}
		recs, text = append(recs, rec), m[1]
	}
	if n := len(recs); n > 0 {
		recs[n-1].Text = line[text:]
	}
	return recs
}

// stampRecord makes a record, still without text, of a match of stampRE. In the middle of a line only
// the kernel's own form of a stamp counts.
func stampRecord(line string, m []int) (Record, bool) {
	rec := Record{Level: Unknown, Facility: Unknown, Source: SourceConsole}
	stamp := line[m[4]:m[5]]
	if m[0] > 0 && len(stamp) < stampWidth {
		return rec, false
	}
	sec, frac, _ := strings.Cut(strings.TrimLeft(stamp, " "), ".")
	s, err1 := strconv.ParseInt(sec, 10, 64)
	us, err2 := strconv.ParseInt(frac, 10, 64)
	if err1 != nil || err2 != nil || s > 9e9 { // 9e9 seconds still fit a Duration
		return rec, false
	}
	rec.Time = time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond
	if m[6] >= 0 {
		rec.Caller = line[m[6]:m[7]]
	}
	if m[2] >= 0 {
		rec.setPriority(line[m[2]:m[3]])
	} else if d := decodedRE.FindStringSubmatch(line[:m[0]]); d != nil {
		rec.setDecoded(d[1], d[2])
	}
	return rec, true
}

// setPriority takes the number of a "<6>".
func (r *Record) setPriority(s string) {
	if pri, err := strconv.Atoi(s); err == nil {
		r.Level, r.Facility = pri&7, pri>>3
	}
}

// setDecoded takes the words of dmesg -x, "kern  :info  : ".
func (r *Record) setDecoded(facility, level string) {
	r.Level = slices.Index(levelNames[:], level)
	r.Facility = slices.Index(facilities, facility)
}

// appendBare appends a line of a log without time stamps.
func appendBare(recs []Record, line string) []Record {
	line = line[len(dateRE.FindString(line)):]
	rec := Record{Time: NoTime, Level: Unknown, Facility: Unknown, Source: SourceConsole}
	m := bareRE.FindStringSubmatch(line)
	if m[1] != "" {
		rec.setPriority(m[1])
	}
	rec.Caller = m[2]
	if rec.Text = line[len(m[0]):]; strings.TrimSpace(rec.Text) == "" {
		return recs
	}
	return append(recs, rec)
}
