package federation

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// WriteText writes the report for a person: the verdict first and last, where
// eyes fall, and between them each finding with the request that shows it. What
// comes from documents is printed without anything that a terminal would obey.
func (r *CheckReport) WriteText(w io.Writer, colour bool) error {
	t := findingText{r, textReport{out: bufio.NewWriter(w), colour: colour}}
	t.line(t.paint(bold, "AgentKeys federation check: ") + t.verdict())
	t.row("target", r.Target)
	t.line("")
	t.list("could not be read, so nothing is known of what it lets in", r.Unread)
	for i, f := range r.Findings {
		t.finding(i+1, f)
	}
	t.list("advice", r.Advice)
	t.list("not looked at", r.NotLookedAt)
	t.row("verdict", "")
	return t.out.Flush()
}

// findingText is the text of a CheckReport, painted and wrapped as a proof's is.
type findingText struct {
	*CheckReport
	textReport
}

// Verdict is the report in a few words.
func (r *CheckReport) Verdict() string {
	ways, kept, ambiguous := 0, 0, 0
	for _, f := range r.Findings {
		if f.Ambiguous {
			ambiguous++
		}
		if f.Code == OwnerLockedOut {
			kept++
		} else {
			ways++
		}
	}
	parts := []string{"no way in found"}
	if ways > 0 {
		parts[0] = counted(ways, "way in", "ways in")
	}
	if kept > 0 {
		parts = append(parts, "owner locked out")
	}
	if ambiguous > 0 {
		parts = append(parts, fmt.Sprintf("%d of them ambiguous", ambiguous))
	}
	if n := len(r.Unread); n > 0 {
		parts = append(parts, counted(n, "document", "documents")+" unread")
	}
	return strings.Join(parts, ", ")
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (t findingText) verdict() string {
	sgr := green
	switch {
	case slices.ContainsFunc(t.Findings, func(f Finding) bool { return !f.Ambiguous }):
		sgr = red
	case t.ExitStatus() != 0:
		sgr = yellow
	}
	return t.paint(bold+";"+sgr, t.CheckReport.Verdict())
}

// row writes a name and its value at the left edge; the verdict's value is
// painted and never too long for its line.
func (t findingText) row(name, value string) {
	const indent = 10
	if name == "verdict" {
		t.line(pad(name, indent) + t.verdict())
		return
	}
	t.block(indent, name, []string{value})
}

// block writes values, each wrapped, beside a name that stands at the first line.
func (t findingText) block(indent int, name string, values []string) {
	for _, value := range values {
		for _, l := range wrap(printable(value), width-indent) {
			t.line(pad(name, indent) + l)
			name = ""
		}
	}
}

// finding writes one finding. The statements are counted as the JSON report and
// the arrays of the documents count them.
func (t findingText) finding(n int, f Finding) {
	const name = 13
	code, sgr := string(f.Code), red
	if f.Ambiguous {
		code, sgr = code+" (ambiguous)", yellow
	}
	number := fmt.Sprintf("%2d. ", n)
	t.line(t.paint(bold+";"+sgr, number+printable(code)))
	at := len(number)
	title := shortTenants(f.Title)
	t.block(at, "", []string{title})
	w := f.Witness
	who := shortTenants(w.Principal)
	if strings.HasPrefix(title, who) { // said already
		who = ""
	}
	for _, r := range []struct {
		name   string
		values []string
	}{
		{"who", []string{who}},
		{"does", []string{w.Action}},
		{"on", []string{w.Resource}},
		{"with", contextRows(w.Context)},
		{decidedByLabel(f.Code), statementRows(f.DecidedBy)},
		{"fix", []string{f.Fix}},
	} {
		if r.name == "on" { // to be copied as it stands, however long
			t.line(pad(strings.Repeat(" ", at)+r.name, at+name) + printable(w.Resource))
			continue
		}
		if len(r.values) > 0 && r.values[0] != "" {
			t.block(at+name, strings.Repeat(" ", at)+r.name, r.values)
		}
	}
	t.line("")
}

// shortTenants cuts tenants' tags down to what tells them apart; the request
// itself has them in full.
func shortTenants(s string) string {
	return literalTenant.ReplaceAllStringFunc(s, func(tag string) string { return tag[:6] + "…" + tag[len(tag)-4:] })
}

// joined is the parts that there are.
func joined(separator string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), separator)
}

func decidedByLabel(c Code) string {
	if c == OwnerLockedOut {
		return "kept out by"
	}
	return "let in by"
}

// contextRows are the condition keys, by name, with their values in quotes: an
// empty value is one.
func contextRows(context map[string][]string) []string {
	var rows []string
	for _, key := range slices.Sorted(maps.Keys(context)) {
		quoted := make([]string, len(context[key]))
		for i, value := range context[key] {
			quoted[i] = strconv.Quote(value)
		}
		value := "[" + strings.Join(quoted, ", ") + "]"
		if len(quoted) == 1 {
			value = quoted[0]
		}
		rows = append(rows, key+" = "+value)
	}
	return rows
}

func statementRows(statements []Statement) []string {
	var rows []string
	for _, s := range statements {
		rows = append(rows, s.String())
	}
	return rows
}

// String names the statement and its document.
func (s Statement) String() string { return joined(": ", s.Document, s.label()) }

// label says which statement of its document it is, or nothing where the document
// has none, as an ACL.
func (s Statement) label() string {
	if s.Statement < 0 {
		return ""
	}
	label := fmt.Sprintf("Statement[%d]", s.Statement)
	if s.Sid != "" {
		label += " (Sid " + s.Sid + ")"
	}
	return label
}

func (t findingText) list(title string, items []string) {
	if len(items) == 0 {
		return
	}
	t.line(t.paint(bold, title))
	for _, item := range items {
		t.block(2, "-", []string{item})
	}
	t.line("")
}
