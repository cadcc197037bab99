package token

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// The genuine sessions among the seeds, by jti. The key is published (see
// publishedKey), and yet the fuzzer, which does not know what a signature is,
// must not come by a session with any other content.
var seededSessions = map[string]bool{"SEEDWALLET": true, "SEEDEMAIL": true}

func FuzzSessionToken(f *testing.F) {
	key := publishedKey(f, PurposeSession)
	sessions := newSessions(f, key)
	now := testNow
	f.Fuzz(func(t *testing.T, raw string) {
		session, err := sessions.Verify(raw, now)
		again, errAgain := sessions.Verify(raw, now) // from memory, if it passed
		if session != again || (err == nil) != (errAgain == nil) {
			t.Fatalf("first %v, %v, then %v, %v", session, err, again, errAgain)
		}
		if err != nil {
			if session != (Session{}) {
				t.Fatalf("a refusal came with the session %v", session)
			}
			if code := err.(*Error).Code; code == "" || strings.ContainsAny(err.Error(), "\n") {
				t.Fatalf("want a code and one line, got %q", err)
			}
			return
		}
		if !seededSessions[session.ID] {
			t.Fatalf("a session that nobody issued: %+v", session)
		}
		parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatalf("accepted what go-jose does not parse: %v", err)
		}
		if _, err := parsed.Verify(key.Public()); err != nil {
			t.Fatalf("accepted what go-jose does not verify: %v", err)
		}
	})
}

// The claims behind a good signature: what is read, written again, reads the
// same.
func FuzzSessionClaims(f *testing.F) {
	sessions := newSessions(f, publishedKey(f, PurposeSession))
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := sessions.parseClaims(payload)
		if err != nil {
			return
		}
		again, err := encodeJSON(sessionClaims{
			Issuer: sessions.issuer, Audience: sessions.audience, OmniAccount: got.OmniAccount, ID: got.ID,
			IssuedAt: got.IssuedAt.Unix(), NotBefore: got.notBefore.Unix(), ExpiresAt: got.ExpiresAt.Unix(),
			IdentityType: got.IdentityType, IdentityValue: got.IdentityValue, Wallet: got.Wallet,
		})
		if err != nil {
			t.Fatal(err)
		}
		twice, err := sessions.parseClaims(again)
		if err != nil || twice != got {
			t.Fatalf("read %+v, and written again %+v, %v", got, twice, err)
		}
	})
}

// What is read as an object means the same to encoding/json.
func FuzzObject(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseObject(data)
		if err != nil {
			return
		}
		var plain map[string]any
		if err := json.Unmarshal(data, &plain); err != nil {
			// The one difference: a number past float64, which we keep as text.
			if !strings.Contains(err.Error(), "cannot unmarshal number") {
				t.Fatalf("read what encoding/json refuses: %v", err)
			}
			return
		}
		if len(plain) != len(o) {
			t.Fatalf("want %d members, got %d", len(plain), len(o))
		}
		for name, value := range plain {
			if s, ok := value.(string); ok && o[name] != s {
				t.Fatalf("member %q: want %q, got %v", name, s, o[name])
			}
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKey(data, PurposeOIDC)
		if err != nil {
			return
		}
		again, err := encodeKey(k)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := parseKey(again, PurposeOIDC)
		if err != nil || twice.ID() != k.ID() {
			t.Fatalf("read %s, and written again %v, %v", k, twice, err)
		}
		sig, err := signES256(k.signer, data)
		if err != nil || !verifyES256(k.public, data, sig) {
			t.Fatalf("the key does not sign: %v", err)
		}
	})
}

// A fuzz target without seeds tests nothing in a plain run, and says nothing.
func TestSeedsExist(t *testing.T) {
	for target, least := range map[string]int{"FuzzSessionToken": 10, "FuzzSessionClaims": 6, "FuzzObject": 8, "FuzzKeyFile": 5, "FuzzAuditKeyFile": 5} {
		seeds, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(seeds) < least {
			t.Errorf("%s: want at least %d seeds, got %d", target, least, len(seeds))
		}
		for _, seed := range seeds {
			if data, err := os.ReadFile(seed); err != nil || !strings.HasPrefix(string(data), "go test fuzz v1\n") {
				t.Errorf("%s is no seed: %v", seed, err)
			}
		}
	}
}

// The genuine seeds must be just that, or the target only ever sees refusals.
func TestGenuineSeedsVerify(t *testing.T) {
	sessions := newSessions(t, publishedKey(t, PurposeSession))
	found := 0
	for _, name := range []string{"wallet", "wallet-second-signature", "email"} {
		data, err := os.ReadFile(filepath.Join("testdata", "fuzz", "FuzzSessionToken", name))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.TrimPrefix(string(data), "go test fuzz v1\nstring(\"")
		if _, err := sessions.Verify(strings.TrimSuffix(text, "\")\n"), testNow); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		found++
	}
	if found != 3 {
		t.Errorf("want 3 genuine seeds, got %d", found)
	}
}
