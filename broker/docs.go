package broker

import (
	_ "embed"
	"io"
	"slices"
	"strconv"
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"agentkeys/api"
)

// openAPI is the description of the API. A test holds every route and every
// answer to it.
//
//go:embed openapi.json
var openAPI []byte

//go:embed pages/runbook.html
var runbookPage string

func (b *Broker) serveOpenAPI(c *call) error {
	c.w.Header().Set("Content-Type", "application/json")
	_, _ = c.w.Write(openAPI)
	return nil
}

// serveRunbook is the page that the type of every error points at.
func (b *Broker) serveRunbook(c *call) error {
	header := c.w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = io.WriteString(c.w, strings.Replace(runbookPage, "{{errors}}", errorSections().String(), 1))
	return nil
}

// errorSections are what the page says of each error.
func errorSections() g.Group {
	return g.Map(slices.Sorted(slices.Values(api.Codes())), func(code api.Code) g.Node {
		kind := api.KindOf(code)
		return g.Group{h.Section(h.ID(string(code)),
			h.H3(g.Text(string(code)+" "), h.Small(g.Text("HTTP "+strconv.Itoa(kind.Status)))),
			h.P(g.Text(kind.Title+".")),
			h.P(g.Text(kind.Remediation)),
		), g.Text("\n")}
	})
}
