package broker

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"agentkeys/api"
	"agentkeys/token"
)

// document is a body with its mark for caches.
type document struct {
	body []byte
	etag string
}

func etag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

func discoveryDocument(issuer, tagKey string) document {
	body, _ := json.Marshal(api.Discovery{ // of strings alone: it cannot fail
		Issuer:                 issuer,
		JWKSURI:                issuer + api.PathJWKS,
		ResponseTypes:          []string{"id_token"},
		SubjectTypes:           []string{"public"},
		SigningAlgorithms:      []string{"ES256"},
		Scopes:                 []string{"openid"},
		TokenEndpointAuthTypes: []string{"none"},
		Claims: []string{"iss", "sub", "aud", "iat", "nbf", "exp", "jti",
			tagKey, token.TagsClaim},
	})
	return document{body: body, etag: etag(body)}
}

func (b *Broker) serveDiscovery(c *call) error { return b.serveDocument(c, b.discovery) }

func (b *Broker) serveJWKS(c *call) error { return b.serveDocument(c, b.jwks) }

func (b *Broker) serveDocument(c *call, d document) error {
	return c.servePublic(d, "application/json", int(b.JWKSMaxAge.Seconds()))
}

// servePublic answers with a public document, or with 304 to a client that
// has it (RFC 9110, section 13.1.2).
func (c *call) servePublic(d document, mediaType string, maxAge int) error {
	h := c.w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", maxAge))
	h.Set("ETag", d.etag)
	if matches(c.r.Header.Get("If-None-Match"), d.etag) {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	_, _ = c.w.Write(d.body)
	return nil
}

func matches(ifNoneMatch, tag string) bool {
	for candidate := range strings.SplitSeq(ifNoneMatch, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == tag || candidate == "*" {
			return true
		}
	}
	return false
}
