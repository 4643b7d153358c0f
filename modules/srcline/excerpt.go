package srcline

import (
	"fmt"
	"strings"
)

// Sources returns the text of a source file of a module, or of the kernel if module is empty.
type Sources func(module, file string) ([]byte, error)

// around is how many lines an excerpt has on either side.
const around = 3

// Excerpt returns the lines of source where a backtrace begins, and where it first comes into a module if that
// is elsewhere: the kernel is rarely to blame. Files that cannot be read are left out.
func Excerpt(places []Place, sources Sources) string {
	var out strings.Builder
	for i, p := range places {
		inModule := p.Module != ""
		if i > 0 && !inModule {
			continue
		}
		if text, err := sources(p.Module, p.Frames[0].File); err == nil {
			out.WriteString(excerpt(string(text), p.Frames[0]))
		}
		if inModule {
			break
		}
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// excerpt returns the lines around a frame with their numbers, its own marked.
func excerpt(text string, f Frame) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if f.Line < 1 || f.Line > len(lines) {
		return "" // another version of the file
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s:\n", f.File)
	for n := max(1, f.Line-around); n <= min(len(lines), f.Line+around); n++ {
		mark := " "
		if n == f.Line {
			mark = ">"
		}
		line := fmt.Sprintf("%s %5d  %s", mark, n, strings.ReplaceAll(lines[n-1], "\t", "        "))
		fmt.Fprintln(&out, strings.TrimRight(line, " \r"))
	}
	return out.String()
}
