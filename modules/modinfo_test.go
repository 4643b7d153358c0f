package modules

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const sampleModinfo = "license=GPL\x00author=A\x00author=B <b@example.org>\x00description=Says = and : things\x00" +
	"parm=values:up to ten numbers\x00parmtype=values:array of int\x00\x00\x00parmtype=name:charp\x00" +
	"version=1.2\x00alias=pci:v1\x00alias=pci:v2\x00depends=export,other-one\x00name=export_2\x00intree=Y\x00" +
	"vermagic=6.1.8-kaleido SMP mod_unload \x00junk\x00"

func TestParseModinfo(t *testing.T) {
	want := &Module{
		Name: "export_2", Depends: []string{"export", "other_one"}, Vermagic: "6.1.8-kaleido SMP mod_unload ",
		Params: []Param{
			{Name: "values", Type: "array of int", Description: "up to ten numbers"},
			{Name: "name", Type: "charp"},
		},
		Description: "Says = and : things", Authors: []string{"A", "B <b@example.org>"}, License: "GPL", Version: "1.2",
		Aliases: []string{"pci:v1", "pci:v2"}, InTree: true,
	}
	got := parseModinfo([]byte(sampleModinfo))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got.Release() != "6.1.8-kaleido" {
		t.Errorf("Release() = %q", got.Release())
	}
}

func FuzzParseModinfo(f *testing.F) {
	f.Add([]byte(sampleModinfo))
	f.Add([]byte("depends=,,a\x00parm=\x00=x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := parseModinfo(data)
		seen := map[string]bool{}
		for _, p := range m.Params {
			if seen[p.Name] {
				t.Errorf("parameter %q twice", p.Name)
			}
			seen[p.Name] = true
		}
		for _, d := range m.Depends {
			if d == "" || strings.ContainsAny(d, ",-\x00") {
				t.Errorf("depends on %q", d)
			}
		}
	})
}

func TestCheckVermagic(t *testing.T) {
	m := &Module{File: "x.ko", Vermagic: "6.1.8-kaleido SMP "}
	if err := m.CheckVermagic("6.1.8-kaleido"); err != nil {
		t.Error(err)
	}
	err := m.CheckVermagic("6.1.8")
	var other *VermagicError
	if !errors.As(err, &other) || err.Error() != "x.ko: built for kernel 6.1.8-kaleido, not for 6.1.8" {
		t.Errorf("got %v", err)
	}
	if err := (&Module{File: "x.ko"}).CheckVermagic("6.1.8"); err == nil || err.Error() != "x.ko: does not say for which kernel it was built" {
		t.Errorf("no vermagic: got %v", err)
	}
}

func TestReadModule(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler to make a module with")
	}
	dir := write(t,
		"a-b.c", `static const char m[] __attribute__((section(".modinfo"), used, aligned(1))) = "license=GPL\0depends=";`,
		"plain.c", "int x;",
		"text.ko", "not ELF at all",
		"empty.ko", "",
	)
	for _, name := range []string{"a-b", "plain"} {
		out, err := exec.Command(cc, "-c", "-o", filepath.Join(dir, name+".ko"), filepath.Join(dir, name+".c")).CombinedOutput()
		if err != nil {
			t.Fatalf("cc: %v\n%s", err, out)
		}
	}
	m, err := ReadModule(filepath.Join(dir, "a-b.ko"))
	if err != nil || m.Name != "a_b" || m.License != "GPL" || m.Depends != nil {
		t.Errorf("got %+v, %v", m, err)
	}
	for name, want := range map[string]string{"plain.ko": "no .modinfo", "text.ko": "not a kernel module", "empty.ko": "not a kernel module"} {
		if _, err := ReadModule(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	if _, err := ReadModule(filepath.Join(dir, "none.ko")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestLoadOrder(t *testing.T) {
	tests := []struct {
		name    string
		modules string // "a:b,c" depends on b and c
		want    string // or the error's end
	}{
		{"none", "", ""},
		{"as given", "b a c", "b a c"},
		{"needed first", "export_2:export export", "export export_2"},
		{"diamond", "d:b,c b:a c:a a", "a b c d"},
		{"cycle", "a:b b:c c:a", "modules depend on each other: a -> b -> c -> a"},
		{"self", "x a:a", "modules depend on each other: a -> a"},
		{"cycle behind", "x:a a:b b:a", "modules depend on each other: a -> b -> a"},
		{"stranger", "a:z", "a depends on z, which is not among the modules"},
		{"two of one name", "a a", "a.ko and a.ko: two modules of one name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var list []*Module
			for _, f := range strings.Fields(test.modules) {
				name, depends, _ := strings.Cut(f, ":")
				m := &Module{Name: name, File: name + ".ko"}
				if depends != "" {
					m.Depends = strings.Split(depends, ",")
				}
				list = append(list, m)
			}
			sorted, err := LoadOrder(list)
			got := ""
			for _, m := range sorted {
				got += m.Name + " "
			}
			got = strings.TrimSpace(got)
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "order modules: ")
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if got, err := order([]*Module{{Name: "a", Depends: []string{"z"}}}, false); err != nil || len(got) != 1 {
		t.Errorf("not strict: %v, %v", got, err)
	}
}

func Example() {
	m := parseModinfo([]byte(sampleModinfo))
	fmt.Println(m.Name, "needs", m.Depends, "and runs on", m.Release())
	// Output: export_2 needs [export other_one] and runs on 6.1.8-kaleido
}
