package federation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clockTolerance is how far an issuer's clock may be off.
const clockTolerance = 5 * time.Minute

const notAJWT = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"

// checkToken takes the token apart.
func (e *explainer) checkToken() ExplainStep {
	s := stepPassed("token", "the token is a signed JWT", "")
	e.assume()
	if e.Token == "" {
		return s.unknown("no token was given; what follows is for a token as the configuration has it", "")
	}
	var err error
	e.token, err = ReadToken(e.Token)
	if err != nil {
		return s.compared("header.payload.signature, each base64url", shapeOfText(e.Token)).
			fails(oneLine(err.Error()), invalidToken(notAJWT), "Send the token that the broker minted, whole and alone.")
	}
	alg := e.token.Alg()
	s = s.compared("header.payload.signature, signed with "+algorithmNames(), "alg "+strconv.Quote(alg))
	if len(e.token.Cleaned) > 0 {
		s = s.note("taken away before reading: %s. Clients send a file as it is; whether AWS minds is not on record, and the local AWS does",
			strings.Join(e.token.Cleaned, ", "))
	}
	if e.token.Problem != "" {
		return s.fails(e.token.Problem, invalidToken(notAJWT), "Send the token exactly as it was minted.")
	}
	if !slices.ContainsFunc(tokenAlgorithms, func(a algorithm) bool { return string(a) == alg }) {
		return s.fails(fmt.Sprintf("STS takes no token signed with %q", alg),
			invalidToken("The web identity token is signed with an algorithm that is not supported.").inOtherWords(),
			"Sign with one of "+algorithmNames()+"; the broker signs with ES256.")
	}
	return s
}

func algorithmNames() string {
	var names []string
	for _, a := range tokenAlgorithms {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

// shapeOfText describes text that is no token without showing it.
func shapeOfText(text string) string {
	return fmt.Sprintf("%s in %s", count(len(text), "byte"), count(strings.Count(strings.TrimSpace(text), ".")+1, "part"))
}

// checkProvider looks the issuer up in the role's account, byte for byte.
func (e *explainer) checkProvider() ExplainStep {
	s := stepPassed("provider", "the token's issuer is a provider of the role's account", "")
	if e.token == nil {
		return e.noToken(s)
	}
	raw, ok := e.token.Claims["iss"]
	if !ok {
		return s.fails(`the token has no "iss"`, missingClaim("iss"), "Mint an iss, byte-equal to the provider's URL.")
	}
	iss, ok := jsonText(raw)
	if !ok {
		return s.fails(`the token's "iss" is `+jsonKind(raw)+", not a string", invalidToken("Invalid issuer claim in token.").inOtherWords(),
			"Mint the iss as a string.")
	}
	e.id.issuer = iss
	s.Got = strconv.Quote(iss)
	if e.Account == nil || e.Account.Providers == nil {
		return e.issuerAlone(s, iss)
	}
	told := invalidToken("No OpenIDConnect provider found in your account for %s", clip(iss, 512))
	if owner := accountOfARN(e.RoleARN); owner != e.Config.Account {
		s.Want = "a provider in account " + owner
		return s.fails(fmt.Sprintf("the role is in account %s, and the provider is looked up there, not in %s", owner, e.Config.Account), told,
			"Assume a role of account "+e.Config.Account+", or register the provider in "+owner+".")
	}
	for i := range e.Account.Providers {
		if p := &e.Account.Providers[i]; e.providerURL(p) == iss {
			e.provider = p
			s.Want = strconv.Quote(iss)
			return s
		}
	}
	return e.noProvider(s, iss, told)
}

// issuerAlone compares with the configuration where the providers are not known.
func (e *explainer) issuerAlone(s ExplainStep, iss string) ExplainStep {
	s.Want = strconv.Quote(e.Config.Issuer)
	why := "which providers the account has was not looked at"
	if e.Config.Issuer != iss {
		why += "; the configuration has another issuer: " + urlDifference(e.Config.Issuer, iss)
	}
	return s.unknown(why, "Give the providers (oidc-providers.json).")
}

// noProvider finds the provider that was meant.
func (e *explainer) noProvider(s ExplainStep, iss string, told *ToldError) ExplainStep {
	var urls []string
	for i := range e.Account.Providers {
		urls = append(urls, e.providerURL(&e.Account.Providers[i]))
	}
	if len(urls) == 0 {
		s.Want = "a provider of that URL; the account has none"
		return s.fails("the account has no OpenID Connect provider", told,
			"Register it: aws iam create-open-id-connect-provider --url "+shellWord(iss)+" --client-id-list "+shellWord(e.Config.Audience)+".")
	}
	near := urls[0]
	if slices.Contains(urls, e.Config.Issuer) {
		near = e.Config.Issuer
	}
	for _, u := range urls {
		if sameButForm(u, iss) {
			near = u
		}
	}
	s.Want = strconv.Quote(near)
	fix := "Mint iss as " + near + ", byte for byte."
	if !sameButForm(near, iss) && near != e.Config.Issuer {
		fix = "Register the issuer as a provider of the account, or use a token of " + near + "."
	}
	// What comes after is tried as if the token were mended so.
	e.id.issuer, e.provider = near, &e.Account.Providers[slices.Index(urls, near)]
	return s.fails("no provider of the account has this URL, byte for byte; the nearest: "+urlDifference(near, iss), told, fix)
}

// providerURL is a provider's URL with its scheme, which AWS does not show: it is
// https, and at the local AWS, on a loopback address, http.
func (e *explainer) providerURL(p *Provider) string {
	name := p.URL
	if name == "" {
		_, name, _ = strings.Cut(p.ARN, ":oidc-provider/")
	}
	switch host, _, _ := strings.Cut(name, "/"); {
	case strings.Contains(name, "://"):
		return name
	case name == e.Config.ProviderID():
		return e.Config.Issuer
	case Loopback(hostOnly(host)):
		return "http://" + name
	}
	return "https://" + name
}

func hostOnly(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
}

// sameButForm reports whether two URLs differ in what is easily overlooked alone.
func sameButForm(a, b string) bool {
	form := func(s string) string {
		s = strings.ToLower(strings.TrimSpace(s))
		return strings.TrimRight(providerKeyOrAll(s), "/")
	}
	return form(a) == form(b)
}

func providerKeyOrAll(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return rest
	}
	return s
}

// urlDifference says in words where two URLs differ.
func urlDifference(want, got string) string {
	switch {
	case got == "":
		return fmt.Sprintf("it is empty, not %q", want)
	case got == want+"/":
		return fmt.Sprintf("%q has a slash at its end that %q lacks", got, want)
	case got+"/" == want:
		return fmt.Sprintf("%q lacks the slash at the end of %q", got, want)
	case strings.EqualFold(got, want):
		return fmt.Sprintf("%q and %q differ in case, at byte %d", got, want, firstDifference(want, got)+1)
	case providerKeyOrAll(got) == providerKeyOrAll(want):
		return fmt.Sprintf("%q and %q differ in the scheme", got, want)
	case strings.TrimSpace(got) == strings.TrimSpace(want):
		return fmt.Sprintf("%q and %q differ in white space", got, want)
	}
	return fmt.Sprintf("%q and %q differ at byte %d", got, want, firstDifference(want, got)+1)
}

func firstDifference(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func missingClaim(name string) *ToldError { return invalidToken("Missing a required claim: %s", name) }

// checkClaims wants the claims that every token must have, and a readable subject.
func (e *explainer) checkClaims() ExplainStep {
	s := stepPassed("claims", "the token has sub, aud, iat and exp", "")
	if e.token == nil {
		return e.noToken(s)
	}
	e.id.email = text(e.token.Claims["email"])
	for _, name := range []string{"sub", "aud", "iat", "exp"} {
		if _, ok := e.token.Claims[name]; !ok {
			return s.fails(fmt.Sprintf("the token has no %q", name), missingClaim(name), "Mint the claim "+name+".")
		}
	}
	raw := e.token.Claims["sub"]
	subject, ok := jsonText(raw)
	var number json.Number
	switch {
	case string(raw) == "null":
		return s.fails(`the token's "sub" is null`, &ToldError{Status: http.StatusInternalServerError, Code: "InternalFailure",
			Message: "The request processing has failed because of an unknown error, exception or failure."}, "Mint the sub as a string.")
	case ok:
	case json.Unmarshal(raw, &number) == nil:
		subject = number.String()
	default:
		return s.fails(`the token's "sub" is `+jsonKind(raw), invalidToken("Invalid subject claim in token.").inOtherWords(), "Mint the sub as a string.")
	}
	e.id.subject = subject
	s.Got = "sub " + strconv.Quote(subject)
	return s
}

// checkTimes holds the token's times to the clock.
func (e *explainer) checkTimes() ExplainStep {
	s := stepPassed("times", "the token is valid now, give or take 5 minutes", "")
	if e.token == nil {
		return e.noToken(s)
	}
	times := map[string]time.Time{}
	var got []string
	for _, name := range []string{"iat", "nbf", "exp"} {
		raw, ok := e.token.Claims[name]
		if !ok {
			continue
		}
		at, ok := claimTime(raw)
		if !ok {
			return s.compared("whole seconds", name+" "+clip(string(raw), 40)).
				fails(fmt.Sprintf("%q is no whole number of seconds", name), invalidToken("Invalid timestamp in token claims."), "Mint "+name+" as an integer.")
		}
		times[name] = at
		got = append(got, name+" "+timeAndDistance(at, e.Now))
	}
	s = s.compared("now "+e.Now.Format(timeForm), strings.Join(got, ", "))
	return e.heldToClock(s, times)
}

func (e *explainer) heldToClock(s ExplainStep, times map[string]time.Time) ExplainStep {
	earliest, latest := e.Now.Add(-clockTolerance), e.Now.Add(clockTolerance)
	const clocks = "Set the clocks: the issuer's is ahead of the one that was taken here by more than 5 minutes."
	if at, ok := times["iat"]; ok && at.After(latest) {
		return s.fails("iat is "+timeAndDistance(at, e.Now), invalidToken("Token issued in the future: %s", timeRule(latest, "after", "issued", at)), clocks)
	}
	if at, ok := times["nbf"]; ok && at.After(latest) {
		return s.fails("nbf is "+timeAndDistance(at, e.Now), invalidToken("Token not yet valid: %s", timeRule(latest, "after", "not before", at)), clocks)
	}
	at, ok := times["exp"]
	if !ok {
		return s // checkClaims has said so
	}
	if !earliest.Before(at) {
		return s.fails("the token expired "+timeAndDistance(at, e.Now), &ToldError{Status: http.StatusBadRequest, Code: "ExpiredTokenException",
			Message: "Token expired: " + timeRule(earliest, "before", "expiration", at)}, "Mint a fresh token; it lives for five minutes.")
	}
	if at.Before(e.Now) {
		return s.note("the token has expired; STS takes it for another %s", roughDuration(at.Add(clockTolerance).Sub(e.Now)))
	}
	return s
}

// timeRule is AWS's wording. It shows the clock with the tolerance taken off.
func timeRule(current time.Time, relation, name string, at time.Time) string {
	return fmt.Sprintf("current date/time %d must be %s the %s date/time %d", current.Unix(), relation, name, at.Unix())
}

// claimTime reads whole Unix seconds, as a number or as text.
func claimTime(raw json.RawMessage) (time.Time, bool) {
	digits, ok := jsonText(raw)
	if !ok {
		digits = string(raw)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strings.HasPrefix(digits, "+") || n < -1<<40 || n > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

const timeForm = "2006-01-02 15:04:05 MST"

// timeAndDistance is a time in the zone of now, and how far it is from now.
func timeAndDistance(at, now time.Time) string {
	d := at.Sub(now)
	relative := "now"
	switch {
	case d >= time.Second:
		relative = "in " + roughDuration(d)
	case d <= -time.Second:
		relative = roughDuration(-d) + " ago"
	}
	return at.In(now.Location()).Format(timeForm) + " (" + relative + ")"
}

// roughDuration is a duration in its two largest units.
func roughDuration(d time.Duration) string {
	s := int64(d / time.Second)
	for _, unit := range []struct {
		seconds   int64
		name, sub string
		subSize   int64
	}{{86400, "d", "h", 3600}, {3600, "h", "min", 60}, {60, "min", "s", 1}} {
		if s < unit.seconds {
			continue
		}
		out := fmt.Sprintf("%d %s", s/unit.seconds, unit.name)
		if rest := s % unit.seconds / unit.subSize; rest > 0 {
			out += fmt.Sprintf(" %d %s", rest, unit.sub)
		}
		return out
	}
	return fmt.Sprintf("%d s", s)
}

// checkMethods reads the amr claim. A token without one has nothing to check.
func (e *explainer) checkMethods() ExplainStep {
	if e.token == nil {
		return ExplainStep{}
	}
	raw, present := e.token.Claims["amr"]
	if !present {
		return ExplainStep{}
	}
	s := stepPassed("methods", "the token's amr can be read", "")
	var ok bool
	if e.id.amr, ok = jsonTextOrTexts(raw); !ok {
		return s.fails(`the token's "amr" is `+jsonKind(raw), invalidToken("Invalid amr claim in token.").inOtherWords(), "Mint amr as an array of strings, or leave it out.")
	}
	e.id.hasAMR = true
	s.Got = strings.Join(e.id.amr, ", ")
	return s
}

// checkAudience finds the client that the token is for and wants it registered.
// The authorized party takes the audience's place wherever it is present.
func (e *explainer) checkAudience() ExplainStep {
	s := stepPassed("audience", "the token's audience is a client id of the provider", "")
	if e.token == nil {
		return e.noToken(s)
	}
	raw, present := e.token.Claims["aud"]
	if !present {
		return s.notReached(`the token has no "aud"`)
	}
	audiences, ok := jsonTextOrTexts(raw)
	mint := "Mint aud as " + strconv.Quote(e.Config.Audience) + "."
	switch {
	case !ok:
		return s.fails(`the token's "aud" is `+jsonKind(raw), invalidToken("Invalid audience claim in token.").inOtherWords(), mint)
	case len(audiences) == 0 || slices.Contains(audiences, ""):
		return s.fails(`the token's "aud" is empty`, invalidToken("Claim is not allowed to be empty: aud"), mint)
	}
	from := "aud"
	if raw, present := e.token.Claims["azp"]; present {
		from = "azp, which takes the place of aud"
		azp, ok := jsonText(raw)
		if !ok || azp == "" {
			return s.fails(`the token's "azp" is `+jsonKind(raw), invalidToken("Invalid authorized party claim in token.").inOtherWords(), "Leave azp out, or mint it as a string.")
		}
		e.id.audience, e.id.audiences = azp, audiences
	} else if len(audiences) != 1 {
		return s.compared("one audience", quotedList(audiences)).fails("the token has several audiences and no azp to choose among them",
			invalidToken("Token audience contains more than one audience while authorized party is not present"), mint)
	} else {
		e.id.audience, e.id.audiences = audiences[0], audiences
	}
	s.Got = strconv.Quote(e.id.audience) + " (" + from + ")"
	return e.registered(s)
}

// registered wants the audience among the provider's client ids.
func (e *explainer) registered(s ExplainStep) ExplainStep {
	if e.provider == nil {
		if e.Account == nil || e.Account.Providers == nil {
			return s.unknown("which client ids the provider has was not looked at", "")
		}
		return s.notReached("the issuer has no provider in the account")
	}
	ids, got := e.provider.ClientIDs, e.id.audience
	s.Want = "one of " + quotedList(ids)
	if slices.Contains(ids, e.id.audience) {
		return s
	}
	fix := fmt.Sprintf("Register it: aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn %s --client-id %s.", shellWord(e.provider.ARN), shellWord(e.id.audience))
	if e.id.audience != e.Config.Audience && slices.Contains(ids, e.Config.Audience) {
		fix = fmt.Sprintf("Mint aud as %q; this token is meant for somebody else.", e.Config.Audience)
		e.id.audience, e.id.audiences = e.Config.Audience, []string{e.Config.Audience} // for what comes after
	}
	for _, id := range ids {
		if strings.EqualFold(strings.TrimSpace(id), strings.TrimSpace(got)) {
			s = s.note("%s", urlDifference(id, got))
		}
	}
	return s.fails("the provider has no such client id", invalidToken("The web identity token provided could not be validated: Incorrect token audience").inOtherWords(), fix)
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@,+-]+$`)

// shellWord quotes a word of a command that somebody may paste: what comes from a
// token must not become a command of its own.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func quotedList(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, strconv.Quote(s))
	}
	return "[" + strings.Join(out, ", ") + "]"
}
