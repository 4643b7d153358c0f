package modules

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
