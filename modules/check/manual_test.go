package check

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write README.md anew")

func TestManualIsCurrent(t *testing.T) {
	var want bytes.Buffer
	if err := WriteManual(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("README.md", want.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("README.md is stale: go test ./modules/check -update")
	}
}

func TestEveryCommandIsInTheManual(t *testing.T) {
	for name, c := range commands {
		if !slices.Contains(groupOrder, c.group) || c.summary == "" || c.args == "" {
			t.Errorf("command %s: group %q, summary %q, args %q", name, c.group, c.summary, c.args)
		}
	}
}
