package localaws

import (
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/go-jose/go-jose/v4"
)

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	a := newAccount(t)
	a.federate()
	out, err := a.assume(a.token(nil))
	if err != nil {
		t.Fatal(err)
	}
	if *out.Provider != a.providerARN() || *out.Audience != testClient || *out.SubjectFromWebIdentityToken != "agentkeys:agent:"+walletA {
		t.Errorf("got provider %s, audience %s, subject %s", *out.Provider, *out.Audience, *out.SubjectFromWebIdentityToken)
	}
	who, err := sts.NewFromConfig(a.sessionSDK(out.Credentials)).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:sts::" + testAccount + ":assumed-role/" + roleName + "/agent"; *who.Arn != want || *out.AssumedRoleUser.Arn != want {
		t.Errorf("want %s, got %s and %s", want, *who.Arn, *out.AssumedRoleUser.Arn)
	}
	if *who.UserId != *out.AssumedRoleUser.AssumedRoleId {
		t.Errorf("want user id %s, got %s", *out.AssumedRoleUser.AssumedRoleId, *who.UserId)
	}
	//lint:ignore SA1019 clients of every age still read the deprecated member
	if p := *out.PackedPolicySize; p < 20 || p > 35 {
		t.Errorf("packed size: want about 26, got %d", p)
	}
	if d := out.Credentials.Expiration.Sub(a.now()); d < 59*time.Minute || d > time.Hour {
		t.Errorf("want a session of an hour, got one of %v", d)
	}
}

func TestWebIdentityByGET(t *testing.T) {
	a := newAccount(t)
	a.federate()
	r, _ := http.NewRequest(http.MethodGet, a.url+"/?"+webIdentityForm(a.token(nil)).Encode(), nil)
	if got := a.send(r); got.status != 200 || !strings.Contains(got.body, "<AccessKeyId>ASIA") {
		t.Errorf("want credentials, got %+v", got)
	}
}

// TestTokenRefusals holds each recorded refusal of a claim, with its code.
func TestTokenRefusals(t *testing.T) {
	a := newAccount(t)
	a.federate()
	now := a.now().Unix()
	tags := func(v any) map[string]any { return map[string]any{tagsClaim: v} }
	principal := func(v any) map[string]any { return tags(map[string]any{"principal_tags": v}) }
	many := map[string]any{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = []string{"v"}
	}
	const (
		invalid = "InvalidIdentityToken"
		shape   = "principal_tags passed in claim is not in correct format."
		passive = "transitive_tag_keys passed in claim"
	)
	for _, test := range []struct {
		name          string
		change        map[string]any
		code, message string
	}{
		{"no iss", map[string]any{"iss": absent}, invalid, "Missing a required claim: iss"},
		{"no sub", map[string]any{"sub": absent}, invalid, "Missing a required claim: sub"},
		{"no aud", map[string]any{"aud": absent}, invalid, "Missing a required claim: aud"},
		{"no iat", map[string]any{"iat": absent}, invalid, "Missing a required claim: iat"},
		{"no exp", map[string]any{"exp": absent}, invalid, "Missing a required claim: exp"},
		{"iss not text", map[string]any{"iss": 7}, invalid, "issuer"},
		{"sub null", map[string]any{"sub": nil}, "InternalFailure", ""},
		{"sub an object", map[string]any{"sub": map[string]any{}}, invalid, "subject"},
		{"other issuer", map[string]any{"iss": "https://issuer.example.com"}, invalid, "No OpenIDConnect provider found in your account for https://issuer.example.com"},
		{"issuer with a slash", map[string]any{"iss": a.issuer.url + "/"}, invalid, "No OpenIDConnect provider found"},
		{"issuer over another scheme", map[string]any{"iss": "https://" + a.issuer.name()}, invalid, "No OpenIDConnect provider found"},
		{"issuer without scheme", map[string]any{"iss": a.issuer.name()}, invalid, "No OpenIDConnect provider found"},
		{"aud empty", map[string]any{"aud": []string{}}, invalid, "Claim is not allowed to be empty: aud"},
		{"aud a number", map[string]any{"aud": 5}, invalid, "audience"},
		{"aud of another client", map[string]any{"aud": "other"}, invalid, "Incorrect token audience"},
		{"aud in another case", map[string]any{"aud": "STS.amazonaws.com"}, invalid, "Incorrect token audience"},
		{"two aud without azp", map[string]any{"aud": []string{testClient, "other"}}, invalid, "more than one audience while authorized party is not present"},
		{"azp of another client", map[string]any{"azp": "other"}, invalid, "Incorrect token audience"},
		{"azp null", map[string]any{"azp": nil}, invalid, "authorized party"},
		{"expired", map[string]any{"exp": now - 301}, "ExpiredTokenException", fmt.Sprintf("must be before the expiration date/time %d", now-301)},
		{"issued in the future", map[string]any{"iat": now + 3600}, invalid, "Token issued in the future: "},
		{"not yet valid", map[string]any{"nbf": now + 3600}, invalid, "Token not yet valid: "},
		{"exp a fraction", map[string]any{"exp": float64(now) + 60.5}, invalid, "Invalid timestamp in token claims."},
		{"exp null", map[string]any{"exp": nil}, invalid, "Invalid timestamp in token claims."},
		{"iat with an exponent", map[string]any{"iat": json.RawMessage("1e3")}, invalid, "Invalid timestamp in token claims."},
		{"nbf text that is no number", map[string]any{"nbf": "soon"}, invalid, "Invalid timestamp in token claims."},
		{"exp beyond all time", map[string]any{"exp": json.RawMessage("9223372036854775807")}, invalid, "Invalid timestamp in token claims."},
		{"tags: text", tags("x"), invalid, shape},
		{"tags: null", tags(nil), invalid, shape},
		{"tags: array around it", tags([]any{map[string]any{"principal_tags": map[string]any{}}}), invalid, shape},
		{"tags: unknown member", tags(map[string]any{"principal_tag": map[string]any{}}), invalid, shape},
		{"tag a plain string", principal(map[string]any{"agentkeys_user_wallet": walletA}), invalid, shape},
		{"tag of two values", principal(map[string]any{"k": []string{"a", "b"}}), invalid, shape},
		{"tag of no value", principal(map[string]any{"k": []string{}}), invalid, shape},
		{"tag value a number", principal(map[string]any{"k": []any{1}}), invalid, shape},
		{"tag value null", principal(map[string]any{"k": []any{nil}}), invalid, shape},
		{"principal_tags an array", principal([]any{}), invalid, shape},
		{"tag value with a star", principal(map[string]any{"k": []string{"a*"}}), invalid, shape},
		{"tag value with a variable", principal(map[string]any{"k": []string{"${aws:userid}"}}), invalid, shape},
		{"tag value too long", principal(map[string]any{"k": []string{strings.Repeat("a", 257)}}), invalid, shape},
		{"tag key empty", principal(map[string]any{"": []string{"a"}}), invalid, shape},
		{"tag key too long", principal(map[string]any{strings.Repeat("k", 129): []string{"a"}}), invalid, shape},
		{"tag key reserved", principal(map[string]any{"AWS:x": []string{"a"}}), invalid, shape},
		{"tag value reserved", principal(map[string]any{"k": []string{"aws:x"}}), invalid, shape},
		{"tag keys that differ by case", principal(map[string]any{"k": []string{"a"}, "K": []string{"b"}}), invalid, shape},
		{"51 tags", principal(many), invalid, "50"},
		{"transitive text", tags(map[string]any{"transitive_tag_keys": "k"}), invalid, passive},
		{"transitive key without tag", tags(map[string]any{"transitive_tag_keys": []string{"k"}}), invalid, passive},
		{"nested and flattened", map[string]any{flatTagPrefix + "k": "v"}, invalid, "nested and in the flattened"},
		{"flattened array", map[string]any{tagsClaim: absent, flatTagPrefix + "k": []string{"v"}}, invalid, shape},
		{"source identity too short", map[string]any{sourceIdentityClaim: "a"}, invalid, "source_identity"},
		{"source identity a list", map[string]any{sourceIdentityClaim: []string{"alice"}}, invalid, "source_identity"},
		{"roles of others", map[string]any{rolesClaim: []string{roleARN + "2"}}, invalid, "roles passed"},
		{"roles with a pattern", map[string]any{rolesClaim: "arn:aws:iam::*:role/*"}, invalid, "roles passed"},
		{"roles a number", map[string]any{rolesClaim: 1}, invalid, "roles passed"},
		{"amr a number", map[string]any{"amr": 1}, invalid, "amr"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := a.assume(a.token(test.change))
			wantError(t, err, test.code, test.message)
		})
	}
}

// TestTokenAccepted holds the odd tokens that AWS is known to take.
func TestTokenAccepted(t *testing.T) {
	a := newAccount(t)
	a.federate()
	now := a.now().Unix()
	for _, test := range []struct {
		name   string
		change map[string]any
	}{
		{"sub empty", map[string]any{"sub": ""}},
		{"sub a number", map[string]any{"sub": 12345}},
		{"sub long", map[string]any{"sub": strings.Repeat("s", 300)}},
		{"times as text", map[string]any{"iat": fmt.Sprint(now), "exp": fmt.Sprint(now + 60)}},
		{"expired within the tolerance", map[string]any{"exp": now - 280}},
		{"issued within the tolerance", map[string]any{"iat": now + 280, "nbf": now + 280}},
		{"aud in an array", map[string]any{"aud": []string{testClient}}},
		{"azp in place of aud", map[string]any{"aud": []string{"x", "y"}, "azp": testClient}},
		{"no nbf", map[string]any{"nbf": absent}},
		{"no tags", map[string]any{tagsClaim: absent}},
		{"empty tag value", map[string]any{tagsClaim: map[string]any{"principal_tags": map[string]any{"k": []string{""}}}}},
		{"misspelt namespace", map[string]any{tagsClaim: absent, "http://aws.amazon.com/tags": "anything"}},
		{"flattened", map[string]any{tagsClaim: absent, flatTagPrefix + "k": "v", flatTransitiveClaim: []string{"k"}}},
		{"roles in an array", map[string]any{rolesClaim: []string{roleARN}}},
		{"roles as text", map[string]any{rolesClaim: "arn:aws:iam::1:role/x;" + roleARN}},
		{"unknown claims", map[string]any{"email": "a@example.com", "amr": []string{"pwd"}, "x": nil}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := a.assume(a.token(test.change)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("of members that come twice the last counts", func(t *testing.T) {
		payload, _ := json.Marshal(a.claims(map[string]any{"sub": absent}))
		raw := `{"sub":"first",` + string(payload[1:len(payload)-1]) + `,"sub":"last"}`
		out, err := a.assume(sign(t, jose.ES256, testEC, "ec", []byte(raw)))
		if err != nil || *out.SubjectFromWebIdentityToken != "last" {
			t.Errorf("want subject last, got %v, %v", out, err)
		}
	})
	t.Run("azp is the audience shown", func(t *testing.T) {
		out, err := a.assume(a.token(map[string]any{"aud": []string{"x", "y"}, "azp": testClient}))
		if err != nil || *out.Audience != testClient {
			t.Errorf("want audience %s, got %v, %v", testClient, out, err)
		}
	})
}

func TestParameterRefusals(t *testing.T) {
	a := newAccount(t)
	a.federate()
	token := a.token(nil)
	for _, test := range []struct {
		name, param, value string
		code, message      string
	}{
		{"short role", "RoleArn", "short", "ValidationError", "Value 'short' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20"},
		{"no role's ARN", "RoleArn", "arn:aws:iam::123456789012:user/x", "ValidationError", "is invalid"},
		{"role of another partition", "RoleArn", "arn:aws-cn:iam::123456789012:role/x", "ValidationError", "is invalid"},
		{"role elsewhere", "RoleArn", "arn:aws:iam::999999999999:role/data-role", "InvalidIdentityToken", "No OpenIDConnect provider found"},
		{"session name", "RoleSessionName", "a b", "ValidationError", "at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern"},
		{"session name with a slash", "RoleSessionName", "../x", "ValidationError", "roleSessionName"},
		{"session name with a line feed", "RoleSessionName", "agent\n", "ValidationError", "roleSessionName"},
		{"session name short", "RoleSessionName", "a", "ValidationError", "roleSessionName"},
		{"session name long", "RoleSessionName", strings.Repeat("a", 65), "ValidationError", "roleSessionName"},
		{"token long", "WebIdentityToken", strings.Repeat("a", 20001), "ValidationError", "Value '***' at 'webIdentityToken'"},
		{"duration with spaces", "DurationSeconds", " 900 ", "MalformedInput", "DurationSeconds"},
		{"duration a fraction", "DurationSeconds", "900.0", "MalformedInput", "DurationSeconds"},
		{"duration with an exponent", "DurationSeconds", "9e2", "MalformedInput", "DurationSeconds"},
		{"duration empty", "DurationSeconds", "", "MalformedInput", "DurationSeconds"},
		{"duration zero", "DurationSeconds", "0", "ValidationError", "durationSeconds"},
		{"duration too long", "DurationSeconds", "43201", "ValidationError", "durationSeconds"},
		{"duration over the role's", "DurationSeconds", "3601", "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{"provider id", "ProviderId", "www.amazon.com", "InvalidIdentityToken", "ProviderId"},
		{"policy no JSON", "Policy", "{", "MalformedPolicyDocument", ""},
		{"policy with a principal", "Policy", `{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`, "MalformedPolicyDocument", ""},
		{"policy too long", "Policy", `{"Statement":[]}` + strings.Repeat(" ", 2048), "ValidationError", "policy"},
		{"managed policy unknown", "PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/Nothing", "MalformedPolicyDocument", "does not exist"},
		{"list index zero", "PolicyArns.member.0.arn", "arn:aws:iam::aws:policy/PowerUserAccess", "MalformedInput", "index"},
		{"list index with a zero in front", "PolicyArns.member.01.arn", "arn:aws:iam::aws:policy/PowerUserAccess", "MalformedInput", "index"},
	} {
		t.Run(test.name, func(t *testing.T) {
			form := webIdentityForm(token)
			form.Set(test.param, test.value)
			got := a.post(form.Encode())
			if got.code != test.code || got.status != 400 || !strings.Contains(got.message, test.message) {
				t.Errorf("want 400 %s …%s…, got %+v", test.code, test.message, got)
			}
		})
	}
	t.Run("nothing at all", func(t *testing.T) {
		got := a.post("Action=AssumeRoleWithWebIdentity&Version=" + stsVersion)
		if got.code != "ValidationError" || !strings.HasPrefix(got.message, "3 validation errors detected: Value null at 'roleArn'") {
			t.Errorf("want the three missing members named, got %+v", got)
		}
	})
	t.Run("eleven managed policies", func(t *testing.T) {
		form := webIdentityForm(token)
		for i := range 11 {
			form.Set(fmt.Sprintf("PolicyArns.member.%d.arn", i+1), "arn:aws:iam::aws:policy/PowerUserAccess")
		}
		if got := a.post(form.Encode()); got.code != "ValidationError" {
			t.Errorf("want ValidationError, got %+v", got)
		}
	})
}

// TestOrderOfChecks holds what a caller learns first where several things are wrong.
func TestOrderOfChecks(t *testing.T) {
	a := newAccount(t)
	a.federate()
	now := a.now().Unix()
	evil := mustEC(elliptic.P256())
	forge := func(change map[string]any) string {
		payload, _ := json.Marshal(a.claims(change))
		return sign(t, jose.ES256, evil, "ec", payload)
	}
	form := func(token string, change url.Values) string {
		f := webIdentityForm(token)
		for k, v := range change {
			f[k] = v
		}
		return f.Encode()
	}
	for _, test := range []struct {
		name, form, code string
	}{
		{"parameters before the token", form("not a token", url.Values{"RoleSessionName": {"a b"}}), "ValidationError"},
		{"the token before the provider", form("not.a.token", url.Values{"RoleArn": {"arn:aws:iam::999999999999:role/x"}}), "InvalidIdentityToken"},
		{"the time before the audience", form(a.token(map[string]any{"exp": now - 400, "aud": "other"}), nil), "ExpiredTokenException"},
		{"the time before the signature", form(forge(map[string]any{"exp": now - 400}), nil), "ExpiredTokenException"},
		{"the signature before the role", form(forge(nil), url.Values{"RoleArn": {roleARN + "-none"}}), "InvalidIdentityToken"},
		{"the tags before the role", form(a.token(map[string]any{tagsClaim: "x"}), url.Values{"RoleArn": {roleARN + "-none"}}), "InvalidIdentityToken"},
		{"the trust before the duration", form(a.token(nil), url.Values{"RoleArn": {roleARN + "-none"}, "DurationSeconds": {"40000"}}), "AccessDenied"},
		{"the duration before the session policy", form(a.token(nil), url.Values{"Policy": {"{"}, "DurationSeconds": {"40000"}}), "ValidationError"},
		{"the session policy before the packed size", form(a.token(map[string]any{"sub": strings.Repeat("s", 4000)}), url.Values{"Policy": {"{"}}), "MalformedPolicyDocument"},
		{"the packed size last", form(a.token(map[string]any{"sub": strings.Repeat("s", 4000)}), nil), "PackedPolicyTooLarge"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := a.post(test.form); got.code != test.code {
				t.Errorf("want %s, got %+v", test.code, got)
			}
		})
	}
}

// TestTrustPolicy holds who gets in by which trust policy, and what they are told.
func TestTrustPolicy(t *testing.T) {
	a := newAccount(t)
	a.federate()
	p := a.issuer.name()
	const both = `"sts:AssumeRoleWithWebIdentity","sts:TagSession"`
	const denied, deniedTags = "Not authorized to perform sts:AssumeRoleWithWebIdentity", "Not authorized to perform sts:TagSession"
	untagged := map[string]any{tagsClaim: absent}
	for _, test := range []struct {
		name, actions, condition string
		change                   map[string]any
		message                  string // "" is let in
	}{
		{"untagged needs no TagSession", `"sts:AssumeRoleWithWebIdentity"`, "", untagged, ""},
		{"tagged needs TagSession", `"sts:AssumeRoleWithWebIdentity"`, "", nil, deniedTags},
		{"TagSession alone", `"sts:TagSession"`, "", nil, denied},
		{"another assume action", `"sts:AssumeRole","sts:TagSession"`, "", nil, denied},
		{"audience", both, `{"StringEquals":{"` + p + `:aud":"` + testClient + `"}}`, nil, ""},
		{"other audience", both, `{"StringEquals":{"` + p + `:aud":"x"}}`, nil, denied},
		{"subject", both, `{"StringLike":{"` + p + `:sub":"agentkeys:agent:*"}}`, nil, ""},
		{"other subject", both, `{"StringLike":{"` + p + `:sub":"agentkeys:agent:*"}}`, map[string]any{"sub": "anonymous"}, denied},
		{"tag present", both, `{"Null":{"aws:RequestTag/agentkeys_user_wallet":"false"}}`, nil, ""},
		{"tag absent", both, `{"Null":{"aws:RequestTag/agentkeys_user_wallet":"false"}}`, untagged, denied},
		{"a negated operator passes the absent tag", both, `{"StringNotEquals":{"aws:RequestTag/agentkeys_user_wallet":""}}`, untagged, ""},
		{"tag keys", both, `{"ForAllValues:StringEquals":{"aws:TagKeys":["agentkeys_user_wallet"]}}`, nil, ""},
		{"more tag keys", both, `{"ForAllValues:StringEquals":{"aws:TagKeys":["other"]}}`, nil, denied},
		{"session name", both, `{"StringEquals":{"sts:RoleSessionName":"other"}}`, nil, denied},
		{"no PrincipalArn", `"sts:AssumeRoleWithWebIdentity"`, `{"Null":{"aws:PrincipalArn":"true"}}`, untagged, ""},
		{"principal type", both, `{"StringEquals":{"aws:PrincipalType":"User","aws:userid":"` + a.providerARN() + `"}}`, nil, ""},
		{"not authorised by the issuer", `"sts:AssumeRoleWithWebIdentity"`, `{"Bool":{"sts:RoleAuthorizedByIdp":"true"}}`, untagged, denied},
		{"authorised by the issuer", `"sts:AssumeRoleWithWebIdentity"`, `{"Bool":{"sts:RoleAuthorizedByIdp":"true"}}`, map[string]any{tagsClaim: absent, rolesClaim: roleARN}, ""},
		{"source identity", both, "", map[string]any{sourceIdentityClaim: "alice"}, "Not authorized to perform sts:SetSourceIdentity"},
		{"source identity allowed", both + `,"sts:SetSourceIdentity"`, "", map[string]any{sourceIdentityClaim: "alice"}, ""},
		{"original audience", both, `{"StringEquals":{"` + p + `:oaud":"x"}}`, map[string]any{"aud": "x", "azp": testClient}, ""},
		{"methods", both, `{"ForAnyValue:StringEquals":{"` + p + `:amr":"hwk"}}`, map[string]any{"amr": []string{"pwd", "hwk"}}, ""},
		{"other claims are no keys", both, `{"StringEquals":{"` + p + `:role":"x"}}`, map[string]any{"role": "x"}, denied},
		{"transitive keys", both, `{"ForAnyValue:StringEquals":{"sts:TransitiveTagKeys":"agentkeys_user_wallet"}}`, nil, denied},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.setTrust(a.trust(test.actions, test.condition))
			_, err := a.assume(a.token(test.change))
			if test.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, "AccessDenied", test.message)
		})
	}
	t.Run("AWS star does not name a web identity", func(t *testing.T) {
		a.setTrust(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession"]}]}`)
		_, err := a.assume(a.token(nil))
		wantError(t, err, "AccessDenied", denied)
	})
	t.Run("a role that is not there looks the same", func(t *testing.T) {
		_, err := a.assume(a.token(nil), func(in *sts.AssumeRoleWithWebIdentityInput) { in.RoleArn = aws.String(roleARN + "x") })
		wantError(t, err, "AccessDenied", denied)
	})
	t.Run("a role under another path looks the same", func(t *testing.T) {
		_, err := a.assume(a.token(nil), func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.RoleArn = aws.String("arn:aws:iam::" + testAccount + ":role/path/" + roleName)
		})
		wantError(t, err, "AccessDenied", denied)
	})
}

// TestSessionOfWebIdentity looks at a session from its policies' side: IAM
// calls that are allowed under a condition show which keys it carries.
func TestSessionOfWebIdentity(t *testing.T) {
	a := newAccount(t)
	a.federate()
	p := a.issuer.name()
	a.setTrust(a.trust(`"sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"`, ""))
	if _, err := a.iam().TagRole(t.Context(), &iam.TagRoleInput{RoleName: aws.String(roleName), Tags: iamTags("AGENTKEYS_user_wallet", "of the role", "team", "blue")}); err != nil {
		t.Fatal(err)
	}
	c := a.mustAssume(a.token(map[string]any{sourceIdentityClaim: "alice", "amr": []string{"hwk"}}))
	for name, condition := range map[string]string{
		"the session's tag over the role's": `{"StringEquals":{"aws:PrincipalTag/agentkeys_user_wallet":"` + walletA + `"}}`,
		"the role's other tag":              `{"StringEquals":{"aws:PrincipalTag/team":"blue"}}`,
		"the role as principal":             `{"ArnEquals":{"aws:PrincipalArn":"` + roleARN + `"}}`,
		"type":                              `{"StringEquals":{"aws:PrincipalType":"AssumedRole"}}`,
		"user id":                           `{"StringLike":{"aws:userid":"AROA*:agent"}}`,
		"no user name":                      `{"Null":{"aws:username":"true"}}`,
		"provider":                          `{"StringEquals":{"aws:FederatedProvider":"` + a.providerARN() + `"}}`,
		"audience and subject":              `{"StringEquals":{"` + p + `:aud":"` + testClient + `","` + p + `:sub":"agentkeys:agent:` + walletA + `"}}`,
		"methods":                           `{"ForAnyValue:StringEquals":{"` + p + `:amr":"hwk"}}`,
		"source identity":                   `{"StringEquals":{"aws:SourceIdentity":"alice"}}`,
		"time of issue":                     `{"DateGreaterThan":{"aws:TokenIssueTime":"2020-01-01T00:00:00Z"}}`,
		"address":                           `{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}`,
		"no other claim":                    `{"Null":{"` + p + `:jti":"true","` + p + `:oaud":"true"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			a.putRolePolicy("only", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ListRoles","Resource":"*","Condition":`+condition+`}]}`)
			if _, err := iam.NewFromConfig(a.sessionSDK(c)).ListRoles(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSessionPolicies(t *testing.T) {
	a := newAccount(t)
	a.federate()
	a.putRolePolicy("all", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}`)
	inline := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*"}]}`
	for _, test := range []struct {
		name         string
		change       func(*sts.AssumeRoleWithWebIdentityInput)
		users, roles bool
	}{
		{"none", func(*sts.AssumeRoleWithWebIdentityInput) {}, true, true},
		{"inline", func(in *sts.AssumeRoleWithWebIdentityInput) { in.Policy = &inline }, true, false},
		{"managed", func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.PolicyArns = []ststypes.PolicyDescriptorType{{Arn: aws.String(awsPolicyARN("PowerUserAccess"))}}
		}, false, true},
		{"both are added up", func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.Policy = &inline
			in.PolicyArns = []ststypes.PolicyDescriptorType{{Arn: aws.String(awsPolicyARN("PowerUserAccess"))}}
		}, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := iam.NewFromConfig(a.sessionSDK(a.mustAssume(a.token(nil), test.change)))
			_, err := client.ListUsers(t.Context(), nil)
			if (err == nil) != test.users {
				t.Errorf("ListUsers: want allowed %v, got %v", test.users, err)
			}
			if _, err = client.ListRoles(t.Context(), nil); (err == nil) != test.roles {
				t.Errorf("ListRoles: want allowed %v, got %v", test.roles, err)
			}
			if err != nil {
				wantError(t, err, "AccessDenied", "because no session policy allows the iam:ListRoles action")
			}
		})
	}
}

func TestSessionTokens(t *testing.T) {
	a := newAccount(t)
	a.federate()
	mine := sessionCredentials(a.mustAssume(a.token(nil)))
	other := sessionCredentials(a.mustAssume(a.token(nil)))
	foreign := newAccount(t)
	foreign.federate()
	elsewhere := sessionCredentials(foreign.mustAssume(foreign.token(nil)))
	flip := []byte(mine.SessionToken)
	flip[len(flip)/2] ^= 1
	for _, test := range []struct {
		name       string
		id, secret string
		token      string
		code       string
	}{
		{"no token", mine.AccessKeyID, mine.SecretAccessKey, "", "InvalidClientTokenId"},
		{"token of another session", mine.AccessKeyID, mine.SecretAccessKey, other.SessionToken, "InvalidClientTokenId"},
		{"key of another session", other.AccessKeyID, mine.SecretAccessKey, mine.SessionToken, "InvalidClientTokenId"},
		{"secret of another session", mine.AccessKeyID, other.SecretAccessKey, mine.SessionToken, "SignatureDoesNotMatch"},
		{"token changed", mine.AccessKeyID, mine.SecretAccessKey, string(flip), "InvalidClientTokenId"},
		{"token cut", mine.AccessKeyID, mine.SecretAccessKey, mine.SessionToken[:len(mine.SessionToken)-4], "InvalidClientTokenId"},
		{"token and more", mine.AccessKeyID, mine.SecretAccessKey, mine.SessionToken + "AAAA", "InvalidClientTokenId"},
		{"of another account", elsewhere.AccessKeyID, elsewhere.SecretAccessKey, elsewhere.SessionToken, "InvalidClientTokenId"},
		{"no token at all", mine.AccessKeyID, mine.SecretAccessKey, "hello", "InvalidClientTokenId"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := a.signed("sts", aws.Credentials{AccessKeyID: test.id, SecretAccessKey: test.secret, SessionToken: test.token}, callerIdentity)
			if got.status != 403 || got.code != test.code {
				t.Errorf("want 403 %s, got %+v", test.code, got)
			}
		})
	}
	t.Run("a long-term key with a token", func(t *testing.T) {
		admin := a.adminCredentials()
		admin.SessionToken = mine.SessionToken
		if got := a.signed("sts", admin, callerIdentity); got.code != "InvalidClientTokenId" {
			t.Errorf("want InvalidClientTokenId, got %+v", got)
		}
	})
	t.Run("a restart keeps it", func(t *testing.T) {
		a.stop()
		a.open()
		if got := a.signed("sts", mine, callerIdentity); got.status != 200 {
			t.Errorf("want 200, got %+v", got)
		}
	})
	t.Run("a clock that went back keeps it", func(t *testing.T) {
		a.offset.Store(int64(-time.Hour))
		if got := a.signed("sts", mine, callerIdentity); got.status != 200 {
			t.Errorf("want 200, got %+v", got)
		}
	})
	t.Run("expired", func(t *testing.T) {
		a.offset.Store(int64(61 * time.Minute))
		defer a.offset.Store(0)
		if got := a.signed("sts", mine, callerIdentity); got.status != 403 || got.code != "ExpiredToken" {
			t.Errorf("want 403 ExpiredToken, got %+v", got)
		}
	})
	t.Run("a deleted role takes its sessions with it, even if it comes back", func(t *testing.T) {
		if _, err := a.iam().DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String(roleName)}); err != nil {
			t.Fatal(err)
		}
		if got := a.signed("sts", mine, callerIdentity); got.code != "InvalidClientTokenId" {
			t.Errorf("want InvalidClientTokenId, got %+v", got)
		}
		a.createRole(roleName, a.trust(`"sts:AssumeRoleWithWebIdentity"`, ""))
		if got := a.signed("sts", mine, callerIdentity); got.code != "InvalidClientTokenId" {
			t.Errorf("want InvalidClientTokenId, got %+v", got)
		}
	})
}
