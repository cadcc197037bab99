package token

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// lifetime floors now to whole seconds, the unit of a NumericDate.
func lifetime(now time.Time, ttl time.Duration) (issued, expires time.Time, err error) {
	issued = time.Unix(now.Unix(), 0).UTC()
	expires = issued.Add(ttl)
	if issued.Unix() < 1 || expires.Unix() > lastSecond {
		return issued, expires, fmt.Errorf("the clock: want a time from 1970 to 9999, got %s", stamp(now))
	}
	return issued, expires, nil
}

func checkTTL(ttl, low, high time.Duration) error {
	if ttl < low || ttl > high || ttl%time.Second != 0 {
		return fmt.Errorf("token lifetime: want whole seconds from %s to %s, got %s", low, high, ttl)
	}
	return nil
}

func checkRing(r *Keyring, p Purpose) error {
	if r == nil {
		return fmt.Errorf("keyring: want keys for %s, got none", p)
	}
	if r.Purpose() != p {
		return fmt.Errorf("keyring: want keys for %s, got keys for %s", p, r.Purpose())
	}
	return nil
}

// maxIssuerLen is the length that AWS allows a provider's URL.
const maxIssuerLen = 255

// checkIssuer wants an issuer as OpenID Connect Core, section 2, has it: a URL
// with scheme and host and without query and fragment. Whether it may be http
// is the configuration's to say.
func checkIssuer(issuer string) error {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`?#"\<>`, r) }
	u, err := url.Parse(issuer)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" ||
		u.User != nil || strings.ContainsFunc(issuer, odd) || len(issuer) > maxIssuerLen {
		return fmt.Errorf("issuer: want an http or https URL of at most %d characters without user, query and fragment, got %.300q", maxIssuerLen, issuer)
	}
	return nil
}

// encodeJSON encodes without the escapes that are for HTML alone.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding the claims: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
