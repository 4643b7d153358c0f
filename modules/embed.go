package modules

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// catalogue are the exercises: a new chapter is one more word here.
//
//go:embed general process memory
var catalogue embed.FS

// Root returns a folder with the catalogue that is in this program: an entry of the cache,
// which nobody may write to. In a checkout, use the checkout's own folder instead.
func Root(ctx context.Context, store *cache.Cache) (string, error) {
	files, err := catalogueFiles()
	if err != nil {
		return "", err
	}
	h := cache.NewHash(cache.Modules)
	h.String("product", "catalogue")
	for _, f := range files {
		h.String(f.name, string(f.data))
	}
	e, _, err := store.Ensure(ctx, cache.Modules, h.Sum(), "source of the exercises", func(_ context.Context, dir string) error {
		for _, f := range files {
			if err := f.write(dir); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("unpack the exercises: %w", err)
	}
	return e.Path, nil
}

// catalogueFiles returns the embedded files, without what make may have left among them
// when the program was compiled.
func catalogueFiles() ([]sourceFile, error) {
	var files []sourceFile
	err := fs.WalkDir(catalogue, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || leftover(d.Name()) {
			return err
		}
		data, err := catalogue.ReadFile(name)
		files = append(files, sourceFile{name: name, data: data, mode: 0o644})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the exercises: %w", err)
	}
	return files, nil
}
