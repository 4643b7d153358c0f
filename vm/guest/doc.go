// Package guest runs programs in a virtual machine: the agent that is the
// guest's PID 1 ([Main]) and the host's [Client], which speak the protocol
// described here over one virtio-serial port.
//
// # Transport
//
// Any reliable byte stream will do. Under QEMU it is a virtserialport whose
// name is [PortName]; the guest finds it by /sys/class/virtio-ports/*/name.
// The stream is reliable but its ends are not: a guest woken from a snapshot
// still talks to a host that is gone, and a frame can be cut in the middle.
// So every frame can be recognised and checked on its own.
//
// # Frame
//
// All numbers are little endian.
//
//	offset size
//	     0    4  magic: the bytes F5 'k' 'l' 0A
//	     4    1  type
//	     5    1  channel (data, end and credit frames; otherwise 0)
//	     6    2  zero
//	     8    4  stream
//	    12    4  length of the payload, at most 32744 (MaxPayload)
//	    16    4  CRC-32 (IEEE) of bytes 0 to 15
//	    20    n  payload
//	  20+n    4  CRC-32 (IEEE) of the payload
//
// A whole frame is at most 32 KiB, which virtio_console writes as one buffer.
//
// The header has a CRC of its own so that garbage cannot announce a long
// payload and keep the receiver waiting for it. A receiver that finds no magic
// or a wrong CRC drops one byte and looks for the next magic, also inside what
// it took for a payload. Zero bytes between frames are padding and are skipped;
// all other skipped bytes are counted as garbage. Frames of an unknown type and
// frames for an unknown stream are ignored.
//
// # Session
//
//	type       from    payload
//	reset   1  client  JSON {"nonce": N}: begin a session
//	hello   2  agent   JSON [Hello], with the nonce of the reset it answers
//	ready   3  agent   JSON {"nonce": N}: the agent begins to serve; N is the
//	                   nonce of its session, 0 if it has none
//
// A client begins with padding of 32 KiB (so that a payload the guest still
// waits for, from a frame cut short, is complete and fails its CRC) and a
// reset. The agent forgets all streams of the session before (their processes
// live on, see below), sends nothing more of them, and answers hello. A reset
// with the nonce of the present session only repeats the hello. The client
// ignores everything until the hello with its nonce. A ready frame tells a
// client to send its reset again if that had no answer yet; if the client has a
// session and N is another nonce, the agent has lost it and so the client fails
// all its streams.
//
// # Streams
//
//	request 4  client  JSON: what to do; opens the stream
//	started 5  agent   JSON {"pid": P}: the process exists (run and load only)
//	data    6  both    bytes of a channel
//	end     7  both    no more data on this channel
//	credit  8  both    4 bytes: the other end may send that many bytes more
//	reply   9  agent   JSON: the result; always the last frame of a stream
//	cancel 10  client  the client has lost interest: stop if that can be done
//
// The client picks stream numbers, never 0, never twice in a session. Every
// request gets one reply. Any number of streams may be open at once.
//
// Channel 0 carries data from client to agent (standard input, the file of a
// put), channel 1 from agent to client (standard output, the file of a get, log
// records), channel 2 likewise (standard error). The sender of each channel of
// each stream starts with a credit of 262144 bytes (Window). Data spends it, and
// the receiver grants more once it has passed the bytes on. So a slow reader
// holds up its own channel and nothing else, and both ends always read the
// port. Data beyond the credit is a fault of the sender: the receiver drops it
// and ends the channel.
//
// # Requests
//
// The request is a JSON object; "op" says what it asks for. Fields in brackets
// may be missing. A reply has an "error" object when the request could not be
// done: {"errno": N, "signal": N, "text": "..."}, errno and signal in Linux's
// numbers, the text only if neither says it.
//
//	op        fields                               what it does
//	hello     -                                    replies {"hello": Hello}
//	run       argv [env dir stdin console]         runs a program
//	signal    process signal [group]               signals the process of the run stream "process"
//	put       name mode [size]                     writes channel 0 to a file, by a temporary name
//	get       name                                 sends a file on channel 1
//	list      name                                 sends the names in a folder on channel 1, NUL behind each
//	stat      name                                 replies whether there is such a file
//	write     name data                            writes data (base64) to a file in one write(2)
//	load      name [params] [deps]                 finit_module(2), once, in a child
//	unload    name                                 delete_module(2) with O_NONBLOCK, in a child
//	kmsg      [seq]                                sends /dev/kmsg records on channel 1
//	clock     time                                 sets CLOCK_REALTIME, nanoseconds since 1970
//	entropy   data                                 credits random bytes (base64), reseeds the kernel's generator
//	winsize   rows cols                            sets the size of the console's terminal
//	sync      -                                    sync(2)
//	poweroff  -                                    sync(2), replies, reboot(2) with POWER_OFF
//	reboot    -                                    the same with RESTART
//	halt      -                                    the same with HALT
//
// run: "env" is added to the agent's environment. Without "stdin" the program
// reads /dev/null. The program leads a session and process group of its own.
// With "console" it reads and writes /dev/ttyS0 as its controlling terminal, and
// the channels are not used. After the program has ended the agent sends what is
// left in its pipes, ends channels 1 and 2, and replies {"code": N} or
// {"signal": N}. It does not wait for a background process that holds the pipes:
// what that writes later is thrown away. Cancel kills the program's process
// group. When a session is reset its programs live on: they read end of file and
// their output is thrown away.
//
// load: a "name" with a slash is a file; any other is looked for under
// /lib/modules/RELEASE/extra, then in modules.dep, with "-" and "_" the same.
// With "deps" what modules.dep says it needs is loaded before, and modules that
// are in already are no error. The started frame has the pid of the child that
// makes the system call for the module itself. A child that dies in the call,
// as it does in an oops, is told by "signal".
//
// get, list, stat, write: an oops in a file's handler ends the agent's thread that
// called it, which the reply tells by "signal", too.
//
// kmsg: records as /dev/kmsg gives them, each followed by a zero byte (records
// have none themselves), from the oldest on, or from number "seq". Records that
// the kernel overwrote before they were read are missing: their numbers are.
package guest
