package main

import (
	"context"
	"fmt"
	"go/version"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
	"github.com/linux-kaleidoscope/kaleido/kbuild/confine"
	"github.com/linux-kaleidoscope/kaleido/vm"
)

// minFree is the room that one source tree, one build and the archives take.
const minFree = 4 << 30

// A finding is one line of the doctor's report.
type finding struct {
	Name    string `json:"name"`
	State   string `json:"state"` // ok, missing, optional (missing, and can be lived without)
	Detail  string `json:"detail"`
	Cure    string `json:"cure,omitempty"`
	Package string `json:"package,omitempty"` // Debian's
}

// A tool is a program (or a header) that the work calls for.
type tool struct {
	name, pkg, why string
	header         string // look for this C header instead of a program
	optional       bool
}

// tools is the one list of what must be installed; scripts/setup reads it
// through `kaleido doctor --packages`.
var tools = []tool{
	{name: "make", pkg: "make", why: "runs kbuild"},
	{name: "gcc", pkg: "gcc", why: "compiles the kernel and its modules"},
	{name: "ld", pkg: "binutils", why: "links them"},
	{name: "flex", pkg: "flex", why: "kconfig's lexer"},
	{name: "bison", pkg: "bison", why: "kconfig's parser"},
	{name: "bc", pkg: "bc", why: "kernel/time's constants"},
	{name: "libelf", pkg: "libelf-dev", why: "objtool", header: "gelf.h"},
	{name: "libc", pkg: "libc6-dev", why: "helper programs", header: "stdio.h"},
	{name: "xz", pkg: "xz-utils", why: "unpacks the source"},
	{name: "depmod", pkg: "kmod", why: "module dependencies"},
	{name: "qemu-system-x86_64", pkg: "qemu-system-x86", why: "the machine"},
	{name: "ccache", pkg: "ccache", why: "quicker rebuilds", optional: true},
	{name: "gdb", pkg: "gdb", why: "debugs the guest, and reads its dumps (kaleido gdb)", optional: true},
}

func (a *app) doctorCommand() *cobra.Command {
	var packages bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is missing on this machine, and the command that installs it",
		Long: `Doctor looks for every tool that kaleido calls, the true state of KVM, the source of the
default kernel and room on the disk. It exits with 1 if 'kaleido up' could not work.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := a.examine(cmd.Context())
			var err error
			switch {
			case packages:
				for _, f := range findings {
					if f.State != "ok" && f.Package != "" {
						fmt.Fprintln(a.stdout, f.Package)
					}
				}
				return nil
			case a.json:
				err = a.printJSON(map[string]any{"ok": healthy(findings), "findings": findings})
			default:
				err = a.printFindings(findings)
			}
			if err == nil && !healthy(findings) {
				err = &codedError{code: exitFailed}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&packages, "packages", false, "print only the Debian packages that are missing, one a line")
	return cmd
}

func (a *app) examine(ctx context.Context) []finding {
	findings := []finding{examineGo()}
	for _, t := range tools {
		findings = append(findings, t.examine())
	}
	findings = append(findings, examineKVM(), examineLandlock())
	store, err := a.openCache()
	if err != nil {
		return append(findings, finding{Name: "cache", State: "missing", Detail: err.Error()})
	}
	return append(findings, examineDisk(store.Dir()), examineSource(ctx, store))
}

func healthy(findings []finding) bool {
	for _, f := range findings {
		if f.State == "missing" {
			return false
		}
	}
	return true
}

func (a *app) printFindings(findings []finding) error {
	var rows, missing []string
	for _, f := range findings {
		rows = append(rows, f.State+"\t"+f.Name+"\t"+f.Detail)
		if f.State != "ok" && f.Package != "" {
			missing = append(missing, f.Package)
		} else if f.State == "missing" && f.Cure != "" {
			defer a.msg.hintf("%s: %s", f.Name, f.Cure)
		}
	}
	if len(missing) > 0 {
		defer a.msg.hintf("%s", aptInstall(missing...))
	}
	return a.table(rows)
}

func aptInstall(packages ...string) string {
	return "apt-get install --no-install-recommends " + strings.Join(packages, " ")
}

func examineGo() finding {
	f := finding{Name: "go", State: "ok", Cure: "install Go 1.26 or newer from https://go.dev/dl"}
	out, err := exec.Command("go", "env", "GOVERSION", "GOTOOLCHAIN").Output()
	if err != nil {
		f.State, f.Detail = "missing", "builds the guest's commands: "+err.Error()
		return f
	}
	words := strings.Fields(string(out)) // the second, and what fetches newer versions, is there since 1.21
	f.Detail = words[0]
	if version.Compare(words[0], wantedGo) < 0 && (len(words) < 2 || words[1] == "local") {
		f.State, f.Detail = "missing", words[0]+" is too old"
	}
	return f
}

// wantedGo is the version that the guest's module asks for in its go.mod.
const wantedGo = "go1.26"

func (t *tool) examine() finding {
	f := finding{Name: t.name, State: "ok", Package: t.pkg, Cure: aptInstall(t.pkg)}
	var err error
	if t.header != "" {
		f.Detail, err = findHeader(t.header)
	} else if f.Detail, err = exec.LookPath(t.name); err == nil {
		f.Detail += firstVersion(f.Detail)
	}
	if err != nil {
		f.State, f.Detail = "missing", t.why
		if t.optional {
			f.State = "optional"
		}
	}
	return f
}

// findHeader asks the compiler, which knows the include path best.
func findHeader(name string) (string, error) {
	cmd := exec.Command("gcc", "-E", "-include", name, "-x", "c", os.DevNull, "-o", os.DevNull)
	if err := cmd.Run(); err != nil {
		return "", err
	}
	return name, nil
}

// firstVersion is the first line of the program's --version, in brackets.
func firstVersion(path string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	if err != nil || line == "" {
		return ""
	}
	return " (" + line + ")"
}

func examineKVM() finding {
	f := finding{Name: "kvm", State: "ok"}
	if err := (vm.Probe{}).KVM(); err != nil {
		f.State, f.Detail = "optional", fmt.Sprintf("not usable: %v; software emulation (TCG) is used", err)
		return f
	}
	f.Detail = "works"
	return f
}

func examineLandlock() finding {
	if !confine.Supported() {
		return finding{Name: "landlock", State: "optional", Detail: "not in this kernel: code that `test --source` compiles can read your files"}
	}
	return finding{Name: "landlock", State: "ok", Detail: "works"}
}

func examineDisk(dir string) finding {
	f := finding{Name: "disk", State: "ok"}
	probe := dir
	for _, err := os.Stat(probe); err != nil && probe != filepath.Dir(probe); _, err = os.Stat(probe) {
		probe = filepath.Dir(probe)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(probe, &st); err != nil {
		f.State, f.Detail = "missing", fmt.Sprintf("statfs %s: %v", probe, err)
		return f
	}
	free := st.Bavail * uint64(st.Bsize)
	f.Detail = fmt.Sprintf("%s free for %s", humanize.IBytes(free), dir)
	if free < minFree {
		f.State = "missing"
		f.Cure = fmt.Sprintf("free %s, or name another place with --cache DIR", humanize.IBytes(minFree))
	}
	return f
}

func examineSource(ctx context.Context, store *cache.Cache) finding {
	f := finding{Name: "source", State: "ok"}
	where, err := kbuild.Available(ctx, kbuild.FetchOptions{Cache: store})
	if err != nil {
		f.State, f.Detail, f.Package = "missing", err.Error(), "linux-source-6.1"
		f.Cure = "name a mirror with --mirror URL, a tarball with --kernel FILE, or " + aptInstall(f.Package)
		return f
	}
	f.Detail = where
	return f
}
