package broker

import (
	"bytes"
	_ "embed"
	"html/template"
	"slices"

	"agentkeys/api"
)

// openAPI is the description of the API. A test holds every route and every
// answer to it.
//
//go:embed openapi.json
var openAPI []byte

//go:embed pages/runbook.html
var runbookPage string

var runbookTemplate = template.Must(template.New("runbook").Parse(runbookPage))

func (b *Broker) serveOpenAPI(c *call) error {
	c.w.Header().Set("Content-Type", "application/json")
	_, _ = c.w.Write(openAPI)
	return nil
}

// serveRunbook is the page that the type of every error points at.
func (b *Broker) serveRunbook(c *call) error {
	type entry struct {
		Code api.Code
		api.Kind
	}
	var entries []entry
	for _, code := range slices.Sorted(slices.Values(api.Codes())) {
		entries = append(entries, entry{code, api.KindOf(code)})
	}
	var page bytes.Buffer
	if err := runbookTemplate.Execute(&page, entries); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = c.w.Write(page.Bytes())
	return nil
}
