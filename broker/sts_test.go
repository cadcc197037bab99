package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/broker"
	"agentkeys/token"
)

func newSTS(t testing.TB, endpoint string) *broker.STS {
	t.Helper()
	s, err := broker.NewSTS(broker.STSConfig{Region: "us-east-1", Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cloud is a broker, a local AWS that trusts it, and a way to its STS.
type cloud struct {
	*agentkeystest.Broker
	aws *agentkeystest.AWS
	sts *broker.STS
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	k, a := agentkeystest.NewWithAWS(t)
	s, err := broker.NewSTS(broker.STSConfig{Region: agentkeystest.Region, Endpoint: a.URL, Now: k.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return &cloud{k, a, s}
}

// call asks for a session of a tenant that reaches one folder of its prefix.
func (c *cloud) call(jwt token.Secret, folder string) broker.AssumeRole {
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []map[string]any{
		{"Effect": "Allow", "Action": []string{"s3:GetObject", "s3:PutObject"}, "Resource": c.aws.Config.BucketARN() + "/" + folder + "*"},
	}})
	if err != nil {
		panic(err) // of strings alone
	}
	return broker.AssumeRole{RoleARN: c.aws.Config.RoleARN(), SessionName: "agentkeys-test", Policy: string(policy), Token: jwt, Duration: 15 * time.Minute}
}

const tenant = "0x00000000000000000000000000000000000000aa"

// Credentials of the real local AWS work, and reach what the session policy says
// and no more of the tenant's prefix.
func TestSTSGivesCredentials(t *testing.T) {
	c := newCloud(t)
	jwt, _, err := c.Identities.Mint(tenant, c.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	own := c.aws.Config.TenantPrefix(tenant)
	got, err := c.sts.AssumeRole(t.Context(), c.call(jwt, own+"granted/"))
	if err != nil {
		t.Fatal(err)
	}
	if left := got.ExpiresAt.Sub(c.Clock.Now()); left < 14*time.Minute || left > 15*time.Minute || got.ExpiresAt.Location() != time.UTC {
		t.Errorf("want 15 minutes and UTC, got %v, %v", left, got.ExpiresAt)
	}
	if !strings.HasPrefix(got.AccessKeyID, "ASIA") || len(got.RequestID) != 36 {
		t.Errorf("want a session's key and a request id, got %q and %q", got.AccessKeyID, got.RequestID)
	}
	if text := fmt.Sprintf("%+v %#v", got, got); strings.Contains(text, got.SecretAccessKey.Reveal()) || strings.Contains(text, got.SessionToken.Reveal()) {
		t.Error("the credentials print")
	}
	agent := c.aws.S3(api.MintAWSResponse{AccessKeyID: got.AccessKeyID, SecretAccessKey: got.SecretAccessKey.Reveal(), SessionToken: got.SessionToken.Reveal()})
	put := func(key string) error {
		_, err := agent.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.aws.Config.Bucket, Key: &key, Body: strings.NewReader("x")})
		return err
	}
	if err := put(own + "granted/note"); err != nil {
		t.Errorf("the granted path: %v", err)
	}
	var api smithy.APIError
	for _, key := range []string{own + "other/note", c.aws.Config.TenantPrefix("0x00000000000000000000000000000000000000bb") + "granted/note"} {
		if err := put(key); !errors.As(err, &api) || api.ErrorCode() != "AccessDenied" {
			t.Errorf("%s: want AccessDenied, got %v", key, err)
		}
	}
}

// The local AWS's refusals arrive as it words them.
func TestSTSIsRefused(t *testing.T) {
	c := newCloud(t)
	for name, test := range map[string]struct {
		mint          func(string, time.Time) (token.Secret, token.WebIdentity, error)
		change        func(*broker.AssumeRole)
		status        int
		code, message string
	}{
		"untagged":     {c.Identities.MintUntagged, nil, 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		"another role": {c.Identities.Mint, func(a *broker.AssumeRole) { a.RoleARN += "2" }, 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		"expired": {func(tag string, now time.Time) (token.Secret, token.WebIdentity, error) {
			return c.Identities.Mint(tag, now.Add(-time.Hour))
		}, nil, 400, "ExpiredTokenException", "Token expired: "},
		"no policy to read": {c.Identities.Mint, func(a *broker.AssumeRole) { a.Policy = "{}" }, 400, "MalformedPolicyDocument", ""},
		"too long":          {c.Identities.Mint, func(a *broker.AssumeRole) { a.Duration = 12 * time.Hour }, 400, "ValidationError", "MaxSessionDuration"},
	} {
		t.Run(name, func(t *testing.T) {
			jwt, _, err := test.mint(tenant, c.Clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			a := c.call(jwt, c.aws.Config.TenantPrefix(tenant))
			if test.change != nil {
				test.change(&a)
			}
			got, err := c.sts.AssumeRole(t.Context(), a)
			e := failure(t, got, err)
			if e.Code != test.code || e.Status != test.status || !strings.Contains(e.Message, test.message) || len(e.RequestID) != 36 || e.Unknown || e.Attempts != 1 {
				t.Errorf("want %d %s: %s, got %+v", test.status, test.code, test.message, e)
			}
		})
	}
}

// What STS would refuse, and above all a call without a session policy, never
// leaves; the error is of another kind and shows no token.
func TestSTSChecksTheCall(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	s := newSTS(t, server.URL)
	for name, change := range map[string]func(*broker.AssumeRole){
		"session policy: want one":       func(a *broker.AssumeRole) { a.Policy = "" },
		"session policy: want one, got":  func(a *broker.AssumeRole) { a.Policy = " \n\t" },
		"want at most 2048 characters":   func(a *broker.AssumeRole) { a.Policy = `{"a":"` + strings.Repeat("é", 2048) + `"}` },
		"web identity token: want one":   func(a *broker.AssumeRole) { a.Token = token.Secret{} },
		"want at most 20000 characters":  func(a *broker.AssumeRole) { a.Token = token.NewSecret(strings.Repeat("x", 20001)) },
		`role: want arn`:                 func(a *broker.AssumeRole) { a.RoleARN = "agentkeys-data-role" },
		`got "arn:aws:iam::1:user/x"`:    func(a *broker.AssumeRole) { a.RoleARN = "arn:aws:iam::1:user/x" },
		`got "arn:aws:iam::1:role/x y"`:  func(a *broker.AssumeRole) { a.RoleARN = "arn:aws:iam::1:role/x\ny" },
		`session name: want 2 to 64`:     func(a *broker.AssumeRole) { a.SessionName = "" },
		`A-Z a-z 0-9 _ + = , . @ -, got`: func(a *broker.AssumeRole) { a.SessionName = "a" },
		`got "a/b"`:                      func(a *broker.AssumeRole) { a.SessionName = "a/b" },
		`got "agénts"`:                   func(a *broker.AssumeRole) { a.SessionName = "agénts" },
		`got "ab"`:                       func(a *broker.AssumeRole) { a.SessionName = "ab\n" },
		"xxxxxx":                         func(a *broker.AssumeRole) { a.SessionName = strings.Repeat("x", 65) },
		`got "[secret]"`:                 func(a *broker.AssumeRole) { a.SessionName = stsJWT },
		`role/[secret]"`:                 func(a *broker.AssumeRole) { a.RoleARN = "arn:aws:iam::111122223333:role/" + stsJWT },
		"got 14m59s":                     func(a *broker.AssumeRole) { a.Duration = 899 * time.Second },
		"got 12h0m1s":                    func(a *broker.AssumeRole) { a.Duration = 43201 * time.Second },
		"got 15m0.5s":                    func(a *broker.AssumeRole) { a.Duration = 900*time.Second + 500*time.Millisecond },
		"got 0s":                         func(a *broker.AssumeRole) { a.Duration = 0 },
	} {
		a := goodCall()
		change(&a)
		c, err := s.AssumeRole(t.Context(), a)
		var e *broker.STSError
		if err == nil || errors.As(err, &e) || !strings.Contains(err.Error(), name) || c != (broker.Credentials{}) {
			t.Errorf("want %q and no STSError, got %v", name, err)
			continue
		}
		noSecrets(t, err.Error())
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("want no request, got %d", n)
	}
}

// The token leaves under TLS, or not at all.
func TestNewSTS(t *testing.T) {
	for _, endpoint := range []string{"", "https://sts.example.com", "https://sts.example.com:8443/", "http://127.0.0.1:4566", "http://localhost:1", "http://[::1]:1/"} {
		if _, err := broker.NewSTS(broker.STSConfig{Region: "eu-central-1", Endpoint: endpoint}); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	for _, c := range []broker.STSConfig{
		{Region: ""}, {Region: "us-east-1.example.com/"}, {Region: "US-EAST-1"}, {Region: "us-east-1", Timeout: -1},
		{Region: "us-east-1", Endpoint: "http://sts.us-east-1.amazonaws.com"}, {Region: "us-east-1", Endpoint: "http://10.0.0.1"},
		{Region: "us-east-1", Endpoint: "http://127.0.0.1.example.com"}, {Region: "us-east-1", Endpoint: "http://localhost.example.com"},
		{Region: "us-east-1", Endpoint: "ftp://127.0.0.1"}, {Region: "us-east-1", Endpoint: "127.0.0.1:80"}, {Region: "us-east-1", Endpoint: "https://"},
		{Region: "us-east-1", Endpoint: "https://user:hunter22@sts.example.com"}, {Region: "us-east-1", Endpoint: "https://user:hunter22@sts.example.com:x"},
		{Region: "us-east-1", Endpoint: "https://sts.example.com/?a"}, {Region: "us-east-1", Endpoint: "https://sts.example.com/#"},
		{Region: "us-east-1", Endpoint: "https://sts.example.com/path"},
	} {
		if s, err := broker.NewSTS(c); err == nil || s != nil || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%+v: want a refusal without the password, got %v", c, err)
		}
	}
}

// Without an endpoint of its own the call goes to AWS's of the region, whatever the
// environment says, with no credentials of anybody: not those of the environment,
// not a profile's, not an instance's.
func TestSTSLooksNowhere(t *testing.T) {
	var others atomic.Int32
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { others.Add(1) }))
	defer trap.Close()
	profile := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(profile, []byte("[default]\nregion = eu-west-1\nendpoint_url = "+trap.URL+"\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "y", "AWS_PROFILE": "default",
		"AWS_CONFIG_FILE": profile, "AWS_SHARED_CREDENTIALS_FILE": profile, "AWS_ENDPOINT_URL": trap.URL, "AWS_ENDPOINT_URL_STS": trap.URL,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": trap.URL, "AWS_CONTAINER_CREDENTIALS_FULL_URI": trap.URL, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1",
		"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_STS_REGIONAL_ENDPOINTS": "legacy", "AWS_MAX_ATTEMPTS": "9", "AWS_NEW_RETRIES_2026": "true",
		"AWS_LAMBDA_FUNCTION_NAME": "f", "_X_AMZN_TRACE_ID": "Root=1", "AWS_EXECUTION_ENV": "AWS_Lambda", "AWS_SDK_UA_APP_ID": "app",
	} {
		t.Setenv(name, value)
	}
	sts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		checkRequest(t, r)
		if r.Host != "sts.ap-south-1.amazonaws.com" {
			t.Errorf("want the region's own host, got %s", r.Host)
		}
		gives(goodMembers())(w, r)
	}))
	defer sts.Close()
	client := sts.Client()
	transport := client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != "sts.ap-south-1.amazonaws.com:443" {
			t.Errorf("want a connection to the region's own endpoint, got one to %s", addr)
		}
		return new(net.Dialer).DialContext(ctx, network, sts.Listener.Addr().String())
	}
	transport.TLSClientConfig.ServerName = "example.com" // of the test server's certificate
	s, err := broker.NewSTS(broker.STSConfig{Region: "ap-south-1", HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AssumeRole(t.Context(), goodCall()); err != nil || others.Load() != 0 {
		t.Errorf("want credentials and no other request, got %v and %d", err, others.Load())
	}
}

// Sixty-four callers share as many connections and make no more.
func TestSTSReusesConnections(t *testing.T) {
	const callers, rounds = 64, 4
	var opened atomic.Int32
	var arrived [rounds]sync.WaitGroup
	for i := range arrived {
		arrived[i].Add(callers)
	}
	var round atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		here := &arrived[round.Load()]
		here.Done()
		here.Wait() // until all are under way at once
		gives(goodMembers())(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := newSTS(t, server.URL)
	for i := range rounds {
		round.Store(int32(i))
		var calls sync.WaitGroup
		for range callers {
			calls.Go(func() {
				if _, err := s.AssumeRole(t.Context(), goodCall()); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	if n := opened.Load(); n != callers {
		t.Errorf("want %d connections, got %d", callers, n)
	}
}

// BenchmarkAssumeRole is a call with its answer, the server in the same process,
// beside the same call with net/http and encoding/xml alone.
func BenchmarkAssumeRole(b *testing.B) {
	answer := goodMembers().with("Expiration", "2999-01-01T00:00:00Z").with("SessionToken", strings.Repeat("FwoGZXIvYXdz", 60)).xml()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		says(http.StatusOK, answer)(w, r)
	}))
	defer server.Close()
	a := goodCall()
	b.Run("sts", func(b *testing.B) {
		s := newSTS(b, server.URL)
		defer reportCPU(b)()
		for b.Loop() {
			if _, err := s.AssumeRole(b.Context(), a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("raw", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{}}
		defer reportCPU(b)()
		for b.Loop() {
			if err := rawAssumeRole(b.Context(), client, server.URL, a); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// reportCPU adds the processor's time per call, which a busy machine changes less
// than the clock's. It has the server's share in it.
func reportCPU(b *testing.B) func() {
	b.ReportAllocs()
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N)/1e3, "cpu-µs/op") }
}

func rawAssumeRole(ctx context.Context, client *http.Client, endpoint string, a broker.AssumeRole) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {a.RoleARN}, "RoleSessionName": {a.SessionName},
		"Policy": {a.Policy}, "WebIdentityToken": {a.Token.Reveal()}, "DurationSeconds": {"900"},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	var read struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken, Expiration string } `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
	}
	if err := xml.NewDecoder(bytes.NewReader(body)).Decode(&read); err != nil {
		return err
	}
	if read.Credentials.SecretAccessKey != stsSecret {
		return errors.New("no credentials")
	}
	return nil
}
