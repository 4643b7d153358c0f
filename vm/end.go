package vm

import (
	"fmt"
	"strings"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/qmp"
)

// Reason is how a guest's life ended, or its boot failed.
type Reason string

// The reasons. All but TimedOut are told by an event of QEMU's, never guessed
// from the console.
const (
	PoweredOff Reason = "powered off"    // the guest switched itself off
	Panicked   Reason = "panicked"       // its kernel panicked
	Reset      Reason = "reset"          // it asked for a reset, or a triple fault did
	Failed     Reason = "emulator error" // KVM could not go on
	QEMUExited Reason = "QEMU exited"    // by itself or by somebody's signal
	Killed     Reason = "killed"         // by Close, a failed PowerOff, or QMP's quit
	TimedOut   Reason = "timed out"      // the agent did not answer in time
)

// End is how a guest's life ended.
type End struct {
	Reason Reason

	// Detail says more in a few words: the panic's message, how QEMU ended.
	Detail string

	// Time is when it happened.
	Time time.Time

	// Registers are those of all processors after a panic, as QEMU's monitor
	// prints them.
	Registers string
}

// String is the reason with its detail.
func (e End) String() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Detail)
}

// endOf tells whether an event ends a guest's life. Under our -action options
// the machine stands still after it, with its memory readable.
func endOf(e qmp.Event) (End, bool) {
	end := End{Time: qmp.Time(e)}
	switch e.Event {
	case qmp.EventGuestPanicked:
		end.Reason = Panicked
		return end, true
	case qmp.EventShutdown:
		s := qmp.ShutdownOf(e)
		switch {
		case !s.Guest:
			end.Reason, end.Detail = Killed, s.Reason
		case s.Reason == "guest-panic":
			end.Reason = Panicked
		case s.Reason == "guest-reset":
			end.Reason = Reset
		default:
			end.Reason = PoweredOff
		}
		return end, true
	}
	return End{}, false
}

// panicWords begin a panic's message on the console (kernel/panic.c).
const panicWords = "Kernel panic - not syncing: "

// panicMessage is the message of the last panic on a console. It is for people:
// whether there was a panic, only the event says.
func panicMessage(console []byte) string {
	text := string(console)
	at := strings.LastIndex(text, panicWords)
	if at < 0 {
		return ""
	}
	line, _, _ := strings.Cut(text[at+len(panicWords):], "\n")
	return strings.TrimSpace(line)
}
