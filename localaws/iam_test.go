package localaws

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestRoles(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	c := a.iam()
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + rootARN + `"},"Action":"sts:AssumeRole"}]}`
	created := must[*iam.CreateRoleOutput](t)(c.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("r"), Path: aws.String("/team/x/"), AssumeRolePolicyDocument: &trust,
		Description: aws.String("a role"), MaxSessionDuration: aws.Int32(7200), Tags: iamTags("k", "v"), PermissionsBoundary: aws.String(awsPolicyARN("PowerUserAccess"))}))
	if want := "arn:aws:iam::" + testAccount + ":role/team/x/r"; *created.Role.Arn != want {
		t.Errorf("want %s, got %s", want, *created.Role.Arn)
	}
	got := must[*iam.GetRoleOutput](t)(c.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("r")})).Role
	if *got.MaxSessionDuration != 7200 || *got.Description != "a role" || len(got.Tags) != 1 || *got.PermissionsBoundary.PermissionsBoundaryArn != awsPolicyARN("PowerUserAccess") || !strings.HasPrefix(*got.RoleId, "AROA") {
		t.Errorf("got %+v", got)
	}
	if text := unescape(t, *got.AssumeRolePolicyDocument); text != trust {
		t.Errorf("want %s, got %s", trust, text)
	}
	for _, name := range []string{"r", "R"} {
		_, err := c.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust})
		wantError(t, err, "EntityAlreadyExists", "already exists")
	}
	_, err := c.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("R")})
	wantError(t, err, "NoSuchEntity", "The role with name R cannot be found.")
	must[*iam.UpdateRoleOutput](t)(c.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: aws.String("r"), Description: aws.String("other")}))
	got = must[*iam.GetRoleOutput](t)(c.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("r")})).Role
	if *got.MaxSessionDuration != 7200 || *got.Description != "other" {
		t.Errorf("an update changes what is passed alone: got %d, %q", *got.MaxSessionDuration, *got.Description)
	}
	must[*iam.PutRolePolicyOutput](t)(c.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("p"), PolicyDocument: aws.String(allowAll)}))
	must[*iam.AttachRolePolicyOutput](t)(c.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String("r"), PolicyArn: aws.String(awsPolicyARN("AmazonS3ReadOnlyAccess"))}))
	inline := must[*iam.GetRolePolicyOutput](t)(c.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("p")}))
	if text := unescape(t, *inline.PolicyDocument); text != allowAll || *inline.RoleName != "r" {
		t.Errorf("want %s, got %s", allowAll, text)
	}
	_, err = c.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String("r")})
	wantError(t, err, "DeleteConflict", "must detach all policies first")
	must[*iam.DetachRolePolicyOutput](t)(c.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: aws.String("r"), PolicyArn: aws.String(awsPolicyARN("AmazonS3ReadOnlyAccess"))}))
	_, err = c.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String("r")})
	wantError(t, err, "DeleteConflict", "must delete policies first")
	must[*iam.DeleteRolePolicyOutput](t)(c.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("p")}))
	_, err = c.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("p")})
	wantError(t, err, "NoSuchEntity", "The role policy with name p cannot be found.")
	must[*iam.DeleteRoleOutput](t)(c.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String("r")}))
	if list := must[*iam.ListRolesOutput](t)(c.ListRoles(ctx, nil)); len(list.Roles) != 0 || list.Roles == nil {
		t.Errorf("want an empty list, got %v", list.Roles)
	}
}

func TestIAMRefusals(t *testing.T) {
	a := newAccount(t)
	a.createRole("r", trustAWS(rootARN, `"sts:AssumeRole"`, ""))
	admin := a.adminCredentials()
	trust := func(s string) string { return url.QueryEscape(`{"Version":"2012-10-17","Statement":[` + s + `]}`) }
	const bad = "MalformedPolicyDocument"
	long := url.QueryEscape(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:` + strings.Repeat("x", 10300) + `","Resource":"*"}]}`)
	for _, test := range []struct {
		name, form    string
		status        int
		code, message string
	}{
		{"role name with a slash", "Action=CreateRole&RoleName=a/b&AssumeRolePolicyDocument=" + trust(""), 400, "ValidationError", "roleName"},
		{"role name with a tag", "Action=CreateRole&Path=x&RoleName=%3Cb%3E", 400, "ValidationError", "2 validation errors detected: Value '<b>' at 'roleName'"},
		{"no trust policy", "Action=CreateRole&RoleName=x", 400, "ValidationError", "assumeRolePolicyDocument"},
		{"path without an end", "Action=CreateRole&RoleName=x&Path=/a&AssumeRolePolicyDocument=" + trust(""), 400, "ValidationError", "path"},
		{"session too long", "Action=CreateRole&RoleName=x&MaxSessionDuration=43201&AssumeRolePolicyDocument=" + trust(""), 400, "ValidationError", "maxSessionDuration"},
		{"trust no JSON", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=x", 400, bad, ""},
		{"trust with a resource", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Effect":"Allow","Principal":{"AWS":"`+testAccount+`"},"Action":"sts:AssumeRole","Resource":"*"}`), 400, bad, ""},
		{"trust without a principal", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Effect":"Allow","Action":"sts:AssumeRole"}`), 400, bad, ""},
		{"trust with an unknown role", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:role/none"},"Action":"sts:AssumeRole"}`), 400, bad, `Invalid principal in policy: "AWS":"arn:aws:iam::123456789012:role/none"`},
		{"trust with a role in another case", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:role/R"},"Action":"sts:AssumeRole"}`), 400, bad, "Invalid principal"},
		{"trust with a pattern", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:role/*"},"Action":"sts:AssumeRole"}`), 400, bad, ""},
		{"trust with a made-up id", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Effect":"Allow","Principal":{"AWS":"AROAAAAAAAAAAAAAAAAAA"},"Action":"sts:AssumeRole"}`), 400, bad, "Invalid principal"},
		{"trust with an odd service", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Effect":"Allow","Principal":{"Service":"evil.example.com"},"Action":"sts:AssumeRole"}`), 400, bad, "SERVICE"},
		{"trust with an odd provider", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Effect":"Allow","Principal":{"Federated":"http://x"},"Action":"sts:AssumeRoleWithWebIdentity"}`), 400, bad, "Federated"},
		{"trust too long", "Action=CreateRole&RoleName=x&AssumeRolePolicyDocument=" + trust(`{"Sid":"`+strings.Repeat("x", 2100)+`","Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}`), 409, "LimitExceeded", "ACLSizePerRole: 2048"},
		{"inline policy with a principal", "Action=PutRolePolicy&RoleName=r&PolicyName=p&PolicyDocument=" + trust(`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}`), 400, bad, ""},
		{"inline policy unknown element", "Action=PutRolePolicy&RoleName=r&PolicyName=p&PolicyDocument=" + trust(`{"Effect":"Allow","Acton":"s3:*","Resource":"*"}`), 400, bad, ""},
		{"inline policy unknown operator", "Action=PutRolePolicy&RoleName=r&PolicyName=p&PolicyDocument=" + trust(`{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringEqual":{"a:b":"c"}}}`), 400, bad, ""},
		{"inline policy too long", "Action=PutRolePolicy&RoleName=r&PolicyName=p&PolicyDocument=" + long, 409, "LimitExceeded", "MaxRolePolicySize: 10240"},
		{"unknown managed policy", "Action=AttachRolePolicy&RoleName=r&PolicyArn=arn:aws:iam::aws:policy/None", 404, "NoSuchEntity", ""},
		{"detaching what is not attached", "Action=DetachRolePolicy&RoleName=r&PolicyArn=arn:aws:iam::aws:policy/PowerUserAccess", 404, "NoSuchEntity", ""},
		{"unknown boundary", "Action=PutRolePermissionsBoundary&RoleName=r&PermissionsBoundary=arn:aws:iam::123456789012:policy/x", 404, "NoSuchEntity", ""},
		{"no boundary to delete", "Action=DeleteRolePermissionsBoundary&RoleName=r", 404, "NoSuchEntity", ""},
		{"unknown role", "Action=GetRole&RoleName=none", 404, "NoSuchEntity", "The role with name none cannot be found."},
		{"unknown user", "Action=GetUser&UserName=none", 404, "NoSuchEntity", "The user with name none cannot be found."},
		{"unknown group", "Action=GetGroup&GroupName=none", 404, "NoSuchEntity", "The group with name none cannot be found."},
		{"changing a policy of AWS", "Action=DeletePolicy&PolicyArn=arn:aws:iam::aws:policy/PowerUserAccess", 403, "AccessDenied", ""},
		{"provider over http", "Action=CreateOpenIDConnectProvider&Url=http://issuer.example.com", 400, "InvalidInput", ""},
		{"provider with a port", "Action=CreateOpenIDConnectProvider&Url=https://issuer.example.com:8443", 400, "InvalidInput", ""},
		{"provider with a query", "Action=CreateOpenIDConnectProvider&Url=https://issuer.example.com/?a=b", 400, "InvalidInput", ""},
		{"provider with a password", "Action=CreateOpenIDConnectProvider&Url=https://a:b@issuer.example.com", 400, "InvalidInput", ""},
		{"provider on loopback without a port", "Action=CreateOpenIDConnectProvider&Url=http://localhost", 400, "InvalidInput", ""},
		{"provider on a name like loopback", "Action=CreateOpenIDConnectProvider&Url=http://localhost.example.com:80", 400, "InvalidInput", ""},
		{"thumbprint short", "Action=CreateOpenIDConnectProvider&Url=https://a.example.com&ThumbprintList.member.1=abc", 400, "ValidationError", ""},
		{"no such provider", "Action=GetOpenIDConnectProvider&OpenIDConnectProviderArn=arn:aws:iam::123456789012:oidc-provider/x.example.com", 404, "NoSuchEntity", ""},
		{"provider of another account", "Action=GetOpenIDConnectProvider&OpenIDConnectProviderArn=arn:aws:iam::999999999999:oidc-provider/x.example.com", 404, "NoSuchEntity", ""},
		{"limit zero", "Action=ListRoles&MaxItems=0", 400, "ValidationError", "maxItems"},
		{"marker made up", "Action=ListRoles&Marker=%3F", 400, "ValidationError", "Marker"},
		{"a call that is not there", "Action=CreateSAMLProvider", 400, "InvalidAction", "Could not find operation CreateSAMLProvider for version 2010-05-08"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := a.signed("iam", admin, test.form+"&Version="+iamVersion)
			if got.status != test.status || got.code != test.code || !strings.Contains(got.message, test.message) || got.message == "" {
				t.Errorf("want %d %s …%s…, got %+v", test.status, test.code, test.message, got)
			}
			if !strings.Contains(got.body, iamNamespace) {
				t.Errorf("want the namespace of IAM, got %s", got.body)
			}
		})
	}
}

// TestIAMAuthorisation holds that each call asks for its own action on the ARN
// that it acts on.
func TestIAMAuthorisation(t *testing.T) {
	a := newAccount(t)
	arn := func(kind string) string { return "arn:aws:iam::" + testAccount + ":" + kind }
	clerk := a.newUser("clerk", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["iam:CreateRole","iam:DeleteRole","iam:PutRolePolicy"],"Resource":"`+arn("role/team/*")+`"},
		{"Effect":"Allow","Action":"iam:AttachRolePolicy","Resource":"*","Condition":{"ArnEquals":{"iam:PolicyARN":"`+awsPolicyARN("AmazonS3ReadOnlyAccess")+`"}}},
		{"Effect":"Allow","Action":"iam:*AccessKey*","Resource":"`+arn("user/${aws:username}")+`"},
		{"Effect":"Allow","Action":"iam:PutUserPolicy","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/owner":"clerk"}}},
		{"Effect":"Allow","Action":"iam:PutUserPolicy","Resource":"*","Condition":{"StringEquals":{"iam:PermissionsBoundary":"`+awsPolicyARN("PowerUserAccess")+`"}}},
		{"Effect":"Allow","Action":"iam:DeleteUser","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/owner":"clerk"}}},
		{"Effect":"Allow","Action":"iam:DeleteUser","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":"owner"}}},
		{"Effect":"Allow","Action":"iam:DeleteUser","Resource":"*","Condition":{"ArnLike":{"iam:PolicyARN":"*"}}},
		{"Effect":"Allow","Action":"iam:TagRole","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["ok"]},"StringEquals":{"aws:ResourceTag/owner":"clerk"}}}]}`)
	a.newUser("other", "")
	if _, err := a.iam().CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: aws.String(trustAWS(rootARN, `"sts:AssumeRole"`, "")), Tags: iamTags("owner", "clerk")}); err != nil {
		t.Fatal(err)
	}
	c := must[aws.Credentials](t)(clerk.Credentials.Retrieve(t.Context()))
	trust := "&AssumeRolePolicyDocument=" + url.QueryEscape(trustAWS(rootARN, `"sts:AssumeRole"`, ""))
	for _, test := range []struct {
		name, form string
		allowed    bool
	}{
		{"under the path", "Action=CreateRole&RoleName=x&Path=/team/" + trust, true},
		{"outside of it", "Action=CreateRole&RoleName=y" + trust, false},
		{"acting on a role under the path", "Action=PutRolePolicy&RoleName=x&PolicyName=p&PolicyDocument=" + url.QueryEscape(allowAll), true},
		{"acting on another role", "Action=PutRolePolicy&RoleName=r&PolicyName=p&PolicyDocument=" + url.QueryEscape(allowAll), false},
		{"the path passed for another role", "Action=PutRolePolicy&RoleName=r&Path=/team/&PolicyName=p&PolicyDocument=" + url.QueryEscape(allowAll), false},
		{"attaching the one policy", "Action=AttachRolePolicy&RoleName=r&PolicyArn=" + awsPolicyARN("AmazonS3ReadOnlyAccess"), true},
		{"attaching another", "Action=AttachRolePolicy&RoleName=r&PolicyArn=" + awsPolicyARN("AdministratorAccess"), false},
		{"the tags of a role passed for a user's", "Action=PutUserPolicy&UserName=other&RoleName=r&PolicyName=p&PolicyDocument=" + url.QueryEscape(allowAll), false},
		{"a boundary that is not read", "Action=PutUserPolicy&UserName=other&PermissionsBoundary=" + awsPolicyARN("PowerUserAccess") + "&PolicyName=p&PolicyDocument=" + url.QueryEscape(allowAll), false},
		{"tags that are not read", "Action=DeleteUser&UserName=other&Tags.member.1.Key=owner&Tags.member.1.Value=clerk&TagKeys.member.1=owner", false},
		{"a policy that is not read", "Action=DeleteUser&UserName=other&PolicyArn=arn:aws:iam::aws:policy/PowerUserAccess", false},
		{"own keys", "Action=ListAccessKeys", true},
		{"own keys by name", "Action=ListAccessKeys&UserName=clerk", true},
		{"another's keys", "Action=CreateAccessKey&UserName=other", false},
		{"tagging what is the clerk's", "Action=TagRole&RoleName=r&Tags.member.1.Key=ok&Tags.member.1.Value=v", true},
		{"tagging with another key", "Action=TagRole&RoleName=r&Tags.member.1.Key=no&Tags.member.1.Value=v", false},
		{"tagging what is not", "Action=TagRole&RoleName=x&Tags.member.1.Key=ok&Tags.member.1.Value=v", false},
		{"everything else", "Action=ListUsers", false},
		{"the whole account", "Action=GetAccountAuthorizationDetails", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := a.signed("iam", c, test.form+"&Version="+iamVersion)
			action := strings.TrimPrefix(strings.SplitN(test.form, "&", 2)[0], "Action=")
			switch {
			case test.allowed && got.status != 200:
				t.Errorf("want 200, got %+v", got)
			case !test.allowed && (got.status != 403 || got.code != "AccessDenied" || !strings.Contains(got.message, "User: "+arn("user/clerk")+" is not authorized to perform: iam:"+action+" on resource: ")):
				t.Errorf("want 403 AccessDenied, got %+v", got)
			}
		})
	}
	t.Run("a path in the name is no name", func(t *testing.T) {
		got := a.signed("iam", c, "Action=DeleteRole&RoleName=team/x&Version="+iamVersion)
		if got.code != "ValidationError" {
			t.Errorf("want ValidationError, got %+v", got)
		}
	})
	t.Run("what is refused does not happen", func(t *testing.T) {
		if _, err := a.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("y")}); err == nil {
			t.Error("role y was made")
		}
	})
}

func TestProviders(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	c := a.iam()
	made := must[*iam.CreateOpenIDConnectProviderOutput](t)(c.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: aws.String("https://broker.example.com/oidc"),
		ClientIDList: []string{"one"}, ThumbprintList: []string{strings.Repeat("a", 40)}, Tags: iamTags("k", "v")}))
	arn := made.OpenIDConnectProviderArn
	if want := "arn:aws:iam::" + testAccount + ":oidc-provider/broker.example.com/oidc"; *arn != want {
		t.Errorf("want %s, got %s", want, *arn)
	}
	_, err := c.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: aws.String("https://broker.example.com/oidc")})
	wantError(t, err, "EntityAlreadyExists", "already exists")
	must[*iam.AddClientIDToOpenIDConnectProviderOutput](t)(c.AddClientIDToOpenIDConnectProvider(ctx, &iam.AddClientIDToOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn, ClientID: aws.String("two")}))
	must[*iam.RemoveClientIDFromOpenIDConnectProviderOutput](t)(c.RemoveClientIDFromOpenIDConnectProvider(ctx, &iam.RemoveClientIDFromOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn, ClientID: aws.String("one")}))
	must[*iam.UpdateOpenIDConnectProviderThumbprintOutput](t)(c.UpdateOpenIDConnectProviderThumbprint(ctx, &iam.UpdateOpenIDConnectProviderThumbprintInput{OpenIDConnectProviderArn: arn, ThumbprintList: []string{strings.Repeat("b", 40)}}))
	got := must[*iam.GetOpenIDConnectProviderOutput](t)(c.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn}))
	if *got.Url != "broker.example.com/oidc" || !slices.Equal(got.ClientIDList, []string{"two"}) || got.ThumbprintList[0] != strings.Repeat("b", 40) || *got.Tags[0].Value != "v" {
		t.Errorf("got %+v", got)
	}
	if list := must[*iam.ListOpenIDConnectProvidersOutput](t)(c.ListOpenIDConnectProviders(ctx, nil)); len(list.OpenIDConnectProviderList) != 1 || *list.OpenIDConnectProviderList[0].Arn != *arn {
		t.Errorf("got %+v", list)
	}
	for range 2 { // it is idempotent
		must[*iam.DeleteOpenIDConnectProviderOutput](t)(c.DeleteOpenIDConnectProvider(ctx, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn}))
	}
	for _, url := range []string{"http://127.0.0.1:8091", "http://localhost:1", "http://[::1]:8091"} {
		must[*iam.CreateOpenIDConnectProviderOutput](t)(c.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: &url, ClientIDList: []string{"one"}}))
	}
}

func TestManagedPolicies(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	c := a.iam()
	document := func(action string) *string {
		return aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"*"}]}`)
	}
	arn := must[*iam.CreatePolicyOutput](t)(c.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: document("iam:ListUsers")})).Policy.Arn
	user := iam.NewFromConfig(a.newUser("u", ""))
	must[*iam.AttachUserPolicyOutput](t)(c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: aws.String("u"), PolicyArn: arn}))
	must[*iam.ListUsersOutput](t)(user.ListUsers(ctx, nil))
	v2 := must[*iam.CreatePolicyVersionOutput](t)(c.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: document("iam:ListRoles")}))
	if *v2.PolicyVersion.VersionId != "v2" || v2.PolicyVersion.IsDefaultVersion {
		t.Errorf("got %+v", v2.PolicyVersion)
	}
	must[*iam.ListUsersOutput](t)(user.ListUsers(ctx, nil))
	must[*iam.SetDefaultPolicyVersionOutput](t)(c.SetDefaultPolicyVersion(ctx, &iam.SetDefaultPolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v2")}))
	_, err := user.ListUsers(ctx, nil)
	wantError(t, err, "AccessDenied", "iam:ListUsers")
	must[*iam.ListRolesOutput](t)(user.ListRoles(ctx, nil))
	_, err = c.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v2")})
	wantError(t, err, "DeleteConflict", "default version")
	_, err = c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: arn})
	wantError(t, err, "DeleteConflict", "attached")
	got := must[*iam.GetPolicyOutput](t)(c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: arn})).Policy
	if *got.AttachmentCount != 1 || *got.DefaultVersionId != "v2" || !got.IsAttachable {
		t.Errorf("got %+v", got)
	}
	version := must[*iam.GetPolicyVersionOutput](t)(c.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v1")}))
	if text := unescape(t, *version.PolicyVersion.Document); text != *document("iam:ListUsers") {
		t.Errorf("got %s", text)
	}
	if list := must[*iam.ListPolicyVersionsOutput](t)(c.ListPolicyVersions(ctx, &iam.ListPolicyVersionsInput{PolicyArn: arn})); len(list.Versions) != 2 || *list.Versions[0].VersionId != "v2" {
		t.Errorf("got %+v", list)
	}
	if who := must[*iam.ListEntitiesForPolicyOutput](t)(c.ListEntitiesForPolicy(ctx, &iam.ListEntitiesForPolicyInput{PolicyArn: arn})); len(who.PolicyUsers) != 1 {
		t.Errorf("got %+v", who)
	}
	if attached := must[*iam.ListAttachedUserPoliciesOutput](t)(c.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: aws.String("u")})); *attached.AttachedPolicies[0].PolicyName != "p" {
		t.Errorf("got %+v", attached)
	}
	must[*iam.DetachUserPolicyOutput](t)(c.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: aws.String("u"), PolicyArn: arn}))
	must[*iam.DeletePolicyVersionOutput](t)(c.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v1")}))
	v3 := must[*iam.CreatePolicyVersionOutput](t)(c.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: document("iam:ListRoles"), SetAsDefault: true}))
	if *v3.PolicyVersion.VersionId != "v3" || !v3.PolicyVersion.IsDefaultVersion {
		t.Errorf("version numbers are not used twice: got %+v", v3.PolicyVersion)
	}
	must[*iam.DeletePolicyVersionOutput](t)(c.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v2")}))
	must[*iam.DeletePolicyOutput](t)(c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: arn}))
	builtIn := must[*iam.ListPoliciesOutput](t)(c.ListPolicies(ctx, &iam.ListPoliciesInput{Scope: iamtypes.PolicyScopeTypeAws}))
	if len(builtIn.Policies) != len(awsPolicies) {
		t.Errorf("want %d policies of AWS, got %d", len(awsPolicies), len(builtIn.Policies))
	}
}

// TestAWSPolicies compiles those that are built in.
func TestAWSPolicies(t *testing.T) {
	for _, p := range awsPolicies {
		if _, err := compileOnce(p.name, p.document); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

func TestUsersKeysGroups(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	c := a.iam()
	cfg := a.newUser("u", "")
	user := iam.NewFromConfig(cfg)
	must[*iam.CreateGroupOutput](t)(c.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("g")}))
	must[*iam.PutGroupPolicyOutput](t)(c.PutGroupPolicy(ctx, &iam.PutGroupPolicyInput{GroupName: aws.String("g"), PolicyName: aws.String("p"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*"}]}`)}))
	_, err := user.ListUsers(ctx, nil)
	wantError(t, err, "AccessDenied", "no identity-based policy")
	must[*iam.AddUserToGroupOutput](t)(c.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("g"), UserName: aws.String("u")}))
	if list := must[*iam.ListUsersOutput](t)(user.ListUsers(ctx, nil)); len(list.Users) != 2 {
		t.Errorf("want admin and u, got %+v", list.Users)
	}
	if g := must[*iam.GetGroupOutput](t)(c.GetGroup(ctx, &iam.GetGroupInput{GroupName: aws.String("g")})); len(g.Users) != 1 || *g.Users[0].UserName != "u" {
		t.Errorf("got %+v", g)
	}
	_, err = c.DeleteGroup(ctx, &iam.DeleteGroupInput{GroupName: aws.String("g")})
	wantError(t, err, "DeleteConflict", "policies")
	_, err = c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("u")})
	wantError(t, err, "DeleteConflict", "delete access keys")
	must[*iam.RemoveUserFromGroupOutput](t)(c.RemoveUserFromGroup(ctx, &iam.RemoveUserFromGroupInput{GroupName: aws.String("g"), UserName: aws.String("u")}))
	_, err = user.ListUsers(ctx, nil)
	wantError(t, err, "AccessDenied", "no identity-based policy")
	me := must[*iam.GetUserOutput](t)(c.GetUser(ctx, nil))
	if *me.User.UserName != "admin" {
		t.Errorf("GetUser without a name: want admin, got %s", *me.User.UserName)
	}

	key := must[aws.Credentials](t)(cfg.Credentials.Retrieve(ctx)).AccessKeyID
	second := must[*iam.CreateAccessKeyOutput](t)(c.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("u")})).AccessKey
	_, err = c.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("u")})
	wantError(t, err, "LimitExceeded", "AccessKeysPerUser: 2")
	must[*iam.UpdateAccessKeyOutput](t)(c.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: aws.String("u"), AccessKeyId: &key, Status: iamtypes.StatusTypeInactive}))
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	wantError(t, err, "InvalidClientTokenId", "")
	must[*iam.UpdateAccessKeyOutput](t)(c.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: aws.String("u"), AccessKeyId: &key, Status: iamtypes.StatusTypeActive}))
	must[*sts.GetCallerIdentityOutput](t)(sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil))
	_, err = c.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("admin"), AccessKeyId: &key})
	wantError(t, err, "NoSuchEntity", "") // another user's key
	for _, id := range []*string{&key, second.AccessKeyId} {
		must[*iam.DeleteAccessKeyOutput](t)(c.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("u"), AccessKeyId: id}))
	}
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	wantError(t, err, "InvalidClientTokenId", "")
	must[*iam.DeleteUserOutput](t)(c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("u")}))
}

func TestTags(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	c := a.iam()
	a.createRole("r", trustAWS(rootARN, `"sts:AssumeRole"`, ""))
	must[*iam.TagRoleOutput](t)(c.TagRole(ctx, &iam.TagRoleInput{RoleName: aws.String("r"), Tags: iamTags("Team", "red", "x", "")}))
	must[*iam.TagRoleOutput](t)(c.TagRole(ctx, &iam.TagRoleInput{RoleName: aws.String("r"), Tags: iamTags("team", "blue")}))
	tags := must[*iam.ListRoleTagsOutput](t)(c.ListRoleTags(ctx, &iam.ListRoleTagsInput{RoleName: aws.String("r")})).Tags
	if len(tags) != 2 || *tags[0].Key != "team" || *tags[0].Value != "blue" || *tags[1].Value != "" {
		t.Errorf("keys that differ by case are one: got %v", tags)
	}
	must[*iam.UntagRoleOutput](t)(c.UntagRole(ctx, &iam.UntagRoleInput{RoleName: aws.String("r"), TagKeys: []string{"TEAM"}}))
	if tags := must[*iam.ListRoleTagsOutput](t)(c.ListRoleTags(ctx, &iam.ListRoleTagsInput{RoleName: aws.String("r")})).Tags; len(tags) != 1 {
		t.Errorf("got %v", tags)
	}
}

func TestPaging(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("role-%d", i)
		a.createRole(name, trustAWS(rootARN, `"sts:AssumeRole"`, ""))
		want = append(want, name)
	}
	var got []string
	for p := iam.NewListRolesPaginator(a.iam(), &iam.ListRolesInput{MaxItems: aws.Int32(3)}); p.HasMorePages(); {
		page := must[*iam.ListRolesOutput](t)(p.NextPage(ctx))
		if len(page.Roles) > 3 {
			t.Fatalf("want at most 3, got %d", len(page.Roles))
		}
		for _, r := range page.Roles {
			got = append(got, *r.RoleName)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("want %v, got %v", want, got)
	}
}

func TestAccountDetails(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	a.federate()
	c := a.iam()
	a.putRolePolicy("inline", allowAll)
	arn := must[*iam.CreatePolicyOutput](t)(c.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(allowAll)})).Policy.Arn
	must[*iam.AttachRolePolicyOutput](t)(c.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String(roleName), PolicyArn: arn}))
	must[*iam.TagRoleOutput](t)(c.TagRole(ctx, &iam.TagRoleInput{RoleName: aws.String(roleName), Tags: iamTags("k", "v")}))
	must[*iam.CreateGroupOutput](t)(c.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("g")}))
	must[*iam.AddUserToGroupOutput](t)(c.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("g"), UserName: aws.String("admin")}))
	out := must[*iam.GetAccountAuthorizationDetailsOutput](t)(c.GetAccountAuthorizationDetails(ctx, nil))
	if len(out.RoleDetailList) != 1 || len(out.UserDetailList) != 1 || len(out.GroupDetailList) != 1 || len(out.Policies) != 2 {
		t.Fatalf("got %d roles, %d users, %d groups, %d policies", len(out.RoleDetailList), len(out.UserDetailList), len(out.GroupDetailList), len(out.Policies))
	}
	r := out.RoleDetailList[0]
	if *r.RolePolicyList[0].PolicyName != "inline" || unescape(t, *r.RolePolicyList[0].PolicyDocument) != allowAll || *r.AttachedManagedPolicies[0].PolicyArn != *arn ||
		*r.Tags[0].Key != "k" || !strings.Contains(unescape(t, *r.AssumeRolePolicyDocument), a.providerARN()) {
		t.Errorf("got %+v", r)
	}
	if u := out.UserDetailList[0]; u.GroupList[0] != "g" || *u.AttachedManagedPolicies[0].PolicyName != "AdministratorAccess" {
		t.Errorf("got %+v", u)
	}
	for _, p := range out.Policies {
		if len(p.PolicyVersionList) != 1 || unescape(t, *p.PolicyVersionList[0].Document) == "" || *p.AttachmentCount != 1 {
			t.Errorf("got %+v", p)
		}
	}
	n := 0
	for p := iam.NewGetAccountAuthorizationDetailsPaginator(c, &iam.GetAccountAuthorizationDetailsInput{MaxItems: aws.Int32(1)}); p.HasMorePages(); n++ {
		must[*iam.GetAccountAuthorizationDetailsOutput](t)(p.NextPage(ctx))
	}
	if n != 5 {
		t.Errorf("want 5 pages of one entry, got %d", n)
	}
	filtered := must[*iam.GetAccountAuthorizationDetailsOutput](t)(c.GetAccountAuthorizationDetails(ctx, &iam.GetAccountAuthorizationDetailsInput{Filter: []iamtypes.EntityType{iamtypes.EntityTypeUser}}))
	if len(filtered.RoleDetailList) != 0 || len(filtered.UserDetailList) != 1 {
		t.Errorf("got %+v", filtered)
	}
}

// TestConcurrentWrites holds that no update is lost.
func TestConcurrentWrites(t *testing.T) {
	a := newAccount(t)
	c, ctx := a.iam(), context.Background()
	errs := make(chan error, 20)
	for i := range cap(errs) {
		go func() {
			_, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String(fmt.Sprint("user-", i))})
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if list := must[*iam.ListUsersOutput](t)(c.ListUsers(ctx, nil)); len(list.Users) != cap(errs)+1 {
		t.Errorf("want %d users, got %d", cap(errs)+1, len(list.Users))
	}
}
