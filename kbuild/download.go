package kbuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// client is an HTTP client that never waits for ever.
type client struct {
	http   *http.Client
	answer time.Duration // for the answer's header
	stall  time.Duration // between two pieces of its body
}

func newClient(answer, stall time.Duration) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	transport.DialContext = (&net.Dialer{Timeout: answer}).DialContext
	return &client{&http.Client{Transport: transport, CheckRedirect: checkRedirect}, answer, stall}
}

// checkRedirect refuses to go from https to http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("more than 10 redirects")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("refuse a redirect from https to %s", req.URL)
	}
	return nil
}

// unreachableError says that a server gave no answer, or that it is not able to now.
type unreachableError struct {
	url string
	err error
}

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// statusError is an HTTP status that is not a success.
type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("the server says %d %s", int(e), http.StatusText(int(e)))
}

// stallError says that a server fell silent.
type stallError time.Duration

func (e stallError) Error() string { return fmt.Sprintf("no byte for %v", time.Duration(e)) }

// answerError says that a server did not begin to answer.
type answerError time.Duration

func (e answerError) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(e)) }

// get asks for url. The caller closes the answer's body, whose Read fails with a stallError
// when nothing comes. Errors are [*unreachableError] if the server could not be asked or
// is unable to answer, statusError if it answered with anything but 200, 206 or 416.
func (c *client) get(ctx context.Context, url string, header http.Header) (*http.Response, error) {
	body := &stallReader{outer: ctx, stall: c.stall}
	ctx, body.cancel = context.WithCancelCause(ctx)
	body.ctx = ctx
	body.timer = time.AfterFunc(c.answer, func() { body.cancel(answerError(c.answer)) })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		body.stop()
		return nil, err
	}
	req.Header = header
	resp, err := c.http.Do(req)
	if err != nil {
		err = body.cause(err)
		body.stop()
		if body.outer.Err() != nil {
			return nil, err
		}
		return nil, &unreachableError{url, plainURLError(err)}
	}
	body.r = resp.Body
	resp.Body = body
	switch s := resp.StatusCode; {
	case s == http.StatusOK, s == http.StatusPartialContent, s == http.StatusRequestedRangeNotSatisfiable:
		return resp, nil
	case s >= 500, s == http.StatusTooManyRequests:
		return nil, errors.Join(&unreachableError{url, statusError(s)}, body.Close())
	default:
		return nil, errors.Join(statusError(s), body.Close())
	}
}

// plainURLError takes the method and address off net/http's error: they are said elsewhere.
func plainURLError(err error) error {
	if u := errors.Unwrap(err); u != nil && strings.HasPrefix(err.Error(), "Get ") {
		return u
	}
	return err
}

// stallReader is an answer's body that cancels its request when nothing comes for a time.
type stallReader struct {
	outer  context.Context // of whoever asked
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	r      io.ReadCloser
	once   bool
}

func (s *stallReader) Read(p []byte) (int, error) {
	if !s.once { // from now on the timer means a stall
		s.once = true
		s.timer.Stop()
		s.timer = time.AfterFunc(s.stall, func() { s.cancel(stallError(s.stall)) })
	}
	s.timer.Reset(s.stall)
	n, err := s.r.Read(p)
	s.timer.Stop()
	if err != nil && err != io.EOF {
		err = &readError{s.cause(err)}
	}
	return n, err
}

// cause returns why the request was cancelled, if it was, and else err.
func (s *stallReader) cause(err error) error {
	if err := s.outer.Err(); err != nil {
		return err
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return err
}

func (s *stallReader) stop() {
	s.timer.Stop()
	s.cancel(nil)
}

// Close ends the request.
func (s *stallReader) Close() error {
	s.stop()
	_ = s.r.Close() // nothing is lost: the caller has what it wanted
	return nil
}

// readError is a failure of the network, not of the disk.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// maxAttempts bounds how often a download is tried, and maxStalls how often it may fall
// silent. Only an attempt that brought something earns another.
const (
	maxAttempts = 100
	maxStalls   = 2
)

// download brings url to the file part, and resumes what is there of it. The caller has the
// lock of both.
type download struct {
	client   *client
	url      string
	part     string
	progress func(Update)
}

// validators tell whether a file on a server is still the same (RFC 9110, section 8.8).
type validators struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// ifRange returns the value of the If-Range header, "" if the rest of a file cannot be asked for safely.
func (v validators) ifRange() string {
	if v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") {
		return v.ETag
	}
	return v.LastModified
}

func (d *download) metaFile() string { return d.part + ".json" }

// remove removes the file and what describes it, also what a kaleido that was killed had
// begun to write of that.
func (d *download) remove() error {
	dir := filepath.Dir(d.part)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names := []string{d.part, d.metaFile()}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+filepath.Base(d.metaFile())) { // renameio's name for it
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// run downloads the file.
func (d *download) run(ctx context.Context) error {
	stalls := 0
	for attempt := 1; ; attempt++ {
		got, err := d.attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if errors.As(err, new(*restartError)) {
			continue // from nothing, so this cannot happen again
		}
		if errors.As(err, new(stallError)) {
			stalls++
		}
		if !errors.As(err, new(*readError)) || got == 0 || stalls == maxStalls || attempt == maxAttempts {
			return err
		}
		d.progress(Update{Stage: "download", Note: fmt.Sprintf("the connection broke (%v): resuming", err)})
	}
}

// attempt asks for what is missing of the file, and returns how many bytes came.
func (d *download) attempt(ctx context.Context) (int64, error) {
	have, v := d.have()
	header := http.Header{}
	if have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		header.Set("If-Range", v.ifRange())
	}
	resp, err := d.client.get(ctx, d.url, header)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	start, total := contentRange(resp)
	switch resp.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		if have > 0 && total == have {
			return 0, nil
		}
		return 0, d.restart(have, statusError(resp.StatusCode))
	case http.StatusPartialContent:
		if have == 0 || start != have {
			return 0, d.restart(have, fmt.Errorf("asked for bytes from %d on, got them from %d on", have, start))
		}
	default:
		have, total, flags = 0, resp.ContentLength, flags|os.O_TRUNC
		if err := d.describe(resp); err != nil {
			return 0, err
		}
	}
	return d.copy(resp.Body, flags, have, total)
}

// restartError says that the server would not continue a file, which is removed now.
type restartError struct{ err error }

func (e *restartError) Error() string { return e.err.Error() }

// restart removes a file of have bytes that the server will not continue because of err.
func (d *download) restart(have int64, err error) error {
	if have == 0 {
		return err
	}
	if err := d.remove(); err != nil {
		return err
	}
	return &restartError{err}
}

// have returns how much of the file is there and may be continued.
func (d *download) have() (int64, validators) {
	var v validators
	data, err := os.ReadFile(d.metaFile())
	if err != nil || json.Unmarshal(data, &v) != nil || v.ifRange() == "" {
		return 0, validators{}
	}
	info, err := os.Lstat(d.part)
	if err != nil || !info.Mode().IsRegular() {
		return 0, validators{}
	}
	return info.Size(), v
}

// describe writes down the validators of a file that begins to come. What was there of
// another one goes first: the two must never be taken for each other's.
func (d *download) describe(resp *http.Response) error {
	if err := d.remove(); err != nil {
		return err
	}
	data, err := json.Marshal(validators{resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")})
	if err != nil {
		return err
	}
	return renameio.WriteFile(d.metaFile(), append(data, '\n'), 0o644)
}

// copy appends an answer's body to the file.
func (d *download) copy(body io.Reader, flags int, have, total int64) (int64, error) {
	f, err := os.OpenFile(d.part, flags, 0o644)
	if err != nil {
		return 0, err
	}
	report := func(n int64) {
		d.progress(Update{Stage: "download", Done: have + n, Total: max(total, 0), Unit: "bytes"})
	}
	t := throttle{every: progressEvery}
	var n int64
	_, err = io.Copy(f, &tickReader{body, func(m int) {
		n += int64(m)
		t.do(func() { report(n) })
	}})
	if err == nil && total > 0 && have+n != total {
		err = &readError{io.ErrUnexpectedEOF}
	}
	if err == nil {
		report(n)
	}
	return n, errors.Join(err, f.Close())
}

// tickReader tells how much every Read brought.
type tickReader struct {
	r    io.Reader
	tick func(n int)
}

func (t *tickReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.tick(n)
	return n, err
}

// contentRange reads the header Content-Range (RFC 9110, section 14.4); -1 is not known.
func contentRange(resp *http.Response) (start, total int64) {
	spec, _ := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	span, size, _ := strings.Cut(spec, "/")
	first, _, _ := strings.Cut(span, "-")
	return parseInt(first), parseInt(size)
}

func parseInt(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// explain makes a FetchError of what run returned.
func (d *download) explain(err error, version string) error {
	fe := &FetchError{Op: "download", URL: d.url, Err: err}
	var status statusError
	var network *readError
	switch {
	case errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusGone):
		fe.Hint = "there is no linux " + version + " on that server: check the version and the mirror"
	case errors.As(err, &network):
		fe.Hint = "run it again to resume"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fetchError("download", d.url, err)
	}
	return fe
}
