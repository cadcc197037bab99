package localaws

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"agentkeys/policy"
)

// TestMalformedPolicies holds the text of every refusal that PutBucketPolicy has.
func TestMalformedPolicies(t *testing.T) {
	a, admin := newBucket(t)
	a.session("data", "", nil)
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	role := `"Principal":{"AWS":"arn:aws:iam::` + testAccount + `:role/data"}`
	rest := `"Action":"s3:GetObject","Resource":"` + bucketARN + `/*"`
	tests := []struct{ name, policy, want string }{
		{"not an object", `["x"]`, "Policies must be valid JSON and the first byte must be '{'"},
		{"empty", ``, "Policies must be valid JSON and the first byte must be '{'"},
		{"broken", `{"Version":`, "This policy contains invalid Json"},
		{"no statement", `{"Version":"2012-10-17"}`, "Missing required field Statement"},
		{"empty statement", `{"Version":"2012-10-17","Statement":[]}`, "Could not parse the policy: Statement is empty!"},
		{"no principal", statement(`{"Effect":"Allow",` + rest + `}`), "Missing required field Principal"},
		{"no action", statement(`{"Effect":"Allow",` + role + `,"Resource":"` + bucketARN + `/*"}`), "Missing required field Action"},
		{"no resource", statement(`{"Effect":"Allow",` + role + `,"Action":"s3:GetObject"}`), "Missing required field Resource"},
		{"no effect", statement(`{` + role + `,` + rest + `}`), "Missing required field Effect"},
		{"version", `{"Version":"2020-01-01","Statement":[{"Effect":"Allow",` + role + `,` + rest + `}]}`, "The policy must contain a valid version string"},
		{"unknown role", statement(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + testAccount + `:role/nobody"},` + rest + `}`), "Invalid principal in policy"},
		{"wildcard in a principal", statement(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + testAccount + `:role/*"},` + rest + `}`), "Invalid principal in policy"},
		{"action", statement(`{"Effect":"Allow",` + role + `,"Action":"s3:Nonsense","Resource":"` + bucketARN + `/*"}`), "Policy has invalid action"},
		{"other bucket", statement(`{"Effect":"Allow",` + role + `,"Action":"s3:GetObject","Resource":"arn:aws:s3:::other/*"}`), "Policy has invalid resource"},
		{"object action on the bucket", statement(`{"Effect":"Allow",` + role + `,"Action":"s3:GetObject","Resource":"` + bucketARN + `"}`), "Action does not apply to any resource(s) in statement"},
		{"bucket action on objects", statement(`{"Effect":"Allow",` + role + `,"Action":"s3:ListBucket","Resource":"` + bucketARN + `/*"}`), "Action does not apply to any resource(s) in statement"},
		{"prefix with GetObject", statement(`{"Effect":"Allow",` + role + `,` + rest + `,"Condition":{"StringLike":{"s3:prefix":"x"}}}`), "Conditions do not apply to combination of actions and resources in statement"},
		{"unknown key", statement(`{"Effect":"Allow",` + role + `,` + rest + `,"Condition":{"StringLike":{"s3:nonsense":"x"}}}`), "Policy has an invalid condition key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body := a.raw("PUT", "/"+testBucket+"?policy", nil, tt.policy)
			want := "<Code>MalformedPolicy</Code><Message>" + strings.ReplaceAll(tt.want, "'", "&#39;") + "</Message>"
			if status != 400 || !strings.Contains(body, want) {
				t.Errorf("got %d %s\nwant %s", status, body, want)
			}
		})
	}
	_, err := admin.GetBucketPolicy(t.Context(), &s3sdk.GetBucketPolicyInput{Bucket: aws.String(testBucket)})
	wantCode(t, err, "NoSuchBucketPolicy")
	large := statement(`{"Effect":"Allow",` + role + `,` + rest + `,"Sid":"` + strings.Repeat("a", 20<<10) + `"}`)
	wantCode(t, putPolicy(admin, large), "MalformedPolicy")
}

// TestPolicyFollowsTheRole holds that a stored policy names a role by its
// unique id: a new role of the same name is another principal.
func TestPolicyFollowsTheRole(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	first := s3Client(a.session("data", "", nil))
	role := "arn:aws:iam::" + testAccount + ":role/data"
	mustPutPolicy(t, admin, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["`+role+`","`+testAccount+`"]},"Action":"s3:GetObject","Resource":"`+bucketARN+`/*"}]}`)
	if _, err := get(first, "k"); err != nil {
		t.Fatal(err)
	}
	principals := func() []string {
		t.Helper()
		out, err := admin.GetBucketPolicy(t.Context(), &s3sdk.GetBucketPolicyInput{Bucket: aws.String(testBucket)})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := policy.Parse([]byte(*out.Policy))
		if err != nil {
			t.Fatal(err)
		}
		return doc.Statements[0].Principal.AWS
	}
	if got := principals(); got[0] != role {
		t.Errorf("got %v, want the ARN %s", got, role)
	}
	if _, err := a.iam().DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("data")}); err != nil {
		t.Fatal(err)
	}
	if got := principals(); !strings.HasPrefix(got[0], "AROA") {
		t.Errorf("got %v, want the unique id of a role that is gone", got)
	}
	second := s3Client(a.session("data", "", nil))
	_, err := get(second, "k")
	wantCode(t, err, "AccessDenied")
	a.restart()
	_, err = get(second, "k")
	wantCode(t, err, "AccessDenied")
}

func TestBlockPublicAccess(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	ctx, bucket := t.Context(), aws.String(testBucket)
	public := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"` + bucketARN + `/*"}]}`
	message := wantCode(t, putPolicy(admin, public), "AccessDenied")
	if !strings.HasSuffix(message, "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.") {
		t.Errorf("got %q", message)
	}
	block := func(policy, restrict bool) {
		t.Helper()
		_, err := admin.PutPublicAccessBlock(ctx, &s3sdk.PutPublicAccessBlockInput{Bucket: bucket, PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{BlockPublicPolicy: &policy, RestrictPublicBuckets: &restrict}})
		if err != nil {
			t.Fatal(err)
		}
	}
	anybody := func(want int) {
		t.Helper()
		if status, body := anonymous(t, "GET", a.url+"/"+testBucket+"/k"); status != want {
			t.Errorf("anonymous: got %d %s, want %d", status, body, want)
		}
	}
	got, err := admin.GetPublicAccessBlock(ctx, &s3sdk.GetPublicAccessBlockInput{Bucket: bucket})
	if err != nil || !*got.PublicAccessBlockConfiguration.BlockPublicAcls || !*got.PublicAccessBlockConfiguration.RestrictPublicBuckets {
		t.Fatalf("got %+v, %v; want all on for a new bucket", got, err)
	}
	block(false, false)
	mustPutPolicy(t, admin, public)
	status, err := admin.GetBucketPolicyStatus(ctx, &s3sdk.GetBucketPolicyStatusInput{Bucket: bucket})
	if err != nil || !*status.PolicyStatus.IsPublic {
		t.Fatalf("got %+v, %v", status, err)
	}
	anybody(200)
	block(false, true)
	anybody(403)
	if _, err := get(s3Client(a.newUser("u", allow("s3:ListBucket", bucketARN, ""))), "k"); err != nil {
		t.Errorf("a user of the account: %v", err)
	}
	if _, err := admin.DeletePublicAccessBlock(ctx, &s3sdk.DeletePublicAccessBlockInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	anybody(200)
	_, err = admin.GetPublicAccessBlock(ctx, &s3sdk.GetPublicAccessBlockInput{Bucket: bucket})
	wantCode(t, err, "NoSuchPublicAccessBlockConfiguration")
	controls, err := admin.GetBucketOwnershipControls(ctx, &s3sdk.GetBucketOwnershipControlsInput{Bucket: bucket})
	if err != nil || controls.OwnershipControls.Rules[0].ObjectOwnership != types.ObjectOwnershipBucketOwnerEnforced {
		t.Fatalf("got %+v, %v", controls, err)
	}
}
