package token

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The limits of AWS on session tags (IAM User Guide, "Pass session tags in AWS
// STS" and "Tags for IAM resources").
const (
	maxTags     = 50
	maxTagKey   = 128 // characters
	maxTagValue = 256 // characters
)

// TagsClaim is the claim that AWS STS reads session tags from. Any other
// spelling is an unknown claim to it: no error, and a session without tags.
const TagsClaim = "https://aws.amazon.com/tags"

type tag struct{ key, value string }

// tagsClaim is the value of that claim in its nested form. Each tag has an
// array of one value: STS refuses a plain string there.
type tagsClaim struct {
	PrincipalTags     map[string][]string `json:"principal_tags"`
	TransitiveTagKeys []string            `json:"transitive_tag_keys"`
}

// newTagsClaim checks tags against what AWS allows and makes them all
// transitive, so that they outlive role chaining.
func newTagsClaim(tags []tag) (tagsClaim, error) {
	if len(tags) == 0 || len(tags) > maxTags {
		return tagsClaim{}, fmt.Errorf("session tags: want 1 to %d, got %d", maxTags, len(tags))
	}
	claim := tagsClaim{PrincipalTags: map[string][]string{}}
	for i, t := range tags {
		if err := t.check(); err != nil {
			return tagsClaim{}, err
		}
		for _, other := range tags[:i] {
			if strings.EqualFold(t.key, other.key) {
				return tagsClaim{}, fmt.Errorf("session tags: want keys that differ by more than case, got %q and %q", other.key, t.key)
			}
		}
		claim.PrincipalTags[t.key] = []string{t.value}
		claim.TransitiveTagKeys = append(claim.TransitiveTagKeys, t.key)
	}
	return claim, nil
}

func (t tag) check() error {
	if err := checkTagText(t.key, 1, maxTagKey); err != nil {
		return fmt.Errorf("session tag key: %w", err)
	}
	if err := checkTagText(t.value, 0, maxTagValue); err != nil {
		return fmt.Errorf("value of session tag %q: %w", t.key, err)
	}
	return nil
}

// checkTagText counts UTF-16 units, the larger of the counts that AWS's
// "characters" may mean.
func checkTagText(s string, low, high int) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("want UTF-8, got %q", s)
	}
	if n := len(utf16.Encode([]rune(s))); n < low || n > high {
		return fmt.Errorf("want %d to %d characters, got %d", low, high, n)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !tagRune(r) }); i >= 0 {
		return fmt.Errorf("want letters, digits, spaces and _.:/=+-@, got %q", s)
	}
	if len(s) >= 4 && strings.EqualFold(s[:4], "aws:") {
		return fmt.Errorf("want no aws: in front, got %q", s)
	}
	return nil
}

func tagRune(r rune) bool {
	return unicode.In(r, unicode.L, unicode.Z, unicode.N) || strings.ContainsRune("_.:/=+-@", r)
}
