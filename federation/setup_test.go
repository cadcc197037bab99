package federation

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"agentkeys/policy"
)

// changes counts the requests that change something.
func (a *account) changes(t *testing.T) *[]string {
	t.Helper()
	seen := &[]string{}
	a.intercept = func(_ string, _ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut || r.Method == http.MethodDelete {
			*seen = append(*seen, r.Method+" "+r.URL.RequestURI())
		}
		if r.URL.Path == "/" && r.Method == http.MethodPost && r.Header.Get("Authorization") != "" {
			body := readBody(t, r)
			if !strings.Contains(body, "Action=Get") {
				*seen = append(*seen, body)
			}
		}
		return false
	}
	return seen
}

func TestSetUpTwiceChangesNothing(t *testing.T) {
	for _, form := range []Form{Plain, Hardened} {
		a := newAccount(t)
		d, inline, err := Break(a.config, render(t, a.config, form), FaultInlinePolicy)
		if err != nil {
			t.Fatal(err)
		}
		a.setUp(t, d, inline)
		changes := a.changes(t)
		a.setUp(t, d, inline)
		if len(*changes) > 0 {
			t.Errorf("%s: the second run made %d changes: %q", form, len(*changes), *changes)
		}
	}
}

// TestSetUpBringsUpToDate goes from the plain form with faults to the hardened one.
func TestSetUpBringsUpToDate(t *testing.T) {
	a := newAccount(t)
	d, _, err := Break(a.config, render(t, a.config, Plain), FaultTrustPolicy)
	if err != nil {
		t.Fatal(err)
	}
	a.setUp(t, d, nil)
	if r := prove(t, a.proof(t)); r.Verdict != Broken {
		t.Fatalf("verdict %s, want %s", r.Verdict, Broken)
	}
	d = render(t, a.config, Hardened)
	a.setUp(t, d, nil)
	if r := prove(t, a.proof(t)); r.Verdict != Proven {
		t.Errorf("verdict %s, want %s", r.Verdict, Proven)
	}
	role, err := a.aws.IAM.GetRole(t.Context(), &iam.GetRoleInput{RoleName: &a.config.Role})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := stored(aws.ToString(role.Role.AssumeRolePolicyDocument))
	if err != nil || !same(trust, d.Trust) {
		t.Errorf("the trust policy in force (%v) is not the one that was asked for", err)
	}
}

func TestSetUpAddsTheAudience(t *testing.T) {
	a := newAccount(t)
	d := render(t, a.config, Hardened)
	a.setUp(t, d, nil)
	a.config.Audience = "another"
	a.setUp(t, render(t, a.config, Hardened), nil)
	arn := a.config.ProviderARN()
	got, err := a.aws.IAM.GetOpenIDConnectProvider(t.Context(), &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(got.ClientIDList, "another") || !slices.Contains(got.ClientIDList, DefaultAudience) {
		t.Errorf("client ids %q, want both audiences", got.ClientIDList)
	}
}

// TestSetUpDropsNothingOfOthers: a statement that is not ours stops it.
func TestSetUpDropsNothingOfOthers(t *testing.T) {
	a := newAccount(t)
	d := render(t, a.config, Hardened)
	a.setUp(t, d, nil)
	mail := policy.Statement{
		Sid: "Mail", Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{a.config.RoleARN()}},
		Action: []string{"s3:PutObject"}, Resource: []string{a.config.BucketARN() + "/mail/*"},
	}
	with := d
	with.BucketPolicy = document(append(slices.Clone(d.BucketPolicy.Statements), mail)...)
	a.setUp(t, with, nil)
	err := SetUp(t.Context(), a.aws, a.config, d, nil)
	if err == nil || !strings.Contains(err.Error(), `"Mail"`) || !strings.Contains(err.Error(), a.config.Bucket) {
		t.Errorf("error %v, want one that names the bucket and the statement", err)
	}
	got, err := a.aws.S3.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &a.config.Bucket})
	if err != nil || !strings.Contains(aws.ToString(got.Policy), "Mail") {
		t.Errorf("the statement is gone (%v)", err)
	}

	other := d
	other.Trust = document(append(slices.Clone(d.Trust.Statements), policy.Statement{
		Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{a.config.Account}}, Action: []string{"sts:AssumeRole"},
	})...)
	_, err = a.aws.IAM.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{
		RoleName: &a.config.Role, PolicyDocument: aws.String(marshal(t, other.Trust)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := SetUp(t.Context(), a.aws, a.config, with, nil); err == nil || !strings.Contains(err.Error(), a.config.Role) {
		t.Errorf("error %v, want one that names the role", err)
	}
}

// TestSetUpErrorsNameCallAndThing lets one call at a time fail.
func TestSetUpErrorsNameCallAndThing(t *testing.T) {
	for call, thing := range map[string]string{
		"iam GetOpenIDConnectProvider":    "oidc-provider/",
		"iam CreateOpenIDConnectProvider": "http://127.0.0.1",
		"iam GetRole":                     DefaultRole,
		"iam CreateRole":                  DefaultRole,
		"iam GetRolePolicy":               InlinePolicyName,
		"iam PutRolePolicy":               InlinePolicyName,
		"s3 HeadBucket":                   "agentkeys-test",
		"s3 CreateBucket":                 "agentkeys-test",
		"s3 GetBucketOwnershipControls":   "agentkeys-test",
		"s3 GetPublicAccessBlock":         "agentkeys-test",
		"s3 GetBucketPolicy":              "agentkeys-test",
		"s3 PutBucketPolicy":              "agentkeys-test",
	} {
		t.Run(call, func(t *testing.T) {
			a := newAccount(t)
			_, name, _ := strings.Cut(call, " ")
			a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
				if sdkCall(t, r) != name {
					return false
				}
				denied := recorded{403, "AccessDenied", "Access Denied"}
				if strings.HasPrefix(call, "s3") {
					denied.s3(w)
				} else {
					denied.sts(w)
				}
				return true
			}
			d, inline, err := Break(a.config, render(t, a.config, Hardened), FaultInlinePolicy)
			if err != nil {
				t.Fatal(err)
			}
			err = SetUp(t.Context(), a.aws, a.config, d, inline)
			if err == nil || !strings.Contains(err.Error(), call) || !strings.Contains(err.Error(), thing) {
				t.Errorf("error %v, want one that names %s and %s", err, call, thing)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has more than one line: %q", err)
			}
		})
	}
}

// sdkCall is the SDK operation that a request of SetUp's is for.
func sdkCall(t *testing.T, r *http.Request) string {
	t.Helper()
	if r.URL.Path == "/" && r.Method == http.MethodPost {
		_, action, _ := strings.Cut(readBody(t, r), "Action=")
		action, _, _ = strings.Cut(action, "&")
		return action
	}
	verb := map[string]string{http.MethodGet: "Get", http.MethodPut: "Put", http.MethodHead: "Head"}[r.Method]
	for sub, name := range map[string]string{
		"policy": "BucketPolicy", "publicAccessBlock": "PublicAccessBlock", "ownershipControls": "BucketOwnershipControls",
	} {
		if r.URL.Query().Has(sub) {
			return verb + name
		}
	}
	if verb == "Put" {
		return "CreateBucket"
	}
	return verb + "Bucket"
}

// TestSetUpWaitsForANewRole: S3 does not know the principal at first.
func TestSetUpWaitsForANewRole(t *testing.T) {
	a := newAccount(t)
	refusals := 0
	a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if refusals == 0 && sdkCall(t, r) == "PutBucketPolicy" {
			refusals++
			recorded{400, "MalformedPolicy", "Invalid principal in policy"}.s3(w)
			return true
		}
		return false
	}
	a.setUp(t, render(t, a.config, Hardened), nil)
	if refusals != 1 {
		t.Errorf("%d refusals, want 1", refusals)
	}
}

func TestSetUpEndsWithItsContext(t *testing.T) {
	a := newAccount(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if sdkCall(t, r) != "PutBucketPolicy" {
			return false
		}
		recorded{400, "MalformedPolicy", "Invalid principal in policy"}.s3(w)
		cancel()
		return true
	}
	if err := SetUp(ctx, a.aws, a.config, render(t, a.config, Hardened), nil); err == nil {
		t.Error("SetUp reports success")
	}
}

// TestSetUpElsewhere: outside us-east-1 the bucket's region is stated, and only there.
func TestSetUpStatesTheRegion(t *testing.T) {
	for region, want := range map[string]bool{"us-east-1": false, "eu-west-1": true} {
		a := newAccount(t)
		a.config.Region = region
		stated := false
		a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
			if sdkCall(t, r) != "CreateBucket" {
				return false
			}
			stated = strings.Contains(readBody(t, r), "<LocationConstraint>"+region+"</LocationConstraint>")
			recorded{403, "AccessDenied", "Access Denied"}.s3(w)
			return true
		}
		if err := SetUp(t.Context(), a.aws, a.config, render(t, a.config, Hardened), nil); err == nil {
			t.Errorf("%s: SetUp reports success", region)
		}
		if stated != want {
			t.Errorf("%s: the region is stated: %v, want %v", region, stated, want)
		}
	}
}

func TestSetUpRefusesIncompleteDocuments(t *testing.T) {
	if err := SetUp(t.Context(), AWS{}, testConfig(), Documents{}, nil); err == nil {
		t.Error("SetUp takes documents without a trust policy")
	}
	if err := SetUp(t.Context(), AWS{}, Config{}, Documents{}, nil); err == nil {
		t.Error("SetUp takes an empty configuration")
	}
}

func TestSameIgnoresOrder(t *testing.T) {
	a := trustPolicy(testConfig(), Hardened)
	b := trustPolicy(testConfig(), Hardened)
	slices.Reverse(b.Statements[0].Condition)
	slices.Reverse(b.Statements[0].Action)
	if !same(a, b) {
		t.Error("the order of conditions and actions counts")
	}
	b.Statements[1].Condition[0].Values = []string{"*"}
	if same(a, b) {
		t.Error("different values are the same")
	}
	b = trustPolicy(testConfig(), Hardened)
	slices.Reverse(b.Statements)
	if same(a, b) {
		t.Error("different statements in one place are the same")
	}
}
