package identity

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/sha3"
)

// The two ways in which text fails to be an EVM address. Test with errors.Is.
var (
	ErrAddressMalformed = errors.New("not an EVM address")
	ErrAddressChecksum  = errors.New("EVM address fails its checksum")
)

const addressLen = len("0x") + 40

// ParseAddress reads an EVM address, 0x and 40 hexadecimal digits, and returns
// it in lower case, the form in which this program compares and stores it.
//
// Mixed case is a checksum (EIP-55) and must be right; digits all of one case
// carry none. An "0X" prefix is refused. The error wraps ErrAddressMalformed
// or ErrAddressChecksum.
func ParseAddress(s string) (string, error) {
	if len(s) != addressLen {
		return "", fmt.Errorf("%w: want %d characters, got %d", ErrAddressMalformed, addressLen, len(s))
	}
	if s[:2] != "0x" {
		return "", fmt.Errorf("%w: want it to begin with 0x, got %q", ErrAddressMalformed, s[:2])
	}
	lower := []byte(s)
	var hasLower, hasUpper bool
	for i := 2; i < len(s); i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'f':
			hasLower = true
		case c >= 'A' && c <= 'F':
			hasUpper = true
			lower[i] = c - 'A' + 'a'
		default:
			return "", fmt.Errorf("%w: want hexadecimal digits, got %q at offset %d", ErrAddressMalformed, c, i)
		}
	}
	if want := Checksum(string(lower)); hasLower && hasUpper && s != want {
		return "", fmt.Errorf("%w: want %s, got %s", ErrAddressChecksum, want, s)
	}
	return string(lower), nil
}

// Checksum writes a lower-case address, as ParseAddress returns it, with the
// capitals of EIP-55: a letter is a capital where the Keccak-256 of the forty
// digits has a nibble of 8 or more. Any other input is a mistake of the caller
// and panics: a checksum over something else would lend it credence.
func Checksum(lower string) string {
	if !isLowerAddress(lower) {
		panic(fmt.Sprintf("identity.Checksum: want a lower-case address, got %q", lower))
	}
	h := sha3.NewLegacyKeccak256()
	h.Write([]byte(lower[2:]))
	sum := h.Sum(nil)
	out := []byte(lower)
	for i := 2; i < len(out); i++ {
		nibble := sum[(i-2)/2] >> 4
		if i%2 == 1 {
			nibble = sum[(i-2)/2] & 0x0f
		}
		if out[i] >= 'a' && nibble >= 8 {
			out[i] -= 'a' - 'A'
		}
	}
	return string(out)
}

func isLowerAddress(s string) bool {
	if len(s) != addressLen || s[:2] != "0x" {
		return false
	}
	for _, c := range []byte(s[2:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
