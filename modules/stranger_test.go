package modules

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/confine"
)

func TestMain(m *testing.M) {
	confine.Main()
	os.Exit(m.Run())
}

// What a stranger's code cannot see, people's own can.
func TestStranger(t *testing.T) {
	const good = "#define GOOD 1\n"
	k := testKernel(t)
	outside := write(t, "good.h", good)
	lab := write(t, "Kbuild", "ccflags-y := -I"+outside+"\nobj-m := x.o\n",
		"twice.txt", good, "test/load.txt", good, "test/helper.h", good)
	build := func(text string, limits *kbuild.Limits) error {
		opts := testOptions(t)
		opts.Files = map[string][]byte{"x.c": []byte(source("x", text+"\nint good = GOOD;\n"))}
		opts.Limits = limits
		_, err := BuildFolder(t.Context(), k, lab, opts)
		return err
	}
	file := `#include "` + outside + `/good.h"`
	if err := build(file+"\n#include <good.h>\n#include \"test/helper.h\"", nil); err != nil {
		t.Errorf("of one's own: %v", err)
	}
	limits := kbuild.DefaultLimits()
	limits.FileSize = 16 << 20
	if err := build(good, limits); err != nil {
		t.Errorf("of a stranger, and harmless: %v", err)
	}
	for _, test := range []struct{ text, fault string }{
		{file, "good.h: Permission denied"},
		{"#include <good.h>", "good.h: Permission denied"},
		{good + `asm(".incbin \"` + outside + `/good.h\"");`, "file not found"},
		{`#include "test/helper.h"`, "test/helper.h: No such file"},
		{`#include "test/load.txt"`, "test/load.txt: No such file"},
		{`#include "twice.txt"`, "twice.txt: No such file"},
		{good + "char large[1 << 25] = {1};", "File size limit exceeded"},
	} {
		if !confine.Supported() && strings.Contains(test.text, outside) {
			continue
		}
		var failed *kbuild.MakeError
		if err := build(test.text, limits); !errors.As(err, &failed) || !strings.Contains(failed.First, test.fault) {
			t.Errorf("%s: %v, want %q", test.text, err, test.fault)
		}
	}
}
