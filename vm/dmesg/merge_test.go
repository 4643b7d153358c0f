package dmesg

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func fromRing(seq uint64, ns int64, text string) Record {
	return Record{Seq: seq, HasSeq: true, Time: time.Duration(ns), Caller: "T1", Level: 6, Text: text, Source: SourceRing}
}

func fromKmsg(seq uint64, us int64, text string) Record {
	return Record{Seq: seq, HasSeq: true, Time: time.Duration(us) * 1000, Caller: "T1", Level: 6, Text: text, Source: SourceKmsg}
}

func fromConsole(us int64, text string) Record {
	return Record{Time: time.Duration(us) * 1000, Level: Unknown, Facility: Unknown, Text: text, Source: SourceConsole}
}

func TestMerge(t *testing.T) {
	type recs = []Record
	for _, test := range []struct {
		name       string
		structured [][]Record
		console    []Record
		want       string
	}{
		{"nothing", nil, nil, ""},
		{"the finer time", [][]Record{{fromKmsg(1, 5, "a")}, {fromRing(1, 5678, "a"), fromRing(2, 6001, "b")}}, nil, "1@5678 a|2@6001 b"},
		{"either order", [][]Record{{fromRing(2, 6001, "b")}, {fromKmsg(2, 6, "b"), fromKmsg(1, 5, "a")}}, nil, "1@5000 a|2@6001 b"},
		{"a line that grew", [][]Record{{fromRing(1, 5678, "one")}, {fromKmsg(1, 5, "one two")}}, nil, "1@5678 one two"},
		{"a known console line", [][]Record{{fromRing(1, 5678, "a")}}, recs{fromConsole(5, "a")}, "1@5678 a"},
		{"many lines", [][]Record{{fromRing(1, 5678, "a\nb\n\nc")}}, recs{fromConsole(5, "a"), fromConsole(5, "b"), fromConsole(5, ""), fromConsole(5, "c")}, "1@5678 a\nb\n\nc"},
		{"a cut console line", [][]Record{{fromRing(1, 5678, "something long")}}, recs{fromConsole(5, "something l")}, "1@5678 something long"},
		{"a torn console line", [][]Record{{fromRing(1, 5678, "something long")}}, recs{fromConsole(5, "something long/ # ")}, "1@5678 something long"},
		{"control characters", [][]Record{{fromKmsg(1, 5, "a\x1b[31mb\r")}}, recs{fromConsole(5, "ab")}, "1@5000 a\x1b[31mb\r"},
		{"lost before anybody read it", [][]Record{{fromRing(7, 5000, "c")}}, recs{fromConsole(0, "a"), fromConsole(5, "b"), fromConsole(5, "c")}, "0 a|5000 b|7@5000 c"},
		{"lost in the middle", [][]Record{{fromKmsg(1, 1, "a"), fromKmsg(4, 4, "d")}}, recs{fromConsole(1, "a"), fromConsole(2, "b"), fromConsole(3, "c"), fromConsole(4, "d")},
			"1@1000 a|2000 b|3000 c|4@4000 d"},
		{"printed after the last read", [][]Record{{fromKmsg(1, 1, "a"), fromKmsg(2, 2, "b")}}, recs{fromConsole(1, "a"), fromConsole(9, "z")}, "1@1000 a|2@2000 b|9000 z"},
		{"a quiet console", [][]Record{{fromKmsg(1, 1, "a"), fromKmsg(2, 2, "b"), fromKmsg(3, 3, "c")}}, recs{fromConsole(2, "x")}, "1@1000 a|2000 x|2@2000 b|3@3000 c"},
		{"a quiet console, more than one before it", [][]Record{{fromKmsg(1, 1, "a"), fromKmsg(2, 2, "b"), fromKmsg(5, 5, "e")}}, recs{fromConsole(4, "x")}, "1@1000 a|2@2000 b|4000 x|5@5000 e"},
		{"the log printed by a program", [][]Record{{fromKmsg(1, 1, "a"), fromKmsg(2, 2, "b")}}, recs{fromConsole(1, "a"), fromConsole(2, "b"), fromConsole(1, "a"), fromConsole(2, "b")}, "1@1000 a|2@2000 b"},
		{"the same, the kernel's copy lost", nil, recs{fromConsole(1, "a"), fromConsole(2, "b"), fromConsole(1, "a"), fromConsole(2, "b")}, "1000 a|2000 b"},
		{"twice in one microsecond", nil, recs{fromConsole(0, "a"), fromConsole(0, "a")}, "0 a|0 a"},
		{"times out of order", [][]Record{{fromKmsg(1, 3, "a"), fromKmsg(2, 2, "b"), fromKmsg(3, 4, "c")}}, recs{fromConsole(3, "a"), fromConsole(2, "b"), fromConsole(4, "c")}, "1@3000 a|2@2000 b|3@4000 c"},
		{"no times", nil, recs{{Time: NoTime, Text: "x"}, {Time: NoTime, Text: "x"}}, "- x|- x"},
		{"no times after others", [][]Record{{fromKmsg(1, 1, "a")}}, recs{{Time: NoTime, Text: "x"}}, "- x|1@1000 a"},
	} {
		var got []string
		for _, r := range Merge(test.structured, test.console) {
			s := fmt.Sprintf("%d %s", r.Time, r.Text)
			if r.HasSeq {
				s = fmt.Sprintf("%d@%s", r.Seq, s)
			}
			got = append(got, strings.Replace(s, "-1 ", "- ", 1))
		}
		if s := strings.Join(got, "|"); s != test.want {
			t.Errorf("%s: Merge = %q, want %q", test.name, s, test.want)
		}
	}
}

func TestMergeCallers(t *testing.T) {
	c := fromConsole(5, "a")
	c.Caller = "T2"
	if got := Merge([][]Record{{fromRing(1, 5678, "a")}}, []Record{c}); len(got) != 2 {
		t.Errorf("Merge = %v, want two records: the callers differ", got)
	}
}

func TestMergeFillsIn(t *testing.T) {
	k := fromKmsg(1, 5, "a")
	k.Dev = Dev{"acpi", "+acpi:x"}
	r := fromRing(1, 5678, "a")
	r.Caller = ""
	got := Merge([][]Record{{k}, {r}}, nil)
	if want := (Record{Seq: 1, HasSeq: true, Time: 5678, Caller: "T1", Level: 6, Text: "a", Dev: k.Dev, Source: SourceRing}); len(got) != 1 || got[0] != want {
		t.Errorf("Merge = %+v, want %+v", got, want)
	}
}

// TestMergeBoot merges a real console with a /dev/kmsg made of it: all that both have comes once, all that one has stays.
func TestMergeBoot(t *testing.T) {
	con, err := ParseConsole(strings.NewReader(body(t, "testdata/clean/boot-console.txt")))
	if err != nil {
		t.Fatal(err)
	}
	for _, lose := range []int{0, 1, 50, len(con)} { // the ring dropped the oldest
		var stream []Record
		for i, r := range con {
			if i < lose {
				continue
			}
			r.Seq, r.HasSeq, r.Source, r.Level = uint64(i), true, SourceKmsg, 6
			stream = append(stream, r)
		}
		got := Merge([][]Record{stream}, con)
		if len(got) != len(con) {
			t.Errorf("%d lost: %d records, want %d", lose, len(got), len(con))
		}
		for i, r := range got {
			if r.Text != con[min(i, len(con)-1)].Text || r.HasSeq != (i >= lose) {
				t.Errorf("%d lost: record %d = %+v", lose, i, r)
			}
		}
	}
}
