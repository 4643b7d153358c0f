package modules

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A header in a folder elsewhere is no source, but a module made of another state of it is not the one asked for.
func TestForeignHeader(t *testing.T) {
	k, opts := testKernel(t), testOptions(t)
	header := filepath.Join(t.TempDir(), "elsewhere.h")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(header, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		// Older than any build: else it may have been changed while make ran.
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(header, old, old); err != nil {
			t.Fatal(err)
		}
	}
	root := write(t, "general/a/Kbuild", fmt.Sprintf("obj-m := a.o\nccflags-y := -I%s\n", filepath.Dir(header)),
		"general/a/a.c", source("a", "#include <elsewhere.h>\nMODULE_VERSION(ELSEWHERE);\n"))
	exercises, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	builds := map[string]func() (*Built, error){
		"folder":    func() (*Built, error) { return BuildFolder(t.Context(), k, exercises[0].Dir, opts) },
		"catalogue": func() (*Built, error) { return Build(t.Context(), k, exercises, opts) },
	}
	for name, build := range builds {
		t.Run(name, func(t *testing.T) {
			for i, step := range []struct {
				version string
				made    bool
			}{{"1", true}, {"1", false}, {"2", true}, {"2", false}, {"1", false}} {
				put("#define ELSEWHERE \"" + step.version + "\"\n")
				built, err := build()
				if err != nil {
					t.Fatal(err)
				}
				if m := built.Modules[0]; m.Version != step.version || built.Made != step.made {
					t.Errorf("build %d: version %s, made: %v; want %s, %v", i, m.Version, built.Made, step.version, step.made)
				}
			}
		})
	}
	if err := os.Remove(header); err != nil {
		t.Fatal(err)
	}
	if _, err := builds["folder"](); err == nil {
		t.Error("built without the header")
	}
}
