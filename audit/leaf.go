package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// timeForm is RFC 3339 with milliseconds, in UTC.
const timeForm = "2006-01-02T15:04:05.000Z"

// SaltSize is the length of a record's salt in bytes.
const SaltSize = 16

// A Digest is a SHA-256 hash.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// member is a name and a value of a leaf.
type member struct{ name, value string }

// Leaf is the text of a record that the tree commits to, version 1 of
// docs/audit-format.md: RFC 8785 JSON with the members of the record that are not
// empty and not personal, and the digest of those that are.
func (r *Record) Leaf(person Digest) []byte {
	b := make([]byte, 0, 512)
	for _, m := range [...]member{
		{"action", r.Action}, {"credential_id", r.CredentialID}, {"detail", r.Detail}, {"grant_id", r.GrantID}, {"id", r.ID},
		{"key_id", r.KeyID}, {"outcome", r.Outcome}, {"person", person.String()}, {"reason", r.Reason}, {"request_id", r.RequestID},
		{"service", r.Service}, {"settles", r.Settles}, {"time", r.Time.UTC().Format(timeForm)}, {"token_id", r.TokenID},
	} {
		b = appendMember(b, m)
	}
	return append(b, `,"v":1}`...)
}

// PersonText is the text of the personal members of a record: RFC 8785 JSON of those
// that are not empty. With a salt before it, it is what a leaf has the digest of.
func (r *Record) PersonText() []byte {
	b := make([]byte, 0, 512)
	for _, m := range [...]member{
		{"agent", r.Agent}, {"identity_type", r.IdentityType}, {"identity_value", r.IdentityValue}, {"omni_account", r.OmniAccount},
		{"scope_path", r.ScopePath}, {"source", r.Source}, {"tenant", r.Tenant}, {"wallet", r.Wallet},
	} {
		b = appendMember(b, m)
	}
	if len(b) == 0 {
		b = append(b, '{')
	}
	return append(b, '}')
}

// PersonDigest is SHA-256 over the salt and PersonText. The salt keeps it from being
// found by trying addresses, so erasing a person takes no more than forgetting both.
func (r *Record) PersonDigest(salt []byte) Digest { return digestOf(salt, r.PersonText()) }

func digestOf(salt, person []byte) Digest {
	return sha256.Sum256(append(append(make([]byte, 0, 600), salt...), person...))
}

// LeafHash is the hash of a leaf in the tree (RFC 6962, section 2.1).
func (r *Record) LeafHash(person Digest) Digest {
	return Digest(tlog.RecordHash(r.Leaf(person)))
}

// seal gives a record its salt and the hash of its leaf.
func (r *Record) seal() (salt []byte, hash Digest) {
	salt = make([]byte, SaltSize)
	rand.Read(salt) // never fails, see crypto/rand
	r.Time = time.UnixMilli(r.Time.UnixMilli()).UTC()
	return salt, r.LeafHash(r.PersonDigest(salt))
}

func appendMember(b []byte, m member) []byte {
	if m.value == "" {
		return b
	}
	if len(b) == 0 {
		b = append(b, '{')
	} else {
		b = append(b, ',')
	}
	b = append(append(append(b, '"'), m.name...), `":`...)
	return appendText(b, m.value)
}

// appendText appends a JSON string as RFC 8785, section 3.2.2.2, has it.
func appendText(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= ' ':
			b = append(b, c)
		case c == '\b':
			b = append(b, `\b`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\f':
			b = append(b, `\f`...)
		case c == '\r':
			b = append(b, `\r`...)
		default:
			b = append(append(b, `\u00`...), digits[c>>4], digits[c&15])
		}
	}
	return append(b, '"')
}
