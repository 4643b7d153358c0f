package dmesg

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestParseLog(t *testing.T) {
	records := []Record{
		{Seq: 7, HasSeq: true, Time: 1234567000, Level: 6, Facility: 0, Caller: "T1", Text: "one\ntwo"},
		{Seq: 8, HasSeq: true, Time: 1234569000, Level: 4, Facility: 0, Text: "three"},
	}
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, r := range records {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, text string
		want       []string
	}{
		{"JSON lines", lines.String(), []string{"one\ntwo", "three"}},
		{"kmsg", "6,7,1234567,-,caller=T1;one\\x0atwo\n SUBSYSTEM=usb\n4,8,1234569,-;three\n", []string{"one\ntwo", "three"}},
		{"kmsg with noise", "\n6,7,1234567,-;one\nnoise\n4,8,1234569,-;three", []string{"one", "three"}},
		{"console", "SeaBIOS\r\n[    1.234567] one\r\n[    1.234569] three\r\n", []string{"one", "three"}},
		{"dmesg -r", "<6>[    1.234567] one\n<4>[    1.234569] three\n", []string{"one", "three"}},
		{"nothing", "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseLog(strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, r := range got {
				texts = append(texts, r.Text)
			}
			if !slices.Equal(texts, test.want) {
				t.Errorf("got %q, want %q", texts, test.want)
			}
		})
	}
	if _, err := ParseLog(strings.NewReader(`{"seq":1,"text":"cut o`)); err == nil {
		t.Error("no error for a torn JSON record")
	}
}

func FuzzParseLog(f *testing.F) {
	f.Add([]byte("6,7,1,-;one\n x\n4,8"))
	f.Add([]byte(`{"seq":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		records, err := ParseLog(bytes.NewReader(text))
		if err == nil {
			Judge(records, Evidence{})
		}
	})
}
