package federation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestCorpus holds Check to what is true of each set-up of the corpus: what must
// be reported is, with the witness that it asks for, and nothing else that is
// not so.
func TestCorpus(t *testing.T) {
	for _, c := range corpus(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, err := ReadAccount(c.dir)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Check(a)
			if err != nil {
				t.Fatal(err)
			}
			if wrong := c.truth.compare(r); len(wrong) > 0 {
				t.Errorf("%s\n\t%s", c.truth.Says, strings.Join(wrong, "\n\t"))
			}
		})
	}
}

// compare says in what a report differs from the truth, a line for each.
func (c corpusTruth) compare(r *CheckReport) []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, code := range c.Findings {
		found, want := corpusFindings(r, code), slices.Contains(c.Ambiguous, code)
		switch {
		case len(found) == 0:
			say("missing: %s", code)
		case !slices.ContainsFunc(found, func(f Finding) bool { return f.Ambiguous == want }):
			say("want ambiguous %v: %s", want, corpusShow(found...))
		}
	}
	for _, codes := range c.OneOf {
		if !slices.ContainsFunc(codes, func(code Code) bool { return len(corpusFindings(r, code)) > 0 }) {
			say("missing: one of %s", codes)
		}
	}
	allowed := slices.Concat(c.Findings, c.May, slices.Concat(c.OneOf...))
	for _, f := range r.Findings {
		if !slices.Contains(allowed, f.Code) {
			say("extra: %s", corpusShow(f))
		}
	}
	for code, w := range c.Witness {
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == code && w.shownBy(f) }) {
			say("no %s is decided by %s: %s", code, w, corpusShow(r.Findings...))
		}
	}
	for _, word := range c.Advice {
		if !slices.ContainsFunc(r.Advice, func(line string) bool { return strings.Contains(line, word) }) {
			say("no advice names %q: %q", word, r.Advice)
		}
	}
	for _, word := range c.Unread {
		if !slices.ContainsFunc(r.Unread, func(line string) bool { return strings.Contains(line, word) }) {
			say("no unread document is %q: %q", word, r.Unread)
		}
	}
	return append(wrong, c.compareStatus(r)...)
}

// compareStatus checks the exit status, which is all that a script sees.
func (c corpusTruth) compareStatus(r *CheckReport) []string {
	want := 0
	switch {
	case len(r.Findings) > 0:
		want = 1
	case len(c.Unread) > 0:
		want = 3
	}
	if got := r.ExitStatus(); got != want {
		return []string{fmt.Sprintf("want exit status %d, got %d, unread %q", want, got, r.Unread)}
	}
	return nil
}

// corpusFindings are the findings of one code.
func corpusFindings(r *CheckReport, code Code) []Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return f.Code != code })
}

// shownBy reports whether the finding has what the witness asks for.
func (w corpusWitness) shownBy(f Finding) bool {
	if w.Action != "" && !strings.EqualFold(w.Action, f.Witness.Action) {
		return false
	}
	return slices.ContainsFunc(f.DecidedBy, func(s Statement) bool {
		return strings.Contains(s.Document, w.Document) && (w.Statement == nil || s.Statement == *w.Statement)
	})
}

func (w corpusWitness) String() string {
	text := w.Document
	if w.Statement != nil {
		text += fmt.Sprintf(" [%d]", *w.Statement)
	}
	if w.Action != "" {
		text += " with " + w.Action
	}
	return text
}

// corpusShow writes findings for a failing test, one line each.
func corpusShow(findings ...Finding) string {
	var b strings.Builder
	for i, f := range findings {
		if i > 0 {
			b.WriteString("\n\t\t")
		}
		fmt.Fprintf(&b, "%s: %s %s on %s %v", f.Code, f.Witness.Principal, f.Witness.Action, f.Witness.Resource, f.Witness.Context)
		for _, s := range f.DecidedBy {
			fmt.Fprintf(&b, ", by %s [%d] %s", s.Document, s.Statement, s.Sid)
		}
		if f.Ambiguous {
			fmt.Fprintf(&b, ", ambiguous: %s", f.Title)
		}
	}
	return b.String()
}
