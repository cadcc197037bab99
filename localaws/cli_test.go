package localaws

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cli is one installed AWS CLI with a home of its own.
type cli struct {
	path string
	env  []string
	url  string
}

// awsCLIs finds the one on PATH and Debian's, which are often two versions.
func awsCLIs(t *testing.T) []string {
	t.Helper()
	var found []string
	if path, err := exec.LookPath("aws"); err == nil {
		found = append(found, path)
	}
	const debian = "/usr/bin/aws"
	if _, err := os.Stat(debian); err == nil && (len(found) == 0 || found[0] != debian) {
		found = append(found, debian)
	}
	if len(found) == 0 {
		t.Fatal("the AWS CLI is not installed: want aws on PATH (Debian: apt-get install awscli)")
	}
	return found
}

func newCLI(t *testing.T, path, url, id, secret, token string) *cli {
	home := t.TempDir()
	env := append(os.Environ(), "HOME="+home, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_REGION="+testRegion, "AWS_DEFAULT_REGION="+testRegion,
		"AWS_CONFIG_FILE="+filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(home, "credentials"), "AWS_PROFILE=default",
		"AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_SESSION_TOKEN="+token, "AWS_MAX_ATTEMPTS=1")
	if err := os.WriteFile(filepath.Join(home, "config"), []byte("[default]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &cli{path, env, url}
}

// run returns the JSON answer, or the error text of the CLI.
func (c *cli) run(t *testing.T, args ...string) (map[string]any, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.path, append([]string{"--endpoint-url", c.url, "--output", "json"}, args...)...)
	cmd.Env = c.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, stderr.String()
	}
	answer := map[string]any{}
	if len(out) > 0 {
		if err := json.Unmarshal(out, &answer); err != nil {
			t.Fatalf("aws %v: %v in %q", args, err, out)
		}
	}
	return answer, ""
}

func (c *cli) must(t *testing.T, args ...string) map[string]any {
	t.Helper()
	answer, failure := c.run(t, args...)
	if failure != "" {
		t.Fatalf("aws %v: %s", args, failure)
	}
	return answer
}

func member(t *testing.T, answer map[string]any, path ...string) string {
	t.Helper()
	var v any = answer
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no %v in %v", path, answer)
		}
		v = m[p]
	}
	text, ok := v.(string)
	if !ok {
		t.Fatalf("no %v in %v", path, answer)
	}
	return text
}

// TestCLI drives STS and IAM as somebody at a terminal does.
func TestCLI(t *testing.T) {
	for _, path := range awsCLIs(t) {
		t.Run(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "-"), func(t *testing.T) {
			t.Parallel()
			driveCLI(t, path)
		})
	}
}

func driveCLI(t *testing.T, path string) {
	a := newAccount(t)
	a.issuer = newIssuerSite(t)
	a.issuer.publish("ec", testEC.Public(), nil)
	id, secret := a.server.AdminCredentials()
	admin := newCLI(t, path, a.url, id, secret, "")
	trust := a.trust(`"sts:AssumeRoleWithWebIdentity","sts:TagSession"`, `{"StringEquals":{"`+a.issuer.name()+`:aud":"`+testClient+`"}}`)
	trustFile := filepath.Join(t.TempDir(), "trust.json")
	if err := os.WriteFile(trustFile, []byte(trust+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	provider := member(t, admin.must(t, "iam", "create-open-id-connect-provider", "--url", a.issuer.url, "--client-id-list", testClient, "--thumbprint-list", strings.Repeat("a", 40)), "OpenIDConnectProviderArn")
	if provider != a.providerARN() {
		t.Errorf("want %s, got %s", a.providerARN(), provider)
	}
	admin.must(t, "iam", "create-role", "--role-name", roleName, "--assume-role-policy-document", "file://"+trustFile)
	admin.must(t, "iam", "put-role-policy", "--role-name", roleName, "--policy-name", "p", "--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:GetRole","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/agentkeys_user_wallet":"`+walletA+`"}}}]}`)
	role := admin.must(t, "iam", "get-role", "--role-name", roleName)["Role"].(map[string]any)
	if doc, ok := role["AssumeRolePolicyDocument"].(map[string]any); !ok || doc["Version"] != "2012-10-17" {
		t.Errorf("want the trust policy decoded, got %v", role["AssumeRolePolicyDocument"])
	}
	if roles, ok := admin.must(t, "iam", "list-attached-role-policies", "--role-name", roleName)["AttachedPolicies"].([]any); !ok || len(roles) != 0 {
		t.Errorf("want an empty list, got %v", roles)
	}

	// The call is unsigned; the CLI is told so by its lack of credentials.
	answer := admin.must(t, "sts", "assume-role-with-web-identity", "--role-arn", roleARN, "--role-session-name", "agent", "--web-identity-token", a.token(nil))
	session := newCLI(t, path, a.url, member(t, answer, "Credentials", "AccessKeyId"), member(t, answer, "Credentials", "SecretAccessKey"), member(t, answer, "Credentials", "SessionToken"))
	if arn := member(t, session.must(t, "sts", "get-caller-identity"), "Arn"); arn != "arn:aws:sts::"+testAccount+":assumed-role/"+roleName+"/agent" {
		t.Errorf("got %s", arn)
	}
	session.must(t, "iam", "get-role", "--role-name", roleName)
	if _, failure := session.run(t, "iam", "list-roles"); !strings.Contains(failure, "AccessDenied") || !strings.Contains(failure, "because no identity-based policy allows the iam:ListRoles action") {
		t.Errorf("want AccessDenied with its reason, got %q", failure)
	}
	if _, failure := admin.run(t, "sts", "assume-role-with-web-identity", "--role-arn", roleARN, "--role-session-name", "agent", "--web-identity-token", a.token(map[string]any{"aud": "other"})); !strings.Contains(failure, "InvalidIdentityToken") {
		t.Errorf("want InvalidIdentityToken, got %q", failure)
	}

	admin.must(t, "iam", "create-role", "--role-name", "second", "--assume-role-policy-document", trustAWS(rootARN, assumeAndTag, ""))
	chained := admin.must(t, "sts", "assume-role", "--role-arn", arnOfRole("second"), "--role-session-name", "chain", "--tags", "Key=k,Value=v", "--transitive-tag-keys", "k")
	if arn := member(t, chained, "AssumedRoleUser", "Arn"); !strings.HasSuffix(arn, ":assumed-role/second/chain") {
		t.Errorf("got %s", arn)
	}
	admin.must(t, "iam", "create-user", "--user-name", "old")
	admin.must(t, "iam", "update-user", "--user-name", "old", "--new-user-name", "new", "--new-path", "/team/")
	if arn := member(t, admin.must(t, "iam", "get-user", "--user-name", "new"), "User", "Arn"); !strings.HasSuffix(arn, ":user/team/new") {
		t.Errorf("got %s", arn)
	}
	admin.must(t, "iam", "create-group", "--group-name", "old")
	admin.must(t, "iam", "update-group", "--group-name", "old", "--new-group-name", "new")
	if arn := member(t, admin.must(t, "iam", "get-group", "--group-name", "new"), "Group", "Arn"); !strings.HasSuffix(arn, ":group/new") {
		t.Errorf("got %s", arn)
	}
	if _, failure := session.run(t, "sts", "get-session-token"); !strings.Contains(failure, "AccessDenied") || !strings.Contains(failure, "Cannot call GetSessionToken with session credentials") {
		t.Errorf("want AccessDenied, got %q", failure)
	}
	details := admin.must(t, "iam", "get-account-authorization-details")
	if roles, ok := details["RoleDetailList"].([]any); !ok || len(roles) != 2 {
		t.Errorf("want two roles, got %v", details)
	}
}
