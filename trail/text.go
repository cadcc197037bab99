package trail

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	c := r.Counts
	line("role       %s", r.Role)
	if r.Provider != "" {
		line("provider   %s", r.Provider)
	}
	line("files      %s with %s, %d of them data events", count(c.Files, "file"), count(c.Events, "event"), c.DataEvents)
	if c.Repeated > 0 {
		line("           %s came more than once", count(c.Repeated, "event"))
	}
	if !r.Window.From.IsZero() {
		line("window     %s up to %s; what is missing is told up to %s", stamp(r.Window.From), stamp(r.Window.To), stamp(r.Window.Settled))
	}
	line("sessions   %d: %d by access key id, %d by jti, %d by name and time, %d by tokens that were given out", c.Sessions, c.ByKey, c.BySource, c.ByName, c.ByToken)
	if c.ProofReports > 0 {
		line("proofs     %s: %s and %s", count(c.ProofReports, "report"), count(c.ByProof, "session"), count(c.ProofRefused, "refused call"))
		for _, p := range r.Proofs {
			p.text(line)
		}
	}
	line("refused    %s", count(c.Refused, "call"))
	line("uses       %s by %s", count(c.Uses, "event"), count(c.UsedKeys, "session"))
	line("records    %s, %d of them not due yet; %s", count(c.Records, "mint"), c.Pending, count(c.Tokens, "token"))
	for _, f := range r.Findings {
		b.WriteString("\n" + f.text())
	}
	b.WriteString("\n")
	for _, note := range r.Notes {
		line("note       %s", note)
	}
	for _, why := range r.Why {
		line("because    %s", why)
	}
	verdict := string(r.Verdict)
	if n := len(r.Findings); n > 0 {
		verdict += ": " + fmt.Sprint(n)
	}
	line("verdict    %s", verdict)
	_, err := io.WriteString(w, b.String())
	return err
}

// text is a finding on a few lines. What it shows comes from files that others write.
func (f *Finding) text() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			b.WriteString(printable(fmt.Sprintf("  %-9s %s", name, value)) + "\n")
		}
	}
	fmt.Fprintf(&b, "%s (%s)\n", f.Code, f.Severity)
	line("expected", f.Expected)
	line("found", f.Found)
	line("key", f.AccessKeyID)
	line("session", f.SessionName)
	line("record", f.Record)
	line("proof", f.Proof)
	if f.Event != nil {
		line("event", f.Event.ID+" "+f.Event.Name+" at "+stamp(f.Event.Time))
		line("file", f.Event.File)
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// printable replaces what a terminal would obey instead of showing it.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, line)
}
