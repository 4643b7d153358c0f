package detach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/vm/guest"
)

// ErrGuestEnded is wrapped by the errors of calls that the end of the guest's life
// cut short. What became of it, Dir.AwaitEnd tells.
var ErrGuestEnded = errors.New("the guest's life ended")

// Client talks to the holder of a guest. Its methods may be called at the same
// time; each ends with its context.
type Client struct {
	name string
	http *http.Client
}

// Dial is the client of a guest that is there: an *UnknownError if there is none
// of that name, an *EndedError if it is no more.
func (d Dir) Dial(name string) (State, *Client, error) {
	s, err := d.Find(name)
	if err != nil {
		return s, nil, err
	}
	switch s.Status {
	case Ended:
		return s, nil, &EndedError{s}
	case Starting:
		return s, nil, fmt.Errorf("guest %q is still starting (pid %d)", name, s.PID)
	}
	dial := func(context.Context, string, string) (conn net.Conn, err error) {
		err = byDescriptor(d.path(name), func(socket string) error {
			conn, err = net.Dial("unix", socket)
			return err
		})
		return conn, err
	}
	return s, &Client{name, &http.Client{Transport: &http.Transport{Protocols: protocols(), DialContext: dial}}}, nil
}

// Close ends the client's connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// until is r as a request's body, until ctx ends: the transport looks at no context
// while it waits for a body.
func until(ctx context.Context, r io.Reader) io.Reader {
	if r == nil {
		return nil
	}
	body, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, r)
		w.CloseWithError(err) // nil is the end of file
	}()
	context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	return body
}

// post makes a request; the caller closes the response's body.
func (c *Client) post(ctx context.Context, what string, q url.Values, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest/v1/"+what+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(ctx, what, err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what it says, if it says anything
		resp.Body.Close()
		return nil, fmt.Errorf("%s in guest %q: %s", what, c.name, strings.TrimSpace(resp.Status+" "+string(text)))
	}
	return resp, nil
}

// explain says what a broken connection means: the holder has ended, and the guest
// before it.
func (c *Client) explain(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s in guest %q: %w", what, c.name, context.Cause(ctx))
	}
	return fmt.Errorf("%s in guest %q: %w: %w", what, c.name, ErrGuestEnded, err)
}

// Exec runs a program in the guest to its end, of which Command's Console is not
// used. If ctx ends before, the program is interrupted. A Read of Stdin under way at the
// end is not, and what it gets is lost.
func (c *Client) Exec(ctx context.Context, cmd guest.Command) (guest.Status, error) {
	q := url.Values{"arg": cmd.Argv, "env": cmd.Env, "dir": {cmd.Dir}}
	if cmd.Stdin != nil {
		q.Set("stdin", "1")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.post(ctx, "exec", q, until(ctx, cmd.Stdin))
	if err != nil {
		return guest.Status{}, err
	}
	defer resp.Body.Close()
	return c.events(ctx, "exec", resp.Body, func(e Event) error {
		for _, out := range []struct {
			w io.Writer
			p []byte
		}{{cmd.Stdout, e.Stdout}, {cmd.Stderr, e.Stderr}} {
			if out.w == nil || len(out.p) == 0 {
				continue
			}
			if _, err := out.w.Write(out.p); err != nil {
				return err
			}
		}
		return nil
	})
}

// Console types what is read from keys on the guest's console, where there is a
// shell, until ctx or the shell ends. ready is called when it can be typed.
func (c *Client) Console(ctx context.Context, keys io.Reader, env []string, ready func()) (guest.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.post(ctx, "console", url.Values{"env": env}, until(ctx, keys))
	if err != nil {
		return guest.Status{}, err
	}
	defer resp.Body.Close()
	return c.events(ctx, "console", resp.Body, func(Event) error {
		ready()
		return nil
	})
}

// Debug lets a debugger at the guest until ctx ends; the guest runs on afterwards. ready
// is called with the path of the UNIX socket when the debugger may come.
func (c *Client) Debug(ctx context.Context, ready func(socket string)) error {
	resp, err := c.post(ctx, "debug", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = c.events(ctx, "debug", resp.Body, func(e Event) error {
		ready(e.Socket)
		return nil
	})
	return err
}

// events reads an answer to its end.
func (c *Client) events(ctx context.Context, what string, body io.Reader, more func(Event) error) (guest.Status, error) {
	dec := json.NewDecoder(body)
	for {
		var e Event
		if err := dec.Decode(&e); err != nil {
			return guest.Status{}, c.explain(ctx, what, err)
		}
		switch {
		case e.Exit != nil:
			return guest.Status{Code: e.Exit.Code, Signal: e.Exit.Signal}, nil
		case e.Ended:
			return guest.Status{}, fmt.Errorf("%s in guest %q: %w", what, c.name, ErrGuestEnded)
		case e.Refused != nil:
			return guest.Status{}, e.Refused
		case e.Error != "":
			return guest.Status{}, errors.New(e.Error)
		}
		if err := more(e); err != nil {
			return guest.Status{}, err
		}
	}
}

// SetWindowSize sets the size of the console's terminal.
func (c *Client) SetWindowSize(ctx context.Context, rows, cols int) error {
	return c.order(ctx, "winsize", url.Values{"rows": {strconv.Itoa(rows)}, "cols": {strconv.Itoa(cols)}})
}

// Stop has the guest powered off, or killed if it does not obey. It returns when
// that has begun: see Dir.AwaitEnd.
func (c *Client) Stop(ctx context.Context) error { return c.order(ctx, "stop", nil) }

func (c *Client) order(ctx context.Context, what string, q url.Values) error {
	resp, err := c.post(ctx, what, q, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
