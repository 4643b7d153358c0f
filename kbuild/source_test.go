package kbuild

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// userTree makes a kernel tree of the user's own, and options to use it.
func userTree(t *testing.T) (string, FetchOptions) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my linux")
	writeFile(t, filepath.Join(dir, "Makefile"), []byte("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 3\nEXTRAVERSION = -mine\n"))
	writeFile(t, filepath.Join(dir, "kernel/fork.c"), []byte("int x;\n"))
	opts := options(t, refusing(t))
	opts.Kernel = dir
	return dir, opts
}

func fetchID(t *testing.T, opts FetchOptions) string {
	t.Helper()
	src, err := Fetch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return src.ID
}

func TestFetchDirectory(t *testing.T) {
	dir, opts := userTree(t)
	src, err := Fetch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if src.Dir != dir || src.Version != "6.1.3-mine" || src.Origin != dir || src.StandIn {
		t.Errorf("Source = %+v", src)
	}
	wantNothing(t, opts.Cache)
	if id, err := Identify(t.Context(), opts); err != nil || id != src.ID {
		t.Errorf("Identify = %q, %v, Fetch %q", id, err, src.ID)
	}
	seen := map[string]string{src.ID: "at first"}
	for _, change := range []struct {
		name string
		do   func() error
	}{
		{"content of the same length", func() error { return os.WriteFile(filepath.Join(dir, "kernel/fork.c"), []byte("int y;\n"), 0o666) }},
		{"a new file", func() error { return os.WriteFile(filepath.Join(dir, "kernel/new.c"), nil, 0o666) }},
		{"a renamed file", func() error {
			return os.Rename(filepath.Join(dir, "kernel/new.c"), filepath.Join(dir, "kernel/newer.c"))
		}},
		{"a mode", func() error { return os.Chmod(filepath.Join(dir, "kernel/fork.c"), 0o700) }},
		{"a symbolic link", func() error { return os.Symlink("fork.c", filepath.Join(dir, "kernel/link.c")) }},
		{"a removed file", func() error { return os.Remove(filepath.Join(dir, "kernel/newer.c")) }},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		id := fetchID(t, opts)
		if before, ok := seen[id]; ok {
			t.Errorf("after %s the ID is the one %s", change.name, before)
		}
		seen[id] = "after " + change.name
		if again := fetchID(t, opts); again != id {
			t.Errorf("after %s the ID is %s and then %s", change.name, id, again)
		}
	}
}

func TestFetchDirectoryErrors(t *testing.T) {
	dir, opts := userTree(t)
	writeFile(t, filepath.Join(dir, ".config"), nil)
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "use", "built in place: it has .config: run make mrproper")
	opts.Kernel = t.TempDir()
	_, err = Fetch(t.Context(), opts)
	wantFetchError(t, err, "use", "no kernel source tree")
	if err := os.Remove(filepath.Join(dir, ".config")); err != nil {
		t.Fatal(err)
	}
	opts.Kernel = dir
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Fetch(ctx, opts)
	wantFetchError(t, err, "use", "context canceled")
}

// TestOwnRunsAreNotSource runs kaleido in a tree that has no git.
func TestOwnRunsAreNotSource(t *testing.T) {
	dir, opts := userTree(t)
	before := fetchID(t, opts)
	writeFile(t, filepath.Join(dir, ".kaleido/runs/1/console.log"), []byte("x"))
	if id := fetchID(t, opts); id != before {
		t.Error("a run's files change the ID of the tree that it was started in")
	}
	writeFile(t, filepath.Join(dir, "kernel/.kaleido/x.c"), []byte("x"))
	if id := fetchID(t, opts); id == before {
		t.Error("a folder of that name within the tree does not")
	}
}

// TestTreeChangesDuringBuild builds a tree whose makefile edits it, as its owner may.
func TestTreeChangesDuringBuild(t *testing.T) {
	blank, opts := userTree(t)
	dir := filepath.Join(filepath.Dir(blank), "linux")
	if err := os.Rename(blank, dir); err != nil {
		t.Fatal(err)
	}
	opts.Kernel = dir
	config := t.TempDir()
	for name, text := range map[string]string{
		filepath.Join(config, "base.config"): "CONFIG_X=y\n",
		filepath.Join(config, "lab.config"):  "",
		filepath.Join(dir, "Kconfig"):        "config X\n\tbool \"x\"\n",
		filepath.Join(dir, "Makefile"): `VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 3
EXTRAVERSION =
products = vmlinux System.map Module.symvers arch/x86/boot/bzImage
allnoconfig:
	echo CONFIG_X=y >$(O)/.config
bzImage:
	mkdir -p $(O)/arch/x86/boot $(O)/include/config
	$(CC) -c -o $(O)/vmlinux -x c kernel/fork.c
	cd $(O) && for f in $(products:vmlinux=); do echo x >$$f; done
	echo 6.1.3 >$(O)/include/config/kernel.release
	test ! -e $(O)/../edit || echo 'int y;' >>kernel/fork.c
modules scripts_gdb:
`,
	} {
		writeFile(t, name, []byte(text))
	}
	build := func() error {
		src, err := Fetch(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Build(t.Context(), BuildOptions{Source: src, Config: Config{Dir: config}, Cache: opts.Cache})
		return err
	}
	edit := filepath.Join(opts.Cache.Dir(), "objects", "edit")
	writeFile(t, edit, nil)
	if err := build(); err == nil || !strings.Contains(err.Error(), "changed while it was built") {
		t.Errorf("Build of a tree that changes = %v", err)
	}
	if err := os.Remove(edit); err != nil {
		t.Fatal(err)
	}
	if err := build(); err != nil {
		t.Errorf("Build of it at rest: %v", err)
	}
}

func TestFetchGitTree(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	dir, opts := userTree(t)
	t.Setenv("GIT_DIR", "/nonexistent") // must not lead our own calls astray
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_DIR="+filepath.Join(dir, ".git"), "GIT_WORK_TREE="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "-q")
	writeFile(t, filepath.Join(dir, ".gitignore"), []byte("*.o\n"))
	run("add", ".")
	run("commit", "-q", "-m", "first")
	commit := run("rev-parse", "HEAD")
	clean := fetchID(t, opts)
	if !strings.HasSuffix(clean, " git:"+commit) || !strings.Contains(clean, dir) {
		t.Errorf("ID = %q, want the path and commit %s", clean, commit)
	}

	index, err := os.Stat(filepath.Join(dir, ".git/index"))
	if err != nil {
		t.Fatal(err)
	}
	fork := filepath.Join(dir, "kernel/fork.c")
	writeFile(t, fork, []byte("int y;\n"))
	dirty := fetchID(t, opts)
	if dirty == clean || !strings.Contains(dirty, " stat:") {
		t.Errorf("ID of a changed tree = %q", dirty)
	}
	writeFile(t, fork, []byte("int x;\n"))
	if id := fetchID(t, opts); id != clean {
		t.Errorf("ID with the change taken back = %q, want %q", id, clean)
	}
	if after, err := os.Stat(filepath.Join(dir, ".git/index")); err != nil || !after.ModTime().Equal(index.ModTime()) {
		t.Errorf("git wrote its index: %v", err)
	}
	writeFile(t, filepath.Join(dir, "kernel/new.c"), nil)
	if id := fetchID(t, opts); id == clean {
		t.Error("an untracked file does not change the ID")
	}
	run("add", ".")
	if id := fetchID(t, opts); id == clean {
		t.Error("a staged file does not change the ID")
	}
	run("commit", "-q", "-m", "second")
	if id := fetchID(t, opts); id == clean || !strings.Contains(id, " git:") {
		t.Errorf("ID of another commit = %q", id)
	}

	// A tree that some other repository holds, or ignores, is not that repository's commit.
	inner := filepath.Join(dir, "inner.o")
	writeFile(t, filepath.Join(inner, "Makefile"), []byte("VERSION = 6\nPATCHLEVEL = 1\n"))
	opts.Kernel = inner
	if id := fetchID(t, opts); !strings.Contains(id, " stat:") {
		t.Errorf("ID of a tree within another repository = %q", id)
	}
}

func TestBackdated(t *testing.T) {
	dir, _ := userTree(t)
	stamp := writeFile(t, filepath.Join(t.TempDir(), "stamp"), nil)
	now := time.Now()
	setTime := func(name string, when time.Time) {
		t.Helper()
		if err := os.Chtimes(name, when, when); err != nil {
			t.Fatal(err)
		}
	}
	fork := filepath.Join(dir, "kernel", "fork.c")
	setTime(fork, now.Add(-time.Hour)) // its inode has changed now, after the time that the stamp has
	setTime(stamp, now.Add(-time.Minute))
	if !backdated(t.Context(), dir, stamp) {
		t.Error("a file with an old time that was put there after the stamp goes unseen")
	}
	setTime(fork, now)
	setTime(filepath.Join(dir, "Makefile"), now)
	if backdated(t.Context(), dir, stamp) {
		t.Error("a file that make will see as new counts as backdated")
	}
	setTime(fork, now.Add(-time.Hour))
	setTime(stamp, now.Add(time.Hour))
	if backdated(t.Context(), dir, stamp) {
		t.Error("a file that was there before the stamp counts as backdated")
	}
	if !backdated(t.Context(), dir, stamp+"x") {
		t.Error("without a stamp nothing counts as backdated")
	}
}
