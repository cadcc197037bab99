package token

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Secret is text that must not reach a log: a token, or a key that STS gave. Under fmt's verbs, in
// JSON and in slog it appears as "[secret 3f2a…]", with the first digits of
// its SHA-256, enough to tell two apart. Reveal is the one way to the text.
//
// The text is behind a pointer because fmt calls no method of a value in an
// unexported field, and follows no pointer there: it prints an address.
type Secret struct{ text *string }

// NewSecret makes a Secret of text that comes from elsewhere, such as STS.
func NewSecret(text string) Secret { return Secret{&text} }

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

// The marks of what Redact cuts, and the shortest stretch that it takes for a
// part of the secret: 48 bits of a token, far beyond chance in a message.
const (
	redacted  = "[secret]"
	giveaways = 8
)

// Redact cuts out of text every stretch that it shares with the secret, of 8
// characters or more, or of all of a shorter secret. Letters, digits, "-" and
// "_" count alone, so white space or punctuation in between hides nothing. It is
// for what a server sends back, which may echo what it was sent; it does not see
// a secret that was encoded anew.
func (s Secret) Redact(text string) string {
	secret, _ := tokenCharacters(s.Reveal())
	bare, at := tokenCharacters(text)
	n := min(giveaways, len(secret))
	if n == 0 || len(bare) < n {
		return text
	}
	parts := make(map[string]bool, len(secret))
	for i := range len(secret) - n + 1 {
		parts[secret[i:i+n]] = true
	}
	var out strings.Builder
	end := 0 // of what is written or cut
	for i := range len(bare) - n + 1 {
		if !parts[bare[i:i+n]] {
			continue
		}
		if from := at[i]; from >= end {
			out.WriteString(text[end:from] + redacted)
		}
		end = at[i+n-1] + 1
	}
	out.WriteString(text[end:])
	return out.String()
}

// tokenCharacters returns the characters that base64url has, and where in text
// each stands.
func tokenCharacters(text string) (bare string, at []int) {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
			at = append(at, i)
		}
	}
	return b.String(), at
}
