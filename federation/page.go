package federation

import (
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// The page is made of elements, not of text: every text and every value of an
// attribute is escaped, and the style is the one thing that is written as it stands.
// No attribute may hold an address or a script, for which that would not do; a test
// has the list of those that there are.

// newline ends an element's line, for whoever reads the source.
var newline = g.Text("\n")

func (v view) page() g.Node {
	return h.Doctype(h.HTML(h.Lang("en"),
		v.head(), newline,
		h.Body(newline,
			h.Main(newline,
				v.verdict(), newline,
				v.glance(), newline,
				h.Section(newline, h.H2(g.Text("Who reached what")), newline, h.Figure(v.picture().svg(), newline, legend()), newline), newline,
				v.seen(),
				v.unobserved(),
				v.causes(),
				v.speaksFor(), newline,
				h.Section(newline, h.H2(g.Text("All probes")), newline, g.Map(v.Groups, viewGroup.table)), newline,
			), newline,
			h.Footer(h.P(g.Text("PROVEN: all that must be allowed was, and all that must be refused was, for the right reason and beside its controls. "+
				"BROKEN: a way in, or an owner kept out, was really observed. INCONCLUSIVE: something could not be observed. "+
				"A proof speaks for its moment, its target and its two tenants."))), newline,
		), newline,
	))
}

func (v view) head() g.Node {
	return h.Head(newline,
		h.Meta(h.Charset("utf-8")), newline,
		h.Meta(g.Attr("http-equiv", "Content-Security-Policy"),
			h.Content("default-src 'none'; style-src '"+styleHash+"'; base-uri 'none'; form-action 'none'")), newline,
		h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")), newline,
		h.Meta(h.Name("referrer"), h.Content("no-referrer")), newline,
		h.TitleEl(g.Textf("%s: isolation proof of %s, %s", v.Verdict, v.Target.Name, utc(v.StartedAt))), newline,
		h.StyleEl(g.Raw(pageStyle)), newline,
	)
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

var verdictClasses = map[Verdict]string{Proven: "proven", Broken: "broken", Inconclusive: "inconclusive"}

// verdict is what the page says first.
func (v view) verdict() g.Node {
	class, known := verdictClasses[v.Verdict]
	if !known {
		class = verdictClasses[Inconclusive]
	}
	return h.Header(h.Class("head "+class), newline,
		h.H1(g.Text("AgentKeys isolation proof")), newline,
		h.P(h.Class("verdict"), g.Text(string(v.Verdict))), newline,
		h.P(h.Class("soft"), g.Textf("A look at the own prefix alone says: “%s”", v.Naive)), newline,
		h.P(h.Class("truth"), g.Text(v.Truth)), newline,
		h.P(h.Class("target"), g.Text("Target: "), h.B(g.Text(v.Target.Name)),
			g.If(v.Target.Note != "", g.Group{g.Text(" "), h.Span(h.Class("note"), g.Text(v.Target.Note))})), newline,
		h.P(h.Class("soft"), g.Textf("%s, %.1f s. %s.", utc(v.StartedAt), v.FinishedAt.Sub(v.StartedAt).Seconds(), tally(v.Probes))), newline,
	)
}

func (v view) glance() g.Node {
	item := func(name string, a Answer) g.Node {
		return g.Group{h.Li(h.Span(g.Text(name)), g.Text(" "), h.B(g.Text(answerWord(a)))), newline}
	}
	return h.Ul(h.Class("glance"), newline,
		item("own token at STS", v.AtAGlance.Session),
		item("own object", v.AtAGlance.Own),
		item("the other’s object", v.AtAGlance.Foreign),
		item("token without a tag", v.AtAGlance.Untagged),
	)
}

// list is a section with a list in it, and nothing where there is nothing to list.
func list[T any](title string, items []T, item func(T) g.Node, after ...g.Node) g.Node {
	if len(items) == 0 {
		return nil
	}
	lines := g.Map(items, func(t T) g.Node { return g.Group{h.Li(item(t)), newline} })
	return g.Group{h.Section(newline, h.H2(g.Text(title)), newline, h.Ul(newline, lines, g.Group(after)), newline), newline}
}

func (v view) seen() g.Node {
	more := g.If(v.MoreSeen > 0, g.Group{
		h.Li(h.Class("soft"), g.Textf("and %d more, marked ✗ in the table of all probes", v.MoreSeen)), newline})
	return list("Observed, and must not be", v.HeadSeen(), g.Text, more)
}

func (v view) unobserved() g.Node {
	return list("Not observed", v.Unobserved, func(gap Gap) g.Node {
		return g.Group{g.Text(gap.Why + ". "), h.B(g.Text(gap.Do)), g.Text(" "), fine(g.Text(some(gap.Probes)))}
	})
}

func (v view) causes() g.Node {
	return list("Why", v.Causes, func(c Cause) g.Node {
		return g.Group{h.B(g.Text(string(c.Fault))), g.If(c.Contained, g.Text(" (contained by the other documents)")),
			g.Text(": " + c.Evidence + " "), h.B(g.Text(c.Fix))}
	})
}

func code(text string) g.Node { return h.Code(g.Text(text)) }

func fine(content ...g.Node) g.Node { return h.Span(h.Class("fine"), g.Group(content)) }

func (v view) speaksFor() g.Node {
	item := func(name string, content ...g.Node) g.Node {
		return g.Group{h.Dt(g.Text(name)), h.Dd(content...), newline}
	}
	c := v.Config
	where := ", " + c.Region
	if v.Documents != "" {
		where += ", " + string(v.Documents) + " documents"
	}
	return h.Section(newline,
		h.H2(g.Text("What the proof speaks for")), newline,
		h.Dl(newline,
			item("target", g.Textf("%s (%s)", v.Target.Name, v.Target.Kind)),
			item("STS", code(v.Target.STS)),
			item("S3", code(v.Target.S3)),
			item("issuer", code(c.Issuer), g.Text(", audience "), code(c.Audience)),
			item("role", code(c.RoleARN())),
			item("bucket", code("s3://"+c.Bucket+"/"+c.Prefix+"/"), g.Text(where)),
			item("session tag", code(c.TagKey)),
			g.Map(v.Tenants, func(t TenantReport) g.Node { return item(t.Name, code(t.Tag), newline, fine(t.evidence()...)) }),
		), newline,
		h.P(h.B(g.Text("Not tried by a proof of this kind:")), g.Text(" "+strings.Join(v.NotTried, "; ")+".")), newline,
		g.If(len(v.Leftovers) > 0, g.Group{
			h.P(h.B(g.Text("Left behind, delete by hand:"))), newline,
			h.Ul(newline, g.Map(v.Leftovers, func(name string) g.Node { return g.Group{h.Li(code(name)), newline} })), newline,
		}),
	)
}

// evidence is what is known of the tenant's token and session.
func (t TenantReport) evidence() []g.Node {
	var nodes []g.Node
	switch t.TokenTag {
	case t.Tag:
		nodes = append(nodes, g.Text("its token carries this tag"))
	case "":
		nodes = append(nodes, g.Text("no tag was read from its token"))
	default:
		nodes = append(nodes, g.Text("its token carries another tag, "), code(t.TokenTag))
	}
	if t.Session == "" {
		return append(nodes, g.Text("; it got no session"))
	}
	return append(nodes, g.Text("; session "), code(t.Session))
}

func (p viewGroup) table() g.Node {
	return g.Group{
		h.H3(g.Text(p.Title), h.Small(g.Text(p.Tally))), newline,
		h.Table(newline,
			h.THead(h.Tr(h.Th(h.Class("what"), g.Text("probe")), h.Th(h.Class("want"), g.Text("must be")),
				h.Th(h.Class("got"), g.Text("was")), h.Th(g.Text("refused by, and what was said")))), newline,
			h.TBody(newline, g.Map(p.Probes, viewProbe.tableRow)), newline,
		), newline,
	}
}

func (p viewProbe) tableRow() g.Node {
	return g.Group{h.Tr(h.ID("probe-"+strconv.Itoa(p.Number)), h.Class(string(p.Result)),
		h.Td(h.Class("what"), h.B(g.Text(p.Actor)), g.Text(": "+p.What+" "),
			fine(code(p.ID), g.Text(" · "), code(p.Action), h.Br(), code(p.Resource))),
		h.Td(h.Class("want"), g.Text(answerWord(p.Expected))),
		h.Td(h.Class("got"), g.Text(p.Mark+" "+p.Word)),
		h.Td(p.said()),
	), newline}
}

// said is who refused, and what else is to be told of the answer.
func (p viewProbe) said() g.Node {
	var nodes g.Group
	if p.RefusedBy != nil {
		nodes = append(nodes, g.Text(p.RefusedBy.String()))
	}
	switch p.After {
	case "":
	case "unchanged":
		nodes = append(nodes, g.Text(" The object is unchanged."))
	default:
		nodes = append(nodes, g.Text(" "), h.B(g.Textf("The object is %s.", p.After)))
	}
	if p.Do != "" {
		nodes = append(nodes, g.Text(" "), h.B(g.Text(p.Do)))
	}
	if p.Why != "" {
		nodes = append(nodes, g.Text(" "), fine(g.Text(p.Why)))
	}
	return nodes
}
