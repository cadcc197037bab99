// Package identity names who signed in: an identity is a type and a value that
// somebody proved control of, and the omni account is its stable id.
//
// It keeps two spellings of one address from becoming two accounts, and two
// identities from sharing one. It proves nothing itself: package auth does, and
// whoever calls SignIn vouches that the proof was made.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Type is a kind of identity. No type is the beginning of another, so that the
// concatenation under the omni account's hash has one reading.
type Type string

// The kinds of identity and what their values hold.
const (
	EVM          Type = "evm"           // an EVM address in lower case
	Email        Type = "email"         // an e-mail address in lower case
	OAuth2Google Type = "oauth2_google" // Google's "sub", never the e-mail address
)

// Identity is a type and a value that somebody proved control of.
type Identity struct {
	Type  Type
	Value string
}

// maxValue is the longest value in bytes: an e-mail address (RFC 3696 erratum
// 1690 has 254) and Google's sub (255) are the longest there are.
const maxValue = 255

// Check refuses an identity that is not in the one form its type has.
func (i Identity) Check() error {
	switch i.Type {
	case EVM:
		if !isLowerAddress(i.Value) {
			return fmt.Errorf("identity of type %q: want a lower-case address, got %q", i.Type, i.Value)
		}
	case Email, OAuth2Google:
		return i.checkText()
	default:
		return fmt.Errorf("identity type: want %s, %s or %s, got %q", EVM, Email, OAuth2Google, i.Type)
	}
	return nil
}

func (i Identity) checkText() error {
	if len(i.Value) == 0 || len(i.Value) > maxValue {
		return fmt.Errorf("identity of type %q: want 1 to %d bytes, got %d", i.Type, maxValue, len(i.Value))
	}
	for n, c := range []byte(i.Value) {
		if c <= ' ' || c == 0x7f {
			return fmt.Errorf("identity of type %q: want no blank or control character, got %q at offset %d", i.Type, c, n)
		}
		if i.Type == Email && c >= 'A' && c <= 'Z' {
			return fmt.Errorf("identity of type %q: want lower case, got %q at offset %d", i.Type, c, n)
		}
	}
	return nil
}

// OmniAccount is the stable id of the person or agent behind the identity: 64
// lower-case hexadecimal digits, SHA-256 over "agentkeys", type and value.
func (i Identity) OmniAccount() string {
	sum := sha256.Sum256([]byte("agentkeys" + string(i.Type) + i.Value))
	return hex.EncodeToString(sum[:])
}

// Wallet is the lower-case address of an EVM identity and "" of any other.
func (i Identity) Wallet() string {
	if i.Type == EVM {
		return i.Value
	}
	return ""
}

// TenantTag is the value that AWS tells tenants apart by: the wallet, or the
// omni account of somebody without one.
func (i Identity) TenantTag() string {
	if w := i.Wallet(); w != "" {
		return w
	}
	return i.OmniAccount()
}
