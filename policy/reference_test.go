package policy

import (
	"strings"
	"testing"
)

const (
	walletA = "0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	walletB = "0xbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// tenantRequest is a request of a session of the data role with a tag, or
// without one where the tag is "-".
func tenantRequest(action, resource, tag string) *Request {
	ctx := NewContext()
	ctx.Set("aws:PrincipalArn", roleARN)
	if tag != "-" {
		ctx.Set("aws:PrincipalTag/agentkeys_user_wallet", tag)
	}
	return &Request{Principal: session(), Action: action, Resource: resource, ResourceAccount: account, Context: ctx}
}

func own(tag, key string) string { return bucketARN + "/bots/" + tag + "/" + key }

// TestReferenceSetUp tries the bucket policy of the reference set-up, plain and
// hardened, on a role without any S3 policy, and on one whose old inline policy
// allows everything, which only the backstops contain.
func TestReferenceSetUp(t *testing.T) {
	rows := []struct {
		name, action, resource, tag, prefix string // prefix "-": none sent
		plain, broadPlain, broadHardened    bool   // allowed; "broad": with the inline policy
	}{
		{"get own", "s3:GetObject", own(walletA, "x"), walletA, "-", true, true, true},
		{"put own", "s3:PutObject", own(walletA, "x/y z"), walletA, "-", true, true, true},
		{"delete own", "s3:DeleteObject", own(walletA, ""), walletA, "-", true, true, true},
		{"list own", "s3:ListBucket", bucketARN, walletA, "bots/" + walletA + "/", true, true, true},
		{"list own, deeper", "s3:ListBucket", bucketARN, walletA, "bots/" + walletA + "/in/", true, true, true},
		{"get foreign", "s3:GetObject", own(walletB, "x"), walletA, "-", false, true, false},
		{"put foreign", "s3:PutObject", own(walletB, "x"), walletA, "-", false, true, false},
		{"delete foreign", "s3:DeleteObject", own(walletB, "x"), walletA, "-", false, true, false},
		{"get foreign version", "s3:GetObjectVersion", own(walletB, "x"), walletA, "-", false, true, false},
		{"own version", "s3:GetObjectVersion", own(walletA, "x"), walletA, "-", false, true, true},
		{"list foreign", "s3:ListBucket", bucketARN, walletA, "bots/" + walletB + "/", false, true, false},
		{"list without a prefix", "s3:ListBucket", bucketARN, walletA, "-", false, true, false},
		{"list the empty prefix", "s3:ListBucket", bucketARN, walletA, "", false, true, false},
		{"list all tenants", "s3:ListBucket", bucketARN, walletA, "bots/", false, true, false},
		{"list versions", "s3:ListBucketVersions", bucketARN, walletA, "-", false, true, false},
		{"list uploads", "s3:ListBucketMultipartUploads", bucketARN, walletA, "-", false, true, false},
		{"prefix without the slash", "s3:ListBucket", bucketARN, walletA, "bots/" + walletA, false, true, false},
		{"near miss, one character more", "s3:GetObject", own(walletA+"0", "x"), walletA, "-", false, true, false},
		{"near miss, capitals", "s3:GetObject", own(strings.ToUpper(walletA), "x"), walletA, "-", false, true, false},
		{"parent folder", "s3:GetObject", bucketARN + "/bots/x", walletA, "-", false, true, false},
		{"dots in the key stay literal", "s3:GetObject", own(walletA, "../"+walletB+"/x"), walletA, "-", true, true, true},
		{"untagged get", "s3:GetObject", own(walletA, "x"), "-", "-", false, true, false},
		{"untagged list", "s3:ListBucket", bucketARN, "-", "bots/", false, true, false},
		{"untagged, the bucket itself", "s3:GetBucketPolicy", bucketARN, "-", "-", false, true, false},
		{"empty tag", "s3:GetObject", own(walletA, "x"), "", "-", false, true, false},
		{"star as tag", "s3:GetObject", own(walletA, "x"), "*", "-", false, true, false},
		{"question marks as tag", "s3:GetObject", own(walletA, "x"), strings.Repeat("?", len(walletA)), "-", false, true, false},
		{"variable as tag", "s3:GetObject", own(walletA, "x"), "${aws:PrincipalTag/agentkeys_user_wallet}", "-", false, true, false},
	}
	broad := []*Policy{compiled(t, statementJSON(`"Effect":"Allow","Action":"s3:*","Resource":"*"`))}
	plain, hardened := []*Policy{compiledFile(t, "bucket-plain.json")}, []*Policy{compiledFile(t, "bucket-hardened.json")}
	for _, row := range rows {
		r := tenantRequest(row.action, row.resource, row.tag)
		if row.prefix != "-" {
			r.Context.Set("s3:prefix", row.prefix)
		}
		for _, form := range []struct {
			name string
			set  Set
			want bool
		}{
			{"plain", Set{Resource: plain}, row.plain},
			{"hardened", Set{Resource: hardened}, row.plain},
			{"plain, broad role", Set{Resource: plain, Identity: broad}, row.broadPlain},
			{"hardened, broad role", Set{Resource: hardened, Identity: broad}, row.broadHardened},
		} {
			if d := check(t, r, &form.set); d.Allowed != form.want {
				t.Errorf("%s, %s: got %+v, want allowed %v\n%s", row.name, form.name, d, form.want, Explain(r, &form.set).Text)
			}
		}
	}
	for _, p := range []Principal{{}, user(), stranger(), {Kind: RoleSession, Account: account, ARN: "arn:aws:sts::111122223333:assumed-role/other/s", Issuer: "arn:aws:iam::111122223333:role/other"}} {
		r := tenantRequest("s3:GetObject", own(walletA, "x"), walletA)
		r.Principal = p
		if d := check(t, r, &Set{Resource: hardened}); d.Allowed {
			t.Errorf("%s: got %+v, want a refusal", p.describe(), d)
		}
	}
}

// token is what a web identity token puts into the request context.
func token(sub, aud string, tags map[string]string) *Context {
	ctx := NewContext()
	ctx.Set("broker.example.com:sub", sub)
	ctx.Set("broker.example.com:aud", aud)
	var keys []string
	for k, v := range tags {
		ctx.Set("aws:RequestTag/"+k, v)
		keys = append(keys, k)
	}
	if keys != nil {
		ctx.SetList("aws:TagKeys", keys...)
	}
	return ctx
}

// TestReferenceTrust tries the trust policy of the reference set-up.
func TestReferenceTrust(t *testing.T) {
	const tagKey, sub, aud = "agentkeys_user_wallet", "agentkeys:agent:x", "sts.amazonaws.com"
	tag := func(v string) map[string]string { return map[string]string{tagKey: v} }
	omni := strings.Repeat("c", 64)
	rows := []struct {
		name string
		ctx  *Context
		want bool
	}{
		{"wallet", token(sub, aud, tag(walletA)), true},
		{"omni account", token(sub, aud, tag(omni)), true},
		{"no tag", token(sub, aud, nil), false},
		{"empty tag", token(sub, aud, tag("")), false},
		{"short tag", token(sub, aud, tag("0xabc")), false},
		{"long tag", token(sub, aud, tag(walletA+"0")), false},
		{"slash in 64 characters", token(sub, aud, tag(walletB+"/inbox/"+strings.Repeat("a", 15))), false},
		{"another tag key besides", token(sub, aud, map[string]string{tagKey: walletA, "admin": "1"}), false},
		{"another audience", token(sub, "other", tag(walletA)), false},
		{"another subject", token("service:x", aud, tag(walletA)), false},
	}
	trust := compiledFile(t, "trust.json")
	for _, row := range rows {
		for _, action := range []string{"sts:AssumeRoleWithWebIdentity", "sts:TagSession"} {
			r := &Request{Principal: webIdentity(), Action: action, Resource: roleARN, ResourceAccount: account, Context: row.ctx}
			if d := check(t, r, &Set{Resource: []*Policy{trust}, ResourceMustAllow: true}); d.Allowed != row.want {
				t.Errorf("%s, %s: got %+v, want allowed %v", row.name, action, d, row.want)
			}
		}
	}
}

// TestTrustFaults: how a trust policy's condition lets in what it should not.
func TestTrustFaults(t *testing.T) {
	const key = `"aws:RequestTag/agentkeys_user_wallet"`
	untagged := func() *Context { return token("s", "a", nil) }
	tagged := func(v string) *Context { return token("s", "a", map[string]string{"agentkeys_user_wallet": v}) }
	rows := []struct {
		name, condition string
		ctx             *Context
		want            bool
	}{
		{"6: negated operator", `{"StringNotEquals":{` + key + `:""}}`, untagged(), true},
		{"7: no condition", `{}`, untagged(), true},
		{"8: StringLikeIfExists", `{"StringLikeIfExists":{` + key + `:"0x*"}}`, untagged(), true},
		{"8: StringEqualsIfExists", `{"StringEqualsIfExists":{` + key + `:"x"}}`, untagged(), true},
		{"9: ForAllValues alone", `{"ForAllValues:StringEquals":{"aws:TagKeys":["agentkeys_user_wallet"]}}`, untagged(), true},
		{"10: Null true", `{"Null":{` + key + `:"true"}}`, untagged(), true},
		{"10: Null true, tagged", `{"Null":{` + key + `:"true"}}`, tagged(walletA), false},
		{"11: Null false alone, empty tag", `{"Null":{` + key + `:"false"}}`, tagged(""), true},
		{"11: Null false alone, no tag", `{"Null":{` + key + `:"false"}}`, untagged(), false},
		{"12: star matches empty", `{"StringLike":{` + key + `:"*"}}`, tagged(""), true},
		{"sound", `{"StringLike":{` + key + `:"0x*"}}`, untagged(), false},
	}
	for _, row := range rows {
		trust := compiled(t, statementJSON(`"Effect":"Allow","Principal":{"Federated":"`+providerA+`"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":`+row.condition))
		r := &Request{Principal: webIdentity(), Action: "sts:AssumeRoleWithWebIdentity", Resource: roleARN, ResourceAccount: account, Context: row.ctx}
		s := &Set{Resource: []*Policy{trust}, ResourceMustAllow: true}
		if d := check(t, r, s); d.Allowed != row.want {
			t.Errorf("%s: got %+v, want allowed %v", row.name, d, row.want)
		}
		r.Action = "sts:TagSession" // 14: a tagged token needs it
		if d := check(t, r, s); d.Allowed {
			t.Errorf("%s, TagSession: got %+v, want a refusal", row.name, d)
		}
	}
}

// TestBucketFaults: how a bucket policy lets in what it should not.
func TestBucketFaults(t *testing.T) {
	const tag = "${aws:PrincipalTag/agentkeys_user_wallet}"
	object := func(principal, resource string) string {
		return `"Effect":"Allow","Principal":` + principal + `,"Action":"s3:GetObject","Resource":"` + resource + `"`
	}
	lister := func(condition string) string {
		return `"Effect":"Allow","Principal":{"AWS":"` + roleARN + `"},"Action":"s3:ListBucket","Resource":"` + bucketARN + `","Condition":` + condition
	}
	role := `{"AWS":"` + roleARN + `"}`
	objectRequest := func(tag, key string) *Request { return tenantRequest("s3:GetObject", bucketARN+"/"+key, tag) }
	listRequest := func(prefix string) *Request {
		r := tenantRequest("s3:ListBucket", bucketARN, walletA)
		if prefix != "-" {
			r.Context.Set("s3:prefix", prefix)
		}
		return r
	}
	foreigner := objectRequest(walletB, "bots/"+walletB+"/x")
	foreigner.Principal = stranger()
	rows := []struct {
		name, version, statement string
		request                  *Request
		want                     bool
	}{
		{"33: default, untagged", "2012-10-17", object(role, bucketARN+"/bots/${aws:PrincipalTag/agentkeys_user_wallet, 'shared'}/*"), objectRequest("-", "bots/shared/x"), true},
		{"34: old version, own", "2008-10-17", object(role, bucketARN+"/bots/"+tag+"/*"), objectRequest(walletA, "bots/"+walletA+"/x"), false},
		{"34: old version, literal", "2008-10-17", object(role, bucketARN+"/bots/"+tag+"/*"), objectRequest(walletA, "bots/"+tag+"/x"), true},
		{"35: no slash", "2012-10-17", object(role, bucketARN+"/bots/"+tag+"*"), objectRequest(walletA, "bots/"+walletA+"0/x"), true},
		{"38: case", "2012-10-17", object(role, bucketARN+"/bots/"+tag+"/*"), objectRequest(strings.ToUpper(walletA), "bots/"+walletA+"/x"), false},
		{"42: no prefix condition", "2012-10-17", lister(`{}`), listRequest("-"), true},
		{"44: empty prefix", "2012-10-17", lister(`{"StringLike":{"s3:prefix":["","bots/` + tag + `/*"]}}`), listRequest(""), true},
		{"44: parent", "2012-10-17", lister(`{"StringLike":{"s3:prefix":["bots/","bots/` + tag + `/*"]}}`), listRequest("bots/"), true},
		{"53: star by tag only", "2012-10-17", object(`"*"`, bucketARN+"/bots/"+tag+"/*"), foreigner, true},
		{"53: the role only", "2012-10-17", object(role, bucketARN+"/bots/"+tag+"/*"), foreigner, false},
	}
	for _, row := range rows {
		p := compiled(t, `{"Version":"`+row.version+`","Statement":{`+row.statement+`}}`)
		s := &Set{Resource: []*Policy{p}}
		if row.request.Principal.Account == foreign {
			s.Identity = []*Policy{compiled(t, allowAll)}
		}
		if d := check(t, row.request, s); d.Allowed != row.want {
			t.Errorf("%s: got %+v, want allowed %v", row.name, d, row.want)
		}
	}
	// 52: the account is named, and some role has a broad identity policy
	delegated := &Set{Resource: []*Policy{resourceFor(t, `{"AWS":"`+rootARN+`"}`)}, Identity: []*Policy{compiled(t, allowAll)}}
	if d := check(t, objectRequest(walletA, "bots/"+walletB+"/x"), delegated); !d.Allowed || d.Layer != IdentityLayer {
		t.Errorf("52: got %+v, want allowed by identity", d)
	}
	// 58: a positive Deny on a tag does not reach a session without it
	for operator, want := range map[string]bool{"StringEquals": true, "StringLike": true, "StringNotLike": false} {
		deny := compiled(t, statementJSON(`"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"`+operator+`":{"aws:PrincipalTag/agentkeys_user_wallet":"x"}}`))
		s := &Set{Resource: []*Policy{deny}, Identity: []*Policy{compiled(t, allowAll)}}
		if d := check(t, objectRequest("-", "bots/"+walletB+"/x"), s); d.Allowed != want {
			t.Errorf("58: Deny %s: got %+v, want allowed %v", operator, d, want)
		}
	}
}
