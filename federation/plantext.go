package federation

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// WriteText writes the plan for a person: each step with its call and its diff,
// then what stays that is not ours, and what is wrong with what stays.
func (p *Plan) WriteText(w io.Writer, colour bool) error {
	t := planText{out: bufio.NewWriter(w), colour: colour}
	t.line(bold, "Plan for "+p.Target)
	for i, s := range p.Steps {
		t.line("", "")
		t.line(bold, fmt.Sprintf("%d. %s (%s)", i+1, s, s.Call))
		t.diff(s.Diff())
	}
	t.line("", "")
	for _, k := range p.Kept {
		t.line("", "kept: "+k)
	}
	for _, w := range p.Warnings {
		t.line(red, "WARNING: "+w)
	}
	if len(p.Steps) == 0 {
		t.line(bold, "Nothing to change.")
	} else {
		t.line(bold, count(len(p.Steps), "change")+".")
	}
	return t.out.Flush()
}

type planText struct {
	out    *bufio.Writer
	colour bool
}

func (t *planText) line(sgr, s string) {
	s = escaped(s)
	if t.colour && sgr != "" && s != "" {
		s = "\x1b[" + sgr + "m" + s + "\x1b[0m"
	}
	fmt.Fprintln(t.out, s)
}

func (t *planText) diff(d string) {
	for _, l := range splitLines(d) {
		switch l[0] {
		case '+':
			t.line(green, l)
		case '-':
			t.line(red, l)
		case '@':
			t.line(dim, l)
		default:
			t.line("", l)
		}
	}
}

// escaped keeps what others wrote into a policy from moving the cursor or the
// direction of the text: such characters are shown as JSON escapes.
func escaped(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// WriteJSON writes the plan for machines.
func (p *Plan) WriteJSON(w io.Writer) error {
	type step struct {
		Change Change          `json:"change"`
		What   string          `json:"what"`
		Call   string          `json:"call"`
		Before json.RawMessage `json:"before"`
		After  json.RawMessage `json:"after"`
		Diff   string          `json:"diff"`
	}
	orNull := func(text string) json.RawMessage {
		if text == "" {
			return json.RawMessage("null")
		}
		return json.RawMessage(text)
	}
	out := struct {
		Target   string   `json:"target"`
		Steps    []step   `json:"steps"`
		Kept     []string `json:"kept"`
		Warnings []string `json:"warnings"`
	}{p.Target, []step{}, append([]string{}, p.Kept...), append([]string{}, p.Warnings...)}
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, step{s.Change, s.What, s.Call, orNull(s.Before), orNull(s.After), s.Diff()})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}
