package modules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// Options say how to build. Only Cache is mandatory.
type Options struct {
	// Cache keeps the products.
	Cache *cache.Cache
	// Jobs is how many compilers may run at once; the default is 1.
	Jobs int
	// Args are further arguments for make, as "W=1".
	Args []string
	// Log gets make's output. Nil discards it.
	Log io.Writer
	// Note gets a line for people: what was left out or assumed. Nil discards it.
	Note func(line string)
	// Files take the place of the folder's files of the same names; see [Exercise.Substitute].
	// [BuildAll] has them in each [Job] instead.
	Files map[string][]byte
	// Limits are for files that are a stranger's: make is kept from all that is none of its business, the tests
	// among it. Nil trusts them.
	Limits *kbuild.Limits
	// Out is the folder that BuildDir puts the products into, which must exist. The
	// default is the folder with the source.
	Out string
}

func (o *Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

// shown are those of the files that the code may see: a stranger's sees nothing of the tests.
func (o *Options) shown(files []sourceFile) []sourceFile {
	return slices.DeleteFunc(files, func(f sourceFile) bool { return o.Limits != nil && forTests(f.name) })
}

// moduleBuild is what to tell make.
func (o *Options) moduleBuild(dir string) kbuild.ModuleBuild {
	return kbuild.ModuleBuild{Dir: dir, Jobs: o.Jobs, Args: o.Args, Log: o.Log, Limits: o.Limits}
}

// Built are the products of a build.
type Built struct {
	Dir     string    `json:"dir,omitempty"`     // the folder with all of them, if they are in one; nobody may write to it if it is the cache's
	Modules []*Module `json:"modules"`           // in load order
	Helpers []string  `json:"helpers,omitempty"` // paths of user-space programs, sorted
	Made    bool      `json:"made"`              // make was run; else the products were in the cache
}

// Names returns those of the modules, in load order.
func (b *Built) Names() []string {
	var names []string
	for _, m := range b.Modules {
		names = append(names, m.Name)
	}
	return names
}

// ErrNoModule says that make ended well but made no module.
var ErrNoModule = errors.New("make made no .ko file: does the Kbuild or Makefile set obj-m?")

// Build builds the exercises for a kernel, in one run of make on copies of their sources, and each is
// kept by itself: see [BuildAll]. The error is a [*kbuild.MakeError] if make failed for one of them.
func Build(ctx context.Context, k *kbuild.Kernel, exercises []*Exercise, opts Options) (*Built, error) {
	jobs := make([]Job, len(exercises))
	for i, ex := range exercises {
		jobs[i].Exercise = ex
	}
	outcomes, err := BuildAll(ctx, k, jobs, opts)
	if err != nil {
		return nil, err
	}
	all := &Built{}
	for _, o := range outcomes {
		if o.Err != nil {
			return nil, o.Err
		}
		all.Modules = append(all.Modules, o.Built.Modules...)
		all.Helpers = append(all.Helpers, o.Built.Helpers...)
		all.Made = all.Made || o.Built.Made
	}
	if all.Modules, err = LoadOrder(all.Modules); err != nil {
		return nil, fmt.Errorf("build modules: %w", err)
	}
	return all, nil
}

// BuildDir builds the module or modules in a folder of anybody's, on a copy: with its Kbuild
// or Makefile, or if it has neither, with one that makes a module of each C file. The
// products, .ko files with their debug information and programs, are put into opts.Out, each whole
// or not at all. Links are not followed.
//
// The error is a [*kbuild.MakeError] if make failed, [ErrNoModule] if it made nothing.
func BuildDir(ctx context.Context, k *kbuild.Kernel, dir string, opts Options) (*Built, error) {
	built, err := BuildFolder(ctx, k, dir, opts)
	if err != nil {
		return nil, err
	}
	if opts.Out == "" {
		opts.Out = dir
	}
	if err := built.copyTo(opts.Out); err != nil {
		return nil, fmt.Errorf("build %s: %w", dir, err)
	}
	return built, nil
}

// BuildFolder is [BuildDir] that leaves the products in the cache.
func BuildFolder(ctx context.Context, k *kbuild.Kernel, dir string, opts Options) (*Built, error) {
	built, err := buildFolder(ctx, k, dir, &opts)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", dir, err)
	}
	return built, nil
}

func buildFolder(ctx context.Context, k *kbuild.Kernel, dir string, opts *Options) (*Built, error) {
	files, odd, err := scan(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range odd {
		opts.note("%s is not a regular file: left out", name)
	}
	files = substitute(opts.shown(files), opts.Files)
	name, err := buildFile(dir)
	if err != nil {
		return nil, err
	}
	if name == "" {
		kb, err := guessKbuild(files)
		if err != nil && len(odd) > 0 {
			err = fmt.Errorf("%w: no regular file is %s", err, strings.Join(odd, ", "))
		}
		if err != nil {
			return nil, err
		}
		opts.note("no Kbuild or Makefile: each C file is taken for a module")
		files = append(files, kb)
	}
	b := builder{kernel: k, files: files, describe: fmt.Sprintf("%s for linux %s", filepath.Base(dir), k.Release), opts: opts}
	built, err := b.ensure(ctx)
	if err != nil {
		return nil, err
	}
	// It may depend on modules of the kernel's or of others: those are no strangers here.
	built.Modules, err = order(built.Modules, false)
	return built, err
}

// copyTo copies the products to another folder, and is about the copies from then on.
func (b *Built) copyTo(dir string) error {
	put := func(name *string, mode fs.FileMode) error {
		data, err := os.ReadFile(*name)
		if err != nil {
			return err
		}
		*name = filepath.Join(dir, filepath.Base(*name))
		return renameio.WriteFile(*name, data, mode)
	}
	for _, m := range b.Modules {
		if err := put(&m.Debug, 0o644); err != nil {
			return err
		}
		m.File = m.Debug
	}
	for i := range b.Helpers {
		if err := put(&b.Helpers[i], 0o755); err != nil {
			return err
		}
	}
	b.Dir = dir
	return nil
}

// builder is one run of make.
type builder struct {
	kernel   *kbuild.Kernel
	files    []sourceFile
	describe string
	opts     *Options
	sources  string    // hash of what is known before make runs
	key      string    // of the products: sources, unless they are made from foreign files
	began    time.Time // when make was about to
}

// makeKey hashes what goes into the products, with the content of these files.
func (b *builder) makeKey(files []sourceFile) (string, error) {
	h := cache.NewHash(cache.Modules)
	h.String("product", "modules, and with debug information, for UBSAN")
	h.String("kernel", b.kernel.Key)
	h.String("release", b.kernel.Release)
	if b.opts.Limits != nil {
		h.String("limits", b.opts.Limits.Kept()) // What was made without them may have more in it.
	}
	for _, arg := range b.opts.Args {
		h.String("arg", arg)
	}
	for _, f := range files {
		if err := f.hash(h); err != nil {
			return "", err
		}
	}
	return h.Sum(), nil
}

// hashSources sets the key.
func (b *builder) hashSources() (err error) {
	b.sources, err = b.makeKey(b.files)
	b.key = b.sources
	return err
}

// ensure returns the products, from the cache if they are there. The modules are in no order.
func (b *builder) ensure(ctx context.Context) (built *Built, err error) {
	if err := b.hashSources(); err != nil {
		return nil, err
	}
	made := false
	e, err := b.find()
	if errors.Is(err, cache.ErrMissing) {
		e, made, err = b.opts.Cache.Ensure(ctx, cache.Modules, b.key, b.describe, b.make)
	}
	if err != nil {
		return nil, err
	}
	built, err = b.readProducts(e.Path)
	if err != nil {
		return nil, err
	}
	built.Made = made
	return built, nil
}

// Folders of an entry: the sources while it is being built, the programs, and the modules with their
// debug information, which is most of them: those that go into a guest are without it.
const (
	workFolder   = "work"
	helperFolder = "bin"
	debugFolder  = "debug"
)

// make builds in dir/work and leaves in dir the products only.
func (b *builder) make(ctx context.Context, dir string) error {
	work := filepath.Join(dir, workFolder)
	if err := b.copySources(work); err != nil {
		return fmt.Errorf("copy sources: %w", err)
	}
	if err := b.kernel.BuildModules(ctx, b.opts.moduleBuild(work)); err != nil {
		return err
	}
	if err := b.collect(ctx, work, work, dir); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// copySources lays the files out in work, where they must be what the key was made of:
// somebody may be editing them.
func (b *builder) copySources(work string) error {
	copies := slices.Clone(b.files)
	for i, f := range b.files {
		if err := f.write(work); err != nil {
			return err
		}
		if f.path != "" {
			copies[i].path = filepath.Join(work, filepath.FromSlash(f.name))
		}
	}
	key, err := b.makeKey(copies)
	if err == nil && key != b.sources {
		err = errors.New("a file was changed meanwhile, build again")
	}
	b.began = time.Now()
	return err
}

// collect moves the products that are below from, a folder in work or work itself, to dir.
func (b *builder) collect(ctx context.Context, work, from, dir string) error {
	source := map[string]bool{}
	for _, f := range b.files {
		source[filepath.Join(work, filepath.FromSlash(f.name))] = true
	}
	modules := 0
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || source[name] {
			return err
		}
		if strings.HasSuffix(name, ".ko") {
			modules++
			return b.collectModule(ctx, name, dir)
		}
		ok, err := isProgram(name)
		if err != nil || !ok {
			return err
		}
		if err := os.MkdirAll(filepath.Join(dir, helperFolder), 0o777); err != nil {
			return err
		}
		return move(name, filepath.Join(dir, helperFolder, d.Name()))
	})
	if err != nil {
		return fmt.Errorf("collect products: %w", err)
	}
	if modules == 0 {
		return ErrNoModule
	}
	if err := b.keepForeign(work, from, dir); err != nil {
		return fmt.Errorf("look for what was compiled: %w", err)
	}
	return nil
}

// collectModule puts a module into dir, and its debug information beside it.
func (b *builder) collectModule(ctx context.Context, name, dir string) error {
	debug := filepath.Join(dir, debugFolder, filepath.Base(name))
	if err := os.MkdirAll(filepath.Dir(debug), 0o777); err != nil {
		return err
	}
	if err := move(name, debug); err != nil {
		return err
	}
	return kbuild.StripModule(ctx, debug, filepath.Join(dir, filepath.Base(name)))
}

// move moves a file, perhaps to another file system, never onto another file.
func move(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s: two products of one name", filepath.Base(to))
	}
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	return copyFile(to, from, info.Mode().Perm())
}

// isProgram reports whether a file is an executable one in ELF format.
func isProgram(name string) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode()&0o111 == 0 {
		return false, err
	}
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil {
		return false, nil // Shorter than that.
	}
	return bytes.Equal(magic, []byte("\x7fELF")), nil
}

// readProducts describes what make left in dir.
func (b *builder) readProducts(dir string) (*Built, error) {
	built := &Built{Dir: dir}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".ko") {
			continue
		}
		m, err := ReadModule(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		m.Debug = filepath.Join(dir, debugFolder, f.Name())
		m.sources = b.files
		built.Modules = append(built.Modules, m)
	}
	programs, err := os.ReadDir(filepath.Join(dir, helperFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, p := range programs {
		built.Helpers = append(built.Helpers, filepath.Join(dir, helperFolder, p.Name()))
	}
	return built, nil
}
