package initramfs

import (
	"flag"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite files made from others")

// TestGuestModuleIsFresh compares the guest's module in the binary with the source tree.
func TestGuestModuleIsFresh(t *testing.T) {
	files, err := readGuest("..")
	if err != nil {
		t.Fatal(err)
	}
	want := txtar.Format(&txtar.Archive{
		Comment: []byte("The guest's module. Made by go generate from the files named here: do not edit.\n"),
		Files:   files,
	})
	if *update {
		if err := os.WriteFile("guest.txtar", want, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(want) != string(guestModule) {
		t.Error("guest.txtar is stale: run go generate ./initramfs")
	}
}

// TestGuestModuleIsComplete asks the go command what the agent imports of ours.
func TestGuestModuleIsComplete(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}", "./"+agentPackage)
	cmd.Dir = ".."
	cmd.Env = environ("GOOS=linux")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if folder := strings.TrimPrefix(pkg, module+"/"); !slices.Contains(guestFolders, folder) {
			t.Errorf("the agent imports %s, which is not in guestFolders", pkg)
		}
	}
}

func TestCommandPackages(t *testing.T) {
	pkgs, err := commandPackages()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(pkgs) {
		t.Error("dependencies.go is not sorted")
	}
	var names []string
	for _, p := range pkgs {
		names = append(names, path.Base(p))
	}
	for _, want := range strings.Fields("gosh ls cat ps lsmod dmesg mount poweroff") {
		if !slices.Contains(names, want) {
			t.Errorf("no %s among the commands", want)
		}
	}
	for name, of := range aliases {
		if !slices.Contains(names, of) && of != path.Base(agentPackage) {
			t.Errorf("alias %s of %s, which is not a command", name, of)
		}
		if slices.Contains(names, name) {
			t.Errorf("alias %s is a command already", name)
		}
	}
}
