package localaws

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const formType = "application/x-www-form-urlencoded"

// postTo makes a POST with a content type, or without one.
func (a *account) postTo(path, contentType, body string) *http.Request {
	a.t.Helper()
	r, err := http.NewRequest(http.MethodPost, a.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		a.t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// numbered are parameters of names that differ, more than half of what is taken.
func numbered(name string) string {
	var b strings.Builder
	for i := range maxParams/2 + 1 {
		fmt.Fprintf(&b, "&%s%d=1", name, i)
	}
	return b.String()
}

// TestQueryOfPOST sends the parameters in the query, in the body and in both.
func TestQueryOfPOST(t *testing.T) {
	a := newAccount(t)
	a.federate()
	form := webIdentityForm(a.token(nil)).Encode()
	for _, tt := range []struct {
		name, path, kind, body string
		status                 int
		code                   string
	}{
		{"query alone", "/?" + form, "", "", 200, ""},
		{"query alone, form type", "/?" + form, formType, "", 200, ""},
		{"query alone, another type", "/?" + form, "application/json", "", 200, ""},
		{"query and body", "/?Action=GetCallerIdentity", formType, "Version=" + stsVersion, 403, "MissingAuthenticationToken"},
		{"query and body without a type", "/?Action=GetCallerIdentity", "", "Version=" + stsVersion, 403, "MissingAuthenticationToken"},
		{"body without a type", "/", "", form, 200, ""},
		{"twice", "/?Action=GetCallerIdentity", formType, callerIdentity, 400, "MalformedInput"},
		{"twice in the query", "/?Action=GetCallerIdentity&" + callerIdentity, "", "", 400, "MalformedInput"},
		{"a body that is no form", "/?" + form, "application/json", "{}", 400, "MalformedInput"},
		{"too many together", "/?" + callerIdentity + numbered("q"), formType, numbered("b"), 400, "MalformedInput"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.send(a.postTo(tt.path, tt.kind, tt.body))
			if got.status != tt.status || got.code != tt.code {
				t.Errorf("want %d %s, got %+v", tt.status, tt.code, got)
			}
		})
	}
}

// TestQueryOfPOSTSigned holds that the signature covers query and body as sent.
func TestQueryOfPOSTSigned(t *testing.T) {
	a := newAccount(t)
	for _, kind := range []string{"", formType} {
		for _, tt := range []struct{ query, body string }{
			{callerIdentity, ""}, {"Version=" + stsVersion, "Action=GetCallerIdentity"}, {"Action=GetCallerIdentity", "Version=" + stsVersion},
		} {
			sign := func(r *http.Request) *http.Request {
				if err := v4.NewSigner().SignHTTP(t.Context(), a.adminCredentials(), r, hexSHA256([]byte(tt.body)), "sts", testRegion, a.now()); err != nil {
					t.Fatal(err)
				}
				return r
			}
			if got := a.send(sign(a.postTo("/?"+tt.query, kind, tt.body))); got.status != 200 {
				t.Errorf("%q with %+v: want 200, got %+v", kind, tt, got)
			}
			r := sign(a.postTo("/?"+tt.query, kind, tt.body))
			r.URL.RawQuery += "&x=1"
			if got := a.send(r); got.status != 403 || got.code != "SignatureDoesNotMatch" {
				t.Errorf("%q with %+v and a parameter added: want 403 SignatureDoesNotMatch, got %+v", kind, tt, got)
			}
		}
	}
}

// TestBucketHostIsS3 holds that what is addressed to a bucket is never STS.
func TestBucketHostIsS3(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	body := `<Delete><Object><Key>k</Key></Object></Delete>`
	r := a.postTo("/?delete", formType, body)
	r.Host = testBucket + ".localhost:4566"
	r.Header.Set("X-Amz-Checksum-Sha256", base64SHA256(body))
	signS3(t, r, a.adminCredentials(), testRegion, a.now(), hexSHA256([]byte(body)))
	if status, answer := send(t, r); status != 200 || !strings.Contains(answer, "<Deleted><Key>k</Key>") {
		t.Errorf("got %d %s, want the key deleted", status, answer)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r := a.postTo("/?"+callerIdentity, "", "")
		r.Method, r.Host = method, testBucket+".s3.amazonaws.com"
		signS3(t, r, a.adminCredentials(), testRegion, a.now(), hexSHA256(nil))
		if status, answer := send(t, r); status != 501 || !strings.Contains(answer, "<Code>NotImplemented</Code>") {
			t.Errorf("%s: got %d %s, want S3's refusal", method, status, answer)
		}
	}
}

// TestHosts tells which hosts name a bucket.
func TestHosts(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "dir/k", "x")
	call := func(method, host, path string) (int, string) {
		t.Helper()
		r, _ := http.NewRequest(method, a.url+path, nil)
		r.Host = host
		signS3(t, r, a.adminCredentials(), testRegion, a.now(), unsignedPayload)
		return send(t, r)
	}
	for _, tt := range []struct{ host, path string }{
		{testBucket + ".s3.dualstack.us-east-1.amazonaws.com", "/dir/k"},
		{"s3.dualstack.us-east-1.amazonaws.com", "/" + testBucket + "/dir/k"},
		{testBucket + ".s3.localhost", "/dir/k"},
		{testBucket + ".localhost:4566", "/dir/k"},
		{"aws.localhost:4566", "/" + testBucket + "/dir/k"},
		{"s3.us-east-1.localhost", "/" + testBucket + "/dir/k"},
		{"s3.localhost:4566", "/" + testBucket + "/dir/k"},
		{"localhost:4566", "/" + testBucket + "/dir/k"},
	} {
		if status, body := call("GET", tt.host, tt.path); status != 200 || body != "x" {
			t.Errorf("%s%s: got %d %s", tt.host, tt.path, status, body)
		}
	}
	if status, body := call("PUT", "new-bucket.localhost", "/"); status != 200 {
		t.Errorf("creating a bucket by its host: got %d %s", status, body)
	}
	if status, body := call("GET", "new-bucket.localhost", "/"); status != 200 || !strings.Contains(body, "<Name>new-bucket</Name>") {
		t.Errorf("listing a bucket by its host: got %d %s", status, body)
	}
	if status, body := call("GET", "gone.s3.localhost", "/k"); status != 404 || !strings.Contains(body, "NoSuchBucket") {
		t.Errorf("a host that can be nothing but a bucket: got %d %s", status, body)
	}
}

// TestDefaultEncryption holds that every bucket shows SSE-S3, as S3 has it
// since 2023.
func TestDefaultEncryption(t *testing.T) {
	a, admin := newBucket(t)
	in := &s3sdk.GetBucketEncryptionInput{Bucket: aws.String(testBucket)}
	got, err := admin.GetBucketEncryption(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	rules := got.ServerSideEncryptionConfiguration.Rules
	if len(rules) != 1 || rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm != types.ServerSideEncryptionAes256 || *rules[0].BucketKeyEnabled {
		t.Errorf("got %+v", rules)
	}
	_, err = s3Client(a.newUser("u", "")).GetBucketEncryption(t.Context(), in)
	if message := wantCode(t, err, "AccessDenied"); !strings.Contains(message, "s3:GetEncryptionConfiguration") {
		t.Errorf("got %q", message)
	}
}
