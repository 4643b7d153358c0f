package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoSnapshot is wrapped by the errors that say that a guest of this kind can
// be booted, but not saved or not restored: an option of QEMU's that stands in
// the way, a QEMU without support for it, no space on the disk.
var ErrNoSnapshot = errors.New("no snapshot")

// SnapshotError says that the files of a snapshot are damaged, or another kind
// of guest's: they were not used, and are of no use.
type SnapshotError struct {
	Dir string
	Err error
}

// Error names the directory.
func (e *SnapshotError) Error() string { return fmt.Sprintf("snapshot %s: %v", e.Dir, e.Err) }

func (e *SnapshotError) Unwrap() error { return e.Err }

// Snapshot is a kind of guest that is booted once, saved to a directory, and
// then restored from there any number of times, also side by side. It may be
// used from any goroutine.
type Snapshot struct {
	// Key is the hash, 40 hexadecimal digits, of all that can change what is
	// saved: the kernel's and the initramfs's content, QEMU's program, its and
	// the kernel's arguments, and under KVM the host's processor and kernel.
	Key string

	// Describe is the same for people.
	Describe string

	cfg    Config // with defaults, and the arguments that are part of the key
	choice choice
	argv   []string

	mu       sync.Mutex
	verified fileID // the RAM file that was found whole
}

// SnapshotOf is the kind of guest that a Config describes. The kernel and the
// initramfs are read once: that takes some 40 ms. The error wraps ErrNoSnapshot
// if Config has what cannot be saved, ErrNoQEMU if there is no emulator.
func SnapshotOf(cfg Config) (*Snapshot, error) {
	cfg, choice, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if cfg.Args, err = snapshotArgs(cfg.Args); err != nil {
		return nil, err
	}
	if cfg.RTC != "" {
		return nil, fmt.Errorf("%w: the guest has a clock of its own (-rtc %s)", ErrNoSnapshot, cfg.RTC)
	}
	k, err := kindOf(cfg, choice)
	if err != nil {
		return nil, err
	}
	return &Snapshot{
		Key: k.key(), cfg: cfg, choice: choice, argv: cfg.argv(choice.accel, inherited),
		Describe: fmt.Sprintf("guest of %s, %d MiB, %d processors, %s, %s",
			filepath.Base(cfg.Kernel), cfg.MemoryMiB, cfg.CPUs, choice.accel, filepath.Base(cfg.QEMU)),
	}, nil
}

// match is the Config of one guest of this kind.
func (s *Snapshot) match(cfg Config) (Config, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return cfg, err
	}
	own, err := snapshotArgs(cfg.Args)
	if err != nil {
		return cfg, err
	}
	if err := cfg.absolute(); err != nil {
		return cfg, err
	}
	cfg.QEMU = s.cfg.QEMU
	same := cfg
	same.Args = own
	if !slices.Equal(same.argv(s.choice.accel, inherited), s.argv) {
		return cfg, errors.New("snapshot: the guest to start is of another kind")
	}
	return cfg, nil
}

// hostOptions are options of QEMU's that are of no concern to the guest, with
// whether they have a value. They are not part of a key, and left out when the
// guest is saved.
var hostOptions = map[string]bool{
	"gdb": true, "s": false, "d": true, "D": true, "trace": true, "name": true, "pidfile": true, "msg": true,
}

// snapshotArgs are those of QEMU's arguments that make a difference to the
// guest. Only devices and their properties can be saved: who knows what is in a
// disk image when the guest is restored.
func snapshotArgs(args []string) ([]string, error) {
	var own []string
	for i := 0; i < len(args); i++ {
		name := strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-")
		hasValue, hosts := hostOptions[name]
		value := ""
		if (!hosts || hasValue) && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch {
		case hosts:
		case (name == "device" || name == "global") && !strings.ContainsAny(value, "/") && !strings.Contains(value, "host"):
			own = append(own, "-"+name, value)
		default:
			return nil, fmt.Errorf("%w: QEMU's argument %s cannot be part of one", ErrNoSnapshot, strings.TrimSpace("-"+name+" "+value))
		}
	}
	return own, nil
}

// kind is what makes a difference to what is saved.
type kind struct {
	Format         int
	QEMU           string   // the program: its path, size and time
	Host           string   // the processor, whose time the guest counts in, and under KVM more of it, and the kernel
	Accel          string   // with what is tried next
	Args           []string // QEMU's, without the names of files
	Kernel, Initrd string   // SHA-256
}

// snapshotFormat is counted up when the files, or what is done before and after,
// change.
const snapshotFormat = 1

// key is the kind's hash.
func (k kind) key() string {
	text, err := json.Marshal(k) // keeps every field apart
	if err != nil {              // strings and numbers always marshal
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:20])
}

// kindOf looks at the files that cfg names.
func kindOf(cfg Config, c choice) (k kind, err error) {
	k = kind{Format: snapshotFormat, Accel: fmt.Sprintf("%s fallback=%t", c.accel, c.fallback)}
	if k.Host, err = hostIdentity(cfg.Probe, c.accel); err != nil {
		return k, fmt.Errorf("%w: %w", ErrNoSnapshot, err)
	}
	if k.QEMU, err = programIdentity(cfg.QEMU); err != nil {
		return k, err
	}
	if k.Kernel, err = fileSum(cfg.Kernel); err != nil {
		return k, err
	}
	if cfg.Initrd != "" {
		if k.Initrd, err = fileSum(cfg.Initrd); err != nil {
			return k, err
		}
		cfg.Initrd = "initrd"
	}
	cfg.QEMU, cfg.Kernel = "qemu", "kernel"
	k.Args = cfg.argv(c.accel, inherited)
	return k, nil
}

// programIdentity tells one version of a program from another. A package's new
// version has another time, and nearly always another size.
func programIdentity(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoQEMU, err)
	}
	st, err := os.Stat(real)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoQEMU, err)
	}
	return fmt.Sprintf("%s %d %d", real, st.Size(), st.ModTime().UnixNano()), nil
}

// hostIdentity is the processor, whose time stamp counter the guest has measured and goes by, under TCG too.
// Under KVM it is all of the processor, which the guest sees, and the kernel, which holds part of its state.
func hostIdentity(p Probe, accel Accel) (string, error) {
	setDefault(&p.CPUInfo, "/proc/cpuinfo")
	text, err := os.ReadFile(p.CPUInfo)
	if err != nil {
		return "", err
	}
	var id []string
	counts := []string{"vendor_id", "cpu family", "model", "model name", "stepping"}
	if accel == AccelKVM {
		var name unix.Utsname
		if err := unix.Uname(&name); err != nil {
			return "", fmt.Errorf("uname: %w", err)
		}
		id = append(id, unix.ByteSliceToString(name.Release[:]), unix.ByteSliceToString(name.Version[:]))
		counts = append(counts, "microcode", "flags")
	}
	processor, _, _ := strings.Cut(string(text), "\n\n")
	for line := range strings.Lines(processor) {
		if key, value, _ := strings.Cut(line, ":"); slices.Contains(counts, strings.TrimSpace(key)) {
			id = append(id, strings.TrimSpace(value))
		}
	}
	return strings.Join(id, "\n"), nil
}

// fileSum is the SHA-256 of a file's content.
func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("snapshot: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("snapshot: read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Names of a snapshot's files.
const (
	snapshotRAM      = "ram"           // the guest's memory, sparse, as long as it is large
	snapshotState    = "state"         // QEMU's migration stream: processors and devices
	snapshotConsole  = "console.log"   // what the console had shown
	snapshotManifest = "snapshot.json" // written last
)

// manifest says what a snapshot's files are.
type manifest struct {
	Key     string   `json:"key"`
	QEMU    string   `json:"qemu"`  // its version, with the package's
	Accel   Accel    `json:"accel"` // kvm or tcg
	Args    []string `json:"args"`
	RAM     ramSum   `json:"ram"`
	State   textSum  `json:"state"`
	Console textSum  `json:"console"`
	SHA256  string   `json:"sha256"` // of all the above; see seal
}

// seal is the hash of a manifest's fields.
func (man manifest) seal() string {
	man.SHA256 = ""
	text, err := json.Marshal(man)
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	return sumOf(text).SHA256
}

// textSum identifies the content of a small file.
type textSum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func sumOf(text []byte) textSum {
	sum := sha256.Sum256(text)
	return textSum{int64(len(text)), hex.EncodeToString(sum[:])}
}

// fileID tells whether a file is the same, and unchanged.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func identify(f *os.File) (fileID, error) {
	st, err := f.Stat()
	if err != nil {
		return fileID{}, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.Mode().IsRegular() {
		return fileID{}, fmt.Errorf("%s is no regular file", f.Name())
	}
	return fileID{uint64(sys.Dev), sys.Ino, sys.Size, sys.Mtim, sys.Ctim}, nil
}
