package token

import (
	"crypto"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestGoJoseVerifiesOurTokens(t *testing.T) {
	sessionKey, oidcKey := newTestKey(t, PurposeSession), newTestKey(t, PurposeOIDC)
	session, _ := issue(t, newSessions(t, sessionKey), testSubject)
	web, _, err := newWebIdentities(t, oidcKey).Mint(testWallet, testNow)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw string
		key *Key
	}{"session": {session, sessionKey}, "web identity": {web.Reveal(), oidcKey}} {
		parsed, err := jose.ParseSignedCompact(c.raw, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := parsed.Verify(c.key.Public()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := parsed.Signatures[0].Protected.KeyID; got != c.key.ID() {
			t.Errorf("%s: want kid %s, got %s", name, c.key.ID(), got)
		}
	}
}

func TestWeVerifyGoJosesTokens(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	for range 20 { // as many low s as high ones, and a leading zero now and then
		signed, err := joseSigner(t, key, SessionType).Sign(toJSON(t, claimsOf(testNow)))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		got, err := newSessions(t, key).Verify(raw, testNow)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != "JTI1" || got.Subject != testSubject || got.KeyID != key.ID() {
			t.Errorf("want the claims that were signed, got %+v", got)
		}
	}
}

// The example of RFC 7515, appendix A.3.
func TestRFC7515ES256Example(t *testing.T) {
	const input = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	const sig = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
	b, err := decodeSegment(sig)
	if err != nil {
		t.Fatal(err)
	}
	key := publishedKey(t, PurposeSession)
	if !verifyES256(key.public, []byte(input), b) {
		t.Error("the example's signature was refused")
	}
	if verifyES256(key.public, []byte(input+"x"), b) {
		t.Error("the signature was accepted for another text")
	}
}

func TestVerifyRefusesHeaders(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	good := fmt.Sprintf(`"alg":"ES256","kid":%q,"typ":%q`, key.ID(), SessionType)
	with := func(member string) string { return "{" + good + "," + member + "}" }
	for name, c := range map[string]struct{ head, code string }{
		"none of it":            {`{}`, CodeWrongTokenType},
		"no typ":                {fmt.Sprintf(`{"alg":"ES256","kid":%q}`, key.ID()), CodeWrongTokenType},
		"typ JWT":               {fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":"JWT"}`, key.ID()), CodeWrongTokenType},
		"typ in capitals":       {strings.Replace("{"+good+"}", SessionType, strings.ToUpper(SessionType), 1), CodeWrongTokenType},
		"typ with application/": {strings.Replace("{"+good+"}", SessionType, "application/"+SessionType, 1), CodeWrongTokenType},
		"typ a number":          {fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":1}`, key.ID()), CodeWrongTokenType},
		"alg none":              {strings.Replace("{"+good+"}", "ES256", "none", 1), CodeMalformedToken},
		"alg None":              {strings.Replace("{"+good+"}", "ES256", "None", 1), CodeMalformedToken},
		"alg empty":             {strings.Replace("{"+good+"}", "ES256", "", 1), CodeMalformedToken},
		"alg HS256":             {strings.Replace("{"+good+"}", "ES256", "HS256", 1), CodeMalformedToken},
		"alg ES384":             {strings.Replace("{"+good+"}", "ES256", "ES384", 1), CodeMalformedToken},
		"alg es256":             {strings.Replace("{"+good+"}", "ES256", "es256", 1), CodeMalformedToken},
		"alg with a blank":      {strings.Replace("{"+good+"}", "ES256", "ES256 ", 1), CodeMalformedToken},
		"ALG":                   {strings.Replace("{"+good+"}", "alg", "ALG", 1), CodeMalformedToken},
		"no kid":                {fmt.Sprintf(`{"alg":"ES256","typ":%q}`, SessionType), CodeMalformedToken},
		"empty kid":             {fmt.Sprintf(`{"alg":"ES256","kid":"","typ":%q}`, SessionType), CodeMalformedToken},
		"kid a number":          {fmt.Sprintf(`{"alg":"ES256","kid":7,"typ":%q}`, SessionType), CodeMalformedToken},
		"kid unknown":           {fmt.Sprintf(`{"alg":"ES256","kid":"x","typ":%q}`, SessionType), CodeUnknownKey},
		"kid a path":            {fmt.Sprintf(`{"alg":"ES256","kid":"../../dev/null","typ":%q}`, SessionType), CodeUnknownKey},
		"kid longer":            {fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":%q}`, key.ID()+"0", SessionType), CodeUnknownKey},
		"crit":                  {with(`"crit":["exp"]`), CodeMalformedToken},
		"crit empty":            {with(`"crit":[]`), CodeMalformedToken},
		"b64 false":             {with(`"b64":false`), CodeMalformedToken},
		"jku":                   {with(`"jku":"https://evil.example/jwks.json"`), CodeMalformedToken},
		"x5u":                   {with(`"x5u":"https://evil.example/cert.pem"`), CodeMalformedToken},
		"jwk":                   {with(`"jwk":{"kty":"EC"}`), CodeMalformedToken},
		"jwk as text":           {with(`"jwk":"x"`), CodeMalformedToken},
		"cty":                   {with(`"cty":"JWT"`), CodeMalformedToken},
		"null":                  {with(`"zip":null`), CodeMalformedToken},
		"a nested object":       {with(`"a":{"alg":"ES256"}`), CodeMalformedToken},
		"alg twice":             {with(`"alg":"none"`), CodeMalformedToken},
		"alg twice, escaped":    {with(`"\u0061lg":"ES256"`), CodeMalformedToken},
		"text behind":           {"{" + good + "}{}", CodeMalformedToken},
		"a comma too many":      {"{" + good + ",}", CodeMalformedToken},
		"an array":              {`["ES256"]`, CodeMalformedToken},
		"a string":              {`"ES256"`, CodeMalformedToken},
		"not JSON":              {`alg`, CodeMalformedToken},
		"byte order mark":       {"\ufeff{" + good + "}", CodeMalformedToken},
		"invalid UTF-8":         {with("\"zip\":\"\xff\""), CodeMalformedToken},
		"lone surrogate":        {with(`"zip":"\ud800"`), CodeMalformedToken},
		"very long":             {"{" + good + strings.Repeat(" ", maxHeaderLen) + "}", CodeMalformedToken},
	} {
		t.Run(name, func(t *testing.T) {
			raw := forgeHeader(t, key, c.head, toJSON(t, claimsOf(testNow)))
			_, err := newSessions(t, key).Verify(raw, testNow)
			wantCode(t, err, c.code)
		})
	}
	raw := forgeHeader(t, key, "{"+good+"}", toJSON(t, claimsOf(testNow)))
	if _, err := newSessions(t, key).Verify(raw, testNow); err != nil {
		t.Errorf("the header that the cases were made from: %v", err)
	}
}

func TestVerifyRefusesForms(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	sessions := newSessions(t, key)
	raw, _ := issue(t, sessions, testSubject)
	part := strings.Split(raw, ".")
	short := base64.RawURLEncoding.EncodeToString(make([]byte, 63))
	long := base64.RawURLEncoding.EncodeToString(make([]byte, 65))
	// Of the 86th character's six bits only four are data.
	stray := part[2][:85] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[b64Value(part[2][85])|1])
	for name, bad := range map[string]string{
		"empty":                   "",
		"one dot":                 part[0] + "." + part[1],
		"two dots only":           "..",
		"three dots":              raw + ".",
		"five parts":              raw + ".." + part[2],
		"no signature":            part[0] + "." + part[1] + ".",
		"no header":               "." + part[1] + "." + part[2],
		"no payload":              part[0] + ".." + part[2],
		"a blank in front":        " " + raw,
		"a line end":              raw + "\n",
		"a line end in the midst": part[0] + "." + part[1][:8] + "\n" + part[1][8:] + "." + part[2],
		"a return in the header":  part[0][:8] + "\r\n" + part[0][8:] + "." + part[1] + "." + part[2],
		"padded":                  raw + "==",
		"other base64":            part[0] + "." + part[1] + "." + "+/" + part[2][2:],
		"stray bits":              part[0] + "." + part[1] + "." + stray,
		"signature short":         part[0] + "." + part[1] + "." + short,
		"signature long":          part[0] + "." + part[1] + "." + long,
		"signature in ASN.1":      part[0] + "." + part[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 70)),
		"too long":                raw + strings.Repeat("A", maxSessionLen),
		"with its scheme":         "Bearer " + raw,
		"JSON serialisation":      `{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`,
		"NUL":                     raw + "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			if bad == raw {
				t.Fatal("the case does not change the token")
			}
			_, err := sessions.Verify(bad, testNow)
			wantCode(t, err, CodeMalformedToken)
			for _, p := range part {
				if strings.Contains(err.Error(), p[:16]) {
					t.Errorf("the refusal repeats the token: %v", err)
				}
			}
		})
	}
	if _, err := sessions.Verify(raw, testNow); err != nil {
		t.Errorf("the token that the cases were made from: %v", err)
	}
}

func b64Value(c byte) int {
	return strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", c)
}

func TestVerifyRefusesSignatures(t *testing.T) {
	key, other := newTestKey(t, PurposeSession), newTestKey(t, PurposeSession)
	sessions := newSessions(t, key, other)
	raw, _ := issue(t, sessions, testSubject)
	c, err := parseCompact(raw)
	if err != nil {
		t.Fatal(err)
	}
	n := elliptic.P256().Params().N
	r, s := new(big.Int).SetBytes(c.signature[:32]), new(big.Int).SetBytes(c.signature[32:])
	pair := func(r, s *big.Int) []byte {
		b := make([]byte, 64)
		r.FillBytes(b[:32])
		s.FillBytes(b[32:])
		return b
	}
	// The attack of old: take the public key for a shared secret.
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte(c.input))
	byOther, err := signES256(other.signer, []byte(c.input))
	if err != nil {
		t.Fatal(err)
	}
	zero, one := new(big.Int), big.NewInt(1)
	for name, sig := range map[string][]byte{
		"zeros":                pair(zero, zero),
		"r zero":               pair(zero, s),
		"s zero":               pair(r, zero),
		"r = s = 1":            pair(one, one),
		"r = n":                pair(n, s),
		"s = n":                pair(r, n),
		"r = s = n":            pair(n, n),
		"r and s exchanged":    pair(s, r),
		"n - r":                pair(new(big.Int).Sub(n, r), s),
		"all bits":             pair(new(big.Int).Sub(new(big.Int).Lsh(one, 256), one), s),
		"HMAC with public key": append(mac.Sum(nil), mac.Sum(nil)...),
		"another key of ours":  byOther,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sessions.Verify(c.input+"."+base64.RawURLEncoding.EncodeToString(sig), testNow)
			wantCode(t, err, CodeBadSignature)
		})
	}
}

// A token whose kid was changed to another key of the ring, without a new
// signature.
func TestKeySwap(t *testing.T) {
	key, other := newTestKey(t, PurposeSession), newTestKey(t, PurposeSession)
	sessions := newSessions(t, key, other)
	raw, _ := issue(t, sessions, testSubject)
	part := strings.Split(raw, ".")
	head := fmt.Sprintf(`{"alg":"ES256","kid":%q,"typ":%q}`, other.ID(), SessionType)
	_, err := sessions.Verify(base64.RawURLEncoding.EncodeToString([]byte(head))+"."+part[1]+"."+part[2], testNow)
	wantCode(t, err, CodeBadSignature)
}

func TestEveryChangedCharacterIsRefused(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	sessions := newSessions(t, key)
	raw, _ := issue(t, sessions, testSubject)
	if _, err := sessions.Verify(raw, testNow); err != nil { // remembered: a near miss must not find it
		t.Fatal(err)
	}
	for i := range raw {
		c := byte('A')
		if raw[i] == c {
			c = 'B'
		}
		if _, err := sessions.Verify(raw[:i]+string(c)+raw[i+1:], testNow); err == nil {
			t.Errorf("a token with character %d changed was accepted", i)
		}
	}
}

// asn1Signer is a signer outside this process that answers what it likes.
type asn1Signer struct{ answer []byte }

func (s asn1Signer) Public() crypto.PublicKey { return nil }

func (s asn1Signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	if s.answer == nil {
		return nil, errors.New("out of order")
	}
	return s.answer, nil
}

func TestSignRefusesOddAnswers(t *testing.T) {
	tooLarge := append([]byte{0x30, 0x26, 0x02, 0x21, 0x01}, make([]byte, 32)...)
	tooLarge = append(tooLarge, 0x02, 0x01, 0x01)
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"an error":     {nil, "out of order"},
		"nothing":      {[]byte{}, "not an ASN.1"},
		"r and s raw":  {make([]byte, 64), "not an ASN.1"},
		"text behind":  {[]byte{0x30, 6, 2, 1, 1, 2, 1, 1, 0}, "not an ASN.1"},
		"three values": {[]byte{0x30, 9, 2, 1, 1, 2, 1, 1, 2, 1, 1}, "not an ASN.1"},
		"negative":     {[]byte{0x30, 6, 2, 1, 0xff, 2, 1, 1}, "not a P-256"},
		"257 bits":     {tooLarge, "not a P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := signES256(asn1Signer{c.answer}, []byte("text"))
			wantText(t, err, c.want)
		})
	}
	sig, err := signES256(asn1Signer{[]byte{0x30, 6, 2, 1, 1, 2, 1, 2}}, []byte("text"))
	if err != nil || len(sig) != 64 || sig[31] != 1 || sig[63] != 2 {
		t.Errorf("want small r and s filled up to 32 bytes each, got %x, %v", sig, err)
	}
}
