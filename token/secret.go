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
// The text is behind a pointer because fmt calls no method of a value in an
// unexported field, and follows no pointer there: it prints an address.
type Secret struct{ text *string }

func newSecret(text string) Secret { return Secret{&text} }

func NewSecret(text string) Secret { return newSecret(text) }

// Reveal returns the text itself, for the one answer it is meant for. That of
// the zero Secret is empty.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns the form that may be logged.
func (s Secret) String() string {
	if s.Reveal() == "" {
		return "[secret, empty]"
	}
	sum := sha256.Sum256([]byte(s.Reveal()))
	return fmt.Sprintf("[secret %x…]", sum[:2])
}

// Format writes the same under every verb; %x or %q would otherwise show the
// bytes.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText serves encoding/json, XML and everything else that asks for text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue gives slog handlers of any make the safe text and nothing else.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
