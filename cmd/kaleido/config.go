package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show or check the kernel's config before building",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configShowCommand(), a.configCheckCommand())
	return cmd
}

// configure makes the .config that the flags ask for and checks every
// requested symbol in it.
func (a *app) configure(ctx context.Context, flags *kernelFlags) ([]byte, error) {
	p, err := a.newPipeline(flags)
	if err != nil {
		return nil, err
	}
	defer p.close()
	src, err := p.source(ctx)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "kaleido-config-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	return kbuild.Configure(ctx, src, flags.config, scratch)
}

func (a *app) configShowCommand() *cobra.Command {
	var flags kernelFlags
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the .config that the profile, fragments and --set give",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := a.configure(cmd.Context(), &flags)
			if err == nil {
				_, err = a.stdout.Write(text)
			}
			return err
		},
	}
	flags.addSource(cmd)
	flags.addConfig(cmd)
	return cmd
}

func (a *app) configCheckCommand() *cobra.Command {
	var flags kernelFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that every requested config symbol survives, and why one does not",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := a.configure(cmd.Context(), &flags); err != nil {
				return err
			}
			a.msg.printf("every requested symbol is in the result")
			return nil
		},
	}
	flags.addSource(cmd)
	flags.addConfig(cmd)
	return cmd
}
