package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A row is a record as it is in the database, its texts slices of one string.
type row struct {
	Record
	millis             int64
	salt, person, hash string
}

// rowText has SQLite put a row into one value, which is read three times as fast as
// its columns are one by one. The texts are apart by a character that validText admits
// in none, so a row in which it was put reads as one of too many parts. A NULL, which
// the schema admits nowhere and concat_ws would pass over, is one such character.
const rowText = `concat_ws(char(31), seq, time, coalesce(length(salt), ''), coalesce(length(person), ''), coalesce(length(hash), ''), concat(salt, person, hash),
	coalesce(id, char(31)), coalesce(action, char(31)), coalesce(outcome, char(31)), coalesce(reason, char(31)),
	coalesce(identity_type, char(31)), coalesce(identity_value, char(31)), coalesce(omni_account, char(31)), coalesce(wallet, char(31)),
	coalesce(key_id, char(31)), coalesce(token_id, char(31)), coalesce(source, char(31)), coalesce(request_id, char(31)),
	coalesce(tenant, char(31)), coalesce(agent, char(31)), coalesce(service, char(31)), coalesce(scope_path, char(31)),
	coalesce(grant_id, char(31)), coalesce(credential_id, char(31)), coalesce(settles, char(31)), coalesce(detail, char(31)))`

const rowMark = "\x1f"

// texts are the members in the order of rowText.
func (r *row) texts() [20]*string {
	return [...]*string{&r.ID, &r.Action, &r.Outcome, &r.Reason, &r.IdentityType, &r.IdentityValue, &r.OmniAccount, &r.Wallet,
		&r.KeyID, &r.TokenID, &r.Source, &r.RequestID, &r.Tenant, &r.Agent, &r.Service, &r.ScopePath, &r.GrantID, &r.CredentialID,
		&r.Settles, &r.Detail}
}

// parseRow reads a value of rowText. The place is read even where the rest cannot be.
func (r *row) parse(text string) error {
	var numbers [5]int64 // seq, time and the lengths of the bytes
	for i := range numbers {
		digits, rest, ok := strings.Cut(text, rowMark)
		n, err := strconv.ParseInt(digits, 10, 64)
		if !ok || err != nil {
			return fmt.Errorf("want a number, got %.40q", digits)
		}
		numbers[i], text = n, rest
		if i == 0 {
			r.Seq = n
		}
	}
	r.millis = numbers[1]
	r.Time = time.UnixMilli(r.millis).UTC()
	for i, into := range [...]*string{&r.salt, &r.person, &r.hash} {
		n := numbers[2+i]
		if n < 0 || n > int64(len(text)) {
			return fmt.Errorf("want %d bytes, got %d", n, len(text))
		}
		*into, text = text[:n], text[n:]
	}
	texts := r.texts()
	for i, into := range texts {
		if !strings.HasPrefix(text, rowMark) {
			return fmt.Errorf("want %d texts, got %d", len(texts), i)
		}
		text = text[len(rowMark):]
		end := strings.IndexByte(text, rowMark[0])
		if end < 0 {
			end = len(text)
		}
		*into, text = text[:end], text[end:]
	}
	if text != "" {
		return errors.New("there are control characters in its texts")
	}
	return nil
}

// leafHash is the hash of the leaf that the row comes to. It refuses rows that come to
// the leaf of another one as well.
func (r *row) leafHash() (Digest, error) {
	switch {
	case len(r.person) == 0 && (len(r.salt) == SaltSize || len(r.salt) == 0):
		return r.LeafHash(personDigest(&r.Record, r.salt)), nil
	case len(r.person) == len(Digest{}) && r.salt == "" && r.impersonal():
		return r.LeafHash(Digest([]byte(r.person))), nil
	case len(r.person) == len(Digest{}):
		return Digest{}, errors.New("it is erased, and has personal members or a salt")
	}
	return Digest{}, fmt.Errorf("want a salt of %d bytes or a digest of %d, got %d and %d", SaltSize, len(Digest{}), len(r.salt), len(r.person))
}

// impersonal reports whether the members are empty that erasing takes away.
func (r *Record) impersonal() bool {
	return r.Agent == "" && r.IdentityType == "" && r.IdentityValue == "" && r.OmniAccount == "" && r.ScopePath == "" &&
		r.Source == "" && r.Tenant == "" && r.Wallet == ""
}
