package initramfs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// maxSize is the largest file that the format can hold: its size field has 32 bits.
const maxSize = 1<<32 - 1

// maxName is the longest name that the kernel's unpacker takes (PATH_MAX, with the NUL).
const maxName = 4095

// tree is an archive's content by name, with no slash in front.
type tree struct {
	nodes map[string]*node
}

type node struct {
	mode   fs.FileMode // type and permission bits
	source string      // the file on the host that has the content, or
	data   []byte      // the content; a link's target
	size   int64
	sum    [sha256.Size]byte // of source's content
	own    bool              // not the caller's
}

func newTree() *tree { return &tree{nodes: map[string]*node{}} }

// own marks all that is in the tree so far as ours.
func (t *tree) own() {
	for _, n := range t.nodes {
		n.own = true
	}
}

// add puts a file into the tree, and the folders above it.
func (t *tree) add(f File) error {
	name, err := t.resolve(f.Name)
	if err != nil {
		return fmt.Errorf("add %.100q to archive: %w", f.Name, err)
	}
	n, err := newNode(f)
	if err != nil {
		return fmt.Errorf("add %s to archive: %w", f.Name, err)
	}
	if err := t.put(name, n); err != nil {
		return fmt.Errorf("add %s to archive: %w", f.Name, err)
	}
	return nil
}

// resolve returns the place that a name in the guest stands for: the kernel's unpacker
// follows a link to a folder, so bin/x is bbin/x. The last part is not followed.
func (t *tree) resolve(name string) (string, error) {
	clean := strings.TrimPrefix(path.Clean(name), "/")
	if clean == "" || clean == "." || !fs.ValidPath(clean) || strings.ContainsRune(clean, 0) {
		return "", errors.New("not the path of a file in the guest")
	}
	if len(clean) > maxName {
		return "", errors.New("name too long")
	}
	dir, last := path.Split(clean)
	var resolved string
	for _, part := range strings.Split(strings.TrimSuffix(dir, "/"), "/") {
		resolved = path.Join(resolved, part)
		if n := t.nodes[resolved]; n != nil && n.mode&fs.ModeSymlink != 0 {
			resolved = strings.TrimPrefix(path.Join("/", path.Dir(resolved), string(n.data)), "/")
		}
	}
	return path.Join(resolved, last), nil
}

func (t *tree) put(name string, n *node) error {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if above := t.nodes[dir]; above == nil {
			t.nodes[dir] = &node{mode: fs.ModeDir | 0o755}
		} else if !above.mode.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
	}
	if err := replaces(name, t.nodes[name], n); err != nil {
		return err
	}
	t.nodes[name] = n
	return nil
}

// replaces says why n cannot take old's place.
func replaces(name string, old, n *node) error {
	switch {
	case old == nil, old.mode.IsDir() && n.mode.IsDir():
		return nil
	case old.mode.IsDir():
		return errors.New("there is a folder of that name")
	case !old.own:
		return errors.New("there is another file of that name")
	case strings.HasPrefix(name, "bbin/"):
		return errors.New("the guest has a command of that name")
	}
	return nil
}

func newNode(f File) (*node, error) {
	n := &node{mode: f.Mode & (fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)}
	switch n.mode.Type() {
	case fs.ModeDir:
		return n, nil
	case fs.ModeSymlink:
		if len(f.Data) == 0 || len(f.Data) > maxName {
			return nil, errors.New("bad link")
		}
		n.mode, n.data, n.size = fs.ModeSymlink|0o777, f.Data, int64(len(f.Data))
		return n, nil
	case 0:
		return n, n.fill(f)
	}
	return nil, fmt.Errorf("unsupported mode %v", f.Mode)
}

// fill notes a regular file's content.
func (n *node) fill(f File) error {
	if f.Source == "" {
		n.data, n.size = f.Data, int64(len(f.Data))
		if n.mode.Perm() == 0 {
			n.mode |= 0o644
		}
		return nil
	}
	file, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", f.Source)
	}
	if info.Size() > maxSize {
		return fmt.Errorf("%s: larger than the 4 GiB that the format can hold", f.Source)
	}
	if n.mode.Perm() == 0 {
		n.mode |= info.Mode().Perm()
	}
	h := sha256.New()
	n.source = f.Source
	n.size, err = io.Copy(h, file)
	h.Sum(n.sum[:0])
	return err
}

// hash adds all of the tree to a key, but for the program, whose key is in it already.
func (t *tree) hash(h *cache.Hash) {
	for _, name := range t.names() {
		n := t.nodes[name]
		h.String("name", name)
		h.String("mode", n.mode.String())
		h.String("data", string(n.data))
		h.String("sum", string(n.sum[:]))
	}
}

// names returns the names in the order in which they are written: a folder comes before
// what is in it.
func (t *tree) names() []string { return slices.Sorted(maps.Keys(t.nodes)) }

// write writes the tree as an archive. Everything belongs to root and is of the same time.
func (t *tree) write(w io.Writer) error {
	cw := cpio.NewWriter(w)
	for i, name := range t.names() {
		if err := t.nodes[name].write(cw, name, int64(i+1)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return cw.Close()
}

// cpioType are the type bits of a mode in the archive; cpio's own conversion wants a file.
var cpioType = map[fs.FileMode]cpio.FileMode{
	0:              cpio.TypeReg,
	fs.ModeDir:     cpio.TypeDir,
	fs.ModeSymlink: cpio.TypeSymlink,
}

var cpioBits = map[fs.FileMode]cpio.FileMode{
	fs.ModeSetuid: cpio.ModeSetuid,
	fs.ModeSetgid: cpio.ModeSetgid,
	fs.ModeSticky: cpio.ModeSticky,
}

// write writes one entry. A header is never used twice: the writer changes it. A link's
// target is its content: the writer does not look at Linkname.
func (n *node) write(w *cpio.Writer, name string, inode int64) error {
	hdr := &cpio.Header{
		Name:    name,
		Mode:    cpioType[n.mode.Type()] | cpio.FileMode(n.mode.Perm()),
		Links:   1,
		Size:    n.size,
		Inode:   inode,
		ModTime: time.Unix(0, 0),
	}
	for bit, b := range cpioBits {
		if n.mode&bit != 0 {
			hdr.Mode |= b
		}
	}
	if n.mode.IsDir() {
		hdr.Links = 2
	}
	if err := w.WriteHeader(hdr); err != nil {
		return err
	}
	if n.source == "" {
		_, err := w.Write(n.data)
		return err
	}
	return n.copy(w)
}

// copy writes the content of the file on the host, which must be what was hashed.
func (n *node) copy(w io.Writer) error {
	f, err := os.Open(n.source)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	written, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(f, n.size))
	if err != nil {
		return err
	}
	if written != n.size || [sha256.Size]byte(h.Sum(nil)) != n.sum {
		return fmt.Errorf("%s: changed while it was read", n.source)
	}
	return nil
}
