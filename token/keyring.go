package token

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// maxKeys is the number of keys over which AWS STS reads none of a set
// (observed; nothing a rotation comes near).
const maxKeys = 100

// Keyring is one key that signs and the others that are published beside it:
// the next one, which AWS must know before it signs, and former ones whose
// tokens still live. It is immutable and may be used concurrently.
type Keyring struct {
	signing *Key
	byID    map[string]*Key
	jwks    []byte
}

// NewKeyring makes a keyring. All keys have the signing key's purpose, and
// none occurs twice.
func NewKeyring(signing *Key, others ...*Key) (*Keyring, error) {
	if signing == nil {
		return nil, errors.New("keyring: want a signing key, got none")
	}
	if n := 1 + len(others); n > maxKeys {
		return nil, fmt.Errorf("keyring: want at most %d keys, got %d", maxKeys, n)
	}
	r := &Keyring{signing: signing, byID: map[string]*Key{signing.ID(): signing}}
	for _, k := range others {
		if k == nil {
			return nil, errors.New("keyring: one of the other keys is nil")
		}
		if k.purpose != signing.purpose {
			return nil, fmt.Errorf("keyring: want keys for %s only, got %s for %s", signing.purpose, k.ID(), k.purpose)
		}
		if r.byID[k.ID()] != nil {
			return nil, fmt.Errorf("keyring: want each key once, got %s twice", k.ID())
		}
		r.byID[k.ID()] = k
	}
	jwks, err := r.encode()
	if err != nil {
		return nil, fmt.Errorf("keyring: encoding the JWK Set: %w", err)
	}
	r.jwks = jwks
	return r, nil
}

// SigningKeyID is the id of the key that signs.
func (r *Keyring) SigningKeyID() string { return r.signing.ID() }

// Purpose is what all keys of the ring are for.
func (r *Keyring) Purpose() Purpose { return r.signing.purpose }

// JWKS returns the JWK Set (RFC 7517, section 5) that verifiers fetch: kty,
// crv, x, y, use, alg and kid of each key, in the order of their ids, so that
// the bytes stay the same when another key takes over the signing. There is no
// key_ops: AWS STS refuses keys that have it.
//
// Only the broker verifies session tokens, so the set of a session keyring is
// empty: wired to the wrong place, it publishes nothing.
func (r *Keyring) JWKS() []byte { return bytes.Clone(r.jwks) }

func (r *Keyring) encode() ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	if r.Purpose() == PurposeOIDC {
		for id, k := range r.byID {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.public, KeyID: id, Algorithm: algorithm, Use: "sig"})
		}
	}
	slices.SortFunc(set.Keys, func(a, b jose.JSONWebKey) int { return cmp.Compare(a.KeyID, b.KeyID) })
	return json.Marshal(set)
}

// Disjoint refuses two keyrings that share a key. The id of a key tells its
// purpose, so key material that was copied from one purpose's file into
// another's shows only in its thumbprint.
func Disjoint(a, b *Keyring) error {
	for _, k := range a.byID {
		for _, other := range b.byID {
			if k.thumbprint == other.thumbprint {
				return fmt.Errorf("keyrings: want keys that serve one purpose, got one key as %s and %s", k.ID(), other.ID())
			}
		}
	}
	return nil
}
