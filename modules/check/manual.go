package check

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// groupOrder is the order of the manual.
var groupOrder = []string{"Modules", "Kernel log", "Programs", "Files", "Values"}

// preamble is what the manual says of the language as a whole.
const preamble = `# The language of test scripts

This page is made from the commands' own descriptions: go test ./modules/check -update writes it.

A test is a text file, modules/CHAPTER/NAME/test/WHAT.txt, about one behaviour. In a folder of yours without a folder test they are the
.txt files beside the sources, except README.txt, LICENSE.txt, NOTES.txt and the like. It runs in a virtual machine of its own; everything
happens there. The grammar is that of [rsc.io/script](https://pkg.go.dev/rsc.io/script).

    # The helper starts with its own handlers.
    start sighand_helper
    output ready
    kill USR1
    output 'H1 got 10'

    # A pid nobody has is refused.
    ! insmod sighand pid=999999
    stderr ESRCH

- A paragraph of lines with # in front names the section of the commands below it; a section is a check of the report. When
  one fails the rest are skipped. A paragraph with no commands below it is a comment.
- ! in front of a command: it must fail. ?: it may. [condition]: only then; [!condition]: only else.
- 'Single quotes' keep blanks, # and $ as they are; two of them within are one. Outside, $NAME is the value of a variable.
- Patterns are [Go's regular expressions](https://pkg.go.dev/regexp/syntax); ^ and $ match at line ends. A named group,
  (?P<pid>[0-9]+), sets the variable $pid. A variable no earlier line can set is a mistake.
- Time is bounded: 5 s a step unless -timeout says otherwise, a minute a test; more under emulation. There is no sleep: wait for something.

A test also fails, unless its script asked for it, when the kernel complains (oops, warning, lockup, sanitizer, lockdep...), when it is
tainted by more than O and E, when a module refuses to unload or to load again, and when one leaves something in /proc, /sys/module,
/sys/class or /dev. A module is loaded again with the parameters of its first successful load, unless one of them is the pid of a process that has ended.
On a kernel with CONFIG_DEBUG_KMEMLEAK (--profile debug) memory that modules have not freed fails the test, too.
`

// WriteManual writes the manual of the language, in Markdown.
func WriteManual(w io.Writer) error {
	var b strings.Builder
	b.WriteString(preamble)
	b.WriteString("\n## Directives\n\nLines of the form #: NAME VALUE, before the first command.\n\n| directive | says |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(directives)) {
		d := directives[name]
		repeat := ""
		if d.repeat {
			repeat = "; repeatable"
		}
		fmt.Fprintf(&b, "| `#: %s` | %s%s |\n", strings.TrimSpace(name+" "+d.args), d.summary, repeat)
	}
	b.WriteString("\n## Conditions\n\n| condition | holds if |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		c := conditions[name]
		if c.prefix {
			name += ":..."
		}
		fmt.Fprintf(&b, "| `[%s]` | %s |\n", name, c.summary)
	}
	for _, group := range groupOrder {
		writeGroup(&b, group)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeGroup(b *strings.Builder, group string) {
	fmt.Fprintf(b, "\n## %s\n", group)
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		c := commands[name]
		if c.group != group {
			continue
		}
		fmt.Fprintf(b, "\n### `%s %s`\n\n%s.", name, c.args, strings.ToUpper(c.summary[:1])+c.summary[1:])
		for _, d := range c.detail {
			b.WriteString("\n" + d)
		}
		if c.noNegate != "" {
			fmt.Fprintf(b, "\nCannot be negated: %s.", c.noNegate)
		}
		b.WriteString("\n")
	}
}
