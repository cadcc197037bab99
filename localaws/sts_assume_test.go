package localaws

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
)

const rootARN = "arn:aws:iam::" + testAccount + ":root"

func trustAWS(principal, actions, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":[` + actions + `]` + condition + `}]}`
}

const assumeAndTag = `"sts:AssumeRole","sts:TagSession"`

// newUser makes a user with one access key and, where given, one inline policy.
func (a *account) newUser(name, document string) aws.Config {
	a.t.Helper()
	ctx := context.Background()
	if _, err := a.iam().CreateUser(ctx, &iam.CreateUserInput{UserName: &name}); err != nil {
		a.t.Fatal(err)
	}
	if document != "" {
		if _, err := a.iam().PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: aws.String("p"), PolicyDocument: &document}); err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := a.iam().CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		a.t.Fatal(err)
	}
	return a.sdk(*key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, "")
}

func arnOfRole(name string) string { return "arn:aws:iam::" + testAccount + ":role/" + name }

func assumeRole(t *testing.T, by aws.Config, role string, change ...func(*sts.AssumeRoleInput)) (*sts.AssumeRoleOutput, error) {
	t.Helper()
	in := &sts.AssumeRoleInput{RoleArn: aws.String(arnOfRole(role)), RoleSessionName: aws.String("chain")}
	for _, f := range change {
		f(in)
	}
	return sts.NewFromConfig(by).AssumeRole(t.Context(), in)
}

func passTags(pairs ...string) func(*sts.AssumeRoleInput) {
	return func(in *sts.AssumeRoleInput) {
		for i := 0; i < len(pairs); i += 2 {
			in.Tags = append(in.Tags, ststypes.Tag{Key: &pairs[i], Value: &pairs[i+1]})
		}
	}
}

func transitive(keys ...string) func(*sts.AssumeRoleInput) {
	return func(in *sts.AssumeRoleInput) { in.TransitiveTagKeys = keys }
}

func TestAssumeRoleCallers(t *testing.T) {
	a := newAccount(t)
	nobody := a.newUser("nobody", "")
	allowed := a.newUser("allowed", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole","sts:TagSession"],"Resource":"*"}]}`)
	untag := a.newUser("untag", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`)
	denied := a.newUser("denied", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"sts:*","Resource":"*"}]}`)
	nobodyARN := "arn:aws:iam::" + testAccount + ":user/nobody"
	deniedARN := "arn:aws:iam::" + testAccount + ":user/denied"
	a.createRole("of-account", trustAWS(rootARN, assumeAndTag, ""))
	a.createRole("of-nobody", trustAWS(nobodyARN, `"sts:AssumeRole"`, ""))
	a.createRole("of-denied", trustAWS(deniedARN, `"sts:AssumeRole"`, ""))
	a.createRole("of-nobody-with-id", trustAWS(nobodyARN, `"sts:AssumeRole"`, `{"StringEquals":{"sts:ExternalId":"secret-1"}}`))
	for _, test := range []struct {
		name    string
		by      aws.Config
		role    string
		change  func(*sts.AssumeRoleInput)
		message string // "" is let in
	}{
		{"the account's trust and an own policy", allowed, "of-account", nil, ""},
		{"the account's trust alone", nobody, "of-account", nil, "because no identity-based policy allows the sts:AssumeRole action"},
		{"a trust that names the user needs no policy", nobody, "of-nobody", nil, ""},
		{"an own policy alone is not enough", allowed, "of-nobody", nil, "is not authorized to perform: sts:AssumeRole on resource: " + arnOfRole("of-nobody")},
		{"an own deny wins", denied, "of-denied", nil, "with an explicit deny in an identity-based policy"},
		{"no such role", allowed, "none", nil, "is not authorized to perform: sts:AssumeRole"},
		{"tags need TagSession in the trust", nobody, "of-nobody", passTags("k", "v"), "is not authorized to perform: sts:TagSession"},
		{"tags need TagSession of the caller too", untag, "of-account", passTags("k", "v"), "because no identity-based policy allows the sts:TagSession action"},
		{"tags allowed", allowed, "of-account", passTags("k", "v"), ""},
		{"external id", nobody, "of-nobody-with-id", func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("secret-1") }, ""},
		{"other external id", nobody, "of-nobody-with-id", func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("secret-2") }, "is not authorized"},
		{"no external id", nobody, "of-nobody-with-id", nil, "is not authorized"},
		{"source identity", allowed, "of-account", func(in *sts.AssumeRoleInput) { in.SourceIdentity = aws.String("alice") }, "sts:SetSourceIdentity"},
	} {
		t.Run(test.name, func(t *testing.T) {
			change := test.change
			if change == nil {
				change = func(*sts.AssumeRoleInput) {}
			}
			_, err := assumeRole(t, test.by, test.role, change)
			if test.message == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, "AccessDenied", test.message)
		})
	}
}

func TestAssumeRoleRefusals(t *testing.T) {
	a := newAccount(t)
	a.createRole("target", trustAWS(rootARN, assumeAndTag, ""))
	admin := a.adminSDK()
	var many, keys []string
	for i := range 51 {
		many = append(many, fmt.Sprint("k", i), "v")
		keys = append(keys, fmt.Sprint("k", i))
	}
	for _, test := range []struct {
		name   string
		change []func(*sts.AssumeRoleInput)
		code   string
	}{
		{"51 tags", []func(*sts.AssumeRoleInput){passTags(many...)}, "ValidationError"},
		{"51 transitive keys", []func(*sts.AssumeRoleInput){transitive(keys...)}, "ValidationError"},
		{"a key twice", []func(*sts.AssumeRoleInput){passTags("k", "a", "K", "b")}, "InvalidInput"},
		{"a reserved key", []func(*sts.AssumeRoleInput){passTags("aws:k", "a")}, "InvalidInput"},
		{"a value with a star", []func(*sts.AssumeRoleInput){passTags("k", "*")}, "ValidationError"},
		{"a transitive key without its tag", []func(*sts.AssumeRoleInput){passTags("k", "v"), transitive("x")}, "InvalidParameterValue"},
		{"a transitive key twice", []func(*sts.AssumeRoleInput){passTags("k", "v"), transitive("k", "K")}, "InvalidParameterValue"},
		{"external id short", []func(*sts.AssumeRoleInput){func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("x") }}, "ValidationError"},
		{"source identity with a space", []func(*sts.AssumeRoleInput){func(in *sts.AssumeRoleInput) { in.SourceIdentity = aws.String("a b") }}, "ValidationError"},
		{"a second factor that does not exist", []func(*sts.AssumeRoleInput){func(in *sts.AssumeRoleInput) {
			in.SerialNumber, in.TokenCode = aws.String("arn:aws:iam::1:mfa/x"), aws.String("123456")
		}}, "AccessDenied"},
		{"over the role's maximum", []func(*sts.AssumeRoleInput){func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(7200) }}, "ValidationError"},
		{"50 tags of full length", []func(*sts.AssumeRoleInput){func(in *sts.AssumeRoleInput) {
			for _, k := range keys[:50] {
				in.Tags = append(in.Tags, ststypes.Tag{Key: aws.String(k), Value: aws.String(strings.Repeat("v", 256))})
			}
		}}, "PackedPolicyTooLarge"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := assumeRole(t, admin, "target", test.change...)
			wantError(t, err, test.code, "")
		})
	}
	t.Run("no signature", func(t *testing.T) {
		got := a.post("Action=AssumeRole&Version=" + stsVersion + "&RoleSessionName=agent&RoleArn=" + arnOfRole("target"))
		if got.status != 403 || got.code != "MissingAuthenticationToken" {
			t.Errorf("want 403 MissingAuthenticationToken, got %+v", got)
		}
	})
}

// TestChaining follows tags and source identity from session to session.
func TestChaining(t *testing.T) {
	a := newAccount(t)
	listRoles := func(condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:*","Resource":"*"},{"Effect":"Allow","Action":"iam:ListRoles","Resource":"*","Condition":` + condition + `}]}`
	}
	ctx := t.Context()
	for name, policy := range map[string]string{
		"first":  listRoles(`{"StringEquals":{"aws:PrincipalTag/wallet":"A","aws:PrincipalTag/plain":"P"}}`),
		"second": listRoles(`{"StringEquals":{"aws:PrincipalTag/wallet":"A","aws:SourceIdentity":"alice"},"Null":{"aws:PrincipalTag/plain":"true"}}`),
		"third":  listRoles(`{"StringEquals":{"aws:PrincipalTag/wallet":"A"}}`),
	} {
		a.createRole(name, trustAWS(rootARN, assumeAndTag+`,"sts:SetSourceIdentity"`, ""))
		if _, err := a.iam().PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String(name), PolicyName: aws.String("p"), PolicyDocument: aws.String(policy)}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.iam().UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: aws.String(name), MaxSessionDuration: aws.Int32(43200)}); err != nil {
			t.Fatal(err)
		}
	}
	first, err := assumeRole(t, a.adminSDK(), "first", passTags("wallet", "A", "plain", "P"), transitive("WALLET"),
		func(in *sts.AssumeRoleInput) {
			in.SourceIdentity, in.DurationSeconds = aws.String("alice"), aws.Int32(43200)
		})
	if err != nil {
		t.Fatal(err)
	}
	if *first.SourceIdentity != "alice" {
		t.Errorf("want source identity alice, got %s", *first.SourceIdentity)
	}
	firstSDK := a.sessionSDK(first.Credentials)
	if _, err := iam.NewFromConfig(firstSDK).ListRoles(ctx, nil); err != nil {
		t.Errorf("both tags in the first session: %v", err)
	}
	second, err := assumeRole(t, firstSDK, "second")
	if err != nil {
		t.Fatal(err)
	}
	secondSDK := a.sessionSDK(second.Credentials)
	if _, err := iam.NewFromConfig(secondSDK).ListRoles(ctx, nil); err != nil {
		t.Errorf("the transitive tag and the source identity in the second session, not the plain tag: %v", err)
	}
	third, err := assumeRole(t, secondSDK, "third", passTags("plain", "again"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := iam.NewFromConfig(a.sessionSDK(third.Credentials)).ListRoles(ctx, nil); err != nil {
		t.Errorf("the transitive tag in the third session: %v", err)
	}
	for _, key := range []string{"wallet", "Wallet"} {
		_, err = assumeRole(t, firstSDK, "second", passTags(key, "B"))
		wantError(t, err, "InvalidParameterValue", "conflicts with a transitive tag key")
	}
	_, err = assumeRole(t, firstSDK, "second", func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(3601) })
	wantError(t, err, "ValidationError", "exceeds the 1 hour session limit for roles assumed by role chaining")
	_, err = assumeRole(t, firstSDK, "second", func(in *sts.AssumeRoleInput) { in.SourceIdentity = aws.String("mallory") })
	wantError(t, err, "AccessDenied", "sts:SetSourceIdentity")

	a.createRole("untagged", trustAWS(rootARN, `"sts:AssumeRole","sts:SetSourceIdentity"`, ""))
	_, err = assumeRole(t, firstSDK, "untagged")
	wantError(t, err, "AccessDenied", "sts:TagSession")

	if _, err := a.iam().TagRole(ctx, &iam.TagRoleInput{RoleName: aws.String("third"), Tags: iamTags("wallet", "B")}); err != nil {
		t.Fatal(err)
	}
	trust := trustAWS(rootARN, assumeAndTag+`,"sts:SetSourceIdentity"`, `{"StringEquals":{"aws:ResourceTag/wallet":"A"}}`)
	if _, err := a.iam().UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("third"), PolicyDocument: &trust}); err != nil {
		t.Fatal(err)
	}
	if _, err := assumeRole(t, firstSDK, "third"); err != nil {
		t.Errorf("the inherited tag in place of the role's own: %v", err)
	}
	_, err = assumeRole(t, a.adminSDK(), "third")
	wantError(t, err, "AccessDenied", "sts:AssumeRole")
}

// TestBoundPrincipals makes the principals of a trust policy again under the
// same names: the new ones are not the ones that were trusted.
func TestBoundPrincipals(t *testing.T) {
	a := newAccount(t)
	ctx := t.Context()
	bob := a.newUser("bob", "")
	bobARN := "arn:aws:iam::" + testAccount + ":user/bob"
	a.createRole("target", trustAWS(bobARN, `"sts:AssumeRole"`, ""))
	if _, err := assumeRole(t, bob, "target"); err != nil {
		t.Fatal(err)
	}
	got, err := a.iam().GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("target")})
	if err != nil || !strings.Contains(unescape(t, *got.Role.AssumeRolePolicyDocument), bobARN) {
		t.Fatalf("want the user's ARN shown, got %v, %v", got, err)
	}
	keys, _ := a.iam().ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: aws.String("bob")})
	for _, k := range keys.AccessKeyMetadata {
		a.iam().DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("bob"), AccessKeyId: k.AccessKeyId})
	}
	if _, err := a.iam().DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("bob")}); err != nil {
		t.Fatal(err)
	}
	again := a.newUser("bob", "")
	_, err = assumeRole(t, again, "target")
	wantError(t, err, "AccessDenied", "sts:AssumeRole")
	got, err = a.iam().GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("target")})
	if shown := unescape(t, *got.Role.AssumeRolePolicyDocument); err != nil || strings.Contains(shown, bobARN) || !strings.Contains(shown, "AIDA") {
		t.Errorf("want the old user's id shown, got %s, %v", shown, err)
	}
}

// TestBoundRole is TestBoundPrincipals for a role.
func TestBoundRole(t *testing.T) {
	a := newAccount(t)
	a.createRole("near", trustAWS(rootARN, `"sts:AssumeRole"`, ""))
	a.createRole("far", trustAWS(arnOfRole("near"), `"sts:AssumeRole"`, ""))
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`
	reach := func() error {
		in := &iam.PutRolePolicyInput{RoleName: aws.String("near"), PolicyName: aws.String("p"), PolicyDocument: &policy}
		must[*iam.PutRolePolicyOutput](t)(a.iam().PutRolePolicy(t.Context(), in))
		near, err := assumeRole(t, a.adminSDK(), "near")
		if err != nil {
			t.Fatal(err)
		}
		_, err = assumeRole(t, a.sessionSDK(near.Credentials), "far")
		return err
	}
	if err := reach(); err != nil {
		t.Fatal(err)
	}
	must[*iam.DeleteRolePolicyOutput](t)(a.iam().DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String("near"), PolicyName: aws.String("p")}))
	must[*iam.DeleteRoleOutput](t)(a.iam().DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("near")}))
	a.createRole("near", trustAWS(rootARN, `"sts:AssumeRole"`, ""))
	wantError(t, reach(), "AccessDenied", "sts:AssumeRole")
	a.stop()
	a.open()
	wantError(t, reach(), "AccessDenied", "sts:AssumeRole")
}

// TestChangesActAtOnce holds that a change of policy acts on sessions that exist.
func TestChangesActAtOnce(t *testing.T) {
	a := newAccount(t)
	a.federate()
	client := iam.NewFromConfig(a.sessionSDK(a.mustAssume(a.token(nil))))
	list := func() error { _, err := client.ListRoles(t.Context(), nil); return err }
	wantError(t, list(), "AccessDenied", "because no identity-based policy allows the iam:ListRoles action")
	a.putRolePolicy("p", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}`)
	if err := list(); err != nil {
		t.Error(err)
	}
	boundary := awsPolicyARN("AmazonS3FullAccess")
	if _, err := a.iam().PutRolePermissionsBoundary(t.Context(), &iam.PutRolePermissionsBoundaryInput{RoleName: aws.String(roleName), PermissionsBoundary: &boundary}); err != nil {
		t.Fatal(err)
	}
	wantError(t, list(), "AccessDenied", "because no permissions boundary allows the iam:ListRoles action")
	if _, err := a.iam().DeleteRolePermissionsBoundary(t.Context(), &iam.DeleteRolePermissionsBoundaryInput{RoleName: aws.String(roleName)}); err != nil {
		t.Fatal(err)
	}
	a.putRolePolicy("q", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:ListRoles","Resource":"*"}]}`)
	wantError(t, list(), "AccessDenied", "with an explicit deny in an identity-based policy")
}
