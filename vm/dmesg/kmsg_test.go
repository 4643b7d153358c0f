package dmesg

import (
	"strings"
	"testing"
	"time"
)

func TestParseKmsg(t *testing.T) {
	us := time.Microsecond
	for _, test := range []struct {
		line string
		want Record
	}{
		{"6,339,5140900,-;NET: Registered\n", Record{Seq: 339, Time: 5140900 * us, Level: 6, Text: "NET: Registered"}},
		{"30,340,5690716,-;udevd[80]: starting", Record{Seq: 340, Time: 5690716 * us, Level: 6, Facility: 3, Text: "udevd[80]: starting"}},
		{"7,160,424069,-,caller=T1;pci_root PNP0A03:00: window\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
			Record{Seq: 160, Time: 424069 * us, Level: 7, Caller: "T1", Text: "pci_root PNP0A03:00: window", Dev: Dev{"acpi", "+acpi:PNP0A03:00"}}},
		{"4,1,0,c,caller=C0;rest", Record{Seq: 1, Level: 4, Caller: "C0", Text: "rest", Cont: true}},
		{"6,2,3,-,caller=T9,novel=1,x;t", Record{Seq: 2, Time: 3 * us, Level: 6, Caller: "T9", Text: "t"}},
		{`5,3,4,-;a\x0ab\x09c\x5cd\xc3\xa4;e,f`, Record{Seq: 3, Time: 4 * us, Level: 5, Text: "a\nb\tc\\d\u00e4;e,f"}},
		{`5,3,4,-;\xzz \x`, Record{Seq: 3, Time: 4 * us, Level: 5, Text: `\xzz \x`}},
		{"6,18446744073709551615,9,-;", Record{Seq: 1<<64 - 1, Time: 9 * us, Level: 6}},
		{"6,5,9,-;x\n OTHER=1\n SUBSYSTEM=a\\x20b\n", Record{Seq: 5, Time: 9 * us, Level: 6, Text: "x", Dev: Dev{Subsystem: "a b"}}},
	} {
		test.want.HasSeq, test.want.Source = true, SourceKmsg
		got, err := ParseKmsg(test.line)
		if err != nil || got != test.want {
			t.Errorf("ParseKmsg(%q) = %+v, %v, want %+v", test.line, got, err, test.want)
		}
	}
}

func TestParseKmsgErrors(t *testing.T) {
	for _, line := range []string{"", "hello", ";", "6,1;x", "a,1,2,-;x", "6,-1,2,-;x", "6,1,x,-;x", "6,1,99999999999999999,-;x",
		"[    0.000000] x", " SUBSYSTEM=acpi", strings.Repeat("9", 100) + ",1,1,-;"} {
		if got, err := ParseKmsg(line); err == nil {
			t.Errorf("ParseKmsg(%q) = %+v, want an error", line, got)
		}
	}
}

func FuzzParseKmsg(f *testing.F) {
	f.Add("7,160,424069,-,caller=T1;pci_root\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n")
	f.Add(`5,3,4,c;a\x0ab\x5c`)
	f.Fuzz(func(t *testing.T, line string) {
		r, err := ParseKmsg(line)
		if err != nil {
			return
		}
		if !r.HasSeq || r.Time < 0 || r.Level < 0 || r.Level > 7 || r.Facility < 0 || len(r.Text) > len(line) {
			t.Errorf("ParseKmsg(%q) = %+v", line, r)
		}
	})
}
