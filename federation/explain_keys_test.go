package federation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// explainCertificate is the x5c of a key.
func explainCertificate(t testing.TB, key *ecdsa.PrivateKey) []string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: explainNow, NotAfter: explainNow.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return []string{base64.StdEncoding.EncodeToString(der)}
}

// TestExplainAgreesOnKeys changes what the issuer publishes. Each case has a local
// AWS of its own, since STS keeps the keys it has fetched.
func TestExplainAgreesOnKeys(t *testing.T) {
	t.Parallel()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := func(keys ...any) func(*stsOracle) {
		return func(o *stsOracle) { o.keys = map[string]any{"keys": keys} }
	}
	stranger := jose.JSONWebKey{Key: other.Public(), KeyID: "ec"}
	for name, test := range map[string]struct {
		change func(*stsOracle)
		header map[string]any
		says   string // a word of the first failing step; "" where none fails
	}{
		"as it is":          {change: func(*stsOracle) {}},
		"no kid":            {change: func(o *stsOracle) { set(o.jwk("ec", nil))(o) }, header: map[string]any{"kid": nil}},
		"no kid, two":       {change: func(*stsOracle) {}, header: map[string]any{"kid": nil}, says: "2 usable"},
		"unknown kid":       {change: func(o *stsOracle) { set(o.jwk("next", nil))(o) }, says: `no key "ec", only "next"`},
		"empty set":         {change: set(), says: "only no key"},
		"key_ops":           {change: func(o *stsOracle) { set(o.jwk("ec", map[string]any{"key_ops": []string{"verify"}}))(o) }, says: "key_ops"},
		"for encryption":    {change: func(o *stsOracle) { set(o.jwk("ec", map[string]any{"use": "enc"}))(o) }, says: `"use"`},
		"no use":            {change: func(o *stsOracle) { set(o.jwk("ec", map[string]any{"use": nil}))(o) }},
		"alg ignored":       {change: func(o *stsOracle) { set(o.jwk("ec", map[string]any{"alg": "RS256"}))(o) }},
		"private":           {change: set(jose.JSONWebKey{Key: explainEC(), KeyID: "ec"}), says: "private key"},
		"another key":       {change: set(stranger), says: "not that key's"},
		"twice, last good":  {change: func(o *stsOracle) { set(stranger, o.jwk("ec", nil))(o) }},
		"twice, last bad":   {change: func(o *stsOracle) { set(o.jwk("ec", nil), stranger)(o) }, says: `that of key "ec"`},
		"under another kid": {change: func(o *stsOracle) { set(o.jwk("b", nil), stranger)(o) }, says: `that of key "b"`},
		"RSA key":           {change: func(*stsOracle) {}, header: map[string]any{"kid": "rsa"}, says: "RSA key"},
		"x5c agrees":        {change: func(o *stsOracle) { set(o.jwk("ec", map[string]any{"x5c": explainCertificate(t, explainEC())}))(o) }},
		"x5c disagrees":     {change: func(o *stsOracle) { set(o.jwk("ec", map[string]any{"x5c": explainCertificate(t, other)}))(o) }, says: "x5c"},
		"101 keys": {change: func(o *stsOracle) {
			keys := []any{o.jwk("ec", nil)}
			for i := range 100 {
				keys = append(keys, o.jwk(fmt.Sprint(i), nil))
			}
			set(keys...)(o)
		}, says: "101 keys"},
		"keys no array":     {change: func(o *stsOracle) { o.keys = map[string]any{"keys": "none"} }, says: `no array "keys"`},
		"no key set":        {change: func(o *stsOracle) { o.keys = nil }, says: "404"},
		"no discovery":      {change: func(o *stsOracle) { o.discovery = nil }, says: "404"},
		"another issuer":    {change: func(o *stsOracle) { o.discovery["issuer"] = o.issuerURL + "/" }, says: "slash at its end"},
		"no response types": {change: func(o *stsOracle) { delete(o.discovery, "response_types_supported") }, says: "response_types_supported"},
		"no algorithms":     {change: func(o *stsOracle) { delete(o.discovery, "id_token_signing_alg_values_supported") }, says: "id_token_signing_alg_values_supported"},
		"key set over http": {change: func(o *stsOracle) { o.discovery["jwks_uri"] = "http://issuer.example.com/jwks" }, says: "not https"},
		"key set in a file": {change: func(o *stsOracle) { o.discovery["jwks_uri"] = "file:///etc/passwd" }, says: "no URL"},
		"key set long":      {change: func(o *stsOracle) { o.discovery["more"] = strings.Repeat("x", maxIssuerDoc) }, says: "at most"},
		"key set unreachable": {change: func(o *stsOracle) {
			dead := httptest.NewServer(http.NotFoundHandler())
			dead.Close()
			o.discovery["jwks_uri"] = dead.URL
		}, says: "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newSTSOracle(t)
			a := o.install(explainTrust(explainBoth, ""), "", nil)
			o.mu.Lock()
			test.change(o)
			o.mu.Unlock()
			o.fetch()
			token := o.token(nil, test.header)
			o.hold(t, a, token, nil)
			first := o.explain(a, token, nil).First()
			if (first == nil) != (test.says == "") || first != nil && !strings.Contains(first.Why, test.says) {
				t.Errorf("want %q, got %+v", test.says, first)
			}
		})
	}
}

// A redirect is not followed: it could lead from a trusted issuer to anywhere.
func TestFetchIssuerFollowsNoRedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	site := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusMovedPermanently))
	defer site.Close()
	if d := FetchIssuer(t.Context(), nil, site.URL); !strings.Contains(d.DiscoveryProblem, "got 301") || d.Discovery != nil {
		t.Errorf("got %+v", d)
	}
}
