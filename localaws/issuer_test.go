package localaws

import (
	"context"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const noKey = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"

func TestDiscoveryRefusals(t *testing.T) {
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	for _, test := range []struct {
		name   string
		change func(*issuerSite)
	}{
		{"another issuer", func(i *issuerSite) { i.discovery["issuer"] = i.url + "/" }},
		{"no issuer", func(i *issuerSite) { delete(i.discovery, "issuer") }},
		{"no key set", func(i *issuerSite) { delete(i.discovery, "jwks_uri") }},
		{"key set over plain http elsewhere", func(i *issuerSite) { i.discovery["jwks_uri"] = "http://issuer.example.com/jwks" }},
		{"key set in a file", func(i *issuerSite) { i.discovery["jwks_uri"] = "file:///etc/passwd" }},
		{"key set with an untrusted certificate", func(i *issuerSite) { i.discovery["jwks_uri"] = other.URL }},
		{"key set not there", func(i *issuerSite) { i.discovery["jwks_uri"] = i.url + "/none" }},
		{"key set no JSON object", func(i *issuerSite) { i.discovery["jwks_uri"] = i.url + "/.well-known/openid-configuration" }},
		{"no response types", func(i *issuerSite) { delete(i.discovery, "response_types_supported") }},
		{"no subject types", func(i *issuerSite) { delete(i.discovery, "subject_types_supported") }},
		{"no algorithms", func(i *issuerSite) { delete(i.discovery, "id_token_signing_alg_values_supported") }},
		{"a redirect", func(i *issuerSite) { i.redirect = true }},
		{"too long", func(i *issuerSite) { i.discovery["more"] = strings.Repeat("x", maxFetched) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAccount(t)
			a.federate()
			a.issuer.set(func() { test.change(a.issuer) })
			_, err := a.assume(a.token(nil))
			wantError(t, err, "InvalidIdentityToken", noKey)
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		a := newAccount(t)
		a.federate()
		dead := httptest.NewServer(http.NotFoundHandler())
		dead.Close()
		a.issuer.set(func() { a.issuer.discovery["jwks_uri"] = dead.URL })
		_, err := a.assume(a.token(nil))
		wantError(t, err, "InvalidIdentityToken", noKey)
	})
	t.Run("too slow", func(t *testing.T) {
		a := newAccountWith(t, &http.Client{Timeout: time.Millisecond}) // stands in for the five seconds
		a.federate()
		a.issuer.set(func() { a.issuer.delay = time.Minute })
		_, err := a.assume(a.token(nil))
		wantError(t, err, "InvalidIdentityToken", noKey)
	})
}

func TestKeySetCache(t *testing.T) {
	a := newAccount(t)
	a.federate()
	for range 5 {
		a.mustAssume(a.token(nil))
	}
	if n := a.issuer.fetched(); n != 1 {
		t.Errorf("five tokens of one key: want 1 fetch, got %d", n)
	}
	a.offset.Store(int64(keySetTTL + time.Second))
	a.mustAssume(a.token(nil))
	if n := a.issuer.fetched(); n != 2 {
		t.Errorf("after the key set went stale: want 2 fetches, got %d", n)
	}

	fresh := mustEC(elliptic.P256())
	a.issuer.publish("fresh", fresh.Public(), nil)
	payload, _ := json.Marshal(a.claims(nil))
	a.mustAssume(sign(t, jose.ES256, fresh, "fresh", payload))
	if n := a.issuer.fetched(); n != 3 {
		t.Errorf("after an unknown key id: want 3 fetches, got %d", n)
	}

	a.issuer.set(func() { a.issuer.keys = nil })
	a.offset.Add(int64(keySetTTL + time.Second))
	_, err := a.assume(a.token(nil))
	wantError(t, err, "InvalidIdentityToken", noKey)
}

// TestKeySetFlood sends tokens with made-up key ids: the issuer must not feel it.
func TestKeySetFlood(t *testing.T) {
	a := newAccount(t)
	a.federate()
	frozen := a.now()
	a.frozen.Store(&frozen)
	payload, _ := json.Marshal(a.claims(nil))
	for range 40 {
		_, err := a.assume(sign(t, jose.ES256, testEC, "made-up", payload))
		wantError(t, err, "InvalidIdentityToken", noKey)
	}
	if n := a.issuer.fetched(); n > fetchBurst {
		t.Errorf("want at most %d fetches, got %d", fetchBurst, n)
	}
	if _, err := a.assume(sign(t, jose.ES256, testEC, "ec", payload)); err != nil {
		t.Errorf("a good token meanwhile: %v", err)
	}
}

// TestSlowIssuer holds that a token of a known key is served while the issuer
// is being asked for another key and does not answer.
func TestSlowIssuer(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	var slow atomic.Bool
	keys, err := json.Marshal(map[string]any{"keys": []any{jose.JSONWebKey{Key: testEC.Public(), KeyID: "ec"}}})
	if err != nil {
		t.Fatal(err)
	}
	var site *httptest.Server
	site = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/jwks" {
			if slow.Load() {
				asked <- struct{}{}
				<-answer
			}
			w.Write(keys)
			return
		}
		json.NewEncoder(w).Encode(discovery{site.URL, site.URL + "/jwks", []string{"id_token"}, []string{"public"}, []string{"ES256"}})
	}))
	defer site.Close()
	i, now := newIssuers(nil), time.Now()
	defer i.close()
	known, unknown := &webToken{alg: jose.ES256, kid: "ec", hasKID: true}, &webToken{alg: jose.ES256, kid: "new", hasKID: true}
	if _, err := i.key(t.Context(), site.URL, known, now); err != nil {
		t.Fatal(err)
	}
	slow.Store(true)
	waiting := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := i.key(t.Context(), site.URL, unknown, now)
			waiting <- err
		}()
	}
	<-asked
	if _, err := i.key(t.Context(), site.URL, known, now.Add(-time.Second)); err != nil { // must not wait
		t.Error(err)
	}
	answer <- struct{}{}
	<-asked // the second fetch begins once the first has ended
	answer <- struct{}{}
	for range 2 {
		if err := <-waiting; !errors.Is(err, errUnknownKey) {
			t.Errorf("got %v, want %v", err, errUnknownKey)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.key(ctx, site.URL, unknown, now); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestNoFetchBeforeClaims holds that a token that fails before its signature is
// looked at makes nobody fetch anything.
func TestNoFetchBeforeClaims(t *testing.T) {
	a := newAccount(t)
	a.federate()
	now := a.now().Unix()
	for _, change := range []map[string]any{{"exp": now - 400}, {"aud": "other"}, {"iss": "https://x.example.com"}, {"sub": absent}} {
		if _, err := a.assume(a.token(change)); err == nil {
			t.Errorf("%v: want a refusal", change)
		}
	}
	if n := a.issuer.fetched(); n != 0 {
		t.Errorf("want no fetch, got %d", n)
	}
}

func TestKeySetCertificates(t *testing.T) {
	a := newAccount(t)
	a.federate()
	payload, _ := json.Marshal(a.claims(nil))
	for name, members := range map[string]map[string]any{
		"a certificate that is none": {"x5c": []string{"AAAA"}},
		"no modulus":                 {"n": "", "e": ""},
	} {
		a.issuer.set(func() { a.issuer.keys = nil })
		a.issuer.publish(name, testRSA.Public(), members)
		_, err := a.assume(sign(t, jose.RS256, testRSA, name, payload))
		wantError(t, err, "InvalidIdentityToken", noKey)
	}
}

// TestDeletedProvider holds that sessions end with their role, but no new one
// begins once the issuer is not registered any more.
func TestDeletedProvider(t *testing.T) {
	a := newAccount(t)
	a.federate()
	a.mustAssume(a.token(nil))
	got := a.signed("iam", a.adminCredentials(), "Action=DeleteOpenIDConnectProvider&Version="+iamVersion+"&OpenIDConnectProviderArn="+a.providerARN())
	if got.status != 200 {
		t.Fatalf("got %+v", got)
	}
	_, err := a.assume(a.token(nil))
	wantError(t, err, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for "+a.issuer.url)
}
