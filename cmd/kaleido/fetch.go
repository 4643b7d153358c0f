package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) fetchCommand() *cobra.Command {
	var flags kernelFlags
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Download, verify and unpack the kernel's source",
		Long: `Fetch puts a verified kernel source tree into the cache and prints where it is.

The default is linux-6.1.8 from kernel.org, checked against a sum that is part of kaleido. With
--kernel X.Y.Z the sum comes from kernel.org's sha256sums.asc. A tarball or a tree of your own is
taken as it is. Where kernel.org is out of reach and no version was named, the distribution's
/usr/src/linux-source-6.1.tar.xz serves.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.newPipeline(&flags)
			if err != nil {
				return err
			}
			defer p.close()
			p.askNetwork = true
			src, err := p.source(cmd.Context())
			if err != nil {
				return err
			}
			p.close()
			if a.json {
				return a.printJSON(src)
			}
			fmt.Fprintln(a.stdout, src.Dir)
			return nil
		},
	}
	flags.addSource(cmd)
	return cmd
}
