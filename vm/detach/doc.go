// Package detach lets people reach into a guest that another process holds.
//
// A guest's QEMU lives no longer than the process that started it. A guest that
// is to stay is therefore held by a process of its own, which takes a name for it
// ([Dir.Claim]) and serves a socket ([Claim.Serve]); others find it by that name
// ([Dir.List], [Dir.Dial]).
//
// # Files
//
// Everything is in one directory of the user's, with mode 0700 ([DefaultDir]):
//
//	NAME.lock        flock(2) of the name; the holder has it, and it dies with him
//	NAME/guest.json  the guest's State
//	NAME/socket      what the holder listens on
//
// Who has the lock is alive; no pid is ever looked up. A name whose lock is free
// but whose guest.json tells of no end was left by a holder that was killed (and
// its QEMU with it). Lock files stay: to remove one would let two processes have
// the lock at once.
//
// # Protocol
//
// HTTP/2 without TLS. A request's context ends when its client goes, and the
// bodies flow both ways at once, which is all that is needed:
//
//	POST /v1/exec?arg=ls&arg=/&env=A=b&stdin=1   run a program; the body is its input
//	POST /v1/console?env=TERM=xterm              type the body on the serial console
//	POST /v1/winsize?rows=25&cols=80             tell the size of the console's window
//	POST /v1/debug                               let gdb at the guest, by a UNIX socket
//	POST /v1/stop                                begin to end the guest
//
// Exec, console and debug answer with JSON objects ([Event]) one after the other: output,
// base64 in "stdout" and "stderr"; the path of the "socket"; last of all "exit" or "error". When the client
// of exec goes, its program gets SIGINT, and two seconds later SIGKILL; when that of
// debug goes, the guest runs on.
//
// What the guest says is not in the protocol: console and kernel log are files of
// the run's directory, which anybody may follow.
package detach
