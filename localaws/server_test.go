package localaws

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"github.com/go-jose/go-jose/v4"
)

const (
	testAccount = "123456789012"
	testRegion  = "us-east-1"
	testClient  = "sts.amazonaws.com"
	roleName    = "data-role"
	roleARN     = "arn:aws:iam::" + testAccount + ":role/" + roleName
)

// account is a local AWS on a loopback port, with a clock that can be set.
type account struct {
	t      *testing.T
	dir    string
	server *Server
	url    string
	offset atomic.Int64 // of the clock, in nanoseconds
	frozen atomic.Pointer[time.Time]
	client *http.Client // of the server, for issuers
	issuer *issuerSite
	trail  string // folder of the CloudTrail; "" for none
	stop   func()
}

func (a *account) now() time.Time {
	if at := a.frozen.Load(); at != nil {
		return *at
	}
	return time.Now().Add(time.Duration(a.offset.Load()))
}

func (a *account) config() Config {
	return Config{Dir: a.dir, Account: testAccount, Region: testRegion, Now: a.now, HTTPClient: a.client, CloudTrail: a.trail}
}

func newAccount(t *testing.T) *account { return newAccountWith(t, nil) }

func newAccountWith(t *testing.T, client *http.Client) *account {
	t.Helper()
	a := &account{t: t, dir: t.TempDir(), client: client}
	if err := Create(a.config()); err != nil {
		t.Fatal(err)
	}
	a.open()
	return a
}

func (a *account) open() {
	a.t.Helper()
	s, err := Open(a.config())
	if err != nil {
		a.t.Fatal(err)
	}
	a.server = s
	site := httptest.NewServer(s)
	a.url = site.URL
	a.stop = sync.OnceFunc(func() {
		site.Close()
		if err := s.Close(); err != nil {
			a.t.Error(err)
		}
	})
	a.t.Cleanup(a.stop)
}

func (a *account) sdk(id, secret, token string) aws.Config {
	return aws.Config{Region: testRegion, BaseEndpoint: &a.url, Credentials: credentials.NewStaticCredentialsProvider(id, secret, token),
		Retryer: func() aws.Retryer { return aws.NopRetryer{} }, HTTPClient: plainBodies{awshttp.NewBuildableClient()}}
}

// plainBodies hides the WriteTo of the SDK's request bodies. The SDK closes a body as
// soon as it has an answer; net/http may then still be looking for the body's end, and
// takes what WriteTo says after Close for a failure, with which it hangs up on the
// answer. Clients that ask again do not notice.
type plainBodies struct{ aws.HTTPClient }

func (c plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return c.HTTPClient.Do(r)
}

func (a *account) adminSDK() aws.Config {
	id, secret := a.server.AdminCredentials()
	return a.sdk(id, secret, "")
}

func (a *account) iam() *iam.Client { return iam.NewFromConfig(a.adminSDK()) }
func (a *account) sts() *sts.Client { return sts.NewFromConfig(a.adminSDK()) }

func (a *account) sessionSDK(c *ststypes.Credentials) aws.Config {
	return a.sdk(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
}

// issuerSite is an OIDC issuer on a loopback port: discovery and key set, and
// the private keys to sign with.
type issuerSite struct {
	url       string
	mu        sync.Mutex // guards the rest
	keys      []map[string]any
	discovery map[string]any
	fetches   int
	delay     time.Duration
	redirect  bool
}

func newIssuerSite(t *testing.T) *issuerSite {
	i := &issuerSite{}
	site := httptest.NewServer(i)
	t.Cleanup(site.Close)
	i.url = site.URL
	i.discovery = map[string]any{"issuer": i.url, "jwks_uri": i.url + "/jwks", "response_types_supported": []string{"id_token"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"}}
	return i
}

func (i *issuerSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	select {
	case <-time.After(i.delay):
	case <-r.Context().Done():
		return
	}
	switch {
	case i.redirect && r.URL.Path == "/jwks":
		http.Redirect(w, r, "/moved", http.StatusFound)
	case r.URL.Path == "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(i.discovery)
	case r.URL.Path == "/jwks" || r.URL.Path == "/moved":
		i.fetches++
		json.NewEncoder(w).Encode(map[string]any{"keys": i.keys})
	default:
		http.NotFound(w, r)
	}
}

func (i *issuerSite) name() string { return strings.TrimPrefix(i.url, "http://") }

// publish adds a public key to the set, with more members where given.
func (i *issuerSite) publish(kid string, key crypto.PublicKey, members map[string]any) {
	b, err := (&jose.JSONWebKey{Key: key, KeyID: kid}).MarshalJSON()
	if err != nil {
		panic(err)
	}
	jwk := map[string]any{}
	if err := json.Unmarshal(b, &jwk); err != nil {
		panic(err)
	}
	maps.Copy(jwk, members)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, jwk)
}

func (i *issuerSite) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuerSite) fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

var (
	testEC  = mustEC(elliptic.P256())
	testRSA = mustRSA()
)

func mustEC(curve elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func mustRSA() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// sign makes a compact JWS of any payload. An empty kid leaves it out.
func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, payload []byte) string {
	t.Helper()
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		opts = opts.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// claims are those of a good token; a nil value in change takes one away.
func (a *account) claims(change map[string]any) map[string]any {
	now := a.now().Unix()
	c := map[string]any{"iss": a.issuer.url, "sub": "agentkeys:agent:" + walletA, "aud": testClient, "iat": now, "nbf": now, "exp": now + 300,
		tagsClaim: map[string]any{"principal_tags": map[string]any{"agentkeys_user_wallet": []string{walletA}}}}
	for k, v := range change {
		if v == absent {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

const (
	absent  = "\x00absent"
	walletA = "0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// token signs a good token, changed as wanted, with the EC key.
func (a *account) token(change map[string]any) string {
	a.t.Helper()
	payload, err := json.Marshal(a.claims(change))
	if err != nil {
		a.t.Fatal(err)
	}
	return sign(a.t, jose.ES256, testEC, "ec", payload)
}

// federate registers the issuer and makes a role that trusts it, tags included.
func (a *account) federate() {
	a.t.Helper()
	a.issuer = newIssuerSite(a.t)
	a.issuer.publish("ec", testEC.Public(), nil)
	a.issuer.publish("rsa", testRSA.Public(), nil)
	ctx := context.Background()
	if _, err := a.iam().CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: &a.issuer.url, ClientIDList: []string{testClient}}); err != nil {
		a.t.Fatal(err)
	}
	a.createRole(roleName, a.trust(`"sts:AssumeRoleWithWebIdentity","sts:TagSession"`, ""))
}

func (a *account) createRole(name, trust string) {
	a.t.Helper()
	if _, err := a.iam().CreateRole(context.Background(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust}); err != nil {
		a.t.Fatal(err)
	}
}

func (a *account) setTrust(trust string) {
	a.t.Helper()
	_, err := a.iam().UpdateAssumeRolePolicy(context.Background(), &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String(roleName), PolicyDocument: &trust})
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *account) providerARN() string {
	return "arn:aws:iam::" + testAccount + ":oidc-provider/" + a.issuer.name()
}

func (a *account) trust(actions, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + a.providerARN() + `"},"Action":[` + actions + `]` + condition + `}]}`
}

// assume exchanges a token through the SDK; extra parameters by change.
func (a *account) assume(token string, change ...func(*sts.AssumeRoleWithWebIdentityInput)) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String("agent"), WebIdentityToken: &token}
	for _, f := range change {
		f(in)
	}
	return sts.NewFromConfig(aws.Config{Region: testRegion, BaseEndpoint: &a.url, Retryer: func() aws.Retryer { return aws.NopRetryer{} }}).
		AssumeRoleWithWebIdentity(context.Background(), in)
}

func (a *account) mustAssume(token string, change ...func(*sts.AssumeRoleWithWebIdentityInput)) *ststypes.Credentials {
	a.t.Helper()
	out, err := a.assume(token, change...)
	if err != nil {
		a.t.Fatal(err)
	}
	return out.Credentials
}

// wantError checks the code of an SDK error and a part of its message.
func wantError(t *testing.T, err error, code, message string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) {
		t.Fatalf("want %s, got %v", code, err)
	}
	got := strings.TrimSuffix(e.ErrorCode(), "Exception")
	if got != strings.TrimSuffix(code, "Exception") || !strings.Contains(e.ErrorMessage(), message) {
		t.Fatalf("want %s: …%s…, got %s: %s", code, message, e.ErrorCode(), e.ErrorMessage())
	}
}

// reply is a raw answer of the query protocol.
type reply struct {
	status  int
	code    string
	message string
	body    string
}

func (a *account) send(r *http.Request) reply {
	a.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if resp.Header.Get("X-Amzn-Requestid") == "" {
		a.t.Errorf("the answer has no X-Amzn-Requestid")
	}
	out := reply{status: resp.StatusCode, body: string(body)}
	if resp.StatusCode != http.StatusOK {
		var e xmlError
		if err := xml.Unmarshal(body, &e); err != nil {
			a.t.Fatalf("error document %q: %v", body, err)
		}
		out.code, out.message = e.Code, e.Message
	}
	return out
}

// post sends a form without a signature.
func (a *account) post(form string) reply {
	a.t.Helper()
	r, _ := http.NewRequest(http.MethodPost, a.url+"/", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return a.send(r)
}

// signed sends a form signed for a service with any credentials.
func (a *account) signed(service string, c aws.Credentials, form string) reply {
	a.t.Helper()
	r, _ := http.NewRequest(http.MethodPost, a.url+"/", bytes.NewReader([]byte(form)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if err := v4.NewSigner().SignHTTP(context.Background(), c, r, hexSHA256([]byte(form)), service, testRegion, a.now()); err != nil {
		a.t.Fatal(err)
	}
	return a.send(r)
}

func (a *account) adminCredentials() aws.Credentials {
	id, secret := a.server.AdminCredentials()
	return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}
}

func sessionCredentials(c *ststypes.Credentials) aws.Credentials {
	return aws.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}
}

func webIdentityForm(token string) url.Values {
	return url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {stsVersion}, "RoleArn": {roleARN}, "RoleSessionName": {"agent"}, "WebIdentityToken": {token}}
}

const callerIdentity = "Action=GetCallerIdentity&Version=" + stsVersion

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestProtocolRefusals(t *testing.T) {
	a := newAccount(t)
	admin := a.adminCredentials()
	for _, test := range []struct {
		name, form string
		status     int
		code       string
	}{
		{"no action", "Version=" + stsVersion, 400, "MissingAction"},
		{"no version", "Action=GetCallerIdentity", 400, "MissingParameter"},
		{"unknown action", "Action=GetNothing&Version=" + stsVersion, 400, "InvalidAction"},
		{"unknown version", "Action=GetCallerIdentity&Version=2000-01-01", 400, "InvalidAction"},
		{"action of the other service", "Action=ListRoles&Version=" + stsVersion, 400, "InvalidAction"},
		{"no signature", callerIdentity, 403, "MissingAuthenticationToken"},
		{"twice the same parameter", callerIdentity + "&Action=AssumeRole", 400, "MalformedInput"},
		{"broken escape", callerIdentity + "&x=%zz", 400, "MalformedInput"},
		{"not UTF-8", callerIdentity + "&x=%ff", 400, "MalformedInput"},
		{"too many parameters", callerIdentity + strings.Repeat("&x=1", maxParams), 400, "MalformedInput"},
		{"too long", callerIdentity + "&x=" + strings.Repeat("a", maxQueryBody), 413, "RequestEntityTooLarge"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := a.post(test.form)
			if got.status != test.status || got.code != test.code || got.message == "" {
				t.Errorf("want %d %s with a message, got %+v", test.status, test.code, got)
			}
		})
	}
	t.Run("signed for the other service", func(t *testing.T) {
		if got := a.signed("iam", admin, callerIdentity); got.status != 403 || got.code != "SignatureDoesNotMatch" {
			t.Errorf("want 403 SignatureDoesNotMatch, got %+v", got)
		}
	})
	t.Run("what is shown back is escaped", func(t *testing.T) {
		got := a.post("Action=" + url.QueryEscape("</Message></Error><Error><Code>Fine</Code>") + "&Version=" + stsVersion)
		if got.code != "InvalidAction" || strings.Contains(got.body, "<Code>Fine") {
			t.Errorf("want InvalidAction with the action escaped, got %+v", got)
		}
	})
	t.Run("a wrong region", func(t *testing.T) {
		cfg := a.adminSDK()
		cfg.Region = "eu-west-1"
		_, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), nil)
		wantError(t, err, "SignatureDoesNotMatch", "us-east-1")
	})
}

func TestGetCallerIdentity(t *testing.T) {
	a := newAccount(t)
	got, err := a.sts().GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *got.Account != testAccount || *got.Arn != "arn:aws:iam::"+testAccount+":user/admin" || !strings.HasPrefix(*got.UserId, "AIDA") {
		t.Errorf("got %s %s %s", *got.Account, *got.Arn, *got.UserId)
	}
}

func (a *account) putRolePolicy(name, document string) {
	a.t.Helper()
	_, err := a.iam().PutRolePolicy(context.Background(), &iam.PutRolePolicyInput{RoleName: aws.String(roleName), PolicyName: &name, PolicyDocument: &document})
	if err != nil {
		a.t.Fatal(err)
	}
}

func iamTags(pairs ...string) []iamtypes.Tag {
	var tags []iamtypes.Tag
	for i := 0; i < len(pairs); i += 2 {
		tags = append(tags, iamtypes.Tag{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return tags
}

func unescape(t *testing.T, text string) string {
	t.Helper()
	out, err := url.PathUnescape(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPresigned calls STS with a signature in the query, as EKS and others do
// to prove who they are.
func TestPresigned(t *testing.T) {
	a := newAccount(t)
	a.federate()
	for name, cfg := range map[string]aws.Config{"user": a.adminSDK(), "session": a.sessionSDK(a.mustAssume(a.token(nil)))} {
		t.Run(name, func(t *testing.T) {
			who := must[aws.Credentials](t)(cfg.Credentials.Retrieve(t.Context()))
			r, _ := http.NewRequest(http.MethodGet, a.url+"/?X-Amz-Expires=60&"+callerIdentity, nil)
			signedURL, _, err := v4.NewSigner().PresignHTTP(t.Context(), who, r, hexSHA256(nil), "sts", testRegion, a.now())
			if err != nil {
				t.Fatal(err)
			}
			get := func(url string) reply {
				r, _ := http.NewRequest(http.MethodGet, url, nil)
				return a.send(r)
			}
			if got := get(signedURL); got.status != 200 {
				t.Errorf("want 200, got %+v", got)
			}
			if got := get(strings.Replace(signedURL, "GetCallerIdentity", "AssumeRole", 1)); got.status != 403 || got.code != "SignatureDoesNotMatch" {
				t.Errorf("another action: want 403 SignatureDoesNotMatch, got %+v", got)
			}
		})
	}
}
