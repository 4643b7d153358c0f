// Command uinit is the agent that a kaleido guest runs as PID 1. All of it is in
// package guest; this program is what an initramfs is built from.
package main

import "github.com/linux-kaleidoscope/kaleido/vm/guest"

func main() {
	guest.Main()
}
