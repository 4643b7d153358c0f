package modules

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write writes files below a new folder, given as name, content, ...
func write(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		f := sourceFile{name: files[i], data: []byte(files[i+1]), mode: 0o644}
		if err := f.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(exercises []*Exercise) []string {
	var list []string
	for _, ex := range exercises {
		list = append(list, ex.Name)
	}
	return list
}

func testCatalogue(t *testing.T) string {
	t.Helper()
	return write(t,
		"general/hello/Kbuild", "obj-m := hello.o\n",
		"general/log/Makefile", "ifneq ($(KERNELRELEASE),)\n  obj-m += log.o\nendif\n",
		"general/sort/Kbuild", "# SPDX\nobj-$(CONFIG_X) += sort.o\n",
		"general/notes/README.md", "no module",
		"process/pid/Kbuild", "obj-m = pid.o\n",
		"process/tree/Makefile", "all:\n\tcc tree.c\n",
		"process/.hidden/Kbuild", "obj-m = hidden.o\n",
		"testdata/x/Kbuild", "obj-m = x.o\n",
		"check/check.go", "package check\n",
		"Kbuild", "obj-m := top.o\n",
	)
}

func TestFind(t *testing.T) {
	root := testCatalogue(t)
	tests := []struct {
		patterns []string
		want     []string
	}{
		{nil, []string{"general/hello", "general/log", "general/sort", "process/pid"}},
		{[]string{"..."}, []string{"general/hello", "general/log", "general/sort", "process/pid"}},
		{[]string{"hello"}, []string{"general/hello"}},
		{[]string{"general/hello/"}, []string{"general/hello"}},
		{[]string{"process/..."}, []string{"process/pid"}},
		{[]string{"pid", "general/...", "pid"}, []string{"general/hello", "general/log", "general/sort", "process/pid"}},
	}
	for _, test := range tests {
		got, err := Find(root, test.patterns...)
		if err != nil || !slices.Equal(names(got), test.want) {
			t.Errorf("Find(%q) = %q, %v; want %q", test.patterns, names(got), err, test.want)
		}
	}
}

func TestFindNothing(t *testing.T) {
	root := testCatalogue(t)
	tests := []struct{ pattern, want string }{
		{"helo", `no exercise matches "helo", did you mean general/hello?`},
		{"proces/...", `no exercise matches "proces/...", did you mean process/...?`},
		{"process/hello", `no exercise matches "process/hello", did you mean general/hello?`},
		{"general", `no exercise matches "general", did you mean general/...?`},
		{"xyzzy", `no exercise matches "xyzzy"`},
		{"", `no exercise matches ""`},
	}
	for _, test := range tests {
		_, err := Find(root, test.pattern)
		var none *NoMatchError
		if !errors.As(err, &none) || err.Error() != test.want {
			t.Errorf("Find(%q): got %v, want %s", test.pattern, err, test.want)
		}
	}
}

func TestFindRefusesTwoOfOneName(t *testing.T) {
	root := write(t, "a/x/Kbuild", "obj-m := x.o\n", "b/x/Kbuild", "obj-m := x.o\n")
	if _, err := Find(root); err == nil || !strings.Contains(err.Error(), "a/x and b/x: two modules of one name") {
		t.Errorf("got %v", err)
	}
}

func TestCatalogueIsComplete(t *testing.T) {
	files, err := catalogueFiles()
	if err != nil {
		t.Fatal(err)
	}
	embedded := map[string]bool{}
	for _, f := range files {
		embedded[f.name] = true
		if data, err := os.ReadFile(f.name); err != nil || string(data) != string(f.data) {
			t.Errorf("%s is not what is in the program: %v", f.name, err)
		}
	}
	exercises, err := Find(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, ex := range exercises {
		sources, _, err := scan(ex.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range sources {
			if name := ex.Name + "/" + f.name; !embedded[name] {
				t.Errorf("%s is not embedded: is its chapter named in embed.go?", name)
			}
		}
	}
}

func TestScan(t *testing.T) {
	dir := write(t, "hello.c", "", "hello.o", "", "hello.ko", "", "hello.mod", "", "hello.mod.c", "", ".hello.o.cmd", "",
		"Module.symvers", "", "modules.order", "", ".git/config", "", "sub/x.h", "", "blob.o_shipped", "")
	if err := os.Symlink("hello.c", filepath.Join(dir, "link.c")); err != nil {
		t.Fatal(err)
	}
	files, odd, err := scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.name)
	}
	if want := []string{"blob.o_shipped", "hello.c", "sub/x.h"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []string{"link.c"}; !slices.Equal(odd, want) {
		t.Errorf("left out %q, want %q", odd, want)
	}
}

func TestGuessKbuild(t *testing.T) {
	tests := []struct {
		files []string
		want  string // or the error
	}{
		{[]string{"a.c", "b-2.c", "a.h", "sub/c.c"}, "obj-m += a.o\nobj-m += b-2.o\n"},
		{[]string{"x.c", "x_helper.c"}, "obj-m += x.o\nuserprogs-always-y += x_helper\nuserldflags := -static\n"},
		{[]string{"x_helper.c"}, "no Kbuild, no Makefile, and no C file of a module"},
		{nil, "no Kbuild, no Makefile, and no C file of a module"},
		{[]string{"my module.c"}, `make cannot work with the name "my module.c"`},
	}
	for _, test := range tests {
		var files []sourceFile
		for _, name := range test.files {
			files = append(files, sourceFile{name: name})
		}
		got, err := guessKbuild(files)
		if text := string(got.data); err == nil && text != test.want || err != nil && err.Error() != test.want {
			t.Errorf("guessKbuild(%q) = %q, %v; want %q", test.files, text, err, test.want)
		}
	}
}
