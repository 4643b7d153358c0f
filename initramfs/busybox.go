package initramfs

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// programName is where the busybox is in the guest.
const programName = "bbin/bb"

// makebb is u-root's program that turns many commands into one.
const makebb = "github.com/u-root/gobusybox/src/cmd/makebb"

// tags are the build tags of the busybox. The line editor that gosh has without goshsmall
// waits 10 s for a serial line to answer, and makes the busybox a fifth larger.
const tags = "goshsmall"

// aliases are further names of commands. A link would not do: u-root's busybox goes by
// argv[0], which a shell sets to the name that was typed.
var aliases = map[string]string{
	"sh": "gosh", "less": "more", "halt": "shutdown",
	// The agent's survive an oops in a module; see guest.RunTool.
	"insmod": "uinit", "modprobe": "uinit", "rmmod": "uinit",
}

// busybox is the guest's program: how it is made and from what.
type busybox struct {
	opts     *Options
	gotool   string // path of the go command
	packages []string
	files    []txtar.File
	key      string
}

// newBusybox gathers what the busybox is made of.
func newBusybox(ctx context.Context, opts *Options) (*busybox, error) {
	gotool, err := findGo()
	if err != nil {
		return nil, err
	}
	packages, err := commandPackages()
	if err != nil {
		return nil, err
	}
	files, err := guest(opts.SourceDir)
	if err != nil {
		return nil, err
	}
	b := &busybox{opts: opts, gotool: gotool, packages: append(packages, module+"/"+agentPackage), files: files}
	b.key, err = b.makeKey(ctx)
	return b, err
}

// makeKey hashes what goes into the busybox. u-root's sources are there by their sums in go.sum.
func (b *busybox) makeKey(ctx context.Context) (string, error) {
	c := command{args: []string{b.gotool, "env", "GOVERSION", "GOTOOLCHAIN"}, dir: "/", env: environ(), quiet: true}
	version, err := c.run(ctx)
	if err != nil {
		return "", err
	}
	h := cache.NewHash(cache.Initramfs)
	h.String("go", string(version))
	h.String("arch", b.opts.Arch)
	h.String("build", strings.Join(buildArgs("bb"), " "))
	for _, p := range b.packages {
		h.String("command", p)
	}
	for _, f := range slices.Concat(b.files, aliasFiles()) {
		h.String(f.Name, string(f.Data))
	}
	return h.Sum(), nil
}

// tree returns the tree that every archive has; the program is in it without its content.
func (b *busybox) tree() (*tree, error) {
	var names []string
	for _, p := range b.packages {
		names = append(names, path.Base(p))
	}
	for name := range aliases {
		names = append(names, name)
	}
	return base(names)
}

// ensure returns the path of the program, which it makes if the cache does not have it.
func (b *busybox) ensure(ctx context.Context) (string, error) {
	describe := fmt.Sprintf("busybox of the agent and %d u-root commands", len(b.packages)-1)
	e, _, err := b.opts.Cache.Ensure(ctx, cache.Initramfs, b.key, describe, func(ctx context.Context, dir string) error {
		b.opts.note(fmt.Sprintf("compiling the guest's %d commands", len(b.packages)))
		return b.build(ctx, dir)
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(e.Path, "bb"), nil
}

// build compiles the busybox to dir/bb. All that is temporary, the go command's files too,
// is in one folder of dir.
func (b *busybox) build(ctx context.Context, dir string) error {
	work := filepath.Join(dir, "work")
	for _, name := range []string{"mod", "gen", "tmp"} {
		if err := os.MkdirAll(filepath.Join(work, name), 0o777); err != nil {
			return fmt.Errorf("build busybox: %w", err)
		}
	}
	if err := writeFiles(filepath.Join(work, "mod"), b.files); err != nil {
		return fmt.Errorf("build busybox: %w", err)
	}
	if err := b.generate(ctx, work); err != nil {
		return err
	}
	if err := b.compile(ctx, work, filepath.Join(dir, "bb")); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("build busybox: %w", err)
	}
	return nil
}

// generate has makebb write the busybox's source to work/gen, a GOPATH. It runs as a
// process of its own because it cannot be stopped otherwise, and takes some 300 MB.
func (b *busybox) generate(ctx context.Context, work string) error {
	mod := filepath.Join(work, "mod")
	env := environ("GOFLAGS=-buildvcs=false -mod=readonly", "TMPDIR="+filepath.Join(work, "tmp"), "GOTMPDIR="+filepath.Join(work, "tmp"))
	tool := filepath.Join(work, "makebb")
	if _, err := b.command(mod, env, b.gotool, "build", "-o", tool, makebb).run(ctx); err != nil {
		return err
	}
	// Fetches what the module cache lacks, and says what is wrong in clearer words than makebb.
	env = append(env, "GOOS=linux", "GOARCH="+b.opts.Arch)
	list := b.command(mod, env, slices.Concat([]string{b.gotool, "list", "-deps", "-tags", tags, "-f", "{{/* no output */}}"}, b.packages)...)
	if _, err := list.run(ctx); err != nil {
		return err
	}
	root, err := b.goroot(ctx, mod, env)
	if err != nil {
		return err
	}
	// The go command may have handed over to a newer one, as go.mod asks: makebb has to use that.
	env = append(env, "GOROOT="+root, "GOTOOLCHAIN=local", "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	args := []string{tool, "-g", "-gen-dir", filepath.Join(work, "gen"), "-go-build-tags", tags}
	_, err = b.command(mod, env, append(args, b.packages...)...).run(ctx)
	return err
}

func (b *busybox) command(dir string, env []string, args ...string) *command {
	return &command{args: args, dir: dir, env: env, log: b.opts.Log}
}

// goroot returns the root of the Go installation that go.mod in dir selects.
func (b *busybox) goroot(ctx context.Context, dir string, env []string) (string, error) {
	c := command{args: []string{b.gotool, "env", "GOROOT"}, dir: dir, env: env, quiet: true}
	out, err := c.run(ctx)
	return strings.TrimSpace(string(out)), err
}

// compile compiles the generated source to the file named program.
func (b *busybox) compile(ctx context.Context, work, program string) error {
	mod, gen := filepath.Join(work, "mod"), filepath.Join(work, "gen")
	if err := writeFiles(filepath.Join(gen, "src"), aliasFiles()); err != nil {
		return fmt.Errorf("build busybox: %w", err)
	}
	root, err := b.goroot(ctx, mod, environ())
	if err != nil {
		return err
	}
	env := environ("GO111MODULE=off", "GOPATH="+gen, "GOOS=linux", "GOARCH="+b.opts.Arch,
		"GOTOOLCHAIN=local", "GOROOT="+root, "TMPDIR="+filepath.Join(work, "tmp"), "GOTMPDIR="+filepath.Join(work, "tmp"))
	args := append([]string{filepath.Join(root, "bin", "go")}, buildArgs(program)...)
	_, err = b.command(filepath.Join(gen, "src", mainFolder), env, args...).run(ctx)
	return err
}

// buildArgs are the go command's arguments that compile the busybox: without symbols, and the same
// bytes wherever it is built. Functions are inlined, which makebb would not do: it costs 7 % in size, and
// saves a seventh of a test's time under TCG, most of which goes into translating blocks of code.
func buildArgs(program string) []string {
	return []string{"build", "-o", program, "-trimpath", "-tags", tags, "-ldflags=-s -w -buildid=", "."}
}

// mainFolder is where makebb puts the busybox's main package below GOPATH/src.
const mainFolder = "bb.u-root.com/bb"

// aliasFiles are files of ours in the generated source: they register the aliases, and
// undo that in GOPATH mode a program gets the behaviour of Go 1.20 (asynctimerchan and others,
// https://go.dev/doc/godebug).
func aliasFiles() []txtar.File {
	var calls strings.Builder
	for _, name := range slices.Sorted(maps.Keys(aliases)) {
		fmt.Fprintf(&calls, "\tbbmain.Alias(%q, %q)\n", name, aliases[name])
	}
	return []txtar.File{
		{Name: mainFolder + "/pkg/bbmain/alias.go", Data: []byte(`package bbmain

// Alias lets the command registered as of answer to name too.
func Alias(name, of string) {
	cmd, ok := bbCmds[of]
	if !ok {
		panic("no command " + of)
	}
	bbCmds[name] = cmd
}
`)},
		{Name: mainFolder + "/alias.go", Data: []byte(`//go:debug default=go1.26
package main

import "bb.u-root.com/bb/pkg/bbmain"

func init() {
` + calls.String() + "}\n")},
	}
}
