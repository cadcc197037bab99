package federation

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// width is the longest line of the text report.
const width = 100

// WriteText writes the report for a person: what was set up, each probe with its
// expected and actual answer, and the verdict first and last, where eyes fall.
// Near misses that went as they must share a row.
func (r *Report) WriteText(w io.Writer, colour bool) error {
	t := textReport{Report: r, out: bufio.NewWriter(w), colour: colour}
	t.head()
	t.table()
	t.reasons()
	return t.out.Flush()
}

type textReport struct {
	*Report
	out    *bufio.Writer
	colour bool
}

// ANSI colours, as SGR parameters.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

func (t *textReport) paint(sgr, s string) string {
	if !t.colour || sgr == "" {
		return s
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[0m"
}

func (t *textReport) line(s string) { fmt.Fprintln(t.out, strings.TrimRight(s, " ")) }

func (t *textReport) head() {
	c := t.Config
	target := t.Target.Name
	if t.Target.Note != "" {
		target += " (" + t.Target.Note + ")"
	}
	where := "s3://" + c.Bucket + "/" + c.Prefix + "/, " + c.Region
	if t.Documents != "" {
		where += ", " + string(t.Documents) + " documents"
	}
	t.line(t.paint(bold, "AgentKeys isolation proof: ") + t.verdict())
	for _, row := range [][2]string{
		{"target", target}, {"issuer", c.Issuer}, {"role", c.RoleARN()}, {"bucket", where},
	} {
		t.field(row[0], row[1])
	}
	for _, tenant := range t.Tenants {
		t.field(tenant.Name, tenant.Tag)
	}
	t.line("")
}

// field writes a name and its value, wrapped beside the name.
func (t *textReport) field(name, value string) { t.painted("", name, value) }

func (t *textReport) painted(sgr, name, value string) {
	const indent = 12
	for i, l := range wrap(value, width-indent) {
		if i > 0 {
			name = ""
		}
		t.line(t.paint(sgr, "  "+pad(clip(name, indent-3), indent-2)+l))
	}
}

var groups = []struct{ id, title string }{
	{"session", "at STS"}, {"seed", "seeds"}, {"own", "own prefix"}, {"foreign", "other's prefix"},
	{"near", "near misses"}, {"anonymous", "no signature"}, {"control", "controls"},
}

// The columns of the table.
const (
	colGroup, colLabel, colWant, colActor = 16, 24, 10, 13
)

func (t *textReport) table() {
	a, b := t.Tenants[0].Name, t.Tenants[1].Name
	t.line(t.paint(bold, "  "+pad("", colGroup)+pad("", colLabel)+pad("must be", colWant)+
		pad(clip(a, colActor-2), colActor)+pad(clip(b, colActor-2), colActor)+"refused by"))
	for _, g := range groups {
		title, rows := g.title, t.rows(g.id)
		if len(rows) > 1 && untried(rows) {
			t.line("  " + pad(title, colGroup) + t.paint(yellow, fmt.Sprintf("? not tried: %d probes", len(rows))))
			continue
		}
		if g.id == "near" {
			var held [][]*Probe
			held, rows = asExpected(rows)
			title = t.folded(title, held)
		}
		for _, row := range rows {
			t.row(title, row)
			title = ""
		}
	}
	t.line("")
}

// asExpected parts the rows in which every answer was the expected one from the
// rest.
func asExpected(rows [][]*Probe) (held, rest [][]*Probe) {
	for _, row := range rows {
		if slices.ContainsFunc(row, func(p *Probe) bool { return p.Result != AsExpected }) {
			rest = append(rest, row)
		} else {
			held = append(held, row)
		}
	}
	return held, rest
}

// folded writes rows that all went as they must in a few lines: for each answer and
// each layer that refused how many there are, and their names below. A refusal that
// names no layer, as every HEAD's, goes with the others. It returns the title for
// the row that follows, which is empty once it has been written.
func (t *textReport) folded(title string, rows [][]*Probe) string {
	for len(rows) > 0 {
		var labels []string
		var probes []*Probe
		want, by := rows[0][0].Expected, refusing(rows[0])
		rows = slices.DeleteFunc(rows, func(row []*Probe) bool {
			layer := refusing(row)
			if row[0].Expected != want || layer != by && layer != layerNotSaid {
				return false
			}
			labels, probes = append(labels, row[0].label), append(probes, row...)
			return true
		})
		ways := fmt.Sprintf("%d ways", len(labels))
		if len(labels) == 1 {
			ways = "1 way"
		}
		t.line(t.cells(title, ways, probes))
		for _, l := range wrap(strings.Join(labels, " · "), width-2-colGroup-2) {
			t.line(t.paint(dim, "  "+pad("", colGroup+2)+l))
		}
		title = ""
	}
	return title
}

// refusing is the layer that refused a row, the first where they differ.
func refusing(row []*Probe) string {
	by := ""
	for _, p := range row {
		if by == "" || by == layerNotSaid {
			by = layerShort(p.RefusedBy)
		}
	}
	return by
}

// rows gathers the probes of a group that differ in their tenant alone.
func (t *textReport) rows(group string) [][]*Probe {
	var rows [][]*Probe
	at := map[string]int{}
	for _, p := range t.Probes {
		if p.Group != group {
			continue
		}
		id := p.ID
		if p.about != "" {
			id = strings.TrimSuffix(id, "."+p.about)
		}
		i, known := at[id]
		if !known {
			i = len(rows)
			at[id] = i
			rows = append(rows, nil)
		}
		rows[i] = append(rows[i], p)
	}
	return rows
}

// untried reports whether none of a group's probes was made; one line says that
// as well as thirty.
func untried(rows [][]*Probe) bool {
	for _, row := range rows {
		for _, p := range row {
			if p.Actual != NotTried {
				return false
			}
		}
	}
	return true
}

func (t *textReport) row(title string, probes []*Probe) {
	t.line(t.cells(title, probes[0].label, probes))
}

// cells is a line of the table: what was asked, what it must come to, the answer
// to each tenant and the layers that refused.
func (t *textReport) cells(title, label string, probes []*Probe) string {
	want := map[Answer]string{Allowed: "allowed", Denied: "refused", Held: "no effect"}[probes[0].Expected]
	cells := [2]string{pad("", colActor), pad("", colActor)}
	for _, p := range probes {
		i := 0 // an actor who is neither tenant stands in the first column
		if p.Actor == t.Tenants[1].Name || p.about == t.Tenants[1].Name {
			i = 1
		}
		cells[i] = t.cell(p)
	}
	return "  " + pad(title, colGroup) + pad(clip(label, colLabel-1), colLabel) + pad(want, colWant) +
		cells[0] + cells[1] + t.refusedBy(probes)
}

// cell is an answer with its mark: as expected, against expectation, not known.
func (t *textReport) cell(p *Probe) string {
	mark, sgr := "✓ ", green
	switch p.Result {
	case Contrary:
		mark, sgr = "✗ ", red
	case NotShown:
		mark, sgr = "? ", yellow
	}
	word := map[Answer]string{Allowed: "allowed", Denied: "refused", Held: "no effect", NotTried: "not tried"}[p.Actual]
	switch {
	case p.Actual == Unclear:
		word = p.Code
	case p.After == "changed" || p.After == "gone":
		word = p.After
	case p.Result == Contrary:
		word = strings.ToUpper(word)
	}
	return t.paint(sgr, pad(mark+clip(word, colActor-3), colActor))
}

// refusedBy names the layers of a row, once each. An answer without a message, as
// every HEAD's, adds nothing where another one names the layer.
func (t *textReport) refusedBy(probes []*Probe) string {
	var layers []string
	for _, p := range probes {
		s := layerShort(p.RefusedBy)
		if s != "" && !strings.Contains(strings.Join(layers, "; "), s) {
			layers = append(layers, s)
		}
	}
	if len(layers) > 1 {
		layers = slices.DeleteFunc(layers, func(s string) bool { return s == "not said" })
	}
	return t.paint(dim, clip(strings.Join(layers, "; "), width-2-colGroup-colLabel-colWant-2*colActor))
}

func layerShort(r *Refusal) string {
	if r == nil {
		return ""
	}
	layer := map[string]string{
		"resource-based policy": "bucket policy", "identity-based policy": "identity", layerNotSaid: "not said",
	}[r.Layer]
	if layer == "" {
		layer = r.Layer
	}
	switch {
	case r.Explicit:
		return "deny, " + layer
	case layer == "not said":
		return layer
	}
	return "no allow, " + layer
}

func (t *textReport) reasons() {
	const most = 6
	t.list("observed, and must not be", t.Broken, most)
	var gaps []string
	for _, g := range t.Unobserved {
		gaps = append(gaps, fmt.Sprintf("%s: %s. %s", some(g.Probes), strings.TrimSuffix(g.Why, "."), g.Do))
	}
	if t.Verdict == Broken {
		t.list("not observed", gaps, 2) // mostly for want of what is broken
	} else {
		t.list("not observed", gaps, most)
	}
	var causes []string
	for _, c := range t.Causes {
		contained := ""
		if c.Contained {
			contained = " (contained by the other documents)"
		}
		causes = append(causes, fmt.Sprintf("%s%s: %s %s", c.Fault, contained, c.Evidence, c.Fix))
	}
	t.list("why", causes, len(causes))
	t.list("left behind, delete by hand", t.Leftovers, most)
	t.painted(dim, "not tried", strings.Join(t.NotTried, "; "))
	t.field("naive", "“"+t.Naive+"”")
	t.field("true", t.Truth)
	verdict := t.verdict()
	if t.Target.Note != "" {
		verdict += "  (" + t.Target.Note + ")"
	}
	t.line("  " + pad("verdict", 10) + verdict)
}

func (t *textReport) verdict() string {
	sgr := map[Verdict]string{Proven: green, Broken: red, Inconclusive: yellow}[t.Verdict]
	return t.paint(bold+";"+sgr, string(t.Verdict))
}

func (t *textReport) list(title string, items []string, most int) {
	if len(items) == 0 {
		return
	}
	t.line(t.paint(bold, "  "+title))
	for i, item := range items {
		if i == most {
			t.line(fmt.Sprintf("    … and %d more (see the JSON report)", len(items)-most))
			break
		}
		for j, l := range wrap(item, width-6) {
			lead := "  - "
			if j > 0 {
				lead = "    "
			}
			t.line("  " + lead + l)
		}
	}
	t.line("")
}

// some names the first probes of a gap and counts the rest.
func some(names []string) string {
	const most = 2
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func pad(s string, to int) string {
	return s + strings.Repeat(" ", max(0, to-utf8.RuneCountInString(s)))
}

// clip shortens s to at most n characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// wrap breaks s at spaces; a word longer than the line is broken where it must.
func wrap(s string, at int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		for utf8.RuneCountInString(word) > at {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			runes := []rune(word)
			lines, word = append(lines, string(runes[:at])), string(runes[at:])
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > at:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}
