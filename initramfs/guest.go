package initramfs

import (
	_ "embed"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/txtar"
)

// module is this module's path, agentPackage the agent's within it.
const (
	module       = "github.com/linux-kaleidoscope/kaleido"
	agentPackage = "cmd/uinit"
)

// guestFolders are the packages of the guest's module: the agent and what it imports of
// ours. guestFiles are the other files that the go command needs.
var (
	guestFolders = []string{agentPackage, "vm/guest"}
	guestFiles   = []string{"go.mod", "go.sum"}
)

// guestModule is the guest's module as a txtar archive, so that kaleido can compile the
// agent where its own source is not.
//
//go:generate go test -run ^TestGuestModuleIsFresh$ -update
//go:embed guest.txtar
var guestModule []byte

//go:embed dependencies.go
var dependencies []byte

// readGuest returns the files of the guest's module in the checkout at dir, sorted by name.
func readGuest(dir string) ([]txtar.File, error) {
	names := slices.Clone(guestFiles)
	for _, folder := range guestFolders {
		entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(folder)))
		if err != nil {
			return nil, fmt.Errorf("read the agent's source: %w", err)
		}
		for _, e := range entries {
			if e.Type().IsRegular() && isSource(e.Name()) {
				names = append(names, path.Join(folder, e.Name()))
			}
		}
	}
	slices.Sort(names)
	var files []txtar.File
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, fmt.Errorf("read the agent's source: %w", err)
		}
		files = append(files, txtar.File{Name: name, Data: data})
	}
	return files, nil
}

// isSource reports whether a file of a package is compiled into the agent.
func isSource(name string) bool {
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".s")
}

// guest returns the files of the guest's module: those of the checkout if there is one,
// else those in the binary.
func guest(checkout string) ([]txtar.File, error) {
	if checkout != "" {
		return readGuest(checkout)
	}
	return txtar.Parse(guestModule).Files, nil
}

// writeFiles writes files below dir.
func writeFiles(dir string, files []txtar.File) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
		if err := root.MkdirAll(path.Dir(f.Name), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := root.WriteFile(f.Name, f.Data, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// commandPackages returns the packages of u-root's commands that go into the busybox: the
// imports of dependencies.go below u-root's cmds.
func commandPackages() ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), "dependencies.go", dependencies, parser.ImportsOnly)
	if err != nil {
		return nil, fmt.Errorf("read the list of commands: %w", err)
	}
	var pkgs []string
	for _, spec := range f.Imports {
		pkg, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("read the list of commands: %w", err)
		}
		if strings.HasPrefix(pkg, "github.com/u-root/u-root/cmds/") {
			pkgs = append(pkgs, pkg)
		}
	}
	return pkgs, nil
}
