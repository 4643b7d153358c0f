package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestToolsWithoutHome compiles C and Go, really, for somebody whose home is no directory.
func TestToolsWithoutHome(t *testing.T) {
	for _, variable := range []string{"CCACHE_DIR", "GOCACHE", "GOPATH", "XDG_CACHE_HOME"} {
		t.Setenv(variable, "")
	}
	t.Setenv("HOME", "/dev/null")
	dir := t.TempDir()
	if err := lendCaches(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"x.c": "int x;\n", "x.go": "package x\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, argv := range [][]string{{"ccache", "gcc", "-c", "x.c"}, {"go", "build", "x.go"}} {
		if _, err := exec.LookPath(argv[0]); err != nil {
			t.Log(err)
			continue
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", argv, err, out)
		}
	}
	t.Setenv("HOME", dir)
	t.Setenv("GOCACHE", "")
	t.Setenv("GOPATH", "/mine")
	if err := lendCaches(dir); err != nil || os.Getenv("GOCACHE") != "" || os.Getenv("GOPATH") != "/mine" {
		t.Errorf("who has a home gets GOCACHE=%q, GOPATH=%q, %v", os.Getenv("GOCACHE"), os.Getenv("GOPATH"), err)
	}
}
