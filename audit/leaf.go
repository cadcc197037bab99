package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// timeForm is RFC 3339 with milliseconds, in UTC.
const timeForm = "2006-01-02T15:04:05.000Z"

// SaltSize is the length of a record's salt in bytes.
const SaltSize = 16

// A Digest is a SHA-256 hash.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// leafPrefix stands before a leaf when it is hashed (RFC 6962, section 2.1).
const leafPrefix = 0

// leafSize is room for a leaf, or the text of its personal members, of usual length.
const leafSize = 640

// Leaf is the text of a record that the tree commits to, version 1 of
// docs/audit-format.md: RFC 8785 JSON with the members of the record that are not
// empty and not personal, and the digest of those that are.
func (r *Record) Leaf(person Digest) []byte { return r.appendLeaf(make([]byte, 0, leafSize), person) }

func (r *Record) appendLeaf(b []byte, person Digest) []byte {
	from := len(b)
	b = appendMember(b, from, `"action":`, r.Action)
	b = appendMember(b, from, `"credential_id":`, r.CredentialID)
	b = appendMember(b, from, `"detail":`, r.Detail)
	b = appendMember(b, from, `"grant_id":`, r.GrantID)
	b = appendMember(b, from, `"id":`, r.ID)
	b = appendMember(b, from, `"key_id":`, r.KeyID)
	b = appendMember(b, from, `"outcome":`, r.Outcome)
	b = appendName(b, from, `"person":`)
	b = append(hex.AppendEncode(append(b, '"'), person[:]), '"')
	b = appendMember(b, from, `"reason":`, r.Reason)
	b = appendMember(b, from, `"request_id":`, r.RequestID)
	b = appendMember(b, from, `"service":`, r.Service)
	b = appendMember(b, from, `"settles":`, r.Settles)
	b = appendName(b, from, `"time":`)
	b = append(appendTime(append(b, '"'), r.Time), '"')
	b = appendMember(b, from, `"token_id":`, r.TokenID)
	return append(b, `,"v":1}`...)
}

// PersonText is the text of the personal members of a record: RFC 8785 JSON of those
// that are not empty. With a salt before it, it is what a leaf has the digest of.
func (r *Record) PersonText() []byte { return r.appendPerson(make([]byte, 0, leafSize)) }

func (r *Record) appendPerson(b []byte) []byte {
	from := len(b)
	b = appendMember(b, from, `"agent":`, r.Agent)
	b = appendMember(b, from, `"identity_type":`, r.IdentityType)
	b = appendMember(b, from, `"identity_value":`, r.IdentityValue)
	b = appendMember(b, from, `"omni_account":`, r.OmniAccount)
	b = appendMember(b, from, `"scope_path":`, r.ScopePath)
	b = appendMember(b, from, `"source":`, r.Source)
	b = appendMember(b, from, `"tenant":`, r.Tenant)
	b = appendMember(b, from, `"wallet":`, r.Wallet)
	if len(b) == from {
		b = append(b, '{')
	}
	return append(b, '}')
}

// PersonDigest is SHA-256 over the salt and PersonText. The salt keeps it from being
// found by trying addresses, so erasing a person takes no more than forgetting both.
func (r *Record) PersonDigest(salt []byte) Digest { return personDigest(r, salt) }

func personDigest[T string | []byte](r *Record, salt T) Digest {
	var room [leafSize]byte // on the stack, unless the text is longer
	return sha256.Sum256(r.appendPerson(append(room[:0], salt...)))
}

func digestOf(salt, person []byte) Digest {
	var room [leafSize]byte
	return sha256.Sum256(append(append(room[:0], salt...), person...))
}

// LeafHash is the hash of a leaf in the tree (RFC 6962, section 2.1).
func (r *Record) LeafHash(person Digest) Digest {
	var room [leafSize]byte
	return sha256.Sum256(r.appendLeaf(append(room[:0], leafPrefix), person))
}

// hashLeaf is the hash of a leaf that is there as text.
func hashLeaf(text []byte) Digest {
	var room [leafSize]byte
	return sha256.Sum256(append(append(room[:0], leafPrefix), text...))
}

// seal gives a record its salt and the hash of its leaf.
func (r *Record) seal() (salt []byte, hash Digest) {
	salt = make([]byte, SaltSize)
	rand.Read(salt) // never fails, see crypto/rand
	r.Time = time.UnixMilli(r.Time.UnixMilli()).UTC()
	return salt, r.LeafHash(r.PersonDigest(salt))
}

// appendTime is AppendFormat with timeForm at a fifth of its cost.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 { // never of a record, but of a row that was changed
		return t.AppendFormat(b, timeForm)
	}
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond()/int(time.Millisecond), 3)
	return append(b, 'Z')
}

// appendDigits appends a number below 10^width with leading zeros.
func appendDigits(b []byte, n, width int) []byte {
	var digits [4]byte
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, digits[:width]...)
}

// appendMember appends a member to the object that begins at from, unless it is
// empty. The name comes with its quotes and its colon.
func appendMember(b []byte, from int, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(appendName(b, from, name), value)
}

func appendName(b []byte, from int, name string) []byte {
	if len(b) == from {
		return append(append(b, '{'), name...)
	}
	return append(append(b, ','), name...)
}

// escapes are the short ones of RFC 8785, section 3.2.2.2.
var escapes = [' ']byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'}

// appendText appends a JSON string as RFC 8785, section 3.2.2.2, has it.
func appendText(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	plain := 0 // from where on nothing is appended yet
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[plain:i]...)
		plain = i + 1
		switch {
		case c >= ' ':
			b = append(b, '\\', c)
		case escapes[c] != 0:
			b = append(b, '\\', escapes[c])
		default:
			b = append(append(b, `\u00`...), digits[c>>4], digits[c&15])
		}
	}
	return append(append(b, s[plain:]...), '"')
}
