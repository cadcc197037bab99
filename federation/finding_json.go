package federation

import (
	"encoding/json"
	"io"
	"slices"
)

// WriteJSON writes the report for machines. A list that is empty is written as
// one, so that a reader need not tell null from [].
func (r *CheckReport) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r.filled())
}

// filled is a copy of the report without nil lists.
func (r *CheckReport) filled() *CheckReport {
	next := *r
	next.Findings = listed(slices.Clone(r.Findings))
	next.Advice, next.NotLookedAt = listed(r.Advice), listed(r.NotLookedAt)
	for i := range next.Findings {
		f := &next.Findings[i]
		f.DecidedBy, f.Witness = listed(f.DecidedBy), filledWitness(f.Witness)
	}
	return &next
}

func filledWitness(w Witness) Witness {
	context := map[string][]string{}
	for key, values := range w.Context {
		context[key] = listed(values)
	}
	w.Context = context
	return w
}

func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
