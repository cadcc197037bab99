package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gowebpki/jcs"

	"agentkeys/api"
	"agentkeys/auth"
	"agentkeys/identity"
)

// maxDepth bounds how deep objects and arrays of a signed body may lie in one
// another: more than any needs.
const maxDepth = 16

// maxExact is the largest number that every reader of JSON has exactly (RFC 7493,
// section 2.2).
const maxExact = 1<<53 - 1

// callText returns the text that the caller of a signed endpoint signs: the RFC
// 8785 canonical JSON of {method, url, body}, where body is the one received
// without the member "signature" of its outer member "auth".
//
// It is made from the bytes received, not from what was decoded out of them, so
// that nothing that was sent stays outside the signature. Bodies that mean
// different things never have one text: what RFC 8785 would round or could not
// write (numbers that are not whole or beyond 2^53, halves of surrogate pairs,
// names that are there twice) is refused. So is a body without the signature, or
// one nested deeper than 16. That error is an *api.Error of code bad_request and
// holds nothing of the body; any other is a method or a URL that cannot be one.
func callText(method, url string, body []byte) (string, error) {
	if !isPlain(method) || !isPlain(url) {
		return "", fmt.Errorf("writing the signed text: want a method and a URL of printable ASCII, got %q and %q", method, url)
	}
	if !json.Valid(body) {
		return "", api.Errorf(api.CodeBadRequest, "reading the signed text: want JSON")
	}
	if err := checkExact(body); err != nil {
		return "", err
	}
	canonical, err := jcs.Transform(body)
	if err != nil { // its text quotes the body
		return "", api.Errorf(api.CodeBadRequest, "reading the signed text: a name is there twice, or a string is not Unicode")
	}
	unsigned, err := withoutSignature(canonical)
	if err != nil {
		return "", err
	}
	// Names in order: body, method, url. The parts of canonical JSON are canonical.
	return `{"body":` + string(unsigned) + `,"method":"` + method + `","url":"` + url + `"}`, nil
}

// isPlain says whether a string is its own JSON between quotes, as every method
// (RFC 9110, section 9.1) and every URL (RFC 3986, section 2) is.
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
}

// withoutSignature takes auth.signature out of a body in canonical form, where
// each name has one spelling.
func withoutSignature(canonical []byte) ([]byte, error) {
	signed := false
	body := editObject(canonical, "auth", func(auth []byte) []byte {
		return editObject(auth, "signature", func(signature []byte) []byte {
			signed = signature[0] == '"'
			return nil
		})
	})
	if !signed {
		return nil, api.Errorf(api.CodeBadRequest, "reading the signed text: want a string auth.signature in the body, got none")
	}
	return body, nil
}

// editObject returns a canonical object with the value of one member changed, or
// without that member where the change is to nil. What is no object stays.
func editObject(object []byte, name string, change func(value []byte) []byte) []byte {
	if object[0] != '{' {
		return object
	}
	edited := append(make([]byte, 0, len(object)), '{')
	for quoted, value := range members(object) {
		if string(quoted[1:len(quoted)-1]) == name {
			value = change(value)
		}
		if value == nil {
			continue
		}
		if len(edited) > 1 {
			edited = append(edited, ',')
		}
		edited = append(append(append(edited, quoted...), ':'), value...)
	}
	return append(edited, '}')
}

// checkExact refuses what two bodies could lose on the way to their canonical
// form, which has numbers as IEEE 754 doubles, and what is nested too deep.
func checkExact(body []byte) error {
	depth := 0
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"':
			i += stringLen(body[i:]) - 1
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return api.Errorf(api.CodeBadRequest, "reading the signed text: want at most %d levels of objects and arrays, got more", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		case c == '-' || c >= '0' && c <= '9':
			n := scalarLen(body[i:])
			if !isExact(string(body[i : i+n])) {
				return api.Errorf(api.CodeBadRequest, "reading the signed text: want whole numbers between -2^53 and 2^53, written out, got another number")
			}
			i += n - 1
		}
	}
	return nil
}

// isExact says whether a number's canonical form is the text that was sent.
func isExact(number string) bool {
	n, err := strconv.ParseInt(number, 10, 64)
	return err == nil && -maxExact <= n && n <= maxExact && number != "-0"
}

// checkCall holds a call to its signature: a.Address must be the key that signed
// text (EIP-191). It returns that address in lower case; that the address is the
// session's is for the caller to check.
//
// A refusal is an *api.Error: address_malformed or address_checksum where the
// address is none, call_signature for everything else. It never holds anything
// of the signature.
func checkCall(text string, a api.CallAuth) (string, error) {
	address, err := identity.ParseAddress(a.Address)
	switch {
	case errors.Is(err, identity.ErrAddressChecksum):
		return "", api.Errorf(api.CodeAddressChecksum, "auth.address: %v", err)
	case err != nil:
		return "", api.Errorf(api.CodeAddressMalformed, "auth.address: %v", err)
	}
	signer, err := auth.RecoverAddress(text, a.Signature)
	var refused *auth.Error
	switch {
	case errors.As(err, &refused):
		return "", api.Errorf(api.CodeCallSignature, "%s", refused.Detail)
	case err != nil:
		return "", err
	}
	// No need for constant time: both addresses are public, and how long they agree
	// tells a forger nothing that recovering the signer himself would not.
	if signer != address {
		return "", api.Errorf(api.CodeCallSignature, "want a signature by %s over this very call, got one by another key or over another text", address)
	}
	return address, nil
}
