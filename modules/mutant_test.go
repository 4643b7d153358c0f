package modules

import (
	"strings"
	"testing"
)

const mutantSource = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"

func TestMutants(t *testing.T) {
	tests := []struct {
		name, patch, want, err string
	}{
		{
			name:  "as it is",
			patch: "Wrong number.\n\n--- a/x.c\n+++ b/x.c\n@@ -2,3 +2,3 @@\n two\n-three\n+3\n four\n",
			want:  "one\ntwo\n3\nfour\nfive\nsix\nseven\n",
		},
		{
			name:  "moved",
			patch: "--- a/x.c\n+++ b/x.c\n@@ -12,3 +12,3 @@ int f(void)\n two\n-three\n+3\n four\n@@ -15,2 +15,1 @@\n five\n-six\n",
			want:  "one\ntwo\n3\nfour\nfive\nseven\n",
		},
		{name: "gone", patch: "--- a/x.c\n+++ b/x.c\n@@ -2,2 +2,2 @@\n two\n-drei\n+3\n", err: "change 1 does not apply"},
		{name: "other file", patch: "--- a/y.c\n+++ b/y.c\n@@ -2,2 +2,2 @@\n two\n-three\n+3\n", err: "has no y.c"},
		{name: "outside", patch: "--- a/../x.c\n+++ b/../x.c\n@@ -2,2 +2,2 @@\n two\n-three\n+3\n", err: "want a change"},
		{name: "empty", patch: "nothing\n", err: "no patch"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, "x.c", mutantSource, "mutants/m.patch", test.patch)
			ex := &Exercise{Name: "general/x", Dir: dir}
			mutants, err := ex.Mutants()
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(err.Error(), "general/x/m") {
					t.Fatalf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(mutants[0].Files["x.c"]); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestMutantWhy(t *testing.T) {
	dir := write(t, "x.c", mutantSource, "mutants/m.patch", "Wrong\nnumber.\n\n--- a/x.c\n+++ b/x.c\n@@ -2,2 +2,2 @@\n two\n-three\n+3\n")
	mutants, err := (&Exercise{Name: "general/x", Dir: dir}).Mutants()
	if err != nil || len(mutants) != 1 || mutants[0].Why != "Wrong number." || mutants[0].Name != "general/x/m" {
		t.Errorf("got %+v, %v", mutants, err)
	}
}

// TestCatalogueMutants applies every patch of the catalogue.
func TestCatalogueMutants(t *testing.T) {
	root, err := Root(t.Context(), testOptions(t).Cache)
	if err != nil {
		t.Fatal(err)
	}
	exercises, err := Find(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, ex := range exercises {
		mutants, err := ex.Mutants()
		if err != nil {
			t.Error(err)
		}
		if len(mutants) < 2 {
			t.Errorf("%s has %d mutants, want at least 2", ex.Name, len(mutants))
		}
	}
}
