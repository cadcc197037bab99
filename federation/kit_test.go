package federation

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"

	"agentkeys/localaws"
	"agentkeys/policy"
)

// actorOf says whose session signed a request.
func (a *account) actorOf(r *http.Request) string {
	m := keyIn.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.actors[m[1]]
}

// issuer is an OpenID provider that signs what it is told.
type issuer struct {
	url    string
	signer jose.Signer
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signing := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}
	i := &issuer{}
	if i.signer, err = jose.NewSigner(signing, (&jose.SignerOptions{}).WithType("JWT")); err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/jwks", "response_types_supported": []string{"id_token"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		public := jose.JSONWebKey{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

// minter gives tokens for a tenant; an edit changes the claims before signing.
func (i *issuer) minter(t testing.TB, tag string, edits ...func(map[string]any)) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		now := time.Now()
		claims := map[string]any{
			"iss": i.url, "sub": "agentkeys:agent:" + tag, "aud": DefaultAudience,
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": rand.Text(),
			DefaultTagKey: tag,
			tagsClaim: map[string]any{
				"principal_tags": map[string][]string{DefaultTagKey: {tag}}, "transitive_tag_keys": []string{DefaultTagKey},
			},
		}
		for _, edit := range edits {
			edit(claims)
		}
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := i.signer.Sign(text)
		if err != nil {
			t.Fatal(err)
		}
		return signed.CompactSerialize()
	}
}

func withoutTags(claims map[string]any) { delete(claims, tagsClaim) }

// account is a local AWS with an issuer.
type account struct {
	config Config
	url    string
	aws    AWS
	issuer *issuer
	local  *localaws.Server
	// intercept, where set, may answer a request in place of the local AWS; it
	// reports whether it did. The actor is the tenant's name, "untagged", or ""
	// for the administrator.
	intercept func(actor string, w http.ResponseWriter, r *http.Request) bool
	mu        sync.Mutex        // guards actors
	actors    map[string]string // access key id to actor
	// ahead is how far AWS's clock is from this machine's, in nanoseconds.
	ahead atomic.Int64
}

// now is AWS's clock.
func (a *account) now() time.Time { return time.Now().Add(time.Duration(a.ahead.Load())) }

var (
	sessionIn = regexp.MustCompile(`RoleSessionName=proof-([a-z]+)`)
	keyOut    = regexp.MustCompile(`<AccessKeyId>(\w+)</AccessKeyId>`)
	keyIn     = regexp.MustCompile(`Credential=(\w+)/`)
)

// ServeHTTP stands between the prover and the local AWS. It learns from STS whose
// session is whose.
func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", a.now().UTC().Format(http.TimeFormat))
	actor, isSTS := "", false
	if r.Method == http.MethodPost && r.URL.Path == "/" && r.Header.Get("Authorization") == "" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if m := sessionIn.FindSubmatch(body); m != nil {
			actor, isSTS = string(m[1]), true
		}
	} else {
		actor = a.actorOf(r)
	}
	if a.intercept != nil && a.intercept(actor, w, r) {
		return
	}
	if !isSTS {
		a.local.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	a.local.ServeHTTP(answer, r)
	if m := keyOut.FindSubmatch(answer.Body.Bytes()); m != nil {
		a.mu.Lock()
		a.actors[string(m[1])] = actor
		a.mu.Unlock()
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func newAccount(t testing.TB) *account {
	t.Helper()
	a := &account{issuer: newIssuer(t), actors: map[string]string{}}
	a.config = Config{
		Issuer: a.issuer.url, Account: "000011112222", Region: "us-east-1", Role: DefaultRole,
		Bucket: "agentkeys-test", Prefix: DefaultPrefix, TagKey: DefaultTagKey, Audience: DefaultAudience,
	}
	conf := localaws.Config{Dir: t.TempDir(), Account: a.config.Account, Region: a.config.Region, Now: a.now}
	if err := localaws.Create(conf); err != nil {
		t.Fatal(err)
	}
	var err error
	if a.local, err = localaws.Open(conf); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a)
	t.Cleanup(func() {
		server.Close()
		if err := a.local.Close(); err != nil {
			t.Error(err)
		}
	})
	a.url = server.URL
	a.aws = a.admin()
	return a
}

// admin is the account's administrator.
func (a *account) admin() AWS {
	id, secret := a.local.AdminCredentials()
	key := credentials.NewStaticCredentialsProvider(id, secret, "")
	return AWS{
		IAM: iam.New(iam.Options{Region: a.config.Region, BaseEndpoint: &a.url, Credentials: key}),
		S3:  s3.New(s3.Options{Region: a.config.Region, BaseEndpoint: &a.url, Credentials: key, UsePathStyle: true}),
		STS: sts.New(sts.Options{Region: a.config.Region, BaseEndpoint: &a.url, Credentials: key}),
	}
}

func (a *account) setUp(t testing.TB, d Documents, inline map[string]*policy.Document) {
	t.Helper()
	if err := SetUp(t.Context(), a.aws, a.config, d, inline); err != nil {
		t.Fatal(err)
	}
}

// proof is a proof with all its controls.
func (a *account) proof(t testing.TB) Proof {
	return Proof{
		Config: a.config,
		Target: Target{Name: "local AWS", Local: true, STS: a.url, S3: a.url},
		Tenants: [2]Tenant{
			{Name: "alice", Tag: walletA, Token: a.issuer.minter(t, walletA)},
			{Name: "bob", Tag: walletB, Token: a.issuer.minter(t, walletB)},
		},
		Control: a.issuer.minter(t, walletA, withoutTags),
		Seeder:  a.aws.S3,
	}
}

func prove(t testing.TB, p Proof) *Report {
	t.Helper()
	r, err := Prove(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		return r
	}
	t.Cleanup(func() {
		if t.Failed() {
			var out logWriter
			_ = r.WriteText(&out, false)
			t.Log("\n" + string(out))
		}
	})
	return r
}

type logWriter []byte

func (w *logWriter) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }

// objects are the keys in the bucket.
func (a *account) objects(t testing.TB) []string {
	t.Helper()
	out, err := a.aws.S3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &a.config.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range out.Contents {
		keys = append(keys, aws.ToString(o.Key))
	}
	return keys
}

func readAll(t testing.TB, out *s3.GetObjectOutput) string {
	t.Helper()
	text, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readBody reads a request's body and leaves it to be read again.
func readBody(t testing.TB, r *http.Request) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err) // called by servers too, whose goroutines must not end the test
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return string(body)
}

func marshal(t testing.TB, d *policy.Document) string {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
