package localaws

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"agentkeys/policy"
)

// TestUpdateUser holds that a user of a new name and path is still the same:
// keys, group, policies and the policies of others that name it.
func TestUpdateUser(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	c := a.iam()
	cfg := a.newUser("old", allow("iam:ListUsers", "*", ""))
	a.newUser("taken", "")
	must[*iam.CreateGroupOutput](t)(c.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("g")}))
	must[*iam.AddUserToGroupOutput](t)(c.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("g"), UserName: aws.String("old")}))
	a.createRole("r", trustAWS("arn:aws:iam::"+testAccount+":user/old", `"sts:AssumeRole"`, ""))
	before := must[*iam.GetUserOutput](t)(c.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("old")})).User

	_, err := c.UpdateUser(ctx, &iam.UpdateUserInput{UserName: aws.String("old"), NewUserName: aws.String("Taken")})
	wantError(t, err, "EntityAlreadyExists", "taken")
	_, err = c.UpdateUser(ctx, &iam.UpdateUserInput{UserName: aws.String("none"), NewUserName: aws.String("x")})
	wantError(t, err, "NoSuchEntity", "none")
	_, err = c.UpdateUser(ctx, &iam.UpdateUserInput{UserName: aws.String("old"), NewPath: aws.String("nopath")})
	wantError(t, err, "ValidationError", "newPath")
	must[*iam.UpdateUserOutput](t)(c.UpdateUser(ctx, &iam.UpdateUserInput{UserName: aws.String("old"), NewUserName: aws.String("Old"), NewPath: aws.String("/team/")}))
	must[*iam.UpdateUserOutput](t)(c.UpdateUser(ctx, &iam.UpdateUserInput{UserName: aws.String("Old"), NewUserName: aws.String("new")}))

	after := must[*iam.GetUserOutput](t)(c.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("new")})).User
	arn := "arn:aws:iam::" + testAccount + ":user/team/new"
	if *after.Arn != arn || *after.UserId != *before.UserId || *after.Path != "/team/" {
		t.Errorf("got %s %s %s", *after.Arn, *after.UserId, *after.Path)
	}
	_, err = c.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("old")})
	wantError(t, err, "NoSuchEntity", "old")
	if who := must[*sts.GetCallerIdentityOutput](t)(sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)); *who.Arn != arn {
		t.Errorf("the key is now of %s", *who.Arn)
	}
	must[*iam.ListUsersOutput](t)(iam.NewFromConfig(cfg).ListUsers(ctx, nil))
	if g := must[*iam.GetGroupOutput](t)(c.GetGroup(ctx, &iam.GetGroupInput{GroupName: aws.String("g")})); len(g.Users) != 1 || *g.Users[0].UserName != "new" {
		t.Errorf("got %+v", g.Users)
	}
	if _, err := assumeRole(t, cfg, "r"); err != nil {
		t.Errorf("a trust policy that named the user: %v", err)
	}
	role := must[*iam.GetRoleOutput](t)(c.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("r")})).Role
	if shown := unescape(t, *role.AssumeRolePolicyDocument); !strings.Contains(shown, arn) {
		t.Errorf("want %s shown, got %s", arn, shown)
	}
}

func TestUpdateGroup(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	c := a.iam()
	user := iam.NewFromConfig(a.newUser("u", ""))
	created := must[*iam.CreateGroupOutput](t)(c.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("old")})).Group
	must[*iam.CreateGroupOutput](t)(c.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("taken")}))
	must[*iam.AddUserToGroupOutput](t)(c.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("old"), UserName: aws.String("u")}))
	must[*iam.PutGroupPolicyOutput](t)(c.PutGroupPolicy(ctx, &iam.PutGroupPolicyInput{GroupName: aws.String("old"), PolicyName: aws.String("p"), PolicyDocument: aws.String(allow("iam:ListUsers", "*", ""))}))
	_, err := c.UpdateGroup(ctx, &iam.UpdateGroupInput{GroupName: aws.String("old"), NewGroupName: aws.String("TAKEN")})
	wantError(t, err, "EntityAlreadyExists", "taken")
	_, err = c.UpdateGroup(ctx, &iam.UpdateGroupInput{GroupName: aws.String("none"), NewGroupName: aws.String("x")})
	wantError(t, err, "NoSuchEntity", "none")
	must[*iam.UpdateGroupOutput](t)(c.UpdateGroup(ctx, &iam.UpdateGroupInput{GroupName: aws.String("old"), NewGroupName: aws.String("new"), NewPath: aws.String("/p/")}))
	got := must[*iam.GetGroupOutput](t)(c.GetGroup(ctx, &iam.GetGroupInput{GroupName: aws.String("new")}))
	if *got.Group.Arn != "arn:aws:iam::"+testAccount+":group/p/new" || *got.Group.GroupId != *created.GroupId || len(got.Users) != 1 {
		t.Errorf("got %+v", got)
	}
	must[*iam.ListUsersOutput](t)(user.ListUsers(ctx, nil))
	_, err = c.GetGroup(ctx, &iam.GetGroupInput{GroupName: aws.String("old")})
	wantError(t, err, "NoSuchEntity", "old")
}

// TestUpdateIsAuthorisedOnBothNames holds that who may rename one user cannot
// thereby make a user of a name that is kept from them.
func TestUpdateIsAuthorisedOnBothNames(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	a.newUser("dev-x", "")
	dev := iam.NewFromConfig(a.newUser("dev", allow("iam:UpdateUser", "arn:aws:iam::"+testAccount+":user/dev-*", "")))
	for _, in := range []*iam.UpdateUserInput{
		{UserName: aws.String("dev-x"), NewUserName: aws.String("ops")},
		{UserName: aws.String("dev-x"), NewPath: aws.String("/ops/")},
		{UserName: aws.String("admin"), NewUserName: aws.String("dev-admin")},
	} {
		_, err := dev.UpdateUser(ctx, in)
		wantError(t, err, "AccessDenied", "iam:UpdateUser")
	}
	must[*iam.UpdateUserOutput](t)(dev.UpdateUser(ctx, &iam.UpdateUserInput{UserName: aws.String("dev-x"), NewUserName: aws.String("dev-y")}))
}

// TestSessionCannotMakeSessions holds what STS says to session credentials.
func TestSessionCannotMakeSessions(t *testing.T) {
	a := newAccount(t)
	cfg := a.session("r", allowAll, nil)
	_, err := sts.NewFromConfig(cfg).GetSessionToken(t.Context(), nil)
	wantError(t, err, "AccessDenied", "Cannot call GetSessionToken with session credentials")
	_, err = sts.NewFromConfig(cfg).GetFederationToken(t.Context(), &sts.GetFederationTokenInput{Name: aws.String("bob")})
	wantError(t, err, "AccessDenied", "Cannot call GetFederationToken with session credentials")
	if got := a.signed("sts", must[aws.Credentials](t)(cfg.Credentials.Retrieve(t.Context())), "Action=GetSessionToken&Version="+stsVersion); got.status != http.StatusForbidden {
		t.Errorf("want 403, got %+v", got)
	}
	_, err = a.sts().GetSessionToken(t.Context(), nil)
	wantError(t, err, "InvalidAction", "GetSessionToken")
}

func TestEmptyLists(t *testing.T) {
	a, ctx := newAccount(t), t.Context()
	a.createRole("r", trustAWS(rootARN, `"sts:AssumeRole"`, ""))
	profiles, err := a.iam().ListInstanceProfilesForRole(ctx, &iam.ListInstanceProfilesForRoleInput{RoleName: aws.String("r")})
	if err != nil || len(profiles.InstanceProfiles) != 0 || profiles.InstanceProfiles == nil {
		t.Errorf("got %+v, %v", profiles, err)
	}
	_, err = a.iam().ListInstanceProfilesForRole(ctx, &iam.ListInstanceProfilesForRoleInput{RoleName: aws.String("none")})
	wantError(t, err, "NoSuchEntity", "none")
	aliases, err := a.iam().ListAccountAliases(ctx, nil)
	if err != nil || len(aliases.AccountAliases) != 0 || aliases.AccountAliases == nil {
		t.Errorf("got %+v, %v", aliases, err)
	}
	_, err = iam.NewFromConfig(a.newUser("u", "")).ListAccountAliases(ctx, nil)
	wantError(t, err, "AccessDenied", "iam:ListAccountAliases")
}

// TestReadOnlyPolicies says what AWS's policies for readers allow and what not.
func TestReadOnlyPolicies(t *testing.T) {
	for _, tt := range []struct{ name, allowed, refused string }{
		{"ReadOnlyAccess", "s3:GetObject s3:ListBucket iam:GetRole iam:ListUsers sts:GetCallerIdentity ec2:DescribeInstances", "s3:PutObject s3:DeleteObject iam:CreateUser sts:AssumeRole secretsmanager:GetSecretValue"},
		{"IAMFullAccess", "iam:CreateUser organizations:DescribeAccount", "s3:GetObject organizations:CreateAccount"},
		{"IAMReadOnlyAccess", "iam:GetRole iam:ListUsers iam:GenerateCredentialReport iam:SimulatePrincipalPolicy", "iam:CreateUser s3:GetObject"},
		{"SecurityAudit", "s3:GetBucketPolicy s3:ListAllMyBuckets iam:GetRole iam:ListUsers", "s3:GetObject s3:PutBucketPolicy iam:CreateUser"},
		{"job-function/ViewOnlyAccess", "s3:ListAllMyBuckets s3:ListBucket iam:ListUsers", "s3:GetObject s3:GetBucketPolicy iam:CreateUser iam:GetRolePolicy"},
	} {
		p := awsManaged(awsPolicyARN(tt.name))
		if p == nil {
			t.Errorf("%s is not there", tt.name)
			continue
		}
		for list, want := range map[string]bool{tt.allowed: true, tt.refused: false} {
			for _, action := range strings.Fields(list) {
				if got := decides(t, p.document, action); got != want {
					t.Errorf("%s: %s: got %v, want %v", tt.name, action, got, want)
				}
			}
		}
	}
	a := newAccount(t)
	arn := aws.String(awsPolicyARN("job-function/ViewOnlyAccess"))
	got := must[*iam.GetPolicyOutput](t)(a.iam().GetPolicy(t.Context(), &iam.GetPolicyInput{PolicyArn: arn})).Policy
	if *got.PolicyName != "ViewOnlyAccess" || *got.Path != "/job-function/" || *got.Arn != *arn {
		t.Errorf("got %s %s %s", *got.PolicyName, *got.Path, *got.Arn)
	}
}

// decides asks an identity policy about one action on any resource.
func decides(t *testing.T, document, action string) bool {
	t.Helper()
	p, err := compileOnce("p", document)
	if err != nil {
		t.Fatal(err)
	}
	who := policy.Principal{Kind: policy.User, Account: testAccount, ARN: "arn:aws:iam::" + testAccount + ":user/u", ID: "AIDAEXAMPLEEXAMPLE001"}
	d := policy.Evaluate(&policy.Request{Principal: who, Action: action, Resource: "*", ResourceAccount: testAccount, Context: new(policy.Context)},
		&policy.Set{Identity: []*policy.Policy{p}})
	return d.Allowed
}
