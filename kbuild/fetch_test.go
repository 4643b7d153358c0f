package kbuild

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// kernelTar returns a small tar archive that is shaped like a kernel's.
func kernelTar(t testing.TB, sublevel int) []byte {
	t.Helper()
	top := fmt.Sprintf("linux-6.1.%d/", sublevel)
	noise := make([]byte, 300<<10) // does not compress, and is larger than what goes through memory
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(noise)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data string) {
		h.Name, h.Size = top+h.Name, int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "commit"}}, "")
	add(tar.Header{Name: "", Typeflag: tar.TypeDir, Mode: 0o775}, "")
	add(tar.Header{Name: "Makefile", Mode: 0o664}, fmt.Sprintf(
		"# SPDX-License-Identifier: GPL-2.0\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = %d\nEXTRAVERSION =\nNAME = Test\n", sublevel))
	add(tar.Header{Name: "arch/x86/boot/Makefile", Mode: 0o664}, "obj-y := a.o\n")
	add(tar.Header{Name: "scripts/run.sh", Mode: 0o775}, "#!/bin/sh\n")
	add(tar.Header{Name: "scripts/dtc/include-prefixes/x86", Typeflag: tar.TypeSymlink, Linkname: "../../../arch/x86/boot"}, "")
	add(tar.Header{Name: "Documentation/dangling", Typeflag: tar.TypeSymlink, Linkname: "../nowhere"}, "")
	add(tar.Header{Name: "scripts/same.sh", Typeflag: tar.TypeLink, Linkname: top + "scripts/run.sh"}, "")
	add(tar.Header{Name: "drivers/firmware.bin", Mode: 0o664}, string(noise))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compressXZ(t testing.TB, data []byte) []byte {
	t.Helper()
	if program, err := exec.LookPath("xz"); err == nil { // a hundred times faster under -race
		cmd := exec.Command(program, "--compress", "--stdout", "-0")
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tarballs are made once: to compress takes longer than any test.
var tarballs sync.Map

// tarball returns linux-6.1.SUBLEVEL.tar.xz and its SHA-256.
func tarball(t testing.TB, sublevel int) ([]byte, string) {
	t.Helper()
	data, ok := tarballs.Load(sublevel)
	if !ok {
		data = compressXZ(t, kernelTar(t, sublevel))
		tarballs.Store(sublevel, data)
	}
	return data.([]byte), sumOf(data.([]byte))
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// mirror is a kernel.org on the loopback. Its fields may be changed between requests.
type mirror struct {
	*httptest.Server
	mu       sync.Mutex
	files    map[string][]byte
	etag     string
	cutAt    int           // > 0: the next answer breaks off after so many bytes
	stallAt  int           // > 0: every answer falls silent after so many bytes
	stalled  chan struct{} // gets a value when one does
	requests []request
}

type request struct {
	path, rng string
	status    int
	bytes     int
}

func newMirror(t *testing.T) *mirror {
	m := &mirror{files: map[string][]byte{}, etag: `"1"`, stalled: make(chan struct{}, 100)}
	data, sum := tarball(t, 99)
	m.files["/v6.x/linux-6.1.99.tar.xz"] = data
	m.files["/v6.x/sha256sums.asc"] = []byte(sum + "  linux-6.1.99.tar.xz\n")
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

// countingWriter counts what it lets through, breaks off, falls silent.
type countingWriter struct {
	http.ResponseWriter
	ctx            context.Context
	req            *request
	cutAt, stallAt int
	stalled        chan struct{}
}

func (w *countingWriter) WriteHeader(status int) {
	w.req.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	for _, limit := range []int{w.cutAt, w.stallAt} {
		if limit == 0 || w.req.bytes+len(p) <= limit {
			continue
		}
		n, _ := w.ResponseWriter.Write(p[:limit-w.req.bytes])
		w.req.bytes += n
		w.ResponseWriter.(http.Flusher).Flush()
		if limit == w.stallAt {
			w.stalled <- struct{}{}
			<-w.ctx.Done()
		}
		panic(http.ErrAbortHandler)
	}
	n, err := w.ResponseWriter.Write(p)
	w.req.bytes += n
	return n, err
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	data, ok := m.files[r.URL.Path]
	req := &request{path: r.URL.Path, rng: r.Header.Get("Range"), status: 200}
	cw := &countingWriter{ResponseWriter: w, ctx: r.Context(), req: req, cutAt: m.cutAt, stallAt: m.stallAt, stalled: m.stalled}
	if strings.HasSuffix(r.URL.Path, ".tar.xz") {
		m.cutAt = 0
	} else {
		cw.cutAt, cw.stallAt = 0, 0
	}
	w.Header().Set("ETag", m.etag)
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.requests = append(m.requests, *req)
		m.mu.Unlock()
	}()
	if !ok {
		http.NotFound(cw, r)
		return
	}
	http.ServeContent(cw, r, r.URL.Path, time.Unix(1700000000, 0), bytes.NewReader(data))
}

// asked returns the requests for tarballs so far, once no handler is at work.
func (m *mirror) asked() []request {
	m.Close() // waits for the handlers
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.requests), func(r request) bool { return !strings.HasSuffix(r.path, ".tar.xz") })
}

func (m *mirror) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// news collects updates.
type news struct {
	mu   sync.Mutex
	list []Update
}

func (n *news) add(u Update) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, u)
}

func (n *news) notes() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, u := range n.list {
		if u.Note != "" {
			fmt.Fprintln(&b, u.Note)
		}
	}
	return b.String()
}

func openCache(t testing.TB, dir string) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// options returns options for a fetch of 6.1.99, whose sum is pinned, into an empty cache.
func options(t testing.TB, url string) FetchOptions {
	t.Helper()
	_, sum := tarball(t, 99)
	dir := t.TempDir()
	return FetchOptions{
		Kernel: "6.1.99", Mirror: url, Cache: openCache(t, filepath.Join(dir, "cache")),
		StandIn: filepath.Join(dir, "none"), pinned: map[string]string{"6.1.99": sum},
	}
}

// wantTree fails the test unless src is the whole tree of linux 6.1.SUBLEVEL.
func wantTree(t *testing.T, src *Source, sublevel int) {
	t.Helper()
	if want := fmt.Sprintf("6.1.%d", sublevel); src.Version != want {
		t.Errorf("Version = %q, want %q", src.Version, want)
	}
	if !filepath.IsAbs(src.Dir) || src.ID == "" || src.Origin == "" {
		t.Errorf("Source = %+v", src)
	}
	info, err := os.Stat(filepath.Join(src.Dir, "drivers/firmware.bin"))
	if err != nil || info.Size() != 300<<10 {
		t.Errorf("firmware.bin: %v, %v", info, err)
	}
	for name, perm := range map[string]fs.FileMode{"scripts/run.sh": 0o111, "scripts/same.sh": 0o111, "Makefile": 0} {
		info, err := os.Stat(filepath.Join(src.Dir, name))
		if err != nil || info.Mode()&0o111 != perm {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(src.Dir, "scripts/dtc/include-prefixes/x86/Makefile")); err != nil || len(data) == 0 {
		t.Errorf("through the link: %q, %v", data, err)
	}
}

// wantNothing fails the test if the cache has anything but locks and the named leftovers.
func wantNothing(t *testing.T, c *cache.Cache, but ...string) {
	t.Helper()
	err := filepath.WalkDir(c.Dir(), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && !strings.HasPrefix(d.Name(), ".") {
			return err
		}
		rel, err := filepath.Rel(c.Dir(), name)
		if filepath.Dir(rel) != "locks" && !slices.Contains(but, rel) {
			t.Errorf("left in the cache: %s", rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantFetchError(t *testing.T, err error, op, text string) {
	t.Helper()
	var fe *FetchError
	if !errors.As(err, &fe) || fe.Op != op || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error = %v, want a FetchError of op %q with %q, one line", err, op, text)
	}
}

func TestFetchVersionAndAgainWithoutNetwork(t *testing.T) {
	m := newMirror(t)
	var n news
	opts := options(t, m.URL)
	opts.pinned, opts.Progress = map[string]string{}, n.add // the sum comes from sha256sums.asc
	id, err := Identify(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(opts.Cache.Dir(), "trees")); err == nil {
		t.Error("Identify unpacked something")
	}
	src, err := Fetch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if src.ID != id {
		t.Errorf("Identify = %q, Fetch %q", id, src.ID)
	}
	wantTree(t, src, 99)
	_, sum := tarball(t, 99)
	if src.ID != "sha256:"+sum || src.Origin != m.URL+"/v6.x/linux-6.1.99.tar.xz" || src.StandIn {
		t.Errorf("Source = %+v", src)
	}
	if !strings.Contains(n.notes(), "prove nothing") {
		t.Errorf("no word that sums over http prove nothing: %q", n.notes())
	}
	stages := map[string]bool{}
	for _, u := range n.list {
		stages[u.Stage] = true
		if u.Total > 0 && u.Done > u.Total {
			t.Errorf("more done than there is: %+v", u)
		}
	}
	if !stages["download"] || !stages["verify"] || !stages["unpack"] {
		t.Errorf("stages told: %v", stages)
	}
	m.Close()
	n.list = nil
	again, err := Fetch(t.Context(), opts)
	if err != nil || *again != *src {
		t.Errorf("second Fetch = %+v, %v, want %+v", again, err, src)
	}
	if !slices.ContainsFunc(n.list, func(u Update) bool { return u.Warning && strings.Contains(u.Note, "prove nothing") }) {
		t.Errorf("no warning the second time: %+v", n.list)
	}
}

func TestFetchResumesCutConnection(t *testing.T) {
	m := newMirror(t)
	data, _ := tarball(t, 99)
	m.cutAt = len(data) / 2
	var n news
	opts := options(t, m.URL)
	opts.Progress = n.add
	src, err := Fetch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	wantTree(t, src, 99)
	asked := m.asked()
	half := len(data) / 2
	if len(asked) != 2 || asked[0].bytes != half || asked[1].status != http.StatusPartialContent ||
		asked[1].rng != fmt.Sprintf("bytes=%d-", half) || asked[1].bytes != len(data)-half {
		t.Errorf("requests = %+v, want two halves of %d bytes", asked, len(data))
	}
	if !strings.Contains(n.notes(), "resuming") {
		t.Errorf("notes = %q", n.notes())
	}
}

func TestFetchCancelledThenResumed(t *testing.T) {
	m := newMirror(t)
	data, sum := tarball(t, 99)
	half := len(data) / 2
	m.stallAt = half
	opts := options(t, m.URL)
	ctx, cancel := context.WithCancelCause(t.Context())
	opts.Progress = func(u Update) {
		if u.Stage == "download" && u.Done > 0 {
			cancel(errors.New("interrupted")) // with a cause of its own, as signal.NotifyContext does
		}
	}
	start := time.Now()
	_, err := Fetch(ctx, opts)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Fetch = %v, want context.Canceled", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("the cancelled Fetch took %v", d)
	}
	wantNothing(t, opts.Cache, "sources/.part-"+sum, "sources/.part-"+sum+".json")
	m.set(func() { m.stallAt = 0 })
	opts.Progress = nil
	src, err := Fetch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	wantTree(t, src, 99)
	asked := m.asked()
	if last := asked[len(asked)-1]; last.status != http.StatusPartialContent || last.rng == "" || last.bytes >= len(data) {
		t.Errorf("requests = %+v, want the second one for the rest", asked)
	}
	if names, err := filepath.Glob(filepath.Join(opts.Cache.Dir(), "sources/.*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestFetchChangedFileRestarts(t *testing.T) {
	m := newMirror(t)
	name := "/v6.x/linux-6.1.99.tar.xz"
	good := m.files[name]
	m.files[name] = bytes.Repeat([]byte("old"), len(good))
	m.stallAt = 1000
	opts := options(t, m.URL)
	opts.StallTimeout = 50 * time.Millisecond
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "download", "no byte for 50ms: run it again to resume")
	m.set(func() {
		if len(m.requests) > maxStalls {
			t.Errorf("a server that falls silent was asked %d times", len(m.requests))
		}
	})
	opts.StallTimeout = 0
	m.set(func() { m.stallAt, m.etag, m.files[name] = 0, `"2"`, good })
	src, err := Fetch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	wantTree(t, src, 99)
	asked := m.asked()
	if last := asked[len(asked)-1]; last.rng == "" || last.status != http.StatusOK || last.bytes != len(good) {
		t.Errorf("last request = %+v, want a range answered by the whole", last)
	}
}

// A part that is longer than the file, or all of it, is answered by 416.
func TestFetchRangeNotSatisfiable(t *testing.T) {
	data, sum := tarball(t, 99)
	tests := []struct {
		name     string
		part     []byte
		requests int
	}{
		{"whole already", data, 1},
		{"too long", append(slices.Clone(data), 0), 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t)
			opts := options(t, m.URL)
			part := opts.Cache.Partial(cache.Sources, sum)
			if err := errors.Join(os.Mkdir(filepath.Dir(part), 0o777), os.WriteFile(part, tt.part, 0o666),
				os.WriteFile(part+".json", []byte(`{"etag":"\"1\""}`), 0o666)); err != nil {
				t.Fatal(err)
			}
			src, err := Fetch(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			wantTree(t, src, 99)
			if asked := m.asked(); len(asked) != tt.requests || asked[0].status != http.StatusRequestedRangeNotSatisfiable {
				t.Errorf("requests = %+v, want %d, the first answered by 416", asked, tt.requests)
			}
		})
	}
}

func TestFetchFlippedBitIsRefused(t *testing.T) {
	m := newMirror(t)
	name := "/v6.x/linux-6.1.99.tar.xz"
	bad := slices.Clone(m.files[name])
	bad[len(bad)/3] ^= 0x10
	m.files[name] = bad
	opts := options(t, m.URL)
	_, err := Fetch(t.Context(), opts)
	_, want := tarball(t, 99)
	wantFetchError(t, err, "verify", m.URL+name+": sha256 is "+sumOf(bad)+", expected "+want)
	wantNothing(t, opts.Cache)
}

func TestFetchTarballOfAnotherVersion(t *testing.T) {
	m := newMirror(t)
	data, sum := tarball(t, 98)
	m.files["/v6.x/linux-6.1.99.tar.xz"] = data
	opts := options(t, m.URL)
	opts.pinned["6.1.99"] = sum
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "unpack", "the tarball has linux 6.1.98")
}

func TestFetchNotFound(t *testing.T) {
	m := newMirror(t)
	opts := options(t, m.URL)
	delete(m.files, "/v6.x/linux-6.1.99.tar.xz")
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "download", m.URL+"/v6.x/linux-6.1.99.tar.xz: the server says 404 Not Found: there is no linux 6.1.99")
	opts.Kernel = "6.1.100"
	_, err = Fetch(t.Context(), opts)
	wantFetchError(t, err, "verify", "sha256sums.asc: no sum of linux-6.1.100.tar.xz in it")
	opts.Kernel = "7.0"
	_, err = Fetch(t.Context(), opts)
	wantFetchError(t, err, "download", m.URL+"/v7.x/sha256sums.asc: the server says 404 Not Found")
	wantNothing(t, opts.Cache)
}

func TestFetchServerThatDoesNotAnswer(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	opts := options(t, silent.URL)
	opts.AnswerTimeout = 50 * time.Millisecond
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "download", "no answer within 50ms")
	wantNothing(t, opts.Cache)
}

// broken is a server that is not able to answer; it counts who asked.
func broken(t *testing.T) (url string, asked func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		n++
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// refusing is an address at which nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(nil)
	s.Close()
	return s.URL
}

func TestFetchStandIn(t *testing.T) {
	url, asked := broken(t)
	var n news
	opts := options(t, url)
	opts.Kernel, opts.Progress = "", n.add
	opts.pinned = map[string]string{DefaultVersion: strings.Repeat("0", 64)}
	data, sum := tarball(t, 42)
	if err := os.WriteFile(opts.StandIn, data, 0o666); err != nil {
		t.Fatal(err)
	}
	src, err := Fetch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	wantTree(t, src, 42)
	if id, err := Identify(t.Context(), opts); err != nil || id != src.ID {
		t.Errorf("Identify = %q, %v, Fetch %q", id, err, src.ID)
	}
	if !src.StandIn || src.ID != "sha256:"+sum || src.Origin != opts.StandIn {
		t.Errorf("Source = %+v", src)
	}
	if got := n.notes(); !strings.Contains(got, "is out of reach") || !strings.Contains(got, "using linux 6.1.42 from "+opts.StandIn+" instead of 6.1.8") || strings.Count(got, "\n") != 1 {
		t.Errorf("notes = %q, want one that says what is used in place of what", got)
	}

	n = news{}
	again, err := Fetch(t.Context(), opts)
	if err != nil || *again != *src {
		t.Errorf("second Fetch = %+v, %v, want %+v", again, err, src)
	}
	if asked() != 1 {
		t.Errorf("the second Fetch asked the network")
	}
	if got := n.notes(); !strings.Contains(got, "has not been asked again") || !strings.Contains(got, "6.1.42") {
		t.Errorf("notes = %q", got)
	}

	opts.Probe = true
	if _, err := Fetch(t.Context(), opts); err != nil || asked() != 2 {
		t.Errorf("Fetch with Probe: asked %d times, %v", asked(), err)
	}
	opts.Probe = false
	if err := os.WriteFile(opts.StandIn, data, 0o666); err != nil { // another file now
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), opts); err != nil || asked() != 3 {
		t.Errorf("Fetch after the stand-in was replaced: asked %d times, %v", asked(), err)
	}
}

func TestFetchStandInOnlyWithoutVersion(t *testing.T) {
	opts := options(t, refusing(t))
	data, _ := tarball(t, 42)
	if err := os.WriteFile(opts.StandIn, data, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "download", "connection refused")
	opts.Kernel = ""
	opts.pinned = map[string]string{DefaultVersion: strings.Repeat("0", 64)}
	src, err := Fetch(t.Context(), opts)
	if err != nil || !src.StandIn {
		t.Errorf("Fetch = %+v, %v, want the stand-in", src, err)
	}
}

// A server that answers is within reach, whatever it answers.
func TestFetchNoStandInForABadAnswer(t *testing.T) {
	m := newMirror(t)
	opts := options(t, m.URL)
	data, _ := tarball(t, 42)
	if err := os.WriteFile(opts.StandIn, data, 0o666); err != nil {
		t.Fatal(err)
	}
	opts.Kernel = ""
	opts.pinned = map[string]string{DefaultVersion: strings.Repeat("0", 64)}
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "download", "404")
	m.files["/v6.x/linux-6.1.8.tar.xz"] = data
	_, err = Fetch(t.Context(), opts)
	wantFetchError(t, err, "verify", "sha256 is")
}

func TestFetchNeitherNetworkNorStandIn(t *testing.T) {
	opts := options(t, refusing(t))
	opts.Kernel = ""
	opts.pinned = map[string]string{DefaultVersion: strings.Repeat("0", 64)}
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "download", "apt-get install linux-source-6.1")
	wantNothing(t, opts.Cache)
}

func TestFetchDefaultFromCache(t *testing.T) {
	m := newMirror(t)
	data, sum := tarball(t, 8)
	m.files["/v6.x/linux-6.1.8.tar.xz"] = data
	opts := options(t, m.URL)
	opts.Kernel, opts.pinned = "", map[string]string{DefaultVersion: sum}
	src, err := Fetch(t.Context(), opts)
	if err != nil || src.StandIn {
		t.Fatalf("Fetch = %+v, %v", src, err)
	}
	wantTree(t, src, 8)
	m.Close()
	opts.Kernel = "6.1.8"
	if again, err := Fetch(t.Context(), opts); err != nil || *again != *src {
		t.Errorf("Fetch of what the default is = %+v, %v", again, err)
	}
}

// mountTmpfs mounts a file system of that size.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestFetchFullDisk(t *testing.T) {
	for size, op := range map[string]string{"64k": "download", "500k": "unpack"} {
		t.Run(op, func(t *testing.T) {
			m := newMirror(t)
			opts := options(t, m.URL)
			opts.Cache = openCache(t, mountTmpfs(t, size))
			_, err := Fetch(t.Context(), opts)
			wantFetchError(t, err, op, "no space left on device: free some space")
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Fetch = %v, want ENOSPC", err)
			}
			if list, err := opts.Cache.List(); err != nil || len(list) > 1 {
				t.Errorf("in the cache: %v, %v", list, err)
			}
			if names, err := filepath.Glob(filepath.Join(opts.Cache.Dir(), "trees/*")); err != nil || len(names) > 0 {
				t.Errorf("left behind: %v, %v", names, err)
			}
		})
	}
}

func TestFetchReadOnlyCache(t *testing.T) {
	m := newMirror(t)
	dir := mountTmpfs(t, "8m")
	opts := options(t, m.URL)
	opts.Cache = openCache(t, dir)
	if _, err := Fetch(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if src, err := Fetch(t.Context(), opts); err != nil {
		t.Errorf("Fetch of what is there: %v", err)
	} else {
		wantTree(t, src, 99)
	}
	data, sum := tarball(t, 98)
	m.set(func() { m.files["/v6.x/linux-6.1.98.tar.xz"] = data })
	opts.Kernel, opts.pinned = "6.1.98", map[string]string{"6.1.98": sum}
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "unpack", "read-only file system")
}

func TestFetchTwoAtOnceDownloadOnce(t *testing.T) {
	m := newMirror(t)
	opts := options(t, m.URL)
	var wg, waiting sync.WaitGroup
	var n news
	waiting.Add(3)
	progress := func(u Update) {
		n.add(u)
		if strings.HasPrefix(u.Note, "waiting for") {
			waiting.Done()
		} else if u.Stage == "download" {
			waiting.Wait() // the one that downloads goes on when all others wait for it
		}
	}
	for range 4 {
		wg.Go(func() {
			opts := opts
			opts.Cache, opts.Progress = openCache(t, opts.Cache.Dir()), progress
			src, err := Fetch(t.Context(), opts)
			if err != nil {
				t.Error(err)
				return
			}
			wantTree(t, src, 99)
		})
	}
	wg.Wait()
	data, _ := tarball(t, 99)
	if asked := m.asked(); len(asked) != 1 || asked[0].bytes != len(data) {
		t.Errorf("requests = %+v, want one", asked)
	}
	want := fmt.Sprintf("waiting for another kaleido (pid %d) that is making linux 6.1.99", os.Getpid())
	if got := n.notes(); strings.Count(got, want) != 3 {
		t.Errorf("notes = %q, want three of %s", got, want)
	}
}

// TestFetchChild is no test: it is the process that TestFetchKilled kills.
func TestFetchChild(t *testing.T) {
	url := os.Getenv("KALEIDO_TEST_FETCH_URL")
	if url == "" {
		return
	}
	opts := options(t, url)
	opts.Cache = openCache(t, os.Getenv("KALEIDO_TEST_FETCH_CACHE"))
	_, err := Fetch(context.Background(), opts)
	t.Fatalf("Fetch = %v before it was killed", err)
}

func TestFetchKilled(t *testing.T) {
	m := newMirror(t)
	data, sum := tarball(t, 99)
	m.set(func() { m.stallAt = len(data) / 2 })
	opts := options(t, m.URL)
	cmd := exec.Command(os.Args[0], "-test.run=^TestFetchChild$")
	cmd.Env = append(os.Environ(), "KALEIDO_TEST_FETCH_URL="+m.URL, "KALEIDO_TEST_FETCH_CACHE="+opts.Cache.Dir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-m.stalled
	waiting := make(chan string, 1)
	done := make(chan error, 1)
	opts.Progress = func(u Update) {
		if strings.HasPrefix(u.Note, "waiting") {
			waiting <- u.Note
		}
	}
	go func() {
		src, err := Fetch(context.Background(), opts)
		if err == nil && src.Version != "6.1.99" {
			err = errors.New(src.Version)
		}
		done <- err
	}()
	if note := <-waiting; !strings.Contains(note, "(pid "+strconv.Itoa(cmd.Process.Pid)+")") {
		t.Errorf("note = %q, want pid %d", note, cmd.Process.Pid)
	}
	// It may be killed while it writes what describes the download, with renameio.
	part := opts.Cache.Partial(cache.Sources, sum)
	torn := filepath.Join(filepath.Dir(part), "."+filepath.Base(part)+".json934565095")
	if err := os.WriteFile(torn, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.set(func() { m.stallAt = 0 })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := <-done; err != nil {
		t.Fatalf("Fetch after the kill: %v", err)
	}
	if names, err := filepath.Glob(filepath.Join(opts.Cache.Dir(), "*/.*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestFetchFile(t *testing.T) {
	data, sum := tarball(t, 7)
	opts := options(t, refusing(t))
	opts.Kernel = filepath.Join(t.TempDir(), "k.tar.xz")
	if err := os.WriteFile(opts.Kernel, data, 0o666); err != nil {
		t.Fatal(err)
	}
	src, err := Fetch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	wantTree(t, src, 7)
	if id, err := Identify(t.Context(), opts); err != nil || id != src.ID {
		t.Errorf("Identify = %q, %v, Fetch %q", id, err, src.ID)
	}
	if src.ID != "sha256:"+sum || src.Origin != opts.Kernel || src.StandIn {
		t.Errorf("Source = %+v", src)
	}
	var n news
	opts.Progress = n.add
	if again, err := Fetch(t.Context(), opts); err != nil || *again != *src || len(n.list) > 0 {
		t.Errorf("second Fetch = %+v, %v, with %d updates", again, err, len(n.list))
	}
	data, _ = tarball(t, 42)
	if err := os.WriteFile(opts.Kernel, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if src, err = Fetch(t.Context(), opts); err != nil || src.Version != "6.1.42" {
		t.Errorf("Fetch of the changed file = %+v, %v", src, err)
	}
}

func TestFetchBadKernelAndMirror(t *testing.T) {
	opts := options(t, refusing(t))
	opts.Kernel = filepath.Join(t.TempDir(), "6.2-rc1")
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "use", "a kernel is a version X.Y.Z, a tarball or a directory")
	for _, mirror := range []string{"ftp://host/", "host", "http://", "http://a b/", ":"} {
		opts.Mirror = mirror
		_, err := Fetch(t.Context(), opts)
		wantFetchError(t, err, "use", mirror)
	}
}

func TestFirstReleaseOfASeries(t *testing.T) {
	m := newMirror(t)
	opts := options(t, m.URL)
	opts.Kernel = "6.2.0"
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "verify", "linux-6.2.tar.xz")
}
