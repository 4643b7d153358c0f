package guest

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Hello is how the agent presents itself.
type Hello struct {
	Protocol int    `json:"protocol"` // ProtocolVersion of the agent
	Release  string `json:"release"`  // uname -r
	Version  string `json:"version"`  // uname -v
	Machine  string `json:"machine"`  // uname -m
	PID      int    `json:"pid"`      // the agent's: 1 in a guest of ours
	Garbage  int64  `json:"garbage"`  // bytes the agent could not make sense of since it started
	Nonce    uint64 `json:"nonce"`    // of the session
}

// session is the payload of reset and ready frames.
type session struct {
	Nonce uint64 `json:"nonce"`
}

// The operations of a request.
const (
	opHello    = "hello"
	opRun      = "run"
	opSignal   = "signal"
	opPut      = "put"
	opGet      = "get"
	opList     = "list"
	opStat     = "stat"
	opWrite    = "write"
	opLoad     = "load"
	opUnload   = "unload"
	opKmsg     = "kmsg"
	opClock    = "clock"
	opEntropy  = "entropy"
	opWinsize  = "winsize"
	opSync     = "sync"
	opPowerOff = "poweroff"
	opReboot   = "reboot"
	opHalt     = "halt"
)

// request is the payload of a request frame. Each operation uses some fields.
type request struct {
	Op      string   `json:"op"`
	Argv    []string `json:"argv,omitempty"`
	Env     []string `json:"env,omitempty"`
	Dir     string   `json:"dir,omitempty"`
	Stdin   bool     `json:"stdin,omitempty"`
	Console bool     `json:"console,omitempty"`
	Process uint32   `json:"process,omitempty"`
	Signal  int      `json:"signal,omitempty"`
	Group   bool     `json:"group,omitempty"`
	Name    string   `json:"name,omitempty"`
	Mode    uint32   `json:"mode,omitempty"`
	Params  []string `json:"params,omitempty"`
	Deps    bool     `json:"deps,omitempty"`
	Seq     uint64   `json:"seq,omitempty"`
	Time    int64    `json:"time,omitempty"`
	Data    []byte   `json:"data,omitempty"`
	Rows    uint16   `json:"rows,omitempty"`
	Cols    uint16   `json:"cols,omitempty"`
}

// reply is the payload of started and reply frames.
type reply struct {
	Error  *wireError `json:"error,omitempty"`
	Hello  *Hello     `json:"hello,omitempty"`
	PID    int        `json:"pid,omitempty"`
	Code   int        `json:"code,omitempty"`
	Signal int        `json:"signal,omitempty"`
	Name   string     `json:"name,omitempty"`
}

type wireError struct {
	Errno  int    `json:"errno,omitempty"`
	Signal int    `json:"signal,omitempty"`
	Text   string `json:"text,omitempty"`
}

// An Error is the guest's refusal: an operation reached the agent and failed there.
// It unwraps to its Errno, so errors.Is(err, syscall.ENOENT) works.
type Error struct {
	Op     string         // what was tried: "load module", "run", "put", ...
	Name   string         // on what: a file, a module, a program
	Errno  syscall.Errno  // the kernel's answer, 0 if it gave none
	Signal syscall.Signal // what killed the child that tried (SIGKILL after an oops), 0 if nothing did
	Text   string         // the cause where neither Errno nor Signal is one
}

// Error returns "load module hello: ENOENT: no such file or directory".
func (e *Error) Error() string {
	s := e.Op
	if e.Name != "" {
		s += " " + e.Name
	}
	switch {
	case e.Signal != 0:
		return s + ": killed by " + signalName(e.Signal)
	case e.Errno != 0:
		return s + ": " + errnoText(e.Errno)
	}
	return s + ": " + e.Text
}

// Unwrap returns the Errno, nil if there is none.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

func errnoText(errno syscall.Errno) string {
	if name := unix.ErrnoName(errno); name != "" {
		return name + ": " + errno.Error()
	}
	return errno.Error()
}

func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// Status is how a program ended.
type Status struct {
	Code   int            // exit status, if Signal is 0
	Signal syscall.Signal // what killed it, 0 if it exited
}

// Success reports whether the program exited with status 0.
func (s Status) Success() bool { return s == Status{} }

// String returns "exit status 1" or "killed by SIGSEGV".
func (s Status) String() string {
	if s.Signal != 0 {
		return "killed by " + signalName(s.Signal)
	}
	return fmt.Sprintf("exit status %d", s.Code)
}

// modeBits are a file's permission bits in Linux's numbers.
func modeBits(mode os.FileMode) uint32 {
	bits := uint32(mode.Perm())
	if mode&os.ModeSetuid != 0 {
		bits |= syscall.S_ISUID
	}
	if mode&os.ModeSetgid != 0 {
		bits |= syscall.S_ISGID
	}
	if mode&os.ModeSticky != 0 {
		bits |= syscall.S_ISVTX
	}
	return bits
}
