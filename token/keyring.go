package token

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxKeys is the number of keys over which AWS STS reads none of a set
// (observed; nothing a rotation comes near).
const maxKeys = 100

// Keyring is one key that signs and the others that are published beside it:
// the next one, which AWS must know before it signs, and former ones whose
// tokens still live. It is immutable and may be used concurrently.
type Keyring struct {
	signing      *Key
	byID         map[string]*Key
	certificates map[string]*Certificate // by the id of the key; most have none
	jwks         []byte
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

// WithCertificates returns the keyring with certificates in its JWKS. Each is for
// one of the keys, for another one each, and valid now.
func (r *Keyring) WithCertificates(now time.Time, certificates ...*Certificate) (*Keyring, error) {
	n := &Keyring{signing: r.signing, byID: r.byID, certificates: map[string]*Certificate{}}
	for _, c := range certificates {
		if n.byID[c.KeyID()] == nil {
			return nil, fmt.Errorf("keyring: want certificates of %s, got one of %s", strings.Join(slices.Sorted(maps.Keys(r.byID)), ", "), c.KeyID())
		}
		if n.certificates[c.KeyID()] != nil {
			return nil, fmt.Errorf("keyring: want one certificate for a key, got two of %s", c.KeyID())
		}
		if err := c.check(now); err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		n.certificates[c.KeyID()] = c
	}
	jwks, err := n.encode()
	if err != nil {
		return nil, fmt.Errorf("keyring: encoding the JWK Set: %w", err)
	}
	n.jwks = jwks
	return n, nil
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
// A key with a certificate has x5c and x5t#S256 as well. Where there is any, the key
// that signs comes first: who reads x5c is Ceph's RADOS gateway, and it takes the
// first key for the only one (seen of 16.2).
//
// Only the broker verifies session tokens, so the set of a session keyring is
// empty: wired to the wrong place, it publishes nothing.
func (r *Keyring) JWKS() []byte { return bytes.Clone(r.jwks) }

func (r *Keyring) encode() ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	if r.Purpose() == PurposeOIDC {
		for id, k := range r.byID {
			jwk := jose.JSONWebKey{Key: k.public, KeyID: id, Algorithm: algorithm, Use: "sig"}
			if c := r.certificates[id]; c != nil {
				c.into(&jwk)
			}
			set.Keys = append(set.Keys, jwk)
		}
	}
	slices.SortFunc(set.Keys, func(a, b jose.JSONWebKey) int {
		if len(r.certificates) > 0 && a.KeyID != b.KeyID {
			switch r.SigningKeyID() {
			case a.KeyID:
				return -1
			case b.KeyID:
				return 1
			}
		}
		return cmp.Compare(a.KeyID, b.KeyID)
	})
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
