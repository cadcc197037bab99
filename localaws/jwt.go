package localaws

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// webToken is a web identity token taken apart and not yet verified. Of
// members that come twice the last one counts, as at AWS.
type webToken struct {
	raw    string
	alg    jose.SignatureAlgorithm
	kid    string
	hasKID bool
	claims claims
}

// claims are the members of the payload as they came. A map is used, since
// filling a struct would match member names in any case.
type claims map[string]json.RawMessage

// tokenAlgorithms are the signatures that AWS takes; nothing symmetric, and
// never "none".
var tokenAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}

func invalidIdentityToken(message string) *apiError {
	return refuse(http.StatusBadRequest, "InvalidIdentityToken", "%s", message)
}

func notAJWT() *apiError {
	return invalidIdentityToken("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
}

// parseToken takes a compact JWS apart: three parts of base64url without
// padding, a header and a payload that are JSON objects.
func parseToken(raw string) (*webToken, *apiError) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, notAJWT()
	}
	header, ok := decodeObject(parts[0])
	if !ok {
		return nil, notAJWT()
	}
	t := &webToken{raw: raw}
	if t.claims, ok = decodeObject(parts[1]); !ok {
		return nil, notAJWT()
	}
	if _, ok := decodePart(parts[2]); !ok {
		return nil, notAJWT()
	}
	// A critical extension has to be understood, and none is.
	if _, ok := header["crit"]; ok {
		return nil, notAJWT()
	}
	alg, ok := text(header["alg"])
	if !ok {
		return nil, notAJWT()
	}
	for _, a := range tokenAlgorithms {
		if string(a) == alg {
			t.alg = a
		}
	}
	if t.alg == "" {
		return nil, invalidIdentityToken("The web identity token is signed with an algorithm that is not supported.")
	}
	if raw, ok := header["kid"]; ok {
		if t.kid, t.hasKID = text(raw); !t.hasKID {
			return nil, notAJWT()
		}
	}
	return t, nil
}

// verify checks the signature with one public key.
func (t *webToken) verify(key any) bool {
	jws, err := jose.ParseSignedCompact(t.raw, tokenAlgorithms)
	if err != nil {
		return false
	}
	_, err = jws.Verify(key)
	return err == nil
}

func decodePart(part string) ([]byte, bool) {
	if strings.ContainsAny(part, "\r\n") { // which the decoder would skip
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	return b, err == nil
}

func decodeObject(part string) (map[string]json.RawMessage, bool) {
	b, ok := decodePart(part)
	if !ok || !utf8.Valid(b) {
		return nil, false
	}
	return object(b)
}

// object decodes a JSON object one level deep; null is none.
func object(raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return nil, false
	}
	return members, true
}

// text decodes a JSON string; null and all else is none.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// texts decodes a JSON array of strings; null is none.
func texts(raw json.RawMessage) ([]string, bool) {
	var members []json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return nil, false
	}
	values := make([]string, len(members))
	for i, m := range members {
		var ok bool
		if values[i], ok = text(m); !ok {
			return nil, false
		}
	}
	return values, true
}

// textOrTexts decodes a string, as a list of one, or an array of strings.
func textOrTexts(raw json.RawMessage) ([]string, bool) {
	if s, ok := text(raw); ok {
		return []string{s}, true
	}
	return texts(raw)
}
