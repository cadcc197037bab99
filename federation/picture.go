package federation

import (
	"fmt"
	"strings"
)

// picture is who reached what, drawn: the callers on the left, STS before them, the
// places on the right. A line says by its shape, and not by its colour alone, what
// the attempts came to.
type picture struct {
	Height  int
	Callers []pictureCaller
	Gate    pictureGate
	Places  []picturePlace
	Lines   []pictureLine
}

type pictureCaller struct {
	Name, Note string
	Y          int // its middle
}

// Short is the name as it fits.
func (c pictureCaller) Short() string { return ends(c.Name, 12) }

type pictureGate struct{ Top, Height int }

type picturePlace struct {
	Name        string
	Top, Height int
	Rows        []pictureRow
}

type pictureRow struct {
	Y       int // its middle
	Outcome reach
	Mark    string
	Text    string
	Count   string
	Full    string // without shortening
}

// pictureLine goes from (X1, Y1) to (X2, Y2), where its end is drawn.
type pictureLine struct {
	X1, Y1, X2, Y2 int
	Outcome        reach
	Full           string
}

// Path is the line for SVG, a curve that leaves and arrives level.
func (l pictureLine) Path() string {
	if l.X2 == pictureGateLeft {
		return fmt.Sprintf("M%d %dH%d", l.X1, l.Y1, l.X2)
	}
	middle := (pictureGateRight + l.X2) / 2
	return fmt.Sprintf("M%d %dH%dC%d %d %d %d %d %d", l.X1, l.Y1, pictureGateRight, middle, l.Y1, middle, l.Y2, l.X2, l.Y2)
}

// reach is what the attempts of one caller on one place came to together. Its
// value is the class that the page paints it by.
type reach string

const (
	outReached reach = "reached" // as it must
	outRefused reach = "refused" // as it must be
	outBreach  reach = "breach"  // reached what it must not
	outKeptOut reach = "keptout" // refused what is its own
	outUnseen  reach = "unseen"  // not all of it could be observed
)

// together is the reach of several probes, the worst that any of them shows. of is
// how many of them show it.
func together(probes []*Probe) (o reach, of int) {
	var breach, keptOut, unseen, allowed int
	for _, p := range probes {
		switch {
		case p.Result == NotShown:
			unseen++
		case p.Result == Contrary && p.Expected == Allowed:
			keptOut++
		case p.Result == Contrary:
			breach++
		case p.Expected == Allowed:
			allowed++
		}
	}
	switch {
	case breach > 0:
		return outBreach, breach
	case keptOut > 0:
		return outKeptOut, keptOut
	case unseen > 0:
		return outUnseen, unseen
	case allowed > 0:
		return outReached, allowed
	}
	return outRefused, len(probes)
}

// Sizes of the picture, in units of which a phone's screen is about as wide as the
// picture has.
const (
	pictureCallerWidth = 86
	pictureGateLeft    = 110
	pictureGateRight   = 134
	picturePlaceLeft   = 188
	pictureTitle       = 24 // height of a place's title
	pictureRowHeight   = 19
	pictureGap         = 12
	pictureCallerSpan  = 46 // least distance of two callers
)

// Box is what the SVG shows, with room for the lines' width.
func (p picture) Box() string { return fmt.Sprintf("-1 -1 364 %d", p.Height+2) }

// picture arranges the report's probes.
func (r *Report) picture() picture {
	callers := r.pictureCallers()
	var pic picture
	y := 0
	arrive := map[string][]pictureEnd{}
	for i, name := range r.placeNames() {
		place := picturePlace{Name: ends(name, 26), Top: y}
		at := y + pictureTitle
		for _, c := range callers {
			probes := r.probesAt(c.Name, i)
			if len(probes) == 0 {
				continue
			}
			row := newPictureRow(c.Name, name, probes, at+pictureRowHeight/2)
			place.Rows = append(place.Rows, row)
			arrive[c.Name] = append(arrive[c.Name], pictureEnd{row.Y, row.Outcome, row.Full})
			at += pictureRowHeight
		}
		place.Height = at + 5 - y
		y = at + 5 + pictureGap
		pic.Places = append(pic.Places, place)
	}
	pic.Height = max(y-pictureGap, pictureCallerSpan*len(callers))
	span := (pic.Height - 10) / len(callers)
	for i := range callers {
		callers[i].Y = span*i + span/2 + 5
	}
	pic.Callers = callers
	pic.Gate = pictureGate{Top: callers[0].Y - 29, Height: callers[len(callers)-2].Y - callers[0].Y + 46}
	for _, c := range callers {
		pic.Lines = append(pic.Lines, r.pictureLines(c, arrive[c.Name])...)
	}
	return pic
}

// pictureEnd is where a line arrives.
type pictureEnd struct {
	y     int
	reach reach
	full  string
}

// pictureCallers are the callers from above; the last one goes past STS.
func (r *Report) pictureCallers() []pictureCaller {
	var callers []pictureCaller
	for _, t := range r.Tenants {
		callers = append(callers, pictureCaller{Name: t.Name, Note: ends(t.Tag, 11)})
	}
	return append(callers, pictureCaller{Name: untagged, Note: "token, no tag"}, pictureCaller{Name: anonymous, Note: "no signature"})
}

// ends shortens s to n characters and keeps both ends, where names that belong
// together differ.
func ends(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	head := n / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(n-1-head):])
}

// pictureLines are a caller's line to STS and from there to each place that it
// tried.
func (r *Report) pictureLines(c pictureCaller, arrive []pictureEnd) []pictureLine {
	var lines []pictureLine
	from := pictureCallerWidth
	if session := r.sessionOf(c.Name); session != nil {
		o, _ := together([]*Probe{session})
		lines = append(lines, pictureLine{
			X1: from, Y1: c.Y, X2: pictureGateLeft, Y2: c.Y, Outcome: o, Full: session.Sentence,
		})
		from = pictureGateRight
		if session.Actual != Allowed {
			return lines
		}
	}
	for _, e := range arrive {
		lines = append(lines, pictureLine{X1: from, Y1: c.Y, X2: picturePlaceLeft, Y2: e.y, Outcome: e.reach, Full: e.full})
	}
	return lines
}

// sessionOf is the probe by which a caller asked for its session; nil for one who
// needs none.
func (r *Report) sessionOf(caller string) *Probe {
	for _, p := range r.Probes {
		if p.Actor == caller && (p.ID == "session" || p.ID == "control.untagged_token") {
			return p
		}
	}
	return nil
}

// placeNames are the places: a prefix for each tenant, and the rest.
func (r *Report) placeNames() []string {
	var names []string
	for _, t := range r.Tenants {
		names = append(names, t.Name+"'s prefix")
	}
	return append(names, "the rest of the bucket")
}

// probesAt are a caller's probes of a place.
func (r *Report) probesAt(caller string, place int) []*Probe {
	var probes []*Probe
	for _, p := range r.Probes {
		if p.Actor == caller && strings.HasPrefix(p.Action, "s3:") && r.placeOf(p) == place {
			probes = append(probes, p)
		}
	}
	return probes
}

// placeOf is the place that a probe is an attempt on. What climbs out of the own
// prefix is one on the other's.
func (r *Report) placeOf(p *Probe) int {
	key, inside := strings.CutPrefix(p.Resource, r.Config.BucketARN()+"/")
	if !inside {
		return len(r.Tenants)
	}
	if _, target, climbs := strings.Cut(key, "/../"); climbs {
		key = r.Config.TenantPrefix(strings.SplitN(target, "/", 2)[0])
	}
	for i, t := range r.Tenants {
		if strings.HasPrefix(key, r.Config.TenantPrefix(t.Tag)) {
			return i
		}
	}
	return len(r.Tenants)
}

// pictureWords say in the picture what a reach is.
var pictureWords = map[reach]struct{ mark, text string }{
	outReached: {"✓", "reached"},
	outRefused: {"✓", "refused"},
	outBreach:  {"✗", "REACHED"},
	outKeptOut: {"✗", "KEPT OUT"},
	outUnseen:  {"?", "not seen"},
}

func newPictureRow(caller, place string, probes []*Probe, y int) pictureRow {
	o, n := together(probes)
	words := pictureWords[o]
	return pictureRow{
		Y: y, Outcome: o, Mark: words.mark, Text: ends(caller, 9) + " " + words.text,
		Count: fmt.Sprintf("%d/%d", n, len(probes)),
		Full:  fmt.Sprintf("%s at %s: %s, %d of %s", caller, place, words.text, n, count(len(probes), "probe")),
	}
}
