package detach

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// Event is a piece of the answer to exec and console. One field is set, but that
// Ended and Refused go with Error, and that none says that one may type on the console now.
type Event struct {
	Stdout []byte `json:"stdout,omitempty"`
	Stderr []byte `json:"stderr,omitempty"`
	Socket string `json:"socket,omitempty"` // where a debugger may come now
	Exit   *Exit  `json:"exit,omitempty"`   // the last event: how the program ended
	Error  string `json:"error,omitempty"`  // the last event: why it could not be told
	Ended  bool   `json:"ended,omitempty"`  // it is because the guest's life ended

	Refused *guest.Error `json:"refused,omitempty"` // it is the guest's answer
}

// Exit is how a program ended: by a code or by a signal.
type Exit struct {
	Code   int            `json:"code"`
	Signal syscall.Signal `json:"signal,omitempty"`
}

// Server is the guest as others may use it.
type Server struct {
	// Agent is the guest's agent.
	Agent *guest.Client

	// Console types on the guest's serial console.
	Console io.Writer

	// HasShell says that there is a shell on the console already. Otherwise the
	// first who wants to type there gets one started.
	HasShell bool

	// Debug lets a debugger at the guest until ctx ends. It calls ready with the path of the UNIX
	// socket when the debugger may come.
	Debug func(ctx context.Context, ready func(socket string)) error

	// Stop is called when the guest is to end. It must not block.
	Stop func()

	// ErrorLog is told what goes wrong with connections.
	ErrorLog *log.Logger

	mu    sync.Mutex
	shell *shell
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/exec", s.exec)
	mux.HandleFunc("POST /v1/console", s.console)
	mux.HandleFunc("POST /v1/winsize", s.winsize)
	mux.HandleFunc("POST /v1/debug", s.debug)
	mux.HandleFunc("POST /v1/stop", func(http.ResponseWriter, *http.Request) { s.Stop() })
	return mux
}

// exec runs a program for a client.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	answer := newAnswer(w)
	defer answer.end()
	cmd := guest.Command{
		Argv: q["arg"], Env: q["env"], Dir: q.Get("dir"),
		Stdout: answer.stream(func(p []byte) Event { return Event{Stdout: p} }),
		Stderr: answer.stream(func(p []byte) Event { return Event{Stderr: p} }),
	}
	if q.Has("stdin") {
		cmd.Stdin = r.Body
	}
	process, err := s.Agent.Start(r.Context(), cmd)
	if err != nil {
		answer.fail(err)
		return
	}
	status, err := process.Wait(r.Context())
	switch {
	case r.Context().Err() != nil:
		interrupt(process)
	case err != nil:
		answer.fail(err)
	default:
		answer.send(Event{Exit: &Exit{status.Code, status.Signal}})
	}
}

// interruptGrace is how long a program gets to obey SIGINT.
const interruptGrace = 2 * time.Second

// interrupt ends a program whose client is gone.
func interrupt(p *guest.Process) {
	ctx, cancel := context.WithTimeout(context.Background(), interruptGrace)
	defer cancel()
	// Errors mean that it has ended, or the guest.
	if p.SignalGroup(ctx, syscall.SIGINT) != nil {
		return
	}
	if _, err := p.Wait(ctx); ctx.Err() != nil && err != nil {
		ctx, cancel := context.WithTimeout(context.Background(), interruptGrace)
		defer cancel()
		_ = p.SignalGroup(ctx, syscall.SIGKILL)
	}
}

// shell is the shell on the console.
type shell struct {
	done   chan struct{}
	status guest.Status // valid when done is closed
	err    error
}

// console types what a client sends, until it goes or the shell ends.
func (s *Server) console(w http.ResponseWriter, r *http.Request) {
	answer := newAnswer(w)
	sh, err := s.shellOnConsole(r.Context(), r.URL.Query())
	if err != nil {
		answer.fail(err)
		return
	}
	answer.send(Event{}) // it may type now
	go func() {
		// Ends with the request. An error means that nobody reads or nobody types.
		_, _ = io.Copy(s.Console, r.Body)
	}()
	select {
	case <-sh.done:
	case <-r.Context().Done():
		return
	}
	if sh.err != nil {
		answer.fail(sh.err)
		return
	}
	answer.send(Event{Exit: &Exit{sh.status.Code, sh.status.Signal}})
}

// shellOnConsole is the shell there, started if there is none.
func (s *Server) shellOnConsole(ctx context.Context, q url.Values) (*shell, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shell != nil {
		select {
		case <-s.shell.done:
		default:
			return s.shell, nil
		}
	}
	sh := &shell{done: make(chan struct{})}
	wait := func() {
		<-s.Agent.Done()
		sh.err = s.Agent.Err()
		close(sh.done)
	}
	if !s.HasShell {
		process, err := s.Agent.Start(ctx, guest.Command{Argv: []string{"sh"}, Env: q["env"], Console: true})
		if err != nil {
			return nil, err
		}
		wait = func() {
			sh.status, sh.err = process.Wait(context.Background()) // ends with the guest at the latest
			close(sh.done)
		}
	}
	s.shell = sh
	go wait()
	return sh, nil
}

func (s *Server) winsize(w http.ResponseWriter, r *http.Request) {
	rows, err := strconv.ParseUint(r.FormValue("rows"), 10, 16)
	cols, err2 := strconv.ParseUint(r.FormValue("cols"), 10, 16)
	if err := errors.Join(err, err2); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.Agent.SetWindowSize(r.Context(), int(rows), int(cols)); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

// debug lets a client's debugger at the guest, until the client goes.
func (s *Server) debug(w http.ResponseWriter, r *http.Request) {
	answer := newAnswer(w)
	err := s.Debug(r.Context(), func(socket string) {
		_ = answer.send(Event{Socket: socket}) // a client that is gone has ended the context, too
	})
	if err != nil {
		answer.fail(err)
	}
}

// answer sends events.
type answer struct {
	mu    sync.Mutex
	enc   *json.Encoder
	rc    *http.ResponseController
	ended bool
}

var errAnswered = errors.New("the client is gone")

func newAnswer(w http.ResponseWriter) *answer {
	w.Header().Set("Content-Type", "application/json")
	return &answer{enc: json.NewEncoder(w), rc: http.NewResponseController(w)}
}

func (a *answer) send(e Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return errAnswered
	}
	if err := a.enc.Encode(e); err != nil {
		return err
	}
	return a.rc.Flush()
}

// end makes every later event an error. A program that we could not stop may still write when
// its request is over, and net/http panics then, to the end of us and the guest.
func (a *answer) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
}

// fail is the last event. A client that is gone does not hear it.
func (a *answer) fail(err error) {
	e := Event{Error: err.Error(), Ended: errors.Is(err, guest.ErrClosed)}
	_ = errors.As(err, &e.Refused)
	_ = a.send(e)
}

// stream is a program's output as events.
func (a *answer) stream(event func(p []byte) Event) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		if err := a.send(event(p)); err != nil {
			return 0, err
		}
		return len(p), nil
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
