package initramfs

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/ldd"
)

// libraries returns the dynamic linker and the shared libraries that the programs among
// files need, under the names by which they are looked for. They are the host's own: the
// programs were linked with them.
func libraries(files []File) ([]File, error) {
	var found []File
	asked := map[string]bool{} // what one program needs is asked once for all that need the same
	for _, f := range files {
		needs, err := dynamicNeeds(f.Source)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.Source, err)
		}
		if needs == "" || asked[needs] {
			continue
		}
		asked[needs] = true
		names, err := ldd.List(f.Source)
		if err != nil {
			return nil, fmt.Errorf("libraries of %s: %w", f.Source, err)
		}
		for _, name := range names {
			if !slices.ContainsFunc(found, func(l File) bool { return l.Source == name }) {
				found = append(found, File{Name: guestLibrary(name), Source: name, Mode: 0o755})
			}
		}
	}
	return found, nil
}

// guestLibrary is the name of a library in the guest, where /lib is no link.
func guestLibrary(name string) string {
	return strings.TrimPrefix(filepath.Clean(name), "/usr")
}

// dynamicNeeds returns a word for the linker and libraries that a file asks for, or "" if
// it is no dynamically linked program.
func dynamicNeeds(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	program, err := elf.NewFile(f)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	linker := program.Section(".interp")
	if linker == nil {
		return "", nil
	}
	path, err := linker.Data()
	if err != nil {
		return "", err
	}
	needed, err := program.ImportedLibraries()
	return string(path) + strings.Join(needed, " "), err
}
