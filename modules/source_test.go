package modules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestModuleSource(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"chapter/mine/mine.c", "mine.c"} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	built := &Module{File: "/cache/mine.ko", sources: []sourceFile{
		{name: "chapter/mine/mine.c", path: filepath.Join(dir, "chapter", "mine", "mine.c")},
		{name: "chapter/mine/handed_in.c", data: []byte("of a student's")},
	}}
	foreign := &Module{File: filepath.Join(dir, "mine.ko")}
	for _, test := range []struct {
		module     *Module
		name, want string // want is empty if there is none
	}{
		{built, "chapter/mine/mine.c", "chapter/mine/mine.c"},
		{built, "chapter/mine/handed_in.c", "of a student's"},
		{built, "mine.c", ""},
		{foreign, "mine.c", "mine.c"},
		{foreign, "gone.c", ""},
		{foreign, "../mine.c", ""},
	} {
		got, err := test.module.Source(test.name)
		if string(got) != test.want || errors.Is(err, fs.ErrNotExist) != (test.want == "") {
			t.Errorf("Source(%s) = %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	for _, m := range []*Module{built, foreign} {
		if got := m.SourceDirs(); !slices.Equal(got, []string{dir}) {
			t.Errorf("SourceDirs() = %q, want %q", got, dir)
		}
	}
}

// scanned returns the names that scan has.
func scanned(t *testing.T, dir string) string {
	t.Helper()
	files, _, err := scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	return strings.Join(names, " ")
}

func TestScanLeavesOut(t *testing.T) {
	dir := write(t,
		"Kbuild", "obj-m := x.o\n", "x.c", "asm(\".incbin \\\"logo.txt\\\"\");\n", "x.o", "left", ".x.o.cmd", "left",
		"x_helper.c", "int main(void) {}\n", "x_helper", "\x7fELF left", "blob", "\x7fELF ours", "script", "#!/bin/sh\n", "script.c", "",
		"README.txt", "", "README.md", "", "out.json", "", "out.xml", "", "logo.txt", "",
		"test/load.txt", "insmod x\n", "test/want", "", "mutants/m.patch", "", "sub/notes.txt", "", "sub/y.h", "", ".kaleido/runs/x.c", "",
		"test/Kbuild", "", "test/t.c", "")
	for _, name := range []string{"x_helper", "blob", "script"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := "Kbuild blob logo.txt script script.c sub/y.h test/Kbuild test/t.c x.c x_helper.c"
	if got := scanned(t, dir); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if got := scanned(t, link); got != want {
		t.Errorf("by a link: got %q, want %q", got, want)
	}
}
