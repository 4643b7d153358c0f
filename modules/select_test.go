package modules

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func testScripts(t *testing.T) string {
	t.Helper()
	return write(t,
		"general/hello/Kbuild", "obj-m := hello.o\n",
		"general/hello/test/load.txt", "insmod hello\n",
		"general/hello/test/again.txt", "insmod hello\n",
		"general/hello/test/notes.md", "none\n",
		"general/log/Kbuild", "obj-m := log.o\n",
		"general/log/test/load.txt", "insmod log\n",
		"process/pid/Kbuild", "obj-m := pid.o\n",
	)
}

func TestSelect(t *testing.T) {
	root := testScripts(t)
	tests := []struct {
		patterns string
		want     string // tests, and exercises without any
	}{
		{"", "general/hello/again general/hello/load general/log/load process/pid"},
		{"hello", "general/hello/again general/hello/load"},
		{"general/hello/load", "general/hello/load"},
		{"hello/load", "general/hello/load"},
		{"*/load", "general/hello/load general/log/load"},
		{"h*", "general/hello/again general/hello/load"},
		{"general/*", "general/hello/again general/hello/load general/log/load"},
		{"general/... pid", "general/hello/again general/hello/load general/log/load process/pid"},
		{"log hello/again", "general/hello/again general/log/load"},
	}
	for _, test := range tests {
		got, err := Select(root, strings.Fields(test.patterns)...)
		if err != nil {
			t.Errorf("%q: %v", test.patterns, err)
			continue
		}
		var names []string
		for _, s := range got {
			for _, script := range s.Scripts {
				names = append(names, script.Name)
			}
			if len(s.Scripts) == 0 {
				names = append(names, s.Exercise.Name)
			}
		}
		if strings.Join(names, " ") != test.want {
			t.Errorf("%q: got %q, want %q", test.patterns, names, test.want)
		}
	}
	var none *NoMatchError
	if _, err := Select(root, "hello", "helo"); !errors.As(err, &none) || none.Pattern != "helo" || !slices.Contains(none.Near, "general/hello") {
		t.Errorf("got %v", err)
	}
}

func TestFolder(t *testing.T) {
	dir := write(t, "mine/mine.c", "x", "mine/test/one.txt", "a", "mine/test/two.txt", "b", "flat/flat.c", "x", "flat/one.txt", "a", "bare/bare.c", "x",
		"told/told.c", "x", "told/load.txt", "a", "told/README.txt", "My module", "told/Readme_de.txt", "Mein Modul", "told/LICENSE.txt", "GPL", "told/notes-2.txt", "x")
	t.Chdir(dir)
	if err := os.Symlink("mine", "link"); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		exercise string
		scripts  []string
	}{
		{"./mine", "mine", []string{"mine/one", "mine/two"}},
		{"./mine/", "mine", []string{"mine/one", "mine/two"}},
		{"./mine/test/two.txt", "mine", []string{"mine/two"}},
		{"./flat", "flat", []string{"flat/one"}},
		{"./flat/one.txt", "flat", []string{"flat/one"}},
		{"./bare", "bare", nil},
		{"./told", "told", []string{"told/load"}},
		{"./link", "link", []string{"link/one", "link/two"}},
		{"./link/test/two.txt", "link", []string{"link/two"}},
	}
	for _, test := range tests {
		s, err := Folder(test.name)
		if err != nil {
			t.Fatal(err)
		}
		var scripts []string
		for _, script := range s.Scripts {
			scripts = append(scripts, script.Name)
			if _, err := os.Stat(script.File); err != nil {
				t.Error(err)
			}
		}
		if s.Exercise.Name != test.exercise || !s.Own || !slices.Equal(scripts, test.scripts) || !filepath.IsAbs(s.Exercise.Dir) {
			t.Errorf("%s: got %+v, %q", test.name, s.Exercise, scripts)
		}
		if info, err := os.Lstat(s.Exercise.Dir); err != nil || !info.IsDir() {
			t.Errorf("%s: %s is no folder, %v", test.name, s.Exercise.Dir, err)
		}
	}
	t.Chdir("mine")
	if s, err := Folder("."); err != nil || s.Exercise.Name != "mine" {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := Folder("./nosuch"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestIndex(t *testing.T) {
	list := []*Module{
		{Name: "c", File: "/x/c.ko"},
		{Name: "b_1", File: "/x/b-1.ko", Depends: []string{"c"}},
		{Name: "a", File: "/x/a.ko", Depends: []string{"b_1", "other"}},
	}
	want := "extra/c.ko:\nextra/b-1.ko: extra/c.ko\nextra/a.ko: extra/b-1.ko extra/c.ko\n"
	if got := string(Index(list)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSubstitute(t *testing.T) {
	root := write(t,
		"general/hello/Kbuild", "obj-m := hello.o\nobj-m += spy.o\nuserprogs-always-y := hello_helper\n",
		"general/hello/hello.c", "ours", "general/hello/spy.c", "ours", "general/hello/hello_helper.c", "ours", "general/hello/hello.h", "ours",
		"general/hello/include/deep/hello.h", "ours", "general/hello/test/probe.h", "ours",
		"general/two/Kbuild", "obj-m := two.o\ntwo-y := a.o b.o\n", "general/two/a.c", "ours", "general/two/b.c", "ours",
		"process/tree/Kbuild", "obj-m := count.o\nuserprogs-always-y := tree\n", "process/tree/tree.c", "ours", "process/tree/count.c", "ours",
	)
	theirs := write(t,
		"hello.c", "theirs", "hello.h", "theirs", "spy.c", "theirs", "hello_helper.c", "theirs", "Kbuild", "theirs", "more.c", "theirs",
		"include/deep/hello.h", "theirs", "include/more.h", "theirs", "test/probe.h", "theirs",
		"two/a.c", "theirs", "two/b.c", "theirs",
		"process/tree/tree.c", "theirs", "process/tree/count.c", "theirs",
		"lab/lab.c", "theirs", "lab/extra.c", "theirs",
	)
	tests := []struct{ exercise, want string }{
		{"hello", "hello.c hello.h include/deep/hello.h"},
		{"two", "a.c b.c"},
		{"tree", "tree.c"},
	}
	for _, test := range tests {
		found, err := Find(root, test.exercise)
		if err != nil {
			t.Fatal(err)
		}
		files, err := found[0].Substitute(theirs)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name, data := range files {
			names = append(names, name)
			if string(data) != "theirs" {
				t.Errorf("%s/%s: got %q", test.exercise, name, data)
			}
		}
		slices.Sort(names)
		if strings.Join(names, " ") != test.want {
			t.Errorf("%s: got %q, want %q", test.exercise, names, test.want)
		}
	}
	for _, test := range []struct {
		name string
		lab  []string // somebody's own folder
		want string
	}{
		{"adds to obj-m", []string{"Makefile", "obj-m += lab.o\n"}, "lab.c"},
		{"no build description", []string{"lab.c", "ours", "lab_helper.c", "ours"}, "lab.c"},
		{"a header", []string{"Kbuild", "obj-m := lab.o\n", "hello.h", "ours"}, "lab.c"},
	} {
		lab := &Exercise{Name: "lab", Dir: write(t, test.lab...)}
		files, err := lab.Substitute(theirs)
		if names := slices.Sorted(maps.Keys(files)); err != nil || strings.Join(names, " ") != test.want {
			t.Errorf("%s: got %q, %v, want %q", test.name, names, err, test.want)
		}
	}
	lab := &Exercise{Name: "lab", Dir: write(t, "Makefile", "obj-$(CONFIG_LAB) := lab.o\n")}
	if _, err := lab.Substitute(theirs); err == nil || !strings.Contains(err.Error(), "no line of the form obj-m := NAME.o") {
		t.Errorf("a Makefile that does not name its modules: %v", err)
	}
}

func TestSubstituteFiles(t *testing.T) {
	files := substitute([]sourceFile{{name: "Kbuild"}, {name: "a.c", path: "/ours"}}, map[string][]byte{"a.c": []byte("theirs"), "b.c": nil})
	var got []string
	for _, f := range files {
		got = append(got, f.name+f.path+string(f.data))
	}
	if want := []string{"Kbuild", "a.ctheirs", "b.c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSubstituteRefuses(t *testing.T) {
	root := write(t, "general/hello/Kbuild", "obj-m := hello.o world.o\n", "general/hello/hello.c", "ours", "general/hello/world.c", "ours")
	found, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	var missing *MissingError
	if _, err := found[0].Substitute(write(t, "hello.c", "x")); !errors.As(err, &missing) || !slices.Equal(missing.Files, []string{"world.c"}) {
		t.Errorf("missing file: got %v", err)
	}
	big := write(t, "hello.c", "x", "world.c", strings.Repeat("x", maxSource+1))
	if _, err := found[0].Substitute(big); !errors.As(err, &missing) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("big file: got %v", err)
	}
}

// TestSubstituteIsTheirOwn hands in what is not one's own, or no file. That is a fault of who did it.
func TestSubstituteIsTheirOwn(t *testing.T) {
	ex := &Exercise{Name: "greet", Dir: write(t, "Kbuild", "obj-m := greet.o\ngreet-y := greet.o sub/more.o\n", "greet.h", "ours")}
	ok := []string{"alice/greet/greet.c", "x", "alice/greet/sub/more.c", "x", "alice/greet/greet.h", "x"}
	tests := []struct {
		name string
		mine []string               // files below bob
		make func(dir string) error // what is odd below bob
		want string
	}{
		{"a folder", nil, func(dir string) error { return os.Symlink("../alice/greet", dir+"/greet") }, "/bob/greet is a link, which is not followed"},
		{"the folder of a file", []string{"greet/greet.c", "x"}, func(dir string) error { return os.Symlink("../../alice/greet/sub", dir+"/greet/sub") }, "/bob/greet/sub is a link, which is not followed"},
		{"a file", []string{"sub/more.c", "x"}, func(dir string) error { return os.Symlink("../alice/greet/greet.c", dir+"/greet.c") }, "/bob/greet.c is a link, which is not followed"},
		{"a header", []string{"greet.c", "x", "sub/more.c", "x"}, func(dir string) error { return os.Symlink("/etc/passwd", dir+"/greet.h") }, "/bob/greet.h is a link, which is not followed"},
		{"a pipe", []string{"sub/more.c", "x"}, func(dir string) error { return unix.Mkfifo(dir+"/greet.c", 0o666) }, "/bob/greet.c is not a regular file"},
		{"a folder for a file", []string{"sub/more.c", "x"}, func(dir string) error { return os.Mkdir(dir+"/greet.c", 0o777) }, "/bob/greet.c is not a regular file"},
		{"a file for a folder", []string{"greet.c", "x", "sub", "x"}, func(string) error { return nil }, "/bob has no sub/more.c"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, append(ok, "bob/README", "x")...)
			bob := filepath.Join(dir, "bob")
			for i := 0; i < len(test.mine); i += 2 {
				f := sourceFile{name: test.mine[i], data: []byte(test.mine[i+1]), mode: 0o644}
				if err := f.write(bob); err != nil {
					t.Fatal(err)
				}
			}
			if err := test.make(bob); err != nil {
				t.Fatal(err)
			}
			var missing *MissingError
			if files, err := ex.Substitute(bob); !errors.As(err, &missing) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v, want %q", files, err, test.want)
			}
			if _, err := ex.Substitute(filepath.Join(dir, "alice")); err != nil {
				t.Errorf("alice: %v", err)
			}
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root reads everything")
		}
		dir := write(t, "sub/more.c", "x", "greet.c", "x")
		if err := os.Chmod(filepath.Join(dir, "greet.c"), 0); err != nil {
			t.Fatal(err)
		}
		var missing *MissingError
		if _, err := ex.Substitute(dir); !errors.As(err, &missing) || !strings.Contains(err.Error(), "greet.c cannot be read") {
			t.Errorf("got %v", err)
		}
	})
}

// TestSubstituteLinkedBesideOwn: who has the file after all is not held to an odd link.
func TestSubstituteLinkedBesideOwn(t *testing.T) {
	ex := &Exercise{Name: "greet", Dir: write(t, "Kbuild", "obj-m := greet.o\n")}
	dir := write(t, "greet.c", "x")
	if err := os.Symlink("nowhere", filepath.Join(dir, "greet")); err != nil {
		t.Fatal(err)
	}
	if files, err := ex.Substitute(dir); err != nil || len(files) != 1 {
		t.Errorf("got %v, %v", files, err)
	}
}

// TestSubstituteInOddFolder has folders whose names would be patterns of files.
func TestSubstituteInOddFolder(t *testing.T) {
	dir := filepath.Join(write(t, "course[24]/greet/greet.c", "ours", "course[24]/greet/greet.h", "ours",
		"course[24]/greet/mutants/m.patch", "--- a/greet.c\n+++ b/greet.c\n@@ -1,1 +1,1 @@\n-ours\n\\ No newline at end of file\n+mine\n\\ No newline at end of file\n"), "course[24]", "greet")
	ex := &Exercise{Name: "greet", Dir: dir}
	files, err := ex.Substitute(write(t, "greet.c", "theirs", "greet.h", "theirs"))
	if names := slices.Sorted(maps.Keys(files)); err != nil || !slices.Equal(names, []string{"greet.c", "greet.h"}) {
		t.Errorf("got %q, %v", names, err)
	}
	if mutants, err := ex.Mutants(); err != nil || len(mutants) != 1 {
		t.Errorf("got %d mutants, %v", len(mutants), err)
	}
	if _, err := (&Exercise{Name: "greet", Dir: write(t, "test/a.txt", "insmod greet\n")}).Substitute(dir); err == nil || !strings.Contains(err.Error(), "neither a Kbuild nor a .c file") {
		t.Errorf("a lab that names no file: got %v", err)
	}
}

func TestSources(t *testing.T) {
	tests := []struct{ kbuild, want string }{
		{"obj-m := a.o \\\n\tb.o\n", "a.c b.c"},
		{"obj-m := a.o # the one to write\n", "a.c"},
		{"obj-m := x.o\nx-y := a.o \\\r\n b.o # both\r\n", "a.c b.c"},
		{"# obj-m := old.o \\\n# obj-m := older.o\nobj-m := a.o\n#obj-m := b.o\n", "a.c"},
	}
	for _, test := range tests {
		files, err := (&Exercise{Name: "lab", Dir: write(t, "Kbuild", test.kbuild)}).sources()
		if got := strings.Join(files, " "); err != nil || got != test.want {
			t.Errorf("%q: got %q, %v, want %q", test.kbuild, got, err, test.want)
		}
	}
	if _, err := (&Exercise{Name: "lab", Dir: write(t, "Kbuild", "obj-m := ../a.o\n")}).sources(); err == nil {
		t.Error("a file outside: no error")
	}
}
