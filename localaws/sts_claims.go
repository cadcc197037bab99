package localaws

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clockTolerance is how far an issuer's clock may be off.
const clockTolerance = 5 * time.Minute

// The claims by which a token sets tags, a source identity and roles.
const (
	tagsClaim           = "https://aws.amazon.com/tags"
	flatTagPrefix       = "https://aws.amazon.com/tags/principal_tags/"
	flatTransitiveClaim = "https://aws.amazon.com/tags/transitive_tag_keys"
	sourceIdentityClaim = "https://aws.amazon.com/source_identity"
	rolesClaim          = "https://aws.amazon.com/roles"
)

// webIdentity is what a token says of its bearer.
type webIdentity struct {
	issuer    string
	subject   string
	audiences []string // the aud claim
	audience  string   // azp where there is one, else the one audience
	amr       []string
	email     string
}

// issuerClaim is read first of all, since it names the provider to check by.
func (t claims) issuer() (string, *apiError) {
	raw, ok := t["iss"]
	if !ok {
		return "", missingClaim("iss")
	}
	iss, ok := text(raw)
	if !ok {
		return "", invalidIdentityToken("Invalid issuer claim in token.")
	}
	return iss, nil
}

func missingClaim(name string) *apiError {
	return invalidIdentityToken("Missing a required claim: " + name)
}

// identity checks the registered claims and the token's times.
func (t claims) identity(now time.Time) (*webIdentity, *apiError) {
	id := new(webIdentity)
	var e *apiError
	if id.issuer, e = t.issuer(); e != nil {
		return nil, e
	}
	for _, name := range []string{"sub", "aud", "iat", "exp"} {
		if _, ok := t[name]; !ok {
			return nil, missingClaim(name)
		}
	}
	if id.subject, e = t.subject(); e != nil {
		return nil, e
	}
	if e := t.checkTimes(now); e != nil {
		return nil, e
	}
	if e := t.setAudience(id); e != nil {
		return nil, e
	}
	if raw, ok := t["amr"]; ok {
		if id.amr, ok = textOrTexts(raw); !ok {
			return nil, invalidIdentityToken("Invalid amr claim in token.")
		}
	}
	id.email, _ = text(t["email"])
	return id, nil
}

// subject is a string, possibly empty, or a number as it is written.
func (t claims) subject() (string, *apiError) {
	raw := t["sub"]
	if string(raw) == "null" { // so AWS answers
		return "", internalFailure()
	}
	if s, ok := text(raw); ok {
		return s, nil
	}
	var n json.Number
	if json.Unmarshal(raw, &n) != nil {
		return "", invalidIdentityToken("Invalid subject claim in token.")
	}
	return n.String(), nil
}

func (t claims) checkTimes(now time.Time) *apiError {
	times := map[string]time.Time{}
	for _, name := range []string{"iat", "exp", "nbf"} {
		raw, ok := t[name]
		if !ok { // nbf alone may be missing
			continue
		}
		at, ok := claimTime(raw)
		if !ok {
			return invalidIdentityToken("Invalid timestamp in token claims.")
		}
		times[name] = at
	}
	earliest, latest := now.Add(-clockTolerance), now.Add(clockTolerance)
	if at := times["iat"]; at.After(latest) {
		return invalidIdentityToken("Token issued in the future: " + timeRule(latest, "after", "issued", at))
	}
	if at, ok := times["nbf"]; ok && at.After(latest) {
		return invalidIdentityToken("Token not yet valid: " + timeRule(latest, "after", "not before", at))
	}
	if at := times["exp"]; !earliest.Before(at) {
		return refuse(http.StatusBadRequest, "ExpiredTokenException", "Token expired: %s", timeRule(earliest, "before", "expiration", at))
	}
	return nil
}

func timeRule(current time.Time, relation, name string, at time.Time) string {
	return "current date/time " + strconv.FormatInt(current.Unix(), 10) + " must be " + relation + " the " + name + " date/time " + strconv.FormatInt(at.Unix(), 10)
}

// claimTime reads whole Unix seconds, as a number or as text.
func claimTime(raw json.RawMessage) (time.Time, bool) {
	digits, ok := text(raw)
	if !ok {
		digits = string(raw)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strings.HasPrefix(digits, "+") || n < -1<<40 || n > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

// setAudience finds the client the token is for. The authorized party takes
// the audience's place wherever it is present.
func (t claims) setAudience(id *webIdentity) *apiError {
	var ok bool
	if id.audiences, ok = textOrTexts(t["aud"]); !ok {
		return invalidIdentityToken("Invalid audience claim in token.")
	}
	if len(id.audiences) == 0 || slices.Contains(id.audiences, "") {
		return invalidIdentityToken("Claim is not allowed to be empty: aud")
	}
	if raw, present := t["azp"]; present {
		if id.audience, ok = text(raw); !ok || id.audience == "" {
			return invalidIdentityToken("Invalid authorized party claim in token.")
		}
		return nil
	}
	if len(id.audiences) != 1 {
		return invalidIdentityToken("Token audience contains more than one audience while authorized party is not present")
	}
	id.audience = id.audiences[0]
	return nil
}

// sessionTags reads the tags claim in one of its two shapes: nested, where
// each value is an array of one string, or flattened, where it is a string.
// A claim that merely looks like one of them sets no tags and is no error.
func (t claims) sessionTags() (tags []tag, transitive []string, e *apiError) {
	nested, isNested := t[tagsClaim]
	flat := t.flatTags()
	_, flatTransitive := t[flatTransitiveClaim]
	switch {
	case isNested && (len(flat) > 0 || flatTransitive):
		return nil, nil, invalidIdentityToken("Session tags are passed in the nested and in the flattened form; want one of them.")
	case isNested:
		tags, transitive, e = nestedTags(nested)
	case len(flat) > 0 || flatTransitive:
		tags, transitive, e = t.flattenedTags(flat)
	}
	if e != nil {
		return nil, nil, e
	}
	return tags, transitive, checkTokenTags(tags, transitive)
}

func malformedTags() *apiError {
	return invalidIdentityToken("principal_tags passed in claim is not in correct format.")
}

func malformedTransitive() *apiError {
	return invalidIdentityToken("transitive_tag_keys passed in claim is not in correct format.")
}

func nestedTags(raw json.RawMessage) (tags []tag, transitive []string, e *apiError) {
	claim, ok := object(raw)
	if !ok {
		return nil, nil, malformedTags()
	}
	for name := range claim {
		if name != "principal_tags" && name != "transitive_tag_keys" {
			return nil, nil, malformedTags()
		}
	}
	if raw, present := claim["principal_tags"]; present {
		members, ok := object(raw)
		if !ok {
			return nil, nil, malformedTags()
		}
		for _, key := range sortedKeys(members) {
			values, ok := texts(members[key])
			if !ok || len(values) != 1 {
				return nil, nil, malformedTags()
			}
			tags = append(tags, tag{key, values[0]})
		}
	}
	if raw, present := claim["transitive_tag_keys"]; present {
		if transitive, ok = texts(raw); !ok {
			return nil, nil, malformedTransitive()
		}
	}
	return tags, transitive, nil
}

// flatTags names the flattened tag claims, in order.
func (t claims) flatTags() []string {
	var names []string
	for _, name := range sortedKeys(t) {
		if strings.HasPrefix(name, flatTagPrefix) {
			names = append(names, name)
		}
	}
	return names
}

func (t claims) flattenedTags(names []string) (tags []tag, transitive []string, e *apiError) {
	for _, name := range names {
		value, ok := text(t[name])
		if !ok {
			return nil, nil, malformedTags()
		}
		tags = append(tags, tag{strings.TrimPrefix(name, flatTagPrefix), value})
	}
	if raw, present := t[flatTransitiveClaim]; present {
		var ok bool
		if transitive, ok = texts(raw); !ok {
			return nil, nil, malformedTransitive()
		}
	}
	return tags, transitive, nil
}

func checkTokenTags(tags []tag, transitive []string) *apiError {
	if len(tags) > maxTags || len(transitive) > maxTags {
		return invalidIdentityToken("Session tags passed in claim exceed the limit of 50.")
	}
	for i, t := range tags {
		if !validTag(t) || hasTag(tags[:i], t.Key) {
			return malformedTags()
		}
	}
	for i, key := range transitive {
		if !hasTag(tags, key) || containsFold(transitive[:i], key) {
			return malformedTransitive()
		}
	}
	return nil
}

// sourceIdentity reads the claim that names the person behind the session.
func (t claims) sourceIdentity() (string, *apiError) {
	raw, present := t[sourceIdentityClaim]
	if !present {
		return "", nil
	}
	s, ok := text(raw)
	if !ok || !isSessionName(s) {
		return "", invalidIdentityToken("source_identity passed in claim is not in correct format.")
	}
	return s, nil
}

// allowsRole says whether the roles claim, where there is one, lists the role.
// Source: recordings of AWS; the guides do not describe the claim.
func (t claims) allowsRole(arn string) (listed bool, e *apiError) {
	raw, present := t[rolesClaim]
	if !present {
		return false, nil
	}
	roles, ok := texts(raw)
	if s, isText := text(raw); isText {
		roles, ok = strings.Split(s, ";"), true
	}
	if !ok {
		return false, invalidIdentityToken("roles passed in claim is not in correct format.")
	}
	if !slices.Contains(roles, arn) {
		return false, invalidIdentityToken("The requested role is not one of the roles passed in the claim.")
	}
	return true, nil
}
