package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/linux-kaleidoscope/kaleido/"

// allowedImports is the picture of docs/design.md as a table: which of our
// packages each of our packages may import. Data flows one way.
var allowedImports = map[string][]string{
	"kbuild/cache":     nil,
	"kbuild/confine":   nil,
	"kbuild/kconfig":   nil,
	"kbuild":           {"kbuild/cache", "kbuild/confine", "kbuild/kconfig"},
	"modules":          {"kbuild", "kbuild/cache"},
	"initramfs":        {"kbuild/cache"},
	"modules/check":    {"vm/dmesg"},
	"modules/report":   {"modules/check", "vm/dmesg"},
	"modules/suite":    {"modules/check"},
	"modules/kallsyms": nil,
	"modules/srcline":  nil,
	"vm/dmesg":         nil,
	"vm/qmp":           nil,
	"vm/guest":         nil,
	"vm/detach":        {"vm/gdb", "vm/guest"},
	"vm/gdb":           nil,
	"vm":               {"vm/dmesg", "vm/qmp", "vm/guest"},
	"cmd/uinit":        {"vm/guest"},
	"cmd/kaleido":      {"kbuild", "kbuild/cache", "kbuild/confine", "modules", "modules/check", "modules/report", "modules/suite", "modules/srcline", "modules/kallsyms", "initramfs", "vm", "vm/detach", "vm/dmesg", "vm/gdb", "vm/guest"},
}

// mayExec are the packages that run programs: one package per program.
var mayExec = []string{"kbuild", "initramfs", "vm", "vm/guest", "cmd/kaleido"}

func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "../../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(pkg.ImportPath, modulePath)
		seen[name] = true
		checkImports(t, name, pkg.Imports)
	}
	for name := range allowedImports {
		if !seen[name] {
			t.Errorf("the table names %s, which does not exist", name)
		}
	}
}

func checkImports(t *testing.T, name string, imports []string) {
	allowed, known := allowedImports[name]
	if !known && !strings.HasPrefix(name, "scripts/") {
		t.Errorf("package %s is not in the table of allowed imports", name)
		return
	}
	for _, imp := range imports {
		ours, isOurs := strings.CutPrefix(imp, modulePath)
		if isOurs && known && !slices.Contains(allowed, ours) {
			t.Errorf("%s imports %s, which the design does not allow", name, ours)
		}
		if imp == "os/exec" && known && !slices.Contains(mayExec, name) {
			t.Errorf("%s imports os/exec: external programs belong to %v", name, mayExec)
		}
	}
}
