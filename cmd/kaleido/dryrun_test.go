package main

import (
	"os/exec"
	"testing"
)

func TestShellLine(t *testing.T) {
	line := shellLine([]string{"A=1", "B_2=two words", "sh", "-c", `echo "$A $B_2 $1"`, "sh", "C=3"})
	out, err := exec.CommandContext(t.Context(), "sh", "-c", line).Output()
	if got, want := string(out), "1 two words C=3\n"; err != nil || got != want {
		t.Errorf("%s prints %q, %v; want %q", line, got, err, want)
	}
}
