package localaws

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"agentkeys/policy"
)

// statementFor is a bucket policy of one statement on the objects of the bucket.
func statementFor(effect, principal string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"s3:GetObject","Resource":"` + bucketARN + `/*"}]}`
}

// shownPrincipals are the AWS principals of the bucket policy as it is shown.
func shownPrincipals(t *testing.T, admin *s3sdk.Client) *policy.Principals {
	t.Helper()
	out, err := admin.GetBucketPolicy(t.Context(), &s3sdk.GetBucketPolicyInput{Bucket: aws.String(testBucket)})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := policy.Parse([]byte(*out.Policy))
	if err != nil {
		t.Fatal(err)
	}
	return doc.Statements[0].Principal
}

// TestCanonicalUser holds that the account's canonical id stands for the
// account, in a Deny above all, and that no other canonical id is taken.
func TestCanonicalUser(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	own := a.server.s3.owner().ID
	mustPutPolicy(t, admin, statementFor("Deny", `{"CanonicalUser":"`+own+`"}`))
	_, err := get(admin, "k")
	wantCode(t, err, "AccessDenied")
	if got := shownPrincipals(t, admin); len(got.AWS) != 1 || got.AWS[0] != rootARN || len(got.CanonicalUser) != 0 {
		t.Errorf("got %+v, want the account's root", got)
	}
	a.restart()
	_, err = get(admin, "k")
	wantCode(t, err, "AccessDenied")
	for _, id := range []string{strings.Repeat("a", 64), "", own[:63]} {
		if message := wantCode(t, putPolicy(admin, statementFor("Allow", `{"CanonicalUser":"`+id+`"}`)), "MalformedPolicy"); message != "Invalid principal in policy" {
			t.Errorf("canonical id %q: got %q", id, message)
		}
	}
}

// TestSessionPrincipal holds that a role session in a bucket policy is one of
// the role as it is now: not of a role that is not there, and not of the next
// one of that name.
func TestSessionPrincipal(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	sessionARN := "arn:aws:sts::" + testAccount + ":assumed-role/data/session"
	grant := statementFor("Allow", `{"AWS":"`+sessionARN+`"}`)
	if message := wantCode(t, putPolicy(admin, grant), "MalformedPolicy"); message != "Invalid principal in policy" {
		t.Errorf("a session of no role: got %q", message)
	}
	first := s3Client(a.session("data", "", nil))
	mustPutPolicy(t, admin, grant)
	if _, err := get(first, "k"); err != nil {
		t.Fatal(err)
	}
	if got := shownPrincipals(t, admin).AWS; got[0] != sessionARN {
		t.Errorf("got %v, want %s", got, sessionARN)
	}
	other, err := a.sts().AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(arnOfRole("data")), RoleSessionName: aws.String("other")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = get(s3Client(a.sessionSDK(other.Credentials)), "k")
	wantCode(t, err, "AccessDenied")
	if _, err := a.iam().DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("data")}); err != nil {
		t.Fatal(err)
	}
	second := s3Client(a.session("data", "", nil))
	_, err = get(second, "k")
	wantCode(t, err, "AccessDenied")
	if got := shownPrincipals(t, admin).AWS; !strings.HasPrefix(got[0], "AROA") || !strings.HasSuffix(got[0], ":session") {
		t.Errorf("got %v, want the unique id of the session", got)
	}
	mustPutPolicy(t, admin, grant)
	if _, err := get(second, "k"); err != nil {
		t.Errorf("after the policy was put again: %v", err)
	}
}

// TestSessionInTrust is TestSessionPrincipal for a trust policy.
func TestSessionInTrust(t *testing.T) {
	a := newAccount(t)
	allowed := allow("sts:AssumeRole", "*", "")
	near := a.session("near", allowed, nil)
	a.createRole("far", trustAWS("arn:aws:sts::"+testAccount+":assumed-role/near/session", `"sts:AssumeRole"`, ""))
	if _, err := assumeRole(t, near, "far"); err != nil {
		t.Fatal(err)
	}
	got := must[*iam.GetRoleOutput](t)(a.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("far")}))
	if shown := unescape(t, *got.Role.AssumeRolePolicyDocument); !strings.Contains(shown, "assumed-role/near/session") {
		t.Errorf("want the session's ARN shown, got %s", shown)
	}
	must[*iam.DeleteRolePolicyOutput](t)(a.iam().DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String("near"), PolicyName: aws.String("inline")}))
	must[*iam.DeleteRoleOutput](t)(a.iam().DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("near")}))
	_, err := assumeRole(t, a.session("near", allowed, nil), "far")
	wantError(t, err, "AccessDenied", "sts:AssumeRole")
}
