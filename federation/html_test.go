package federation

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// htmlPage is what a browser would make of a page: its elements with their
// attributes, and the text between them.
type htmlPage struct {
	elements []xml.StartElement
	text     string
	texts    map[string][]string // by the element around
}

func asHTML(t *testing.T, r *Report) (string, htmlPage) {
	t.Helper()
	var out bytes.Buffer
	if err := r.WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(out.Bytes()))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	p := htmlPage{texts: map[string][]string{}}
	var open []string
	var all strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			p.elements = append(p.elements, token.Copy())
			open = append(open, token.Name.Local)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			all.Write(token)
			if len(open) > 0 {
				p.texts[open[len(open)-1]] = append(p.texts[open[len(open)-1]], string(token))
			}
		case xml.Comment:
			t.Errorf("the page has a comment %q", token)
		}
	}
	p.text = all.String()
	return out.String(), p
}

// checkInert holds what is true of every page: it has no element and no attribute
// but ours, none of which can run or load anything, and its policy says so too.
func checkInert(t *testing.T, raw string, p htmlPage) {
	t.Helper()
	elements := strings.Fields(`html head meta title style body main header section footer h1 h2 h3 p b br span code small ul li dl dt dd
		figure figcaption svg desc g rect text path circle table thead tbody tr th td`)
	attributes := strings.Fields(`lang charset http-equiv content name class id viewBox role aria-labelledby aria-hidden
		x y dy width height rx d cx cy r text-anchor`)
	for _, e := range p.elements {
		if !slices.Contains(elements, e.Name.Local) {
			t.Errorf("the page has an element <%s>", e.Name.Local)
		}
		for _, a := range e.Attr {
			if !slices.Contains(attributes, a.Name.Local) {
				t.Errorf("<%s> has an attribute %s", e.Name.Local, a.Name.Local)
			}
			if strings.Contains(a.Value, "//") || strings.Contains(a.Value, "javascript:") {
				t.Errorf("<%s %s> names a resource: %q", e.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
	_, rest, _ := strings.Cut(raw, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	if !slices.ContainsFunc(p.elements, func(e xml.StartElement) bool {
		return e.Name.Local == "meta" && attr(e, "http-equiv") == "Content-Security-Policy" && attr(e, "content") == policy
	}) {
		t.Errorf("the page has no policy %s", policy)
	}
	if regexp.MustCompile(`url\(|@import|expression`).MatchString(style) {
		t.Error("the style loads something")
	}
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// reports are one of each verdict.
func reports(t *testing.T) map[Verdict]*Report {
	t.Helper()
	a := hardenedAccount(t)
	all := map[Verdict]*Report{Proven: prove(t, a.proof(t))}
	p := a.proof(t)
	p.Control = nil
	all[Inconclusive] = prove(t, p)
	a = newAccount(t)
	d, inline, err := Break(a.config, render(t, a.config, Plain), Faults()...)
	if err != nil {
		t.Fatal(err)
	}
	a.setUp(t, d, inline)
	p = a.proof(t)
	for i, tenant := range p.Tenants {
		p.Tenants[i].Token = a.issuer.minter(t, tenant.Tag, withoutTags)
	}
	all[Broken] = prove(t, p)
	return all
}

func TestPageHoldsTheReport(t *testing.T) {
	for verdict, r := range reports(t) {
		if r.Verdict != verdict {
			t.Fatalf("%s, want %s", r.Verdict, verdict)
		}
		raw, p := asHTML(t, r)
		checkInert(t, raw, p)
		for _, want := range []string{string(verdict), "local AWS", "only a run against AWS proves AWS", r.Truth, r.Target.STS} {
			if !strings.Contains(p.text, want) {
				t.Errorf("%s: the page does not say %q", verdict, want)
			}
		}
		checkRows(t, r, p)
		for _, secret := range []string{"eyJ", "ASIA", "AKIA"} {
			if strings.Contains(raw, secret) {
				t.Errorf("%s: the page holds %q", verdict, secret)
			}
		}
		for _, g := range r.Unobserved {
			if !strings.Contains(p.text, g.Why) || !strings.Contains(p.text, g.Do) {
				t.Errorf("%s: the page does not say that %s, nor: %s", verdict, g.Why, g.Do)
			}
		}
		for _, c := range r.Causes {
			if !strings.Contains(p.text, c.Evidence) || !strings.Contains(p.text, c.Fix) {
				t.Errorf("%s: the page lacks the cause %s", verdict, c.Fault)
			}
		}
		if !strings.Contains(p.text, strings.Join(r.NotTried, "; ")) {
			t.Errorf("%s: the page does not say what was not tried", verdict)
		}
	}
}

// checkRows wants a row for each probe, with its class.
func checkRows(t *testing.T, r *Report, p htmlPage) {
	t.Helper()
	rows := map[string]int{}
	for _, e := range p.elements {
		if e.Name.Local == "tr" && attr(e, "id") != "" {
			rows[attr(e, "class")]++
		}
	}
	for _, result := range []Result{AsExpected, Contrary, NotShown} {
		if rows[string(result)] != r.count(result) {
			t.Errorf("%s: %d rows are %s, want %d", r.Verdict, rows[string(result)], result, r.count(result))
		}
	}
	shown := strings.Join(p.texts["code"], "\n") + "\n"
	for _, probe := range r.Probes {
		if !strings.Contains(shown, probe.ID+"\n"+probe.Action+"\n"+probe.Resource+"\n") {
			t.Errorf("%s: the page lacks the probe %s of %s", r.Verdict, probe.ID, probe.Actor)
		}
		if said := probe.RefusedBy.String(); !strings.Contains(p.text, said) {
			t.Errorf("%s: the page does not say %q", r.Verdict, said)
		}
	}
}

// Whatever text comes from outside stays text.
func TestPageIsInert(t *testing.T) {
	all := reports(t)
	for _, hostile := range []string{
		`"><script>alert(1)</script>`, `' onload='alert(1)`, `</style><style>@import "//evil.example"`, `</title><img src=x onerror=alert(1)>`,
		`]]><svg onload=alert(1)>`, `<!-- `, `{{.Config}}`, `javascript:alert(1)`, `&lt;b&gt;&#60;`, `M0 0"/><script>`, "a\x00b\u2028",
	} {
		for verdict, r := range all {
			poison(reflect.ValueOf(r).Elem(), hostile)
			raw, p := asHTML(t, r)
			checkInert(t, raw, p)
			if strings.ContainsRune(hostile, 0) {
				continue // HTML has no way to write it
			}
			if n := strings.Count(p.text, hostile); n < len(r.Probes) {
				t.Errorf("%s: the page has the text %q %d times, want once for each of %d probes", verdict, hostile, n, len(r.Probes))
			}
		}
	}
}

// poison puts text in the place of every string but those by which the page sorts
// probes, which are never from outside.
func poison(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() && v.Type() == reflect.TypeFor[string]() {
			v.SetString(text)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem(), text)
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Type() != reflect.TypeFor[time.Time]() && name != "Group" && name != "Action" {
				poison(v.Field(i), text)
			}
		}
	}
}

// A report that came to nothing makes a page all the same.
func TestPageOfNothing(t *testing.T) {
	raw, p := asHTML(t, &Report{Verdict: Inconclusive})
	checkInert(t, raw, p)
}

// The picture says who reached what.
func TestPicture(t *testing.T) {
	all := reports(t)
	for _, test := range []struct {
		Verdict
		caller string
		want   [3]reach // at alice's prefix, at bob's, at the rest; "" where nothing was tried
	}{
		{Proven, "alice", [3]reach{outReached, outRefused, outRefused}},
		{Proven, "bob", [3]reach{outRefused, outReached, outRefused}},
		{Proven, "untagged", [3]reach{}},
		{Proven, "anonymous", [3]reach{outRefused, outRefused, ""}},
		{Broken, "alice", [3]reach{outKeptOut, outBreach, outBreach}},
		{Broken, "untagged", [3]reach{outBreach, outBreach, ""}},
		{Broken, "anonymous", [3]reach{outRefused, outRefused, ""}},
	} {
		r := all[test.Verdict]
		var got [3]reach
		for i := range got {
			if probes := r.probesAt(test.caller, i); len(probes) > 0 {
				got[i], _ = together(probes)
			}
		}
		if got != test.want {
			t.Errorf("%s: %s reached %q, want %q", test.Verdict, test.caller, got, test.want)
		}
	}
	for _, id := range []string{"near.dots_get", "near.dots_list", "near.dots_put"} {
		if at := all[Proven].placeOf(find(t, all[Proven], id, "alice")); at != 1 {
			t.Errorf("alice's %s is drawn at place %d, want bob's prefix, 1", id, at)
		}
	}
	gate := map[Verdict]reach{Proven: outRefused, Broken: outBreach, Inconclusive: outUnseen}
	for verdict, r := range all {
		if got, _ := together([]*Probe{r.sessionOf(untagged)}); got != gate[verdict] {
			t.Errorf("%s: the untagged token at STS: %s, want %s", verdict, got, gate[verdict])
		}
		drawn := 0
		for i := range 3 {
			for _, c := range r.pictureCallers() {
				drawn += len(r.probesAt(c.Name, i))
			}
		}
		asked := slices.DeleteFunc(slices.Clone(r.Probes), func(p *Probe) bool {
			return p.Group == "seed" || !strings.HasPrefix(p.Action, "s3:")
		})
		if drawn != len(asked) {
			t.Errorf("%s: the picture has %d requests to S3, want %d", verdict, drawn, len(asked))
		}
	}
}

// Nothing in the picture lies outside of it or over something else.
func TestPictureFits(t *testing.T) {
	for verdict, r := range reports(t) {
		pic := r.picture()
		bottom := 0
		for _, p := range pic.Places {
			if p.Top < bottom || p.Top+p.Height > pic.Height {
				t.Errorf("%s: %s lies from %d to %d, the one above ends at %d, the picture at %d", verdict, p.Name, p.Top, p.Top+p.Height, bottom, pic.Height)
			}
			bottom = p.Top + p.Height
			for _, row := range p.Rows {
				if row.Y < p.Top+pictureTitle || row.Y > bottom {
					t.Errorf("%s: %s: a row lies outside of its place", verdict, row.Full)
				}
			}
		}
		for i, c := range pic.Callers {
			if c.Y-17 < 0 || c.Y+17 > pic.Height || i > 0 && c.Y-pic.Callers[i-1].Y < 36 {
				t.Errorf("%s: %s at %d does not fit", verdict, c.Name, c.Y)
			}
		}
		for _, l := range pic.Lines {
			if l.X2 != pictureGateLeft && l.X2 != picturePlaceLeft {
				t.Errorf("%s: %s: the line ends at %d", verdict, l.Full, l.X2)
			}
		}
	}
}

func TestEnds(t *testing.T) {
	for _, test := range []struct{ s, want string }{
		{"anonymous", "anonymous"}, {"tenant-number-1", "tena…er-1"}, {"tenant-number-2", "tena…er-2"}, {"ñandúñandúñ", "ñand…ndúñ"},
	} {
		if got := ends(test.s, 9); got != test.want {
			t.Errorf("ends(%q, 9) = %q, want %q", test.s, got, test.want)
		}
	}
}
