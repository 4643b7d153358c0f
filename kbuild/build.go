package kbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
	"github.com/linux-kaleidoscope/kaleido/kbuild/kconfig"
)

// BuildOptions says what kernel to build, and how.
type BuildOptions struct {
	Source   *Source
	Config   Config
	Cache    *cache.Cache
	Jobs     int          // of make; default 1
	Ccache   string       // "auto" (the default): if it is installed; "on": it must be; "off"
	Progress func(Update) // may be nil
	Log      io.Writer    // gets all that make says as it says it; may be nil
	LogDir   string       // for the log of a failed build; default logs in the cache
}

// buildVersion is part of every key: raise it when the same inputs are to give another product.
const buildVersion = "3"

// What a kernel says of its own making (uname -v, /proc/version): the same for everybody, or the same
// inputs would not give the same bytes. Documentation/kbuild/reproducible-builds.rst. An empty
// LOCALVERSION keeps git's + out of the release.
var identity = []string{
	"LOCALVERSION=",
	"KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
	"KBUILD_BUILD_USER=kaleido",
	"KBUILD_BUILD_HOST=kaleido",
	"KBUILD_BUILD_VERSION=1",
}

// makeCommand begins a command line for make in a source tree, whose O= is dir. Programs for the host
// come out of ccache, the configuration's own among them.
func makeCommand(src, dir string, jobs int, ccache bool) []string {
	argv := []string{"make", "-C", src, "O=" + dir, "-j" + strconv.Itoa(max(1, jobs))}
	if ccache {
		// The name of O= is another one for every configuration; the objects in it are often the same.
		argv = append([]string{"CCACHE_NOHASHDIR=1"}, append(argv, "HOSTCC=ccache gcc")...)
	}
	return argv
}

func configureCommand(src, dir string, jobs int, ccache bool) []string {
	return append(makeCommand(src, dir, jobs, ccache), "KCONFIG_ALLCONFIG="+filepath.Join(dir, requestFile), "allnoconfig")
}

func buildCommand(src, dir string, jobs int, ccache bool) []string {
	argv := makeCommand(src, dir, jobs, ccache)
	// Some makefiles of 6.1, those of the boot and real mode code, do not say in which C they are written.
	// It is not C23, gcc 15's default: bool is a keyword there.
	cc := "gcc -std=gnu11"
	if ccache {
		cc = "ccache " + cc
	}
	argv = append(argv, "CC="+cc)
	// Debug information names sources by their path below the source tree, wherever that is and we build.
	names := "-ffile-prefix-map=" + src + "/= -ffile-prefix-map=" + dir + "=."
	argv = append(argv, "KCFLAGS="+names, "KAFLAGS="+names)
	argv = append(argv, identity...)
	return append(argv, "bzImage", "modules", "scripts_gdb")
}

// stripCommand makes the image for PVH: the note with its entry point is in a segment and stays.
func stripCommand(dir, out string) []string {
	return []string{"objcopy", "--strip-all", filepath.Join(dir, "vmlinux"), out}
}

// commands are the command lines of a build in a tree, with what is to be booted made in dir.
func (b *build) commands(tree, dir string) [][]string {
	return [][]string{
		configureCommand(b.Source.Dir, tree, b.Jobs, b.ccache),
		buildCommand(b.Source.Dir, tree, b.Jobs, b.ccache),
		stripCommand(tree, filepath.Join(dir, bootFile)),
	}
}

// Commands returns the exact command lines by which [Build] builds the kernel, of which words NAME=value
// in front are the environment. Nothing is run. From the tree that they name the cache copies what is
// kept of a kernel.
func (o BuildOptions) Commands() ([][]string, error) {
	b, err := newBuild(o)
	if err != nil {
		return nil, err
	}
	return b.commands(o.Cache.Path(cache.Objects, b.objects), o.Cache.Path(cache.Kernels, b.key)), nil
}

// Key returns the key that the kernel has in a cache, built or not. Nothing is run, and no Cache is
// needed.
func Key(opts BuildOptions) (string, error) {
	b, err := newBuild(opts)
	if err != nil {
		return "", err
	}
	return b.key, nil
}

// Build returns the kernel that the options describe: from the cache if it is there, else built.
// Nothing is run for a kernel that is there: its key is made of the source's identity, the merged
// request, and the files of the compiler and its tools.
//
// The error is a *ConfigError if the configuration cannot be had, a *FetchError if the source was
// built in place, a *MakeError if the kernel does not build, exec.ErrNotFound if a tool is missing, and ctx's
// if that ends first; then no process of the build is left.
func Build(ctx context.Context, opts BuildOptions) (*Kernel, error) {
	b, err := newBuild(opts)
	if err != nil {
		return nil, err
	}
	b.Cache = opts.Cache.WithOnWait(noteWait("build", b.progress))
	describe := fmt.Sprintf("linux %s, profile %s", opts.Source.Version, opts.Config.profile())
	entry, built, err := b.Cache.Ensure(ctx, cache.Kernels, b.key, describe, b.run)
	if err != nil {
		return nil, err
	}
	k, err := OpenKernel(entry.Path)
	if err != nil {
		return nil, err
	}
	k.Built = built
	return k, nil
}

// build is one kernel to be built.
type build struct {
	BuildOptions
	reqs    []kconfig.Request
	ccache  bool
	key     string
	objects string // the key of the tree that it is built in
}

func newBuild(opts BuildOptions) (*build, error) {
	b := &build{BuildOptions: opts}
	var err error
	if b.reqs, err = opts.Config.Requests(); err != nil {
		return nil, err
	}
	if b.ccache, err = useCcache(opts.Ccache); err != nil {
		return nil, err
	}
	tools, err := toolIdentity(os.Getenv("PATH"))
	if err != nil {
		return nil, fmt.Errorf("build linux %s: %w", opts.Source.Version, err)
	}
	h := cache.NewHash(cache.Kernels)
	h.String("build", buildVersion)
	h.String("source", opts.Source.ID)
	h.String("profile", opts.Config.profile())
	h.String("request", string(kconfig.Format(kconfig.Assignments(b.reqs))))
	h.String("tools", tools)
	b.key = h.Sum()
	// Kernels of one source and profile are built in one tree, one after the other: of the next one
	// kbuild makes only what another configuration, or a changed source, asks for.
	h = cache.NewHash(cache.Objects)
	h.String("build", buildVersion)
	h.String("source", opts.Source.Dir)
	h.String("profile", opts.Config.profile())
	h.String("tools", tools)
	b.objects = h.Sum()
	return b, nil
}

// useCcache decides by the option's word. ccache is not part of the key: it gives the same bytes.
func useCcache(word string) (bool, error) {
	switch word {
	case "off":
		return false, nil
	case "", "auto":
		_, err := exec.LookPath("ccache")
		return err == nil, nil
	case "on":
		if _, err := exec.LookPath("ccache"); err != nil {
			return false, fmt.Errorf("use ccache: %w", err)
		}
		return true, nil
	}
	return false, &ConfigError{Err: fmt.Errorf("ccache is auto, on or off, not %q", word)}
}

// tools are the programs whose version the product depends on.
var tools = []string{"gcc", "as", "ld", "objcopy", "make"}

// toolIdentity tells one set of tools from another by their files, without running them: path, size
// and time of change. A package manager keeps the time that is in the package.
func toolIdentity(path string) (string, error) {
	var b strings.Builder
	for _, name := range tools {
		file, info, err := findTool(path, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %s %d %d\n", name, file, info.Size(), info.ModTime().UnixNano())
	}
	return b.String(), nil
}

// findTool looks a program up in $PATH and follows its links: gcc to gcc-12. Directories that mask
// the compiler by ccache are passed over, or a new compiler would go unseen.
func findTool(path, name string) (string, fs.FileInfo, error) {
	for _, dir := range filepath.SplitList(path) {
		file, err := filepath.EvalSymlinks(filepath.Join(dir, name))
		if err != nil || filepath.Base(file) == "ccache" {
			continue
		}
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, info, nil
		}
	}
	return "", nil, &exec.Error{Name: name, Err: exec.ErrNotFound}
}

func (b *build) progress(u Update) {
	if b.Progress != nil {
		b.Progress(u)
	}
}

// run builds the kernel into an empty directory of the cache.
func (b *build) run(ctx context.Context, dir string) error {
	start := time.Now()
	log, err := b.createLog()
	if err != nil {
		return err
	}
	defer log.Close()
	describe := fmt.Sprintf("linux %s, profile %s", b.Source.Version, b.Config.profile())
	err = b.Cache.Rework(ctx, cache.Objects, b.objects, describe,
		func(ctx context.Context, tree string, fresh bool) (whole bool, err error) {
			if !fresh && backdated(ctx, b.Source.Dir, filepath.Join(tree, requestFile)) {
				fresh = true
				if err := removeContents(tree); err != nil {
					return false, fmt.Errorf("build: %w", err)
				}
			}
			err = b.make(ctx, tree, dir, fresh, log, start)
			return leavesWhole(err) || !fresh && errors.As(err, new(*ConfigError)), err
		})
	if err == nil {
		err = b.Source.unchanged(ctx)
	}
	if err != nil {
		return err
	}
	_ = os.Remove(log.Name()) // It would tell nobody anything.
	return nil
}

// leavesWhole tells whether a build that ended like this has left nothing half-made: a make that ended by
// itself has not, also if a source did not compile.
func leavesWhole(err error) bool {
	var failed *MakeError
	var exit *exec.ExitError
	ended := errors.As(err, &failed) && errors.As(failed.Err, &exit) && exit.Exited()
	return err == nil || ended && !errors.Is(err, syscall.ENOSPC)
}

// make builds the kernel in a tree and puts what is kept of it into dir.
func (b *build) make(ctx context.Context, tree, dir string, fresh bool, log *os.File, start time.Time) error {
	b.progress(Update{Stage: "configure"})
	cmd := func() *command {
		c := &command{log: log, logFile: log.Name(), name: relativeTo(b.Source.Dir)}
		if b.Log != nil {
			c.log = io.MultiWriter(b.Log, log)
		}
		return c
	}
	lines := b.commands(tree, dir)
	c := cmd()
	c.argv = lines[0]
	config, values, err := configure(ctx, b.Source, b.reqs, tree, c)
	if err != nil {
		return err
	}
	s := &steps{stage: "build", report: b.Progress, pace: throttle{every: progressEvery}}
	if fresh {
		s.total = b.expected()
	}
	for _, argv := range lines[1:] {
		c := cmd()
		c.argv, c.line = argv, s.line
		if err := c.run(ctx); err != nil {
			return err
		}
	}
	s.finish()
	k := &Kernel{
		Dir:     dir,
		Version: b.Source.Version, Profile: b.Config.profile(),
		Source: b.Source.Dir, SourceID: b.Source.ID, Origin: b.Source.Origin,
		ConfigSum: sum(config), NoPVH: noPVH(values),
	}
	if fresh {
		k.Objects = s.done
	}
	if err := k.collect(tree); err != nil {
		return fmt.Errorf("build linux %s: %w", b.Source.Version, err)
	}
	if err := k.seal(ctx, start); err != nil {
		return fmt.Errorf("build linux %s: %w", b.Source.Version, err)
	}
	return nil
}

// removeContents removes what is in a directory.
func removeContents(dir string) error {
	names, err := os.ReadDir(dir)
	for _, d := range names {
		if err == nil {
			err = os.RemoveAll(filepath.Join(dir, d.Name()))
		}
	}
	return err
}

// createLog opens the file for all that make says. Its name is the kernel's key, so that of several
// failures of one kernel the last is kept.
func (b *build) createLog() (*os.File, error) {
	dir := b.LogDir
	if dir == "" {
		dir = filepath.Join(b.Cache.Dir(), "logs")
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("create build log: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, "build-"+b.key[:16]+".log"))
	if err != nil {
		return nil, fmt.Errorf("create build log: %w", err)
	}
	return f, nil
}

// relativeTo shortens the names of files below a directory.
func relativeTo(dir string) func(string) string {
	return func(line string) string { return strings.ReplaceAll(line, dir+string(filepath.Separator), "") }
}

// typicalObjects is how many steps a profile's build of Linux 6.1 takes.
var typicalObjects = map[string]int64{"tiny": 1370, "lab": 1420, "debug": 1475}

// expected is how many steps the build will take: as many as the latest kernel of the profile took.
func (b *build) expected() int64 {
	n := typicalObjects[b.Config.profile()]
	entries, err := b.Cache.List()
	if err != nil {
		return n
	}
	var latest time.Time
	for _, e := range entries {
		if e.Kind != cache.Kernels || e.Created.Before(latest) {
			continue
		}
		if k, err := OpenKernel(e.Path); err == nil && k.Profile == b.Config.profile() && k.Objects > 0 {
			n, latest = k.Objects, e.Created
		}
	}
	return n
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// collect copies what is kept of a build in a tree to the kernel's directory.
func (k *Kernel) collect(tree string) error {
	if err := export(tree, k.BuildTree()); err != nil {
		return err
	}
	return copyFile(k.Image(), filepath.Join(tree, "arch", arch, "boot", "bzImage"))
}

// seal checks a finished build in the kernel's directory and writes kernel.json.
func (k *Kernel) seal(ctx context.Context, start time.Time) error {
	if err := k.check(); err != nil {
		return err
	}
	release, err := os.ReadFile(filepath.Join(k.BuildTree(), "include", "config", "kernel.release"))
	if err != nil {
		return err
	}
	k.Release = strings.TrimSpace(string(release))
	if k.Compiler, err = compilerVersion(ctx); err != nil {
		return err
	}
	k.BuildSeconds = time.Since(start).Seconds()
	data, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(k.path(kernelFile), append(data, '\n'), 0o666)
}

// check finds a build that make was content with and that is of no use.
func (k *Kernel) check() error {
	for _, name := range []string{k.Image(), k.Vmlinux(), k.path(bootFile), k.SystemMap(), k.Symvers(), k.ConfigFile()} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if info.Size() == 0 {
			return fmt.Errorf("make left %s empty", filepath.Base(name))
		}
	}
	return nil
}

// compilerVersion is the first line that the compiler says of itself.
func compilerVersion(ctx context.Context) (string, error) {
	var out bytes.Buffer
	cmd := &command{argv: []string{"gcc", "--version"}, log: &out}
	if err := cmd.run(ctx); err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	return line, nil
}

// export copies what people and modules need of a build tree. Nobody may write to the copies.
func export(tree, to string) error {
	modules, err := modulesOf(tree)
	if err != nil {
		return err
	}
	return filepath.WalkDir(tree, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(tree, name)
		if err != nil || d.IsDir() || !keep(filepath.ToSlash(rel), modules) {
			return err
		}
		copied := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(copied), 0o777); err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(target, copied)
		}
		return copyFile(copied, name)
	})
}

// copyFile copies a file with its times, by which make judges it, and without the right to write to it.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm()&^0o222)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Chtimes(to, time.Time{}, info.ModTime()))
}

// modulesOf are the kernel's own modules, without their ending: a tree may have others, of a
// configuration of before. modules.order has had .o in place of .ko since 6.3.
func modulesOf(tree string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(tree, "modules.order"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		name := strings.TrimSpace(line)
		names = append(names, strings.TrimSuffix(name, filepath.Ext(name)))
	}
	return names, nil
}

// keep tells what of a build tree stays: the products; for make M= the makefile, generated headers,
// the .config in all its forms, and the programs that work on a module's objects.
func keep(rel string, modules []string) bool {
	dir, base := filepath.Split(rel)
	switch {
	case strings.HasSuffix(base, ".ko"):
		return slices.Contains(modules, strings.TrimSuffix(rel, ".ko"))
	case strings.HasSuffix(base, ".o") || strings.HasSuffix(base, ".cmd") && base != "auto.conf.cmd" || strings.HasSuffix(base, ".a"):
		return false
	case dir == "":
		switch base {
		case "Makefile", "source", "vmlinux", "vmlinux-gdb.py", "System.map", "Module.symvers", ".config", requestFile,
			"modules.order", "modules.builtin", "modules.builtin.modinfo":
			return true
		}
		return false
	case rel == "tools/objtool/objtool" || rel == "tools/bpf/resolve_btfids/resolve_btfids":
		return true
	case strings.HasPrefix(rel, "scripts/kconfig/"):
		return false
	}
	for _, prefix := range []string{"include/", "arch/" + arch + "/include/", "scripts/"} {
		if strings.HasPrefix(rel, prefix) {
			return true
		}
	}
	return false
}
