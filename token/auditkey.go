package token

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/mod/sumdb/note"
)

// pseudonymInfo names the use of the derived key, as sealInfo does.
const pseudonymInfo = "agentkeys: pseudonyms in audit records, version 1"

// pseudonymScheme stands before every pseudonym and says how it was made.
const pseudonymScheme = "hmac-sha256:"

// AuditKey is the Ed25519 private key (RFC 8032) that signs the heads of the audit
// log as notes (C2SP signed-note), and from which the pseudonyms in its records are
// derived. It signs no token. It is not changed after it is made and may be used
// concurrently. It prints as its id.
type AuditKey struct {
	thumbprint string // RFC 7638, SHA-256, base64url
	public     ed25519.PublicKey
	secret     auditSecretFunc
}

// auditSecretFunc gives what must not print. fmt prints a function as its address; a
// pointer it follows under a verb that does not fit, such as %s.
type auditSecretFunc func() auditSecret

type auditSecret struct {
	private   ed25519.PrivateKey
	pseudonym []byte // the HMAC key
}

// GenerateAuditKey makes a new audit key.
func GenerateAuditKey() (*AuditKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating a key for %s: %w", PurposeAudit, err)
	}
	return newAuditKey(private)
}

func newAuditKey(private ed25519.PrivateKey) (*AuditKey, error) {
	public := private.Public().(ed25519.PublicKey)
	print, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("computing the key's thumbprint: %w", err)
	}
	pseudonym, err := hkdf.Key(sha256.New, private.Seed(), nil, pseudonymInfo, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of pseudonyms: %w", err)
	}
	return &AuditKey{
		thumbprint: base64.RawURLEncoding.EncodeToString(print),
		public:     public,
		secret:     func() auditSecret { return auditSecret{private, pseudonym} },
	}, nil
}

// ID is the key id (kid): "ak-audit-" and the RFC 7638 thumbprint of the public key
// (RFC 8037, section 2).
func (k AuditKey) ID() string { return "ak-" + string(PurposeAudit) + "-" + k.thumbprint }

// Verifier returns the public half as the text that a verifier of the named log
// takes, "name+hash+base64" (see note.NewVerifier). The name is that of
// [AuditOrigin]; one that is empty or holds white space or a plus is refused.
func (k AuditKey) Verifier(name string) (string, error) {
	if err := checkNoteName(name); err != nil {
		return "", err
	}
	text, err := note.NewEd25519VerifierKey(name, k.public)
	if err != nil {
		return "", fmt.Errorf("encoding the public audit key: %w", err)
	}
	return text, nil
}

// Signer returns what signs notes under the name of a log, which is refused as
// [AuditKey.Verifier] refuses it. It may be used concurrently and prints as the
// name and the hash of its key.
func (k AuditKey) Signer(name string) (note.Signer, error) {
	text, err := k.Verifier(name)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("reading the public audit key back: %w", err)
	}
	return noteSigner{name, verifier.KeyHash(), k.secret}, nil
}

// Pseudonym returns a name for a text that only the holder of the key can make
// again: "hmac-sha256:" and the HMAC-SHA-256 in hexadecimal digits. Equal texts have
// equal pseudonyms under one key, so the caller brings the text into its one form
// before. The HMAC's key is derived from the private part (HKDF-SHA-256, RFC 5869);
// another audit key gives other pseudonyms.
func (k AuditKey) Pseudonym(text string) string {
	mac := hmac.New(sha256.New, k.secret().pseudonym)
	mac.Write([]byte(text))
	return pseudonymScheme + hex.EncodeToString(mac.Sum(nil))
}

// String returns the key id.
func (k AuditKey) String() string { return k.ID() }

// Format prints the key id under every verb, so that no verb walks into the
// private part.
func (k AuditKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.ID()) }

// MarshalText is the key id. The private part is written by [WriteAuditKeyFile]
// alone.
func (k AuditKey) MarshalText() ([]byte, error) { return []byte(k.ID()), nil }

// LogValue is the key id.
func (k AuditKey) LogValue() slog.Value { return slog.StringValue(k.ID()) }

// noteSigner implements note.Signer with Ed25519, algorithm 1 of signed notes.
type noteSigner struct {
	name   string
	hash   uint32
	secret auditSecretFunc
}

func (s noteSigner) Name() string    { return s.name }
func (s noteSigner) KeyHash() uint32 { return s.hash }
func (s noteSigner) Sign(msg []byte) ([]byte, error) {
	return ed25519.Sign(s.secret().private, msg), nil
}

// String is the beginning of the verifier's text.
func (s noteSigner) String() string               { return fmt.Sprintf("%s+%08x", s.name, s.hash) }
func (s noteSigner) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, s.String()) }
func (s noteSigner) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
func (s noteSigner) LogValue() slog.Value         { return slog.StringValue(s.String()) }

// checkNoteName admits what may name a key in a note (C2SP signed-note).
func checkNoteName(name string) error {
	unfit := func(r rune) bool { return r == '+' || unicode.IsSpace(r) }
	if name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, unfit) {
		return fmt.Errorf("name of the log: want text without white space or plus, got %q", name)
	}
	return nil
}

// AuditOrigin is the name of the log of an issuer, which stands in the first line of
// its checkpoints and in its verifier's text: the issuer without its scheme, and
// "/audit". An issuer is https:// or http:// and a host in lower case; anything else
// is refused, so that no two issuers have one log.
func AuditOrigin(issuer string) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("origin of the audit log: %w", err) }
	u, err := url.Parse(issuer)
	if err != nil {
		return fail(fmt.Errorf("want an issuer such as https://broker.example.com, got %q", issuer))
	}
	bare := issuer == u.Scheme+"://"+u.Host && u.Host != "" && u.Host == strings.ToLower(u.Host)
	if !bare || u.Scheme != "https" && u.Scheme != "http" {
		return fail(fmt.Errorf("want https:// or http:// and a host in lower case with nothing behind it, got %q", issuer))
	}
	origin := u.Host + "/audit"
	if err := checkNoteName(origin); err != nil {
		return fail(err)
	}
	return origin, nil
}
