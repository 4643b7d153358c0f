package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

func (a *app) cacheCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Show and prune what kaleido keeps: sources, trees, kernels, modules, archives, snapshots",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.listCommand("", "List what is kept, its size and when it was last used"), a.cacheRemoveCommand(), a.cachePruneCommand(), a.cacheKeyCommand(),
		&cobra.Command{
			Use:   "dir",
			Short: "Print where the cache is",
			Args:  noArgs,
			RunE: func(*cobra.Command, []string) error {
				store, err := a.openCache()
				if err == nil {
					fmt.Fprintln(a.stdout, store.Dir())
				}
				return err
			},
		})
	return cmd
}

// listCommand lists the entries of one kind, or of all.
func (a *app) listCommand(kind cache.Kind, short string) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: short,
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			store, err := a.openCache()
			if err != nil {
				return err
			}
			entries, err := store.List()
			if err != nil {
				return err
			}
			return a.printEntries(slices.DeleteFunc(entries, func(e cache.Entry) bool { return kind != "" && e.Kind != kind }))
		},
	}
}

func (a *app) printEntries(entries []cache.Entry) error {
	if a.json {
		return a.printJSON(append([]cache.Entry{}, entries...))
	}
	rows := []string{"KIND\tKEY\tSIZE\tUSED\tWHAT"}
	for _, e := range entries {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", e.Kind, short(e.Key), humanize.IBytes(uint64(e.Size)), humanize.Time(e.Used), e.Describe))
	}
	return a.table(rows)
}

// short is the part of a key that is shown; like git's, any unambiguous
// beginning of a key is accepted.
func short(key string) string {
	if len(key) > 12 {
		return key[:12]
	}
	return key
}

// find returns the entry whose key is prefix, or else the one whose key begins with it.
func find(store *cache.Cache, kind cache.Kind, prefix string) (*cache.Entry, error) {
	entries, err := store.List()
	if err != nil {
		return nil, err
	}
	var found []cache.Entry
	for _, e := range entries {
		if kind != "" && e.Kind != kind || !strings.HasPrefix(e.Key, prefix) {
			continue
		}
		if e.Key == prefix {
			return &e, nil
		}
		found = append(found, e)
	}
	switch len(found) {
	case 0:
		return nil, usageError("no entry %q in %s (see 'kaleido cache ls')", prefix, store.Dir())
	case 1:
		return &found[0], nil
	}
	return nil, usageError("%q names %d entries; give more of the key (see 'kaleido cache ls')", prefix, len(found))
}

func (a *app) cacheRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm KEY...",
		Short: "Remove entries",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("%s: want at least one key (see 'kaleido cache ls')", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.removeEntries("", args) },
	}
}

func (a *app) removeEntries(kind cache.Kind, keys []string) error {
	store, err := a.openCache()
	if err != nil {
		return err
	}
	for _, key := range keys {
		e, err := find(store, kind, key)
		if err != nil {
			return err
		}
		if err := store.Remove(e.Kind, e.Key); err != nil {
			return err
		}
		a.msg.printf("removed %s %s (%s)", e.Kind, short(e.Key), humanize.IBytes(uint64(e.Size)))
	}
	return nil
}

func (a *app) cachePruneCommand() *cobra.Command {
	var unused time.Duration
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what was not used for a while",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			store, err := a.openCache()
			if err != nil {
				return err
			}
			removed, err := store.Prune(unused)
			var total int64
			for _, e := range removed {
				total += e.Size
			}
			a.msg.printf("removed %d entries, %s", len(removed), humanize.IBytes(uint64(total)))
			return err
		},
	}
	cmd.Flags().DurationVar(&unused, "unused", 30*24*time.Hour, "remove what was last used longer ago than `TIME`")
	return cmd
}

func (a *app) cacheKeyCommand() *cobra.Command {
	var flags kernelFlags
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the key of the kernel that these flags name, for a CI's own cache",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.newPipeline(&flags)
			if err != nil {
				return err
			}
			defer p.close()
			id, err := kbuild.Identify(cmd.Context(), p.fetchOptions())
			if err != nil {
				return err
			}
			key, err := kbuild.Key(kbuild.BuildOptions{Source: &kbuild.Source{ID: id}, Config: flags.config, Ccache: flags.ccache})
			if err == nil {
				fmt.Fprintln(a.stdout, key)
			}
			return err
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) kernelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kernel",
		Short: "List, locate and remove the kernels that were built",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.listCommand(cache.Kernels, "List the kernels in the cache"), a.kernelPathCommand(), &cobra.Command{
		Use:   "rm KEY...",
		Short: "Remove kernels",
		Args:  someArgs("KEY"),
		RunE:  func(_ *cobra.Command, args []string) error { return a.removeEntries(cache.Kernels, args) },
	})
	return cmd
}

func (a *app) kernelPathCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "path KEY",
		Short: "Print where a kernel's bzImage, vmlinux, System.map and build tree are",
		Args:  exactArgs("KEY"),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := a.openCache()
			if err != nil {
				return err
			}
			e, err := find(store, cache.Kernels, args[0])
			if err != nil {
				return err
			}
			k, err := kbuild.OpenKernel(e.Path)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(productsOf(k))
			}
			fmt.Fprintln(a.stdout, e.Path)
			return nil
		},
	}
}
