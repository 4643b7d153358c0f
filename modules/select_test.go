package modules

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
	dir := write(t, "mine/mine.c", "x", "mine/test/one.txt", "a", "mine/test/two.txt", "b", "flat/flat.c", "x", "flat/one.txt", "a", "bare/bare.c", "x")
	t.Chdir(dir)
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
		"general/two/Kbuild", "obj-m := two.o\ntwo-y := a.o b.o\n", "general/two/a.c", "ours", "general/two/b.c", "ours",
		"process/tree/Kbuild", "obj-m := count.o\nuserprogs-always-y := tree\n", "process/tree/tree.c", "ours", "process/tree/count.c", "ours",
	)
	theirs := write(t,
		"hello.c", "theirs", "hello.h", "theirs", "spy.c", "theirs", "hello_helper.c", "theirs", "Kbuild", "theirs", "more.c", "theirs",
		"two/a.c", "theirs", "two/b.c", "theirs",
		"process/tree/tree.c", "theirs", "process/tree/count.c", "theirs",
		"lab/lab.c", "theirs", "lab/extra.c", "theirs",
	)
	tests := []struct{ exercise, want string }{
		{"hello", "hello.c hello.h"},
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
	linked := write(t, "hello.c", "x")
	if err := os.Symlink("/etc/passwd", filepath.Join(linked, "world.c")); err != nil {
		t.Fatal(err)
	}
	if _, err := found[0].Substitute(linked); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("link: got %v", err)
	}
	big := write(t, "hello.c", "x", "world.c", strings.Repeat("x", maxSource+1))
	if _, err := found[0].Substitute(big); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("big file: got %v", err)
	}
}
