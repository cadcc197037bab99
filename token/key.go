package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"

	"github.com/go-jose/go-jose/v4"
)

// Purpose is the one thing that a key may sign.
type Purpose string

// The purposes of keys.
const (
	PurposeOIDC    Purpose = "oidc"    // web identity tokens, for AWS STS
	PurposeSession Purpose = "session" // session tokens, for the broker
	PurposeAudit   Purpose = "audit"   // heads of the audit log, for everybody; see [AuditKey]
)

func (p Purpose) known() bool { return p == PurposeAudit || p.check() == nil }

// check admits the purposes of a [Key].
func (p Purpose) check() error {
	if p != PurposeOIDC && p != PurposeSession {
		return fmt.Errorf("key purpose: want %q or %q, got %q", PurposeOIDC, PurposeSession, string(p))
	}
	return nil
}

// Key is an ES256 private key with its purpose and its id. It is not changed
// after it is made and may be used concurrently. It prints as its id.
type Key struct {
	purpose    Purpose
	thumbprint string // RFC 7638, SHA-256, base64url
	public     *ecdsa.PublicKey
	signer     crypto.Signer // behind a pointer, where no fmt verb follows
}

// GenerateKey makes a new key for a purpose.
func GenerateKey(p Purpose) (*Key, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating a key for %s: %w", p, err)
	}
	return newKey(p, private)
}

func newKey(p Purpose, private *ecdsa.PrivateKey) (*Key, error) {
	print, err := (&jose.JSONWebKey{Key: &private.PublicKey}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("computing the key's thumbprint: %w", err)
	}
	return &Key{
		purpose:    p,
		thumbprint: base64.RawURLEncoding.EncodeToString(print),
		public:     &private.PublicKey,
		signer:     private,
	}, nil
}

// ID is the key id (kid): "ak-oidc-" or "ak-session-" and the RFC 7638
// thumbprint of the public key, so that an id can belong to one key only.
func (k Key) ID() string { return "ak-" + string(k.purpose) + "-" + k.thumbprint }

// Purpose says what the key may sign.
func (k Key) Purpose() Purpose { return k.purpose }

// Public returns the public half.
func (k Key) Public() *ecdsa.PublicKey {
	public := *k.public
	return &public
}

// String returns the key id.
func (k Key) String() string { return k.ID() }

// Format prints the key id under every verb, so that no verb walks into the
// private part.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.ID()) }

// MarshalText is the key id. The private part is written by [WriteKeyFile]
// alone.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.ID()), nil }

// LogValue is the key id.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID()) }
