package policy

import "testing"

// BenchmarkEvaluate evaluates requests against the reference set-up: the
// hardened bucket policy and a role without any S3 policy.
func BenchmarkEvaluate(b *testing.B) {
	set := &Set{
		Identity: []*Policy{compiled(b, statementJSON(`"Effect":"Allow","Action":"ses:SendEmail","Resource":"*"`))},
		Resource: []*Policy{compiledFile(b, "bucket-hardened.json")},
	}
	list := tenantRequest("s3:ListBucket", bucketARN, walletA)
	list.Context.Set("s3:prefix", "bots/"+walletA+"/in/")
	for _, bench := range []struct {
		name    string
		request *Request
		allowed bool
	}{
		{"GetOwn", tenantRequest("s3:GetObject", own(walletA, "inbox/message-1.json"), walletA), true},
		{"GetForeign", tenantRequest("s3:GetObject", own(walletB, "inbox/message-1.json"), walletA), false},
		{"ListOwn", list, true},
		{"Untagged", tenantRequest("s3:GetObject", own(walletA, "x"), "-"), false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if Evaluate(bench.request, set).Allowed != bench.allowed {
					b.Fatal("wrong decision")
				}
			}
		})
	}
}

// BenchmarkExplain is what a refusal costs that says why.
func BenchmarkExplain(b *testing.B) {
	set := &Set{Resource: []*Policy{compiledFile(b, "bucket-hardened.json")}}
	r := tenantRequest("s3:GetObject", own(walletB, "x"), walletA)
	b.ReportAllocs()
	for b.Loop() {
		Explain(r, set)
	}
}

// BenchmarkCompile is what a bucket policy costs once.
func BenchmarkCompile(b *testing.B) {
	d := compiledFile(b, "bucket-hardened.json").doc
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile("bucket", d); err != nil {
			b.Fatal(err)
		}
	}
}
