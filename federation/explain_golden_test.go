package federation

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"agentkeys/policy"
)

var explainThen = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// explainReference is the rendered set-up with a good token, for a test to break.
func explainReference(t testing.TB) ExplainInput {
	t.Helper()
	c := testConfig()
	d := render(t, c, Hardened)
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: explainEC().Public(), KeyID: "ec", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	site, err := json.Marshal(map[string]any{
		"issuer": c.Issuer, "jwks_uri": c.Issuer + "/jwks", "response_types_supported": []string{"id_token"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ExplainInput{
		Now: explainThen, Token: explainToken(t, nil), Issuer: &IssuerDocuments{Issuer: c.Issuer, Discovery: site, KeySet: keys},
		Account: &Account{
			Config: c, Source: "files: account", Managed: map[string]Document{},
			Providers: []Provider{{ARN: c.ProviderARN(), URL: c.ProviderID(), ClientIDs: []string{c.Audience}}},
			Roles: []Role{{Entity: Entity{Name: c.Role, ARN: c.RoleARN(), ID: "AROAEXAMPLEEXAMPLEEXA"},
				Trust: Document{Name: "role " + c.Role + ", trust policy", Policy: d.Trust}}},
			Bucket:       Document{Name: "bucket policy", Policy: d.BucketPolicy},
			Organization: &Organization{Service: []Level{}, Resource: []Level{}},
		},
	}
}

func explainToken(t testing.TB, change map[string]any) string {
	t.Helper()
	at := explainThen.Unix()
	claims := map[string]any{
		"iss": testConfig().Issuer, "sub": "agentkeys:agent:" + walletA, "aud": DefaultAudience, "iat": at, "nbf": at, "exp": at + 300,
		tagsClaim: map[string]any{"principal_tags": map[string]any{DefaultTagKey: []string{walletA}}, "transitive_tag_keys": []string{DefaultTagKey}},
	}
	changeClaims(claims, change)
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return signToken(t, text, nil)
}

// dropAction takes an action out of the trust policy's first statement.
func (in *ExplainInput) dropAction(action string) {
	s := &in.Account.Roles[0].Trust.Policy.Statements[0]
	s.Action = slices.DeleteFunc(slices.Clone(s.Action), func(a string) bool { return a == action })
}

func TestExplainTexts(t *testing.T) {
	for name, breakIt := range map[string]func(*ExplainInput){
		"good": func(in *ExplainInput) {
			in.Requests = []S3Request{{Action: "s3:GetObject", Resource: "arn:aws:s3:::agentkeys-data/bots/" + walletA + "/x"}}
		},
		"no-tagsession": func(in *ExplainInput) { in.dropAction(actionTag) },
		"slash-and-expired": func(in *ExplainInput) {
			in.Token = explainToken(t, map[string]any{"iss": in.Account.Config.Issuer + "/", "exp": explainThen.Unix() - 3600})
		},
		"string-tag-behind-audience": func(in *ExplainInput) {
			in.Token = explainToken(t, map[string]any{"aud": "someone-else", tagsClaim: map[string]any{"principal_tags": map[string]any{DefaultTagKey: walletA}}})
			in.dropAction(actionTag)
		},
		"misspelt-namespace": func(in *ExplainInput) {
			in.Token = explainToken(t, map[string]any{tagsClaim: nil, "http://aws.amazon.com/tags": map[string]any{"principal_tags": map[string]any{DefaultTagKey: []string{walletA}}}})
		},
		"stranger-at-s3": func(in *ExplainInput) {
			in.Requests = []S3Request{{Action: "s3:GetObject", Resource: "arn:aws:s3:::agentkeys-data/bots/" + walletB + "/x"}}
		},
		"error-with-documents": func(in *ExplainInput) {
			in.dropAction(actionTag)
			in.Error = "An error occurred (AccessDenied) when calling the AssumeRoleWithWebIdentity operation: Not authorized to perform sts:TagSession"
		},
		"error-of-stale-keys": func(in *ExplainInput) {
			in.Error = "An error occurred (InvalidIdentityToken) when calling the AssumeRoleWithWebIdentity operation: Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"
		},
		"documents-alone": func(in *ExplainInput) { in.Token, in.Issuer = "", nil; in.dropAction(actionTag) },
	} {
		in := explainReference(t)
		breakIt(&in)
		golden(t, "explain-"+name+".txt", []byte(explainedText(Explain(in))))
	}
}

// TestExplainSaysTheLine holds the sentence of the issue.
func TestExplainSaysTheLine(t *testing.T) {
	in := explainReference(t)
	in.dropAction(actionTag)
	s := Explain(in).First()
	if s == nil || s.Name != "trust-tag" {
		t.Fatalf("want a failure at sts:TagSession, got %+v", s)
	}
	if got := s.Why + "; " + s.Fix; got != "the trust policy allows AssumeRoleWithWebIdentity but not sts:TagSession; Add sts:TagSession to statement 1." {
		t.Errorf("got %q", got)
	}
	if s.Line != `"Action": ["sts:AssumeRoleWithWebIdentity","sts:TagSession"]` || s.At == nil || s.At.Statement != 0 {
		t.Errorf("line %s at %+v", s.Line, s.At)
	}
}

var errExplainUnread = errors.New("trust: no JSON")

// TestExplainWithoutKnowing holds that what is not known is never called ok.
func TestExplainWithoutKnowing(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*ExplainInput)
		unknown string // the step
	}{
		"no keys":          {func(in *ExplainInput) { in.Issuer = nil }, "key"},
		"another's keys":   {func(in *ExplainInput) { in.Issuer.Issuer = "https://other.example.com" }, "signature"},
		"no providers":     {func(in *ExplainInput) { in.Account.Providers = nil }, "provider"},
		"no documents":     {func(in *ExplainInput) { in.Config, in.Account = in.Account.Config, nil }, "role"},
		"trust unread":     {func(in *ExplainInput) { in.Account.Roles[0].Trust = Document{Name: "trust", Err: errExplainUnread} }, "trust-assume"},
		"long session":     {func(in *ExplainInput) { in.Duration = 7200 }, "duration"},
		"AWS's policy":     {func(in *ExplainInput) { in.PolicyARNs = []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"} }, "session-policy"},
		"no token":         {func(in *ExplainInput) { in.Token = "" }, "token"},
		"sender's address": {func(in *ExplainInput) { in.require("IpAddress", "aws:SourceIp", "192.0.2.0/24") }, "trust-tag"},
		"sender's address, denied": {func(in *ExplainInput) {
			s := in.Account.Roles[0].Trust.Policy.Statements[0]
			s.Effect, s.Condition = policy.Deny, []policy.Condition{{Operator: "NotIpAddress", Key: "aws:SourceIp", Values: []string{"192.0.2.0/24"}}}
			in.Account.Roles[0].Trust.Policy.Statements = append(in.Account.Roles[0].Trust.Policy.Statements, s)
		}, "trust-tag"},
	} {
		in := explainReference(t)
		test.change(&in)
		x := Explain(in)
		s := x.step(test.unknown)
		if x.Verdict != CannotTell || s == nil || s.Outcome != StepUnknown || s.Why == "" || x.ExitStatus() != 3 {
			t.Errorf("%s: verdict %s, exit status %d, step %+v", name, x.Verdict, x.ExitStatus(), s)
		}
	}
}

func (in *ExplainInput) require(operator, key, value string) {
	s := &in.Account.Roles[0].Trust.Policy.Statements[0]
	s.Condition = append(s.Condition, policy.Condition{Operator: operator, Key: key, Values: []string{value}})
}

// What the sender tells is known.
func TestExplainTakesTheSendersWord(t *testing.T) {
	for value, want := range map[string]ExplainVerdict{"192.0.2.7": GivesCredentials, "198.51.100.7": RefusesCall} {
		in := explainReference(t)
		in.require("IpAddress", "aws:SourceIp", "192.0.2.0/24")
		in.Context = map[string]string{"aws:sourceip": value}
		if x := Explain(in); x.Verdict != want {
			t.Errorf("%s: want %s, got %s\n%s", value, want, x.Verdict, explainedText(x))
		}
	}
	in := explainReference(t)
	in.Duration, in.MaxSession = 7200, 7200
	if x := Explain(in); x.Verdict != GivesCredentials {
		t.Errorf("a duration that is known to be allowed: %s", x.Verdict)
	}
}

// A control policy that denies is found as well.
func TestExplainSeesControlPolicies(t *testing.T) {
	in := explainReference(t)
	deny := document(policy.Statement{Sid: "NoTags", Effect: policy.Deny, Principal: &policy.Principals{Any: true}, Action: []string{"sts:TagSession"}, Resource: []string{"*"}})
	in.Account.Organization.Resource = []Level{{Target: "root", Policies: []Document{{Name: "resource control policy NoTags at root", Policy: deny}}}}
	s := Explain(in).First()
	if s == nil || s.Name != "trust-tag" || s.At == nil || s.At.Sid != "NoTags" || !strings.Contains(s.Why, "resource control policy NoTags") {
		t.Errorf("got %+v", s)
	}
}

// A command in a fix can be pasted, whatever the token has in the places it fills.
func TestFixesAreSafeToPaste(t *testing.T) {
	in := explainReference(t)
	in.Account.Providers = []Provider{}
	in.Token = explainToken(t, map[string]any{"iss": "https://x/$(touch y); '`z`"})
	if fix := Explain(in).First().Fix; !strings.Contains(fix, `--url 'https://x/$(touch y); '\''`+"`z`' ") {
		t.Errorf("got %s", fix)
	}
}
