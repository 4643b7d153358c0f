package kbuild

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/kbuild/kconfig"
)

//go:embed config/*.config
var profileFiles embed.FS

// profiles lists the files of each profile, each on top of those before it.
var profiles = map[string][]string{
	"lab":   {"base", "lab"},
	"tiny":  {"base", "tiny"},
	"debug": {"base", "lab", "debug"},
}

// DefaultProfile is the profile of a [Config] that names none.
const DefaultProfile = "lab"

// arch is the directory below arch/ of the kernels built here.
const arch = "x86"

// Profiles returns the names of the profiles.
func Profiles() []string { return slices.Sorted(maps.Keys(profiles)) }

// Config says what a kernel is to be made of.
type Config struct {
	Profile   string   // one of [Profiles]; default [DefaultProfile]
	Fragments []string // files on top of the profile; no two of them may disagree
	Set       []string // NAME=value, the last word over profile and fragments
	Dir       string   // directory with the profiles' files; default those built in
}

// ConfigError says that a configuration cannot be had. It has all there is to complain of.
type ConfigError struct {
	Err       error              // no such profile, an unreadable file or a line of one (*kconfig.SyntaxError)
	Conflicts []kconfig.Conflict // two places that ask for different values
	Misses    []kconfig.Miss     // what the resulting .config does not have, and why
}

// Error is the first complaint, and how many more there are.
func (e *ConfigError) Error() string {
	d := e.Details()
	if len(d) == 1 {
		return "config: " + d[0]
	}
	return fmt.Sprintf("config: %s (and %d more)", d[0], len(d)-1)
}

// Details is every complaint, one line each.
func (e *ConfigError) Details() []string {
	var d []string
	if e.Err != nil {
		d = append(d, e.Err.Error())
	}
	for _, c := range e.Conflicts {
		d = append(d, c.String())
	}
	for _, m := range e.Misses {
		d = append(d, m.String())
	}
	return d
}

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

func (c Config) profile() string {
	if c.Profile == "" {
		return DefaultProfile
	}
	return c.Profile
}

// Requests merges profile, fragments and settings into what is asked of the kernel, in the order in
// which the kernel is to hear of it. Files are read, nothing is run. The error is a *ConfigError.
func (c Config) Requests() ([]kconfig.Request, error) {
	layers, err := c.profileLayers()
	if err != nil {
		return nil, &ConfigError{Err: err}
	}
	var user kconfig.Layer
	for _, name := range c.Fragments {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, &ConfigError{Err: fmt.Errorf("read fragment: %w", err)}
		}
		f, err := kconfig.Parse(name, text)
		if err != nil {
			return nil, &ConfigError{Err: err}
		}
		user.Fragments = append(user.Fragments, f)
	}
	set, err := kconfig.ParseSet(c.Set)
	if err != nil {
		return nil, &ConfigError{Err: err}
	}
	layers = append(layers, user, kconfig.Layer{Fragments: []kconfig.Fragment{set}})
	reqs, conflicts := kconfig.Merge(layers...)
	if len(conflicts) > 0 {
		return nil, &ConfigError{Conflicts: conflicts}
	}
	return reqs, nil
}

// profileLayers reads the profile's files. All are soft, for a profile serves many versions of the
// kernel; base is firm.
func (c Config) profileLayers() ([]kconfig.Layer, error) {
	names, ok := profiles[c.profile()]
	if !ok {
		return nil, fmt.Errorf("no profile %q: there are %s", c.profile(), strings.Join(Profiles(), ", "))
	}
	var files fs.FS = profileFiles
	dir := "config"
	if c.Dir != "" {
		files, dir = os.DirFS(c.Dir), "."
	}
	var layers []kconfig.Layer
	for _, name := range names {
		text, err := fs.ReadFile(files, filepath.ToSlash(filepath.Join(dir, name+".config")))
		if err != nil {
			return nil, fmt.Errorf("read profile: %w", err)
		}
		f, err := kconfig.Parse(filepath.Join(c.Dir, name+".config"), text)
		if err != nil {
			return nil, err
		}
		layers = append(layers, kconfig.Layer{Fragments: []kconfig.Fragment{f}, Soft: true, Firm: name == "base"})
	}
	return layers, nil
}

// Configure makes a .config of the source for what is asked, in dir, which should be empty, and
// compares the result with the request. It returns the text of the .config.
//
// All that the request does not name is off, as far as the kernel lets it: it is make allnoconfig with
// the request as KCONFIG_ALLCONFIG, which is what tinyconfig does with a request of its own.
//
// The error is a *ConfigError if the request cannot be met, a *FetchError if the source was built in
// place, and a *MakeError if make fails.
func Configure(ctx context.Context, src *Source, cfg Config, dir string) (text []byte, err error) {
	reqs, err := cfg.Requests()
	if err != nil {
		return nil, err
	}
	ccache, err := useCcache("auto")
	if err != nil {
		return nil, err
	}
	text, _, err = configure(ctx, src, reqs, dir, &command{argv: configureCommand(src.Dir, dir, runtime.GOMAXPROCS(0), ccache)})
	return text, err
}

// requestFile is where in O= the merged request lies.
const requestFile = "request.config"

// configure does it for a merged request by the command given.
func configure(ctx context.Context, src *Source, reqs []kconfig.Request, dir string, cmd *command) ([]byte, kconfig.Values, error) {
	if err := checkSource(src.Dir, dir); err != nil {
		return nil, nil, err
	}
	request := kconfig.Format(kconfig.Assignments(reqs))
	if err := os.WriteFile(filepath.Join(dir, requestFile), request, 0o666); err != nil {
		return nil, nil, fmt.Errorf("configure: %w", err)
	}
	if err := cmd.run(ctx); err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, ".config"))
	if err != nil {
		return nil, nil, fmt.Errorf("configure: %w", err)
	}
	result, err := kconfig.Parse(".config", text)
	if err != nil {
		return nil, nil, fmt.Errorf("configure: %w", err)
	}
	values := result.Values()
	return text, values, verify(src, reqs, values)
}

// verify compares what was asked for with what came out.
func verify(src *Source, reqs []kconfig.Request, values kconfig.Values) error {
	misses, err := kconfig.Verify(reqs, values, func() (*kconfig.Tree, error) {
		return kconfig.LoadTree(os.DirFS(src.Dir), arch)
	})
	if len(misses) > 0 {
		return &ConfigError{Misses: misses}
	}
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return nil
}

// checkSource finds out early, and says better than make, what would keep a build from starting.
func checkSource(src, dir string) error {
	for _, d := range []string{src, dir} {
		if strings.ContainsAny(d, " \t\n:") {
			return fmt.Errorf("build in %q: the kernel's makefiles cannot work in a path with blanks or colons", d)
		}
	}
	if _, err := os.Stat(filepath.Join(src, "Kconfig")); err != nil {
		return fmt.Errorf("build %s: not a kernel source tree: %w", src, err)
	}
	return checkClean(src)
}
