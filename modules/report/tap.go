package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
)

// TAP writes results in the Test Anything Protocol, version 13: a test point for each test, its checks
// before it as a subtest, indented by four blanks as TAP 14 and the kernel's KTAP have them, which older
// consumers pass over (https://testanything.org, Documentation/dev-tools/ktap.rst). Explanations are
// comments, which all consumers show or ignore, and none can misread.
func TAP(w io.Writer, r *Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "TAP version 13\n1..%d", len(r.Results))
	if len(r.Results) == 0 {
		b.WriteString(" # SKIP no tests")
	}
	b.WriteString("\n")
	for i, res := range r.Results {
		all := checks(res)
		fmt.Fprintf(&b, "    # Subtest: %s\n    1..%d\n", line(res.Name), len(all))
		for j, c := range all {
			b.WriteString("    " + point(j+1, c.Status, c.Name, c.Reason))
			if c.Status == check.Fail {
				comment(&b, "    ", explain(res, c))
			}
		}
		b.WriteString(point(i+1, res.Status, res.Name, res.Reason))
		if res.Status == check.Fail || res.Status == check.Error {
			comment(&b, "", append([]string{line(res.Reason)}, background(res)...))
		} else {
			comment(&b, "", notes(res))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// escapeTAP keeps a description from being read as a directive.
var escapeTAP = strings.NewReplacer(`\`, `\\`, "#", `\#`)

// point is one line of result.
func point(n int, status check.Status, name, reason string) string {
	word, directive := "ok", ""
	switch status {
	case check.Fail, check.Error:
		word = "not ok"
	case check.Skip:
		directive = strings.TrimRight(" # SKIP "+escapeTAP.Replace(line(reason)), " ")
	}
	return fmt.Sprintf("%s %d - %s%s\n", word, n, escapeTAP.Replace(line(name)), directive)
}

func comment(b *strings.Builder, by string, lines []string) {
	for _, l := range lines {
		b.WriteString(strings.TrimRight(by+"# "+l, " ") + "\n")
	}
}
