package token

import (
	"crypto/ecdsa"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func newGrantProofs(t testing.TB, k *Key) *GrantProofs {
	t.Helper()
	p, err := NewGrantProofs(testIssuer, newRing(t, k))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var testTerms = GrantTerms{
	ID: "grn-ABCDEFGHIJKLMNOP", Owner: testOmni, Tenant: testWallet, Daemon: "0xde709f2102306220921060314715629080e2fb77",
	Service: "s3", Path: "reports/2026", Actions: "list,get", ExpiresAt: testNow.Add(time.Hour).Truncate(time.Second), MaxUses: 5, CreatedAt: testNow,
}

// TestGrantProof verifies a proof with another implementation of JWS, by the public
// half of the session key, which is all that an owner would be given.
func TestGrantProof(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	raw, err := newGrantProofs(t, key).Sign(testTerms)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var public *ecdsa.PublicKey = key.Public()
	payload, err := parsed.Verify(public)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"iss":"https://broker.example.com","iat":1795435200,"grant_id":"grn-ABCDEFGHIJKLMNOP",` +
		`"owner":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","tenant":"0x52908400098527886e0f7030069857d2e4169ee7",` +
		`"daemon_address":"0xde709f2102306220921060314715629080e2fb77","service":"s3","scope_path":"reports/2026","actions":"list,get",` +
		`"expires_at":1795438800,"max_uses":5}`
	if diff := cmp.Diff(want, string(payload)); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	head, _ := segments(t, raw)
	if diff := cmp.Diff(map[string]any{"alg": "ES256", "kid": key.ID(), "typ": "agentkeys-grant+jwt"}, head); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if _, err := parsed.Verify(newTestKey(t, PurposeSession).Public()); err == nil {
		t.Error("it verifies under another key")
	}
}

// A proof buys nothing: not even one whose claims are a session's would pass for one.
func TestGrantProofIsNoSession(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	sessions := newSessions(t, key)
	raw, err := newGrantProofs(t, key).Sign(testTerms)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sessions.Verify(raw, testNow)
	wantCode(t, err, CodeWrongTokenType)
	forged, err := key.sign(GrantProofType, toJSON(t, claimsOf(testNow)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = sessions.Verify(forged.Reveal(), testNow)
	wantCode(t, err, CodeWrongTokenType)
	if _, err := sessions.Verify(forge(t, key, toJSON(t, claimsOf(testNow))), testNow); err != nil {
		t.Errorf("the same claims as a session are refused for another reason: %v", err)
	}
}

func TestGrantProofKeepsTextAsItIs(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	odd := testTerms
	odd.Path = `a","max_uses":9,"x":"` + "\n<é>"
	raw, err := newGrantProofs(t, key).Sign(odd)
	if err != nil {
		t.Fatal(err)
	}
	_, claims := segments(t, raw)
	if claims["scope_path"] != odd.Path || claims["max_uses"] != 5.0 || len(claims) != 11 {
		t.Errorf("claims %v", claims)
	}
	if text, err := json.Marshal(raw); err != nil || strings.Contains(string(text), `\`) {
		t.Errorf("a proof is no plain text: %s, %v", text, err)
	}
}

func TestNewGrantProofsRefuses(t *testing.T) {
	session := newRing(t, newTestKey(t, PurposeSession))
	_, err := NewGrantProofs("", session)
	wantText(t, err, "grant proofs: ", "issuer")
	_, err = NewGrantProofs(testIssuer, nil)
	wantText(t, err, "grant proofs: keyring: want keys for session, got none")
	_, err = NewGrantProofs(testIssuer, newRing(t, newTestKey(t, PurposeOIDC)))
	wantText(t, err, "grant proofs: keyring: want keys for session")
}
