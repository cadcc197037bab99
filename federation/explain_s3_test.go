package federation

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"agentkeys/policy"
)

// explainSession makes a session at the local STS and gives a client of it.
func (a *account) explainSession(t testing.TB, token, sessionPolicy string) *s3.Client {
	t.Helper()
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(a.config.RoleARN()), RoleSessionName: aws.String("agent"), WebIdentityToken: &token}
	if sessionPolicy != "" {
		in.Policy = &sessionPolicy
	}
	out, err := sts.New(sts.Options{Region: a.config.Region, BaseEndpoint: &a.url}).AssumeRoleWithWebIdentity(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	c := out.Credentials
	key := credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	return s3.New(s3.Options{Region: a.config.Region, BaseEndpoint: &a.url, Credentials: key, UsePathStyle: true})
}

// explainS3Calls are requests that the local S3 answers, each with what Explain is asked.
func explainS3Calls(c Config) map[string]struct {
	request S3Request
	do      func(context.Context, *s3.Client) error
} {
	type call = struct {
		request S3Request
		do      func(context.Context, *s3.Client) error
	}
	calls := map[string]call{}
	object := func(key string) string { return c.BucketARN() + "/" + key }
	for who, tag := range map[string]string{"own": walletA, "foreign": walletB} {
		key := c.TenantPrefix(tag) + "object"
		calls["get "+who] = call{S3Request{Action: "s3:GetObject", Resource: object(key)}, func(ctx context.Context, s *s3.Client) error {
			_, err := s.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: &key})
			return err
		}}
		calls["tags "+who] = call{S3Request{Action: "s3:GetObjectTagging", Resource: object(key)}, func(ctx context.Context, s *s3.Client) error {
			_, err := s.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &c.Bucket, Key: &key})
			return err
		}}
		prefix := c.TenantPrefix(tag)
		calls["list "+who] = call{S3Request{Action: "s3:ListBucket", Resource: c.BucketARN(), Context: map[string]string{"s3:prefix": prefix}},
			func(ctx context.Context, s *s3.Client) error {
				_, err := s.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &c.Bucket, Prefix: &prefix})
				return err
			}}
	}
	calls["list all"] = call{S3Request{Action: "s3:ListBucket", Resource: c.BucketARN()}, func(ctx context.Context, s *s3.Client) error {
		_, err := s.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &c.Bucket})
		return err
	}}
	calls["uploads"] = call{S3Request{Action: "s3:ListBucketMultipartUploads", Resource: c.BucketARN()}, func(ctx context.Context, s *s3.Client) error {
		_, err := s.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &c.Bucket})
		return err
	}}
	return calls
}

// TestExplainAgreesWithS3 holds what Explain says of the session's requests against
// the local S3.
func TestExplainAgreesWithS3(t *testing.T) {
	narrow := func(c Config) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"` + c.BucketARN() + `/*"}]}`
	}
	for name, test := range map[string]struct {
		form    Form
		inline  bool // the masking inline policy is there
		session func(Config) string
		edits   []func(map[string]any)
		roleTag string // key of a tag on the role, whose value is the stranger's
	}{
		"plain":            {form: Plain},
		"hardened":         {form: Hardened},
		"inline":           {form: Plain, inline: true},
		"inline, hardened": {form: Hardened, inline: true},
		"session policy":   {form: Plain, session: narrow},
		// The role's own tag is every untagged session's, and gives way to the token's
		// whatever its case.
		"tag of the role":         {form: Plain, edits: []func(map[string]any){withoutTags}, roleTag: DefaultTagKey},
		"tag of the role and own": {form: Plain, roleTag: "AgentKeys_User_Wallet"},
		"other tag of the role":   {form: Plain, edits: []func(map[string]any){withoutTags}, roleTag: "team"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			d := render(t, a.config, test.form)
			inline := map[string]*policy.Document{}
			if test.inline {
				inline[InlinePolicyName] = wholeBucket(a.config)
			}
			if test.edits != nil { // let the untagged in
				d.Trust = negatedTagTest(d.Trust, a.config)
			}
			a.setUp(t, d, inline)
			for _, tag := range []string{walletA, walletB} {
				key := a.config.TenantPrefix(tag) + "object"
				if _, err := a.aws.S3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &a.config.Bucket, Key: &key}); err != nil {
					t.Fatal(err)
				}
			}
			in := ExplainInput{Account: a.explainFiles(t, d, inline), Now: time.Now(), SessionName: "agent", Issuer: FetchIssuer(t.Context(), nil, a.issuer.url)}
			if test.roleTag != "" {
				a.explainTagRole(t, test.roleTag, walletB)
				in.Account.Roles[0].Tags = map[string]string{test.roleTag: walletB}
			}
			if test.session != nil {
				in.SessionPolicy = test.session(a.config)
			}
			var err error
			if in.Token, err = a.issuer.minter(t, walletA, test.edits...)(t.Context()); err != nil {
				t.Fatal(err)
			}
			client := a.explainSession(t, in.Token, in.SessionPolicy)
			for what, call := range explainS3Calls(a.config) {
				in.Requests = []S3Request{call.request}
				x := Explain(in)
				s, told := x.Requests[0], read(call.do(t.Context(), client))
				switch {
				case x.Verdict != GivesCredentials:
					t.Fatalf("no session:\n%s", explainedText(x))
				case (s.Outcome == StepOK) != (told.answer == Allowed):
					t.Errorf("%s: S3 says %+v\n%s", what, told, explainedText(x))
				case s.Told != nil && (s.Told.Code != told.code || s.Told.Message != told.message || s.Told.Status != told.status):
					t.Errorf("%s: want %q, got %+v", what, told.message, s.Told)
				case s.Outcome == StepFails && (s.Fix == "" || s.Why == ""):
					t.Errorf("%s: no reason or no fix: %+v", what, s)
				}
			}
		})
	}
}

// explainFiles is the account as it was set up.
func (a *account) explainFiles(t testing.TB, d Documents, inline map[string]*policy.Document) *Account {
	t.Helper()
	c := a.config
	role, err := a.aws.IAM.GetRole(t.Context(), &iam.GetRoleInput{RoleName: &c.Role})
	if err != nil {
		t.Fatal(err)
	}
	r := Role{Entity: Entity{Name: c.Role, ARN: c.RoleARN(), ID: *role.Role.RoleId}, Trust: Document{Name: "trust policy", Policy: d.Trust}}
	for name, doc := range inline {
		r.Inline = append(r.Inline, Document{Name: "inline policy " + name, Policy: doc})
	}
	return &Account{
		Config: c, Source: "the test", Managed: map[string]Document{}, Roles: []Role{r}, Bucket: Document{Name: "bucket policy", Policy: d.BucketPolicy},
		Providers: []Provider{{ARN: c.ProviderARN(), URL: c.ProviderID(), ClientIDs: []string{c.Audience}}},
	}
}

func (a *account) explainTagRole(t testing.TB, key, value string) {
	t.Helper()
	_, err := a.aws.IAM.TagRole(t.Context(), &iam.TagRoleInput{RoleName: &a.config.Role, Tags: []iamtypes.Tag{{Key: &key, Value: &value}}})
	if err != nil {
		t.Fatal(err)
	}
}
