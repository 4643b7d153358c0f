package dmesg

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// brief is a record of console text in one line.
func brief(r Record) string {
	s := fmt.Sprintf("%d %s %q", r.Time.Microseconds(), r.Caller, r.Text)
	if r.Time == NoTime {
		s = fmt.Sprintf("- %s %q", r.Caller, r.Text)
	}
	if r.Level != Unknown || r.Facility != Unknown {
		s += fmt.Sprintf(" %d/%d", r.Level, r.Facility)
	}
	return s
}

func TestParseConsole(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"caller", "[    0.000000][    T0] Linux\r\n[    1.000001][   C1] x\r\n", `0 T0 "Linux"|1000001 C1 "x"`},
		{"no caller", "[    0.000000] Linux\n[12345678.000001] x\n", `0  "Linux"|12345678000001  "x"`},
		{"levels", "<6>[    0.000000][    T0] a\n<30>[    0.000000] b\n", `0 T0 "a" 6/0|0  "b" 6/3`},
		{"decoded levels", "kern  :info  : [    0.000000] a\nuser  :err   : [    0.000001] b\n", `0  "a" 6/0|1  "b" 3/1`},
		{"firmware before", "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1)\r\nBooting from ROM..[    0.000000] L\r\n", `0  "L"`},
		{"programs between", "[    1.000000] a\nuid=0(root)\n/ # [    2.000000] b\n[x] y\n[1.5] z\n", `1000000  "a"|2000000  "b"`},
		{"lines of one record", "[    1.000000][    T1] a\n[    1.000000][    T1] b\n", `1000000 T1 "a"|1000000 T1 "b"`},
		{"torn", "[    1.000000] a[    1.000001] b\n", `1000000  "a"|1000001  "b"`},
		{"an earlier time within the text", "[    2.000000] saw [    1.000000] b\n", `2000000  "saw [    1.000000] b"`},
		{"a stamp of another form within", "[    2.000000][    T1] saw [    3.000000] b\n", `2000000 T1 "saw [    3.000000] b"`},
		{"a short stamp within", "x [3.000000] b\n[    2.000000] a\n", `2000000  "a"`},
		{"empty text", "[    1.000000] \n[    1.000000]\n[    1.000000][    T1] \n", `1000000  ""|1000000  ""|1000000 T1 ""`},
		{"text without a space", "[    1.000000]x\n[    1.000000] y\n", `1000000  "y"`},
		{"leading spaces", "[    1.000000]  <TASK>\n", `1000000  " <TASK>"`},
		{"NUL and colours", "\x00[    1.000000] \x1b[31mred\x1b[0m\x00\ttab\x07\r\r\n", "1000000  \"red\\ttab\\a\""},
		{"no newline at the end", "[    1.000000] cut o", `1000000  "cut o"`},
		{"journal", "Nov 24 13:00:00 host kernel: [    1.000000] a\n", `1000000  "a"`},
		{"no time", "Linux version\r\n\r\n<4>warn\n[    T1] x\n", `-  "Linux version"|-  "warn" 4/0|- T1 "x"`},
		{"dates", "[Tue Nov 24 13:10:02 2026] a\n", `-  "a"`},
		{"no time, then time", "GRUB\n[    1.000000] a\n", `1000000  "a"`},
		{"absurd time", "[9999999999.000000] a\n", `-  "[9999999999.000000] a"`},
		{"nothing", "", ""},
	} {
		recs, err := ParseConsole(iotest.OneByteReader(strings.NewReader(test.text)))
		var got []string
		for _, r := range recs {
			if got = append(got, brief(r)); r.HasSeq || r.Source != SourceConsole {
				t.Errorf("%s: record %+v claims more than a console tells", test.name, r)
			}
		}
		if s := strings.Join(got, "|"); err != nil || s != test.want {
			t.Errorf("%s: ParseConsole(%q) = %s, %v\nwant %s", test.name, test.text, s, err, test.want)
		}
	}
}

func TestParseConsoleLongLines(t *testing.T) {
	long := strings.Repeat("y", 100<<10)
	endless := strings.Repeat("z", maxLine+100)
	recs, err := ParseConsole(strings.NewReader(long + "[    1.000000] " + long + "\n" + endless + "\n[    2.000000] b\n"))
	if err != nil || len(recs) != 2 || recs[0].Text != long || recs[1].Text != "b" {
		t.Errorf("ParseConsole = %d records, %v", len(recs), err)
	}
}

func TestParseConsoleReadError(t *testing.T) {
	broken := errors.New("broken")
	recs, err := ParseConsole(io.MultiReader(strings.NewReader("[    1.000000] a\n[    2.0"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || len(recs) != 1 {
		t.Errorf("ParseConsole = %v, %v, want one record and the reader's error", recs, err)
	}
}

// TestParseConsoleBoot reads a whole boot and prints it again: nothing but the callers may be lost.
func TestParseConsoleBoot(t *testing.T) {
	recs, err := ParseConsole(strings.NewReader(body(t, "testdata/clean/boot-console.txt")))
	if err != nil || len(recs) != 183 {
		t.Fatalf("ParseConsole = %d records, %v, want 183", len(recs), err)
	}
	var printed strings.Builder
	for _, r := range recs {
		fmt.Fprintln(&printed, r)
	}
	again, err := ParseConsole(strings.NewReader(printed.String()))
	if err != nil || len(again) != len(recs) {
		t.Fatalf("ParseConsole of the print = %d records, %v", len(again), err)
	}
	for i := range recs {
		if recs[i].Caller = ""; recs[i] != again[i] {
			t.Errorf("record %d = %+v, printed and parsed %+v", i, recs[i], again[i])
		}
	}
}

func FuzzParseConsole(f *testing.F) {
	f.Add([]byte("<6>[    0.000000][    T0] Linux\r\n/ # [    1.000000][   T1] a\n[    1.000000] \x00b"))
	f.Add([]byte("<6>no time\n[Tue Nov 24 13:10:02 2026] a\n"))
	names, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(names) == 0 {
		f.Fatal("no testdata", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 2000)])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		recs, err := ParseConsole(strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, r := range recs {
			total += len(r.Text)
			if strings.ContainsAny(r.Text, "\n\x00") || r.Time < NoTime || r.Time > 1<<63-1-time.Second || (r.Time == NoTime) != (recs[0].Time == NoTime) {
				t.Errorf("record %+v of %q", r, data)
			}
		}
		if total > len(data) {
			t.Errorf("%d bytes of text out of %d", total, len(data))
		}
		checkVerdict(t, recs)
		// What is printed must be read again as the same.
		if len(recs) > 0 && recs[0].Time >= 0 {
			again, err := ParseConsole(strings.NewReader(recs[0].String()))
			if err != nil || len(again) == 0 || again[0].Time != recs[0].Time {
				t.Errorf("%q read again = %+v, %v", recs[0].String(), again, err)
			}
		}
	})
}

// checkVerdict holds for any log: a record is in one splat at most, each splat has its title, and evidence never makes a verdict milder
// than the log's own credible splats.
func checkVerdict(t *testing.T, recs []Record) {
	t.Helper()
	total := 0
	for _, s := range Splats(recs) {
		total += len(s.Records)
		found := false
		for _, r := range s.Records {
			found = found || r.FirstLine() == s.Title
		}
		if !found || s.Kind == "" {
			t.Errorf("splat %q of kind %q lacks its title", s.Title, s.Kind)
		}
	}
	if total > len(recs) {
		t.Errorf("%d records in splats, %d in the log", total, len(recs))
	}
	if v := Judge(recs, Evidence{Panicked: true, PanicKnown: true}); v.State != Panicked {
		t.Errorf("Judge with a panic event = %v", v.State)
	}
	if v := Judge(recs, Evidence{}); (v.State == Clean) != (len(v.Findings) == 0) || (v.State == Clean) != (len(v.Reasons) == 0) {
		t.Errorf("Judge = %v with findings %v and reasons %v", v.State, v.Findings, v.Reasons)
	}
}
