package federation

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"agentkeys/policy"
)

// Proof is what Prove works with.
type Proof struct {
	Config Config
	Target Target
	// Tenants are two different tenants. Their tokens must be minted as for any
	// other client.
	Tenants [2]Tenant
	// Control gives a token that differs from a tenant's in one thing: it lacks
	// the tag. It takes the issuer's key to make one. Without it the proof cannot
	// show that the role refuses untagged tokens, and is INCONCLUSIVE at best.
	Control func(context.Context) (string, error)
	// Seeder is a client with an administrator's credentials, who lays an object
	// under each tenant's prefix and beside it. Without it tenants lay their own,
	// and the near misses are tried on places that hold nothing.
	Seeder *s3.Client
	// InForce are the documents in force, where the caller knows them. They are
	// used to name causes, never for the verdict.
	InForce *InForce
	// CallTimeout is how long one request may take; 15 s if zero.
	CallTimeout time.Duration
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Tenant is one of the two. Token gives a fresh web identity token each time.
type Tenant struct {
	Name  string
	Tag   string
	Token func(context.Context) (string, error)
}

// InForce are the documents in force at the role and the bucket.
type InForce struct {
	Documents Documents
	Inline    map[string]*policy.Document // inline policies of the role by name
}

// Prove makes the proof: it exchanges the tenants' tokens at STS and tries, in
// both directions, what must be allowed and what must be refused. Everything it
// writes lies under names of its own with a random part, and is deleted again;
// nothing else is changed. (A bucket that keeps versions keeps those of the proof's
// objects as well.)
//
// The error is about the Proof itself: a configuration that is not valid, or
// tenants that are not two. Whatever goes wrong on the way is in the report.
// Prove may be called concurrently.
func Prove(ctx context.Context, p Proof) (*Report, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	defer p.setDefaults()()
	v := newProver(p)
	v.run(ctx)
	v.cleanUp(ctx)
	v.conclude()
	return v.report, nil
}

// setDefaults fills in what the caller left open. What it returns is to be called
// in the end.
func (p *Proof) setDefaults() (done func()) {
	if p.CallTimeout == 0 {
		p.CallTimeout = 15 * time.Second
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	done = func() {}
	if p.Target.HTTPClient == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.WriteBufferSize = maxRequest
		done = transport.CloseIdleConnections
		p.Target.HTTPClient = &http.Client{
			Transport: transport,
			// A redirect means a wrong region. It must not carry a signed request
			// elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	p.Target.HTTPClient = wholeRequests{p.Target.HTTPClient}
	return done
}

// Validate reports what Prove would not start with.
func (p Proof) Validate() error {
	if err := p.Config.Validate(); err != nil {
		return err
	}
	a, b := p.Tenants[0], p.Tenants[1]
	for _, t := range p.Tenants {
		if !tenantTag.MatchString(t.Tag) {
			return fmt.Errorf("proof: tenant %q: want a tag of a-z and 0-9, got %q", t.Name, t.Tag)
		}
		if !tenantName.MatchString(t.Name) || slices.Contains(nobodies, t.Name) {
			return fmt.Errorf("proof: tenant %s: want a name of 1 to 32 of A-Z a-z 0-9 _ . @ -, none of %v, got %q", t.Tag, nobodies, t.Name)
		}
		if t.Token == nil {
			return fmt.Errorf("proof: tenant %q: want a way to get its token, got none", t.Name)
		}
	}
	if a.Tag == b.Tag || a.Name == b.Name {
		return fmt.Errorf("proof: want two different tenants, got %q (%s) and %q (%s)", a.Name, a.Tag, b.Name, b.Tag)
	}
	if b := p.Target.PublicBucket; b != "" && !strings.HasSuffix(b, ":"+p.Config.Bucket) {
		return fmt.Errorf("proof: want a public name of the bucket that ends in %q, got %q", ":"+p.Config.Bucket, b)
	}
	for _, e := range []string{p.Target.STS, p.Target.S3} {
		if u, err := url.Parse(e); e != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("proof: want an endpoint URL with http or https, got %q", e)
		}
	}
	if n := p.Target.Name; n != oneLine(n) || len(n) > maxTargetName {
		return fmt.Errorf("proof: want a target's name of at most %d printable characters, got %q", maxTargetName, n)
	}
	return nil
}

// tenantTag is what the broker admits as a tag.
var (
	tenantTag  = regexp.MustCompile(`^[a-z0-9]{1,64}$`)
	tenantName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,32}$`)
)

// The actors of a report that are no tenants.
const (
	untagged  = "untagged"  // the bearer of a token without the tag
	anonymous = "anonymous" // somebody who signs nothing
	seeder    = "seeder"
)

// nobodies are the names that no tenant can have in a report.
var nobodies = []string{untagged, anonymous, seeder}

// prover is one proof under way. It is used by one goroutine.
type prover struct {
	Proof
	sts     *sts.Client
	anybody *s3.Client // signs nothing
	actors  [2]*actor
	name    string // of this proof, part of every key it writes
	silent  int    // requests in a row to which no answer came
	wrote   []written
	report  *Report
}

// actor is somebody with a session, or without one.
type actor struct {
	Tenant
	client  *s3.Client // nil where STS gave no session
	objects map[string]object
	session *Probe
	own     map[string]*Probe // what the session did at home, by the call's name
	// uploadID is an unfinished upload under its prefix; "" where there is none.
	uploadID string
}

// object is one that the proof lays down.
type object struct {
	key, content string
	laid         bool   // written without an error
	version      string // "" in a bucket that keeps none
}

// versionID names the object's version. Without versioning it has one all the
// same, "null", and actions on it are those on versions.
func (o object) versionID() *string {
	if o.version == "" {
		return aws.String("null")
	}
	return &o.version
}

// written is an object that may have to be deleted again, or an upload that has to
// be aborted.
type written struct {
	key    string
	upload string       // "" for an object
	by     []*s3.Client // who may be able to, the likeliest first
}

func (w written) String() string {
	if w.upload == "" {
		return w.key
	}
	return w.key + ", unfinished upload " + w.upload
}

func newProver(p Proof) *prover {
	v := &prover{Proof: p, name: "agentkeys-proof-" + strings.ToLower(rand.Text()[:16])}
	target := targetReport(p.Target)
	v.sts = sts.New(sts.Options{
		Region: p.Config.Region, BaseEndpoint: endpoint(p.Target.STS), HTTPClient: stsClient(target, p.Target.HTTPClient),
		Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{},
	})
	v.anybody = v.s3ClientOf(aws.AnonymousCredentials{})
	v.report = &Report{
		Target: target, Config: p.Config, StartedAt: p.Now().UTC(),
		Broken: []string{}, Unobserved: []Gap{}, Causes: []Cause{}, Leftovers: []string{}, Exchanges: []Exchange{},
		NotTried: notTried(p),
	}
	if p.InForce != nil {
		v.report.Documents = p.InForce.Documents.Form
	}
	for i, t := range p.Tenants {
		v.actors[i] = &actor{Tenant: t, objects: map[string]object{}, own: map[string]*Probe{}}
		v.report.Tenants = append(v.report.Tenants, TenantReport{Name: t.Name, Tag: t.Tag})
	}
	return v
}

// s3Client is a client for a session's keys.
func (v *prover) s3Client(key, secret, token string) *s3.Client {
	return v.s3ClientOf(credentials.NewStaticCredentialsProvider(key, secret, token))
}

// s3ClientOf is a client that tries each request once.
func (v *prover) s3ClientOf(who aws.CredentialsProvider) *s3.Client {
	return s3.New(s3.Options{
		Region: v.Config.Region, BaseEndpoint: endpoint(v.Target.S3), HTTPClient: v.Target.HTTPClient,
		UsePathStyle: v.Target.S3 != "", Retryer: aws.NopRetryer{},
		Credentials:                who,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// run makes the probes. What only reads comes first, so that a hole which lets a
// stranger delete does not take away the evidence for the rest.
func (v *prover) run(ctx context.Context) {
	for i, a := range v.actors {
		v.signIn(ctx, a, &v.report.Tenants[i])
	}
	a, b := v.actors[0], v.actors[1]
	v.layObjects(ctx)
	for _, x := range v.actors {
		v.ownPrefix(ctx, x)
	}
	v.control(ctx)
	v.unsigned(ctx)
	for _, pair := range [][2]*actor{{a, b}, {b, a}} {
		v.listings(ctx, pair[0], pair[1])
		v.settings(ctx, pair[0])
		v.reads(ctx, pair[0], pair[1])
		v.neighbours(ctx, pair[0], pair[1])
	}
	for _, pair := range [][2]*actor{{a, b}, {b, a}} {
		v.writes(ctx, pair[0], pair[1])
	}
}

// ask makes one request within its time. When three in a row got no answer at all
// it stops asking: the target is gone, and each further time-out would say no more.
func (v *prover) ask(ctx context.Context, call func(context.Context) reply) reply {
	const patience = 3
	if v.silent >= patience {
		return reply{
			answer: NotTried, code: "target silent",
			message: fmt.Sprintf("%d requests in a row had no answer", patience),
			advice:  "Check the endpoint and the network, then run the proof again.",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, v.CallTimeout)
	defer cancel()
	r := call(ctx)
	if r.silent {
		v.silent++
	} else {
		v.silent = 0
	}
	return r
}

// signIn exchanges a tenant's token for a session.
func (v *prover) signIn(ctx context.Context, a *actor, t *TenantReport) {
	p := v.sessionProbe("session", "session", "own token", "get a session for its own token", a.Name, Allowed)
	a.session = p
	raw, err := a.Token(ctx)
	if err != nil {
		v.settle(p, reply{
			answer: NotTried, code: "no token", message: oneLine(err.Error()),
			advice: "See why the broker gives this tenant no token.",
		})
		return
	}
	if c, err := readClaims(raw, v.Config.TagKey); err == nil {
		t.TokenTag = c.Tag
		v.tokenCauses(a, c)
	}
	r, arn, client := v.assume(ctx, raw, a.Name)
	t.Session, a.client = arn, client
	v.settle(p, r)
}

// bucketTo is the bucket's name as the client has to write it.
func (v *prover) bucketTo(client *s3.Client) *string {
	if client == v.anybody && v.Target.PublicBucket != "" {
		return &v.Target.PublicBucket
	}
	return &v.Config.Bucket
}

func (v *prover) sessionProbe(id, group, label, what, actor string, want Answer) *Probe {
	return &Probe{
		ID: id, Group: group, Actor: actor, What: what, label: label,
		Action: "sts:AssumeRoleWithWebIdentity", Resource: v.Config.RoleARN(), Expected: want,
	}
}

// webSession is what STS gives for a web identity token.
type webSession struct {
	arn    string
	issued time.Time // in whole seconds: what aws:TokenIssueTime holds
	client *s3.Client
}

// assume calls STS for a session and a client with its keys.
func (v *prover) assume(ctx context.Context, token, name string) (r reply, arn string, client *s3.Client) {
	r, s := v.exchange(ctx, token, name)
	return r, s.arn, s.client
}

// exchange calls STS, without a signature, as the call is meant to be made.
func (v *prover) exchange(ctx context.Context, token, name string) (r reply, s webSession) {
	const lifetime = 900 // seconds, the shortest
	r = v.ask(ctx, func(ctx context.Context) (r reply) {
		made := v.exchanging(token, name)
		defer func() { v.exchanged(made, r) }()
		out, err := v.sts.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
			RoleArn: aws.String(v.Config.RoleARN()), RoleSessionName: aws.String(sessionName(name)),
			WebIdentityToken: &token, DurationSeconds: aws.Int32(lifetime),
		})
		if err != nil {
			made.RequestID = refusedID(err)
			return read(err)
		}
		made.RequestID = answeredID(out.ResultMetadata)
		if out.Credentials == nil || out.AssumedRoleUser == nil {
			return reply{answer: Unclear, code: "unreadable answer", status: http.StatusOK,
				message: "STS answered without credentials", advice: "Check the STS endpoint."}
		}
		c := out.Credentials
		s = webSession{
			arn: aws.ToString(out.AssumedRoleUser.Arn), issued: aws.ToTime(c.Expiration).Add(-lifetime * time.Second),
			client: v.s3Client(aws.ToString(c.AccessKeyId), aws.ToString(c.SecretAccessKey), aws.ToString(c.SessionToken)),
		}
		return read(nil)
	})
	return r, s
}

var notInSessionName = regexp.MustCompile(`[^A-Za-z0-9_+=,.@-]+`)

// sessionName makes a RoleSessionName, 2 to 64 of [\w+=,.@-], of a tenant's name.
func sessionName(name string) string {
	s := sessionPrefix + notInSessionName.ReplaceAllString(name, "-")
	return s[:min(len(s), 64)]
}

// control tries a token without the tag. Where it buys a session, it tries what
// that session reaches.
func (v *prover) control(ctx context.Context) {
	p := v.sessionProbe("control.untagged_token", "control", "untagged token",
		"get a session for a token without the tag", untagged, Denied)
	client, r := v.tryControl(ctx, p)
	v.settle(p, r)
	if client == nil {
		return
	}
	for _, o := range v.actors {
		v.probe(ctx, &actor{Tenant: Tenant{Name: untagged}, client: client, session: p}, spec{
			id: "control.untagged_get." + o.Name, group: "control", label: "  get one of " + o.Name + "'s",
			what: "get an object of " + o.Name + "'s without a tag", action: "s3:GetObject",
			resource: o.objects["read"].key, want: Denied, call: v.get(o.objects["read"]),
		})
	}
}

func (v *prover) tryControl(ctx context.Context, p *Probe) (*s3.Client, reply) {
	skipped := func(code, why, do string) (*s3.Client, reply) {
		return nil, reply{answer: NotTried, code: code, message: why, advice: do}
	}
	if v.Control == nil {
		return skipped("control not taken", "it takes a token that the issuer signed without the tag, and none was given",
			"Give the proof the issuer's key, so that it can sign one, or such a token made elsewhere.")
	}
	raw, err := v.Control(ctx)
	if err != nil {
		return skipped("no token", oneLine(err.Error()), "See why no control token could be signed.")
	}
	c, err := readClaims(raw, v.Config.TagKey)
	if err != nil {
		return skipped("no control", oneLine(err.Error()), "Sign the control token as a JWT.")
	}
	if problem := controlProblem(c, v.Config); problem != "" {
		return skipped("no control", problem, "Sign a control token that differs from a tenant's in the tag alone.")
	}
	r, _, client := v.assume(ctx, raw, untagged)
	if r.answer == Denied && v.actors[0].client == nil && v.actors[1].client == nil {
		p.weak = "the role gave nobody a session, so this refusal says nothing about the tag"
	}
	return client, r
}

// cleanUp deletes what the proof wrote, and goes on when the proof was
// interrupted.
func (v *prover) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	v.silent = 0
	for _, w := range v.wrote {
		if !v.remove(ctx, w) {
			v.report.Leftovers = append(v.report.Leftovers, "s3://"+v.Config.Bucket+"/"+w.String())
		}
	}
}

func (v *prover) remove(ctx context.Context, w written) bool {
	for _, client := range append([]*s3.Client{v.Seeder}, w.by...) {
		if client == nil {
			continue
		}
		r := v.ask(ctx, func(ctx context.Context) reply { return v.undo(w)(ctx, client) })
		if r.answer == Allowed || slices.Contains([]string{"NoSuchKey", "NoSuchUpload", "NoSuchBucket"}, r.code) {
			return true
		}
	}
	return false
}

func (v *prover) undo(w written) func(context.Context, *s3.Client) reply {
	if w.upload == "" {
		return v.removeOne(w.key)
	}
	return request((*s3.Client).AbortMultipartUpload, &s3.AbortMultipartUploadInput{
		Bucket: &v.Config.Bucket, Key: &w.key, UploadId: &w.upload,
	})
}
