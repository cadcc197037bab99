package federation

import (
	"strings"
	"testing"
)

func TestTargetIsNamed(t *testing.T) {
	for _, test := range []struct {
		Target
		kind, name string
	}{
		{Target{Name: "x", Local: true, STS: "http://127.0.0.1:1", S3: "http://127.0.0.1:1"}, "local", "x"},
		{Target{}, "aws", "AWS"},
		{Target{Name: "production"}, "aws", "production"},
		{Target{Name: "AWS", Local: true}, "local", "AWS"},
		{Target{Other: true, STS: "http://127.0.0.1:1", S3: "http://127.0.0.1:1"}, "other", "a server that is not AWS"},
		{Target{Name: "AWS", Other: true}, "other", "AWS"},

		// What is on this machine is local, whatever it is called.
		{Target{Name: "AWS", STS: "http://127.0.0.1:1"}, "local", "AWS"},
		{Target{STS: "https://localhost:1", S3: "https://s3.amazonaws.com"}, "local", "local AWS"},
		{Target{S3: "http://[::1]:9000"}, "local", "local AWS"},
		{Target{S3: "http://127.8.9.1:9000"}, "local", "local AWS"},

		// AWS's own hosts, over TLS.
		{Target{STS: "https://sts.amazonaws.com"}, "aws", "AWS"},
		{Target{STS: "https://sts.eu-west-1.amazonaws.com/"}, "aws", "AWS"},
		{Target{STS: "https://sts-fips.us-east-1.amazonaws.com"}, "aws", "AWS"},
		{Target{STS: "https://sts.us-east-1.api.aws"}, "aws", "AWS"},
		{Target{STS: "https://sts.cn-north-1.amazonaws.com.cn"}, "aws", "AWS"},
		{Target{S3: "https://s3.dualstack.us-gov-west-1.amazonaws.com"}, "aws", "AWS"},
		{Target{S3: "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com"}, "aws", "AWS"},
		{Target{STS: "http://sts.eu-west-1.amazonaws.com"}, "other", "a server that is not AWS"},

		// A customer's hosts under AWS's domain, and hosts that look like it.
		{Target{S3: "https://ec2-192-0-2-1.compute-1.amazonaws.com"}, "other", "a server that is not AWS"},
		{Target{STS: "https://sts.s3.amazonaws.com"}, "other", "a server that is not AWS"},
		{Target{S3: "https://abcdef.execute-api.us-east-1.amazonaws.com"}, "other", "a server that is not AWS"},
		{Target{S3: "https://vpce-1a2b.vpce-svc-3c4d.us-east-1.vpce.amazonaws.com"}, "other", "a server that is not AWS"},
		{Target{Name: "AWS", S3: "https://amazonaws.com.example.net"}, "other", "AWS"},
		{Target{Name: "AWS", S3: "https://evilamazonaws.com"}, "other", "AWS"},
		{Target{Name: "AWS", S3: "https://s3.amazonaws.com@evil.example"}, "other", "AWS"},
	} {
		r := targetReport(test.Target)
		if r.Kind != test.kind || r.Name != test.name || (r.Kind == "aws") != (r.Note == "") {
			t.Errorf("%+v: kind %q, name %q, note %q, want %q and %q", test.Target, r.Kind, r.Name, r.Note, test.kind, test.name)
		}
	}
}

func TestTargetReportHidesAPassword(t *testing.T) {
	if r := targetReport(Target{S3: "https://user:geheim@s3.example.net"}); strings.Contains(r.S3, "geheim") {
		t.Errorf("the report has the endpoint %s", r.S3)
	}
}

func TestTargetNameIsPrintable(t *testing.T) {
	p := Proof{Config: testConfig(), Tenants: [2]Tenant{
		{Name: "alice", Tag: walletA, Token: newIssuer(t).minter(t, walletA)},
		{Name: "bob", Tag: walletB, Token: newIssuer(t).minter(t, walletB)},
	}}
	for name, fits := range map[string]bool{
		"": true, "AWS, account 000011112222": true, "Zürich": true,
		"a\nb": false, "\x1b[31mAWS": false, "AWS\u202e": false, strings.Repeat("x", 101): false,
	} {
		p.Target.Name = name
		if err := p.Validate(); (err == nil) != fits {
			t.Errorf("%q: %v", name, err)
		}
	}
}
