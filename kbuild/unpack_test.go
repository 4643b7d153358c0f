package kbuild

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// archive writes a tar archive of headers; a regular file's content is its name.
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		var data string
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Typeflag, data = tar.TypeReg, "I am "+h.Name
			h.Size = int64(len(data))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, data, 0o666)); err != nil {
		t.Fatal(err)
	}
	return name
}

// unpackBytes unpacks an archive in a directory with a bystander, and returns the tree.
func unpackBytes(t testing.TB, data []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "outside"), []byte("untouched"))
	file := writeFile(t, filepath.Join(dir, "in", "x.tar"), data)
	tree := filepath.Join(dir, "entry", "linux")
	err := unpack(t.Context(), file, tree, func(Update) {})
	if got, rerr := os.ReadFile(filepath.Join(dir, "outside")); rerr != nil || string(got) != "untouched" {
		t.Errorf("the file outside is %q, %v", got, rerr)
	}
	list, lerr := os.ReadDir(dir)
	if lerr != nil || len(list) > 3 {
		t.Errorf("something was written outside: %v, %v", list, lerr)
	}
	return tree, err
}

func TestUnpackHostile(t *testing.T) {
	const top = "linux-6.1/"
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	file := func(name string) tar.Header { return tar.Header{Name: name} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
	}
	makefile := file(top + "Makefile")
	tests := []struct {
		name    string
		headers []tar.Header
		want    string // in the error
	}{
		{"absolute path", []tar.Header{makefile, file("/tmp/evil")}, `refuse "/tmp/evil"`},
		{"dot dot", []tar.Header{makefile, file("../outside")}, "leads out"},
		{"dot dot in the middle", []tar.Header{makefile, file(top + "a/../../../outside")}, "leads out"},
		{"dot dot that leads back", []tar.Header{makefile, file(top + "a/../b")}, "leads out"},
		{"dot dot directory", []tar.Header{makefile, dir("../evil/")}, "leads out"},
		{"symlink to an absolute path", []tar.Header{makefile, link(top+"a", "/etc/passwd")}, "leads out"},
		{"symlink to above", []tar.Header{makefile, link(top+"a/b", "../../../outside")}, "leads out"},
		{"symlink to above the top directory", []tar.Header{makefile, link(top+"a", "..")}, "leads out"},
		{"symlink to nothing", []tar.Header{makefile, link(top+"a", "")}, "leads out"},
		{"symlink beside the top directory", []tar.Header{makefile, link("evil", "linux-6.1")}, "leads out"},
		{"symlink out by way of another", []tar.Header{makefile, dir(top + "x/y/"), link(top+"x/y/root", "../.."), link(top+"x/y/out", "root/../..")}, "refuse symbolic link"},
		{"symlink to itself", []tar.Header{makefile, link(top+"a", "a")}, "refuse symbolic link"},
		{"write through a symlink", []tar.Header{makefile, link(top+"a", "../.."), file(top + "a/outside")}, "refuse symbolic link"},
		{"write through a symlink within", []tar.Header{makefile, dir(top + "b/"), link(top+"a", "b"), file(top + "a/x")}, "refuse symbolic link"},
		{"write to a symlink", []tar.Header{makefile, link(top+"a", "Makefile"), file(top + "a")}, "refuse symbolic link"},
		{"hard link to an absolute path", []tar.Header{makefile, hard(top+"a", "/etc/passwd")}, `refuse "/etc/passwd"`},
		{"hard link to above", []tar.Header{makefile, hard(top+"a", "../../outside")}, "leads out"},
		{"hard link to what is not in the archive", []tar.Header{makefile, hard(top+"a", top+"nothing")}, "refuse hard link"},
		{"hard link to a symlink", []tar.Header{makefile, link(top+"a", "Makefile"), hard(top+"b", top+"a")}, "refuse hard link"},
		{"hard link in place of a file", []tar.Header{makefile, file(top + "a"), hard(top+"a", top+"Makefile")}, "refuse hard link"},
		{"device node", []tar.Header{makefile, {Name: top + "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}}, "neither file"},
		{"block device", []tar.Header{makefile, {Name: top + "sda", Typeflag: tar.TypeBlock, Devmajor: 8}}, "neither file"},
		{"fifo", []tar.Header{makefile, {Name: top + "fifo", Typeflag: tar.TypeFifo}}, "neither file"},
		{"the same file twice", []tar.Header{makefile, file(top + "a"), file(top + "a")}, "occurs twice"},
		{"file in place of a directory", []tar.Header{makefile, file(top + "a/b"), file(top + "a")}, "occurs twice"},
		{"two top directories", []tar.Header{makefile, file("other/Makefile")}, "no single top directory"},
		{"nothing", nil, "no single top directory"},
		{"one file", []tar.Header{file("x")}, "no single top directory"},
		{"name of a directory above", []tar.Header{makefile, file("..")}, "leads out"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, err := unpackBytes(t, archive(t, tt.headers...))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("unpack = %v, want %q", err, tt.want)
			}
			if _, err := os.Lstat(tree); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a tree: %v", err)
			}
		})
	}
}

func TestUnpackHugeAndBrokenArchives(t *testing.T) {
	whole := kernelTar(t, 1)
	var huge bytes.Buffer
	if err := tar.NewWriter(&huge).WriteHeader(&tar.Header{Name: "linux/x", Size: maxUnpacked + 1, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	xz := compressXZ(t, whole)
	flipped := bytes.Clone(xz)
	flipped[len(flipped)/2] ^= 1
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"huge file", huge.Bytes(), "no kernel source"},
		{"cut tar", whole[:len(whole)/2], "unexpected EOF"},
		{"cut xz", xz[:len(xz)/2], ""},
		{"flipped bit in xz", flipped, ""},
		{"xz without its end", xz[:len(xz)-8], ""},
		{"rubbish", bytes.Repeat([]byte("rubbish"), 1000), "read archive"},
		{"empty", nil, "too short"},
		{"more behind the archive", append(bytes.Clone(whole), make([]byte, 2<<20)...), "more than padding"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, err := unpackBytes(t, tt.data)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("unpack = %v, want an error with %q", err, tt.want)
			}
			if _, err := os.Lstat(tree); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a tree: %v", err)
			}
		})
	}
}

func TestUnpackFormats(t *testing.T) {
	plain := kernelTar(t, 5)
	compress := func(w io.WriteCloser, err error) {
		t.Helper()
		if err == nil {
			_, err = w.Write(plain)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	var gz, zst bytes.Buffer
	compress(gzip.NewWriter(&gz), nil)
	compress(zstd.NewWriter(&zst))
	xz := compressXZ(t, plain)
	tests := []struct {
		name, path string
		data       []byte
	}{
		{"plain", os.Getenv("PATH"), plain},
		{"gz", os.Getenv("PATH"), gz.Bytes()},
		{"zst", os.Getenv("PATH"), zst.Bytes()},
		{"xz", os.Getenv("PATH"), xz},
		{"xz without the program", t.TempDir(), xz},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("PATH", tt.path)
			tree, err := unpackBytes(t, tt.data)
			if err != nil {
				t.Fatal(err)
			}
			wantTree(t, &Source{Dir: tree, Version: "6.1.5", ID: "x", Origin: "x"}, 5)
		})
	}
}

func TestUnpackTops(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"dot slash":         {{Name: "./", Typeflag: tar.TypeDir}, {Name: "./linux/", Typeflag: tar.TypeDir}, {Name: "./linux/Makefile"}, {Name: "./linux/a/b", Linkname: "../Makefile", Typeflag: tar.TypeSymlink}},
		"no top":            {{Name: "Makefile"}, {Name: "a/b", Linkname: "../Makefile", Typeflag: tar.TypeSymlink}},
		"dirs not in order": {{Name: "l/z/y/x"}, {Name: "l/Makefile"}, {Name: "l/z/w"}, {Name: "l/a/b", Linkname: "../z/y/x", Typeflag: tar.TypeSymlink}, {Name: "l/z/", Typeflag: tar.TypeDir}},
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := unpackBytes(t, archive(t, headers...))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"Makefile", "a/b"} {
				if data, err := os.ReadFile(filepath.Join(tree, file)); err != nil || !strings.HasPrefix(string(data), "I am ") {
					t.Errorf("%s = %q, %v", file, data, err)
				}
			}
			if list, err := os.ReadDir(filepath.Dir(tree)); err != nil || len(list) != 1 {
				t.Errorf("beside the tree: %v, %v", list, err)
			}
		})
	}
}

func TestUnpackCancelled(t *testing.T) {
	data, _ := tarball(t, 99)
	file := writeFile(t, filepath.Join(t.TempDir(), "x.tar.xz"), data)
	ctx, cancel := context.WithCancel(t.Context())
	err := unpack(ctx, file, filepath.Join(t.TempDir(), "linux"), func(Update) { cancel() })
	if err == nil || ctx.Err() == nil {
		t.Errorf("cancelled unpack = %v", err)
	}
}

func TestReadVersion(t *testing.T) {
	tests := []struct{ makefile, want string }{
		{"VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 8\nEXTRAVERSION =\nNAME = Hurr\n", "6.1.8"},
		{"# SPDX\nVERSION = 6\nPATCHLEVEL = 2\nSUBLEVEL = 0\nEXTRAVERSION = -rc1\n", "6.2.0-rc1"},
		{"VERSION=5\nPATCHLEVEL=10\n", "5.10"},
		{"all:\n\tcc\n", ""},
		{"", ""},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "Makefile"), []byte(tt.makefile))
		got, err := readVersion(dir)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("readVersion of %q = %q, %v, want %q", tt.makefile, got, err, tt.want)
		}
	}
	if _, err := readVersion(t.TempDir()); err == nil || !strings.HasPrefix(err.Error(), "no kernel source tree") {
		t.Errorf("readVersion of an empty directory = %v", err)
	}
}

// FuzzExtract feeds any bytes: whatever they are, nothing may appear beside the directory.
func FuzzExtract(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "l/Makefile"}, tar.Header{Name: "l/a", Linkname: "../..", Typeflag: tar.TypeSymlink}))
	f.Add(archive(f, tar.Header{Name: "../x"}, tar.Header{Name: "l/a", Linkname: "l/b", Typeflag: tar.TypeLink}))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		in := filepath.Join(dir, "in")
		if err := os.Mkdir(in, 0o777); err != nil {
			t.Fatal(err)
		}
		err := extract(t.Context(), bytes.NewReader(data), in, func() {})
		if list, lerr := os.ReadDir(dir); lerr != nil || len(list) != 1 {
			t.Fatalf("beside the directory: %v, %v", list, lerr)
		}
		if err != nil {
			return
		}
		// Every link of an accepted archive ends within.
		_ = filepath.WalkDir(in, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type() == fs.ModeSymlink {
				if to, err := filepath.EvalSymlinks(name); err == nil && !strings.HasPrefix(to, in) {
					t.Fatalf("%s leads to %s", name, to)
				}
			}
			return err
		})
	})
}
