package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/initramfs"
	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
	"github.com/linux-kaleidoscope/kaleido/modules"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// kernelFlags say which kernel is meant. Every command that needs one has
// them all, so that `kaleido X` and `kaleido Y` with the same flags mean the
// same kernel.
type kernelFlags struct {
	kernel, mirror, keyring string
	config                  kbuild.Config
	jobs                    int
	ccache                  string
}

func (f *kernelFlags) addSource(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.kernel, "kernel", "k", "", "kernel `SOURCE`: a version X.Y.Z, a tarball, or a source tree (default linux-6.1.8)")
	f.addFetch(cmd)
}

func (f *kernelFlags) addFetch(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.mirror, "mirror", "", "fetch from `URL` instead of kernel.org's /pub/linux/kernel")
	flags.StringVar(&f.keyring, "keyring", "", "check kernel.org's signature of the checksums with the OpenPGP keys in `FILE`")
}

func (f *kernelFlags) addConfig(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.config.Profile, "profile", kbuild.DefaultProfile, "kernel config `PROFILE`: lab, tiny or debug")
	flags.StringArrayVarP(&f.config.Fragments, "fragment", "f", nil, "merge the config fragment `FILE` over the profile (repeatable)")
	flags.StringArrayVar(&f.config.Set, "set", nil, "set one config symbol, `FOO=y` (repeatable, the last word)")
}

// addBuild gives --jobs a short form, where -j is not of virtual machines.
func (f *kernelFlags) addBuild(cmd *cobra.Command, short string) {
	flags := cmd.Flags()
	numberVarP(flags, &f.jobs, "jobs", short, runtime.GOMAXPROCS(0), 1, math.MaxInt, "run `N` compilers at once")
	flags.StringVar(&f.ccache, "ccache", "auto", "use ccache: auto (when installed), on, off")
}

func (f *kernelFlags) add(cmd *cobra.Command) {
	f.addSource(cmd)
	f.addConfig(cmd)
	f.addBuild(cmd, "j")
}

// A stage is one step of the way to a booted kernel and what it took.
type stage struct {
	Name    string        `json:"name"`
	Took    time.Duration `json:"ns"`
	Outcome string        `json:"outcome,omitempty"` // of a product: "cached" or "made"
}

// pipeline makes, in order, what a boot needs. Each step finds its product in
// the cache or makes it.
type pipeline struct {
	app      *app
	flags    *kernelFlags
	store    *cache.Cache
	progress *progress
	stages   []stage
	// start starts guests; see starter.
	start func(context.Context, vm.Config) (*vm.Instance, error)
	// dump has the memory of a guest kept that crashes.
	dump bool
	// askNetwork has kernel.org asked again though it was out of reach before.
	askNetwork bool
}

func (a *app) newPipeline(flags *kernelFlags) (*pipeline, error) {
	store, err := a.openCache()
	if err != nil {
		return nil, err
	}
	if dir, ok := checkout(); ok {
		flags.config.Dir = filepath.Join(dir, "kbuild", "config")
	}
	return &pipeline{app: a, flags: flags, store: store, progress: a.newProgress(), start: vm.Start}, nil
}

func (p *pipeline) close() { p.progress.close() }

// timed runs one step and notes how long it took. step says whether it had
// to make something.
func (p *pipeline) timed(name string, step func() (made bool, err error)) error {
	start := time.Now()
	made, err := step()
	outcome := "cached"
	if made {
		outcome = "made"
	}
	p.stages = append(p.stages, stage{name, time.Since(start), outcome})
	return err
}

// clocked runs a step that makes nothing and notes how long it took.
func (p *pipeline) clocked(name string, step func() error) error {
	start := time.Now()
	err := step()
	p.stages = append(p.stages, stage{Name: name, Took: time.Since(start)})
	return err
}

// source finds or fetches the kernel's source.
func (p *pipeline) source(ctx context.Context) (*kbuild.Source, error) {
	var src *kbuild.Source
	err := p.timed("source", func() (made bool, err error) {
		opts := p.fetchOptions()
		opts.Progress = func(u kbuild.Update) {
			made = made || u.Note == ""
			p.progress.update(u)
		}
		src, err = kbuild.Fetch(ctx, opts)
		return made, err
	})
	return src, err
}

func (p *pipeline) fetchOptions() kbuild.FetchOptions {
	return kbuild.FetchOptions{
		Kernel:   p.flags.kernel,
		Mirror:   p.flags.mirror,
		Keyring:  p.flags.keyring,
		Cache:    p.store,
		Progress: p.progress.update,
		Probe:    p.askNetwork,
	}
}

// kernel finds or builds the kernel.
func (p *pipeline) kernel(ctx context.Context) (*kbuild.Kernel, error) {
	src, err := p.source(ctx)
	if err != nil {
		return nil, err
	}
	var k *kbuild.Kernel
	err = p.timed("kernel", func() (made bool, err error) {
		k, err = kbuild.Build(ctx, p.buildOptions(src))
		return err == nil && k.Built, withBuildCode(err)
	})
	return k, err
}

// image is what a boot needs: a kernel, and an initramfs with the catalogue's
// modules and what else was asked for.
type image struct {
	kernel  *kbuild.Kernel
	initrd  string
	modules []*modules.Module // that are in it
}

// cargo is what the user brings into the guest.
type cargo struct {
	modules []string // .ko files, or folders to build
	files   []string // HOST[:GUEST]
}

func (c *cargo) empty() bool { return len(c.modules)+len(c.files) == 0 }

func (c *cargo) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&c.modules, "module", "M", nil, "take the module `FILE.ko`, or the one built from the folder DIR, into the guest (repeatable)")
	cmd.Flags().StringArrayVar(&c.files, "file", nil, "copy the file `HOST[:GUEST]` into the guest, by default into / (repeatable)")
}

// archived are the files as the initramfs has them.
func (c *cargo) archived() ([]initramfs.File, error) {
	var files []initramfs.File
	for _, f := range c.files {
		host, name, ok := strings.Cut(f, ":")
		if !ok {
			name = filepath.Base(host)
		}
		switch info, err := os.Stat(host); {
		case err != nil:
			return nil, usageError("--file: %w", err)
		case !info.Mode().IsRegular():
			return nil, usageError("--file %s: want a file", host)
		}
		if dir := guest.MountedOver(name); dir != "" {
			return nil, usageError("--file %s: %s in the guest is mounted over what the initramfs has there: choose another place", f, dir)
		}
		files = append(files, initramfs.File{Name: name, Source: host})
	}
	return files, nil
}

func (p *pipeline) image(ctx context.Context, c cargo) (*image, error) {
	files, err := c.archived()
	if err != nil {
		return nil, err
	}
	k, err := p.kernel(ctx)
	if err != nil {
		return nil, err
	}
	built, err := p.modules(ctx, k)
	if err != nil {
		return nil, err
	}
	own, err := p.ownModules(ctx, k, c.modules)
	if err != nil {
		return nil, err
	}
	rest, replaced := besides(built, own)
	if len(replaced) > 0 {
		p.note("yours, not the exercises': " + strings.Join(replaced, ", "))
	}
	all := append(own, rest)
	initrd, err := p.initramfs(ctx, k, all, files)
	if err != nil {
		return nil, err
	}
	img := &image{kernel: k, initrd: initrd}
	for _, b := range all {
		img.modules = append(img.modules, b.Modules...)
	}
	return img, nil
}

// besides returns the products but for those that the user's own take the place of in the guest, and
// these ones' names.
func besides(built *modules.Built, own []*modules.Built) (rest *modules.Built, replaced []string) {
	taken := map[string]bool{}
	for _, b := range own {
		for _, m := range b.Modules {
			taken[m.Name], taken[filepath.Base(m.File)] = true, true
		}
		for _, h := range b.Helpers {
			taken["helper "+filepath.Base(h)] = true
		}
	}
	rest = &modules.Built{Made: built.Made}
	for _, m := range built.Modules {
		if taken[m.Name] || taken[filepath.Base(m.File)] {
			replaced = append(replaced, m.Name)
			continue
		}
		rest.Modules = append(rest.Modules, m)
	}
	for _, h := range built.Helpers {
		if name := filepath.Base(h); taken["helper "+name] {
			replaced = append(replaced, name)
			continue
		}
		rest.Helpers = append(rest.Helpers, h)
	}
	return rest, replaced
}

// ownModules builds, or checks, what the user brings.
func (p *pipeline) ownModules(ctx context.Context, k *kbuild.Kernel, names []string) ([]*modules.Built, error) {
	var all []*modules.Built
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, usageError("--module: %w", err)
		}
		if !info.IsDir() {
			m, err := modules.ReadModule(name)
			if err == nil {
				err = m.CheckVermagic(k.Release)
			}
			if err != nil {
				return nil, usageError("--module: %w", err)
			}
			all = append(all, &modules.Built{Modules: []*modules.Module{m}})
			continue
		}
		err = p.timed("module "+filepath.Base(name), func() (bool, error) {
			built, err := modules.BuildFolder(ctx, k, name, p.moduleOptions())
			all = append(all, built)
			return err == nil && built.Made, withBuildCode(err)
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (p *pipeline) modules(ctx context.Context, k *kbuild.Kernel, patterns ...string) (*modules.Built, error) {
	var built *modules.Built
	err := p.timed("modules", func() (made bool, err error) {
		root, err := p.catalogue(ctx)
		if err != nil {
			return false, err
		}
		exercises, err := modules.Find(root, patterns...)
		if err != nil {
			return false, usageError("%w", err)
		}
		built, err = modules.Build(ctx, k, exercises, p.moduleOptions())
		return err == nil && built.Made, withBuildCode(err)
	})
	return built, err
}

// catalogue is the folder of the exercises: the checkout's own, or the copy
// that is in this binary.
func (p *pipeline) catalogue(ctx context.Context) (string, error) {
	if dir, ok := checkout(); ok {
		return filepath.Join(dir, "modules"), nil
	}
	return modules.Root(ctx, p.store)
}

func (p *pipeline) moduleOptions() modules.Options {
	return modules.Options{
		Cache: p.store,
		Jobs:  p.flags.jobs,
		Log:   p.app.logWriter(),
		Note:  p.note,
	}
}

func (p *pipeline) initramfs(ctx context.Context, k *kbuild.Kernel, built []*modules.Built, files []initramfs.File) (string, error) {
	opts := initramfs.Options{Release: k.Release, Files: files}
	for _, b := range built {
		for _, m := range b.Modules {
			opts.Modules = append(opts.Modules, m.File)
		}
		for _, h := range b.Helpers {
			opts.Files = append(opts.Files, initramfs.File{Name: "usr/local/bin/" + filepath.Base(h), Source: h, Mode: 0o755})
		}
	}
	return p.archive(ctx, opts)
}

// archive finds or makes the archive that opts describe.
func (p *pipeline) archive(ctx context.Context, opts initramfs.Options) (string, error) {
	opts.Cache, opts.Log, opts.Note = p.store, p.app.logWriter(), p.note
	if dir, ok := checkout(); ok {
		opts.SourceDir = dir
	}
	var path string
	err := p.timed("initramfs", func() (made bool, err error) {
		path, made, err = initramfs.Build(ctx, opts)
		return made, withBuildCode(err)
	})
	return path, err
}

func (p *pipeline) note(line string) { p.app.msg.printf("%s", line) }

// withBuildCode marks an error as that of a failed build, if it does not say itself what it is.
func withBuildCode(err error) error {
	if exitCode(context.Background(), err) == exitFailed {
		return withCode(exitBuild, err)
	}
	return err
}

// checkout returns the directory of kaleido's own source when the working
// directory is in it: the files there then win over those in the binary.
func checkout() (string, bool) {
	mod, err := findUpward("go.mod")
	if err != nil || mod == "" {
		return "", false
	}
	dir := filepath.Dir(mod)
	if _, err := os.Stat(filepath.Join(dir, "cmd", "uinit", "main.go")); err != nil {
		return "", false
	}
	return dir, true
}

// stageTable lists what each stage took, for people.
func stageTable(stages []stage) []string {
	var rows []string
	var total time.Duration
	for _, s := range stages {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", s.Name, seconds(s.Took), s.Outcome))
		total += s.Took
	}
	return append(rows, fmt.Sprintf("total\t%s\t", seconds(total)))
}
