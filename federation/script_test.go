package federation

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"agentkeys/localaws"
	"agentkeys/policy"
)

// scriptAccount is an empty local AWS of a configuration's account and region.
// Issuers are not looked up until a token comes.
func scriptAccount(t *testing.T, c Config) *account {
	t.Helper()
	conf := localaws.Config{Dir: t.TempDir(), Account: c.Account, Region: c.Region}
	if err := localaws.Create(conf); err != nil {
		t.Fatal(err)
	}
	local, err := localaws.Open(conf)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(local)
	t.Cleanup(func() {
		server.Close()
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	a := &account{config: c, url: server.URL, local: local}
	a.aws = a.admin()
	return a
}

// No place of the script is left open, whatever is put there, and what is put there is
// not taken for a place itself.
func TestScriptHasNoPlaceLeft(t *testing.T) {
	places := slices.Compact(slices.Sorted(slices.Values(regexp.MustCompile(`\{\{[^}]*\}\}`).FindAllString(scriptText, -1))))
	c := checkConfig()
	d := render(t, c, Hardened)
	words := d.scriptWords(c)
	if words.err != nil {
		t.Fatal(words.err)
	}
	var put []string
	for i := 0; i < len(words.pairs); i += 2 {
		put = append(put, words.pairs[i])
	}
	slices.Sort(put)
	if diff := cmp.Diff(places, put); diff != "" {
		t.Errorf("places of the script and what is put there:\n%s", diff)
	}
	c.Audience = "{{role}}"
	script, err := d.script(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"ClientID":"{{role}}"`; !strings.Contains(strings.ReplaceAll(string(script), " ", ""), want) {
		t.Errorf("the script lacks %s", want)
	}
}

// runScript runs the script of the documents with the real AWS CLI, and returns
// what it printed and whether it ended well.
func (a *account) runScript(t *testing.T, c Config, d Documents) (stdout, stderr string, ok bool) {
	t.Helper()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Fatal("the AWS CLI is not installed: want aws on PATH (Debian: apt-get install awscli)")
	}
	home := t.TempDir()
	path := filepath.Join(home, "set-up.sh")
	if err := os.WriteFile(path, renderFiles(t, c, d, RenderCLI)[0].Text, 0o600); err != nil {
		t.Fatal(err)
	}
	id, secret := a.local.AdminCredentials()
	cmd := exec.CommandContext(t.Context(), "sh", path)
	cmd.Dir = home
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "AWS_") })
	cmd.Env = append(cmd.Env, "HOME="+home, "TMPDIR="+home, "AWS_ENDPOINT_URL="+a.url, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE="+filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(home, "credentials"),
		"AWS_MAX_ATTEMPTS=1", "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret)
	var out, errors strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errors
	err := cmd.Run()
	if left, _ := filepath.Glob(filepath.Join(home, "tmp.*")); len(left) > 0 {
		t.Errorf("the script leaves %v behind", left)
	}
	return out.String(), errors.String(), err == nil
}

func (a *account) mustRunScript(t *testing.T, c Config, d Documents) (stderr string) {
	t.Helper()
	stdout, stderr, ok := a.runScript(t, c, d)
	if !ok || !strings.Contains(stdout, "set up role "+c.Role) {
		t.Fatalf("the script failed: %s%s", stdout, stderr)
	}
	return stderr
}

// scriptInForce reads at the local AWS what SetUp and the script put there.
func (a *account) scriptInForce(t *testing.T) Documents {
	t.Helper()
	ctx, c := t.Context(), a.config
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	provider, err := a.aws.IAM.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(c.ProviderARN())})
	must(err)
	role, err := a.aws.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &c.Role})
	must(err)
	bucketPolicy, err := a.aws.S3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &c.Bucket})
	must(err)
	block, err := a.aws.S3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: &c.Bucket})
	must(err)
	ownership, err := a.aws.S3.GetBucketOwnershipControls(ctx, &s3.GetBucketOwnershipControlsInput{Bucket: &c.Bucket})
	must(err)
	d := Documents{Provider: OIDCProvider{
		URL: "https://" + aws.ToString(provider.Url), ClientIDs: provider.ClientIDList, Thumbprints: provider.ThumbprintList}}
	d.Trust, err = stored(aws.ToString(role.Role.AssumeRolePolicyDocument))
	must(err)
	d.BucketPolicy, err = policy.Parse([]byte(aws.ToString(bucketPolicy.Policy)))
	must(err)
	b := block.PublicAccessBlockConfiguration
	d.PublicAccess = PublicAccessBlock{*b.BlockPublicAcls, *b.IgnorePublicAcls, *b.BlockPublicPolicy, *b.RestrictPublicBuckets}
	for _, r := range ownership.OwnershipControls.Rules {
		d.Ownership.Rules = append(d.Ownership.Rules, OwnershipRule{string(r.ObjectOwnership)})
	}
	inline, err := a.aws.IAM.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &c.Role, PolicyName: aws.String(rolePolicyName)})
	if !hasCode(err, "NoSuchEntity") {
		must(err)
		d.RolePolicy, err = stored(aws.ToString(inline.PolicyDocument))
		must(err)
	}
	return d
}

// sameRendered compares documents without their form, which AWS does not keep.
func sameRendered(t *testing.T, want, got Documents) {
	t.Helper()
	plain := func(d Documents) Documents {
		d.Form = ""
		d.Trust, d.BucketPolicy = ordered(d.Trust), ordered(d.BucketPolicy)
		if d.RolePolicy != nil {
			d.RolePolicy = ordered(d.RolePolicy)
		}
		if len(d.Provider.Thumbprints) == 0 {
			d.Provider.Thumbprints = nil
		}
		return d
	}
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		t.Errorf("what is in force differs from what was rendered:\n%s", diff)
	}
}

// TestScriptSetsUp runs the script twice on an empty account, with names that mean
// something to a shell and with mail, whose statement in the bucket policy is the
// script's own the second time.
func TestScriptSetsUp(t *testing.T) {
	t.Parallel()
	c := renderAwkwardConfig()
	d := renderWith(t, c, Hardened, renderExtras())
	a := scriptAccount(t, c)
	for range 2 {
		if stderr := a.mustRunScript(t, c, d); stderr != "" {
			t.Errorf("the script says %q", stderr)
		}
		sameRendered(t, d, a.scriptInForce(t))
	}
	// What the script put in force is what SetUp wants too.
	a.setUp(t, d, nil)
	sameRendered(t, d, a.scriptInForce(t))
}

// TestScriptBringsUpToDate goes from the plain documents to the hardened ones, and
// then stops before statements of somebody else.
func TestScriptBringsUpToDate(t *testing.T) {
	t.Parallel()
	c := checkConfig()
	c.Region = "us-east-1"
	a := scriptAccount(t, c)
	plain, hardened := render(t, c, Plain), render(t, c, Hardened)
	a.setUp(t, plain, map[string]*policy.Document{"old": wholeBucket(c)})
	stderr := a.mustRunScript(t, c, hardened)
	sameRendered(t, hardened, a.scriptInForce(t))
	if !strings.Contains(stderr, "other policies") || !strings.Contains(stderr, " old\n") {
		t.Errorf("the script says nothing of the role's other policy: %q", stderr)
	}

	named, nameless := inboundMail(c, "mail"), inboundMail(c, "post")
	nameless.Sid = ""
	withForeign := hardened
	withForeign.BucketPolicy = document(append(slices.Clone(hardened.BucketPolicy.Statements), named, nameless)...)
	a.scriptSetPolicy(t, withForeign.BucketPolicy)
	a.scriptStops(t, c, plain, withForeign, "the policy of bucket agentkeys-data has 2 of 8 statements that are not AgentKeys'")

	a.scriptSetPolicy(t, hardened.BucketPolicy)
	trusted := hardened
	trusted.Trust = document(append(slices.Clone(hardened.Trust.Statements), policy.Statement{
		Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{c.Account}}, Action: []string{"sts:AssumeRole"},
	})...)
	_, err := a.aws.IAM.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{
		RoleName: &c.Role, PolicyDocument: aws.String(marshal(t, trusted.Trust))})
	if err != nil {
		t.Fatal(err)
	}
	trusted.Trust = a.scriptInForce(t).Trust // the account is stored as its root's ARN
	a.scriptStops(t, c, hardened, trusted, "the trust policy of role agentkeys-data-role has 1 of 3 statements")

	elsewhere := c
	elsewhere.Account = "444455556666"
	a.scriptStops(t, elsewhere, render(t, elsewhere, Hardened), trusted,
		"want credentials of account 444455556666, got those of 111122223333")
}

// scriptStops runs a script that has to stop with those words and to change
// nothing.
func (a *account) scriptStops(t *testing.T, c Config, d, before Documents, words string) {
	t.Helper()
	_, stderr, ok := a.runScript(t, c, d)
	if ok || !strings.Contains(stderr, words) || !strings.Contains(stderr, "nothing was changed") {
		t.Errorf("ended well: %v, saying %q; want it to stop with %q", ok, stderr, words)
	}
	sameRendered(t, before, a.scriptInForce(t))
}

func (a *account) scriptSetPolicy(t *testing.T, d *policy.Document) {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.aws.S3.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &a.config.Bucket, Policy: aws.String(string(text))})
	if err != nil {
		t.Fatal(err)
	}
}

// TestScriptStopsAtWhatItCannotRead: a policy that may not be read is not taken for
// one that is not there.
func TestScriptStopsAtWhatItCannotRead(t *testing.T) {
	t.Parallel()
	c := checkConfig()
	a := scriptAccount(t, c)
	d := render(t, c, Hardened)
	a.setUp(t, d, nil)
	// A Deny in the bucket policy that binds its reader and not its writer.
	shut := d
	shut.BucketPolicy = document(append(slices.Clone(d.BucketPolicy.Statements), policy.Statement{
		Sid: "Shut", Effect: policy.Deny, Principal: &policy.Principals{Any: true}, Action: []string{"s3:GetBucketPolicy"},
		Resource: []string{c.BucketARN()}, Condition: []policy.Condition{{Operator: "StringLike", Key: "aws:UserAgent", Values: []string{"aws-cli*"}}},
	})...)
	a.scriptSetPolicy(t, shut.BucketPolicy)
	a.scriptStops(t, c, d, shut, "(AccessDenied) when calling the GetBucketPolicy operation")
}
