package kbuild

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	// maxUnpacked and maxEntries bound an archive: a kernel's has 1.4 GB in 80,000 files.
	maxUnpacked = 16 << 30
	maxEntries  = 2_000_000
	// maxBuffered is the size up to which a file goes through memory to a writer; a larger
	// one is written as it is read.
	maxBuffered = 256 << 10
)

// unpack unpacks the tarball into dir, which it makes; dir becomes the kernel tree itself,
// without the archive's single top directory.
//
// The archive is not trusted. Names are checked, and everything is written through an
// [os.Root], beneath which no name can lead outside. No symbolic link exists before every
// file is written, so that none is written through one; hard links, which come before them,
// are only to the archive's own files; symbolic links must lead to somewhere in the tree.
// Devices, fifos and sockets are refused, as is a name that occurs twice. Of a file's mode
// only "executable" is kept; times are those of the unpacking, as after a git checkout.
//
// Files are written by several goroutines: to create 80,000 files takes longer than to
// decompress them.
func unpack(ctx context.Context, tarball, dir string, progress func(Update)) error {
	in, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	report := func(done int64) { progress(Update{Stage: "unpack", Done: done, Total: info.Size(), Unit: "bytes"}) }
	counted := &countingReader{r: in}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plain, err := decompress(ctx, counted)
	if err != nil {
		return err
	}
	defer plain.Close()
	raw := dir + ".raw"
	if err := os.MkdirAll(raw, 0o777); err != nil {
		return err
	}
	t := throttle{every: progressEvery}
	if err := extract(ctx, plain, raw, func() { t.do(func() { report(counted.n.Load()) }) }); err != nil {
		return err
	}
	report(info.Size())
	return promote(raw, dir)
}

// countingReader counts the bytes read, for another goroutine to see.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// top returns the archive's one top directory in raw, "." if the tree has none above it.
func top(raw string) (string, error) {
	list, err := os.ReadDir(raw)
	if err != nil {
		return "", err
	}
	for _, d := range list {
		if d.Name() == "Makefile" && d.Type().IsRegular() {
			return ".", nil
		}
	}
	if len(list) != 1 || !list[0].IsDir() {
		return "", fmt.Errorf("no single top directory in the archive, but %d entries", len(list))
	}
	return list[0].Name(), nil
}

// promote makes dir of raw's top directory.
func promote(raw, dir string) error {
	name, err := top(raw)
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(raw, name), dir); err != nil {
		return err
	}
	if name == "." {
		return nil
	}
	return os.Remove(raw)
}

// extractor is the state of one extract.
type extractor struct {
	root    *os.Root
	writers *errgroup.Group
	ctx     context.Context // of the writers: ends when one fails
	jobs    chan job
	buffers chan []byte // free ones; their number bounds the memory

	dirs     map[string]bool // made so far
	parent   *parent         // of the last file
	links    []*tar.Header   // to be made at the end
	unpacked int64
}

// parent is an open directory, closed when the last file in it is written. It saves a walk
// from the root for every file.
type parent struct {
	name string
	root *os.Root
	refs atomic.Int32
}

func (p *parent) release() {
	if p != nil && p.refs.Add(-1) == 0 {
		_ = p.root.Close()
	}
}

// job is a file to write.
type job struct {
	parent *parent
	name   string // within parent
	data   []byte // from extractor.buffers
	perm   fs.FileMode
}

// extract writes a tar archive's content into the empty directory dir, calling tick now and then.
func extract(ctx context.Context, r io.Reader, dir string, tick func()) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extractor{root: root, dirs: map[string]bool{".": true}}
	x.writers, x.ctx = errgroup.WithContext(ctx)
	n := 2 * runtime.GOMAXPROCS(0)
	x.jobs = make(chan job, 8*n)
	x.buffers = make(chan []byte, 16*n)
	for range cap(x.buffers) {
		x.buffers <- nil
	}
	for range n {
		x.writers.Go(x.write)
	}
	err = x.read(tar.NewReader(r), tick)
	x.parent.release()
	close(x.jobs)
	// A writer's error comes first: the reader's is then only that it was cancelled.
	if werr := x.writers.Wait(); werr != nil {
		err = werr
	}
	if err != nil {
		return err
	}
	if err := x.drain(r); err != nil {
		return err
	}
	return x.link(dir)
}

// drain reads the padding behind the archive, and with it the decompressor's last word on
// whether the data was whole.
func (x *extractor) drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	if err == nil && n == 1<<20 {
		return errors.New("more than padding behind the archive's end")
	}
	return err
}

// read goes through the archive, in the order of which directories are made and files handed to the writers.
func (x *extractor) read(tr *tar.Reader, tick func()) error {
	for entries := 0; ; entries++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if entries > maxEntries {
			return fmt.Errorf("more than %d files in the archive: no kernel source", maxEntries)
		}
		if x.unpacked += h.Size; h.Size < 0 || x.unpacked > maxUnpacked {
			return fmt.Errorf("more than %d bytes in the archive: no kernel source", int64(maxUnpacked))
		}
		if err := x.entry(h, tr); err != nil {
			return err
		}
		if err := x.ctx.Err(); err != nil {
			return err
		}
		tick()
	}
}

// entry handles one member of the archive.
func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader { // git archive writes the commit there
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	h.Name = name
	switch h.Typeflag {
	case tar.TypeDir:
		return x.mkdir(name)
	case tar.TypeReg:
		return x.file(h, r)
	case tar.TypeLink, tar.TypeSymlink:
		if err := x.mkdir(path.Dir(name)); err != nil {
			return err
		}
		x.links = append(x.links, h)
		return nil
	}
	return fmt.Errorf("refuse %q in the archive: neither file, directory nor link (type %q)", h.Name, h.Typeflag)
}

// cleanName returns a member's name without "./" and trailing slashes. A name that is
// absolute, or has ".." in it even if it leads back, is refused.
func cleanName(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("refuse %q in the archive: it leads out of the tree", name)
		}
	}
	clean := path.Clean(name)
	if name == "" || !filepath.IsLocal(clean) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("refuse %q in the archive: not a name within the tree", name)
	}
	return clean, nil
}

// mkdir makes a directory and those above it.
func (x *extractor) mkdir(name string) error {
	if x.dirs[name] {
		return nil
	}
	if err := x.mkdir(path.Dir(name)); err != nil {
		return err
	}
	if err := x.root.Mkdir(name, 0o777); err != nil {
		return err
	}
	x.dirs[name] = true
	return nil
}

// enter makes x.parent the directory of that name.
func (x *extractor) enter(name string) error {
	if x.parent != nil && x.parent.name == name {
		return nil
	}
	if err := x.mkdir(name); err != nil {
		return err
	}
	x.parent.release()
	x.parent = nil
	root, err := x.root.OpenRoot(name)
	if err != nil {
		return err
	}
	x.parent = &parent{name: name, root: root}
	x.parent.refs.Store(1)
	return nil
}

// file hands a file to the writers, or writes it if it is a large one.
func (x *extractor) file(h *tar.Header, r io.Reader) error {
	if err := x.enter(path.Dir(h.Name)); err != nil {
		return err
	}
	j := job{parent: x.parent, name: path.Base(h.Name), perm: 0o666}
	if h.Mode&0o111 != 0 {
		j.perm = 0o777
	}
	if h.Size > maxBuffered {
		return j.write(r)
	}
	select {
	case buf := <-x.buffers:
		if int64(cap(buf)) < h.Size {
			buf = make([]byte, max(h.Size, 32<<10))
		}
		j.data = buf[:h.Size]
	case <-x.ctx.Done():
		return x.ctx.Err()
	}
	if _, err := io.ReadFull(r, j.data); err != nil {
		return fmt.Errorf("read archive: %s: %w", h.Name, err)
	}
	j.parent.refs.Add(1)
	select {
	case x.jobs <- j:
		return nil
	case <-x.ctx.Done():
		return x.ctx.Err()
	}
}

// write is a writer: it writes files until there are no more.
func (x *extractor) write() error {
	for j := range x.jobs {
		err := j.write(bytes.NewReader(j.data))
		j.parent.release()
		x.buffers <- j.data[:0]
		if err != nil {
			return err
		}
	}
	return nil
}

// write writes a new file.
func (j *job) write(r io.Reader) error {
	f, err := j.parent.root.OpenFile(j.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, j.perm)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("refuse %q in the archive: the name occurs twice", path.Join(j.parent.name, j.name))
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// link makes the links, when all files are written: hard ones first.
func (x *extractor) link(dir string) error {
	name, err := top(dir)
	if err != nil {
		return err
	}
	tree, err := x.root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer tree.Close()
	for _, h := range x.links {
		if h.Typeflag == tar.TypeLink {
			if err := x.hardlink(h); err != nil {
				return err
			}
		}
	}
	var made []string
	for _, h := range x.links {
		if h.Typeflag == tar.TypeSymlink {
			in, err := symlink(tree, name, h)
			if err != nil {
				return err
			}
			made = append(made, in)
		}
	}
	return checkLinks(tree, made)
}

// hardlink makes a hard link to a file of the archive.
func (x *extractor) hardlink(h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link %s: %w", h.Name, err)
	}
	if err := x.root.Link(target, h.Name); err != nil {
		return fmt.Errorf("refuse hard link %q to %q in the archive: %w", h.Name, h.Linkname, err)
	}
	return nil
}

// symlink makes a symbolic link in the tree, which the archive calls top, and returns its name there.
func symlink(tree *os.Root, top string, h *tar.Header) (string, error) {
	name, inside := h.Name, true
	if top != "." {
		name, inside = strings.CutPrefix(h.Name, top+"/")
	}
	target := path.Join(path.Dir(name), h.Linkname)
	if !inside || h.Linkname == "" || path.IsAbs(h.Linkname) || !filepath.IsLocal(target) {
		return "", fmt.Errorf("refuse symbolic link %q to %q in the archive: it leads out of the tree", h.Name, h.Linkname)
	}
	if err := tree.Symlink(h.Linkname, name); err != nil {
		return "", fmt.Errorf("refuse symbolic link %q in the archive: %w", h.Name, err)
	}
	return name, nil
}

// checkLinks follows the links, now that all are there: one may lead out by way of another.
// A link to what is not there is all right: the kernel has some.
func checkLinks(tree *os.Root, names []string) error {
	for _, name := range names {
		if _, err := tree.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("refuse symbolic link %q in the archive: %w", name, err)
		}
	}
	return nil
}

// readVersion returns the version that a kernel tree's Makefile states: "6.1.8", "6.2.0-rc1".
func readVersion(dir string) (string, error) {
	f, err := os.Open(filepath.Join(dir, "Makefile"))
	if err != nil {
		return "", fmt.Errorf("no kernel source tree: %w", err)
	}
	defer f.Close()
	value := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() && len(value) < 4 {
		name, v, ok := strings.Cut(lines.Text(), "=")
		switch name = strings.TrimSpace(name); name {
		case "VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION":
			if ok {
				value[name] = strings.TrimSpace(v)
			}
		}
	}
	if value["VERSION"] == "" || value["PATCHLEVEL"] == "" {
		return "", fmt.Errorf("no kernel source tree: %s states no version", f.Name())
	}
	version := value["VERSION"] + "." + value["PATCHLEVEL"]
	if sub := value["SUBLEVEL"]; sub != "" {
		version += "." + sub
	}
	return version + value["EXTRAVERSION"], nil
}
