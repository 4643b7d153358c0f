package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
	"github.com/linux-kaleidoscope/kaleido/modules"
	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/detach"
)

// snapshotFlags say which guest is saved, and under what name.
type snapshotFlags struct {
	kernel  kernelFlags
	machine machineFlags
	load    cargo
	name    string
}

func (a *app) snapshotCommand() *cobra.Command {
	var f snapshotFlags
	cmd := &cobra.Command{
		Use:   "snapshot [flags] [-- CMD [ARG]...]",
		Short: "Save a booted guest, or one that you have prepared, to be restored in a tenth of the time",
		Long: `Snapshot boots a guest and saves it as it is: its memory and its devices.

Without --name it makes the snapshot that 'kaleido boot' and 'kaleido test' with the same flags would
make when they first need it. With --name it saves a guest that you have prepared: CMD is run in it,
or a script on standard input, or, on a terminal, you get a shell, and leaving it with exit saves
(Ctrl-A x saves nothing). What was loaded, written or started there is there at once in

  kaleido boot --from-snapshot NAME

any number of times, side by side. Snapshots are valid for this machine and its QEMU.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
				return usageError("snapshot: unexpected argument %q: a name comes after --name, the guest's command after --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && f.name == "" {
				return usageError("snapshot: %q would prepare a guest: it needs a --name", args[0])
			}
			return a.snapshot(cmd.Context(), &f, args)
		},
	}
	f.kernel.add(cmd)
	f.machine.add(cmd)
	f.load.add(cmd)
	f.machine.addTimeout(cmd, 0)
	cmd.Flags().StringVarP(&f.name, "name", "n", "", "save a prepared guest under `NAME`")
	cmd.AddCommand(a.listCommand(cache.Snapshots, "List the snapshots in the cache"), &cobra.Command{
		Use:   "rm NAME|KEY...",
		Short: "Remove snapshots",
		Args:  someArgs("NAME"),
		RunE:  func(_ *cobra.Command, args []string) error { return a.removeEntries(cache.Snapshots, args) },
	})
	return cmd
}

// snapshotResult is what --json says of a snapshot.
type snapshotResult struct {
	Key     string        `json:"key"`
	Name    string        `json:"name,omitempty"`
	Path    string        `json:"path"`
	Size    int64         `json:"bytes"`
	Release string        `json:"release"`
	Made    bool          `json:"made"` // false: it was there
	Took    time.Duration `json:"ns"`
}

func (a *app) snapshot(ctx context.Context, f *snapshotFlags, argv []string) error {
	p, err := a.newPipeline(&f.kernel)
	if err != nil {
		return err
	}
	defer p.close()
	if f.machine.dryRun {
		return p.printAllLines(ctx, &f.machine, f.load)
	}
	if f.name != "" {
		if err := p.checkNewSnapshot(f.name); err != nil {
			return err
		}
	}
	img, err := p.image(ctx, f.load)
	if err != nil {
		return err
	}
	p.close()
	begin := time.Now()
	e, made, err := p.saveGuest(ctx, img, f, argv)
	if err != nil {
		return snapshotError(err)
	}
	r := snapshotResult{e.Key, f.name, e.Path, e.Size, img.kernel.Release, made, time.Since(begin)}
	if a.json {
		return a.printJSON(r)
	}
	a.msg.printf("%s", r)
	return nil
}

// String is the result for people.
func (r snapshotResult) String() string {
	what := fmt.Sprintf("snapshot %s of %s, %s in %s", short(r.Key), r.Release, humanize.IBytes(uint64(r.Size)), r.Path)
	switch {
	case r.Name != "":
		return fmt.Sprintf("%s: made in %s; a shell in it: kaleido boot --from-snapshot %s", what, seconds(r.Took), r.Name)
	case r.Made:
		return fmt.Sprintf("%s: made in %s", what, seconds(r.Took))
	}
	return what + ": was there"
}

// snapshotError gives an error of a save the exit code it deserves.
func snapshotError(err error) error {
	var cmd *commandError
	switch {
	case errors.As(err, &cmd):
		return withCode(cmd.code(), fmt.Errorf("nothing saved: %w", cmd))
	case errors.Is(err, errTimeout):
		return withCode(exitTimeout, fmt.Errorf("nothing saved: %w", err))
	case errors.Is(err, vm.ErrNoSnapshot):
		return withCode(exitInfra, err)
	}
	return err
}

// checkNewSnapshot tells whether a snapshot may get that name.
func (p *pipeline) checkNewSnapshot(name string) error {
	if err := detach.CheckName(name); err != nil {
		return usageError("snapshot: %w", err)
	}
	if _, err := p.store.Lookup(cache.Snapshots, name); err == nil {
		return usageError("snapshot %q is there already (remove it: kaleido snapshot rm %s)", name, name)
	}
	return nil
}

// saveGuest saves a guest of the kind that the flags describe.
func (p *pipeline) saveGuest(ctx context.Context, img *image, f *snapshotFlags, argv []string) (*cache.Entry, bool, error) {
	cfg := f.machine.config(img)
	cfg.Note = p.note
	work := p.app.preparation(&cfg, argv, f.name)
	snap, err := vm.SnapshotOf(cfg)
	if err != nil {
		return nil, false, err
	}
	key, describe := snap.Key, snap.Describe
	if f.name != "" {
		key, describe = f.name, fmt.Sprintf("%s: prepared %s", f.name, snap.Describe)
	}
	return p.store.Ensure(ctx, cache.Snapshots, key, describe, func(ctx context.Context, dir string) error {
		err := snap.SavePrepared(ctx, cfg, dir, func(ctx context.Context, m *vm.Instance) error {
			s := &session{app: p.app, guest: m}
			s.result.Uname = unameOf(m)
			return s.work(ctx, f.machine.timeout, work)
		})
		if err != nil || f.name == "" {
			return err
		}
		return writeRecipe(dir, recipeOf(img, cfg))
	})
}

// preparation is what is done to a guest before it is saved.
func (a *app) preparation(cfg *vm.Config, argv []string, name string) func(context.Context, *session) error {
	switch {
	case name == "":
		return func(context.Context, *session) error { return nil }
	case len(argv) > 0 || !a.interactive():
		return a.command(argv)
	}
	t := newTerminal(a)
	cfg.Console = t.console
	return func(ctx context.Context, s *session) error {
		a.msg.printf("prepare the guest; exit saves it as %q", name)
		err := t.shell(ctx, s)
		if err == nil && t.escaped {
			err = withCode(exitFailed, errors.New("nothing saved: "+errEscaped.Error()))
		}
		return err
	}
}

// recipe is how the guest of a named snapshot was started: it is restored with the same
// command line.
type recipe struct {
	Kernel    string   `json:"kernel"` // directory of the kernel
	Initrd    string   `json:"initrd"`
	Append    []string `json:"append,omitempty"`
	CPUs      int      `json:"cpus"`
	MemoryMiB int      `json:"memory_mib"`
	CPU       string   `json:"cpu,omitempty"`
	Accel     vm.Accel `json:"accel"`
	QEMU      string   `json:"qemu"`
	Args      []string `json:"args,omitempty"`

	Modules []*modules.Module `json:"modules"` // that are in the initrd
}

// recipeFile is in the directory of a named snapshot.
const recipeFile = "recipe.json"

func recipeOf(img *image, cfg vm.Config) *recipe {
	return &recipe{img.kernel.Dir, cfg.Initrd, cfg.Append, cfg.CPUs, cfg.MemoryMiB, cfg.CPU, cfg.Accel, cfg.QEMU, cfg.Args, img.modules}
}

func writeRecipe(dir string, r *recipe) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, recipeFile), append(text, '\n'), 0o600)
}

// readRecipe reads what writeRecipe wrote.
func readRecipe(dir string) (*recipe, error) {
	text, err := os.ReadFile(filepath.Join(dir, recipeFile))
	if err != nil {
		return nil, err
	}
	r := &recipe{}
	return r, json.Unmarshal(text, r)
}

// image finds in the cache what the guest was booted from.
func (r *recipe) image(store *cache.Cache) (*image, error) {
	// Looked up, it counts as used, and a prune leaves it.
	if _, err := store.Lookup(cache.Kernels, filepath.Base(r.Kernel)); err != nil {
		return nil, err
	}
	if _, err := store.Lookup(cache.Initramfs, filepath.Base(filepath.Dir(r.Initrd))); err != nil {
		return nil, err
	}
	k, err := kbuild.OpenKernel(r.Kernel)
	if err != nil {
		return nil, err
	}
	return &image{kernel: k, initrd: r.Initrd, modules: r.Modules}, nil
}

// isNamed tells whether a snapshot is one that somebody has given a name.
func isNamed(e cache.Entry) bool {
	_, err := os.Lstat(filepath.Join(e.Path, recipeFile))
	return err == nil
}

// fromSnapshot has guests restored from a named snapshot, whose image and machine it
// returns.
func (p *pipeline) fromSnapshot(name string, f *machineFlags) (*image, vm.Config, error) {
	e, err := p.store.Lookup(cache.Snapshots, name)
	if errors.Is(err, cache.ErrMissing) {
		return nil, vm.Config{}, usageError("no snapshot is named %q; %s", name, p.snapshotNames())
	}
	if err != nil {
		return nil, vm.Config{}, err
	}
	unusable := func(err error) error {
		return withCode(exitInfra, fmt.Errorf("snapshot %q cannot be used any more: %w (remove it: kaleido snapshot rm %s)", name, err, name))
	}
	r, err := readRecipe(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, vm.Config{}, usageError("%q is a snapshot that boot restores by itself; %s", name, p.snapshotNames())
	}
	if err != nil {
		return nil, vm.Config{}, unusable(err)
	}
	img, err := r.image(p.store)
	if err != nil {
		return nil, vm.Config{}, unusable(err)
	}
	f.memory, f.cpus, f.cpu, f.accel, f.append, f.qemu = memorySize(r.MemoryMiB), r.CPUs, r.CPU, string(r.Accel), r.Append, r.QEMU
	f.qemuArgs = append(r.Args, f.qemuArgs...)
	cfg := f.config(img)
	snap, err := vm.SnapshotOf(cfg)
	if err != nil {
		return nil, vm.Config{}, unusable(err)
	}
	p.start = func(ctx context.Context, cfg vm.Config) (*vm.Instance, error) {
		m, err := snap.Restore(ctx, cfg, e.Path)
		var damaged *vm.SnapshotError
		if errors.As(err, &damaged) {
			err = unusable(err)
		}
		return m, err
	}
	return img, cfg, nil
}

// snapshotNames tells which named snapshots there are.
func (p *pipeline) snapshotNames() string {
	names, err := namedSnapshots(p.store)
	if err != nil || len(names) == 0 {
		return "make one: kaleido snapshot --name NAME"
	}
	return "there are: " + strings.Join(names, ", ")
}

func namedSnapshots(store *cache.Cache) ([]string, error) {
	entries, err := store.List()
	var names []string
	for _, e := range entries {
		if e.Kind == cache.Snapshots && isNamed(e) {
			names = append(names, e.Key)
		}
	}
	return names, err
}

// completeSnapshots completes the names of snapshots.
func (a *app) completeSnapshots(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	store, err := a.openCache()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, _ := namedSnapshots(store) // no names are no completions
	return names, cobra.ShellCompDirectiveNoFileComp
}
