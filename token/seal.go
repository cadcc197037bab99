package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
)

// sealInfo names the use of the derived key (RFC 5869, section 3.2): no other key
// comes from the same input under it.
const sealInfo = "agentkeys: answers kept for Idempotency-Key, version 1"

// Sealer encrypts what the broker keeps for a short while (AES-256-GCM). The key is
// derived with HKDF-SHA256 (RFC 5869) from the private part of a session key, so a
// copy of the database without the key file tells nothing. It may be used
// concurrently.
type Sealer struct {
	keyID string
	aeads map[string]func() cipher.AEAD // by the id of the session key; see auditSecretFunc
}

// NewSealer makes the sealer of a keyring of purpose session. Its signing key
// seals; all of its keys open, so that an answer outlives a rotation.
func NewSealer(ring *Keyring) (*Sealer, error) {
	if err := checkRing(ring, PurposeSession); err != nil {
		return nil, fmt.Errorf("sealer: %w", err)
	}
	s := &Sealer{keyID: ring.SigningKeyID(), aeads: map[string]func() cipher.AEAD{}}
	for id, key := range ring.byID {
		private, ok := key.signer.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("sealer: want a session key whose private part is at hand, got %s", id)
		}
		aead, err := sealingKey(private)
		if err != nil {
			return nil, fmt.Errorf("sealer: %w", err)
		}
		s.aeads[id] = func() cipher.AEAD { return aead }
	}
	return s, nil
}

func sealingKey(private *ecdsa.PrivateKey) (cipher.AEAD, error) {
	scalar, err := private.Bytes()
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, scalar, nil, sealInfo, 32)
	if err != nil {
		return nil, err
	}
	return newAEAD(key)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Format prints the id of the key that seals under every verb, so that no verb walks
// into the keys.
func (s Sealer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.keyID) }

// Seal encrypts a text for a place: whoever opens it must name the same one, so
// that a sealed text moved to another row is none there.
func (s *Sealer) Seal(text []byte, place string) []byte {
	header := s.keyID + "\x00"
	return s.aeads[s.keyID]().Seal([]byte(header), nil, text, []byte(header+place))
}

// Open decrypts what Seal made for a place. The error tells nothing of the text.
func (s *Sealer) Open(sealed []byte, place string) ([]byte, error) {
	keyID, rest, found := strings.Cut(string(sealed), "\x00")
	loaded := s.aeads[keyID]
	if !found || loaded == nil {
		return nil, errors.New("opening what was sealed: it is of no key that is loaded")
	}
	text, err := loaded().Open(nil, nil, []byte(rest), []byte(keyID+"\x00"+place))
	if err != nil {
		return nil, errors.New("opening what was sealed: it was changed, or it is of another place")
	}
	return text, nil
}
