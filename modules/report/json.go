package report

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/linux-kaleidoscope/kaleido/modules/check"
)

// Schema is the version of the JSON that JSON writes. It grows when a field changes its meaning.
const Schema = 1

// JSON writes everything there is to know, as one object: schema, verdict, counts, and the Report's
// fields. Times are in nanoseconds. Bytes that are no UTF-8 become U+FFFD; control characters are escaped, as in all JSON.
func JSON(w io.Writer, r *Report) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	results := r.Results
	if results == nil {
		results = []*check.Result{}
	}
	err := enc.Encode(struct {
		Schema  int           `json:"schema"`
		Verdict check.Verdict `json:"verdict"`
		Counts  Counts        `json:"counts"`
		Report
		Results []*check.Result `json:"results"`
	}{Schema, r.Verdict(), r.Count(), *r, results})
	if err != nil {
		return fmt.Errorf("write JSON report: %w", err)
	}
	return nil
}
