package modules

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxSource is the size of the largest source file that is taken from others.
const maxSource = 1 << 20

// handIn is somebody's folder. Nothing outside of it is read, nor anything that a link in it leads to:
// it may be another's.
type handIn struct {
	dir  string
	root *os.Root // close it
}

// refusal says why something that is in a hand-in is not taken.
type refusal struct{ name, why string }

// Error has both.
func (r *refusal) Error() string { return r.name + " " + r.why }

// openHandIn opens a folder. The error is a [*MissingError] if it may not be read.
func openHandIn(dir string) (*handIn, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil, &MissingError{Dir: dir, Refused: []string{dir + " cannot be read: " + fs.ErrPermission.Error()}}
	}
	if err != nil {
		return nil, fmt.Errorf("read hand-in: %w", err)
	}
	return &handIn{dir, root}, nil
}

// folder returns the folder of the hand-in that has any of the exercise's files, and says which it would
// have looked into were they no links.
func (h *handIn) folder(exercise string, files []string) (from string, skipped []string, err error) {
	for _, sub := range slices.Compact([]string{exercise, path.Base(exercise)}) {
		for _, name := range files {
			_, err := h.lstat(path.Join(sub, name))
			var no *refusal
			switch {
			case err == nil:
				return sub, nil, nil
			case errors.As(err, &no):
				if !slices.Contains(skipped, no.Error()) {
					skipped = append(skipped, no.Error())
				}
			case !errors.Is(err, fs.ErrNotExist):
				return "", nil, err
			}
		}
	}
	return "", skipped, nil
}

// lstat is that of [os.Root], which follows no link on the way either. The error is a [*refusal] if there
// is one, or a folder on the way may not be read.
func (h *handIn) lstat(name string) (fs.FileInfo, error) {
	var info fs.FileInfo
	at := ""
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case info == nil || info.IsDir():
		case info.Mode().Type() == fs.ModeSymlink:
			return nil, h.refuse(at, "is a link, which is not followed")
		default:
			return nil, fs.ErrNotExist // A file by the name of a folder.
		}
		at = path.Join(at, part)
		var err error
		info, err = h.root.Lstat(filepath.FromSlash(at))
		if errors.Is(err, fs.ErrPermission) {
			return nil, h.refuse(at, "cannot be read: "+fs.ErrPermission.Error())
		}
		if err != nil {
			return nil, err
		}
	}
	return info, nil
}

func (h *handIn) refuse(name, why string) error {
	return &refusal{filepath.Join(h.dir, filepath.FromSlash(name)), why}
}

// read reads a file that is one: no link, no device, of a sane size. If it is none the error is a [*refusal].
func (h *handIn) read(name string) ([]byte, error) {
	info, err := h.lstat(name)
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Type() == fs.ModeSymlink:
		return nil, h.refuse(name, "is a link, which is not followed")
	case !info.Mode().IsRegular():
		return nil, h.refuse(name, "is not a regular file")
	}
	// If it is another one by now, it may be a pipe that nobody writes to.
	f, err := h.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil, h.refuse(name, "cannot be read: "+fs.ErrPermission.Error())
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if opened, err := f.Stat(); err != nil || !os.SameFile(info, opened) {
		return nil, h.refuse(name, "was replaced meanwhile")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if len(data) > maxSource {
		return nil, h.refuse(name, fmt.Sprintf("has more than %d bytes", maxSource))
	}
	return data, err
}
