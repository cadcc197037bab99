package federation

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// tokenShapes are the claims of testdata/claims/check-*.json and the findings they
// make, in order.
var tokenShapes = map[string][]string{
	"minted":          nil,
	"minted-omni":     nil,
	"flattened":       nil,
	"one-audience":    nil,
	"no-tags":         {`no claim https://aws.amazon.com/tags, and its ordinary claim agentkeys_user_wallet does not count`},
	"misspelt":        {`no claim https://aws.amazon.com/tags`},
	"string-value":    {`makes no session tag: .*array of one string`},
	"two-values":      {`makes no session tag: .*array of one string`},
	"empty-value":     {`makes no session tag: .*array of one string`},
	"other-key":       {`makes no session tag: .*has no tag agentkeys_user_wallet`},
	"wrapped":         {`makes no session tag: .*not an object`},
	"flattened-array": {`makes no session tag: .*not a string`},
	"upper-case":      {`names no tenant: .*got "0x1A1A`},
	"slash":           {`names no tenant: .*got "0x1a.*/inbox`},
	"other-tenant":    {`gives tenant "0x1a1a.*" the session tag of tenant "0x2b2b`},
	"other-subject":   {`its sub is "agentkeys:service:mail", not of the form agentkeys:agent:\*`},
	"other-audience":  {`its aud is "broker", the configured audience "sts.amazonaws.com"`},
	"two-audiences":   {`not have exactly one aud, want "sts.amazonaws.com"`},
	"other-issuer":    {`its iss is "https://broker.example.com/oidc/", the configured issuer "https://broker.example.com/oidc"`},
	"everything":      {`its iss`, `its aud`, `its sub`, `no claim`},
}

// claimFiles reads the payloads, each of which must be in tokenShapes.
func claimFiles(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/claims/check-*.json")
	if err != nil || len(files) != len(tokenShapes) {
		t.Fatalf("%d files in testdata/claims (%v), want %d", len(files), err, len(tokenShapes))
	}
	payloads := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "check-"), ".json")
		if _, ok := tokenShapes[name]; !ok {
			t.Fatalf("%s is not in the table", file)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		payloads[name] = string(text)
	}
	return payloads
}

// tokenAccount is the account of a rendered set-up.
func tokenAccount(t *testing.T) *Account {
	t.Helper()
	c := testConfig()
	return &Account{
		Config:    c,
		Roles:     []Role{{Entity: Entity{Name: c.Role, ARN: c.RoleARN()}, Trust: Document{Name: "trust", Policy: render(t, c, Hardened).Trust}}},
		Providers: []Provider{{ARN: c.ProviderARN(), URL: c.ProviderID(), ClientIDs: []string{c.Audience}}},
	}
}

func TestCheckTokenShapes(t *testing.T) {
	a := tokenAccount(t)
	for name, text := range claimFiles(t) {
		findings, err := CheckToken(a, payload(text)+"\n")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := tokenShapes[name]
		if len(findings) != len(want) {
			t.Errorf("%s: %d findings, want %d: %+v", name, len(findings), len(want), findings)
			continue
		}
		for i, f := range findings {
			if !regexp.MustCompile(want[i]).MatchString(f.Title) {
				t.Errorf("%s: title %q, want one that matches %s", name, f.Title, want[i])
			}
			if f.Code != OwnerLockedOut || f.DecidedBy == nil || len(f.DecidedBy) != 0 || f.Fix == "" || f.Witness.Action != "sts:AssumeRoleWithWebIdentity" ||
				f.Witness.Resource != a.Config.RoleARN() || len(f.Witness.Context["broker.example.com/oidc:sub"]) != 1 {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// What CheckToken says is what happens: a tenant whose token it finds nothing wrong
// with lists its own prefix, and one whose token it faults does not.
func TestCheckTokenAgreesWithSTS(t *testing.T) {
	a := newAccount(t)
	a.setUp(t, render(t, a.config, Hardened), nil)
	inForce := fetched(t, a)
	for name, text := range claimFiles(t) {
		var claims map[string]any
		if err := json.Unmarshal([]byte(text), &claims); err != nil {
			t.Fatal(err)
		}
		if iss := claims["iss"].(string); iss == testConfig().Issuer {
			claims["iss"] = a.issuer.url
		}
		now := time.Now()
		claims["iat"], claims["nbf"], claims["exp"] = now.Unix(), now.Unix(), now.Add(5*time.Minute).Unix()
		signed, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := a.issuer.signer.Sign(signed)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		findings, err := CheckToken(inForce, raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		tenant := strings.TrimPrefix(claims["sub"].(string), "agentkeys:agent:")
		if err := listOwn(t, a, raw, tenant); (err == nil) != (len(findings) == 0) {
			t.Errorf("%s: findings %+v, and listing the own prefix: %v", name, findings, err)
		}
	}
}

// listOwn exchanges a token and lists the tenant's prefix.
func listOwn(t *testing.T, a *account, raw, tenant string) error {
	t.Helper()
	out, err := sts.New(sts.Options{Region: a.config.Region, BaseEndpoint: &a.url}).AssumeRoleWithWebIdentity(t.Context(),
		&sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(a.config.RoleARN()), RoleSessionName: aws.String("tenant"), WebIdentityToken: &raw})
	if err != nil {
		return err
	}
	key := out.Credentials
	client := s3.New(s3.Options{Region: a.config.Region, BaseEndpoint: &a.url, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(*key.AccessKeyId, *key.SecretAccessKey, *key.SessionToken)})
	_, err = client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &a.config.Bucket, Prefix: aws.String(a.config.TenantPrefix(tenant))})
	return err
}

// Another audience or subject that the documents in force let in keeps nobody out:
// it is a way in, and Check's.
func TestCheckTokenThatIsLetIn(t *testing.T) {
	payloads := claimFiles(t)
	a := tokenAccount(t)
	trust := render(t, a.Config, Plain).Trust
	trust.Statements[0].Condition = trust.Statements[0].Condition[2:] // the tag alone
	a.Roles[0].Trust.Policy = trust
	a.Providers[0].ClientIDs = append(a.Providers[0].ClientIDs, "broker")
	for _, name := range []string{"other-audience", "other-subject"} {
		findings, err := CheckToken(a, payload(payloads[name]))
		if err != nil || len(findings) != 0 {
			t.Errorf("%s: %+v, %v", name, findings, err)
		}
	}
	for what, change := range map[string]func(*Account){
		"no role":              func(a *Account) { a.Roles = nil },
		"an unread trust":      func(a *Account) { a.Roles[0].Trust.Policy = nil },
		"providers not seen":   func(a *Account) { a.Providers = nil },
		"a trust that refuses": func(a *Account) { a.Roles[0].Trust.Policy = document() },
		"a trust without a tag": func(a *Account) {
			a.Roles[0].Trust.Policy.Statements[0].Action = []string{"sts:AssumeRoleWithWebIdentity"}
		},
	} {
		b := tokenAccount(t)
		change(b)
		findings, err := CheckToken(b, payload(payloads["other-subject"]))
		if err != nil || len(findings) != 1 {
			t.Errorf("%s: %+v, %v", what, findings, err)
		}
	}
}

// Neither a finding nor an error holds what was given.
func TestCheckTokenKeepsTheSecret(t *testing.T) {
	a := tokenAccount(t)
	for _, raw := range []string{"", "hunter2hunter2", "hunter2.hunter2.hunter2", "e30.aHVudGVyMg.hunter2", "a.b.c.hunter2"} {
		if _, err := CheckToken(a, raw); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: error %v", raw, err)
		}
	}
	raw := payload(claimFiles(t)["everything"])
	findings, err := CheckToken(a, raw)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(findings)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(raw, ".") {
		if strings.Contains(string(text), part) {
			t.Errorf("a part of the token is in the findings: %s", part)
		}
	}
}
