package policy

import (
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// brokenIn is the hardened bucket policy beside an old inline policy that allows
// everything: what the backstops alone must hold.
func brokenIn(t testing.TB) *Set {
	return &Set{
		Resource: []*Policy{compiledFile(t, "bucket-hardened.json")},
		Identity: []*Policy{compiled(t, statementJSON(`"Effect":"Allow","Action":"s3:*","Resource":"*"`))},
	}
}

// TestForeignObjectsWhateverTheTag: whoever could choose his tag, short of the
// slash that the trust policy refuses, reads nothing of B's.
func TestForeignObjectsWhateverTheTag(t *testing.T) {
	set := brokenIn(t)
	actions := []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion", "s3:GETOBJECTACL", "s3:PutObjectTagging", "s3:AbortMultipartUpload"}
	rapid.Check(t, func(t *rapid.T) {
		tag := rapid.OneOf(
			rapid.StringOf(rapid.SampledFrom([]rune("*?${}xXbB0:,' \x00\n\u212aé😀."))),
			rapid.SampledFrom([]string{
				"", "*", "**", "?*", "${*}", "${aws:PrincipalTag/agentkeys_user_wallet}", "${s3:prefix}", "..", "0x*", walletA,
				strings.ToUpper(walletB), walletB + "\x00", walletB + " ", walletB[:41], walletB + "0", "\u212a", strings.Repeat("?", 42),
				strings.Replace(walletB, "b", "Ь", 1),
			}),
		).Draw(t, "tag")
		r := tenantRequest(oneOf(t, "action", actions), own(walletB, "x"), tag)
		if d := Evaluate(r, set); d.Allowed {
			t.Fatalf("tag %q: got %+v", tag, d)
		}
		list := tenantRequest("s3:ListBucket", bucketARN, tag)
		list.Context.Set("s3:prefix", "bots/"+walletB+"/")
		if d := Evaluate(list, set); d.Allowed {
			t.Fatalf("listing, tag %q: got %+v", tag, d)
		}
	})
}

// TestAttacks: single requests by which a session of A could hope to pass.
func TestAttacks(t *testing.T) {
	set := brokenIn(t)
	request := func(resource string, change func(*Request)) *Request {
		r := tenantRequest("s3:GetObject", resource, walletA)
		if change != nil {
			change(r)
		}
		return r
	}
	key := func(k string) string { return bucketARN + "/" + k }
	foreignKey := own(walletB, "x")
	for name, r := range map[string]*Request{
		"NUL in the key":             request(key("bots/"+walletA+"\x00/x"), nil),
		"newline for the slash":      request(key("bots/"+walletA+"\nx"), nil),
		"backslash":                  request(key(`bots\`+walletA+`\x`), nil),
		"two slashes":                request(key("bots//"+walletA+"/x"), nil),
		"leading slash":              request(key("/bots/"+walletA+"/x"), nil),
		"full-width slash":           request(key("bots/"+walletA+"／x"), nil),
		"prefix in capitals":         request(key("BOTS/"+walletA+"/x"), nil),
		"percent-encoded":            request(key("bots%2F"+walletA+"%2Fx"), nil),
		"variable in the key":        request(key("bots/${aws:PrincipalTag/agentkeys_user_wallet}/x"), nil),
		"star in the key":            request(key("bots/*/x"), nil),
		"star as the resource":       request("*", nil),
		"no resource":                request("", nil),
		"bytes that are not UTF-8":   request(key("bots/"+walletA+"\xff/x"), nil),
		"action in another case":     request(foreignKey, func(r *Request) { r.Action = "S3:gETOBJECT" }),
		"tag removed":                request(foreignKey, func(r *Request) { r.Context.Delete("AWS:principaltag/AGENTKEYS_USER_WALLET") }),
		"tag as a list":              request(own(walletA, "x"), func(r *Request) { r.Context.SetList("aws:PrincipalTag/agentkeys_user_wallet", walletA) }),
		"second spelling of the tag": request(foreignKey, func(r *Request) { r.Context.Set("aws:PrincipalTag/agent\u212aeys_user_wallet", walletB) }),
		"prefix sent with a get":     request(foreignKey, func(r *Request) { r.Context.Set("s3:prefix", "bots/"+walletA+"/") }),
		"no context, no key known to anybody": request(foreignKey, func(r *Request) {
			r.Context = nil
			r.Principal = user()
			r.Principal.Account = ""
		}),
	} {
		if d := check(t, r, set); d.Allowed {
			t.Errorf("%s: got %+v\n%s", name, d, Explain(r, set).Text)
		}
	}
}

// TestExplanationStaysOnItsLine: nothing that a document or a request holds
// breaks the line or moves a terminal's cursor.
func TestExplanationStaysOnItsLine(t *testing.T) {
	const evil = "x\n\r\x1b[2Jallowed"
	d := &Document{Version: version2012, Statements: []Statement{{
		Sid: evil, Effect: Allow, Principal: &Principals{AWS: []string{evil}}, Action: []string{"s3:*"}, Resource: []string{"*"},
	}, {
		Sid: evil, Effect: Allow, Principal: &Principals{Any: true}, Action: []string{"s3:*"}, Resource: []string{"arn:aws:s3:::" + evil + "${aws:x}"},
		Condition: []Condition{{"StringLike", "aws:k", []string{evil}}},
	}}}
	p, err := Compile(evil, d)
	if err != nil {
		t.Fatal(err)
	}
	r := get(user())
	r.Principal.ARN, r.Action, r.Resource = evil, "s3:"+evil, evil
	r.Context.Set("aws:k", evil)
	r.Context.Set("aws:x", evil)
	for _, resource := range []string{evil, "arn:aws:s3:::" + evil + evil} {
		r.Resource = resource
		x := Explain(r, &Set{Resource: []*Policy{p}})
		if strings.ContainsAny(x.Text, "\r\x1b") || strings.Count(x.Text, "\n") != 3 {
			t.Errorf("got %q", x.Text)
		}
	}
}

// TestConcurrentUse: policies, sets and contexts are only read.
func TestConcurrentUse(t *testing.T) {
	set := brokenIn(t)
	r := tenantRequest("s3:GetObject", own(walletB, "x"), walletA)
	want := Evaluate(r, set)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got := Explain(r, set); got.Decision != want {
					t.Errorf("got %+v, want %+v", got.Decision, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestContext: a clone is independent, and nil has no keys.
func TestContext(t *testing.T) {
	c := NewContext()
	c.Set("aws:A", "1")
	c.SetList("aws:L", "x", "y")
	clone := c.Clone()
	clone.Set("AWS:a", "2")
	clone.keys["aws:l"].list[0] = "z"
	clone.Delete("aws:none")
	if v, _ := c.lookup("aws:a"); v.single != "1" {
		t.Errorf("after changing the clone: got %q, want 1", v.single)
	}
	if v, _ := c.lookup("aws:l"); v.list[0] != "x" {
		t.Errorf("after changing the clone's list: got %q, want x", v.list[0])
	}
	var none *Context
	if _, ok := none.Clone().lookup("aws:a"); ok {
		t.Error("the clone of nil has a key")
	}
	new(Context).Delete("aws:a")
}
