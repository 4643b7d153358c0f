package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/modules"
)

// products is what `build` made and where it is.
type products struct {
	Release   string            `json:"release"`
	Kernel    string            `json:"kernel"`
	BootImage string            `json:"boot_image"`
	SystemMap string            `json:"system_map"`
	BuildTree string            `json:"build_tree"`
	Modules   []*modules.Module `json:"modules,omitempty"`
	Initramfs string            `json:"initramfs,omitempty"`
	Stages    []stage           `json:"stages"`
}

// productsOf is a kernel without modules and initramfs.
func productsOf(k *kbuild.Kernel) *products {
	return &products{Release: k.Release, Kernel: k.Image(), BootImage: k.BootImage(), SystemMap: k.SystemMap(), BuildTree: k.BuildTree()}
}

func (a *app) buildCommand() *cobra.Command {
	var flags kernelFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:       "build [kernel|modules|initramfs|all]",
		Short:     "Build the kernel, the handbook's modules, the initramfs, or all of them (the default)",
		ValidArgs: []string{"kernel", "modules", "initramfs", "all"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && !slices.Contains(cmd.ValidArgs, args[0]) {
				return usageError("build %s: want kernel, modules, initramfs or all", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "all"
			if len(args) == 1 {
				what = args[0]
			}
			p, err := a.newPipeline(&flags)
			if err != nil {
				return err
			}
			defer p.close()
			if dryRun {
				return p.printMakeLines(cmd.Context())
			}
			made, err := a.build(cmd, p, what)
			if err != nil {
				return err
			}
			p.close()
			if a.json {
				return a.printJSON(made)
			}
			return a.printProducts(made)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the exact make lines instead")
	return cmd
}

func (a *app) build(cmd *cobra.Command, p *pipeline, what string) (*products, error) {
	ctx := cmd.Context()
	k, err := p.kernel(ctx)
	if err != nil {
		return nil, err
	}
	made := productsOf(k)
	defer func() { made.Stages = p.stages }()
	if what == "kernel" {
		return made, nil
	}
	built, err := p.modules(ctx, k)
	if err != nil {
		return nil, err
	}
	made.Modules = built.Modules
	if what == "modules" {
		return made, nil
	}
	made.Initramfs, err = p.initramfs(ctx, k, []*modules.Built{built}, nil)
	return made, err
}

func (a *app) printProducts(made *products) error {
	rows := []string{
		"release\t" + made.Release,
		"kernel\t" + made.Kernel,
		"build tree\t" + made.BuildTree,
	}
	for _, m := range made.Modules {
		rows = append(rows, "module\t"+m.File)
	}
	if made.Initramfs != "" {
		rows = append(rows, "initramfs\t"+made.Initramfs)
	}
	return a.table(rows)
}

func (a *app) moduleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "module",
		Short: "Build anybody's out-of-tree module",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.moduleBuildCommand())
	return cmd
}

func (a *app) moduleBuildCommand() *cobra.Command {
	var flags kernelFlags
	var out string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "build DIR",
		Short: "Build the module in DIR against kaleido's kernel",
		Long: `Build the out-of-tree module in DIR: any Makefile or Kbuild with an obj-m line will do, and a
folder of plain .c files gets one module a file. The work is done in a scratch copy; the .ko files
and helper programs come back, into DIR or where -o says.`,
		Args: exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if _, err := os.ReadDir(dir); err != nil {
				return usageError("%w", err)
			}
			p, err := a.newPipeline(&flags)
			if err != nil {
				return err
			}
			defer p.close()
			k, err := p.kernel(cmd.Context())
			if err != nil {
				return err
			}
			if dryRun {
				p.printLine(k.ModuleCommand(kbuild.ModuleBuild{Dir: dir, Jobs: flags.jobs}))
				return nil
			}
			opts := p.moduleOptions()
			opts.Out = out
			built, err := modules.BuildDir(cmd.Context(), k, args[0], opts)
			if err != nil {
				return withBuildCode(err)
			}
			p.close()
			if a.json {
				return a.printJSON(built)
			}
			for _, m := range built.Modules {
				fmt.Fprintln(a.stdout, m.File)
			}
			return nil
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "put the modules into `DIR`")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "build the kernel if it is missing, and print the module's make line instead (the build is of a copy of DIR)")
	return cmd
}
