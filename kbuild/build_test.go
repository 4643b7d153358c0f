package kbuild

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
	"github.com/linux-kaleidoscope/kaleido/kbuild/kconfig"
)

func TestCommands(t *testing.T) {
	lines := func(jobs int, ccache bool) [][]string {
		opts := BuildOptions{Source: &Source{Dir: "/src/linux-6.1.8"}, Jobs: jobs}
		return (&build{BuildOptions: opts, ccache: ccache}).commands("/cache/objects/KEY", "/cache/kernels/KEY")
	}
	k := &Kernel{Dir: "/cache/kernels/KEY"}
	var b strings.Builder
	for _, c := range []struct {
		name  string
		lines [][]string
	}{
		{"plain", lines(4, false)},
		{"ccache", lines(0, true)},
		{"modules", [][]string{k.ModuleCommand(ModuleBuild{Dir: "/src/hello", Jobs: 2})}},
		{"modules, with words", [][]string{k.ModuleCommand(ModuleBuild{Dir: "/src/hello", Args: []string{"W=1", "modules"}})}},
	} {
		b.WriteString("# " + c.name + "\n")
		for _, argv := range c.lines {
			b.WriteString(strings.Join(argv, " | ") + "\n")
		}
	}
	golden(t, "testdata/commands.txt", b.String())
}

// tools makes a directory with programs of these names.
func fakeTools(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.Chmod(write(t, filepath.Join(dir, name), name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestToolIdentity(t *testing.T) {
	bin := fakeTools(t, "gcc-12", "as", "ld", "objcopy", "make")
	if err := os.Symlink("gcc-12", filepath.Join(bin, "gcc")); err != nil {
		t.Fatal(err)
	}
	masked := fakeTools(t, "ccache")
	if err := os.Symlink("ccache", filepath.Join(masked, "gcc")); err != nil {
		t.Fatal(err)
	}
	get := func(path string) string {
		t.Helper()
		s, err := toolIdentity(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := get(bin)
	if !strings.Contains(first, filepath.Join(bin, "gcc-12")+" 6 ") {
		t.Errorf("the link gcc was not followed: %s", first)
	}
	if got := get("/none:" + masked + ":" + bin); got != first {
		t.Errorf("with ccache in front: %s\nwant %s", got, first)
	}
	if err := os.Chtimes(filepath.Join(bin, "gcc-12"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if get(bin) == first {
		t.Error("another compiler has the same identity")
	}
	if err := os.Remove(filepath.Join(bin, "ld")); err != nil {
		t.Fatal(err)
	}
	if _, err := toolIdentity(bin); !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "ld") {
		t.Errorf("without ld: %v", err)
	}
}

func TestKey(t *testing.T) {
	t.Setenv("PATH", fakeTools(t, tools...)) // The keys of a machine without a compiler would be errors.
	base := func() BuildOptions { return BuildOptions{Source: &Source{ID: "s", Dir: "/a"}, Ccache: "off"} }
	key := func(change func(*BuildOptions)) string {
		t.Helper()
		o := base()
		change(&o)
		k, err := Key(o)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key(func(*BuildOptions) {})
	same := map[string]func(*BuildOptions){
		"nothing":       func(*BuildOptions) {},
		"jobs":          func(o *BuildOptions) { o.Jobs = 7 },
		"place":         func(o *BuildOptions) { o.Source.Dir = "/b" },
		"profile named": func(o *BuildOptions) { o.Config.Profile = "lab" },
	}
	for name, change := range same {
		if got := key(change); got != first {
			t.Errorf("%s changes the key", name)
		}
	}
	seen := map[string]string{first: "nothing"}
	for name, change := range map[string]func(*BuildOptions){
		"source":  func(o *BuildOptions) { o.Source.ID = "t" },
		"profile": func(o *BuildOptions) { o.Config.Profile = "tiny" },
		"set":     func(o *BuildOptions) { o.Config.Set = []string{"SMP=n"} },
		"string":  func(o *BuildOptions) { o.Config.Set = []string{"CMDLINE=x"} },
		"tools":   func(*BuildOptions) { t.Setenv("PATH", fakeTools(t, tools...)) },
	} {
		got := key(change)
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s give the same key", name, other)
		}
		seen[got] = name
	}
}

// Comments and the places of files are not part of a kernel.
func TestKeyOfFragment(t *testing.T) {
	t.Setenv("PATH", fakeTools(t, tools...))
	var keys []string
	for _, text := range []string{"CONFIG_X=y\n", "# why\nCONFIG_X=y\n"} {
		o := BuildOptions{Source: &Source{ID: "s"}, Ccache: "off"}
		o.Config.Fragments = []string{write(t, filepath.Join(t.TempDir(), "f.config"), text)}
		k, err := Key(o)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	if keys[0] != keys[1] {
		t.Error("a comment changes the key")
	}
}

func TestUseCcache(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for word, want := range map[string]bool{"": true, "auto": true, "off": true, "on": false, "perhaps": false} {
		use, err := useCcache(word)
		if use || (err == nil) != want {
			t.Errorf("without ccache useCcache(%q) = %v, %v", word, use, err)
		}
	}
	t.Setenv("PATH", fakeTools(t, "ccache"))
	for word, want := range map[string]bool{"": true, "auto": true, "off": false, "on": true} {
		if use, err := useCcache(word); use != want || err != nil {
			t.Errorf("with ccache useCcache(%q) = %v, %v", word, use, err)
		}
	}
}

func TestExport(t *testing.T) {
	tree, dir := t.TempDir(), filepath.Join(t.TempDir(), "build")
	keeps := []string{
		".config", "Makefile", "modules.order", "Module.symvers", "System.map", "vmlinux", "request.config",
		"arch/x86/include/generated/asm/x.h", "include/config/auto.conf", "include/config/auto.conf.cmd",
		"include/config/SMP", "include/generated/autoconf.h", "scripts/mod/modpost", "scripts/module.lds",
		"tools/objtool/objtool", "fs/ext4/ext4.ko",
	}
	drops := []string{
		"vmlinux.o", "vmlinux.a", ".vmlinux.cmd", "kernel/fork.o", "kernel/.fork.o.cmd", "kernel/built-in.a",
		"scripts/kconfig/conf", "scripts/mod/.modpost.cmd", "scripts/mod/modpost.o", "tools/objtool/check.o",
		"arch/x86/boot/vmlinux.bin", ".tmp_vmlinux.kallsyms1", "fs/ext4/ext4.mod",
		"fs/xfs/xfs.ko", // of a configuration of before
	}
	for _, name := range append(slices.Clone(keeps), drops...) {
		write(t, filepath.Join(tree, name), "fs/ext4/ext4.ko\n")
	}
	made := time.Unix(1_600_000_000, 123456789)
	if err := os.Chtimes(filepath.Join(tree, ".config"), made, made); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/src/linux", filepath.Join(tree, "source")); err != nil {
		t.Fatal(err)
	}
	if err := export(tree, dir); err != nil {
		t.Fatal(err)
	}
	var left []string
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, _ error) error {
		rel, _ := filepath.Rel(dir, name)
		if d.Type().IsRegular() {
			left = append(left, rel)
			if info, _ := d.Info(); info.Mode()&0o222 != 0 {
				t.Errorf("%s can be written to: %v", rel, info.Mode())
			}
		}
		return nil
	})
	slices.Sort(keeps)
	slices.Sort(left)
	if !slices.Equal(left, keeps) {
		t.Errorf("left %q\nwant %q", left, keeps)
	}
	if _, err := os.Lstat(filepath.Join(dir, "source")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kernel")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("an empty folder is made")
	}
	if info, err := os.Stat(filepath.Join(dir, ".config")); err != nil || !info.ModTime().Equal(made) {
		t.Errorf("the copy of .config is of %v, %v; want %v", info.ModTime(), err, made)
	}
}

func TestLeavesWhole(t *testing.T) {
	ended := func(script string) error {
		return &MakeError{Err: exec.Command("sh", "-c", script).Run()}
	}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"no error", nil, true},
		{"a source that does not compile", ended("exit 2"), true},
		{"make was killed", ended("kill -KILL $$"), false},
		{"the disk was full", &MakeError{Err: errors.Join(ended("exit 2"), syscall.ENOSPC)}, false},
		{"interrupted", context.Canceled, false},
	} {
		if got := leavesWhole(c.err); got != c.want {
			t.Errorf("%s: leavesWhole = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestOpenKernel(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "KEY")
	text, err := json.Marshal(&Kernel{Release: "6.1.8-kaleido", Version: "6.1.8", Source: filepath.Join(dir, "gone")})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "kernel.json"), string(text))
	k, err := OpenKernel(dir)
	if err != nil || k.Key != "KEY" || k.Release != "6.1.8-kaleido" || k.Image() != filepath.Join(dir, "bzImage") || k.BuildTree() != filepath.Join(dir, "build") {
		t.Errorf("OpenKernel = %+v, %v", k, err)
	}
	if err := k.BuildModules(t.Context(), ModuleBuild{Dir: t.TempDir()}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "fetch it again") {
		t.Errorf("BuildModules without the source = %v", err)
	}
	if _, err := OpenKernel(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenKernel of nothing = %v", err)
	}
	write(t, filepath.Join(dir, "kernel.json"), "{")
	if _, err := OpenKernel(dir); err == nil {
		t.Error("OpenKernel of a torn file succeeded")
	}
}

func TestBootImage(t *testing.T) {
	for _, test := range []struct {
		config kconfig.Values
		want   string
	}{
		{kconfig.Values{"PVH": "y"}, "vmlinux.boot"},
		{kconfig.Values{"PVH": "y", "KASAN": "y"}, "bzImage"},
		{kconfig.Values{}, "bzImage"},
	} {
		k := &Kernel{Dir: "/k", NoPVH: noPVH(test.config)}
		if got := filepath.Base(k.BootImage()); got != test.want {
			t.Errorf("with %v BootImage is %s, want %s", test.config, got, test.want)
		}
	}
}

func TestExpected(t *testing.T) {
	c, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &build{BuildOptions: BuildOptions{Cache: c}}
	if got := b.expected(); got != typicalObjects["lab"] {
		t.Errorf("with an empty cache expected = %d", got)
	}
	for key, text := range map[string]string{"a": `{"profile":"lab","objects":77}`, "b": `{"profile":"tiny","objects":5}`} {
		_, _, err := c.Ensure(t.Context(), cache.Kernels, key, "", func(_ context.Context, dir string) error {
			return os.WriteFile(filepath.Join(dir, kernelFile), []byte(text), 0o666)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := b.expected(); got != 77 {
		t.Errorf("after a kernel of 77 objects expected = %d", got)
	}
}
