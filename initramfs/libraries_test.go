package initramfs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLibraries(t *testing.T) {
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	libs, err := libraries([]File{{Source: shell}, {Source: text}, {Name: "x", Data: []byte("y")}, {Source: shell}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range libs {
		names = append(names, filepath.Base(l.Name))
		if _, err := os.Stat(l.Source); err != nil || strings.HasPrefix(l.Name, "/usr/") {
			t.Errorf("library %+v: %v", l, err)
		}
	}
	if !slices.Contains(names, "libc.so.6") || !strings.HasPrefix(names[0], "ld-linux") {
		t.Errorf("libraries of %s: %q, want the linker and libc.so.6", shell, names)
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(names))); len(sorted) != len(names) {
		t.Errorf("libraries of %s: %q, want each once", shell, names)
	}
	if _, err := libraries([]File{{Source: text + ".gone"}}); err == nil {
		t.Error("libraries of a file that is not there: no error")
	}
}
