package federation

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// WebToken is a web identity token taken apart. Nothing about it is verified. Of
// members that come twice the last one counts, as at AWS. It never prints its
// signature.
type WebToken struct {
	Header map[string]json.RawMessage
	Claims map[string]json.RawMessage
	// Cleaned says what stood around or inside the text that is no part of a
	// token, and was taken away to read it.
	Cleaned []string
	// Problem says why STS would not take the text for a token, although it can be
	// read here; "" where STS would.
	Problem string

	compact string // the three parts, without what was taken away
}

// The tolerances that only this reader has: STS gets what the client sends.
const (
	problemInside  = "white space inside the token"
	problemPadding = "base64 with padding"
	problemStd     = "base64 with + and / where base64url has - and _"
	problemBits    = "base64url with bits left over at its end"
)

// ReadToken reads a compact JWS leniently: white space and line ends around and
// inside it, padding and the other base64 alphabet are put up with and told. What
// is missing afterwards is an error, which never quotes the signature.
func ReadToken(given string) (*WebToken, error) {
	t := &WebToken{}
	t.compact = t.clean(given)
	parts := strings.Split(t.compact, ".")
	if len(parts) != 3 {
		return nil, notThreeParts(t.compact, len(parts))
	}
	var err error
	if t.Header, err = t.object("header", parts[0]); err != nil {
		return nil, err
	}
	if t.Claims, err = t.object("payload", parts[1]); err != nil {
		return nil, err
	}
	if _, err := t.decode("signature", parts[2]); err != nil {
		return nil, err
	}
	t.checkHeader()
	return t, nil
}

// notThreeParts guesses what was given in a token's place.
func notThreeParts(compact string, parts int) error {
	what := ""
	switch {
	case compact == "":
		return errors.New("reading the web identity token: it is empty")
	case parts == 5:
		what = " (an encrypted token, which STS cannot read?)"
	case parts == 1 && !strings.HasPrefix(compact, "eyJ"):
		what = " (an opaque access token, or another file?)"
	case parts == 2:
		what = " (cut off before the signature?)"
	}
	return fmt.Errorf("reading the web identity token: want 3 parts, got %d%s", parts, what)
}

// clean takes away what is no part of a token.
func (t *WebToken) clean(given string) string {
	text := strings.TrimPrefix(given, "\ufeff")
	if text != given {
		t.Cleaned = append(t.Cleaned, "a byte order mark before it")
	}
	whole := len(text)
	text = strings.TrimLeftFunc(text, unicode.IsSpace)
	t.cleaned(whole-len(text), "before it")
	whole = len(text)
	text = strings.TrimRightFunc(text, unicode.IsSpace)
	t.cleaned(whole-len(text), "after it")
	whole = len(text)
	text = strings.Join(strings.Fields(text), "")
	if whole != len(text) {
		t.cleaned(whole-len(text), "inside it")
		t.problem(problemInside)
	}
	return text
}

func (t *WebToken) cleaned(bytes int, where string) {
	switch {
	case bytes == 1:
		t.Cleaned = append(t.Cleaned, "1 byte of white space "+where)
	case bytes > 1:
		t.Cleaned = append(t.Cleaned, fmt.Sprintf("%d bytes of white space %s", bytes, where))
	}
}

// problem keeps the first.
func (t *WebToken) problem(text string) {
	if t.Problem == "" {
		t.Problem = text
	}
}

func (t *WebToken) object(name, part string) (map[string]json.RawMessage, error) {
	b, err := t.decode(name, part)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("reading the web identity token's %s: want UTF-8", name)
	}
	members, ok := jsonObject(b)
	if !ok {
		return nil, fmt.Errorf("reading the web identity token's %s: want a JSON object", name)
	}
	return members, nil
}

// decode takes base64url without padding and, telling so, its near relations.
func (t *WebToken) decode(name, part string) ([]byte, error) {
	if b, err := base64.RawURLEncoding.Strict().DecodeString(part); err == nil {
		return b, nil
	}
	plain := strings.TrimRight(part, "=")
	if plain != part {
		t.problem(name + ": " + problemPadding)
	}
	if std := strings.NewReplacer("+", "-", "/", "_").Replace(plain); std != plain {
		plain = std
		t.problem(name + ": " + problemStd)
	}
	b, err := base64.RawURLEncoding.DecodeString(plain)
	if err != nil {
		return nil, fmt.Errorf("reading the web identity token's %s: want base64url: %w", name, err)
	}
	t.problem(name + ": " + problemBits)
	return b, nil
}

// checkHeader finds what STS takes for no token although it is well-formed. A
// critical extension has to be understood, and AWS understands none.
func (t *WebToken) checkHeader() {
	if _, ok := t.Header["crit"]; ok {
		t.problem(`header: "crit", which STS does not know`)
	}
	if _, ok := jsonText(t.Header["alg"]); !ok {
		t.problem(`header: no "alg"`)
	}
	if raw, ok := t.Header["kid"]; ok {
		if _, ok := jsonText(raw); !ok {
			t.problem(`header: "kid" is no string`)
		}
	}
}

// Alg is the signature's algorithm as the header has it.
func (t *WebToken) Alg() string { return text(t.Header["alg"]) }

// KID is the id of the key that the header names; false where it names none.
func (t *WebToken) KID() (string, bool) {
	_, named := t.Header["kid"]
	return text(t.Header["kid"]), named
}

// jsonObject decodes a JSON object one level deep; null is none. A map is used,
// since filling a struct would match member names in any case.
func jsonObject(raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return nil, false
	}
	return members, true
}

// jsonText decodes a JSON string; null and all else is none.
func jsonText(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// jsonTexts decodes a JSON array of strings; null is none.
func jsonTexts(raw json.RawMessage) ([]string, bool) {
	var members []json.RawMessage
	if json.Unmarshal(raw, &members) != nil || members == nil {
		return nil, false
	}
	values := make([]string, len(members))
	for i, m := range members {
		var ok bool
		if values[i], ok = jsonText(m); !ok {
			return nil, false
		}
	}
	return values, true
}

// jsonTextOrTexts decodes a string, as a list of one, or an array of strings.
func jsonTextOrTexts(raw json.RawMessage) ([]string, bool) {
	if s, ok := jsonText(raw); ok {
		return []string{s}, true
	}
	return jsonTexts(raw)
}

// jsonKind names what a member holds, for a person.
func jsonKind(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		var members []json.RawMessage
		if json.Unmarshal(raw, &members) == nil && len(members) == 1 {
			return "an array of 1 (" + jsonKind(members[0]) + ")"
		}
		return fmt.Sprintf("an array of %d", len(members))
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
