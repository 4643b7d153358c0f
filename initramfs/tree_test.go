package initramfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cavaliergopher/cpio"
)

// read returns an archive's headers by name, and the content of its files and links.
func read(t *testing.T, r io.Reader) (headers map[string]*cpio.Header, data map[string]string) {
	t.Helper()
	headers, data = map[string]*cpio.Header{}, map[string]string{}
	cr := cpio.NewReader(r)
	for {
		hdr, err := cr.Next()
		if errors.Is(err, io.EOF) {
			return headers, data
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(cr)
		if err != nil {
			t.Fatal(err)
		}
		if headers[hdr.Name] != nil {
			t.Errorf("%s is in the archive twice", hdr.Name)
		}
		if dir := path.Dir(hdr.Name); dir != "." && (headers[dir] == nil || !headers[dir].Mode.IsDir()) {
			t.Errorf("%s comes before its folder", hdr.Name)
		}
		headers[hdr.Name], data[hdr.Name] = hdr, hdr.Linkname+string(content)
	}
}

func writeTree(t *testing.T, tr *tree) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := tr.write(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func testTree(t *testing.T) *tree {
	t.Helper()
	tr, err := base([]string{"uinit", "gosh", "ls", "sh"})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestBaseArchive(t *testing.T) {
	headers, data := read(t, bytes.NewReader(writeTree(t, testTree(t))))
	links := map[string]string{
		"init": "bbin/uinit", "bin": "bbin", "sbin": "bbin", "usr/bin": "../bbin", "usr/sbin": "../bbin",
		"bbin/uinit": "bb", "bbin/sh": "bb", "bbin/ls": "bb",
	}
	for name, target := range links {
		if hdr := headers[name]; hdr == nil || hdr.Mode != cpio.TypeSymlink|0o777 || data[name] != target {
			t.Errorf("%s: got %+v to %q, want a link to %q", name, hdr, data[name], target)
		}
	}
	modes := map[string]cpio.FileMode{
		"bbin/bb": cpio.TypeReg | 0o755, "tmp": cpio.TypeDir | cpio.ModeSticky | 0o777, "dev": cpio.TypeDir | 0o755,
		"root": cpio.TypeDir | 0o700, "etc/passwd": cpio.TypeReg | 0o644, "lib/modules": cpio.TypeDir | 0o755,
	}
	for name, mode := range modes {
		if hdr := headers[name]; hdr == nil || hdr.Mode != mode {
			t.Errorf("%s: got %+v, want mode %v", name, hdr, mode)
		}
	}
	inodes := map[int64]string{}
	for name, hdr := range headers {
		if hdr.Uid != 0 || hdr.Guid != 0 || hdr.ModTime.Unix() != 0 || strings.HasPrefix(name, "/") {
			t.Errorf("%s: %+v is not the same everywhere", name, hdr)
		}
		if other, ok := inodes[hdr.Inode]; ok {
			t.Errorf("%s and %s share inode %d", name, other, hdr.Inode)
		}
		inodes[hdr.Inode] = name
		if hdr.Mode&cpio.ModeType == cpio.TypeChar {
			t.Errorf("%s is a device node", name)
		}
	}
}

// TestCpioReadsIt asks the real cpio.
func TestCpioReadsIt(t *testing.T) {
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("cpio is not installed")
	}
	tr := testTree(t)
	if err := tr.add(File{Name: "/bin/x", Data: []byte("odd"), Mode: 0o750}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-i", "-d", "--quiet")
	cmd.Dir = t.TempDir()
	cmd.Stdin = bytes.NewReader(writeTree(t, tr))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(cmd.Dir, "usr/sbin/x"))
	if err != nil || string(got) != "odd" {
		t.Errorf("usr/sbin/x is %q, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(cmd.Dir, "bbin/x"))
	if err != nil || info.Mode() != 0o750 {
		t.Errorf("bbin/x: %v, %v", info, err)
	}
}

func TestAdd(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 1<<32); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		file File
		err  string // "" for none
	}{
		{"new file", File{Name: "root/x"}, ""},
		{"leading slash", File{Name: "/opt/a/b"}, ""},
		{"through a link", File{Name: "usr/bin/x"}, ""},
		{"instead of ours", File{Name: "etc/passwd"}, ""},
		{"instead of init", File{Name: "init", Mode: 0o755}, ""},
		{"folder that is there", File{Name: "tmp", Mode: fs.ModeDir | 0o755}, ""},
		{"instead of a command", File{Name: "bin/ls"}, "the guest has a command of that name"},
		{"instead of a folder", File{Name: "etc"}, "there is a folder of that name"},
		{"below a file", File{Name: "etc/passwd/x"}, "etc/passwd is not a folder"},
		{"no name", File{Name: ""}, "not the path of a file in the guest"},
		{"the root", File{Name: "/"}, "not the path of a file in the guest"},
		{"above the root", File{Name: "../x"}, "not the path of a file in the guest"},
		{"long name", File{Name: strings.Repeat("x/", 2049)}, "name too long"},
		{"NUL in the name", File{Name: "a\x00b"}, "not the path of a file in the guest"},
		{"empty link", File{Name: "l", Mode: fs.ModeSymlink}, "bad link"},
		{"device", File{Name: "d", Mode: fs.ModeDevice}, "unsupported mode"},
		{"no source", File{Name: "x", Source: filepath.Join(dir, "none")}, "no such file"},
		{"folder as source", File{Name: "x", Source: dir}, "not a regular file"},
		{"too large", File{Name: "x", Source: big}, "4 GiB"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := testTree(t).add(test.file)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("add %.40q: got %.200v, want %q", test.file.Name, err, test.err)
			}
		})
	}
}

func TestAddTwice(t *testing.T) {
	tr := testTree(t)
	if err := tr.add(File{Name: "bin/x"}); err != nil {
		t.Fatal(err)
	}
	if err := tr.add(File{Name: "sbin/x"}); err == nil {
		t.Error("add sbin/x after bin/x: no error")
	}
}

func TestFileChangesAfterHashing(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for _, later := range []string{"short", "longer than before", "content2"} {
		if err := os.WriteFile(name, []byte("content1"), 0o666); err != nil {
			t.Fatal(err)
		}
		tr := testTree(t)
		if err := tr.add(File{Name: "f", Source: name}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(later), 0o666); err != nil {
			t.Fatal(err)
		}
		err := tr.write(io.Discard)
		if (err == nil) || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("content1 became %q: got %v", later, err)
		}
	}
}

func TestNoSpace(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if err := testTree(t).write(full); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write to a full disk: got %v, want %v", err, syscall.ENOSPC)
	}
}
