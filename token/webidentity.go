package token

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// TagKey is the session tag that AWS keeps tenants apart by, and the name of
// the claim beside it.
const TagKey = "agentkeys_user_wallet"

// WebIdentityType is the typ of a web identity token's header.
const WebIdentityType = "JWT"

// SubjectPrefix stands before the caller's wallet or account in a web identity
// token's sub.
const SubjectPrefix = "agentkeys:agent:"

// The bounds of a web identity token's lifetime.
const (
	MinWebIdentityTTL = 60 * time.Second
	MaxWebIdentityTTL = 3600 * time.Second
)

const (
	maxWebIdentityLen = 20_000 // AWS STS, AssumeRoleWithWebIdentity, WebIdentityToken
	maxAudienceLen    = 255    // AWS IAM, a client id of an OIDC provider
)

// WebIdentity is what a minted web identity token says, for the audit record
// and the answer.
type WebIdentity struct {
	ID                  string // jti
	KeyID               string // the key that signed it
	Subject             string // sub
	Tag                 string // the tenant
	IssuedAt, ExpiresAt time.Time
}

// WebIdentityConfig is all that minting depends on. Every member is wanted.
type WebIdentityConfig struct {
	Issuer   string        // iss, byte for byte the provider's URL at AWS
	Audience string        // aud, the provider's client id at AWS
	Keys     *Keyring      // of purpose oidc
	TTL      time.Duration // whole seconds, 60 s to 3600 s
	TagKey   string        // the session tag and claim; TagKey
}

// WebIdentities mints web identity tokens. It may be used concurrently.
type WebIdentities struct{ config WebIdentityConfig }

// NewWebIdentities checks the configuration.
func NewWebIdentities(c WebIdentityConfig) (*WebIdentities, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("web identity tokens: %w", err)
	}
	return &WebIdentities{config: c}, nil
}

func (c WebIdentityConfig) check() error {
	if err := checkIssuer(c.Issuer); err != nil {
		return err
	}
	if err := checkAudience(c.Audience, c.Issuer); err != nil {
		return err
	}
	if err := checkRing(c.Keys, PurposeOIDC); err != nil {
		return err
	}
	if err := checkTTL(c.TTL, MinWebIdentityTTL, MaxWebIdentityTTL); err != nil {
		return err
	}
	return checkTagKey(c.TagKey)
}

func checkAudience(audience, issuer string) error {
	if n := len(audience); n < 1 || n > maxAudienceLen {
		return fmt.Errorf("audience: want 1 to %d characters, got %d", maxAudienceLen, n)
	}
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == utf8.RuneError }
	if strings.ContainsFunc(audience, odd) {
		return fmt.Errorf("audience: want printable characters without spaces, got %q", audience)
	}
	if audience == SessionAudience(issuer) {
		return fmt.Errorf("audience: want one for AWS STS, got %q, which is the session tokens'", audience)
	}
	return nil
}

// checkTagKey refuses keys that AWS has no room for, and those that would take
// the place of another claim.
func checkTagKey(key string) error {
	if err := checkTagText(key, 1, maxTagKey); err != nil {
		return fmt.Errorf("session tag key: %w", err)
	}
	claims := []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "amr", "email"}
	if slices.Contains(claims, key) || strings.Contains(key, "aws.amazon.com") {
		return fmt.Errorf("session tag key: want a name that is no claim of its own, got %q", key)
	}
	return nil
}

// Mint signs a token for AWS STS that carries the tenant's tag: the wallet, 0x
// and 40 lower-case hexadecimal digits, or the omni account, 64. Any other
// value is refused and never cleaned: two tenants must not become one.
//
// The caller takes the tag from a verified session and from nowhere else.
func (w *WebIdentities) Mint(tagValue string, now time.Time) (Secret, WebIdentity, error) {
	return w.mint(tagValue, now, []tag{{w.config.TagKey, tagValue}})
}

// MintUntagged signs the same token without the tags claim: the control by
// which the prover shows that AWS refuses a token that has no tag. No handler
// of the broker calls it.
func (w *WebIdentities) MintUntagged(tagValue string, now time.Time) (Secret, WebIdentity, error) {
	return w.mint(tagValue, now, nil)
}

// MintFor signs a token whose subject is one party and whose tag is another: a
// daemon that acts under an owner's grant. The id is its jti, made by the caller
// beforehand so that the record of the mint names it. The token is for the broker's
// own call of STS and never leaves the broker: with it alone, without the session
// policy, its bearer would be the tenant.
func (w *WebIdentities) MintFor(caller, tagValue, id string, now time.Time) (Secret, WebIdentity, error) {
	if !wallets.MatchString(caller) {
		return Secret{}, WebIdentity{}, fmt.Errorf("minting a web identity token: caller: want 0x and 40 lower-case hexadecimal digits, got %.80q", caller)
	}
	if !tokenIDs.MatchString(id) {
		return Secret{}, WebIdentity{}, fmt.Errorf("minting a web identity token: jti: want 26 characters of base 32, got %.80q", id)
	}
	return w.mintAs(caller, tagValue, id, now, []tag{{w.config.TagKey, tagValue}})
}

// tokenIDs is the form of rand.Text, which the ids of tokens are.
var tokenIDs = regexp.MustCompile(`^[A-Z2-7]{26}$`)

func (w *WebIdentities) mint(tagValue string, now time.Time, tags []tag) (Secret, WebIdentity, error) {
	return w.mintAs(tagValue, tagValue, rand.Text(), now, tags)
}

func (w *WebIdentities) mintAs(caller, tagValue, jti string, now time.Time, tags []tag) (Secret, WebIdentity, error) {
	if !wallets.MatchString(tagValue) && !omniAccounts.MatchString(tagValue) {
		return Secret{}, WebIdentity{}, fmt.Errorf("minting a web identity token: tag: want 0x and 40 or plain 64 lower-case hexadecimal digits, got %.80q", tagValue)
	}
	issued, expires, err := lifetime(now, w.config.TTL)
	if err != nil {
		return Secret{}, WebIdentity{}, fmt.Errorf("minting a web identity token: %w", err)
	}
	id := WebIdentity{
		ID:        jti,
		KeyID:     w.config.Keys.SigningKeyID(),
		Subject:   SubjectPrefix + caller,
		Tag:       tagValue,
		IssuedAt:  issued,
		ExpiresAt: expires,
	}
	raw, err := w.sign(id, tags)
	if err != nil {
		return Secret{}, WebIdentity{}, fmt.Errorf("minting a web identity token: %w", err)
	}
	return raw, id, nil
}

// sign makes the token. Its claims are a map, as the name of one of them is
// configured; the encoder sorts them.
func (w *WebIdentities) sign(id WebIdentity, tags []tag) (Secret, error) {
	claims := map[string]any{
		"iss":           w.config.Issuer,
		"sub":           id.Subject,
		"aud":           w.config.Audience,
		"iat":           id.IssuedAt.Unix(),
		"nbf":           id.IssuedAt.Unix(),
		"exp":           id.ExpiresAt.Unix(),
		"jti":           id.ID,
		w.config.TagKey: id.Tag,
	}
	if len(tags) > 0 {
		claim, err := newTagsClaim(tags)
		if err != nil {
			return Secret{}, err
		}
		claims[TagsClaim] = claim
	}
	payload, err := encodeJSON(claims)
	if err != nil {
		return Secret{}, err
	}
	raw, err := w.config.Keys.signing.sign(WebIdentityType, payload)
	if err != nil {
		return Secret{}, err
	}
	if len(raw.Reveal()) >= maxWebIdentityLen {
		return Secret{}, fmt.Errorf("want a token under %d characters, got %d", maxWebIdentityLen, len(raw.Reveal()))
	}
	return raw, nil
}
