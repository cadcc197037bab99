package agentkeystest

import (
	"bytes"
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"agentkeys/api"
	"agentkeys/broker"
	"agentkeys/federation"
	"agentkeys/grant"
	"agentkeys/localaws"
	"agentkeys/token"
)

// What the local AWS of a test holds.
const (
	Account = "111122223333"
	Region  = "us-east-1"
	Bucket  = "agentkeys-test-data"
	Prefix  = "bots"
	RoleARN = "arn:aws:iam::" + Account + ":role/agentkeys-data-role"
)

// AWS is a local AWS that counts what STS is asked for and what it gives, with the
// federation of one broker set up in the hardened form.
type AWS struct {
	URL    string
	Local  *localaws.Server
	Config federation.Config

	trail string // folder of its CloudTrail; "" for none

	mu     sync.Mutex // guards what follows
	asked  []url.Values
	issued []Issued
	filter func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

// Issued are credentials that STS gave, whether or not anybody saw them.
type Issued struct {
	AccessKeyID     string `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
	SecretAccessKey string `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
	SessionToken    string `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
	WebIdentity     string `xml:"-"` // the token that they were given for
}

// NewWithAWS starts a broker that mints AWS credentials from a local AWS of its own.
func NewWithAWS(t testing.TB, changes ...func(*broker.Config)) (*Broker, *AWS) {
	t.Helper()
	return NewAtWithAWS(t, filepath.Join(t.TempDir(), "agentkeys.db"), changes...)
}

// NewAtWithAWS is NewWithAWS with a new database at path.
func NewAtWithAWS(t testing.TB, path string, changes ...func(*broker.Config)) (*Broker, *AWS) {
	t.Helper()
	a := newAWS(t)
	k := NewAt(t, path, append([]func(*broker.Config){ConnectAWS(t, a.URL)}, changes...)...)
	a.setUp(t, k.Issuer, k.Clock.Now, nil)
	return k, a
}

// OverWithAWS is NewWithAWS over parts that there are already.
func OverWithAWS(t testing.TB, p Parts, changes ...func(*broker.Config)) (*Broker, *AWS) {
	t.Helper()
	a := newAWS(t)
	k := Over(t, p, append([]func(*broker.Config){ConnectAWS(t, a.URL)}, changes...)...)
	a.setUp(t, k.Issuer, k.Clock.Now, k.HTTP)
	return k, a
}

// NewWithTrail is NewWithAWS whose local AWS writes CloudTrail's log files to a
// folder, when Local.DeliverTrail is called and at the end of the test.
func NewWithTrail(t testing.TB, dir string, changes ...func(*broker.Config)) (*Broker, *AWS) {
	t.Helper()
	a := newAWS(t)
	a.trail = dir
	k := New(t, append([]func(*broker.Config){ConnectAWS(t, a.URL)}, changes...)...)
	a.setUp(t, k.Issuer, k.Clock.Now, nil)
	return k, a
}

// NewAWS starts a local AWS for the broker of an issuer, which need not serve yet.
func NewAWS(t testing.TB, issuer string, now func() time.Time) *AWS {
	t.Helper()
	a := newAWS(t)
	a.setUp(t, issuer, now, nil)
	return a
}

func newAWS(t testing.TB) *AWS {
	a := &AWS{}
	server := httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

// ConnectAWS has a broker ask the local AWS at a URL.
func ConnectAWS(t testing.TB, endpoint string) func(*broker.Config) {
	return func(c *broker.Config) {
		identities, err := token.NewWebIdentities(token.WebIdentityConfig{
			Issuer: c.Issuer, Audience: "sts.amazonaws.com", Keys: c.OIDCKeys, TTL: 5 * time.Minute, TagKey: token.TagKey})
		check(t, err)
		sts, err := broker.NewSTS(broker.STSConfig{Region: Region, Endpoint: endpoint, Now: c.Now})
		check(t, err)
		c.AWS = &broker.AWS{
			RoleARN: RoleARN, Target: grant.Target{Partition: "aws", Bucket: Bucket, Prefix: Prefix}, Session: 15 * time.Minute,
			Token: identities.MintFor, AssumeRole: sts.AssumeRole,
			Explain: func(_ broker.AssumeRole, e *broker.STSError, _ time.Time) string { return e.Code },
		}
	}
}

// setUp makes the account, which finds the issuer's keys by the HTTP client, or by one of
// its own.
func (a *AWS) setUp(t testing.TB, issuer string, now func() time.Time, client *http.Client) {
	t.Helper()
	c := localaws.Config{Dir: t.TempDir(), Account: Account, Region: Region, Now: now, CloudTrail: a.trail, HTTPClient: client}
	check(t, localaws.Create(c))
	local, err := localaws.Open(c)
	check(t, err)
	t.Cleanup(func() { check(t, local.Close()) })
	a.mu.Lock()
	a.Local = local
	a.mu.Unlock()
	a.Config = federation.Config{Issuer: issuer, Account: Account, Region: Region, Role: federation.DefaultRole, Bucket: Bucket,
		Prefix: Prefix, TagKey: token.TagKey, Audience: "sts.amazonaws.com"}
	documents, err := federation.Render(a.Config, federation.Hardened)
	check(t, err)
	id, secret := local.AdminCredentials()
	sdk := a.sdk(id, secret, "")
	admin := federation.AWS{IAM: iam.NewFromConfig(sdk), S3: a.S3(api.MintAWSResponse{AccessKeyID: id, SecretAccessKey: secret})}
	check(t, federation.SetUp(context.Background(), admin, a.Config, documents, nil))
}

func (a *AWS) sdk(id, secret, session string) aws.Config {
	return aws.Config{Region: Region, BaseEndpoint: aws.String(a.URL), HTTPClient: http.DefaultClient,
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, session)}
}

// S3 is a client with credentials that the broker gave.
func (a *AWS) S3(c api.MintAWSResponse) *s3.Client {
	return s3.NewFromConfig(a.sdk(c.AccessKeyID, c.SecretAccessKey, c.SessionToken), func(o *s3.Options) { o.UsePathStyle = true })
}

// Intercept has every request to STS go through f, which may answer in the place of
// AWS, or in addition to it. Nil ends it.
func (a *AWS) Intercept(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.filter = f
}

// Asked returns the forms of the calls of AssumeRoleWithWebIdentity so far.
func (a *AWS) Asked() []url.Values {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[:len(a.asked):len(a.asked)]
}

// Given returns the access key ids of all credentials that STS has given.
func (a *AWS) Given() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for _, i := range a.issued {
		ids = append(ids, i.AccessKeyID)
	}
	return ids
}

// Issued returns all credentials that STS has given.
func (a *AWS) Issued() []Issued {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issued[:len(a.issued):len(a.issued)]
}

func (a *AWS) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	local, filter := a.Local, a.filter
	a.mu.Unlock()
	form, isSTS := assumeForm(r)
	if !isSTS {
		local.ServeHTTP(w, r)
		return
	}
	a.mu.Lock()
	a.asked = append(a.asked, form)
	a.mu.Unlock()
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.count(w, r, local, form.Get("WebIdentityToken")) })
	if filter != nil {
		filter(w, r, next)
		return
	}
	next.ServeHTTP(w, r)
}

// count passes a call on to the local AWS and notes what it gave, before anybody
// sees it.
func (a *AWS) count(w http.ResponseWriter, r *http.Request, local http.Handler, webIdentity string) {
	answer := httptest.NewRecorder()
	local.ServeHTTP(answer, r)
	if answer.Code == http.StatusOK {
		issued := Issued{WebIdentity: webIdentity}
		if err := xml.Unmarshal(answer.Body.Bytes(), &issued); err != nil {
			panic("the local AWS answered with what is no XML: " + err.Error())
		}
		a.mu.Lock()
		a.issued = append(a.issued, issued)
		a.mu.Unlock()
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// assumeForm reads the form of a call of AssumeRoleWithWebIdentity and puts the body
// back.
func assumeForm(r *http.Request) (url.Values, bool) {
	if r.Method != http.MethodPost || r.URL.Path != "/" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return nil, false
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	form, err := url.ParseQuery(string(body))
	return form, err == nil && form.Get("Action") == "AssumeRoleWithWebIdentity"
}
