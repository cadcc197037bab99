package federation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/xml"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/go-jose/go-jose/v4"

	"agentkeys/localaws"
	"agentkeys/policy"
)

// explainNow is the clock of the oracle and of what is held against it.
// It stands still, near enough to the time for the administrator's signatures.
var explainNow = time.Now().UTC().Truncate(time.Second)

var explainEC = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

var explainRSA = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// stsOracle is a local AWS with an issuer whose documents can be changed, and the
// account as files would have it.
type stsOracle struct {
	t         testing.TB
	config    Config
	url       string
	issuerURL string
	iam       *iam.Client
	published *IssuerDocuments // as they were fetched last

	mu        sync.Mutex // guards what the issuer's handlers read
	discovery map[string]any
	keys      any
}

func newSTSOracle(t testing.TB) *stsOracle {
	t.Helper()
	o := &stsOracle{t: t}
	site := httptest.NewServer(http.HandlerFunc(o.serveIssuer))
	t.Cleanup(site.Close)
	o.issuerURL = site.URL
	o.discovery = map[string]any{
		"issuer": site.URL, "jwks_uri": site.URL + "/jwks", "response_types_supported": []string{"id_token"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
	}
	o.keys = map[string]any{"keys": []any{o.jwk("ec", nil), jose.JSONWebKey{Key: explainRSA().Public(), KeyID: "rsa", Use: "sig"}}}
	o.config = testConfig()
	o.config.Issuer, o.config.Region = site.URL, "us-east-1"
	conf := localaws.Config{
		Dir: t.TempDir(), Account: o.config.Account, Region: o.config.Region, Now: func() time.Time { return explainNow },
	}
	if err := localaws.Create(conf); err != nil {
		t.Fatal(err)
	}
	local, err := localaws.Open(conf)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(local)
	t.Cleanup(func() {
		server.Close()
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	o.url = server.URL
	o.fetch()
	id, secret := local.AdminCredentials()
	o.iam = iam.New(iam.Options{Region: o.config.Region, BaseEndpoint: &o.url, Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")})
	return o
}

// jwk is the EC key's public JWK, changed as told; a nil value removes a member.
func (o *stsOracle) jwk(kid string, change map[string]any) map[string]any {
	text, err := json.Marshal(jose.JSONWebKey{Key: explainEC().Public(), KeyID: kid, Use: "sig"})
	if err != nil {
		o.t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		o.t.Fatal(err)
	}
	changeClaims(m, change)
	return m
}

func changeClaims(m, change map[string]any) {
	maps.Copy(m, change)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
}

func (o *stsOracle) serveIssuer(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var v any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		if o.discovery != nil {
			v = o.discovery
		}
	case "/jwks":
		v = o.keys
	}
	if v == nil {
		http.NotFound(w, r)
		return
	}
	if err := json.NewEncoder(w).Encode(v); err != nil {
		o.t.Error(err)
	}
}

func (o *stsOracle) fetch() { o.published = FetchIssuer(o.t.Context(), nil, o.issuerURL) }

// nullClaim stands for a JSON null in a change of claims, where nil takes away.
var nullClaim = json.RawMessage("null")

func (o *stsOracle) claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": o.issuerURL, "sub": "agentkeys:agent:" + walletA, "aud": DefaultAudience,
		"iat": explainNow.Unix(), "nbf": explainNow.Unix(), "exp": explainNow.Unix() + 300, "jti": "j",
		DefaultTagKey: walletA,
		tagsClaim: map[string]any{
			"principal_tags": map[string]any{DefaultTagKey: []string{walletA}}, "transitive_tag_keys": []string{DefaultTagKey},
		},
	}
	changeClaims(c, change)
	return c
}

// token signs claims with the EC key; a header member of nil is taken away.
func (o *stsOracle) token(change, header map[string]any) string {
	o.t.Helper()
	text, err := json.Marshal(o.claims(change))
	if err != nil {
		o.t.Fatal(err)
	}
	return signToken(o.t, text, header)
}

// signToken signs by hand, since the library refuses the headers that are wanted here.
func signToken(t testing.TB, payload []byte, header map[string]any) string {
	t.Helper()
	h := map[string]any{"alg": "ES256", "typ": "JWT", "kid": "ec"}
	changeClaims(h, header)
	head, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	signed := tokenB64(head) + "." + tokenB64(payload)
	return signed + "." + tokenB64(signES256(t, signed))
}

const explainBoth = `"sts:AssumeRoleWithWebIdentity","sts:TagSession"`

func explainTrust(actions, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"%A"},"Action":[` + actions + `]` + condition + `}]}`
}

// install puts the documents of a case in force and gives them as an Account.
func (o *stsOracle) install(trust, provider string, clientIDs []string) *Account {
	o.t.Helper()
	ctx := o.t.Context()
	trust = strings.NewReplacer("%A", o.config.ProviderARN(), "%P", o.config.ProviderID()).Replace(trust)
	doc, err := policy.Parse([]byte(trust))
	if err != nil {
		o.t.Fatal(err)
	}
	a := &Account{Config: o.config, Source: "the test", Providers: []Provider{}, Managed: map[string]Document{}}
	list, err := o.iam.ListOpenIDConnectProviders(ctx, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, p := range list.OpenIDConnectProviderList {
		if _, err := o.iam.DeleteOpenIDConnectProvider(ctx, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: p.Arn}); err != nil {
			o.t.Fatal(err)
		}
	}
	if provider == "" {
		provider = o.issuerURL
	}
	if clientIDs == nil {
		clientIDs = []string{DefaultAudience}
	}
	if provider != "-" {
		made, err := o.iam.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: &provider, ClientIDList: clientIDs})
		if err != nil {
			o.t.Fatal(err)
		}
		a.Providers = append(a.Providers, Provider{ARN: *made.OpenIDConnectProviderArn, URL: providerKey(provider), ClientIDs: clientIDs})
	}
	o.role(trust)
	a.Roles = []Role{{Entity: Entity{Name: o.config.Role, ARN: o.config.RoleARN()}, MaxSession: 3600,
		Trust: Document{Name: "role " + o.config.Role + ", trust policy", Policy: doc}}}
	return a
}

func (o *stsOracle) role(trust string) {
	o.t.Helper()
	_, err := o.iam.UpdateAssumeRolePolicy(o.t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: &o.config.Role, PolicyDocument: &trust})
	if hasCode(err, "NoSuchEntity") {
		_, err = o.iam.CreateRole(o.t.Context(), &iam.CreateRoleInput{RoleName: &o.config.Role, AssumeRolePolicyDocument: &trust})
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

// answer is what STS said.
type stsAnswer struct {
	status        int
	code, message string
}

// ask sends a call to the local STS over HTTP.
func (o *stsOracle) ask(t testing.TB, token string, call url.Values) stsAnswer {
	t.Helper()
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {o.config.RoleARN()},
		"RoleSessionName": {"agent"}, "WebIdentityToken": {token},
	}
	maps.Copy(form, call)
	resp, err := http.PostForm(o.url, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
	}
	if err := xml.Unmarshal(body, &e); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return stsAnswer{resp.StatusCode, e.Code, e.Message}
}

// explain asks Explain about the same call.
func (o *stsOracle) explain(a *Account, token string, call url.Values) *Explanation {
	in := ExplainInput{Account: a, Token: token, Now: explainNow, SessionName: "agent",
		Issuer: o.published}
	for name, values := range call {
		switch v := values[0]; name {
		case "RoleArn":
			in.RoleARN = v
		case "RoleSessionName":
			in.SessionName = v
		case "Policy":
			in.SessionPolicy = v
		case "DurationSeconds":
			in.Duration, _ = strconv.Atoi(v)
		default:
			in.PolicyARNs = append(in.PolicyARNs, v)
		}
	}
	return Explain(in)
}

// hold holds what Explain says against what STS said.
func (o *stsOracle) hold(t testing.TB, a *Account, token string, call url.Values) {
	t.Helper()
	told, x := o.ask(t, token, call), o.explain(a, token, call)
	if p := stsDisagreement(told, x); p != "" {
		t.Errorf("%s\nSTS: %+v\n%s", p, told, explainedText(x))
	}
}

// echoedValue is a value that a refusal repeats, each in its own length.
var echoedValue = regexp.MustCompile(`Value '[^']*'`)

func stsDisagreement(told stsAnswer, x *Explanation) string {
	first := x.First()
	switch {
	case x.Verdict == CannotTell:
		return "something is unknown"
	case told.status == http.StatusOK && first == nil:
		return ""
	case told.status == http.StatusOK:
		return "STS gives credentials and Explain fails at " + first.Name
	case first == nil:
		return "STS refuses and Explain passes"
	case first.Told.Status != told.status || first.Told.Code != told.code:
		return "Explain says " + first.Told.Code + " at " + first.Name
	case echoedValue.ReplaceAllString(first.Told.Message, "…") != echoedValue.ReplaceAllString(told.message, "…"):
		return "Explain says " + strconv.Quote(first.Told.Message) + " at " + first.Name
	case first.Fix == "" || first.Why == "":
		return "no reason or no fix at " + first.Name
	}
	return ""
}

func explainedText(x *Explanation) string {
	var b strings.Builder
	_ = x.WriteText(&b, false)
	return b.String()
}
