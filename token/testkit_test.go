package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	testIssuer   = "https://broker.example.com"
	testWallet   = "0x52908400098527886e0f7030069857d2e4169ee7"
	testOmni     = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	testAudience = "sts.amazonaws.com"
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 700_000_000, time.UTC)

var testSubject = Subject{IdentityType: "evm", IdentityValue: testWallet, OmniAccount: testOmni, Wallet: testWallet}

func newTestKey(t testing.TB, p Purpose) *Key {
	t.Helper()
	k, err := GenerateKey(p)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// publishedKey is the key of RFC 7515, appendix A.3: its private part is known
// to everybody, so it may stand in a test.
func publishedKey(t testing.TB, p Purpose) *Key {
	t.Helper()
	d, err := base64.RawURLEncoding.DecodeString("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newKey(p, private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRing(t testing.TB, signing *Key, others ...*Key) *Keyring {
	t.Helper()
	r, err := NewKeyring(signing, others...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newSessions(t testing.TB, k *Key, others ...*Key) *Sessions {
	t.Helper()
	s, err := NewSessions(testIssuer, newRing(t, k, others...), 5*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newWebIdentities(t testing.TB, k *Key) *WebIdentities {
	t.Helper()
	w, err := NewWebIdentities(WebIdentityConfig{
		Issuer: testIssuer, Audience: testAudience, Keys: newRing(t, k), TTL: 5 * time.Minute, TagKey: TagKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func issue(t testing.TB, s *Sessions, sub Subject) (string, Session) {
	t.Helper()
	raw, session, err := s.Issue(sub, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return raw.Reveal(), session
}

// claimsOf is a valid set of session claims, for tests that change one.
func claimsOf(now time.Time) map[string]any {
	return map[string]any{
		"iss": testIssuer, "aud": SessionAudience(testIssuer), "sub": testOmni, "jti": "JTI1",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"identity_type": "evm", "identity_value": testWallet, "wallet": testWallet,
	}
}

func toJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// forge signs any payload as a session token: what our key would sign if our
// code let it.
func forge(t testing.TB, k *Key, payload []byte) string {
	t.Helper()
	raw, err := k.sign(SessionType, payload)
	if err != nil {
		t.Fatal(err)
	}
	return raw.Reveal()
}

// forgeHeader signs a payload under any header text.
func forgeHeader(t testing.TB, k *Key, head string, payload []byte) string {
	t.Helper()
	input := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sig, err := signES256(k.signer, []byte(input))
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refusal *Error
	if !errors.As(err, &refusal) {
		t.Fatalf("want a refusal with code %s, got %v", code, err)
	}
	if refusal.Code != code {
		t.Fatalf("want code %s, got %v", code, refusal)
	}
	if strings.ContainsAny(refusal.Error(), "\r\n") {
		t.Fatalf("want one line, got %q", refusal)
	}
}

func wantText(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("want an error with %q, got none", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("want %q in the error, got %v", text, err)
		}
	}
}

// joseSigner signs with the key through go-jose, under any extra headers.
func joseSigner(t testing.TB, k *Key, typ string) jose.Signer {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", k.ID())
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k.signer}, options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// segments decodes the header and the claims of a token without believing it.
func segments(t testing.TB, raw string) (head, claims map[string]any) {
	t.Helper()
	parts := strings.Split(raw, ".")
	for i, to := range []*map[string]any{&head, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, to); err != nil {
			t.Fatal(err)
		}
	}
	return head, claims
}
