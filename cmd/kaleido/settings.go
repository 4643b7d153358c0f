package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const settingsName = "kaleido.toml"

// settingsKeys maps every key of kaleido.toml to the flag that it sets.
var settingsKeys = map[string]string{
	"cache.dir":        "cache",
	"cache.shared":     "shared-cache",
	"kernel.version":   "kernel",
	"kernel.mirror":    "mirror",
	"kernel.keyring":   "keyring",
	"kernel.profile":   "profile",
	"kernel.fragments": "fragment",
	"kernel.set":       "set",
	"build.jobs":       "jobs",
	"build.ccache":     "ccache",
	"vm.memory":        "memory",
	"vm.cpus":          "cpus",
	"vm.cpu":           "cpu",
	"vm.accel":         "accel",
	"vm.append":        "append",
	"vm.isolate":       "isolate",
	"vm.timeout":       "timeout",
	"vm.boot-timeout":  "boot-timeout",
	"vm.qemu":          "qemu",
	"vm.qemu-args":     "qemu-arg",
}

// pathFlags are the flags whose value, in a file, is relative to that file.
var pathFlags = map[string]bool{"cache": true, "shared-cache": true, "fragment": true, "keyring": true}

// fromEnvironment is the annotation of a flag that the environment has set.
const fromEnvironment = "kaleido_environment"

// refuseBeside refuses flags of cmd's own that the command line has beside the flag
// called name, unless they are allowed. Settings are no contradiction: they are made for
// other commands, too.
func refuseBeside(cmd *cobra.Command, name, why string, allowed ...string) (err error) {
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Changed || f.Name == name || slices.Contains(allowed, f.Name) || f.Annotations[fromEnvironment] != nil || err != nil {
			return
		}
		err = usageError("%s: --%s and --%s: %s", cmd.Name(), f.Name, name, why)
	})
	return err
}

// applyEnvironment sets every flag of cmd that the command line left alone
// and KALEIDO_<FLAG> names. A flag set this way counts as changed, so the
// file does not touch it.
func applyEnvironment(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := "KALEIDO_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || f.Changed {
			return
		}
		err := cmd.Flags().Set(f.Name, value)
		if err == nil {
			err = cmd.Flags().SetAnnotation(f.Name, fromEnvironment, []string{name})
		}
		if err != nil {
			errs = append(errs, usageError("environment %s=%q: %w", name, value, err))
		}
	})
	return errors.Join(errs...)
}

// applyFile sets the flags that a kaleido.toml names and nothing before it
// set. Without an explicit name the file is looked for upward from here; none
// is fine. A key that is not in settingsKeys is an error: a misspelt setting
// that does nothing is worse than a stop.
func applyFile(cmd *cobra.Command, name string) error {
	if name == "" {
		var err error
		if name, err = findUpward(settingsName); name == "" {
			return err
		}
	}
	var tree map[string]any
	meta, err := toml.DecodeFile(name, &tree)
	if err != nil {
		return usageError("read %s: %w", name, err)
	}
	for _, key := range meta.Keys() {
		if err := applyKey(cmd, name, key, tree); err != nil {
			return err
		}
	}
	return nil
}

func applyKey(cmd *cobra.Command, file string, key toml.Key, tree map[string]any) error {
	value := lookupKey(tree, key)
	if _, table := value.(map[string]any); table && isSection(key.String()) {
		return nil
	}
	flagName, ok := settingsKeys[key.String()]
	if !ok {
		return usageError("%s: unknown key %q (known: %s)", file, key, strings.Join(knownKeys(), ", "))
	}
	flag := cmd.Flags().Lookup(flagName)
	if flag == nil || flag.Changed {
		return nil // not a setting of this command, or said more directly
	}
	values, isList := value.([]any)
	if !isList {
		values = []any{value}
	}
	for _, v := range values {
		text := fmt.Sprint(v)
		if pathFlags[flagName] && !filepath.IsAbs(text) {
			text = filepath.Join(filepath.Dir(file), text)
		}
		if err := flag.Value.Set(text); err != nil {
			return usageError("%s: %s = %q: %w", file, key, text, err)
		}
	}
	return nil
}

func lookupKey(tree map[string]any, key toml.Key) any {
	var value any = tree
	for _, part := range key {
		table, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = table[part]
	}
	return value
}

func isSection(name string) bool {
	for key := range settingsKeys {
		if strings.HasPrefix(key, name+".") {
			return true
		}
	}
	return false
}

func knownKeys() []string {
	keys := make([]string, 0, len(settingsKeys))
	for k := range settingsKeys {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// findUpward returns the nearest file called name in the working directory or
// one above it, or "".
func findUpward(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	for {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("find %s: %w", name, err)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}
