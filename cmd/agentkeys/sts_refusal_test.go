package main

import (
	"encoding/base64"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"agentkeys/broker"
	"agentkeys/config"
	"agentkeys/federation"
	"agentkeys/token"
)

// refusals are what STS says of AssumeRoleWithWebIdentity, with a piece of the fix.
var refusals = []struct{ code, message, fix string }{
	{"ExpiredTokenException", "Token expired: current date/time 1800000000 must be before the expiration date/time 1799990000", "Set the issuer's clock."}, // the call's token is fresh
	{"InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://issuer.example", "Mint iss as the provider's URL is, byte for byte."},
	{"InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements", "Publish keys before signing with them"},
	{"InvalidIdentityToken", "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint", "certificate of a public authority"},
	{"InvalidIdentityToken", "principal_tags passed in claim is not in correct format.", "principal_tags"},
	{"InvalidIdentityToken", "transitive_tag_keys passed in claim is not in correct format.", "tags alone."},
	{"InvalidIdentityToken", "source_identity passed in claim is not in correct format.", "leave it out."},
	{"InvalidIdentityToken", "The requested role is not one of the roles passed in the claim.", "Assume a role that the token lists."},
	{"InvalidIdentityToken", "Missing a required claim: iss", "Mint iss."}, // the token's claims are all there
	{"InvalidIdentityToken", "Claim is not allowed to be empty: aud", "Mint the audience."},
	{"InvalidIdentityToken", "Invalid timestamp in token claims.", "Mint the times as integers."},
	{"InvalidIdentityToken", "Token issued in the future: 1800003600", "Set the issuer's clock."},
	{"InvalidIdentityToken", "Token audience contains more than one audience while authorized party is not present", "Mint one audience."},
	{"InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)", "Send the token exactly as it was minted."},
	{"InvalidIdentityToken", "Incorrect token audience", "Register the client id"},
	{"InvalidIdentityToken", "The web identity token provided could not be validated.", "Register the client id"},
	{"IDPCommunicationError", "Error communicating with the identity provider", "Make it public under the issuer's URL."},
	{"Throttling", "Rate exceeded", "Try again after a moment"},
	{"ThrottlingException", "Rate exceeded", "Try again after a moment"},
	{"RequestLimitExceeded", "Request limit exceeded.", "Try again after a moment"},
	{"SlowDown", "Please reduce your request rate.", "Try again after a moment"},
	{"ServiceUnavailable", "", "Try again after a moment"},
	{"IDPRejectedClaim", "The identity provider rejected the claim", "Mint a fresh token."},
	{"AccessDenied", "Not authorized to perform sts:TagSession", "Add sts:TagSession to the statement's Action."},
	{"AccessDenied", "Not authorized to perform sts:SetSourceIdentity", "Add it, in a statement without conditions on tags."},
	{"AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", "Compare the conditions with the token's claims."},
	{"MalformedPolicyDocument", "Syntax errors in policy.", "it has no Principal."},
	{"PackedPolicyTooLarge", "Packed policy consumes 112% of allotted space, please use smaller policy.", "Shorten them."},
	{"RegionDisabledException", "STS is not activated in this region for account:111122223333. Your account administrator can activate STS in this region using the IAM Console.", "Activate STS in the region"},
	{"ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", "Ask for less, or raise the role's maximum."},
	{"ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining", "Ask for 3600 seconds at most."},
	{"ValidationError", "1 validation error detected: Value 'a' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2", "Keep to the constraint"},
	{"MissingParameter", "The request must contain the parameter Version.", "Send all three."},
	{"MalformedInput", "The parameters are not form-encoded.", "Use an SDK or the AWS CLI."},
	{"InternalFailure", "The request processing has failed because of an unknown error, exception or failure.", "Try again."},
	{"InvalidAction", "Could not find operation AssumeRoleWithWebIdentity for version 1", "Check the endpoint"},
	{"Unheard", "Something new", "Look the code up at AWS"},
}

// encodedToken is a token of these claims, signed by nobody.
func encodedToken(claims string) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"ES256","kid":"ak-oidc-k","typ":"JWT"}`) + "." + part(claims) + "." + part(strings.Repeat("nobody's signature of 64 bytes...", 2))
}

const (
	refusalAt     = 1800000000
	refusalClaims = `{"iss":"https://issuer.example","sub":"agentkeys:agent:0x00000000000000000000000000000000000000aa","aud":"sts.amazonaws.com","iat":1800000000,"nbf":1800000000,"exp":1800000300,` +
		`"https://aws.amazon.com/tags":{"principal_tags":{"agentkeys_user_wallet":["0x00000000000000000000000000000000000000aa"]},"transitive_tag_keys":["agentkeys_user_wallet"]}}`
)

func refusedCall(jwt string) (federation.Config, broker.AssumeRole) {
	c := localFederation("https://issuer.example", "agentkeys-test")
	return c, broker.AssumeRole{RoleARN: c.RoleARN(), SessionName: "agentkeys-1", Token: token.NewSecret(jwt), Duration: 15 * time.Minute,
		Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`}
}

// checkExplained holds what is true of every explanation.
func checkExplained(t rapid.TB, text, jwt string) {
	t.Helper()
	if n := utf8.RuneCountInString(text); n > 600 || n < 60 {
		t.Errorf("want 60 to 600 characters, got %d: %s", n, text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("want one printable line, got %q", text)
	}
	if strings.Count(text, " Tell the operator: ") != 1 || !strings.Contains(text, ` "agentkeys federation explain --token FILE`) {
		t.Errorf("want what to tell the operator, and the command, got %s", text)
	}
	for _, part := range strings.Split(jwt, ".") {
		for i := 0; i+8 <= len(part); i++ {
			if strings.Contains(text, part[i:i+8]) {
				t.Errorf("%q of the token is in %s", part[i:i+8], text)
				return
			}
		}
	}
}

func TestExplainRefusal(t *testing.T) {
	jwt := encodedToken(refusalClaims)
	c, a := refusedCall(jwt)
	for _, r := range refusals {
		text := explainRefusal(c, a, &broker.STSError{Code: r.code, Message: r.message, Status: 400}, time.Unix(refusalAt, 0))
		checkExplained(t, text, jwt)
		if !strings.HasPrefix(text, "STS said "+r.code) || !strings.Contains(text, strings.Join(strings.Fields(r.message[:min(len(r.message), 100)]), " ")) {
			t.Errorf("want %s: %s in front, got %s", r.code, r.message, text)
		}
		if _, todo, _ := strings.Cut(text, " Tell the operator: "); !strings.Contains(todo, r.fix) {
			t.Errorf("%s: %s\nwant the fix %q, got %s", r.code, r.message, r.fix, text)
		}
		long := explainRefusal(c, a, &broker.STSError{Code: r.code, Message: r.message + strings.Repeat(" and more", 200), Status: 400}, time.Unix(refusalAt, 0))
		checkExplained(t, long, jwt)
	}
}

// Where the broker may have asked for the wrong thing, the variables are named that it
// asked by.
func TestExplainRefusalNamesTheVariables(t *testing.T) {
	c, a := refusedCall(encodedToken(refusalClaims))
	for _, tc := range []struct{ code, message, want string }{
		{"AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", " See BROKER_AWS_ACCOUNT and BROKER_AWS_ROLE too."},
		{"InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://issuer.example", " See BROKER_ISSUER and BROKER_AWS_ACCOUNT too."},
		{"InvalidIdentityToken", "Incorrect token audience", " See BROKER_OIDC_AUDIENCE too."},
		{"ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", " See BROKER_AWS_SESSION_SECONDS too."},
		{"RegionDisabledException", "STS is not activated in this region", " See BROKER_AWS_REGION too."},
		{"AccessDenied", "Not authorized to perform sts:TagSession", ""},
		{"Throttling", "Rate exceeded", ""},
	} {
		text := explainRefusal(c, a, &broker.STSError{Code: tc.code, Message: tc.message, Status: 400}, time.Unix(refusalAt, 0))
		if !strings.Contains(text, tc.want) || tc.want == "" && strings.Contains(text, "BROKER_") {
			t.Errorf("%s: %s: want %q in %s", tc.code, tc.message, tc.want, text)
		}
	}
	for _, row := range askedBy {
		for _, name := range regexp.MustCompile(`[A-Z_]{7,}`).FindAllString(row.variables, -1) {
			if err := config.CheckNames([]string{name + "=x"}); err != nil {
				t.Error(err)
			}
		}
	}
}

// Every code that package federation knows of this call has its row above.
func TestRefusalsAreComplete(t *testing.T) {
	source, err := os.ReadFile("../../federation/errorkinds.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`\{code: "(\w+)",(?: message: says\([^)]*\),)? sts: true,`).FindAllSubmatch(source, -1)
	if len(rows) < 30 {
		t.Fatalf("want the rows of STS, found %d", len(rows))
	}
	for _, row := range rows {
		if !slices.ContainsFunc(refusals, func(r struct{ code, message, fix string }) bool { return r.code == string(row[1]) }) {
			t.Errorf("no row for %s", row[1])
		}
	}
}

// What the token itself shows to be the cause is named, and its fix goes before the
// likelier ones.
func TestExplainRefusalReadsTheToken(t *testing.T) {
	for name, test := range map[string]struct {
		claims, code, message string
		at                    int64
		want                  []string
	}{
		"old": {refusalClaims, "ExpiredTokenException", "Token expired: current date/time 1800009999 must be before the expiration date/time 1800000300", refusalAt + 9999, []string{"Here: ", "Mint a fresh token; it lives for five minutes."}},
		"a tag that is plain text": {strings.Replace(refusalClaims, `["0x00000000000000000000000000000000000000aa"]`, `"0x00000000000000000000000000000000000000aa"`, 1),
			"InvalidIdentityToken", "principal_tags passed in claim is not in correct format.", refusalAt, []string{"Here: ", "array"}},
		"two audiences": {strings.Replace(refusalClaims, `"sts.amazonaws.com"`, `["sts.amazonaws.com","other"]`, 1),
			"InvalidIdentityToken", "Token audience contains more than one audience while authorized party is not present", refusalAt, []string{"Here: ", "audience"}},
	} {
		jwt := encodedToken(test.claims)
		c, a := refusedCall(jwt)
		text := explainRefusal(c, a, &broker.STSError{Code: test.code, Message: test.message, Status: 400}, time.Unix(test.at, 0))
		checkExplained(t, text, jwt)
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: want %q in %s", name, want, text)
			}
		}
	}
}

// Where STS said nothing, the explanation says what that leaves open.
func TestExplainNoAnswer(t *testing.T) {
	jwt := encodedToken(refusalClaims)
	c, a := refusedCall(jwt)
	for _, test := range []struct {
		e    broker.STSError
		want string
	}{
		{broker.STSError{Fault: "no answer: context deadline exceeded", Unknown: true}, "no answer: context deadline exceeded. It may have issued credentials all the same"},
		{broker.STSError{Fault: "half an answer of status 200: unexpected EOF " + jwt + strings.Repeat(" x\n", 900), Unknown: true, Status: 200}, "half an answer"},
		{broker.STSError{Fault: "no connection: dial tcp 127.0.0.1:1: connect: connection refused"}, "connection refused. It issued nothing"},
	} {
		text := explainRefusal(c, a, &test.e, time.Unix(refusalAt, 0))
		checkExplained(t, text, jwt)
		if !strings.Contains(text, test.want) {
			t.Errorf("want %q in %s", test.want, text)
		}
	}
}

// Whatever an endpoint sends back of the token, and however it dresses that up, it
// is not in the explanation.
func TestExplainRefusalShowsNoToken(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		jwt := encodedToken(strings.Replace(refusalClaims, "issuer.example", rapid.StringMatching(`[a-z0-9]{1,40}\.example`).Draw(rt, "issuer"), 1))
		c, a := refusedCall(jwt)
		r := rapid.SampledFrom(refusals).Draw(rt, "refusal")
		message := r.message
		for range rapid.IntRange(1, 4).Draw(rt, "pieces") {
			from := rapid.IntRange(0, len(jwt)-1).Draw(rt, "from")
			piece := jwt[from:rapid.IntRange(from+1, len(jwt)).Draw(rt, "to")]
			between := rapid.SampledFrom([]string{"", "", " ", "\n", ".", "\u202e", "é", "\x1b"}).Draw(rt, "between")
			piece = strings.Join(strings.Split(piece, ""), between)
			at := rapid.IntRange(0, len(message)).Draw(rt, "at")
			message = message[:at] + rapid.StringN(0, 20, -1).Draw(rt, "noise") + piece + message[at:]
		}
		e := &broker.STSError{Code: r.code, Message: message, Fault: message}
		if rapid.Bool().Draw(rt, "silent") {
			e.Code = ""
		}
		text := explainRefusal(c, a, e, time.Unix(refusalAt, 0))
		checkExplained(rt, text, jwt)
		if e.Code != "" && !strings.HasPrefix(text, "STS said "+r.code) {
			rt.Errorf("want the code %s in front, got %s", r.code, text)
		}
	})
}
