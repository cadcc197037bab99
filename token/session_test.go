package token

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func TestIssueAndVerify(t *testing.T) {
	for name, sub := range map[string]Subject{
		"wallet":  testSubject,
		"e-mail":  {IdentityType: "email", IdentityValue: `"a\b"<&>@exämple.org`, OmniAccount: testOmni},
		"longest": {IdentityType: "workload", IdentityValue: strings.Repeat(`"`, maxIdentityLen), OmniAccount: testOmni},
	} {
		t.Run(name, func(t *testing.T) {
			key := newTestKey(t, PurposeSession)
			sessions := newSessions(t, key)
			raw, issued := issue(t, sessions, sub)
			want := Session{
				ID: issued.ID, KeyID: key.ID(), Subject: sub,
				IssuedAt:  time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
				ExpiresAt: time.Date(2026, 11, 23, 17, 0, 0, 0, time.UTC),
			}
			if diff := cmp.Diff(want, issued); diff != "" {
				t.Errorf("issued (-want +got):\n%s", diff)
			}
			for range 2 { // verified, then remembered
				got, err := sessions.Verify(raw, testNow)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("verified (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestSessionTokenMembers(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	raw, session := issue(t, newSessions(t, key), testSubject)
	head, claims := segments(t, raw)
	wantHead := map[string]any{"alg": "ES256", "kid": key.ID(), "typ": "agentkeys-session+jwt"}
	wantClaims := map[string]any{
		"iss": testIssuer, "aud": testIssuer + "#session", "sub": testOmni, "jti": session.ID,
		"iat": 1795435200.0, "nbf": 1795435200.0, "exp": 1795453200.0,
		"identity_type": "evm", "identity_value": testWallet, "wallet": testWallet,
	}
	if diff := cmp.Diff(wantHead, head); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantClaims, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestVerifyTimes(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	start := time.Unix(1_800_000_000, 0)
	claims := claimsOf(start) // for an hour
	raw := forge(t, key, toJSON(t, claims))
	later := maps.Clone(claims)
	later["nbf"] = start.Add(time.Minute).Unix()
	delayed := forge(t, key, toJSON(t, later))
	for name, c := range map[string]struct {
		raw  string
		now  time.Time
		code string
	}{
		"at its start":                  {raw, start, ""},
		"within the leeway":             {raw, start.Add(-Leeway), ""},
		"before the leeway":             {raw, start.Add(-Leeway - 1), CodeClockBackwards},
		"clock a year back":             {raw, start.AddDate(-1, 0, 0), CodeClockBackwards},
		"no clock":                      {raw, time.Time{}, CodeClockBackwards},
		"the last moment":               {raw, start.Add(time.Hour - 1), ""},
		"at its end":                    {raw, start.Add(time.Hour), CodeTokenExpired},
		"after its end":                 {raw, start.Add(time.Hour + 1), CodeTokenExpired},
		"long after":                    {raw, start.AddDate(100, 0, 0), CodeTokenExpired},
		"nbf to come":                   {delayed, start, CodeTokenNotYetValid},
		"nbf just outside of leeway":    {delayed, start.Add(time.Minute - Leeway - 1), CodeTokenNotYetValid},
		"nbf within the leeway":         {delayed, start.Add(time.Minute - Leeway), ""},
		"another time zone's same time": {raw, start.In(time.FixedZone("", 14*3600)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(s *Sessions, how string) {
				_, err := s.Verify(c.raw, c.now)
				if c.code == "" && err != nil {
					t.Errorf("%s: %v", how, err)
				} else if c.code != "" {
					wantCode(t, err, c.code)
				}
			}
			check(newSessions(t, key), "first")
			remembering := newSessions(t, key)
			if _, err := remembering.Verify(c.raw, start.Add(2*time.Minute)); err != nil {
				t.Fatal(err)
			}
			check(remembering, "remembered")
		})
	}
}

func TestVerifyRefusesClaims(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	drop := func(name string) func(map[string]any) {
		return func(c map[string]any) { delete(c, name) }
	}
	now := testNow.Unix()
	for name, c := range map[string]struct {
		change func(map[string]any)
		code   string
	}{
		"no iss":                 {drop("iss"), CodeWrongIssuer},
		"another iss":            {set("iss", "https://broker.example.net"), CodeWrongIssuer},
		"iss with a slash":       {set("iss", testIssuer+"/"), CodeWrongIssuer},
		"iss in capitals":        {set("iss", strings.ToUpper(testIssuer)), CodeWrongIssuer},
		"no aud":                 {drop("aud"), CodeWrongAudience},
		"aud of STS":             {set("aud", testAudience), CodeWrongAudience},
		"aud the issuer":         {set("aud", testIssuer), CodeWrongAudience},
		"aud another's sessions": {set("aud", SessionAudience("https://broker.example.net")), CodeWrongAudience},
		"aud in an array":        {set("aud", []string{SessionAudience(testIssuer)}), CodeMalformedToken},
		"no sub":                 {drop("sub"), CodeMalformedToken},
		"sub empty":              {set("sub", ""), CodeMalformedToken},
		"sub null":               {set("sub", nil), CodeMalformedToken},
		"sub in capitals":        {set("sub", strings.ToUpper(testOmni)), CodeMalformedToken},
		"sub a wallet":           {set("sub", testWallet), CodeMalformedToken},
		"no jti":                 {drop("jti"), CodeMalformedToken},
		"jti empty":              {set("jti", ""), CodeMalformedToken},
		"jti a number":           {set("jti", 1), CodeMalformedToken},
		"no iat":                 {drop("iat"), CodeMalformedToken},
		"no nbf":                 {drop("nbf"), CodeMalformedToken},
		"no exp":                 {drop("exp"), CodeMalformedToken},
		"exp null":               {set("exp", nil), CodeMalformedToken},
		"exp a text":             {set("exp", fmt.Sprint(now+60)), CodeMalformedToken},
		"exp a fraction":         {set("exp", json.Number(fmt.Sprintf("%d.5", now+60))), CodeMalformedToken},
		"exp with an exponent":   {set("exp", json.Number("1.9e9")), CodeMalformedToken},
		"exp past all numbers":   {set("exp", json.Number("1e400")), CodeMalformedToken},
		"exp past int64":         {set("exp", json.Number("18446744073709551617")), CodeMalformedToken},
		"exp past the year 9999": {set("exp", int64(lastSecond)+1), CodeMalformedToken},
		"exp negative":           {set("exp", -1), CodeMalformedToken},
		"exp before iat":         {set("exp", now-1), CodeMalformedToken},
		"exp with iat":           {set("exp", now), CodeMalformedToken},
		"longer than a day":      {set("exp", now+24*3600+1), CodeMalformedToken},
		"no identity type":       {drop("identity_type"), CodeMalformedToken},
		"identity type odd":      {set("identity_type", "evm\n"), CodeMalformedToken},
		"no identity value":      {drop("identity_value"), CodeMalformedToken},
		"identity value odd":     {set("identity_value", "a\nb"), CodeMalformedToken},
		"wallet empty":           {set("wallet", ""), CodeMalformedToken},
		"wallet with checksum":   {set("wallet", "0x52908400098527886E0F7030069857D2E4169EE7"), CodeMalformedToken},
		"wallet a path":          {set("wallet", testWallet+"/../"), CodeMalformedToken},
		"one claim more":         {set("role", "auditor"), CodeMalformedToken},
		"Wallet":                 {set("Wallet", testWallet), CodeMalformedToken},
		"tags of AWS":            {set(TagsClaim, map[string]any{}), CodeMalformedToken},
	} {
		t.Run(name, func(t *testing.T) {
			claims := claimsOf(testNow)
			c.change(claims)
			_, err := newSessions(t, key).Verify(forge(t, key, toJSON(t, claims)), testNow)
			wantCode(t, err, c.code)
		})
	}
	for name, payload := range map[string]string{
		"iss twice":      strings.Replace(string(toJSON(t, claimsOf(testNow))), `{`, `{"iss":"`+testIssuer+`",`, 1),
		"not an object":  `"x"`,
		"not JSON":       `{`,
		"two objects":    string(toJSON(t, claimsOf(testNow))) + `{}`,
		"lone surrogate": strings.Replace(string(toJSON(t, claimsOf(testNow))), `"jti":"`, `"jti":"\udc00`, 1),
		"broken UTF-8":   strings.Replace(string(toJSON(t, claimsOf(testNow))), `"jti":"`, "\"jti\":\"\xc3", 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newSessions(t, key).Verify(forge(t, key, []byte(payload)), testNow)
			wantCode(t, err, CodeMalformedToken)
		})
	}
}

// The signature comes before any claim: a forged token is told nothing of its
// claims, and a token with several faults gets the first one's code.
func TestVerifyOrder(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	bad := claimsOf(testNow.AddDate(-1, 0, 0)) // expired
	bad["iss"], bad["aud"] = "https://evil.example", "x"
	raw := forge(t, key, toJSON(t, bad))
	forged := raw[:strings.LastIndexByte(raw, '.')+1] + strings.Repeat("A", 86)
	sessions := newSessions(t, key)
	_, err := sessions.Verify(forged, testNow)
	wantCode(t, err, CodeBadSignature)
	_, err = sessions.Verify(raw, testNow)
	wantCode(t, err, CodeWrongIssuer)
	bad["iss"] = testIssuer
	_, err = sessions.Verify(forge(t, key, toJSON(t, bad)), testNow)
	wantCode(t, err, CodeWrongAudience)
	bad["aud"] = SessionAudience(testIssuer)
	_, err = sessions.Verify(forge(t, key, toJSON(t, bad)), testNow)
	wantCode(t, err, CodeTokenExpired)
}

// Blanks between the claims change nothing but the size.
func TestVerifyRefusesLargeTokens(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	padded := func(blanks int) string {
		return forge(t, key, append(toJSON(t, claimsOf(testNow)), strings.Repeat(" ", blanks)...))
	}
	if raw := padded(5000); len(raw) > maxSessionLen {
		t.Fatalf("want the good case under %d characters, got %d", maxSessionLen, len(raw))
	}
	if _, err := newSessions(t, key).Verify(padded(5000), testNow); err != nil {
		t.Error(err)
	}
	_, err := newSessions(t, key).Verify(padded(6000), testNow)
	wantCode(t, err, CodeMalformedToken)
}

// Neither kind of token passes for the other, by more than one check.
func TestTokenKindConfusion(t *testing.T) {
	sessionKey, oidcKey := newTestKey(t, PurposeSession), newTestKey(t, PurposeOIDC)
	sessions, webs := newSessions(t, sessionKey), newWebIdentities(t, oidcKey)
	session, _ := issue(t, sessions, testSubject)
	minted, _, err := webs.Mint(testWallet, testNow)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("web identity token at the broker", func(t *testing.T) {
		_, err := sessions.Verify(minted.Reveal(), testNow)
		wantCode(t, err, CodeWrongTokenType)
	})
	t.Run("with the session's typ, by the OIDC key", func(t *testing.T) {
		raw := forge(t, oidcKey, toJSON(t, claimsOf(testNow)))
		_, err := sessions.Verify(raw, testNow)
		wantCode(t, err, CodeUnknownKey)
	})
	t.Run("the OIDC key under the session key's id", func(t *testing.T) {
		head := fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":%q}`, sessionKey.ID(), SessionType)
		_, err := sessions.Verify(forgeHeader(t, oidcKey, head, toJSON(t, claimsOf(testNow))), testNow)
		wantCode(t, err, CodeBadSignature)
	})
	t.Run("web identity claims by the session key", func(t *testing.T) {
		untagged, _, err := webs.MintUntagged(testWallet, testNow)
		if err != nil {
			t.Fatal(err)
		}
		_, claims := segments(t, untagged.Reveal())
		_, err = sessions.Verify(forge(t, sessionKey, toJSON(t, claims)), testNow)
		wantCode(t, err, CodeWrongAudience)
	})
	t.Run("session at AWS", func(t *testing.T) {
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(webs.config.Keys.JWKS(), &set); err != nil {
			t.Fatal(err)
		}
		parsed, err := jose.ParseSignedCompact(session, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsed.Verify(set); err == nil {
			t.Error("the published keys verify a session token")
		}
		if _, claims := segments(t, session); claims["aud"] == testAudience {
			t.Error("a session token is for the audience of AWS STS")
		}
	})
	t.Run("keys in each other's place", func(t *testing.T) {
		_, err := NewSessions(testIssuer, newRing(t, oidcKey), time.Hour)
		wantText(t, err, "want keys for session, got keys for oidc")
		_, err = NewWebIdentities(WebIdentityConfig{testIssuer, testAudience, newRing(t, sessionKey), time.Minute, TagKey})
		wantText(t, err, "want keys for oidc, got keys for session")
		_, err = NewKeyring(oidcKey, sessionKey)
		wantText(t, err, "want keys for oidc only", "for session")
	})
	t.Run("an audience that is the sessions'", func(t *testing.T) {
		_, err := NewWebIdentities(WebIdentityConfig{testIssuer, SessionAudience(testIssuer), newRing(t, oidcKey), time.Minute, TagKey})
		wantText(t, err, "audience", "session")
	})
}

func TestSessionOfAnotherBroker(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	other, err := NewSessions("https://broker.example.com/eu", newRing(t, key), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := issue(t, other, testSubject)
	_, err = newSessions(t, key).Verify(raw, testNow)
	wantCode(t, err, CodeWrongIssuer)
}

func TestRotation(t *testing.T) {
	old, next := newTestKey(t, PurposeSession), newTestKey(t, PurposeSession)
	raw, _ := issue(t, newSessions(t, old, next), testSubject)
	after := newSessions(t, next, old)
	got, err := after.Verify(raw, testNow)
	if err != nil || got.KeyID != old.ID() {
		t.Errorf("want the old key's token to pass while the key is known, got %s, %v", got.KeyID, err)
	}
	fresh, _ := issue(t, after, testSubject)
	if head, _ := segments(t, fresh); head["kid"] != next.ID() {
		t.Errorf("want new sessions signed by %s, got %v", next.ID(), head["kid"])
	}
	_, err = newSessions(t, next).Verify(raw, testNow)
	wantCode(t, err, CodeUnknownKey)
}

func TestIssueRefusesSubjects(t *testing.T) {
	sessions := newSessions(t, newTestKey(t, PurposeSession))
	for name, c := range map[string]struct {
		change func(*Subject)
		want   string
	}{
		"no type":            {func(s *Subject) { s.IdentityType = "" }, "identity type"},
		"type in capitals":   {func(s *Subject) { s.IdentityType = "EVM" }, "identity type"},
		"type too long":      {func(s *Subject) { s.IdentityType = strings.Repeat("a", 33) }, "identity type"},
		"no value":           {func(s *Subject) { s.IdentityValue = "" }, "got 0"},
		"value too long":     {func(s *Subject) { s.IdentityValue = strings.Repeat("a", 2049) }, "got 2049"},
		"value not UTF-8":    {func(s *Subject) { s.IdentityValue = "a\xff" }, "identity value"},
		"value of two lines": {func(s *Subject) { s.IdentityValue = "a\nb" }, "identity value"},
		"value with NUL":     {func(s *Subject) { s.IdentityValue = "a\x00" }, "identity value"},
		"no account":         {func(s *Subject) { s.OmniAccount = "" }, "omni account"},
		"account too short":  {func(s *Subject) { s.OmniAccount = testOmni[1:] }, "omni account"},
		"account with a tab": {func(s *Subject) { s.OmniAccount = testOmni[1:] + "\t" }, "omni account"},
		"account line end":   {func(s *Subject) { s.OmniAccount = testOmni + "\n" }, "omni account"},
		"wallet in capitals": {func(s *Subject) { s.Wallet = strings.ToUpper(testWallet) }, "wallet"},
		"wallet without 0x":  {func(s *Subject) { s.Wallet = testWallet[2:] }, "wallet"},
		"wallet with a path": {func(s *Subject) { s.Wallet = testWallet + "/x" }, "wallet"},
	} {
		t.Run(name, func(t *testing.T) {
			sub := testSubject
			c.change(&sub)
			raw, _, err := sessions.Issue(sub, testNow)
			wantText(t, err, "issuing a session", c.want)
			if raw.Reveal() != "" {
				t.Error("a token came with the refusal")
			}
		})
	}
}

func TestNewSessionsRefuses(t *testing.T) {
	ring := newRing(t, newTestKey(t, PurposeSession))
	for name, c := range map[string]struct {
		issuer string
		ring   *Keyring
		ttl    time.Duration
		want   []string
	}{
		"ttl too short":         {testIssuer, ring, 59 * time.Second, []string{"1m0s", "24h0m0s", "got 59s"}},
		"ttl too long":          {testIssuer, ring, 24*time.Hour + time.Second, []string{"got 24h0m1s"}},
		"no ttl":                {testIssuer, ring, 0, []string{"got 0s"}},
		"ttl negative":          {testIssuer, ring, -time.Hour, []string{"got -1h0m0s"}},
		"ttl with a fraction":   {testIssuer, ring, 90*time.Second + 1, []string{"whole seconds", "got 1m30.000000001s"}},
		"no ring":               {testIssuer, nil, time.Hour, []string{"want keys for session, got none"}},
		"no issuer":             {"", ring, time.Hour, []string{"issuer", `got ""`}},
		"issuer a host":         {"broker.example.com", ring, time.Hour, []string{"issuer"}},
		"issuer without a host": {"https://", ring, time.Hour, []string{"issuer"}},
		"issuer only a port":    {"https://:443", ring, time.Hour, []string{"issuer"}},
		"issuer with a query":   {testIssuer + "?a=b", ring, time.Hour, []string{"issuer"}},
		"issuer, empty query":   {testIssuer + "?", ring, time.Hour, []string{"issuer"}},
		"issuer with fragment":  {testIssuer + "#session", ring, time.Hour, []string{"issuer"}},
		"issuer with a user":    {"https://me@broker.example.com", ring, time.Hour, []string{"issuer"}},
		"issuer a file":         {"file:///etc/passwd", ring, time.Hour, []string{"issuer"}},
		"issuer with a blank":   {testIssuer + "/a b", ring, time.Hour, []string{"issuer"}},
		"issuer of two lines":   {testIssuer + "\n", ring, time.Hour, []string{"issuer"}},
		"issuer not ASCII":      {"https://brökер.example", ring, time.Hour, []string{"issuer"}},
		"issuer too long":       {testIssuer + "/" + strings.Repeat("a", 255), ring, time.Hour, []string{"at most 255"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewSessions(c.issuer, c.ring, c.ttl)
			wantText(t, err, append(c.want, "sessions: ")...)
		})
	}
	for _, ttl := range []time.Duration{MinSessionTTL, MaxSessionTTL} {
		sessions, err := NewSessions(testIssuer, ring, ttl)
		if err != nil {
			t.Fatal(err)
		}
		raw, session := issue(t, sessions, testSubject)
		if _, err := sessions.Verify(raw, testNow); err != nil || session.ExpiresAt.Sub(session.IssuedAt) != ttl {
			t.Errorf("want a session of %s, got %v, %v", ttl, session, err)
		}
	}
	for _, issuer := range []string{"http://127.0.0.1:8091", "http://[::1]:8091", "https://broker.example.com/a/", "http://localhost:1"} {
		if _, err := NewSessions(issuer, ring, time.Hour); err != nil {
			t.Error(err)
		}
	}
}

func TestClocksOutsideOfTime(t *testing.T) {
	sessions := newSessions(t, newTestKey(t, PurposeSession))
	webs := newWebIdentities(t, newTestKey(t, PurposeOIDC))
	for _, now := range []time.Time{{}, time.Unix(0, 0), time.Unix(-5, 0), time.Unix(lastSecond, 0), time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		_, _, err := sessions.Issue(testSubject, now)
		wantText(t, err, "the clock: want a time from 1970 to 9999")
		_, _, err = webs.Mint(testWallet, now)
		wantText(t, err, "the clock: want a time from 1970 to 9999")
	}
}

func TestTokenIDsAreUnique(t *testing.T) {
	sessions, webs := newSessions(t, newTestKey(t, PurposeSession)), newWebIdentities(t, newTestKey(t, PurposeOIDC))
	var mu sync.Mutex // guards seen
	seen := map[string]bool{}
	add := func(id string) {
		mu.Lock()
		defer mu.Unlock()
		if len(id) < 22 || seen[id] { // 22 characters of base64 or more hold 128 bits
			t.Errorf("jti %q is short or was used before", id)
		}
		seen[id] = true
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				_, session, err := sessions.Issue(testSubject, testNow)
				if err != nil {
					t.Error(err)
				}
				_, web, err := webs.Mint(testWallet, testNow)
				if err != nil {
					t.Error(err)
				}
				add(session.ID)
				add(web.ID)
			}
		})
	}
	wg.Wait()
	if len(seen) != 800 {
		t.Errorf("want 800 ids, got %d", len(seen))
	}
}
