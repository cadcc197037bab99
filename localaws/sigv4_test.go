package localaws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The keys of the examples in the S3 API Reference.
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	sessionKey    = "ASIAIOSFODNN7EXAMPLE"
	sessionToken  = "session-token/of+the=example"
)

var exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

// lookupExample knows one long-term key and one session, which lasts an hour.
func lookupExample(id, token string) (signingKey, *apiError) {
	switch id {
	case exampleKey:
		return signingKey{secret: exampleSecret}, nil
	case sessionKey:
		return signingKey{secret: exampleSecret, token: sessionToken, expires: exampleTime.Add(time.Hour)}, nil
	}
	return signingKey{}, refuse(http.StatusForbidden, "InvalidClientTokenId", "")
}

// signS3 signs a request as the SDK signs for S3.
func signS3(t *testing.T, r *http.Request, c aws.Credentials, region string, at time.Time, payloadHash string) {
	t.Helper()
	r.Header.Set("X-Amz-Content-Sha256", payloadHash)
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(context.Background(), c, r, payloadHash, "s3", region, at)
	if err != nil {
		t.Fatal(err)
	}
}

func base64SHA256(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// asReceived makes of a client's request the one that a server gets: over the wire.
func asReceived(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	var got *http.Request
	site := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			t.Error(err)
		}
		got = in.Clone(context.Background())
		got.Body = io.NopCloser(bytes.NewReader(body))
	}))
	defer site.Close()
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	r = r.Clone(t.Context())
	r.Host, r.URL.Host, r.URL.Scheme = host, strings.TrimPrefix(site.URL, "http://"), "http"
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return got
}

// verdict verifies a request, reads its body to the end and returns the code
// of the refusal, or "" and the body.
func verdict(r *http.Request, service string, now time.Time) (code, body string) {
	_, e := verifySigV4(r, service, now, lookupExample)
	if e != nil {
		return e.Code, ""
	}
	data, err := io.ReadAll(r.Body)
	if err == nil {
		return "", string(data)
	}
	if e, ok := err.(*apiError); ok {
		return e.Code, ""
	}
	return err.Error(), ""
}

// TestSigV4AgainstSDK holds that what the SDK's signer signs is accepted.
func TestSigV4AgainstSDK(t *testing.T) {
	for _, url := range []string{
		"http://examplebucket.s3.amazonaws.com/test.txt", "http://localhost:4566/b/a//b/../c", "http://h/b/k%201%2B%C3%BC.txt", "http://h/b/a%2Fb",
		"http://h/b?list-type=2&prefix=bots%2F&delimiter=%2F", "http://h/b?policy", "http://h/b?policy=&a=&a2=%20x", "http://h/", "http://h", "http://h/b/k?b=2&a=1&B=3&a%20b=~x-_.",
		"http://h/b/!$&'()*,;=:@",
	} {
		for _, token := range []string{"", sessionToken} {
			c := aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}
			if token != "" {
				c = aws.Credentials{AccessKeyID: sessionKey, SecretAccessKey: exampleSecret, SessionToken: token}
			}
			r, err := http.NewRequest("PUT", url, strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Amz-Meta-Spaces", "  a   b  ")
			signS3(t, r, c, testRegion, exampleTime, hexSHA256([]byte("hello")))
			if code, body := verdict(asReceived(t, r), "s3", exampleTime); code != "" || body != "hello" {
				t.Errorf("%s: got %s, %q", url, code, body)
			}
			presign, _ := http.NewRequest("GET", url, nil)
			q := presign.URL.Query()
			q.Set("X-Amz-Expires", "600")
			presign.URL.RawQuery = q.Encode()
			signed, _, err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).PresignHTTP(t.Context(), c, presign, unsignedPayload, "s3", testRegion, exampleTime)
			if err != nil {
				t.Fatal(err)
			}
			presigned, _ := http.NewRequest("GET", signed, nil)
			if code, _ := verdict(asReceived(t, presigned), "s3", exampleTime); code != "" {
				t.Errorf("presigned %s: got %s", signed, code)
			}
		}
	}
	for _, service := range []string{"sts", "iam"} {
		r, _ := http.NewRequest("POST", "http://h/", strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		signQuery(t, r, service)
		if code, body := verdict(asReceived(t, r), service, exampleTime); code != "" || !strings.HasPrefix(body, "Action=") {
			t.Errorf("%s: got %s, %q", service, code, body)
		}
	}
}

func signQuery(t *testing.T, r *http.Request, service string) {
	t.Helper()
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}, r, hexSHA256(body), service, testRegion, exampleTime)
	if err != nil {
		t.Fatal(err)
	}
}

// TestSigV4Attacks takes a good request and changes one thing.
func TestSigV4Attacks(t *testing.T) {
	auth := func(r *http.Request, from, to string) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
	}
	tests := []struct {
		name   string
		key    string
		change func(r *http.Request)
		want   string
		later  time.Duration
	}{
		{name: "nothing", want: ""},
		{name: "nothing, with a session", key: sessionKey, want: ""},
		{name: "body", change: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("hellO")) }, want: "XAmzContentSHA256Mismatch"},
		{name: "body cut short", change: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("hell")) }, want: "XAmzContentSHA256Mismatch"},
		{name: "body dropped", change: func(r *http.Request) { r.Body = http.NoBody }, want: "XAmzContentSHA256Mismatch"},
		{name: "body and its hash", change: func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader("hellO"))
			r.Header.Set("X-Amz-Content-Sha256", hexSHA256([]byte("hellO")))
		}, want: "SignatureDoesNotMatch"},
		{name: "hash set aside", change: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", unsignedPayload) }, want: "SignatureDoesNotMatch"},
		{name: "hash left out", change: func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }, want: "InvalidRequest"},
		{name: "path", change: func(r *http.Request) { r.RequestURI = strings.Replace(r.RequestURI, "/k", "/K", 1) }, want: "SignatureDoesNotMatch"},
		{name: "path encoded otherwise", change: func(r *http.Request) { r.RequestURI = strings.Replace(r.RequestURI, "/k", "/%6b", 1) }, want: "SignatureDoesNotMatch"},
		{name: "path with dots", change: func(r *http.Request) { r.RequestURI = strings.Replace(r.RequestURI, "/k", "/x/../k", 1) }, want: "SignatureDoesNotMatch"},
		{name: "query value", change: func(r *http.Request) { r.URL.RawQuery = "prefix=b" }, want: "SignatureDoesNotMatch"},
		{name: "query added", change: func(r *http.Request) { r.URL.RawQuery += "&versionId=1" }, want: "SignatureDoesNotMatch"},
		{name: "query doubled", change: func(r *http.Request) { r.URL.RawQuery += "&prefix=a" }, want: "SignatureDoesNotMatch"},
		{name: "method", change: func(r *http.Request) { r.Method = "DELETE" }, want: "SignatureDoesNotMatch"},
		{name: "host", change: func(r *http.Request) { r.Host = "other" }, want: "SignatureDoesNotMatch"},
		{name: "signed header", change: func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "2") }, want: "SignatureDoesNotMatch"},
		{name: "signed header left out", change: func(r *http.Request) { r.Header.Del("X-Amz-Meta-A") }, want: "SignatureDoesNotMatch"},
		{name: "amz header injected", change: func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }, want: "AccessDenied"},
		{name: "copy source injected", change: func(r *http.Request) { r.Header.Set("X-Amz-Copy-Source", "b/secret") }, want: "AccessDenied"},
		{name: "amz header twice", change: func(r *http.Request) { r.Header.Add("X-Amz-Date", "20130524T000000Z") }, want: "InvalidArgument"},
		{name: "authorization twice", change: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, want: "InvalidArgument"},
		{name: "date", change: func(r *http.Request) { r.Header.Set("X-Amz-Date", "20130524T000001Z") }, want: "SignatureDoesNotMatch"},
		{name: "date of another day", change: func(r *http.Request) { r.Header.Set("X-Amz-Date", "20130523T235959Z") }, want: "AuthorizationHeaderMalformed"},
		{name: "date with a fraction", change: func(r *http.Request) { r.Header.Set("X-Amz-Date", "20130524T000000.5Z") }, want: "AccessDenied"},
		{name: "replay in time", later: 15 * time.Minute, want: ""},
		{name: "replay too late", later: 15*time.Minute + time.Second, want: "RequestTimeTooSkewed"},
		{name: "from the future", later: -15*time.Minute - time.Second, want: "RequestTimeTooSkewed"},
		{name: "other region", change: func(r *http.Request) { auth(r, testRegion, "eu-west-1") }, want: "SignatureDoesNotMatch"},
		{name: "other service", change: func(r *http.Request) { auth(r, "/s3/", "/sts/") }, want: "AuthorizationHeaderMalformed"},
		{name: "other terminator", change: func(r *http.Request) { auth(r, "aws4_request", "aws4_requesT") }, want: "AuthorizationHeaderMalformed"},
		{name: "other algorithm", change: func(r *http.Request) { auth(r, sigV4Algorithm, "AWS4-HMAC-SHA1") }, want: "InvalidArgument"},
		{name: "signature version 2", change: func(r *http.Request) { r.Header.Set("Authorization", "AWS "+exampleKey+":c2ln") }, want: "InvalidRequest"},
		{name: "unknown key", change: func(r *http.Request) { auth(r, exampleKey, "AKIAXXXXXXXXXXXXXXXX") }, want: "InvalidAccessKeyId"},
		{name: "key of a session", change: func(r *http.Request) { auth(r, exampleKey, sessionKey) }, want: "InvalidAccessKeyId"},
		{name: "host not signed", change: func(r *http.Request) { auth(r, "host;", "") }, want: "AuthorizationHeaderMalformed"},
		{name: "header taken out of the list", change: func(r *http.Request) { auth(r, ";x-amz-meta-a", "") }, want: "AccessDenied"},
		{name: "list not sorted", change: func(r *http.Request) { auth(r, "content-length;host", "host;content-length") }, want: "AuthorizationHeaderMalformed"},
		{name: "list in capitals", change: func(r *http.Request) { auth(r, "host;", "Host;") }, want: "AuthorizationHeaderMalformed"},
		{name: "empty signature", change: func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:strings.Index(a, "Signature=")+10])
		}, want: "AuthorizationHeaderMalformed"},
		{name: "short signature", change: func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-1])
		}, want: "AuthorizationHeaderMalformed"},
		{name: "zero signature", change: func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-64]+strings.Repeat("0", 64))
		}, want: "SignatureDoesNotMatch"},
		{name: "field twice", change: func(r *http.Request) { auth(r, ", Signature=", ", Signature="+strings.Repeat("0", 64)+", Signature=") }, want: "AuthorizationHeaderMalformed"},
		{name: "both forms at once", change: func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=" + strings.Repeat("0", 64) }, want: "InvalidArgument"},
		{name: "empty authorization", change: func(r *http.Request) { r.Header.Set("Authorization", "") }, want: "InvalidArgument"},
		{name: "token stripped", key: sessionKey, change: func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }, want: "InvalidAccessKeyId"},
		{name: "token swapped", key: sessionKey, change: func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "other") }, want: "InvalidToken"},
		{name: "token with a long-term key", change: func(r *http.Request) {
			r.Header.Set("X-Amz-Security-Token", sessionToken)
			auth(r, "x-amz-meta-a", "x-amz-meta-a;x-amz-security-token")
		}, want: "InvalidToken"},
		{name: "content md5", change: func(r *http.Request) { r.Header.Set("Content-Md5", "XUFAKrxLKna5cZ2REBfFkg==") }, want: ""},
		{name: "content md5 of another body", change: func(r *http.Request) { r.Header.Set("Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg==") }, want: "BadDigest"},
		{name: "content md5 malformed", change: func(r *http.Request) { r.Header.Set("Content-Md5", "xx") }, want: "InvalidDigest"},
		{name: "percent", change: func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, want: "InvalidURI"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}
			if tt.key != "" {
				c = aws.Credentials{AccessKeyID: tt.key, SecretAccessKey: exampleSecret, SessionToken: sessionToken}
			}
			r, _ := http.NewRequest("PUT", "http://h/b/k?prefix=a", strings.NewReader("hello"))
			r.Header.Set("X-Amz-Meta-A", "1")
			signS3(t, r, c, testRegion, exampleTime, hexSHA256([]byte("hello")))
			r = asReceived(t, r)
			if tt.change != nil {
				tt.change(r)
			}
			if code, _ := verdict(r, "s3", exampleTime.Add(tt.later)); code != tt.want {
				t.Errorf("got %q, want %q", code, tt.want)
			}
		})
	}
}

// TestSigV4SessionExpiry holds that a good signature of an expired session is
// refused as that, in both forms.
func TestSigV4SessionExpiry(t *testing.T) {
	at := exampleTime.Add(time.Hour - time.Minute)
	c := aws.Credentials{AccessKeyID: sessionKey, SecretAccessKey: exampleSecret, SessionToken: sessionToken}
	for _, tt := range []struct {
		now  time.Time
		want string
	}{{at, ""}, {exampleTime.Add(time.Hour - 1), ""}, {exampleTime.Add(time.Hour), "ExpiredToken"}} {
		r, _ := http.NewRequest("GET", "http://h/b/k", nil)
		signS3(t, r, c, testRegion, at, unsignedPayload)
		if code, _ := verdict(asReceived(t, r), "s3", tt.now); code != tt.want {
			t.Errorf("header at %v: got %q, want %q", tt.now, code, tt.want)
		}
		r, _ = http.NewRequest("GET", "http://h/b/k?X-Amz-Expires=604800", nil)
		signed, _, err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).PresignHTTP(t.Context(), c, r, unsignedPayload, "s3", testRegion, at)
		if err != nil {
			t.Fatal(err)
		}
		r, _ = http.NewRequest("GET", signed, nil)
		if code, _ := verdict(asReceived(t, r), "s3", tt.now); code != tt.want {
			t.Errorf("query at %v: got %q, want %q", tt.now, code, tt.want)
		}
	}
}

func TestPresignedAttacks(t *testing.T) {
	tests := []struct {
		name     string
		expires  string
		from, to string
		header   [2]string
		later    time.Duration
		want     string
	}{
		{name: "nothing"},
		{name: "until the end", later: 599 * time.Second},
		{name: "over", later: 600 * time.Second, want: "AccessDenied"},
		{name: "not begun", later: -16 * time.Minute, want: "AccessDenied"},
		{name: "longer", from: "X-Amz-Expires=600", to: "X-Amz-Expires=6000", want: "SignatureDoesNotMatch"},
		{name: "a week", expires: "604800"},
		{name: "over a week", expires: "604801", want: "AuthorizationQueryParametersError"},
		{name: "no time", expires: "0", want: "AuthorizationQueryParametersError"},
		{name: "negative", expires: "-1", want: "AuthorizationQueryParametersError"},
		{name: "no number", expires: "1e3", want: "AuthorizationQueryParametersError"},
		{name: "overflow", expires: "99999999999999999999999999", want: "AuthorizationQueryParametersError"},
		{name: "expires twice", from: "X-Amz-Expires=600", to: "X-Amz-Expires=600&X-Amz-Expires=604800", want: "AuthorizationQueryParametersError"},
		{name: "signature twice", from: "X-Amz-Signature=", to: "X-Amz-Signature=0&X-Amz-Signature=", want: "AuthorizationQueryParametersError"},
		{name: "no signature", from: "X-Amz-Signature", to: "X-Amz-Nothing", want: "AuthorizationQueryParametersError"},
		{name: "lower case signature", from: "X-Amz-Signature", to: "x-amz-signature", want: "AuthorizationQueryParametersError"},
		{name: "key", from: "/b/k?", to: "/b/l?", want: "SignatureDoesNotMatch"},
		{name: "version asked", from: "/b/k?", to: "/b/k?versionId=2&", want: "SignatureDoesNotMatch"},
		{name: "header hoisted unsigned", from: "/b/k?", to: "/b/k?x-amz-acl=public-read&", want: "SignatureDoesNotMatch"},
		{name: "header unsigned", header: [2]string{"X-Amz-Acl", "public-read"}, want: "AccessDenied"},
		{name: "token stripped", from: "X-Amz-Security-Token=", to: "a=", want: "InvalidAccessKeyId"},
		{name: "token swapped", from: "X-Amz-Security-Token=", to: "X-Amz-Security-Token=x", want: "InvalidToken"},
		{name: "service", from: "%2Fs3%2F", to: "%2Fiam%2F", want: "AuthorizationQueryParametersError"},
		{name: "algorithm", from: "AWS4-HMAC-SHA256", to: "AWS4-ECDSA-P256-SHA256", want: "AuthorizationQueryParametersError"},
		{name: "version 2", from: "/b/k?", to: "/b/k?AWSAccessKeyId=x&Signature=y&", want: "InvalidRequest"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.expires == "" {
				tt.expires = "600"
			}
			r, _ := http.NewRequest("GET", "http://h/b/k?X-Amz-Expires="+tt.expires, nil)
			c := aws.Credentials{AccessKeyID: sessionKey, SecretAccessKey: exampleSecret, SessionToken: sessionToken}
			signed, _, err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).PresignHTTP(t.Context(), c, r, unsignedPayload, "s3", testRegion, exampleTime)
			if err != nil {
				t.Fatal(err)
			}
			if tt.from != "" && !strings.Contains(signed, tt.from) {
				t.Fatalf("%s does not hold %s", signed, tt.from)
			}
			r, _ = http.NewRequest("GET", strings.Replace(signed, tt.from, tt.to, 1), nil)
			if tt.header[0] != "" {
				r.Header.Set(tt.header[0], tt.header[1])
			}
			if code, _ := verdict(asReceived(t, r), "s3", exampleTime.Add(tt.later)); code != tt.want {
				t.Errorf("got %q, want %q", code, tt.want)
			}
		})
	}
}

// TestSigV4Query holds the query protocol's own names for the refusals.
func TestSigV4Query(t *testing.T) {
	tests := []struct {
		name   string
		change func(r *http.Request)
		later  time.Duration
		want   string
	}{
		{name: "body", change: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("Action=DeleteUser")) }, want: "SignatureDoesNotMatch"},
		{name: "hash of the old body kept", change: func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", hexSHA256([]byte("Action=GetUser")))
			r.Body = io.NopCloser(strings.NewReader("Action=DeleteUser"))
		}, want: "IncompleteSignature"},
		{name: "late", later: 16 * time.Minute, want: "SignatureDoesNotMatch"},
		{name: "unknown key", change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), exampleKey, "AKIAX", 1))
		}, want: "InvalidClientTokenId"},
		{name: "service", change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/iam/", "/sts/", 1))
		}, want: "SignatureDoesNotMatch"},
		{name: "malformed", change: func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }, want: "IncompleteSignature"},
		{name: "body too long", change: func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Repeat("a", maxQueryBody+1)))
		}, want: "RequestEntityTooLarge"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := http.NewRequest("POST", "http://h/", strings.NewReader("Action=GetUser"))
			signQuery(t, r, "iam")
			r = asReceived(t, r)
			if tt.change != nil {
				tt.change(r)
			}
			if code, _ := verdict(r, "iam", exampleTime.Add(tt.later)); code != tt.want {
				t.Errorf("got %q, want %q", code, tt.want)
			}
		})
	}
}

// TestSigV4PresignedQuery holds that a presigned STS request lasts 15 minutes
// at most, whatever it says.
func TestSigV4PresignedQuery(t *testing.T) {
	for _, tt := range []struct {
		expires string
		later   time.Duration
		want    string
	}{
		{"", 14 * time.Minute, ""}, {"", 15 * time.Minute, "SignatureDoesNotMatch"}, {"&X-Amz-Expires=60", time.Minute, "SignatureDoesNotMatch"},
		{"&X-Amz-Expires=60", 59 * time.Second, ""}, {"&X-Amz-Expires=604800", 16 * time.Minute, "SignatureDoesNotMatch"}, {"&X-Amz-Expires=", 0, "IncompleteSignature"},
	} {
		r, _ := http.NewRequest("GET", "http://h/?Action=GetCallerIdentity&Version=2011-06-15"+tt.expires, nil)
		signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}, r, hexSHA256(nil), "sts", testRegion, exampleTime)
		if err != nil {
			t.Fatal(err)
		}
		r, _ = http.NewRequest("GET", signed, nil)
		if code, _ := verdict(asReceived(t, r), "sts", exampleTime.Add(tt.later)); code != tt.want {
			t.Errorf("expires %q, %v later: got %q, want %q", tt.expires, tt.later, code, tt.want)
		}
	}
}

// FuzzSigV4 holds that no Authorization header or presigned query is accepted
// that was not made with the secret, and that none crashes the parser.
func FuzzSigV4(f *testing.F) {
	f.Fuzz(func(t *testing.T, header, query, date string) {
		r := httptest.NewRequest("GET", "/b/k", nil)
		r.URL.RawQuery = query
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		r.Header.Set("X-Amz-Date", date)
		r.Header.Set("X-Amz-Content-Sha256", unsignedPayload)
		sig, e := verifySigV4(r, "s3", exampleTime, lookupExample)
		if e == nil && !sig.anonymous {
			t.Errorf("accepted Authorization %q, query %q, date %q", header, query, date)
		}
		if e != nil && (e.Status < 400 || e.Code == "" || e.Message == "") {
			t.Errorf("got an empty refusal %+v", e)
		}
		if params, err := parseQuery(query); err == nil {
			again, err := parseQuery(canonicalQuery(params, false))
			if err != nil || len(again) != len(params) {
				t.Errorf("query %q: canonical form reads as %v, %v; want %v", query, again, err, params)
			}
		}
	})
}

// TestS3Seeds fails where a fuzz target has lost its seeds.
func TestS3Seeds(t *testing.T) {
	for _, name := range []string{"FuzzSigV4", "FuzzAWSChunked", "FuzzS3Path"} {
		seeds, err := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*"))
		if err != nil || len(seeds) == 0 {
			t.Errorf("%s has no seeds: %v", name, err)
		}
		for _, seed := range seeds {
			if data, err := os.ReadFile(seed); err != nil || !strings.HasPrefix(string(data), "go test fuzz v1\n") {
				t.Errorf("%s: not a seed: %v", seed, err)
			}
		}
	}
}
