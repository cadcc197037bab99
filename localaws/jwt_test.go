package localaws

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestWebIdentityAlgorithms(t *testing.T) {
	a := newAccount(t)
	a.federate()
	p384, p521 := mustEC(elliptic.P384()), mustEC(elliptic.P521())
	a.issuer.publish("p384", p384.Public(), nil)
	a.issuer.publish("p521", p521.Public(), nil)
	payload, _ := json.Marshal(a.claims(nil))
	for _, test := range []struct {
		alg jose.SignatureAlgorithm
		key any
		kid string
		ok  bool
	}{
		{jose.ES256, testEC, "ec", true},
		{jose.ES384, p384, "p384", true},
		{jose.ES512, p521, "p521", true},
		{jose.RS256, testRSA, "rsa", true},
		{jose.RS384, testRSA, "rsa", true},
		{jose.RS512, testRSA, "rsa", true},
		{jose.PS256, testRSA, "rsa", false},
	} {
		_, err := a.assume(sign(t, test.alg, test.key, test.kid, payload))
		if test.ok && err != nil {
			t.Errorf("%s: %v", test.alg, err)
		}
		if !test.ok {
			wantError(t, err, "InvalidIdentityToken", "algorithm")
		}
	}
}

// TestForgedTokens are the classic attacks on JWTs; each must be refused as no
// valid token, and none may reach a policy.
func TestForgedTokens(t *testing.T) {
	a := newAccount(t)
	a.federate()
	payload, _ := json.Marshal(a.claims(nil))
	good := a.token(nil)
	parts := strings.Split(good, ".")
	der, _ := x509.MarshalPKIXPublicKey(testRSA.Public())
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	evil := mustEC(elliptic.P256())
	evilJWK, _ := (&jose.JSONWebKey{Key: evil.Public(), KeyID: "ec"}).MarshalJSON()
	withHeader := func(header string) string { return signHeader(t, testEC, header, string(payload)) }
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: evil}, (&jose.SignerOptions{EmbedJWK: true}).WithHeader("kid", "ec"))
	if err != nil {
		t.Fatal(err)
	}
	jws, _ := embedded.Sign(payload)
	withEmbedded, _ := jws.CompactSerialize()
	for name, token := range map[string]string{
		"alg none":                       b64(`{"alg":"none","kid":"ec"}`) + "." + parts[1] + ".",
		"alg none with signature":        withHeader(`{"alg":"none","kid":"ec"}`),
		"alg in another case":            withHeader(`{"alg":"es256","kid":"ec"}`),
		"HS256 with the public key":      sign(t, jose.HS256, pemKey, "rsa", payload),
		"EdDSA":                          withHeader(`{"alg":"EdDSA","kid":"ec"}`),
		"another key, same kid":          sign(t, jose.ES256, evil, "ec", payload),
		"another key, embedded":          withEmbedded,
		"another key by jku":             signHeader(t, evil, `{"alg":"ES256","kid":"ec","jku":"http://127.0.0.1/evil","jwk":`+string(evilJWK)+`}`, string(payload)),
		"kid of a key of the other kind": sign(t, jose.ES256, testEC, "rsa", payload),
		"kid that looks like a path":     sign(t, jose.ES256, evil, "../../etc/passwd", payload),
		"no kid where there are two":     sign(t, jose.ES256, testEC, "", payload),
		"kid not text":                   withHeader(`{"alg":"ES256","kid":["ec"]}`),
		"critical extension":             withHeader(`{"alg":"ES256","kid":"ec","crit":["b64"],"b64":true}`),
		"critical, empty":                withHeader(`{"alg":"ES256","kid":"ec","crit":[]}`),
		"payload changed":                parts[0] + "." + b64(strings.Replace(string(payload), "aaaa", "bbbb", 1)) + "." + parts[2],
		"signature cut":                  parts[0] + "." + parts[1] + "." + parts[2][:20],
		"signature empty":                parts[0] + "." + parts[1] + ".",
		"signature of zeros":             parts[0] + "." + parts[1] + "." + b64(strings.Repeat("\x00", 64)),
		"padding":                        good + "=",
		"line feed":                      parts[0] + "." + parts[1] + "\n." + parts[2],
		"two parts":                      parts[0] + "." + parts[1],
		"five parts":                     good + "..",
		"payload an array":               sign(t, jose.ES256, testEC, "ec", []byte(`[]`)),
		"payload null":                   sign(t, jose.ES256, testEC, "ec", []byte(`null`)),
		"payload not UTF-8":              sign(t, jose.ES256, testEC, "ec", []byte("{\"sub\":\"\xff\"}")),
		"payload and more":               sign(t, jose.ES256, testEC, "ec", append(append([]byte{}, payload...), '{', '}')),
		"member in another case":         sign(t, jose.ES256, testEC, "ec", []byte(strings.Replace(string(payload), `"iss"`, `"Iss"`, 1))),
		"JSON serialisation":             jws.FullSerialize(),
		"not a token":                    "hello",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.assume(token)
			wantError(t, err, "InvalidIdentityToken", "")
		})
	}
}

// signHeader makes an ES256 signature under any header.
func signHeader(t *testing.T, key *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	input := b64(header) + "." + b64(payload)
	digest := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(string(r.FillBytes(make([]byte, 32)))+string(s.FillBytes(make([]byte, 32))))
}

func TestSignHeader(t *testing.T) {
	a := newAccount(t)
	a.federate()
	payload, _ := json.Marshal(a.claims(nil))
	a.mustAssume(signHeader(t, testEC, `{"alg":"ES256","kid":"ec"}`, string(payload)))
}

func TestKeySetRules(t *testing.T) {
	other := mustEC(elliptic.P256())
	for _, test := range []struct {
		name    string
		publish func(*issuerSite)
		kid     string
		ok      bool
	}{
		{"use sig", func(i *issuerSite) { i.publish("k", testEC.Public(), map[string]any{"use": "sig"}) }, "k", true},
		{"use enc", func(i *issuerSite) { i.publish("k", testEC.Public(), map[string]any{"use": "enc"}) }, "k", false},
		{"key_ops verify", func(i *issuerSite) { i.publish("k", testEC.Public(), map[string]any{"key_ops": []string{"verify"}}) }, "k", false},
		{"alg of the key is not looked at", func(i *issuerSite) { i.publish("k", testEC.Public(), map[string]any{"alg": "RS256"}) }, "k", true},
		{"of two keys of one id the later", func(i *issuerSite) {
			i.publish("k", other.Public(), nil)
			i.publish("k", testEC.Public(), nil)
		}, "k", true},
		{"of two keys of one id not the earlier", func(i *issuerSite) {
			i.publish("k", testEC.Public(), nil)
			i.publish("k", other.Public(), nil)
		}, "k", false},
		{"no kid and one key", func(i *issuerSite) { i.publish("k", testEC.Public(), nil) }, "", true},
		{"100 keys", func(i *issuerSite) { publishMany(i, 99) }, "k", true},
		{"101 keys", func(i *issuerSite) { publishMany(i, 100) }, "k", false},
		{"a private key", func(i *issuerSite) { i.publish("k", testEC, nil) }, "k", false},
		{"none", func(*issuerSite) {}, "k", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAccount(t)
			a.federate()
			a.issuer.set(func() { a.issuer.keys = nil })
			test.publish(a.issuer)
			payload, _ := json.Marshal(a.claims(nil))
			_, err := a.assume(sign(t, jose.ES256, testEC, test.kid, payload))
			if test.ok && err != nil {
				t.Error(err)
			}
			if !test.ok {
				wantError(t, err, "InvalidIdentityToken", "")
			}
		})
	}
}

func publishMany(i *issuerSite, n int) {
	for k := range n {
		i.publish(fmt.Sprint("other", k), testEC.Public(), nil)
	}
	i.publish("k", testEC.Public(), nil)
}
