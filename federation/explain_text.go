package federation

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// WriteText writes the explanation for a person: the answer first, then each check
// in STS's order.
func (x *Explanation) WriteText(w io.Writer, colour bool) error {
	t := explainText{Explanation: x, textReport: textReport{out: bufio.NewWriter(w), colour: colour}}
	if x.Error != nil {
		t.error()
	}
	if len(x.Steps) > 0 {
		t.answer()
		for i := range x.Steps {
			t.step(&x.Steps[i])
		}
		t.line("")
	}
	if len(x.Requests) > 0 {
		t.line(t.paint(bold, "  with the session at S3"))
		for i := range x.Requests {
			t.step(&x.Requests[i])
		}
		t.line("")
	}
	for _, r := range x.Remarks {
		t.entry("note", r)
	}
	return t.out.Flush()
}

type explainText struct {
	*Explanation
	textReport
}

// answer says in a line what STS does, and where.
func (t *explainText) answer() {
	text, sgr := "STS gives credentials", green
	switch t.Verdict {
	case RefusesCall:
		first := t.First()
		text, sgr = fmt.Sprintf("STS refuses at %s: %d %s", first.Name, first.Told.Status, first.Told.Code), red
		if t.unknownBefore(first.Name) {
			text += ", unless a check before it that could not be made fails first"
		}
	case CannotTell:
		text, sgr = "no check fails, and some could not be made", yellow
	}
	for _, l := range wrap(text, width) {
		t.line(t.paint(bold+";"+sgr, l))
	}
	t.entry("role", t.Role)
	if t.Target != "" {
		t.entry("documents", t.Target)
	}
	t.line("")
}

func (t *explainText) unknownBefore(name string) bool {
	for _, s := range t.Steps {
		if s.Name == name {
			return false
		}
		if s.Outcome == StepUnknown {
			return true
		}
	}
	return false
}

const colStep = 18

// step writes one check: a line where it passes, and all there is to say where it
// does not.
func (t *explainText) step(s *ExplainStep) {
	mark, sgr := "✓", green
	switch s.Outcome {
	case StepFails:
		mark, sgr = "✗", red
	case StepUnknown:
		mark, sgr = "?", yellow
	case StepNotReached:
		mark, sgr = "·", dim
	}
	text, name := s.Title, s.Name
	switch s.Outcome {
	case StepOK:
		text = firstOf(s.Why, s.Got, s.Title)
	case StepUnknown:
		text = "not known: " + s.Why
	case StepNotReached:
		text = "not tried: " + s.Why
	}
	if len(name) >= colStep {
		t.line("  " + t.paint(sgr, mark) + " " + name)
		name = ""
	}
	lines := wrap(printableText(text), width-colStep-4)
	if name == "" && s.Outcome == StepFails { // its title is its name in a sentence
		lines = nil
	}
	for i, l := range lines {
		switch {
		case i > 0 || name == "":
			t.line("  " + pad("", colStep+2) + l)
		default:
			t.line("  " + t.paint(sgr, mark) + " " + pad(name, colStep) + l)
		}
	}
	t.why(s)
	for _, n := range s.Notes {
		t.under("note", n)
	}
}

func firstOf(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

func (t *explainText) why(s *ExplainStep) {
	if s.Outcome != StepFails {
		t.under("fix", s.Fix)
		return
	}
	title := "fails"
	if s.Name != t.FailsAt && t.ofSTS(s.Name) {
		title = "would fail"
	}
	t.under(title, s.Why)
	t.under("want", s.Want)
	t.under("got", s.Got)
	if s.Told != nil {
		answer := fmt.Sprintf("%d %s: %s", s.Told.Status, s.Told.Code, s.Told.Message)
		if s.Told.Guessed {
			answer = fmt.Sprintf("%d %s (AWS's wording is not on record; the local AWS: %s)", s.Told.Status, s.Told.Code, s.Told.Message)
		}
		t.under("answer", answer)
	}
	t.under("fix", s.Fix)
	t.under("line", s.Line)
}

// ofSTS reports whether a step is one of STS's.
func (t *explainText) ofSTS(name string) bool {
	for _, s := range t.Steps {
		if s.Name == name {
			return true
		}
	}
	return false
}

// under writes a name and its text below a step, wrapped beside the name.
func (t *explainText) under(name, text string) {
	if text == "" {
		return
	}
	for i, l := range wrap(printableText(text), width-18) {
		if i > 0 {
			name = ""
		}
		t.line("      " + t.paint(dim, pad(name, 12)) + l)
	}
}

// entry writes a name and its text at the left; a long name has a line of its own.
func (t *explainText) entry(name, text string) {
	if name = printableText(name); utf8.RuneCountInString(name) >= 12 {
		t.line("  " + name)
		name = ""
	}
	for i, l := range wrap(printableText(text), width-14) {
		if i > 0 {
			name = ""
		}
		t.line("  " + pad(name, 12) + l)
	}
}

// printableText keeps what came from outside on its line, however long it is.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, s)
}

// error writes what the caller was told and what it comes from.
func (t *explainText) error() {
	r := t.Error
	title := firstOf(r.Code, "an error")
	if r.Message != "" {
		title += ": " + r.Message
	}
	for _, l := range wrap(oneLine(title), width) {
		t.line(t.paint(bold, l))
	}
	if r.Meaning != "" {
		t.entry("means", r.Meaning)
	}
	for i, c := range r.Causes {
		verdict := ""
		if c.Verdict != "" {
			verdict = " [" + c.Verdict + "]"
		}
		t.entry(fmt.Sprintf("cause %d", i+1), c.Why+verdict)
		t.entry("", "→ "+c.Fix)
	}
	if r.Conclusion != "" {
		t.entry("so", r.Conclusion)
	}
	t.line("")
}
