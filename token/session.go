package token

import (
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// SessionType is the typ of a session token's header.
const SessionType = "agentkeys-session+jwt"

// The bounds of a session's lifetime.
const (
	MinSessionTTL = 60 * time.Second
	MaxSessionTTL = 24 * time.Hour
)

// Leeway is how far in the future a session's iat and nbf may lie, for hosts
// whose clocks differ a little. Expiry has none: at exp the session is over.
const Leeway = 5 * time.Second

const (
	maxSessionLen  = 8192 // characters of a session token
	maxIdentityLen = 2048 // bytes of an identity's value; a SPIFFE ID has at most that many
)

// Subject is who a session belongs to: the proven identity, the account that
// it is, and the account's wallet, which may be "".
type Subject struct {
	IdentityType  string // "evm", "email", …
	IdentityValue string
	OmniAccount   string // 64 lower-case hexadecimal digits
	Wallet        string // 0x and 40 lower-case hexadecimal digits, or ""
}

// Session is what a verified session token says.
type Session struct {
	ID    string // jti
	KeyID string // the key that signed it
	Subject
	IssuedAt, ExpiresAt time.Time // whole seconds, UTC
}

// Sessions issues session tokens and verifies them. It may be used
// concurrently.
type Sessions struct {
	issuer   string
	audience string
	ring     *Keyring
	ttl      time.Duration
	memory   *memory
}

// NewSessions makes the sessions of an issuer. The ring is of purpose session;
// ttl is whole seconds from [MinSessionTTL] to [MaxSessionTTL].
func NewSessions(issuer string, ring *Keyring, ttl time.Duration) (*Sessions, error) {
	if err := checkIssuer(issuer); err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	if err := checkRing(ring, PurposeSession); err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	if err := checkTTL(ttl, MinSessionTTL, MaxSessionTTL); err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	return &Sessions{
		issuer:   issuer,
		audience: SessionAudience(issuer),
		ring:     ring,
		ttl:      ttl,
		memory:   newMemory(maxRemembered),
	}, nil
}

// SessionAudience is the aud of an issuer's session tokens. An issuer has no
// fragment, so this is no issuer, no endpoint of one, and no audience that
// AWS STS would be asked to accept.
func SessionAudience(issuer string) string { return issuer + "#session" }

type sessionClaims struct {
	Issuer        string `json:"iss"`
	Audience      string `json:"aud"`
	OmniAccount   string `json:"sub"`
	ID            string `json:"jti"`
	IssuedAt      int64  `json:"iat"`
	NotBefore     int64  `json:"nbf"`
	ExpiresAt     int64  `json:"exp"`
	IdentityType  string `json:"identity_type"`
	IdentityValue string `json:"identity_value"`
	Wallet        string `json:"wallet,omitempty"`
}

// Issue signs a session token for a subject whose identity has been proven.
// It is valid from now, in whole seconds, for the ttl.
func (s *Sessions) Issue(sub Subject, now time.Time) (Secret, Session, error) {
	if err := sub.check(); err != nil {
		return Secret{}, Session{}, fmt.Errorf("issuing a session: %w", err)
	}
	issued, expires, err := lifetime(now, s.ttl)
	if err != nil {
		return Secret{}, Session{}, fmt.Errorf("issuing a session: %w", err)
	}
	session := Session{
		ID:        rand.Text(),
		KeyID:     s.ring.SigningKeyID(),
		Subject:   sub,
		IssuedAt:  issued,
		ExpiresAt: expires,
	}
	payload, err := encodeJSON(sessionClaims{
		Issuer: s.issuer, Audience: s.audience, OmniAccount: sub.OmniAccount, ID: session.ID,
		IssuedAt: issued.Unix(), NotBefore: issued.Unix(), ExpiresAt: expires.Unix(),
		IdentityType: sub.IdentityType, IdentityValue: sub.IdentityValue, Wallet: sub.Wallet,
	})
	if err != nil {
		return Secret{}, Session{}, fmt.Errorf("issuing a session: %w", err)
	}
	raw, err := s.ring.signing.sign(SessionType, payload)
	if err != nil {
		return Secret{}, Session{}, fmt.Errorf("issuing a session: %w", err)
	}
	if len(raw.Reveal()) > maxSessionLen {
		return Secret{}, Session{}, fmt.Errorf("issuing a session: want a token of at most %d characters, got %d", maxSessionLen, len(raw.Reveal()))
	}
	return raw, session, nil
}

// Verify returns the session of a token that this issuer's session keys signed
// and whose time it is. Every refusal is an [*Error]. In this order: size and
// structure, header, signature, and only then iss, aud, times and the rest.
//
// A token that was found good is remembered by its SHA-256 until it expires,
// and then costs one hash; its times are checked each time. Revocation is the
// caller's: a revoked session still verifies.
func (s *Sessions) Verify(raw string, now time.Time) (Session, error) {
	if len(raw) > maxSessionLen { // before the hash: no work for a token that cannot be ours
		return Session{}, refuse(CodeMalformedToken, "want at most %d characters, got %d", maxSessionLen, len(raw))
	}
	id := digestOf(raw)
	if known, ok := s.memory.recall(id, now); ok {
		if err := known.checkTimes(now); err != nil {
			return Session{}, err
		}
		return known.Session, nil
	}
	payload, key, err := s.ring.verify(raw, SessionType)
	if err != nil {
		return Session{}, err
	}
	found, err := s.parseClaims(payload)
	if err != nil {
		return Session{}, err
	}
	if err := found.checkTimes(now); err != nil {
		return Session{}, err
	}
	found.KeyID = key.ID()
	s.memory.remember(id, found, now)
	return found.Session, nil
}

// Forget drops a remembered verification, so that a session that ended does
// not take up room. It does not revoke: the token verifies again.
func (s *Sessions) Forget(jti string) { s.memory.forget(jti) }

// verified is a session with the claim that only verification needs.
type verified struct {
	Session
	notBefore time.Time
}

// parseClaims reads the claims of a token whose signature is good.
func (s *Sessions) parseClaims(payload []byte) (verified, error) {
	o, err := parseObject(payload)
	if err != nil {
		return verified{}, refuse(CodeMalformedToken, "the claims: %v", err)
	}
	if o["iss"] != s.issuer {
		return verified{}, refuse(CodeWrongIssuer, "the token's iss: want %q, got another or none", s.issuer)
	}
	if o["aud"] != s.audience {
		return verified{}, refuse(CodeWrongAudience, "the token's aud: want %q, got another or none", s.audience)
	}
	v, err := sessionOf(o)
	if err != nil {
		return verified{}, refuse(CodeMalformedToken, "the claims: %v", err)
	}
	return v, nil
}

func sessionOf(o object) (v verified, err error) {
	err = o.only("iss", "aud", "sub", "jti", "iat", "nbf", "exp", "identity_type", "identity_value", "wallet")
	text := func(name string) (s string) {
		if err == nil {
			s, err = o.text(name)
		}
		return s
	}
	seconds := func(name string) (t time.Time) {
		if err == nil {
			t, err = o.seconds(name)
		}
		return t
	}
	v.ID, v.OmniAccount = text("jti"), text("sub")
	v.IdentityType, v.IdentityValue = text("identity_type"), text("identity_value")
	if _, ok := o["wallet"]; ok {
		v.Wallet = text("wallet")
	}
	v.IssuedAt, v.notBefore, v.ExpiresAt = seconds("iat"), seconds("nbf"), seconds("exp")
	if err == nil {
		err = v.check()
	}
	return v, err
}

func (v verified) checkTimes(now time.Time) error {
	switch {
	case !now.Before(v.ExpiresAt):
		return refuse(CodeTokenExpired, "the session ended at %s, and it is %s", stamp(v.ExpiresAt), stamp(now))
	case v.IssuedAt.After(now.Add(Leeway)):
		return refuse(CodeClockBackwards, "the session was issued at %s, and it is %s", stamp(v.IssuedAt), stamp(now))
	case v.notBefore.After(now.Add(Leeway)):
		return refuse(CodeTokenNotYetValid, "the session begins at %s, and it is %s", stamp(v.notBefore), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (v verified) check() error {
	if life := v.ExpiresAt.Sub(v.IssuedAt); life <= 0 || life > MaxSessionTTL {
		return fmt.Errorf("exp: want at most %s after iat, got %s", MaxSessionTTL, life)
	}
	return v.Subject.check()
}

var (
	identityTypes = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	wallets       = regexp.MustCompile(`^0x[0-9a-f]{40}$`)
	omniAccounts  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (s Subject) check() error {
	switch {
	case !identityTypes.MatchString(s.IdentityType):
		return errors.New("identity type: want a lower-case word of at most 32 characters")
	case s.IdentityValue == "" || len(s.IdentityValue) > maxIdentityLen:
		return fmt.Errorf("identity value: want 1 to %d bytes, got %d", maxIdentityLen, len(s.IdentityValue))
	case !wellFormed(s.IdentityValue) || strings.ContainsFunc(s.IdentityValue, unicode.IsControl):
		return errors.New("identity value: want UTF-8 without control characters")
	case !omniAccounts.MatchString(s.OmniAccount):
		return errors.New("omni account: want 64 lower-case hexadecimal digits")
	case s.Wallet != "" && !wallets.MatchString(s.Wallet):
		return errors.New("wallet: want 0x and 40 lower-case hexadecimal digits, or none")
	}
	return nil
}
