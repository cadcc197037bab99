package broker_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/broker"
	"agentkeys/token"
)

func TestBodiesAreStrict(t *testing.T) {
	k := agentkeystest.New(t)
	good := `{"address":"0x0000000000000000000000000000000000000001","chain_id":1}`
	if a := send(t, k, "POST", api.PathWalletStart, good, "Content-Type", jsonType); a.StatusCode != 200 {
		t.Fatalf("the good body: %d %s", a.StatusCode, a.body)
	}
	for _, tc := range []struct {
		name, body, contentType string
		status                  int
		code                    string
	}{
		{"misspelt member", strings.Replace(good, "chain_id", "chainid", 1), jsonType, 400, "unknown_field"},
		{"other case", strings.Replace(good, "chain_id", "Chain_ID", 1), jsonType, 400, "unknown_field"},
		{"member missing", strings.Replace(good, `,"chain_id":1`, "", 1), jsonType, 400, "bad_request"},
		{"all members missing", "{}", jsonType, 400, "bad_request"},
		{"null", strings.Replace(good, ":1}", ":null}", 1), jsonType, 400, "bad_request"},
		{"half of a surrogate pair", strings.Replace(good, `"0x0`, `"\ud83d0x0`, 1), jsonType, 400, "bad_request"},
		{"member twice", strings.Replace(good, "{", `{"chain_id":5,`, 1), jsonType, 400, "bad_request"},
		{"wrong type", strings.Replace(good, ":1}", `:"1"}`, 1), jsonType, 400, "bad_request"},
		{"fraction", strings.Replace(good, ":1}", `:1.5}`, 1), jsonType, 400, "bad_request"},
		{"two objects", good + good, jsonType, 400, "bad_request"},
		{"cut off", good[:20], jsonType, 400, "bad_request"},
		{"not an object", `"text"`, jsonType, 400, "bad_request"},
		{"not UTF-8", strings.Replace(good, "0x0", "\xff", 1), jsonType, 400, "bad_request"},
		{"nothing", "", jsonType, 400, "bad_request"},
		{"a form", "address=0x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"},
		{"no type", good, "", 415, "unsupported_media_type"},
		{"other charset", good, "application/json; charset=latin1", 415, "unsupported_media_type"},
		{"too large", strings.Replace(good, "{", "{"+strings.Repeat(" ", 16<<10), 1), jsonType, 413, "body_too_large"},
		{"a long number", strings.Replace(good, ":1}", ":"+strings.Repeat("7", 300)+"}", 1), jsonType, 400, "bad_request"},
		{"deep", `{"address":` + strings.Repeat("[", 12000), jsonType, 400, "bad_request"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := send(t, k, "POST", api.PathWalletStart, tc.body, "Content-Type", tc.contentType)
			a.refused(t, tc.status, tc.code)
			if strings.Contains(string(a.body), "7777") {
				t.Errorf("the refusal echoes what was sent: %s", a.body)
			}
		})
	}
	for name, header := range map[string][]string{
		"two types":          {"Content-Type", jsonType, "Content-Type", "text/plain"},
		"a content encoding": {"Content-Type", jsonType, "Content-Encoding", "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			send(t, k, "POST", api.PathWalletStart, good, header...).refused(t, 415, "unsupported_media_type")
		})
	}
}

// A parameter of the query would be outside of a call's signature, and one that is
// dropped could be taken to have counted.
func TestBodiesComeWithoutParameters(t *testing.T) {
	k := agentkeystest.New(t)
	bearer := "Bearer " + k.Party(t).Session.SessionJWT
	for _, path := range []string{api.PathWalletStart, api.PathWalletVerify, api.PathMintOIDC, api.PathMintAWS, api.PathGrantCreate, api.PathGrantRevoke} {
		send(t, k, "POST", path+"?aud=x", "{}", "Content-Type", jsonType, "Authorization", bearer).refused(t, 400, "unknown_field")
		send(t, k, "POST", path+"?aud=%", "{}", "Content-Type", jsonType, "Authorization", bearer).refused(t, 400, "bad_request")
	}
}

func TestServerHasLimits(t *testing.T) {
	s := broker.Server(nil, slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Errorf("a slow client may hold a connection for ever: %v %v %v %v", s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout)
	}
	k := agentkeystest.New(t)
	if a := send(t, k, "GET", api.PathHealth, "", "X-Long", strings.Repeat("x", 64<<10)); a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of header: %d, want 431", a.StatusCode)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	k := agentkeystest.New(t)
	send(t, k, "GET", "/nowhere", "").refused(t, 404, "not_found")
	send(t, k, "GET", api.PathMetrics, "").refused(t, 404, "not_found")
	send(t, k, "POST", "/"+api.PathMintOIDC, "").refused(t, 404, "not_found")
	send(t, k, "GET", "/x/.."+api.PathHealth, "").refused(t, 404, "not_found")
	a := send(t, k, "GET", api.PathMintOIDC, "")
	a.refused(t, 405, "method_not_allowed")
	if a.Header.Get("Allow") != "POST" {
		t.Errorf("Allow %q", a.Header.Get("Allow"))
	}
	a = send(t, k, "DELETE", api.PathJWKS, "")
	a.refused(t, 405, "method_not_allowed")
	if a.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow %q", a.Header.Get("Allow"))
	}
	asterisk, err := http.NewRequestWithContext(t.Context(), "OPTIONS", k.Issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	asterisk.URL.Opaque = "*" // RFC 9110, section 9.3.7
	resp, err := http.DefaultTransport.RoundTrip(asterisk)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer{resp, data}.refused(t, 404, "not_found")
}

func TestRequestID(t *testing.T) {
	k := agentkeystest.New(t)
	for _, tc := range []struct {
		sent string
		kept bool
	}{
		{"trace-1.a_b", true},
		{strings.Repeat("x", 64), true},
		{strings.Repeat("x", 65), false},
		{"with space", false},
		{`quo"te`, false},
		{"", false},
	} {
		got := send(t, k, "GET", api.PathHealth, "", "X-Request-Id", tc.sent).Header.Get("X-Request-Id")
		if (got == tc.sent) != tc.kept || got == "" {
			t.Errorf("sent %q, got %q, want it kept: %v", tc.sent, got, tc.kept)
		}
	}
	if got := send(t, k, "GET", api.PathHealth, "", "X-Request-Id", "a", "X-Request-Id", "b").Header.Get("X-Request-Id"); got == "a" || got == "b" {
		t.Errorf("one of two ids was kept: %q", got)
	}
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	send(t, k, "GET", api.PathHealth, "", "X-Request-Id", "with-trace", "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	if !strings.Contains(k.Log.String(), `"trace_id":"`+trace+`"`) || !strings.Contains(k.Log.String(), `"request_id":"with-trace"`) {
		t.Error("the log line does not carry the request's ids")
	}
}

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	k := agentkeystest.New(t)
	send(t, k, "POST", api.PathWalletStart, "{}", "Content-Type", jsonType, "Sec-Fetch-Site", "cross-site").refused(t, 403, "cross_origin")
}

func TestForwardedForIsBelievedFromTrustedProxiesOnly(t *testing.T) {
	for _, tc := range []struct {
		trusted, header, want string
	}{
		{"", "203.0.113.9", "127.0.0.1"},
		{"127.0.0.0/8", "203.0.113.9", "203.0.113.9"},
		{"127.0.0.0/8", "198.51.100.1, 203.0.113.9", "203.0.113.9"},
		{"127.0.0.0/8,203.0.113.0/24", "198.51.100.1, 203.0.113.9", "198.51.100.1"},
		{"127.0.0.0/8", "203.0.113.9:5000", "203.0.113.9"},
		{"127.0.0.0/8", "[2001:db8::7]:443", "2001:db8::7"},
		{"127.0.0.0/8", "rubbish", "127.0.0.1"},
		{"127.0.0.0/8", "203.0.113.9, rubbish", "127.0.0.1"},
		{"127.0.0.0/8", "", "127.0.0.1"},
	} {
		k := agentkeystest.New(t, func(c *broker.Config) {
			for p := range strings.SplitSeq(tc.trusted, ",") {
				if p != "" {
					c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(p))
				}
			}
		})
		send(t, k, "POST", api.PathMintOIDC, "", "X-Forwarded-For", tc.header)
		if got := records(t, k)[0].Source; got != tc.want {
			t.Errorf("trusted %q, X-Forwarded-For %q: recorded %s, want %s", tc.trusted, tc.header, got, tc.want)
		}
	}
}

func TestIssuerDocuments(t *testing.T) {
	k := agentkeystest.New(t)
	a := send(t, k, "GET", api.PathDiscovery, "")
	d := a.json(t)
	if d["issuer"] != k.Issuer || d["jwks_uri"] != k.Issuer+"/.well-known/jwks.json" {
		t.Errorf("issuer %v, jwks_uri %v", d["issuer"], d["jwks_uri"])
	}
	if a.Header.Get("Cache-Control") != "public, max-age=300" || a.Header.Get("Content-Type") != jsonType {
		t.Errorf("headers %v", a.Header)
	}
	jwks := send(t, k, "GET", api.PathJWKS, "")
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(jwks.body, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 1 || set.Keys[0]["kid"] != k.OIDCKey.ID() || set.Keys[0]["key_ops"] != nil || set.Keys[0]["d"] != nil {
		t.Errorf("keys %v", set.Keys)
	}
	if strings.Contains(string(jwks.body), k.SessionKey.ID()) {
		t.Error("the session key is published")
	}
	again := send(t, k, "GET", api.PathJWKS, "", "If-None-Match", jwks.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified || len(again.body) != 0 {
		t.Errorf("with the ETag: %d %q", again.StatusCode, again.body)
	}
	if head := send(t, k, "HEAD", api.PathJWKS, ""); head.StatusCode != 200 || len(head.body) != 0 {
		t.Errorf("HEAD: %d %q", head.StatusCode, head.body)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	k := agentkeystest.New(t)
	if a := send(t, k, "GET", api.PathHealth, ""); a.StatusCode != 200 || string(a.body) != "ok\n" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	if a := send(t, k, "HEAD", api.PathReady, ""); a.StatusCode != 200 {
		t.Errorf("HEAD %s: %d", api.PathReady, a.StatusCode)
	}
	_, session := k.SignIn(t)
	if _, err := k.Client.MintOIDC(t.Context(), session.SessionJWT); err != nil {
		t.Fatal(err)
	}
	families, err := k.Broker.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range families {
		if f.GetName() == "agentkeys_mints_total" {
			found = f.GetMetric()[0].GetCounter().GetValue() == 1
		}
	}
	if !found {
		t.Error("agentkeys_mints_total does not count the mint")
	}
}

// A panic inside a handler costs that request and nothing else, and its text
// stays inside.
func TestPanicIsContained(t *testing.T) {
	k := agentkeystest.New(t, func(c *broker.Config) {
		c.Mint = func(string, time.Time) (token.Secret, token.WebIdentity, error) { panic("secret detail") }
	})
	_, session := k.SignIn(t)
	a := send(t, k, "POST", api.PathMintOIDC, "", "Authorization", "Bearer "+session.SessionJWT)
	a.refused(t, 500, "internal")
	if strings.Contains(string(a.body), "secret detail") {
		t.Error("the answer tells of the inside")
	}
	if r := records(t, k)[0]; r.Outcome != "refused" || r.Reason != "internal" {
		t.Errorf("recorded %+v", r)
	}
	if a := send(t, k, "GET", api.PathHealth, ""); a.StatusCode != 200 {
		t.Errorf("afterwards: %d", a.StatusCode)
	}
}

func TestRunbookExplainsEveryCode(t *testing.T) {
	k := agentkeystest.New(t)
	page := send(t, k, "GET", api.PathRunbook, "")
	book, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range api.Codes() {
		if !strings.Contains(string(page.body), `id="`+string(code)+`"`) {
			t.Errorf("the page has no section for %s", code)
		}
	}
	for _, check := range []string{"check-database", "check-clock", "check-log", "check-anchor"} {
		if !strings.Contains(string(page.body), `id="`+check+`"`) || !strings.Contains(string(book), check) {
			t.Errorf("a runbook has no section for %s", check)
		}
	}
	if !strings.Contains(page.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("policy %q", page.Header.Get("Content-Security-Policy"))
	}
}
