package audit

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// validate refuses a record that is not complete, or that could not be kept or
// printed as it is.
func (r *Record) validate() error {
	if err := validTime(r.Time); err != nil {
		return err
	}
	if err := validID("id", r.ID); err != nil {
		return err
	}
	if err := validID("settles", r.Settles); err != nil {
		return err
	}
	if r.RequestID == "" {
		return errors.New("request_id is missing")
	}
	for _, m := range []struct {
		name, value string
		max         int // bytes
	}{
		{"action", r.Action, 64},
		{"outcome", r.Outcome, 32},
		{"reason", r.Reason, 256},
		{"identity_type", r.IdentityType, 32},
		{"identity_value", r.IdentityValue, 320}, // the longest e-mail address
		{"omni_account", r.OmniAccount, 128},
		{"wallet", r.Wallet, 128},
		{"key_id", r.KeyID, 128},
		{"token_id", r.TokenID, 128},
		{"source", r.Source, 128},
		{"request_id", r.RequestID, 128},
		{"tenant", r.Tenant, 128},
		{"agent", r.Agent, 128},
		{"service", r.Service, 32},
		{"scope_path", r.ScopePath, 256},
		{"grant_id", r.GrantID, 64},
		{"credential_id", r.CredentialID, 128},
		{"detail", r.Detail, 512},
	} {
		if err := validText(m.value, m.max); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if !isDotted(r.Action) {
		return fmt.Errorf("action: want words like %q, got %q", "mint.oidc_jwt", r.Action)
	}
	if !isWord(r.Outcome) {
		return fmt.Errorf("outcome: want a word like %q, got %q", "issued", r.Outcome)
	}
	return nil
}

// validID accepts a ULID or nothing. Lower case is the same ULID, and would be a
// second record under it.
func validID(name, id string) error {
	if id == "" {
		return nil
	}
	if parsed, err := ParseID(id); err != nil || parsed != id {
		return fmt.Errorf("%s: want a ULID in capitals, got %.40q", name, id)
	}
	return nil
}

// ParseID reads the ID of a record, in capitals or not, and returns it as records have
// it.
func ParseID(text string) (string, error) {
	id, err := ulid.ParseStrict(text)
	if err != nil {
		return "", fmt.Errorf("want the ID of a record, a ULID, got %.40q", text)
	}
	return id.String(), nil
}

// isDotted reports whether s is words joined by dots. Actions and outcomes are
// words of the program, never a caller's text.
func isDotted(s string) bool {
	for word := range strings.SplitSeq(s, ".") {
		if !isWord(word) {
			return false
		}
	}
	return true
}

// isWord reports whether s is a lower-case letter, then letters, digits and _.
func isWord(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// validTime accepts the times that a ULID and a reader can make sense of.
func validTime(t time.Time) error {
	if t.IsZero() {
		return errors.New("time is missing")
	}
	if year := t.UTC().Year(); year < 1970 || year > 9999 {
		return fmt.Errorf("time: want a year from 1970 to 9999, got %d", year)
	}
	return nil
}

// validText refuses what would let one record pass for two, or for another, in
// a log line or on a terminal: line breaks, escape sequences, characters that
// reorder or hide the text around them (unicode.Cf), and bytes that are not
// UTF-8. It refuses too long a value rather than cutting it: what is cut off is
// what an attacker wants to have cut off.
func validText(s string, max int) error {
	if len(s) > max {
		return fmt.Errorf("want at most %d bytes, got %d", max, len(s))
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("want UTF-8, got %q", s)
	}
	for i, c := range s {
		if plain := ' ' <= c && c <= '~'; !plain && !unicode.IsGraphic(c) {
			return fmt.Errorf("want printable characters, got %U at byte %d", c, i)
		}
	}
	return nil
}
