package srcline

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// text is a module in miniature: two sections, whose addresses both begin at 0, and inlining.
const text = `void out(int n);
static inline __attribute__((always_inline)) void inner(int n)
{
	out(n);
}
static inline __attribute__((always_inline)) void outer(int n)
{
	inner(n + 1);
}
int work(int n)
{
	outer(n);
	return n;
}
__attribute__((section(".init.text"))) int init(int n)
{
	out(n);
	return n + 2;
}
`

// compile returns the object file of the text.
func compile(t *testing.T, flags ...string) string {
	t.Helper()
	return compileText(t, text, flags...)
}

func compileText(t *testing.T, text string, flags ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "m.c"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), gcc, append(flags, "-O2", "-c", "m.c", "-o", "m.o")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "m.o")
}

func TestLookup(t *testing.T) {
	for _, flag := range []string{"-g1", "-g", "-gdwarf-4"} {
		t.Run(flag, func(t *testing.T) {
			f := New(map[string]string{"m": compile(t, flag)})
			got := map[string]bool{}
			for offset := range uint64(16) {
				for _, function := range []string{"work", "init"} {
					frames, err := f.Lookup("m", function, offset)
					if err != nil {
						continue // behind its end
					}
					var places []string
					for _, frame := range frames {
						places = append(places, frame.String())
					}
					got[strings.Join(places, ", ")] = true
				}
			}
			for _, want := range []string{
				"inner at m.c:4, outer at m.c:8, work at m.c:12",
				"init at m.c:17",
			} {
				if !got[want] {
					t.Errorf("no %q in %v", want, got)
				}
			}
			for place := range got {
				if strings.HasPrefix(place, "init at m.c:1") && strings.Contains(place, "work") {
					t.Errorf("sections are mixed up: %s", place)
				}
			}
		})
	}
}

// TestSections has a function of a later section before one of .text, as kernel code has it: the line
// table then begins with the higher addresses.
func TestSections(t *testing.T) {
	object := compileText(t, `__attribute__((section(".later.text"))) int later(int n)
{
	return n + 1;
}
int first(int n)
{
	return n + 2;
}
`, "-g")
	f := New(map[string]string{"m": object})
	for function, want := range map[string]string{"later": "later at m.c:3", "first": "first at m.c:7"} {
		frames, err := f.Lookup("m", function, 0)
		if err != nil || frames[0].String() != want {
			t.Errorf("%s: %v, %v; want %s", function, frames, err, want)
		}
	}
}

func TestDecode(t *testing.T) {
	f := New(map[string]string{"m": compile(t, "-g1")})
	got := f.Decode([]string{
		"RIP: 0010:init+0x0/0x1000 [m]",
		"Code: 00 00",
		" ? work+0x5/0x20 [m]",
		" do_one_initcall+0x10/0x200",
		" init+0x1/0x1000 [m]",
		" nosuch+0x1/0x1000 [m]",
	})
	want := "init+0x0/0x1000 [m] is init at m.c:16\ninit+0x1/0x1000 [m] is init at m.c:16"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWith shares a kernel: its file is read once, and may be gone after that.
func TestWith(t *testing.T) {
	kernel, module := compile(t, "-g"), compile(t, "-g")
	base := New(map[string]string{"": kernel})
	if _, err := base.With(nil).Lookup("", "work", 1); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(kernel); err != nil {
		t.Fatal(err)
	}
	more := base.With(map[string]string{"m": module})
	var others sync.WaitGroup
	defer others.Wait()
	for range 2 {
		others.Go(func() { _, _ = base.Lookup("", "work", 1) }) // for the race detector
	}
	for _, name := range []string{"", "m"} {
		if frames, err := more.Lookup(name, "init", 1); err != nil || frames[0].File != "m.c" {
			t.Errorf("module %q: %v, %v", name, frames, err)
		}
	}
	if _, err := base.Lookup("m", "init", 1); err == nil {
		t.Error("the base knows a module of another's")
	}
}

func TestNoLines(t *testing.T) {
	f := New(map[string]string{"m": compile(t)})
	if _, err := f.Lookup("m", "init", 0); !errors.Is(err, ErrNoLines) {
		t.Errorf("got %v", err)
	}
	if got := f.Decode([]string{"init+0x0/0x1000 [m]"}); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestBadFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bad.ko")
	if err := os.WriteFile(name, []byte("\x7fELF no more"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := New(map[string]string{"bad": name, "gone": name + ".gone"})
	for _, module := range []string{"bad", "gone", "unknown"} {
		if _, err := f.Lookup(module, "init", 0); err == nil {
			t.Errorf("%s: no error", module)
		}
	}
}

func TestExcerpt(t *testing.T) {
	object := compile(t, "-g")
	f := New(map[string]string{"m": object, "": object})
	sources := func(module, file string) ([]byte, error) {
		if module == "m" && file == "m.c" {
			return []byte(text), nil
		}
		return nil, os.ErrNotExist
	}
	// The kernel's own place has no text here; the module's first one has, its second is of no interest.
	places := f.Places([]string{"RIP: 0010:work+0x0/0x20", " init+0x1/0x1000 [m]", " work+0x1/0x20 [m]"})
	if len(places) != 3 {
		t.Fatalf("places: %v", places)
	}
	want := `m.c:
     13          return n;
     14  }
     15  __attribute__((section(".init.text"))) int init(int n)
>    16  {
     17          out(n);
     18          return n + 2;
     19  }`
	if got := Excerpt(places, sources); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	places[1].Frames[0].Line = 1000 // of another version
	if got := Excerpt(places, sources); got != "" {
		t.Errorf("got %q for a line that is not there", got)
	}
}

func TestMembers(t *testing.T) {
	f := New(map[string]string{"m": compileText(t, `struct pair;
struct pair *none;
struct pair { char a; long b; struct { int x; } in; int c[3], d; };
struct pair two;
`, "-g")})
	got, err := f.Members("m", "pair", "d", "a", "b")
	if err != nil || !slices.Equal(got, []uint64{32, 0, 8}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, of := range [][2]string{{"pair", "x"}, {"pairs", "a"}} {
		if got, err := f.Members("m", of[0], of[1]); err == nil {
			t.Errorf("%v: got %v", of, got)
		}
	}
}
