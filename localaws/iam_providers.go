package localaws

import (
	"net/url"
	"slices"
	"strings"
)

var providerOperations = map[string]operation{
	"CreateOpenIDConnectProvider": {writes: true, run: (*call).createProvider, resource: func(c *call) string {
		return c.state.arn("oidc-provider", "/", providerName(c.params["Url"]))
	}},
	"GetOpenIDConnectProvider":                {resource: providerResource, run: (*call).getProvider},
	"ListOpenIDConnectProviders":              {resource: listOf("oidc-provider"), run: (*call).listProviders},
	"DeleteOpenIDConnectProvider":             {writes: true, resource: providerResource, run: (*call).deleteProvider},
	"AddClientIDToOpenIDConnectProvider":      {writes: true, resource: providerResource, run: (*call).addClientID},
	"RemoveClientIDFromOpenIDConnectProvider": {writes: true, resource: providerResource, run: (*call).removeClientID},
	"UpdateOpenIDConnectProviderThumbprint":   {writes: true, resource: providerResource, run: (*call).updateThumbprint},
	"TagOpenIDConnectProvider":                {writes: true, resource: providerResource, run: (*call).tagProvider},
	"UntagOpenIDConnectProvider":              {writes: true, resource: providerResource, run: (*call).untagProvider},
	"ListOpenIDConnectProviderTags":           {resource: providerResource, run: (*call).listProviderTags},
}

const (
	maxClientIDs   = 100
	maxThumbprints = 5
)

var thumbprintPattern = newPattern(`[0-9a-fA-F]{40}`, `[0-9a-fA-F]{40}`)

// checkProviderURL takes https without port, query or user, and, as the one
// deviation from AWS, http on loopback with a port.
func checkProviderURL(text string) *apiError {
	u, err := url.Parse(text)
	plain := err == nil && u.Host != "" && u.User == nil && !strings.ContainsAny(text, "?#%") && u.Opaque == ""
	switch {
	case !plain:
	case u.Scheme == "https" && u.Port() == "" && !strings.HasSuffix(u.Host, ":") && strings.HasPrefix(text, "https://"):
		return nil
	case strings.HasPrefix(text, "http://") && u.Port() != "" &&
		(u.Hostname() == "127.0.0.1" || u.Hostname() == "localhost" || u.Hostname() == "::1"):
		return nil
	}
	return invalidInput("Invalid Open ID Connect Provider URL: want https without a port or a query, or http on loopback with a port, got %s", clip(text))
}

func (c *call) createProvider() (any, *apiError) {
	p := &provider{URL: c.params["Url"], Created: c.now.UTC()}
	var v violations
	v.text(c.params, "Url", true, 1, 255, nil)
	e := v.refusal()
	if e == nil {
		e = checkProviderURL(p.URL)
	}
	if e == nil {
		p.ClientIDs, e = c.clientIDs()
	}
	if e == nil {
		p.Thumbprints, e = c.thumbprints()
	}
	if e == nil {
		p.Tags, e = c.params.tags("Tags")
	}
	if e == nil {
		e = checkTags(p.Tags, "tags")
	}
	if e != nil {
		return nil, e
	}
	name := providerName(p.URL)
	if c.state.Providers[name] != nil {
		return nil, alreadyExists("Provider with url %s already exists.", p.URL)
	}
	c.state.Providers[name] = p
	return struct {
		OpenIDConnectProviderArn string
		Tags                     list[xmlTag]
	}{c.state.providerARN(p), xmlTags(p.Tags)}, nil
}

func (c *call) clientIDs() ([]string, *apiError) {
	ids, e := c.params.list("ClientIDList")
	if e != nil {
		return nil, e
	}
	var v violations
	for _, id := range ids {
		v.value(id, "clientIDList.member", 1, 255, nil)
	}
	if e := v.refusal(); e != nil {
		return nil, e
	}
	if len(ids) > maxClientIDs {
		return nil, limitExceeded("ClientIdsPerOpenIdConnectProvider", maxClientIDs)
	}
	return slices.Compact(slices.Sorted(slices.Values(ids))), nil
}

func (c *call) thumbprints() ([]string, *apiError) {
	prints, e := c.params.list("ThumbprintList")
	if e != nil {
		return nil, e
	}
	if len(prints) > maxThumbprints {
		return nil, invalidInput("Thumbprint list must contain fewer than %d entries.", maxThumbprints+1)
	}
	var v violations
	for _, p := range prints {
		v.value(p, "thumbprintList.member", 40, 40, thumbprintPattern)
	}
	return prints, v.refusal()
}

func (c *call) mustProvider() (*provider, *apiError) {
	var v violations
	v.text(c.params, "OpenIDConnectProviderArn", true, 20, 2048, nil)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	if p := c.state.providerByARN(c.params["OpenIDConnectProviderArn"]); p != nil {
		return p, nil
	}
	return nil, noSuchEntity("OpenIDConnect Provider not found for arn %s", clip(c.params["OpenIDConnectProviderArn"]))
}

// providerResource is the ARN as it was sent: it is what the call acts on, or
// it is no provider at all.
func providerResource(c *call) string { return c.params["OpenIDConnectProviderArn"] }

func (c *call) getProvider() (any, *apiError) {
	p, e := c.mustProvider()
	if e != nil {
		return nil, e
	}
	return struct {
		URL            string `xml:"Url"`
		ClientIDList   list[string]
		ThumbprintList list[string]
		CreateDate     string
		Tags           list[xmlTag]
	}{providerName(p.URL), list[string]{p.ClientIDs}, list[string]{p.Thumbprints}, timestamp(p.Created), xmlTags(p.Tags)}, nil
}

func (c *call) listProviders() (any, *apiError) {
	type entry struct{ Arn string }
	var all list[entry]
	for _, name := range sortedKeys(c.state.Providers) {
		all.Member = append(all.Member, entry{c.state.providerARN(c.state.Providers[name])})
	}
	return struct{ OpenIDConnectProviderList list[entry] }{all}, nil
}

// deleteProvider is idempotent, as its reference says: no error when there is none.
func (c *call) deleteProvider() (any, *apiError) {
	p, e := c.mustProvider()
	if e != nil && e.Code == "NoSuchEntity" {
		return nil, nil
	}
	if e != nil {
		return nil, e
	}
	delete(c.state.Providers, providerName(p.URL))
	return nil, nil
}

func (c *call) clientID() (*provider, string, *apiError) {
	p, e := c.mustProvider()
	if e != nil {
		return nil, "", e
	}
	var v violations
	v.text(c.params, "ClientID", true, 1, 255, nil)
	return p, c.params["ClientID"], v.refusal()
}

func (c *call) addClientID() (any, *apiError) {
	p, id, e := c.clientID()
	if e != nil {
		return nil, e
	}
	if slices.Contains(p.ClientIDs, id) {
		return nil, nil
	}
	if len(p.ClientIDs) >= maxClientIDs {
		return nil, limitExceeded("ClientIdsPerOpenIdConnectProvider", maxClientIDs)
	}
	p.ClientIDs = append(p.ClientIDs, id)
	return nil, nil
}

func (c *call) removeClientID() (any, *apiError) {
	p, id, e := c.clientID()
	if e != nil {
		return nil, e
	}
	p.ClientIDs = slices.DeleteFunc(p.ClientIDs, func(have string) bool { return have == id })
	return nil, nil
}

func (c *call) updateThumbprint() (any, *apiError) {
	p, e := c.mustProvider()
	if e != nil {
		return nil, e
	}
	p.Thumbprints, e = c.thumbprints()
	return nil, e
}

func (c *call) tagProvider() (any, *apiError) {
	p, e := c.mustProvider()
	if e != nil {
		return nil, e
	}
	return c.tag(&p.Tags)
}

func (c *call) untagProvider() (any, *apiError) {
	p, e := c.mustProvider()
	if e != nil {
		return nil, e
	}
	return c.untag(&p.Tags)
}

func (c *call) listProviderTags() (any, *apiError) {
	p, e := c.mustProvider()
	if e != nil {
		return nil, e
	}
	return c.tagPage(p.Tags)
}
