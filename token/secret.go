package token

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that must not reach a log: a token. Under fmt's verbs, in
// JSON and in slog it appears as "[secret 3f2a…]", with the first digits of
// its SHA-256, enough to tell two apart. Reveal is the one way to the text.
//
// Where Go asks a string kind for no method, the text still shows: as the
// operand of %p or of %w (go vet refuses both), in an unexported field of a
// struct that is printed, and as a key of a map in JSON. Keep a Secret out of
// those.
type Secret string

// Reveal returns the text itself, for the one answer it is meant for.
func (s Secret) Reveal() string { return string(s) }

// String returns the form that may be logged.
func (s Secret) String() string {
	if s == "" {
		return "[secret, empty]"
	}
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("[secret %x…]", sum[:2])
}

// Format writes the same under every verb; %x or %q would otherwise show the
// bytes.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText serves encoding/json, XML and everything else that asks for text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue serves slog, whose text handler would print a string kind as it is.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
