package federation

import (
	"encoding/json"
	"fmt"
	"strings"
)

// tagsClaim is the one claim that AWS turns into session tags; an ordinary claim
// of the tag's name never becomes one (id_session-tags).
const tagsClaim = "https://aws.amazon.com/tags"

// claims are those parts of a token's payload that decide at STS, as AWS reads
// them. They are read without verifying the signature: the token is the prover's
// own, and what it says is only used to explain an answer.
type claims struct {
	Issuer   string
	Subject  string
	Audience string // "" where there is not exactly one
	Tag      string // value of the session tag; "" where AWS reads none
	Plain    string // value of the ordinary claim of the tag's name, which AWS does not read
	// TagProblem says why AWS reads no tag. It is empty where it reads one.
	TagProblem string
	// HasTags reports whether the token tries to carry tags at all, readable or
	// not.
	HasTags bool
}

// readClaims reads a compact JWS.
func readClaims(token, tagKey string) (claims, error) {
	t, err := ReadToken(token)
	if err != nil {
		return claims{}, err
	}
	c := claims{Issuer: text(t.Claims["iss"]), Subject: text(t.Claims["sub"]), Audience: audience(t.Claims["aud"]), Plain: text(t.Claims[tagKey])}
	for name := range t.Claims {
		if name == tagsClaim || strings.HasPrefix(name, tagsClaim+"/") {
			c.HasTags = true
		}
	}
	c.Tag, c.TagProblem = sessionTag(t.Claims, tagKey)
	return c, nil
}

// TenantOf is the tag of the tenant that a web identity token was minted for: what
// its subject names, and else the tag that AWS reads from it, and else the ordinary
// claim. The subject comes first, so that a token whose tag is another's, or is
// missing, shows as that and not as another tenant. The signature is not verified:
// STS does that.
func TenantOf(token string, c Config) (string, error) {
	read, err := readClaims(token, c.TagKey)
	if err != nil {
		return "", err
	}
	subject, named := strings.CutPrefix(read.Subject, strings.TrimSuffix(SubjectPattern, "*"))
	for _, tag := range []string{subject, read.Tag, read.Plain} {
		if (tag != subject || named) && tenantTag.MatchString(tag) {
			return tag, nil
		}
	}
	return "", fmt.Errorf("reading the web identity token: want a subject of the form %s or a tag %s of a-z and 0-9, got subject %q and tag %q",
		SubjectPattern, c.TagKey, oneLine(read.Subject), oneLine(read.Tag))
}

// IssuerOf is the issuer and the one audience of a web identity token. The
// signature is not verified.
func IssuerOf(token string) (issuer, audience string, err error) {
	c, err := readClaims(token, DefaultTagKey)
	if err == nil && (c.Issuer == "" || c.Audience == "") {
		err = fmt.Errorf("reading the web identity token: want an issuer and one audience, got issuer %q and audience %q", oneLine(c.Issuer), oneLine(c.Audience))
	}
	return c.Issuer, c.Audience, err
}

// sessionTag finds the tag in either of the forms that AWS reads. Where AWS
// refuses a token for its tags, it reads none of them.
func sessionTag(all map[string]json.RawMessage, key string) (tag, problem string) {
	tags := readTags(all)
	if tags.Problem != "" {
		return "", tags.Problem
	}
	value, ok := tags.get(key)
	switch {
	case !ok:
		return "", noTag(all, tags, key)
	case value == "":
		return "", "its tag " + key + " is empty; want an array of one string with a value"
	}
	return value, ""
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func audience(raw json.RawMessage) string {
	var several []string
	if json.Unmarshal(raw, &several) == nil && len(several) == 1 {
		return several[0]
	}
	return text(raw)
}

// controlProblem says why a token is not a fit control, or "". The control must
// differ from a tenant's token in the tag alone: one that STS would refuse for
// its issuer, audience or subject shows nothing about the tag.
func controlProblem(got claims, c Config) string {
	switch {
	case got.HasTags:
		return "the control token carries " + tagsClaim
	case got.Issuer != c.Issuer:
		return fmt.Sprintf("the control token has issuer %q, not %q", got.Issuer, c.Issuer)
	case got.Audience != c.Audience:
		return fmt.Sprintf("the control token has audience %q, not %q", got.Audience, c.Audience)
	case !strings.HasPrefix(got.Subject, strings.TrimSuffix(SubjectPattern, "*")):
		return fmt.Sprintf("the control token has subject %q, not of the form %s", got.Subject, SubjectPattern)
	}
	return ""
}
