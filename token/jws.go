package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const (
	algorithm    = "ES256"
	signatureLen = 64  // r and s, 32 bytes each (RFC 7518, section 3.4)
	maxHeaderLen = 512 // bytes of a header; ours have about 120
)

// strict is base64url without padding, whose last character has no stray bits.
// It still skips line breaks; decodeSegment does not.
var strict = base64.RawURLEncoding.Strict()

// header is the protected header of both kinds of token; a token with any
// other member, crit or an embedded key for instance, is refused.
type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// sign returns the compact serialisation of the payload under this header.
func (k *Key) sign(typ string, payload []byte) (Secret, error) {
	head, err := json.Marshal(header{Algorithm: algorithm, KeyID: k.ID(), Type: typ})
	if err != nil {
		return Secret{}, fmt.Errorf("encoding the token's header: %w", err)
	}
	input := make([]byte, 0, 4*(len(head)+len(payload)+signatureLen)/3+8)
	input = strict.AppendEncode(input, head)
	input = append(input, '.')
	input = strict.AppendEncode(input, payload)
	sig, err := signES256(k.signer, input)
	if err != nil {
		return Secret{}, fmt.Errorf("signing with %s: %w", k.ID(), err)
	}
	return NewSecret(string(strict.AppendEncode(append(input, '.'), sig))), nil
}

// signES256 asks the signer for an ASN.1 signature, the form that every
// crypto.Signer for ECDSA gives (a KMS too), and returns it as r‖s.
func signES256(signer crypto.Signer, input []byte) ([]byte, error) {
	digest := sha256.Sum256(input)
	der, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	r, s := new(big.Int), new(big.Int)
	outer := cryptobyte.String(der)
	var inner cryptobyte.String
	if !outer.ReadASN1(&inner, asn1.SEQUENCE) || !outer.Empty() ||
		!inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) || !inner.Empty() {
		return nil, errors.New("the signer's answer is not an ASN.1 ECDSA signature")
	}
	if r.Sign() < 0 || s.Sign() < 0 || r.BitLen() > 256 || s.BitLen() > 256 {
		return nil, errors.New("the signer's answer is not a P-256 signature")
	}
	sig := make([]byte, signatureLen)
	r.FillBytes(sig[:signatureLen/2])
	s.FillBytes(sig[signatureLen/2:])
	return sig, nil
}

// verifyES256 checks a signature of exactly 64 bytes; r and s outside 1 to n-1
// are refused by crypto/ecdsa. Of the two signatures (r, s) and (r, n-s) that
// ECDSA has for one text both pass, as ES256 does not choose between them.
func verifyES256(public *ecdsa.PublicKey, input, sig []byte) bool {
	if len(sig) != signatureLen {
		return false
	}
	digest := sha256.Sum256(input)
	r := new(big.Int).SetBytes(sig[:signatureLen/2])
	s := new(big.Int).SetBytes(sig[signatureLen/2:])
	return ecdsa.Verify(public, digest[:], r, s)
}

// compact is a JWS in its compact serialisation, taken apart but not believed.
type compact struct {
	header, payload, signature []byte
	input                      string // what the signature is over
}

func parseCompact(raw string) (compact, error) {
	if dots := strings.Count(raw, "."); dots != 2 {
		return compact{}, refuse(CodeMalformedToken, "want 3 parts with a dot between them, got %d", dots+1)
	}
	end := strings.LastIndexByte(raw, '.')
	middle := strings.IndexByte(raw, '.')
	c := compact{input: raw[:end]}
	for _, part := range []struct {
		name string
		to   *[]byte
		text string
	}{
		{"header", &c.header, raw[:middle]},
		{"payload", &c.payload, raw[middle+1 : end]},
		{"signature", &c.signature, raw[end+1:]},
	} {
		b, err := decodeSegment(part.text)
		if err != nil {
			return compact{}, refuse(CodeMalformedToken, "the %s is %v", part.name, err)
		}
		*part.to = b
	}
	return c, nil
}

// verify returns the payload of a token of one kind once its signature has
// been found good, and the key that made it. The payload is not looked at.
func (r *Keyring) verify(raw, typ string) ([]byte, *Key, error) {
	c, err := parseCompact(raw)
	if err != nil {
		return nil, nil, err
	}
	key, err := r.keyFor(c.header, typ)
	if err != nil {
		return nil, nil, err
	}
	if n := len(c.signature); n != signatureLen {
		return nil, nil, refuse(CodeMalformedToken, "the signature: want %d bytes, got %d", signatureLen, n)
	}
	if !verifyES256(key.public, []byte(c.input), c.signature) {
		return nil, nil, refuse(CodeBadSignature, "key %s did not make the signature", key.ID())
	}
	return c.payload, key, nil
}

// keyFor reads a token's header and finds the key it names.
func (r *Keyring) keyFor(text []byte, typ string) (*Key, error) {
	if len(text) > maxHeaderLen {
		return nil, refuse(CodeMalformedToken, "the header: want at most %d bytes, got %d", maxHeaderLen, len(text))
	}
	o, err := parseObject(text)
	if err != nil {
		return nil, refuse(CodeMalformedToken, "the header: %v", err)
	}
	if err := o.only("alg", "kid", "typ"); err != nil {
		return nil, refuse(CodeMalformedToken, "the header: %v", err)
	}
	if o["typ"] != typ {
		return nil, refuse(CodeWrongTokenType, "the header's typ: want %q, got another or none", typ)
	}
	if o["alg"] != algorithm {
		return nil, refuse(CodeMalformedToken, "the header's alg: want %q, got another or none", algorithm)
	}
	kid, err := o.text("kid")
	if err != nil {
		return nil, refuse(CodeMalformedToken, "the header: %v", err)
	}
	key := r.byID[kid]
	if key == nil {
		return nil, refuse(CodeUnknownKey, "the header's kid is none of the %d keys for %s", len(r.byID), r.Purpose())
	}
	return key, nil
}

func decodeSegment(s string) ([]byte, error) {
	if s == "" {
		return nil, errors.New("empty")
	}
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("broken into lines")
	}
	b, err := strict.DecodeString(s)
	if err != nil {
		return nil, errors.New("not canonical base64url without padding") // the cause would repeat the text
	}
	return b, nil
}
