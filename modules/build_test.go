package modules

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// testKernel returns the kernel whose build tree KALEIDO_TEST_KBUILD names.
func testKernel(t *testing.T) *kbuild.Kernel {
	t.Helper()
	tree := os.Getenv("KALEIDO_TEST_KBUILD")
	if tree == "" {
		t.Skip("KALEIDO_TEST_KBUILD names no kernel build tree: not running make")
	}
	release, err := os.ReadFile(filepath.Join(tree, "include/config/kernel.release"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.EvalSymlinks(filepath.Join(tree, "source"))
	if err != nil {
		t.Fatal(err)
	}
	k := &kbuild.Kernel{Dir: t.TempDir(), Key: "test", Release: strings.TrimSpace(string(release)), Source: source}
	if err := os.Symlink(tree, k.BuildTree()); err != nil {
		t.Fatal(err)
	}
	return k
}

func testOptions(t *testing.T) Options {
	t.Helper()
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Options{Cache: c, Jobs: 2, Log: t.Output(), Note: func(s string) { t.Log(s) }}
}

// source returns the text of a small module.
func source(name, more string) string {
	return "// SPDX-License-Identifier: GPL-2.0\n#include <linux/module.h>\n" + more +
		"static int hi(void)\n{\n\tpr_info(\"" + name + "\\n\");\n\treturn 0;\n}\nmodule_init(hi);\n" +
		"MODULE_LICENSE(\"GPL\");\nMODULE_DESCRIPTION(\"" + name + "\");\n"
}

func TestRootIsACatalogue(t *testing.T) {
	opts := testOptions(t)
	root, err := Root(t.Context(), opts.Cache)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Find(root, "hello")
	if err != nil || len(got) != 1 || got[0].Name != "general/hello" {
		t.Errorf("got %v, %v", names(got), err)
	}
	if again, err := Root(t.Context(), opts.Cache); err != nil || again != root {
		t.Errorf("second time: %s, %v, after %s", again, err, root)
	}
}

func TestCopySourcesSeesAChange(t *testing.T) {
	dir := write(t, "x.c", "one")
	files, _, err := scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := builder{kernel: &kbuild.Kernel{}, files: files, opts: &Options{}}
	if err := b.hashSources(); err != nil {
		t.Fatal(err)
	}
	if err := b.copySources(t.TempDir()); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.c"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.copySources(t.TempDir()); err == nil {
		t.Error("changed: no error")
	}
}

func TestBuildCatalogue(t *testing.T) {
	k, opts := testKernel(t), testOptions(t)
	var log bytes.Buffer
	opts.Log, opts.Args = &log, []string{"W=1"}
	opts.Limits = kbuild.DefaultLimits() // as of good hand-ins
	root, err := Root(t.Context(), opts.Cache)
	if err != nil {
		t.Fatal(err)
	}
	exercises, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	built, err := Build(t.Context(), k, exercises, opts)
	if err != nil || !built.Made {
		t.Fatalf("%+v, %v\n%s", built, err, log.String())
	}
	if strings.Contains(strings.ToLower(log.String()), "warning") {
		t.Errorf("make warns:\n%s", log.String())
	}
	i := slices.IndexFunc(built.Modules, func(m *Module) bool { return m.Name == "hello" })
	if i < 0 {
		t.Fatal("no module hello")
	}
	hello := built.Modules[i]
	if err := hello.CheckVermagic(k.Release); err != nil {
		t.Error(err)
	}
	if len(hello.Params) != 2 || hello.License != "GPL" || hello.InTree {
		t.Errorf("hello is %+v", hello)
	}
	again, err := Build(t.Context(), k, exercises, opts)
	if err != nil || again.Made || len(again.Modules) != len(built.Modules) {
		t.Errorf("second time: %+v, %v", again, err)
	}
}

// TestBuildIsReproducible builds the same sources in two places.
func TestBuildIsReproducible(t *testing.T) {
	k := testKernel(t)
	dir := write(t, "w.c", source("w", "int where(int x);\nint where(int x)\n{\n\tWARN_ON(x);\n\treturn x;\n}\n"))
	var products [][]byte
	for range 2 {
		opts := testOptions(t)
		opts.Out = t.TempDir()
		built, err := BuildDir(t.Context(), k, dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(built.Modules[0].File)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(opts.Cache.Dir())) {
			t.Error("the module has the path of the cache in it")
		}
		products = append(products, data)
	}
	if !bytes.Equal(products[0], products[1]) {
		t.Error("two builds, two modules")
	}
}

func TestBuildDir(t *testing.T) {
	k := testKernel(t)
	const makefile = "obj-m := x.o\nall:\n\t$(MAKE) -C /none M=$(CURDIR) modules\n"
	tests := []struct {
		name  string
		files []string
		want  []string // modules, helpers and notes
	}{
		{"Kbuild", []string{"Kbuild", "obj-m := x.o\n", "x.c", source("x", "")}, []string{"x.ko"}},
		{"Makefile with targets", []string{"Makefile", makefile, "x.c", source("x", "")}, []string{"x.ko"}},
		{"old leftovers", []string{"Kbuild", "obj-m := x.o\n", "x.c", source("x", ""), "x.o", "bad", "x.ko", "bad", "x.mod", "bad"}, []string{"x.ko"}},
		{"two files", []string{"Kbuild", "obj-m := x.o\nx-y := a.o sub/b.o\n", "a.c", source("x", "#include \"sub/b.h\"\n"), "sub/b.c", "int b;\n", "sub/b.h", "extern int b;\n"}, []string{"x.ko"}},
		{"none", []string{"x-1.c", source("x", "")}, []string{"x-1.ko", "no Kbuild or Makefile: each C file is taken for a module"}},
		{"depends", []string{"Kbuild", "obj-m := a.o b.o\n",
			"a.c", source("a", "extern int v;\nint *p = &v;\n"), "b.c", source("b", "int v;\nEXPORT_SYMBOL(v);\n")}, []string{"b.ko", "a.ko"}},
		{"helper", []string{"x.c", source("x", ""), "x_helper.c", "int main(void) { return 0; }\n"},
			[]string{"x.ko", "x_helper", "no Kbuild or Makefile: each C file is taken for a module"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, test.files...)
			var notes []string
			opts := testOptions(t)
			opts.Note = func(s string) { notes = append(notes, s) }
			built, err := BuildDir(t.Context(), k, dir, opts)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range built.Modules {
				got = append(got, filepath.Base(m.File))
			}
			for _, h := range built.Helpers {
				got = append(got, filepath.Base(h))
			}
			if got = append(got, notes...); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			checkClean(t, dir, test.files, built)
			again, err := BuildDir(t.Context(), k, dir, opts)
			if err != nil || again.Made || len(again.Helpers) != len(built.Helpers) {
				t.Errorf("beside its products: %+v, %v", again, err)
			}
		})
	}
}

// checkClean fails if a build left more in a folder than its products.
func checkClean(t *testing.T, dir string, files []string, built *Built) {
	t.Helper()
	allowed := map[string]bool{}
	for i := 0; i < len(files); i += 2 {
		allowed[files[i]] = true
	}
	for _, m := range built.Modules {
		allowed[filepath.Base(m.File)] = true
	}
	for _, h := range built.Helpers {
		allowed[filepath.Base(h)] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() && !allowed[e.Name()] {
			t.Errorf("the build left %s", e.Name())
		}
	}
}

func TestBuildDirFails(t *testing.T) {
	k := testKernel(t)
	t.Run("does not compile", func(t *testing.T) {
		dir := write(t, "x.c", source("x", "int y = ;\n"))
		_, err := BuildDir(t.Context(), k, dir, testOptions(t))
		var failed *kbuild.MakeError
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), "x.c:3:9: error:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("makes nothing", func(t *testing.T) {
		dir := write(t, "Kbuild", "# nothing\n", "x.c", source("x", ""))
		if _, err := BuildDir(t.Context(), k, dir, testOptions(t)); !errors.Is(err, ErrNoModule) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		dir := write(t, "x.c", source("x", ""))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		opts := testOptions(t)
		if _, err := BuildDir(ctx, k, dir, opts); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestBuildAll(t *testing.T) {
	k, opts := testKernel(t), testOptions(t)
	var runs int
	opts.Log = writerFunc(func(p []byte) (int, error) {
		runs += bytes.Count(p, []byte("MODPOST"))
		return len(p), nil
	})
	root := write(t,
		"general/a/Kbuild", "obj-m := a.o\nuserprogs-always-y := a_helper\nuserldflags := -static\n", "general/a/a.c", source("a", ""),
		"general/a/a_helper.c", "int main(void) { return 0; }\n", "general/a/test/load.txt", "insmod a\n",
		"general/b/Kbuild", "obj-m := b.o\n", "general/b/b.c", source("b", ""),
	)
	exercises, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	a, b := exercises[0], exercises[1]
	jobs := []Job{
		{Exercise: a},
		{Exercise: b},
		{Exercise: a, Files: map[string][]byte{"a.c": []byte(source("other", ""))}},
		{Exercise: b, Files: map[string][]byte{"b.c": []byte("int x = ;\n")}},
	}
	outcomes, err := BuildAll(t.Context(), k, jobs, opts)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"a", "b", "other"} {
		o := outcomes[i]
		if o.Err != nil || len(o.Built.Modules) != 1 || o.Built.Modules[0].Description != want || !o.Built.Made {
			t.Errorf("job %d: got %+v, %v", i, o.Built, o.Err)
		}
	}
	if len(outcomes[0].Built.Helpers) != 1 {
		t.Errorf("helpers: %q", outcomes[0].Built.Helpers)
	}
	var failed *kbuild.MakeError
	if !errors.As(outcomes[3].Err, &failed) || !strings.Contains(failed.First, "b.c:1:9: error") {
		t.Errorf("bad one: got %v", outcomes[3].Err)
	}
	// A test script that changes is no reason to compile.
	if err := os.WriteFile(filepath.Join(a.Dir, "test", "load.txt"), []byte("insmod a\nrmmod a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	runs = 0
	if again, err := BuildAll(t.Context(), k, jobs[:3], opts); err != nil || again[2].Built.Made || runs != 0 {
		t.Errorf("again: %d runs, %v", runs, err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
