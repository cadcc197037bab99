package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/wycheproof/" + name)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// All cases apply: this is the very function that sessions are verified with.
func TestWycheproofECDSA(t *testing.T) {
	var file struct {
		TestGroups []struct {
			PublicKey struct{ Uncompressed string }
			Tests     []struct {
				TcID                      int
				Comment, Msg, Sig, Result string
			}
		}
	}
	readVectors(t, "ecdsa_secp256r1_sha256_p1363_test.json", &file)
	ran := map[string]int{}
	for _, group := range file.TestGroups {
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), fromHex(t, group.PublicKey.Uncompressed))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range group.Tests {
			got := verifyES256(public, fromHex(t, c.Msg), fromHex(t, c.Sig))
			if got != (c.Result == "valid") {
				t.Errorf("case %d, %s: want %s, got accepted=%t", c.TcID, c.Comment, c.Result, got)
			}
			ran[c.Result]++
		}
	}
	if ran["valid"] != 173 || ran["invalid"] != 89 || len(ran) != 2 {
		t.Errorf("want 173 valid and 89 invalid cases, ran %v", ran)
	}
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type jwsGroup struct {
	Comment         string
	Public, Private json.RawMessage
	Tests           []struct {
		TcID         int
		Comment, JWS string
		Result       string
	}
}

func readJWSVectors(t *testing.T) []jwsGroup {
	t.Helper()
	var file struct{ TestGroups []jwsGroup }
	readVectors(t, "json_web_signature_test.json", &file)
	return file.TestGroups
}

// None of the 401 tokens is a session: they have no typ, and all but 41 are of
// algorithms that do not exist here (HS256, RS, PS, ES521). Whatever the
// vectors call valid, a verifier of sessions refuses, even when it holds the
// very key under the very id.
func TestWycheproofJWSAreNoSessions(t *testing.T) {
	ran := 0
	for _, group := range readJWSVectors(t) {
		key := newTestKey(t, PurposeSession)
		if public, kid := p256Key(t, group.Public); public != nil {
			key = &Key{purpose: PurposeSession, thumbprint: kid, public: public, signer: key.signer}
		}
		ring := newRing(t, key)
		ring.byID[key.thumbprint] = key // under the id that the vectors use, too
		sessions := &Sessions{issuer: testIssuer, audience: SessionAudience(testIssuer), ring: ring, memory: newMemory(1)}
		for _, c := range group.Tests {
			if _, err := sessions.Verify(c.JWS, testNow); err == nil {
				t.Errorf("case %d of %s, %s: accepted", c.TcID, group.Comment, c.Comment)
			}
			ran++
		}
	}
	if ran != 401 {
		t.Errorf("want 401 cases, ran %d", ran)
	}
}

// The cases on P-256, over the two steps that a session's signature takes:
// taking the token apart, and the signature itself.
func TestWycheproofJWSES256(t *testing.T) {
	// Not applicable: a valid signature by a key whose JWK says it is for
	// encryption. Our keys come from key files and are all for signatures;
	// TestLoadKeyFileRefuses has the file with use "enc".
	keyUse := []int{354, 356}
	ran, accepted := 0, 0
	for _, group := range readJWSVectors(t) {
		public, _ := p256Key(t, group.Public)
		if public == nil {
			continue
		}
		for _, c := range group.Tests {
			if slices.Contains(keyUse, c.TcID) {
				continue
			}
			compact, err := parseCompact(c.JWS)
			got := err == nil && verifyES256(public, []byte(compact.input), compact.signature)
			if got != (c.Result == "valid") {
				t.Errorf("case %d, %s: want %s, got accepted=%t", c.TcID, c.Comment, c.Result, got)
			}
			if got {
				accepted++
			}
			ran++
		}
	}
	if ran != 39 || accepted != 2 {
		t.Errorf("want 39 cases, 2 of them accepted, ran %d and accepted %d", ran, accepted)
	}
}

// The cases on base64. They are HS256, so their signatures do not apply; the
// form of their parts does. 372 and 373 are called valid by the vectors, whose
// reader skips characters that are not base64url: RFC 7515, section 2, has no
// leave for that, and it would give one token many spellings.
func TestWycheproofJWSBase64(t *testing.T) {
	wellFormed := []int{357, 358, 359, 367, 370, 376, 377}
	ran := 0
	for _, group := range readJWSVectors(t) {
		if group.Comment != "base64" {
			continue
		}
		for _, c := range group.Tests {
			_, err := parseCompact(c.JWS)
			if want := slices.Contains(wellFormed, c.TcID); want != (err == nil) {
				t.Errorf("case %d, %s: want well-formed %t, got %v", c.TcID, c.Comment, want, err)
			}
			ran++
		}
	}
	if ran != 21 {
		t.Errorf("want 21 cases, ran %d", ran)
	}
}

func p256Key(t *testing.T, jwk json.RawMessage) (*ecdsa.PublicKey, string) {
	t.Helper()
	var form struct{ Crv, Kid string }
	if jwk == nil {
		return nil, ""
	}
	if err := json.Unmarshal(jwk, &form); err != nil {
		t.Fatal(err)
	}
	if form.Crv != "P-256" {
		return nil, ""
	}
	var key jose.JSONWebKey
	if err := json.Unmarshal(jwk, &key); err != nil {
		t.Fatal(err)
	}
	return key.Key.(*ecdsa.PublicKey), form.Kid
}
