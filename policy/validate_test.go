package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	const (
		action   = `"Effect":"Allow","Action":"s3:GetObject"`
		resource = `,"Resource":"*"`
		any      = `,"Principal":"*"`
		trusting = `"Effect":"Allow","Principal":{"Federated":"` + providerA + `"},"Action":"sts:AssumeRoleWithWebIdentity"`
	)
	aws := func(name string) string { return action + resource + `,"Principal":{"AWS":"` + name + `"}` }
	rows := []struct {
		kind      Kind
		statement string
		want      string // "" for valid
	}{
		{IdentityPolicy, action + resource, ""},
		{IdentityPolicy, action + resource + any, "Principal: has no place in an identity policy"},
		{IdentityPolicy, action + resource + `,"NotPrincipal":{"AWS":"*"}`, "NotPrincipal: has no place"},
		{IdentityPolicy, action, "Resource: want one"},
		{IdentityPolicy, action + resource + `,"Sid":"a b"`, "Sid: want letters and digits"},
		{SessionPolicy, action + resource + any, "Principal: has no place"},
		{BoundaryPolicy, action + resource + any, "Principal: has no place"},
		{ControlPolicy, action + resource, ""},
		{ControlPolicy, action + resource + any, ""},
		{ControlPolicy, aws(account), `want "*" in a control policy`},
		{TrustPolicy, trusting, ""},
		{TrustPolicy, trusting + resource, "Resource: has no place in a trust policy"},
		{TrustPolicy, `"Effect":"Allow","Action":"sts:AssumeRole"`, "Principal: want one"},
		{TrustPolicy, `"Effect":"Allow","NotPrincipal":{"AWS":"*"},"Action":"sts:AssumeRole"`, "NotPrincipal: has no place"},
		{TrustPolicy, `"Effect":"Allow","Principal":"*","Action":"s3:GetObject"`, "want an sts action"},
		{TrustPolicy, `"Effect":"Allow","Principal":"*","Action":"*"`, "want an sts action"},
		{TrustPolicy, strings.Replace(trusting, providerA, "arn:aws:iam::111122223333:oidc-provider/*", 1), "names no principal"},
		{TrustPolicy, strings.Replace(trusting, providerA, "cognito-identity.amazonaws.com", 1), ""},
		{TrustPolicy, strings.Replace(trusting, providerA, "arn:aws:iam::111122223333:oidc-provider/127.0.0.1:8091", 1), ""},
		{TrustPolicy, strings.Replace(trusting, providerA, "arn:aws:iam::111122223333:saml-provider/x", 1), ""},
		{BucketPolicy, action + resource + any + `,"Sid":"a b"`, ""},
		{BucketPolicy, action + resource + `,"NotPrincipal":{"AWS":"111122223333"}`, ""},
		{BucketPolicy, action + resource, "Principal: want one"},
		{BucketPolicy, action + any, "Resource: want one"},
		{BucketPolicy, aws(roleARN), ""},
		{BucketPolicy, aws(sessARN), ""},
		{BucketPolicy, aws(fedARN), ""},
		{BucketPolicy, aws(roleID), ""},
		{BucketPolicy, aws(account), ""},
		{BucketPolicy, aws("*"), ""},
		{BucketPolicy, aws("arn:aws:iam::111122223333:role/team/x"), ""},
		{BucketPolicy, aws("arn:aws:iam::111122223333:role/*"), "names no principal"},
		{BucketPolicy, aws("arn:aws:iam::111122223333:role/agentkeys-?"), "names no principal"},
		{BucketPolicy, aws("arn:aws:iam::*:root"), "names no principal"},
		{BucketPolicy, aws("arn:aws:iam::11112222333:root"), "names no principal"},
		{BucketPolicy, aws("arn:aws:iam::111122223333:group/g"), "names no principal"},
		{BucketPolicy, aws("arn:aws:sts::111122223333:assumed-role/r"), "names no principal"},
		{BucketPolicy, aws("1111222233334"), "names no principal"},
		{BucketPolicy, aws("alice"), "names no principal"},
		{BucketPolicy, action + resource + `,"Principal":{"Service":"s3"}`, "names no principal"},
		{BucketPolicy, action + resource + `,"Principal":{"CanonicalUser":"xyz"}`, "names no principal"},
	}
	for _, row := range rows {
		d, err := Parse([]byte(statementJSON(row.statement)))
		if err != nil {
			t.Fatal(err)
		}
		err = d.Validate(row.kind)
		var perr *ParseError
		if row.want == "" && err != nil || row.want != "" && (!errors.As(err, &perr) || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("kind %d, %s: got %v, want %q", row.kind, row.statement, err, row.want)
		}
	}
	twice := `{"Statement":[{"Sid":"a",` + action + resource + `},{"Sid":"a",` + action + resource + `}]}`
	if err := compiled(t, twice).doc.Validate(IdentityPolicy); err == nil || !strings.Contains(err.Error(), "Statement[1]: Sid: want each one once") {
		t.Errorf("the same Sid twice: got %v", err)
	}
	long := compiled(t, `{"Id":"`+strings.Repeat("x", 2048)+`","Statement":{`+action+resource+`}}`).doc
	if err := long.Validate(SessionPolicy); err == nil || !strings.Contains(err.Error(), "want at most 2048 bytes") {
		t.Errorf("long session policy: got %v", err)
	}
	if err := long.Validate(Kind(99)); err == nil {
		t.Error("unknown kind: got no error")
	}
}

// TestValidateBucket: a row per message of S3.
func TestValidateBucket(t *testing.T) {
	const canonical = "0123456789abcdef"
	rules := BucketRules{Bucket: "agentkeys-data", Account: account, CanonicalUser: canonical, PrincipalExists: func(arn string) bool {
		return arn == roleARN || arn == rootARN || arn == userARN || arn == sessARN
	}}
	st := func(principal, action, resource, condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":` + principal + `,"Action":` + action + `,"Resource":` + resource + `,"Condition":` + condition + `}]}`
	}
	const role, bucket, objects = `{"AWS":"` + roleARN + `"}`, `"` + bucketARN + `"`, `"` + bucketARN + `/*"`
	const accessPoint = `{"StringEquals":{"s3:DataAccessPointAccount":"` + account + `","s3:AccessPointNetworkOrigin":"VPC"},"StringLike":{"S3:dataaccesspointarn":"*"}}`
	both := `[` + bucket + `,` + objects + `]`
	rows := []struct{ text, want string }{
		{st(role, `"s3:GetObject"`, objects, `{}`), ""},
		{``, msgNotObject},
		{` {"Statement":[]}`, msgNotObject},
		{`[]`, msgNotObject},
		{`{`, msgInvalidJSON},
		{`{"Statement":[],"Statement":[]}`, msgInvalidJSON},
		{`{"Version":"2012-10-17"}`, msgMissing + "Statement"},
		{`{"Statement":[]}`, msgEmpty},
		{`{"Version":"2013","Statement":[{}]}`, msgVersion},
		{`{"Statement":[{"Principal":"*","Action":"s3:*","Resource":` + objects + `}]}`, "Missing required field Effect"},
		{`{"Statement":[{"Effect":"Allow","Principal":"*","Resource":` + objects + `}]}`, "Missing required field Action"},
		{`{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":` + objects + `}]}`, "Missing required field Principal"},
		{`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*"}]}`, "Missing required field Resource"},

		{st(`"*"`, `"s3:GetObject"`, objects, `{}`), ""},
		{st(`{"AWS":"`+account+`"}`, `"s3:GetObject"`, objects, `{}`), ""},
		{st(`{"AWS":"`+sessARN+`"}`, `"s3:GetObject"`, objects, `{}`), ""},
		{st(`{"AWS":"`+sessARN+`x"}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal},
		{st(`{"AWS":"arn:aws:sts::`+account+`:federated-user/bob"}`, `"s3:GetObject"`, objects, `{}`), ""},
		{st(`{"CanonicalUser":"`+canonical+`"}`, `"s3:GetObject"`, objects, `{}`), ""},
		{st(`{"CanonicalUser":["`+canonical+`","0123"]}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal},
		{st(`{"CanonicalUser":""}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal},
		{st(`{"Service":"ses.amazonaws.com"}`, `"s3:PutObject"`, objects, `{}`), ""},
		{st(`{"AWS":"arn:aws:iam::111122223333:role/gone"}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal},
		{st(`{"AWS":"`+foreign+`"}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal},
		{st(`{"AWS":"AROAEXAMPLEROLE00001:s1"}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal}, // is stored, never sent
		{st(`{"AWS":"AROAEXAMPLEROLE00009"}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal},
		{st(`{"AWS":"arn:aws:iam::111122223333:role/*"}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal},
		{st(`{"AWS":""}`, `"s3:GetObject"`, objects, `{}`), msgPrincipal},

		{st(role, `"s3:GetObjekt"`, objects, `{}`), msgAction},
		{st(role, `"s3:Foo*"`, objects, `{}`), msgAction},
		{st(role, `"sts:AssumeRole"`, objects, `{}`), msgAction},
		{st(role, `"s3:getobject"`, objects, `{}`), ""},
		{st(role, `["s3:GetObject","s3:Nope"]`, objects, `{}`), msgAction},
		{st(role, `"*"`, both, `{}`), ""},

		{st(role, `"s3:GetObject"`, `"arn:aws:s3:::other/*"`, `{}`), msgResource},
		{st(role, `"s3:GetObject"`, `"arn:aws:s3:::agentkeys-data2/*"`, `{}`), msgResource},
		{st(role, `"s3:GetObject"`, `"arn:aws:s3:::*"`, `{}`), msgResource},
		{st(role, `"s3:GetObject"`, `"*"`, `{}`), msgResource},
		{st(role, `"s3:GetObject"`, `"arn:aws:sns:::agentkeys-data/*"`, `{}`), msgResource},
		{st(role, `"s3:GetObject"`, `"arn:aws:s3:us-east-1::agentkeys-data/*"`, `{}`), msgResource},
		{st(role, `"s3:GetObject"`, `[`+objects+`,"arn:aws:s3:::other/*"]`, `{}`), msgResource},
		{st(role, `"s3:GetObject"`, `"`+bucketARN+`*"`, `{}`), ""},
		{`{"Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","NotResource":"arn:aws:s3:::other/*"}]}`, msgResource},

		{st(role, `"s3:GetObject"`, bucket, `{}`), msgCombination},
		{st(role, `"s3:ListBucket"`, objects, `{}`), msgCombination},
		{st(role, `["s3:GetObject","s3:ListBucket"]`, objects, `{}`), msgCombination},
		{st(role, `["s3:GetObject","s3:ListBucket"]`, both, `{}`), ""},
		{st(role, `"s3:ListAllMyBuckets"`, both, `{}`), msgCombination},
		{st(role, `"s3:Get*"`, bucket, `{}`), ""},
		{st(role, `"s3:ListBucket"`, `"`+bucketARN+`*"`, `{}`), ""},

		{st(role, `"s3:ListBucket"`, bucket, `{"StringLike":{"s3:prefix":"a/*"}}`), ""},
		{st(role, `["s3:ListBucket","s3:GetObject"]`, both, `{"StringLike":{"s3:prefix":"a/*"}}`), msgConditions},
		{st(role, `"s3:GetObject"`, objects, `{"StringLike":{"S3:Prefix":"a/*"}}`), msgConditions},
		{st(role, `"s3:ListBucketMultipartUploads"`, bucket, `{"StringLike":{"s3:prefix":"a/*"}}`), msgConditions},
		{st(role, `"s3:GetObject"`, objects, `{"StringEquals":{"s3:x-amz-acl":"private"}}`), msgConditions},
		{st(role, `"s3:PutObject"`, objects, `{"StringEquals":{"s3:x-amz-acl":"private"}}`), ""},
		{st(role, `"s3:GetObject"`, objects, `{"StringEquals":{"s3:ExistingObjectTag/k":"v"}}`), ""},
		{st(role, `"s3:PutObject"`, objects, `{"StringEquals":{"s3:ExistingObjectTag/k":"v"}}`), msgConditions},
		{st(role, `"s3:DeleteObject"`, objects, `{"StringEquals":{"s3:ExistingObjectTag/k":"v"}}`), msgConditions},
		{st(role, `"s3:GetObject"`, objects, `{"StringEquals":{"s3:ExistingObjectTag/":"v"}}`), msgConditionKey},
		{st(role, `"s3:GetObject"`, objects, `{"StringEquals":{"s3:nonsense":"v"}}`), msgConditionKey},
		{st(role, `["s3:GetObject","s3:PutObject","s3:DeleteObject","s3:GetObjectTagging"]`, objects, accessPoint), ""},
		{st(role, `["s3:ListBucket","s3:GetBucketPolicy","s3:GetBucketLocation"]`, bucket, accessPoint), ""},
		{st(role, `"*"`, both, accessPoint), ""},
		{st(role, `"s3:GetObject"`, objects, `{"StringEquals":{"s3:DataAccessPointName":"v"}}`), msgConditionKey},
		{st(role, `"s3:GetObject"`, objects, `{"StringEquals":{"aws:PrincipalTag/k":"v"}}`), ""},
		{st(role, `"s3:*"`, both, `{"Bool":{"aws:SecureTransport":"false"}}`), ""},
		{`{"Statement":[{"Effect":"Deny","Principal":"*","NotAction":"s3:ListBucket*","Resource":` + both + `,"Condition":{"Null":{"s3:prefix":"true"}}}]}`, msgConditions},
		{`{"Id":"` + strings.Repeat("x", MaxBucketPolicy) + `"}`, msgTooLarge},
	}
	for _, row := range rows {
		_, err := ParseBucketPolicy([]byte(row.text), rules)
		var m *MalformedError
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%.300s: got %v, want none", row.text, err)
		case row.want != "" && (!errors.As(err, &m) || m.Message != row.want):
			t.Errorf("%.300s: got %v, want %q", row.text, err, row.want)
		}
	}
	second := `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":` + objects + `},{"Effect":"Allow","Principal":"*","Action":"s3:X","Resource":` + objects + `}]}`
	var m *MalformedError
	if _, err := ParseBucketPolicy([]byte(second), rules); !errors.As(err, &m) || m.Statement != 1 {
		t.Errorf("second statement bad: got %+v, want statement 1", m)
	}
	for _, name := range []string{"bucket-plain.json", "bucket-hardened.json"} {
		if err := compiledFile(t, name).doc.ValidateBucket(rules); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := compiledFile(t, "trust.json").doc.Validate(TrustPolicy); err != nil {
		t.Error(err)
	}
}

// TestPublic: what Block Public Access calls public.
func TestPublic(t *testing.T) {
	st := func(effect, principal, condition string) string {
		return statementJSON(`"Effect":"` + effect + `","Principal":` + principal + `,"Action":"s3:GetObject","Resource":"*","Condition":` + condition)
	}
	rows := []struct {
		text string
		want bool
	}{
		{st("Allow", `"*"`, `{}`), true},
		{st("Allow", `{"AWS":"*"}`, `{}`), true},
		{st("Allow", `{"AWS":["`+account+`","*"]}`, `{}`), true},
		{st("Allow", `{"Service":"*"}`, `{}`), true},
		{st("Deny", `"*"`, `{}`), false},
		{st("Allow", `{"AWS":"`+account+`"}`, `{}`), false},
		{st("Allow", `{"Service":"ses.amazonaws.com"}`, `{}`), false},
		{statementJSON(`"Effect":"Allow","NotPrincipal":{"AWS":"` + account + `"},"Action":"s3:*","Resource":"*"`), true},
		{st("Allow", `"*"`, `{"StringEquals":{"aws:SourceVpc":"vpc-1"}}`), false},
		{st("Allow", `"*"`, `{"StringLike":{"aws:SourceVpc":"vpc-*"}}`), true},
		{st("Allow", `"*"`, `{"StringEquals":{"aws:SourceVpc":["vpc-1","vpc-?"]}}`), true},
		{st("Allow", `"*"`, `{"StringEquals":{"aws:SourceVpc":"${aws:PrincipalTag/vpc}"}}`), true},
		{st("Allow", `"*"`, `{"StringEqualsIfExists":{"aws:SourceVpc":"vpc-1"}}`), true},
		{st("Allow", `"*"`, `{"StringNotEquals":{"aws:SourceVpc":"vpc-1"}}`), true},
		{st("Allow", `"*"`, `{"ForAllValues:StringEquals":{"aws:SourceVpc":"vpc-1"}}`), true},
		{st("Allow", `"*"`, `{"StringEquals":{"aws:SourceVpc":[]}}`), true},
		{st("Allow", `"*"`, `{"StringEquals":{"aws:PrincipalTag/team":"a"}}`), true},
		{st("Allow", `"*"`, `{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}`), false},
		{st("Allow", `"*"`, `{"ArnEquals":{"aws:PrincipalArn":"`+roleARN+`"}}`), false},
		{st("Allow", `"*"`, `{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/x"}}`), true},
		{st("Allow", `"*"`, `{"StringEquals":{"aws:PrincipalAccount":"`+account+`"}}`), false},
		{st("Allow", `"*"`, `{"StringLike":{"aws:userid":"AROAX:*"}}`), true},
		{st("Allow", `"*"`, `{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`), false},
		{st("Allow", `"*"`, `{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}`), true},
		{st("Allow", `"*"`, `{"IpAddress":{"aws:SourceIp":["203.0.113.0/24","0.0.0.0/1"]}}`), true},
		{st("Allow", `"*"`, `{"IpAddress":{"aws:SourceIp":"2001:db8::/32"}}`), false},
		{st("Allow", `"*"`, `{"IpAddress":{"aws:SourceIp":"2000::/3"}}`), true},
		{st("Allow", `"*"`, `{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`), true},
		{st("Allow", `"*"`, `{"StringLike":{"s3:DataAccessPointArn":"arn:aws:s3:us-east-1:111122223333:accesspoint/*"}}`), false},
		{st("Allow", `"*"`, `{"StringLike":{"s3:DataAccessPointArn":"arn:aws:s3:us-east-1:*:accesspoint/x"}}`), true},
		{st("Allow", `"*"`, `{"Null":{"aws:SourceVpc":"false"}}`), true},
	}
	for _, row := range rows {
		if got := compiled(t, row.text).doc.Public(); got != row.want {
			t.Errorf("%s: got %v, want %v", row.text, got, row.want)
		}
	}
	if !(&Document{}).Public() {
		t.Error("a document that does not compile: got not public")
	}
	for _, name := range []string{"bucket-plain.json", "bucket-hardened.json"} {
		if compiledFile(t, name).doc.Public() {
			t.Errorf("%s is public", name)
		}
	}
}

// TestActions reads the embedded table.
func TestActions(t *testing.T) {
	if got := len(Actions("s3")); got != 180 {
		t.Errorf("s3: got %d actions, want 180", got)
	}
	if got := len(Actions("sts")); got != 16 {
		t.Errorf("sts: got %d actions, want 16", got)
	}
	if Actions("ec2") != nil || Actions("version") != nil {
		t.Error("a service that is not there has actions")
	}
	for _, a := range Actions("s3") {
		if a.Name == "ListBucketMultipartUploads" && a.supports("s3:prefix") || a.Name == "ListBucket" && !a.supports("S3:PREFIX") {
			t.Errorf("%s: wrong about s3:prefix", a.Name)
		}
	}
}
