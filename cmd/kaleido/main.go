// Kaleido takes a person from nothing to a kernel they can play with: it
// fetches, configures and builds Linux, builds modules against it, packs a
// u-root initramfs, boots the result under QEMU and says what happened.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/linux-kaleidoscope/kaleido/kbuild/confine"
)

func main() {
	confine.Main()
	os.Exit(Main())
}

// Main runs kaleido with the process's arguments and streams and returns its
// exit code. The test binary calls it to play kaleido in scripts.
func Main() int {
	var ends []os.Signal
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) { // as by nohup
			ends = append(ends, sig)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
