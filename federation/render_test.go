package federation

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"agentkeys/policy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The two tenants of the tests.
const (
	walletA = "0x1111111111111111111111111111111111111aaa"
	walletB = "0x2222222222222222222222222222222222222bbb"
)

func testConfig() Config {
	return Config{
		Issuer: "https://broker.example.com/oidc", Account: "111122223333", Region: "eu-central-1",
		Role: DefaultRole, Bucket: "agentkeys-data", Prefix: DefaultPrefix, TagKey: DefaultTagKey,
		Audience: DefaultAudience,
	}
}

func render(t testing.TB, c Config, f Form) Documents {
	t.Helper()
	d, err := Render(c, f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestGoldenDocuments(t *testing.T) {
	c := testConfig()
	files := map[string]any{}
	for _, f := range []Form{Plain, Hardened} {
		d := render(t, c, f)
		broken, inline, err := Break(c, d, FaultTrustPolicy, FaultInlinePolicy)
		if err != nil {
			t.Fatal(err)
		}
		files[string(f)+"-trust-policy.json"] = d.Trust
		files[string(f)+"-bucket-policy.json"] = d.BucketPolicy
		files[string(f)+"-trust-policy-fault.json"] = broken.Trust
		files["inline-policy-fault.json"] = inline[InlinePolicyName]
		files["public-access-block.json"] = d.PublicAccess
		files["ownership-controls.json"] = d.Ownership
	}
	for name, v := range files {
		got, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, append(got, '\n'))
	}
	found, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(found) != len(files) {
		t.Errorf("testdata/golden holds %d JSON files (%v), want %d", len(found), err, len(files))
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from its golden file (-update rewrites it):\n%s", name, cmp.Diff(string(want), string(got)))
	}
}

// TestDocumentsAreValid holds what is rendered against AWS's own rules for the
// place where it goes.
func TestDocumentsAreValid(t *testing.T) {
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-north-1"} {
		c := testConfig()
		c.Region = region
		for _, f := range []Form{Plain, Hardened} {
			d := render(t, c, f)
			broken, inline, err := Break(c, d, Faults()...)
			if err != nil {
				t.Fatal(err)
			}
			for name, err := range map[string]error{
				"trust":         d.Trust.Validate(policy.TrustPolicy),
				"faulty trust":  broken.Trust.Validate(policy.TrustPolicy),
				"bucket":        d.BucketPolicy.Validate(policy.BucketPolicy),
				"bucket at S3":  d.BucketPolicy.ValidateBucket(policy.BucketRules{Bucket: c.Bucket, Account: c.Account}),
				"faulty inline": inline[InlinePolicyName].Validate(policy.IdentityPolicy),
			} {
				if err != nil {
					t.Errorf("%s, %s, %s: %v", region, f, name, err)
				}
			}
			if d.BucketPolicy.Public() {
				t.Errorf("%s, %s: the bucket policy counts as public", region, f)
			}
		}
	}
}

// compiled is a policy that decides.
func compile(t *testing.T, d *policy.Document) *policy.Policy {
	t.Helper()
	p, err := policy.Compile("test", d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// admits reports whether STS would give a session for a token with those tags.
func admits(t *testing.T, trust *policy.Document, c Config, change func(*policy.Context), tags map[string]string) bool {
	t.Helper()
	set := &policy.Set{Resource: []*policy.Policy{compile(t, trust)}, ResourceMustAllow: true}
	r := untaggedRequest(c, walletA)
	if change != nil {
		change(r.Context)
	}
	actions := []string{"sts:AssumeRoleWithWebIdentity"}
	if len(tags) > 0 {
		actions = append(actions, "sts:TagSession")
		var keys []string
		for k, v := range tags {
			r.Context.Set("aws:RequestTag/"+k, v)
			keys = append(keys, k)
		}
		r.Context.SetList("aws:TagKeys", keys...)
	}
	for _, r.Action = range actions {
		if !policy.Evaluate(r, set).Allowed {
			return false
		}
	}
	return true
}

func TestTrustPolicyAdmits(t *testing.T) {
	c := testConfig()
	tag := func(v string) map[string]string { return map[string]string{c.TagKey: v} }
	set := func(key, value string) func(*policy.Context) {
		return func(x *policy.Context) { x.Set(c.ProviderID()+key, value) }
	}
	for _, test := range []struct {
		name            string
		tags            map[string]string
		change          func(*policy.Context)
		plain, hardened bool
		fault           bool // with the trust fault, in either form
		faultHardened   bool
	}{
		{"wallet", tag(walletA), nil, true, true, true, true},
		{"omni account", tag(strings.Repeat("ab", 32)), nil, true, true, true, true},
		{"no tag", nil, nil, false, false, true, true},
		{"another tag only", map[string]string{"team": "a"}, nil, false, false, true, false},
		{"another tag beside", map[string]string{c.TagKey: walletA, "team": "a"}, nil, true, false, true, false},
		{"empty tag", tag(""), nil, true, false, false, false},
		{"short tag", tag("0xabc"), nil, true, false, true, true},
		{"star", tag("*"), nil, true, false, true, true},
		{"folder in another's prefix", tag(walletB + "/inbox/aaaaaaaaaaaaaaa"), nil, true, false, true, false},
		{"slash in a wallet", tag("0x/" + strings.Repeat("a", 39)), nil, true, false, true, false},
		{"another audience", tag(walletA), set(":aud", "elsewhere"), false, false, false, false},
		{"another kind of subject", tag(walletA), set(":sub", "agentkeys:service:"+walletA), false, false, false, false},
		{"no audience", tag(walletA), func(x *policy.Context) { x.Delete(c.ProviderID() + ":aud") }, false, false, false, false},
		{"no subject", tag(walletA), func(x *policy.Context) { x.Delete(c.ProviderID() + ":sub") }, false, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for form, want := range map[Form][2]bool{
				Plain: {test.plain, test.fault}, Hardened: {test.hardened, test.faultHardened},
			} {
				d := render(t, c, form)
				broken, _, err := Break(c, d, FaultTrustPolicy)
				if err != nil {
					t.Fatal(err)
				}
				if got := admits(t, d.Trust, c, test.change, test.tags); got != want[0] {
					t.Errorf("%s: admitted = %v, want %v", form, got, want[0])
				}
				if got := admits(t, broken.Trust, c, test.change, test.tags); got != want[1] {
					t.Errorf("%s with the fault: admitted = %v, want %v", form, got, want[1])
				}
			}
		})
	}
}

func TestTrustPolicyIsForOneProvider(t *testing.T) {
	c := testConfig()
	for _, f := range []Form{Plain, Hardened} {
		trust := compile(t, render(t, c, f).Trust)
		r := untaggedRequest(c, walletA)
		r.Context.Set("aws:RequestTag/"+c.TagKey, walletA)
		r.Context.SetList("aws:TagKeys", c.TagKey)
		set := &policy.Set{Resource: []*policy.Policy{trust}, ResourceMustAllow: true}
		if !policy.Evaluate(r, set).Allowed {
			t.Fatalf("%s: the provider's own token is refused", f)
		}
		r.Principal.Provider += "2"
		if policy.Evaluate(r, set).Allowed {
			t.Errorf("%s: another provider's token is admitted", f)
		}
		user := *r
		user.Principal = policy.Principal{Kind: policy.User, Account: c.Account, ARN: "arn:aws:iam::111122223333:user/u"}
		user.Action = "sts:TagSession"
		if policy.Evaluate(&user, set).Allowed {
			t.Errorf("%s: a user of the account may tag sessions", f)
		}
	}
}

// wide is an identity policy that allows everything, as AdministratorAccess does.
func wide() *policy.Document {
	return document(policy.Statement{Effect: policy.Allow, Action: []string{"*"}, Resource: []string{"*"}})
}

func TestBucketPolicyDecides(t *testing.T) {
	c := testConfig()
	key := func(rest string) string { return c.BucketARN() + "/bots/" + rest }
	b := c.BucketARN()
	for _, test := range []struct {
		tag, action, resource, prefix string // prefix "-": not sent
		plain, hardened               bool
		hardenedWide                  bool // with a role that may do everything
	}{
		{walletA, "s3:GetObject", key(walletA + "/k"), "-", true, true, true},
		{walletA, "s3:PutObject", key(walletA + "/a/b"), "-", true, true, true},
		{walletA, "s3:DeleteObject", key(walletA + "/k"), "-", true, true, true},
		{walletA, "s3:ListBucket", b, "bots/" + walletA + "/", true, true, true},
		{walletA, "s3:ListBucket", b, "bots/" + walletA + "/in", true, true, true},
		{walletA, "s3:GetObjectVersion", key(walletA + "/k"), "-", false, false, true},
		{walletA, "s3:GetObject", key(walletB + "/k"), "-", false, false, false},
		{walletA, "s3:GetObject", key(walletA + "0/k"), "-", false, false, false},
		{walletA, "s3:GetObject", key(strings.ToUpper(walletA) + "/k"), "-", false, false, false},
		{walletA, "s3:GetObject", key("k"), "-", false, false, false},
		{walletA, "s3:GetObjectVersion", key(walletB + "/k"), "-", false, false, false},
		{walletA, "s3:GetObjectTagging", key(walletB + "/k"), "-", false, false, false},
		{walletA, "s3:PutObjectAcl", key(walletB + "/k"), "-", false, false, false},
		{walletA, "s3:BypassGovernanceRetention", b + "/x", "-", false, false, true},
		{walletA, "s3:AbortMultipartUpload", key(walletB + "/k"), "-", false, false, false},
		{walletA, "s3:ListMultipartUploadParts", key(walletB + "/k"), "-", false, false, false},
		{walletA, "s3:ReplicateObject", key(walletB + "/k"), "-", false, false, false},
		{walletA, "s3:ReplicateDelete", key(walletB + "/k"), "-", false, false, false},
		{walletA, "s3:ListBucket", b, "-", false, false, false},
		{walletA, "s3:ListBucket", b, "", false, false, false},
		{walletA, "s3:ListBucket", b, "bots/", false, false, false},
		{walletA, "s3:ListBucket", b, "bots/" + walletA, false, false, false},
		{walletA, "s3:ListBucket", b, "bots/" + walletA + "0/", false, false, false},
		{walletA, "s3:ListBucket", b, "bots/" + walletB + "/", false, false, false},
		{walletA, "s3:ListBucketVersions", b, "bots/" + walletB + "/", false, false, false},
		{walletA, "s3:ListBucketMultipartUploads", b, "-", false, false, false},
		{"", "s3:GetObject", key("/k"), "-", false, false, false},
		{"", "s3:GetObject", key(walletA + "/k"), "-", false, false, false},
		{"", "s3:GetObject", key("${aws:PrincipalTag/" + c.TagKey + "}/k"), "-", false, false, false},
		{"", "s3:ListBucket", b, "bots/" + walletA + "/", false, false, false},
		{"", "s3:ListBucket", b, "-", false, false, false},
		{"", "s3:GetBucketLocation", b, "-", false, false, false},
	} {
		r := sessionRequest(c, test.tag, test.action, test.resource)
		if test.prefix != "-" {
			r.Context.Set("s3:prefix", test.prefix)
		}
		name := fmt.Sprintf("tag %.4q %s on %s prefix %q", test.tag, test.action, test.resource, test.prefix)
		for f, want := range map[Form]bool{Plain: test.plain, Hardened: test.hardened} {
			set := &policy.Set{Resource: []*policy.Policy{compile(t, render(t, c, f).BucketPolicy)}}
			if got := policy.Evaluate(r, set).Allowed; got != want {
				t.Errorf("%s: %s: allowed = %v, want %v", f, name, got, want)
			}
		}
		set := &policy.Set{
			Identity: []*policy.Policy{compile(t, wide())},
			Resource: []*policy.Policy{compile(t, render(t, c, Hardened).BucketPolicy)},
		}
		if got := policy.Evaluate(r, set).Allowed; got != test.hardenedWide {
			t.Errorf("hardened, the role may do everything: %s: allowed = %v, want %v", name, got, test.hardenedWide)
		}
	}
}

// TestBackstopsBindTheRoleAlone: the denies must not lock out the administrator.
func TestBackstopsBindTheRoleAlone(t *testing.T) {
	c := testConfig()
	r := sessionRequest(c, "", "s3:ListBucket", c.BucketARN())
	admin := "arn:aws:iam::111122223333:user/admin"
	r.Principal = policy.Principal{Kind: policy.User, Account: c.Account, ARN: admin}
	r.Context.Set("aws:PrincipalArn", admin)
	set := &policy.Set{
		Identity: []*policy.Policy{compile(t, wide())},
		Resource: []*policy.Policy{compile(t, render(t, c, Hardened).BucketPolicy)},
	}
	if d := policy.Evaluate(r, set); !d.Allowed {
		t.Errorf("the administrator is denied by statement %d (%s)", d.Statement, d.Sid)
	}
}

func TestBreakLeavesItsInputAlone(t *testing.T) {
	c := testConfig()
	for _, f := range []Form{Plain, Hardened} {
		d := render(t, c, f)
		before, err := json.Marshal(d.Trust)
		if err != nil {
			t.Fatal(err)
		}
		broken, inline, err := Break(c, d, Faults()...)
		if err != nil {
			t.Fatal(err)
		}
		after, err := json.Marshal(d.Trust)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, after) {
			t.Errorf("%s: the documents passed in were changed to %s", f, after)
		}
		if same(broken.Trust, d.Trust) || len(inline) != 1 {
			t.Errorf("%s: the faults were not put in", f)
		}
	}
	if _, _, err := Break(c, Documents{}, "typo"); err == nil {
		t.Error("an unknown fault is taken")
	}
	if f, err := ParseFault("trust-policy"); err != nil || f != FaultTrustPolicy {
		t.Errorf("ParseFault = %q, %v", f, err)
	}
	if _, err := ParseFault("Trust-Policy"); err == nil {
		t.Error("ParseFault takes an unknown name")
	}
}

func TestRenderRefusesUnknownForm(t *testing.T) {
	if _, err := Render(testConfig(), "strict"); err == nil || !strings.Contains(err.Error(), `"strict"`) {
		t.Errorf("Render = %v, want an error that names the form", err)
	}
}
