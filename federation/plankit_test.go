package federation

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"agentkeys/policy"
)

// allowSES is what a bucket policy has for a mail service.
func allowSES(c Config) policy.Statement {
	return policy.Statement{
		Sid: "AllowSES", Effect: policy.Allow, Principal: &policy.Principals{Service: []string{"ses.amazonaws.com"}},
		Action: []string{"s3:PutObject"}, Resource: []string{c.BucketARN() + "/mail/*"},
		Condition: []policy.Condition{{Operator: "StringEquals", Key: "aws:SourceAccount", Values: []string{c.Account}}},
	}
}

const (
	oldInline  = `{"Version":"2012-10-17","Statement":[{"Sid":"Mail","Effect":"Allow","Action":["s3:GetObject","s3:List*","ses:SendEmail"],"Resource":"*"},{"Effect":"Deny","Action":"s3:DeleteBucket","Resource":"*"}]}`
	s3ReadOnly = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
)

// wornOut gives the account a set-up as years leave it: the two faults of the
// documents, a policy that mixes mail with S3, a tag on the role, a managed policy, a
// setting that was loosened, and somebody else's statement in the bucket policy.
func (a *account) wornOut(t testing.TB) {
	t.Helper()
	d, inline, err := Break(a.config, render(t, a.config, Plain), FaultTrustPolicy, FaultInlinePolicy)
	if err != nil {
		t.Fatal(err)
	}
	d.BucketPolicy = document(append([]policy.Statement{allowSES(a.config)}, d.BucketPolicy.Statements...)...)
	d.Ownership.Rules[0].ObjectOwnership = "BucketOwnerPreferred"
	a.setUp(t, d, inline)
	a.putInline(t, "old", oldInline)
	a.attach(t, s3ReadOnly)
	_, err = a.aws.IAM.TagRole(t.Context(), &iam.TagRoleInput{RoleName: &a.config.Role,
		Tags: []iamtypes.Tag{{Key: aws.String("AgentKeys_User_Wallet"), Value: aws.String(walletA)}, {Key: aws.String("team"), Value: aws.String("mail")}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.aws.S3.PutPublicAccessBlock(t.Context(), &s3.PutPublicAccessBlockInput{Bucket: &a.config.Bucket,
		PublicAccessBlockConfiguration: &s3types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true)}})
	if err != nil {
		t.Fatal(err)
	}
}

func (a *account) putInline(t testing.TB, name, text string) {
	t.Helper()
	_, err := a.aws.IAM.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &a.config.Role, PolicyName: &name, PolicyDocument: &text})
	if err != nil {
		t.Fatal(err)
	}
}

func (a *account) attach(t testing.TB, arn string) {
	t.Helper()
	if _, err := a.aws.IAM.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: &a.config.Role, PolicyArn: &arn}); err != nil {
		t.Fatal(err)
	}
}

func (a *account) putTrust(t testing.TB, d *policy.Document) {
	t.Helper()
	_, err := a.aws.IAM.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{
		RoleName: &a.config.Role, PolicyDocument: aws.String(marshal(t, d)),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (a *account) putBucketPolicy(t testing.TB, text string) {
	t.Helper()
	if _, err := a.aws.S3.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &a.config.Bucket, Policy: &text}); err != nil {
		t.Fatal(err)
	}
}

// makePlan is MakePlan for the hardened documents.
func (a *account) makePlan(t testing.TB, o PlanOptions) *Plan {
	t.Helper()
	p, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (a *account) apply(t testing.TB, o PlanOptions) {
	t.Helper()
	if err := Apply(t.Context(), a.makePlan(t, o), nil); err != nil {
		t.Fatal(err)
	}
}

// planText is the text of a plan with names that are the same in every run.
func (a *account) planText(t testing.TB, p *Plan) string {
	t.Helper()
	var out bytes.Buffer
	if err := p.WriteText(&out, false); err != nil {
		t.Fatal(err)
	}
	return a.withoutPorts(out.String())
}

func (a *account) withoutPorts(text string) string {
	return strings.NewReplacer(a.url, "http://AWS", a.config.ProviderID(), "ISSUER").Replace(text)
}

// snapshot is everything in force that a plan looks at, thing by thing.
func (a *account) snapshot(t testing.TB) map[string]string {
	t.Helper()
	ctx, s := t.Context(), site{a.aws, a.config}
	out := map[string]string{"trust": "", "bucket policy": "", "ownership": "", "public access": "", "names": "", "attached": ""}
	put := func(name, text string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out[name] = a.withoutPorts(text)
	}
	putDocument := func(name string, d *policy.Document, err error) {
		if err != nil {
			t.Fatal(err)
		}
		text, err := canonical(d)
		put(name, text, err)
	}
	ids, err := s.clientIDs(ctx)
	put("provider", ids.text(a.config), err)
	role, err := s.getRole(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if role != nil {
		trust, err := s.trustOf(role)
		putDocument("trust", trust, err)
		for _, tag := range role.Tags {
			put("tag "+*tag.Key, *tag.Value, nil)
		}
		names, err := s.inlineNames(ctx)
		put("names", strings.Join(names, " "), err)
		for _, name := range names {
			d, err := s.inline(ctx, name)
			putDocument("inline "+name, d, err)
		}
		arns, err := s.attached(ctx)
		put("attached", strings.Join(arns, " "), err)
	}
	there, err := s.bucketThere(ctx)
	put("bucket", fmt.Sprint(there), err)
	if there {
		text, err := s.ownership(ctx)
		put("ownership", text, err)
		text, err = s.publicAccess(ctx)
		put("public access", text, err)
		d, err := s.getBucketPolicy(ctx)
		putDocument("bucket policy", d, err)
	}
	return out
}

// failing is how the n-th request fails: refused, or carried out and its answer
// lost. It counts every request, and says how many there were.
type failing struct {
	mu   sync.Mutex // guards seen
	seen int
	at   int
	lost bool
	hit  string // the call that failed
}

func (f *failing) intercept(t testing.TB, a *account) func(string, http.ResponseWriter, *http.Request) bool {
	return func(_ string, w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		f.seen++
		hit := f.seen == f.at
		if hit {
			f.hit = callName(t, r)
		}
		f.mu.Unlock()
		if !hit {
			return false
		}
		if f.lost {
			a.local.ServeHTTP(httptest.NewRecorder(), r)
		}
		refusal := recorded{403, "AccessDenied", "Access Denied"}
		if r.URL.Path == "/" {
			refusal.sts(w)
		} else {
			refusal.s3(w)
		}
		return true
	}
}

// callName is the action of a request, or its method and path.
func callName(t testing.TB, r *http.Request) string {
	if r.URL.Path != "/" {
		return r.Method + " " + r.URL.RequestURI()
	}
	_, name, _ := strings.Cut(readBody(t, r), "Action=")
	name, _, _ = strings.Cut(name, "&")
	return name
}

func isRead(call string) bool {
	return slices.ContainsFunc([]string{"Get", "List", "GET ", "HEAD "}, func(p string) bool { return strings.HasPrefix(call, p) })
}

// writes are the calls that changed something, or tried to.
func (a *account) writes(t testing.TB) *[]string {
	seen := &[]string{}
	a.intercept = func(_ string, _ http.ResponseWriter, r *http.Request) bool {
		if name := callName(t, r); !isRead(name) {
			*seen = append(*seen, name)
		}
		return false
	}
	return seen
}

func unknownIn(t testing.TB, err error) UnknownStatements {
	t.Helper()
	var unknown UnknownStatements
	if !errors.As(err, &unknown) {
		t.Fatalf("error %v, want UnknownStatements", err)
	}
	return unknown
}

func differences(a, b map[string]string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if b[name] != a[name] {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}
