package kbuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/linux-kaleidoscope/kaleido/kbuild/kconfig"
)

// Kernel is a built kernel: an entry of the cache, only read once it is there.
type Kernel struct {
	Dir string `json:"-"` // absolute path of the entry
	Key string `json:"-"` // its key in the cache

	Release      string  `json:"release"` // what uname -r says in it: "6.1.8-kaleido"
	Version      string  `json:"version"` // of the source: "6.1.8"
	Profile      string  `json:"profile"`
	Source       string  `json:"source"` // path of the source tree, which building modules needs too
	SourceID     string  `json:"source_id"`
	Origin       string  `json:"origin"`           // where the source came from, for people
	Compiler     string  `json:"compiler"`         // first line of cc --version
	ConfigSum    string  `json:"config_sha256"`    // of the .config, hexadecimal
	BuildSeconds float64 `json:"build_seconds"`    // wall time of configuring and building
	Objects      int64   `json:"objects"`          // steps of the build; 0 if it went on from another one's
	NoPVH        bool    `json:"no_pvh,omitempty"` // it dies if it is entered by its PVH note, or has none

	Built bool `json:"-"` // built by the call of [Build] that returned it, not found in the cache
}

const kernelFile = "kernel.json"

// OpenKernel opens what [Build] made in dir: the path of an entry in the cache. The error is
// fs.ErrNotExist if there is no kernel.
func OpenKernel(dir string) (*Kernel, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open kernel %s: %w", dir, err)
	}
	data, err := os.ReadFile(filepath.Join(abs, kernelFile))
	if err != nil {
		return nil, fmt.Errorf("open kernel: %w", err)
	}
	k := &Kernel{Dir: abs, Key: filepath.Base(abs)}
	if err := json.Unmarshal(data, k); err != nil {
		return nil, fmt.Errorf("open kernel %s: %w", filepath.Join(abs, kernelFile), err)
	}
	return k, nil
}

func (k *Kernel) path(elem ...string) string {
	return filepath.Join(append([]string{k.Dir}, elem...)...)
}

// Image is the path of the bzImage: the compressed kernel that any boot loader takes.
func (k *Kernel) Image() string { return k.path("bzImage") }

// BootImage is the path of what QEMU boots the quickest: the vmlinux without symbols, entered at once by
// its PVH note, or the bzImage of a kernel that cannot be.
func (k *Kernel) BootImage() string {
	if k.NoPVH {
		return k.Image()
	}
	return k.path(bootFile)
}

// bootFile is the vmlinux without symbols.
const bootFile = "vmlinux.boot"

// noPVH tells of a configuration whether its kernel cannot be entered by PVH. With KASAN, seen on
// 6.1.192, it dies in the first C function, xen_prepare_pvh: that already marks its stack in a shadow
// memory which startup code of the other entry maps, but not that of PVH.
func noPVH(config kconfig.Values) bool { return config.Get("PVH") != "y" || config.Get("KASAN") == "y" }

// Vmlinux is the path of the kernel with its symbols.
func (k *Kernel) Vmlinux() string { return k.path("build", "vmlinux") }

// SystemMap is the path of System.map: addresses and names.
func (k *Kernel) SystemMap() string { return k.path("build", "System.map") }

// Symvers is the path of Module.symvers: what the kernel exports.
func (k *Kernel) Symvers() string { return k.path("build", "Module.symvers") }

// ConfigFile is the path of the .config.
func (k *Kernel) ConfigFile() string { return k.path("build", ".config") }

// BuildTree is the directory for make -C DIR M=...: what is left of the build that modules need.
func (k *Kernel) BuildTree() string { return k.path("build") }

// ModuleBuild is a directory of modules to build.
type ModuleBuild struct {
	Dir  string    // with a Kbuild or Makefile; make writes its products there
	Jobs int       // of make; default 1
	Args []string  // more words for make: variables (W=1), or targets instead of modules
	Log  io.Writer // gets make's output; nil discards it
	// Limits are for a stranger's code. Nil sets none.
	Limits *Limits
}

// ModuleCommand returns the exact command line of [Kernel.BuildModules].
func (k *Kernel) ModuleCommand(b ModuleBuild) []string {
	argv := []string{
		"make", "-C", k.BuildTree(), "M=" + b.Dir, "-j" + strconv.Itoa(max(1, b.Jobs)),
		// __FILE__ and debug information name sources by their path below Dir, wherever that is.
		"KCFLAGS=-ffile-prefix-map=" + b.Dir + "/=",
		// Also for a kernel without debug information: enough to say where in the source an oops was.
		"CFLAGS_MODULE=-g",
		// A kernel with UBSAN need not be checked itself to check its modules.
		"UBSAN_SANITIZE=y",
	}
	if len(b.Args) == 0 {
		return append(argv, "modules")
	}
	return append(argv, b.Args...)
}

// BuildModules builds out-of-tree modules for the kernel. Nothing is written outside of b.Dir. The
// error is a *MakeError with the compiler's first complaint if the modules do not compile, and
// fs.ErrNotExist if the kernel's source tree has been removed.
func (k *Kernel) BuildModules(ctx context.Context, b ModuleBuild) error {
	dir, err := filepath.Abs(b.Dir)
	if err != nil {
		return fmt.Errorf("build modules: %w", err)
	}
	b.Dir = dir
	if _, err := os.Stat(filepath.Join(k.Source, "Makefile")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("build modules: the source tree of kernel %s is gone, fetch it again: %w", k.Release, err)
	}
	cmd := &command{argv: k.ModuleCommand(b), log: b.Log, name: func(text string) string {
		return relativeTo(k.Source)(relativeTo(dir)(text))
	}}
	if b.Limits != nil {
		return b.Limits.run(ctx, k, dir, cmd)
	}
	return cmd.run(ctx)
}

// StripModule copies a module's file without its debug information, which is most of it.
func StripModule(ctx context.Context, module, out string) error {
	cmd := &command{argv: []string{"objcopy", "--strip-debug", module, out}}
	return cmd.run(ctx)
}
