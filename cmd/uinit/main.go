// Command uinit is the agent that a kaleido guest runs as PID 1, and what loads and unloads modules for
// people in it: insmod, modprobe and rmmod. All of it is in package guest; this program is what an initramfs
// is built from.
package main

import (
	"os"

	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

func main() {
	if code, ok := guest.RunTool(os.Args); ok {
		os.Exit(code)
	}
	guest.Main()
}
