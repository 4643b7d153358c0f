package dmesg

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestRecordString(t *testing.T) {
	for _, test := range []struct {
		rec  Record
		want string
	}{
		{Record{Time: 1234567890, Text: "text"}, "[    1.234567] text"},
		{Record{Time: 123456*time.Second + 1, Text: "late"}, "[123456.000000] late"},
		{Record{Time: time.Microsecond, Text: "a\nb"}, "[    0.000001] a\n[    0.000001] b"},
		{Record{Time: NoTime, Text: "no time"}, "no time"},
	} {
		if got := test.rec.String(); got != test.want {
			t.Errorf("String() = %q, want %q", got, test.want)
		}
	}
}

func TestRecordJSON(t *testing.T) {
	for _, test := range []struct {
		rec  Record
		want string
	}{
		{
			Record{Seq: 0, HasSeq: true, Time: 1018819001, Level: 0, Facility: 0, Caller: "T32", Text: "a\nb",
				Dev: Dev{"pci", "+pci:0000:00:01.0"}, Cont: true},
			`{"seq":0,"ts_ns":1018819001,"level":0,"facility":0,"caller":"T32","text":"a\nb",` +
				`"dev":{"subsystem":"pci","device":"+pci:0000:00:01.0"},"cont":true}`,
		},
		{Record{Time: NoTime, Level: Unknown, Facility: Unknown, Text: "x"}, `{"text":"x"}`},
	} {
		got, err := json.Marshal(test.rec)
		if err != nil || string(got) != test.want {
			t.Errorf("Marshal(%+v) = %s, %v, want %s", test.rec, got, err, test.want)
		}
		var back Record
		if err := json.Unmarshal(got, &back); err != nil || back != test.rec {
			t.Errorf("Unmarshal(%s) = %+v, %v, want %+v", got, back, err, test.rec)
		}
	}
	if err := json.Unmarshal([]byte(`{"seq":-1}`), new(Record)); err == nil {
		t.Error("Unmarshal of a negative sequence number: no error")
	}
}

func TestParseLevels(t *testing.T) {
	for _, test := range []struct{ list, want string }{
		{"warn", "warn"},
		{"err,warn", "err,warn"},
		{" Err , WARN ", "err,warn"},
		{"warn+", "emerg,alert,crit,err,warn"},
		{"emerg+", "emerg"},
		{"debug+", "emerg,alert,crit,err,warn,notice,info,debug"},
		{"+notice", "notice,info,debug"},
		{"+err+", "emerg,alert,crit,err,warn,notice,info,debug"},
		{"crit+,debug", "emerg,alert,crit,debug"},
	} {
		got, err := ParseLevels(test.list)
		if err != nil || got.String() != test.want {
			t.Errorf("ParseLevels(%q) = %q, %v, want %q", test.list, got, err, test.want)
		}
	}
	for _, list := range []string{"", "warning", "warn,", "4", "+", "warn++"} {
		if got, err := ParseLevels(list); err == nil || !strings.Contains(err.Error(), "notice") {
			t.Errorf("ParseLevels(%q) = %q, %v, want an error that lists the names", list, got, err)
		}
	}
}

func TestLevelsHas(t *testing.T) {
	levels, err := ParseLevels("warn+")
	if err != nil {
		t.Fatal(err)
	}
	for level, want := range map[int]bool{3: true, 4: true, 6: false, Unknown: true} {
		if got := levels.Has(level); got != want {
			t.Errorf("warn+ has %s: %v, want %v", LevelName(level), got, want)
		}
	}
	if Levels(0).Has(Unknown) {
		t.Error("the empty set has Unknown")
	}
}

func TestLevelName(t *testing.T) {
	for level, want := range map[int]string{0: "emerg", 4: "warn", 7: "debug", 8: "unknown", Unknown: "unknown"} {
		if got := LevelName(level); got != want {
			t.Errorf("LevelName(%d) = %q, want %q", level, got, want)
		}
	}
}

func TestParseTaint(t *testing.T) {
	if got := TaintLetters(4224); got != "DO" {
		t.Errorf("TaintLetters(4224) = %q, want DO", got)
	}
	if got := TaintLetters(1<<19 - 1); got != "PFSRMBUDAWCIOELKXTN" {
		t.Errorf("all letters = %q", got)
	}
	got := ParseTaint(1<<9 | 1<<40)
	if len(got) != 2 || got[0] != (Taint{9, "W", "kernel issued warning"}) || got[1].Letter != "?" || got[1].Bit != 40 {
		t.Errorf("ParseTaint = %+v", got)
	}
	if got := ParseTaint(0); got != nil {
		t.Errorf("ParseTaint(0) = %+v", got)
	}
	if got, want := TaintWords(1<<9|1<<40), "W (kernel issued warning), ? (unknown taint bit 40)"; got != want {
		t.Errorf("TaintWords = %q, want %q", got, want)
	}
}

func TestParseTaintLetters(t *testing.T) {
	for letters, want := range map[string]uint64{"": 0, "DO": 4224, "OD": 4224, "PFSRMBUDAWCIOELKXTN": 1<<19 - 1} {
		if got, err := ParseTaintLetters(letters); err != nil || got != want {
			t.Errorf("ParseTaintLetters(%q) = %#x, %v, want %#x", letters, got, err, want)
		}
	}
	if got, err := ParseTaintLetters("D?"); err == nil {
		t.Errorf("ParseTaintLetters(D?) = %#x, want an error", got)
	}
}
