package report

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
)

// The elements of a JUnit report, as Jenkins' xUnit plugin takes them (its junit-10.xsd) and Maven's
// Surefire writes them. testdata/junit.xsd is this package's reading of the two.
type (
	xmlSuites struct {
		XMLName  xml.Name   `xml:"testsuites"`
		Name     string     `xml:"name,attr"`
		Time     string     `xml:"time,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Suites   []xmlSuite `xml:"testsuite"`
	}
	xmlSuite struct {
		Name       string        `xml:"name,attr"`
		Tests      int           `xml:"tests,attr"`
		Failures   int           `xml:"failures,attr"`
		Errors     int           `xml:"errors,attr"`
		Skipped    int           `xml:"skipped,attr"`
		Time       string        `xml:"time,attr"`
		Timestamp  string        `xml:"timestamp,attr,omitempty"`
		File       string        `xml:"file,attr,omitempty"`
		Properties []xmlProperty `xml:"properties>property,omitempty"`
		Cases      []xmlCase     `xml:"testcase"`
		Out        string        `xml:"system-out,omitempty"`
		Err        string        `xml:"system-err,omitempty"`
	}
	xmlProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	xmlCase struct {
		Name    string  `xml:"name,attr"`
		Class   string  `xml:"classname,attr"`
		Time    string  `xml:"time,attr"`
		Skipped *xmlWhy `xml:"skipped"`
		Error   *xmlWhy `xml:"error"`
		Failure *xmlWhy `xml:"failure"`
		Out     string  `xml:"system-out,omitempty"`
	}
	xmlWhy struct {
		Type    string `xml:"type,attr,omitempty"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes results as JUnit XML: a testsuite for each test, a testcase for each of its checks, the
// kernel's log as the suite's system-out.
func JUnit(w io.Writer, r *Report) error {
	all := xmlSuites{Name: line(cmp.Or(r.Name, "kaleido")), Time: seconds(r.Time)}
	for _, res := range r.Results {
		s := suite(res, r.Properties)
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Suites = append(all.Suites, s)
	}
	out, err := xml.MarshalIndent(all, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, out)
	}
	if err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	return nil
}

func suite(res *check.Result, common map[string]string) xmlSuite {
	s := xmlSuite{
		Name: line(res.Name), Time: seconds(res.Time), File: line(res.File), Properties: properties(res, common),
		Out: strings.Join(recordLines(res.Records, maxLog), "\n"),
	}
	if !res.Started.IsZero() {
		s.Timestamp = res.Started.UTC().Format("2006-01-02T15:04:05")
	}
	for _, c := range checks(res) {
		x := xmlCase{Name: line(c.Name), Class: class(res.Name), Time: seconds(c.Time), Out: strings.Join(textLines(c.Log), "\n")}
		switch c.Status {
		case check.Fail:
			s.Failures++
			x.Failure = failure(res, c)
			x.Out = "" // it is part of the explanation
		case check.Error:
			s.Errors++
			x.Error = &xmlWhy{Type: "error", Message: line(c.Reason), Text: strings.Join(background(res), "\n")}
		case check.Skip:
			s.Skipped++
			x.Skipped = &xmlWhy{Message: line(c.Reason)}
		}
		s.Cases = append(s.Cases, x)
	}
	s.Tests = len(s.Cases)
	if res.Status == check.Fail {
		s.Err = strings.Join(background(res), "\n")
	} else {
		s.Err = strings.Join(notes(res), "\n")
	}
	return s
}

func failure(res *check.Result, c check.Check) *xmlWhy {
	why := &xmlWhy{Type: "step", Message: "failed", Text: strings.Join(append(explain(res, c), background(res)...), "\n")}
	if c.Fault != nil {
		why.Type, why.Message = string(c.Fault.Kind), line(c.Fault.String())
	}
	return why
}

// class makes a class name, whose dots Jenkins takes for packages.
func class(name string) string {
	return strings.ReplaceAll(line(strings.ReplaceAll(name, ".", "_")), "/", ".")
}

func properties(res *check.Result, common map[string]string) []xmlProperty {
	all := maps.Clone(common)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, res.Facts)
	all["seed"] = strconv.FormatUint(res.Seed, 10)
	all["verdict"] = string(res.Verdict)
	if res.Points > 0 {
		all["points"] = strconv.Itoa(res.Points)
	}
	var props []xmlProperty
	for _, name := range slices.Sorted(maps.Keys(all)) {
		props = append(props, xmlProperty{line(name), line(all[name])})
	}
	return props
}
