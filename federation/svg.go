package federation

import (
	"fmt"
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// svg is the picture, which says the same in words.
func (p picture) svg() g.Node {
	var words string
	for _, place := range p.Places {
		for _, r := range place.Rows {
			words += r.Full + ". "
		}
	}
	return g.El("svg", h.Class("who"), g.Attr("viewBox", p.Box()), h.Role("img"), h.Aria("labelledby", "who-title who-text"), newline,
		g.El("title", h.ID("who-title"), g.Text("Who reached what")), newline,
		g.El("desc", h.ID("who-text"), g.Text(words)), newline,
		box("gate", pictureGateLeft, p.Gate.Top, pictureGateRight-pictureGateLeft, p.Gate.Height), newline,
		label("name", (pictureGateLeft+pictureGateRight)/2, p.Gate.Top, 14, "STS", g.Attr("text-anchor", "middle")), newline,
		g.Map(p.Lines, pictureLine.svg),
		g.Map(p.Callers, pictureCaller.svg),
		g.Map(p.Places, picturePlace.svg),
	)
}

func (l pictureLine) svg() g.Node {
	return g.Group{g.El("g", h.Class(string(l.Outcome)), g.El("title", g.Text(l.Full)), path("line", l.Path()), lineEnd(l.Outcome, l.X2, l.Y2)), newline}
}

// lineEnd is an arrow's head where the line arrives, a dot where nobody saw, and a bar
// where it was stopped.
func lineEnd(o reach, x, y int) g.Node {
	switch o {
	case outReached, outBreach:
		return path("end", fmt.Sprintf("M%d %dl-7 -4v8z", x, y))
	case outUnseen:
		return g.El("circle", h.Class("end"), units("cx", x), units("cy", y), g.Attr("r", "3.5"))
	}
	return path("end", fmt.Sprintf("M%d %dm-2 -6v12", x, y))
}

func (c pictureCaller) svg() g.Node {
	return g.Group{g.El("g",
		box("box", 0, c.Y-17, pictureCallerWidth, 34), newline,
		label("name", 7, c.Y, -3, c.Short()), label("small", 7, c.Y, 11, c.Note)), newline}
}

func (p picturePlace) svg() g.Node {
	return g.Group{g.El("g",
		box("box", picturePlaceLeft, p.Top, 174, p.Height), newline,
		label("name", picturePlaceLeft+7, p.Top, 16, p.Name), newline,
		g.Map(p.Rows, pictureRow.svg)), newline}
}

func (r pictureRow) svg() g.Node {
	return g.Group{g.El("g", h.Class(string(r.Outcome)), g.El("title", g.Text(r.Full)),
		label("", picturePlaceLeft+7, r.Y, 4, r.Mark), label("", picturePlaceLeft+20, r.Y, 4, r.Text),
		label("", picturePlaceLeft+168, r.Y, 4, r.Count, g.Attr("text-anchor", "end"))), newline}
}

// legend shows each kind of line once.
func legend() g.Node {
	item := func(o reach, to, end int, text string) g.Node {
		return g.Group{h.Li(h.Class(string(o)), g.El("svg", g.Attr("viewBox", "0 0 44 14"), h.Aria("hidden", "true"),
			path("line", fmt.Sprintf("M1 7H%d", to)), lineEnd(o, end, 7)), g.Text(text)), newline}
	}
	return h.FigCaption(newline, h.Ul(h.Class("legend"), newline,
		item(outReached, 40, 42, "reached, as it must"),
		item(outRefused, 40, 42, "refused, as it must be"),
		item(outBreach, 38, 42, "reached, and must not"),
		item(outKeptOut, 40, 42, "kept out of its own"),
		item(outUnseen, 37, 39, "not observed"),
	), newline)
}

func units(name string, n int) g.Node { return g.Attr(name, strconv.Itoa(n)) }

func path(class, d string) g.Node { return g.El("path", h.Class(class), g.Attr("d", d)) }

func box(class string, x, y, width, height int) g.Node {
	return g.El("rect", h.Class(class), units("x", x), units("y", y), units("width", width), units("height", height), units("rx", 4))
}

// label is text whose base line is dy below y.
func label(class string, x, y, dy int, text string, attributes ...g.Node) g.Node {
	return g.El("text", g.If(class != "", h.Class(class)), units("x", x), units("y", y), units("dy", dy), g.Group(attributes), g.Text(text))
}
