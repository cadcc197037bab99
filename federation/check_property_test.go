package federation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"agentkeys/policy"
)

// checkConfig is the configuration of the documents in the tests of check.
func checkConfig() Config {
	return Config{
		Issuer: "https://broker.example.com/oidc", Account: "111122223333", Region: "us-east-1", Role: DefaultRole,
		Bucket: "agentkeys-data", Prefix: DefaultPrefix, TagKey: DefaultTagKey, Audience: DefaultAudience,
	}
}

// checkAccount is an account with the hardened trust policy, one data role with
// the given inline policy, and the given bucket policy.
func checkAccount(t interface{ Fatal(...any) }, inline, bucket *policy.Document) *Account {
	c := checkConfig()
	d, err := Render(c, Hardened)
	if err != nil {
		t.Fatal(err)
	}
	role := Role{
		Entity: Entity{Name: c.Role, ARN: c.RoleARN(), ID: "AROAEXAMPLEEXAMPLE000", Tags: map[string]string{}},
		Trust:  Document{Name: "role " + c.Role + ", trust policy", Policy: d.Trust},
	}
	if inline != nil {
		role.Inline = []Document{{Name: "role " + c.Role + ", inline policy test", Policy: inline}}
	}
	if bucket == nil {
		bucket = d.BucketPolicy
	}
	return &Account{
		Config: c, Source: "test", Roles: []Role{role}, Managed: map[string]Document{},
		Bucket: Document{Name: "bucket policy", Policy: bucket},
	}
}

// The closed world: six tenants of both kinds, two strangers and nobody, three actions, a handful of keys, and every
// value of the condition keys that the generated documents speak of. It holds a
// request for each thing that the documents can tell apart.
const (
	worldA = "0x00000000000000000000000000000000000000aa"
	worldB = "0x00000000000000000000000000000000000000bb"
)

var (
	worldKeys     = []string{"n", "pub/n", "sec/n"}
	worldPrefixes = []string{"-", "", "b", "bots", "bots/", "bots/0x", "bots/TENANT", "bots/TENANT/", "bots/TENANT/pub/"}
	worldTenants  = append([]string{worldA, worldB}, genericTenants...)
	worldSecure   = []string{"true", "false"}
	worldAgents   = []string{"-", "ab", "ax", "zb", "zz"}
	worldDelims   = []string{"-", "/"}
)

// generateStatement draws a statement from a vocabulary that has every kind of
// element which decides about a request of the closed world.
func generateStatement(t *rapid.T, c Config, resource bool) policy.Statement {
	s := policy.Statement{Effect: rapid.SampledFrom([]policy.Effect{policy.Allow, policy.Allow, policy.Deny}).Draw(t, "effect")}
	list := rapid.SampledFrom([]string{"list", "object", "both"}).Draw(t, "kind")
	own := "bots/${aws:PrincipalTag/" + c.TagKey + "}/"
	objects := []string{"/*", "/bots/*", "/" + own + "*", "/" + own + "pub/*", "/bots/*/pub/*", "/bots/" + worldB + "/*", "/bots/0x*", "/other/*"}
	switch list {
	case "list":
		s.Action, s.Resource = []string{"s3:ListBucket"}, []string{c.BucketARN()}
	case "object":
		s.Action = rapid.SampledFrom([][]string{{"s3:GetObject"}, {"s3:PutObject"}, {"s3:GetObject", "s3:PutObject"}}).Draw(t, "action")
		s.Resource = []string{c.BucketARN() + rapid.SampledFrom(objects).Draw(t, "resource")}
	default:
		s.Action = []string{"s3:ListBucket", "s3:GetObject", "s3:PutObject"}
		s.Resource = []string{c.BucketARN(), c.BucketARN() + rapid.SampledFrom(objects).Draw(t, "resource")}
	}
	if s.Effect == policy.Deny && list != "list" && rapid.Bool().Draw(t, "not") {
		s.NotResource, s.Resource = s.Resource, nil
	}
	if resource {
		s.Principal = rapid.SampledFrom([]*policy.Principals{
			{Any: true}, {AWS: []string{c.RoleARN()}}, {AWS: []string{"arn:aws:iam::" + c.Account + ":root"}}, {AWS: []string{"444455556666"}},
		}).Draw(t, "principal")
	}
	conditions := []policy.Condition{
		{Operator: "Bool", Key: "aws:SecureTransport", Values: []string{"true"}},
		{Operator: "Bool", Key: "aws:SecureTransport", Values: []string{"false"}},
		{Operator: "StringLike", Key: "aws:UserAgent", Values: []string{"a*"}},
		{Operator: "StringNotLike", Key: "aws:UserAgent", Values: []string{"*b"}},
		{Operator: "Null", Key: "aws:UserAgent", Values: []string{"true"}},
		{Operator: "StringEquals", Key: "aws:PrincipalTag/" + c.TagKey, Values: []string{worldA}},
		{Operator: "StringNotEquals", Key: "aws:PrincipalTag/" + c.TagKey, Values: []string{worldA, worldB}},
		{Operator: "Null", Key: "aws:PrincipalTag/" + c.TagKey, Values: []string{"true"}},
		{Operator: "StringEquals", Key: "aws:PrincipalAccount", Values: []string{c.Account}},
	}
	if list == "list" {
		conditions = append(conditions,
			policy.Condition{Operator: "StringLike", Key: "s3:prefix", Values: []string{own + "*"}},
			policy.Condition{Operator: "StringNotLike", Key: "s3:prefix", Values: []string{own + "*"}},
			policy.Condition{Operator: "StringEquals", Key: "s3:prefix", Values: []string{"", "bots"}},
			policy.Condition{Operator: "StringLikeIfExists", Key: "s3:prefix", Values: []string{"bots/0x*"}},
			policy.Condition{Operator: "StringEquals", Key: "s3:prefix", Values: []string{"bots/"}},
			policy.Condition{Operator: "StringEquals", Key: "s3:delimiter", Values: []string{"/"}},
			policy.Condition{Operator: "StringNotEquals", Key: "s3:delimiter", Values: []string{"/"}},
		)
	}
	for range rapid.IntRange(0, 2).Draw(t, "conditions") {
		next := rapid.SampledFrom(conditions).Draw(t, "condition")
		if !slices.ContainsFunc(s.Condition, func(c policy.Condition) bool { return c.Key == next.Key && c.Operator == next.Operator }) {
			s.Condition = append(s.Condition, next)
		}
	}
	return s
}

func generateDocument(t *rapid.T, c Config, resource bool) *policy.Document {
	d := document()
	for range rapid.IntRange(1, 4).Draw(t, "statements") {
		d.Statements = append(d.Statements, generateStatement(t, c, resource))
	}
	return d
}

// worldWay is one code and who is behind it.
type worldWay struct {
	code  Code
	whose string // "session", "foreign" or "anonymous"
}

// bruteForce evaluates every request of the closed world.
func bruteForce(t *rapid.T, c Config, inline, bucket *policy.Document) map[worldWay]bool {
	compile := func(name string, d *policy.Document) []*policy.Policy {
		p, err := policy.Compile(name, d)
		if err != nil {
			t.Fatal(err)
		}
		return []*policy.Policy{p}
	}
	identity, resource := compile("inline", inline), compile("bucket", bucket)
	all := compile("all", document(policy.Statement{Effect: policy.Allow, Action: []string{"*"}, Resource: []string{"*"}}))
	stranger := func(account, tag string) (policy.Principal, *policy.Context, *policy.Set) {
		k := policy.NewContext()
		k.Set("aws:PrincipalAccount", account)
		if tag != "-" {
			k.Set("aws:PrincipalTag/"+c.TagKey, tag)
		}
		return policy.Principal{Kind: policy.RoleSession, Account: account, ARN: "arn:aws:sts::" + account + ":assumed-role/r/s", Issuer: "arn:aws:iam::" + account + ":role/r"},
			k, &policy.Set{Identity: all, Resource: resource}
	}
	found := map[worldWay]bool{}
	try := func(whose, victim string, p policy.Principal, base *policy.Context, s *policy.Set) {
		eachWorldRequest(c, victim, func(codes []Code, action, arn string, keys func(*policy.Context)) {
			k := base.Clone()
			keys(k)
			d := policy.Evaluate(&policy.Request{Principal: p, Action: action, Resource: arn, ResourceAccount: c.Account, Context: k}, s)
			if d.Allowed {
				for _, code := range codes {
					found[worldWay{code, whose}] = true
				}
			}
		})
	}
	for _, victim := range worldTenants {
		for _, tag := range worldTenants {
			if r := sessionRequest(c, tag, "s3:GetObject", c.BucketARN()); tag != victim {
				try("session", victim, r.Principal, r.Context, &policy.Set{Identity: identity, Resource: resource})
			}
		}
		for _, account := range []string{"444455556666", "999999999999"} {
			for _, tag := range []string{"-", "else", worldA, victim} {
				p, k, s := stranger(account, tag)
				try("foreign", victim, p, k, s)
			}
		}
		try("anonymous", victim, policy.Principal{}, policy.NewContext(), &policy.Set{Resource: resource})
	}
	return found
}

func eachWorldRequest(c Config, victim string, visit func([]Code, string, string, func(*policy.Context))) {
	set := func(k *policy.Context, key, v string) {
		if v != "-" {
			k.Set(key, v)
		}
	}
	for _, secure := range worldSecure {
		for _, agent := range worldAgents {
			common := func(k *policy.Context) { k.Set("aws:SecureTransport", secure); set(k, "aws:UserAgent", agent) }
			for _, key := range worldKeys {
				arn := c.BucketARN() + "/bots/" + victim + "/" + key
				visit([]Code{ForeignRead}, "s3:GetObject", arn, common)
				visit([]Code{ForeignWrite}, "s3:PutObject", arn, common)
			}
			for _, prefix := range worldPrefixes {
				prefix = strings.ReplaceAll(prefix, "TENANT", victim)
				for _, delimiter := range worldDelims {
					l := listingOf{}
					if prefix != "-" {
						l.prefix = &prefix
					}
					if delimiter != "-" {
						l.delimiter = &delimiter
					}
					if codes := l.reveals("bots/" + victim + "/"); codes != nil {
						visit(codes, "s3:ListBucket", c.BucketARN(), func(k *policy.Context) {
							common(k)
							set(k, "s3:prefix", prefix)
							set(k, "s3:delimiter", delimiter)
						})
					}
				}
			}
		}
	}
}

// For random documents, check finds a way in exactly when trying every request of
// a small closed world does.
func TestCheckAgreesWithBruteForce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := checkConfig()
		inline, bucket := generateDocument(t, c, false), generateDocument(t, c, true)
		want := bruteForce(t, c, inline, bucket)
		report, err := Check(checkAccount(t, inline, bucket))
		if err != nil {
			t.Fatal(err)
		}
		got := map[worldWay]bool{}
		for _, f := range report.Findings {
			if f.Ambiguous || f.Code == OwnerLockedOut {
				continue
			}
			switch {
			case f.Code == PublicAccess:
				got[worldWay{PublicAccess, "anonymous"}] = true
			default:
				got[worldWay{f.Code, ""}] = true
			}
		}
		// A finding names one witness for all who come in by the same statement, so
		// it is the codes that must agree.
		codes := map[worldWay]bool{}
		for w := range want {
			if w.whose == "anonymous" {
				codes[worldWay{PublicAccess, "anonymous"}] = true
			} else {
				codes[worldWay{w.code, ""}] = true
			}
		}
		if fmt.Sprint(codes) != fmt.Sprint(got) {
			t.Fatalf("brute force finds %v, check finds %v\ninline %s\nbucket %s", codes, got, policyText(inline), policyText(bucket))
		}
	})
}

func policyText(d *policy.Document) string {
	text, err := d.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// What check finds does not depend on how tenants are called or on the order in
// which statements stand.
func TestCheckIsIndifferentToNamesAndOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := checkConfig()
		inline, bucket := generateDocument(t, c, false), generateDocument(t, c, true)
		before := codesOf(t, inline, bucket)
		rename := strings.NewReplacer(worldA, "0x1234567812345678123456781234567812345678", worldB, "0xdddddddddddddddddddddddddddddddddddddddd")
		renamed := func(d *policy.Document) *policy.Document {
			out, err := policy.Parse([]byte(rename.Replace(policyText(d))))
			if err != nil {
				t.Fatal(err)
			}
			slices.Reverse(out.Statements)
			return out
		}
		if after := codesOf(t, renamed(inline), renamed(bucket)); !slices.Equal(before, after) {
			t.Fatalf("%v before, %v after\ninline %s\nbucket %s", before, after, policyText(inline), policyText(bucket))
		}
	})
}

// codesOf are the codes of an account's findings, each as often as statements
// decide it; of owners kept out, the actions, as which of several Denies is named
// depends on their order.
func codesOf(t *rapid.T, inline, bucket *policy.Document) []string {
	report, err := checkAt(checkAccount(t, inline, bucket), time.Unix(1_800_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, f := range report.Findings {
		code := fmt.Sprint(f.Code, f.Ambiguous)
		if f.Code == OwnerLockedOut {
			if code += f.Witness.Action; slices.Contains(codes, code) {
				continue
			}
		}
		codes = append(codes, code)
	}
	slices.Sort(codes)
	return codes
}
