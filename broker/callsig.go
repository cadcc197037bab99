package broker

import (
	"errors"
	"fmt"
	"strings"

	"agentkeys/api"
	"agentkeys/auth"
	"agentkeys/identity"
)

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
	// Names in order: body, method, url. The parts of canonical JSON are canonical.
	text := append(make([]byte, 0, len(body)+len(method)+len(url)+len(`{"body":,"method":"","url":""}`)), `{"body":`...)
	text, err := appendCanonical(text, body)
	if err != nil {
		return "", err
	}
	text = append(append(text, `,"method":"`...), method...)
	text = append(append(text, `","url":"`...), url...)
	return string(append(text, `"}`...)), nil
}

// isPlain says whether a string is its own JSON between quotes, as every method
// (RFC 9110, section 9.1) and every URL (RFC 3986, section 2) is.
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
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
