package federation

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"agentkeys/policy"
	"agentkeys/token"
)

// drawnConfig draws a configuration from everything that Validate admits and that
// a broker can mint for.
func drawnConfig(t *rapid.T) Config {
	draw := func(label, pattern string, longest int, admitted func(string) bool) string {
		return rapid.StringMatching(pattern).Filter(func(s string) bool { return len(s) <= longest && admitted(s) }).Draw(t, label)
	}
	all := func(string) bool { return true }
	c := testConfig()
	host := rapid.SampledFrom([]string{"https://broker.example.com", "https://b", "https://127.0.0.1", "http://127.0.0.1:8091", "http://[::1]:1"}).Draw(t, "host")
	c.Issuer = host + draw("path", `(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,20}){0,3}`, 150, all)
	c.Region = rapid.SampledFrom([]string{"us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "eusc-de-east-1"}).Draw(t, "region")
	c.Role = draw("role", `[A-Za-z0-9_+=,.@-]{1,64}`, 64, all)
	c.Prefix = draw("prefix", `[A-Za-z0-9!_.'()-]{1,12}(/[A-Za-z0-9!_.'()-]{1,12}){0,3}`, 512, func(s string) bool { return checkPrefix(s) == nil })
	c.TagKey = draw("tag key", `[A-Za-z0-9_.:/=+@-]{1,128}`, 128, func(s string) bool { return checkTagKey(s) == nil && !takenByClaim(s) })
	c.Audience = draw("audience", "[!-#%-)+->@-~]{1,60}", 255, all)
	if err := c.Validate(); err != nil {
		t.Fatalf("drew a configuration that is not valid: %v", err)
	}
	return c
}

// takenByClaim reports whether the broker refuses to mint with such a key, since
// another claim of the token has the name.
func takenByClaim(key string) bool {
	return strings.Contains(key, "aws.amazon.com") ||
		slices.Contains([]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "amr", "email"}, key)
}

// TestRenderedDocumentsAreValid: whatever a configuration validly has, AWS's
// rules admit the documents in the place where each goes.
func TestRenderedDocumentsAreValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawnConfig(t)
		x := Extras{
			MailFrom: rapid.SampledFrom([]string{"", "agents.example.com", "a@example.com", "*@example.com"}).Draw(t, "mail"),
			Inbound:  rapid.SampledFrom([]string{"", c.Prefix + "-mail"}).Draw(t, "inbound"),
		}
		d, err := RenderWith(c, rapid.SampledFrom([]Form{Plain, Hardened}).Draw(t, "form"), x)
		if err != nil {
			t.Fatal(err)
		}
		errs := map[string]error{
			"trust":        d.Trust.Validate(policy.TrustPolicy),
			"bucket":       d.BucketPolicy.Validate(policy.BucketPolicy),
			"bucket at S3": d.BucketPolicy.ValidateBucket(policy.BucketRules{Bucket: c.Bucket, Account: c.Account}),
		}
		if d.RolePolicy != nil {
			errs["role"] = d.RolePolicy.Validate(policy.IdentityPolicy)
		}
		for name, err := range errs {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if d.BucketPolicy.Public() {
			t.Error("the bucket policy counts as public")
		}
		partitions := map[string]string{"us-east-1": "aws", "eu-central-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov",
			"us-iso-east-1": "aws-iso", "eusc-de-east-1": "aws-eusc"}
		for _, document := range renderedPolicies(d) {
			for _, s := range document.Statements {
				for _, arn := range slices.Concat(s.Resource, s.NotResource) {
					if !strings.HasPrefix(arn, "arn:"+partitions[c.Region]+":s") { // s3 or ses
						t.Errorf("in %s: %s", c.Region, arn)
					}
				}
			}
		}
	})
}

// TestTokenTrustAndBucketAgree mints with the configuration's tag key, as the
// broker does, and takes the token through the rendered documents: what the token
// carries, the trust policy admits, and the bucket policy opens with it that
// tenant's folder and no other.
func TestTokenTrustAndBucketAgree(t *testing.T) {
	t.Parallel()
	key, err := token.GenerateKey(token.PurposeOIDC)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := drawnConfig(t)
		identities, err := token.NewWebIdentities(token.WebIdentityConfig{
			Issuer: "https://broker.example.com", Audience: c.Audience, Keys: keys, TTL: 5 * time.Minute, TagKey: c.TagKey})
		if err != nil {
			t.Fatal(err)
		}
		tags := rapid.Permutation([]string{walletA, walletB, strings.Repeat("ab", 32), strings.Repeat("cd", 32)}).Draw(t, "tenants")
		jwt, _, err := identities.Mint(tags[0], time.Now())
		if err != nil {
			t.Fatal(err)
		}
		minted := mintedClaims(t, jwt.Reveal())
		for _, form := range []Form{Plain, Hardened} {
			d, err := Render(c, form)
			if err != nil {
				t.Fatal(err)
			}
			if !d.admitsToken(t, c, minted) {
				t.Fatalf("%s: the trust policy refuses the broker's token %v", form, minted)
			}
			for _, tag := range tags {
				if got, want := d.opens(t, c, minted, tag), tag == tags[0]; got != want {
					t.Errorf("%s: the session of %s reaches %s: %v, want %v", form, tags[0], tag, got, want)
				}
			}
			delete(minted.tags(), c.TagKey)
			if d.admitsToken(t, c, minted) {
				t.Errorf("%s: the trust policy admits the token without the tag", form)
			}
			minted.tags()[c.TagKey] = []string{tags[0]}
		}
	})
}

// mintedToken are the claims of a token that STS reads.
type mintedToken struct {
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Tags     struct {
		Principal map[string][]string `json:"principal_tags"`
	} `json:"https://aws.amazon.com/tags"`
}

func (m *mintedToken) tags() map[string][]string { return m.Tags.Principal }

func mintedClaims(t *rapid.T, jwt string) *mintedToken {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(jwt, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	m := &mintedToken{}
	if err := json.Unmarshal(payload, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// admitsToken decides as STS does on both actions.
func (d Documents) admitsToken(t *rapid.T, c Config, m *mintedToken) bool {
	trust, err := policy.Compile("trust", d.Trust)
	if err != nil {
		t.Fatal(err)
	}
	r := untaggedRequest(c, "")
	r.Context.Set(c.ProviderID()+":aud", m.Audience)
	r.Context.Set(c.ProviderID()+":sub", m.Subject)
	for key, values := range m.tags() {
		r.Context.Set("aws:RequestTag/"+key, values[0])
	}
	if len(m.tags()) > 0 {
		r.Context.SetList("aws:TagKeys", slices.Collect(maps.Keys(m.tags()))...)
	}
	for _, r.Action = range []string{"sts:AssumeRoleWithWebIdentity", "sts:TagSession"} {
		if !policy.Evaluate(r, &policy.Set{Resource: []*policy.Policy{trust}, ResourceMustAllow: true}).Allowed {
			return false
		}
	}
	return true
}

// opens decides as S3 does on a tenant's folder, for a session with the token's
// tags. It reads and lists: either both or neither.
func (d Documents) opens(t *rapid.T, c Config, m *mintedToken, tag string) bool {
	bucket, err := policy.Compile("bucket", d.BucketPolicy)
	if err != nil {
		t.Fatal(err)
	}
	set := &policy.Set{Resource: []*policy.Policy{bucket}}
	ask := func(action, resource, prefix string) bool {
		r := sessionRequest(c, "", action, resource)
		for key, values := range m.tags() {
			r.Context.Set("aws:PrincipalTag/"+key, values[0])
		}
		if prefix != "" {
			r.Context.Set("s3:prefix", prefix)
		}
		return policy.Evaluate(r, set).Allowed
	}
	folder := c.TenantPrefix(tag)
	reads := ask("s3:GetObject", c.BucketARN()+"/"+folder+"k", "")
	if lists := ask("s3:ListBucket", c.BucketARN(), folder); lists != reads {
		t.Errorf("of %s the session reads: %v, lists: %v", folder, reads, lists)
	}
	return reads
}
