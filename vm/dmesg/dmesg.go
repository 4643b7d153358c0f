// Package dmesg reads the kernel log as records, from /dev/kmsg, from the text of a serial console
// and from the printk ring buffer in a guest's memory; merges the three; and says what a splat is.
//
// The package is pure: it opens nothing, runs nothing, prints nothing. It works as well on a log
// saved long ago ([ParseConsole]) as on a guest that just died ([ReadRing]).
package dmesg

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Unknown is the Level or Facility of a record whose source does not tell it, as console text does not.
const Unknown = -1

// NoTime is the Time of a record whose source has no time stamp.
const NoTime time.Duration = -1

// Source says where a record was read. It settles which of two readings of one record is the more
// exact, and tells a record the kernel vouches for from mere text. It does not travel in JSON.
type Source uint8

// The sources, from the one that tells least to the one that tells most.
const (
	// SourceUnknown is a record that was made by hand or came back from JSON.
	SourceUnknown Source = iota
	// SourceConsole is console text: no sequence number, usually no level, time in microseconds.
	SourceConsole
	// SourceKmsg is /dev/kmsg: everything, time in microseconds.
	SourceKmsg
	// SourceRing is the printk ring in memory: everything, time in nanoseconds.
	SourceRing
)

// Dev names the device a record is about; both fields are empty if it is about none. The words are
// the kernel's: Documentation/ABI/testing/dev-kmsg.
type Dev struct {
	Subsystem string `json:"subsystem,omitempty"`
	Device    string `json:"device,omitempty"` // "+pci:0000:00:01.0", "b12:8", "c127:3", "n8"
}

// Record is one entry of the kernel log.
type Record struct {
	Seq      uint64        // the kernel's number of the record, if HasSeq
	HasSeq   bool          // false for a record seen only on a console
	Time     time.Duration // since boot, NoTime if unknown; only the ring has it finer than a microsecond
	Level    int           // 0 (emerg) to 7 (debug), or Unknown
	Facility int           // syslog's: 0 is the kernel itself, 1 and up came in through /dev/kmsg; or Unknown
	Caller   string        // "T61" thread 61, "C0" processor 0 in interrupt context; empty if unknown
	Text     string        // without the final newline; may have newlines within, and need not be UTF-8
	Dev      Dev
	Cont     bool   // a piece of a line that the kernel could not join to the piece before it
	Source   Source // which source this reading came from
}

// Lines returns the lines of the record's text, at least one.
func (r Record) Lines() []string { return strings.Split(r.Text, "\n") }

// FirstLine returns the first line of the record's text.
func (r Record) FirstLine() string {
	line, _, _ := strings.Cut(r.Text, "\n")
	return line
}

// String returns the record as dmesg(1) prints it, "[    1.234567] text", each line of a multi-line
// record with the same prefix, as the kernel's console does. Without a time there is no prefix.
func (r Record) String() string {
	if r.Time < 0 {
		return r.Text
	}
	prefix := formatTime(r.Time)
	return prefix + strings.ReplaceAll(r.Text, "\n", "\n"+prefix)
}

func formatTime(t time.Duration) string {
	return fmt.Sprintf("[%5d.%06d] ", t/time.Second, t%time.Second/time.Microsecond)
}

// wireRecord is Record in JSON: what is unknown is absent.
type wireRecord struct {
	Seq      *uint64 `json:"seq,omitempty"`
	TimeNS   *int64  `json:"ts_ns,omitempty"`
	Level    *int    `json:"level,omitempty"`
	Facility *int    `json:"facility,omitempty"`
	Caller   string  `json:"caller,omitempty"`
	Text     string  `json:"text"`
	Dev      *Dev    `json:"dev,omitempty"`
	Cont     bool    `json:"cont,omitempty"`
}

// MarshalJSON writes seq, ts_ns, level, facility, caller, text, dev and cont; what is unknown is absent.
// Bytes of the text that are not UTF-8 become U+FFFD, as encoding/json does it.
func (r Record) MarshalJSON() ([]byte, error) {
	w := wireRecord{Caller: r.Caller, Text: r.Text, Cont: r.Cont}
	if r.HasSeq {
		w.Seq = &r.Seq
	}
	if r.Time >= 0 {
		ns := r.Time.Nanoseconds()
		w.TimeNS = &ns
	}
	if r.Level >= 0 {
		w.Level = &r.Level
	}
	if r.Facility >= 0 {
		w.Facility = &r.Facility
	}
	if r.Dev != (Dev{}) {
		w.Dev = &r.Dev
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON wrote. The source is not in it and becomes SourceUnknown.
func (r *Record) UnmarshalJSON(data []byte) error {
	var w wireRecord
	if err := json.Unmarshal(data, &w); err != nil {
		return fmt.Errorf("parse record: %w", err)
	}
	*r = Record{Time: NoTime, Level: Unknown, Facility: Unknown, Caller: w.Caller, Text: w.Text, Cont: w.Cont}
	if w.Seq != nil {
		r.Seq, r.HasSeq = *w.Seq, true
	}
	if w.TimeNS != nil {
		r.Time = time.Duration(*w.TimeNS)
	}
	if w.Level != nil {
		r.Level = *w.Level
	}
	if w.Facility != nil {
		r.Facility = *w.Facility
	}
	if w.Dev != nil {
		r.Dev = *w.Dev
	}
	return nil
}
