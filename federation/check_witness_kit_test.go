package federation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"agentkeys/localaws"
)

// stage is a local AWS with the documents of a set-up in force.
type stage struct {
	t       *testing.T
	account *Account
	issuer  *issuer
	url     string
	client  *http.Client
	admin   aws.CredentialsProvider
	ids     *strings.Replacer // unique ids of the documents to those of the local AWS
	keys    map[string]aws.CredentialsProvider
}

// inexpressible is why a set-up has no place in the local AWS.
type inexpressible struct{ why string }

func (e inexpressible) Error() string { return e.why }

// roundTrip is a function as an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// towards leads what is asked of a set-up's issuer to the one that there is.
func towards(real, asked string) *http.Client {
	to, _ := url.Parse(real)
	from, _ := url.Parse(asked)
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host, r.Host = to.Scheme, to.Host, to.Host
		r.URL.Path = strings.TrimPrefix(r.URL.Path, from.Path)
		return http.DefaultTransport.RoundTrip(r)
	})}
}

// newStage puts a set-up in force and lays objects in the tenants' folders.
func newStage(t *testing.T, account *Account, i *issuer, real string, objects []string) (*stage, error) {
	s := &stage{t: t, account: account, issuer: i, keys: map[string]aws.CredentialsProvider{}}
	if err := s.expressible(); err != nil {
		return nil, err
	}
	c := account.Config
	conf := localaws.Config{Dir: t.TempDir(), Account: c.Account, Region: c.Region, HTTPClient: towards(real, c.Issuer)}
	if err := localaws.Create(conf); err != nil {
		return nil, err
	}
	local, err := localaws.Open(conf)
	if err != nil {
		return nil, err
	}
	server := httptest.NewTLSServer(local)
	t.Cleanup(func() {
		server.Close()
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	id, secret := local.AdminCredentials()
	s.url, s.client, s.admin = server.URL, server.Client(), credentials.NewStaticCredentialsProvider(id, secret, "")
	i.url = c.Issuer
	return s, errors.Join(s.setUpIAM(), s.setUpBucket(objects))
}

// expressible refuses what the local AWS does not have.
func (s *stage) expressible() error {
	a := s.account
	switch {
	case a.Config.Partition() != "aws":
		return inexpressible{"another partition"}
	case a.Organization != nil, len(a.AccessPoints) > 0, a.ACL != nil:
		return inexpressible{"an organization, an access point or an ACL"}
	case slices.ContainsFunc(a.Roles, func(r Role) bool { return strings.Contains(r.ARN, ":role/aws-") }):
		return inexpressible{"a role that AWS makes"}
	case a.Providers == nil:
		return inexpressible{"a provider that nobody looked at"}
	case slices.ContainsFunc(a.Users, func(u User) bool { return u.Name == "admin" }):
		return inexpressible{"a user who is called admin"}
	}
	for _, d := range corpusDocuments(a) {
		if d.Err != nil {
			return inexpressible{"a document that cannot be read"}
		}
	}
	return nil
}

func (s *stage) iam() *iam.Client {
	return iam.New(iam.Options{Region: s.account.Config.Region, BaseEndpoint: &s.url, Credentials: s.admin, HTTPClient: s.client, RetryMaxAttempts: 1})
}

// sts is STS for somebody; nobody's calls are unsigned.
func (s *stage) sts(who aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{Region: s.account.Config.Region, BaseEndpoint: &s.url, Credentials: who, HTTPClient: s.client, RetryMaxAttempts: 1})
}

// s3 is S3 for somebody, whose requests have the headers.
func (s *stage) s3(who aws.CredentialsProvider, headers map[string]string) *s3.Client {
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		for name, v := range headers {
			r.Header.Set(name, v)
		}
		return s.client.Transport.RoundTrip(r)
	})}
	return s3.New(s3.Options{Region: s.account.Config.Region, BaseEndpoint: &s.url, Credentials: who, UsePathStyle: true, HTTPClient: client, RetryMaxAttempts: 1})
}

// document is a document's text as the local AWS must have it.
func (s *stage) document(d Document) *string {
	text := marshal(s.t, d.Policy)
	if s.ids != nil {
		text = s.ids.Replace(text)
	}
	return &text
}

// pathOf is the path in an entity's ARN.
func pathOf(e Entity) *string {
	_, rest, _ := strings.Cut(e.ARN, "/")
	path := "/" + strings.TrimSuffix(rest, e.Name)
	return &path
}

func tagsOf(e Entity) []iamtypes.Tag {
	var tags []iamtypes.Tag
	for key, v := range e.Tags {
		tags = append(tags, iamtypes.Tag{Key: &key, Value: &v})
	}
	return tags
}

// firstTrust is what a role is made with: its own trust policy may name roles that
// are made after it, and is put in its place once all are there.
const firstTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// setUpIAM makes everybody first and gives them their documents then, as those
// may speak of any of them.
func (s *stage) setUpIAM() error {
	ctx, a, c := s.t.Context(), s.account, s.iam()
	var ids []string
	for _, p := range s.providers() {
		if _, err := c.CreateOpenIDConnectProvider(ctx, &p); err != nil {
			return err
		}
	}
	for _, g := range a.Groups {
		if _, err := c.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: &g.Name, Path: pathOf(g.Entity)}); err != nil {
			return err
		}
	}
	for _, u := range a.Users {
		out, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: &u.Name, Path: pathOf(u.Entity), Tags: tagsOf(u.Entity)})
		if err != nil {
			return err
		}
		ids = append(ids, u.ID, *out.User.UserId)
	}
	for _, r := range a.Roles {
		out, err := c.CreateRole(ctx, &iam.CreateRoleInput{
			RoleName: &r.Name, Path: pathOf(r.Entity), Tags: tagsOf(r.Entity), AssumeRolePolicyDocument: aws.String(firstTrust),
		})
		if err != nil {
			return err
		}
		ids = append(ids, r.ID, *out.Role.RoleId)
	}
	s.ids = strings.NewReplacer(ids...)
	return s.giveDocuments(ctx, c)
}

func (s *stage) providers() []iam.CreateOpenIDConnectProviderInput {
	var list []iam.CreateOpenIDConnectProviderInput
	for _, p := range s.account.Providers {
		_, name, _ := strings.Cut(p.ARN, ":oidc-provider/")
		list = append(list, iam.CreateOpenIDConnectProviderInput{Url: aws.String("https://" + name), ClientIDList: p.ClientIDs})
	}
	return list
}

func (s *stage) giveDocuments(ctx context.Context, c *iam.Client) error {
	a := s.account
	for arn, d := range a.Managed {
		if strings.Contains(arn, "::aws:policy/") {
			continue
		}
		name := arn[strings.LastIndex(arn, "/")+1:]
		path := pathOf(Entity{ARN: arn, Name: name})
		if _, err := c.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: &name, Path: path, PolicyDocument: s.document(d)}); err != nil {
			return err
		}
	}
	var errs []error
	did := func(_ any, err error) { errs = append(errs, err) }
	nameOf := func(d Document) *string { return aws.String(d.Name[strings.LastIndex(d.Name, " ")+1:]) }
	for _, g := range a.Groups {
		for _, d := range g.Inline {
			did(c.PutGroupPolicy(ctx, &iam.PutGroupPolicyInput{GroupName: &g.Name, PolicyName: nameOf(d), PolicyDocument: s.document(d)}))
		}
		for _, arn := range g.Attached {
			did(c.AttachGroupPolicy(ctx, &iam.AttachGroupPolicyInput{GroupName: &g.Name, PolicyArn: &arn}))
		}
	}
	for _, u := range a.Users {
		for _, d := range u.Inline {
			did(c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &u.Name, PolicyName: nameOf(d), PolicyDocument: s.document(d)}))
		}
		for _, arn := range u.Attached {
			did(c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &u.Name, PolicyArn: &arn}))
		}
		for _, group := range u.Groups {
			did(c.AddUserToGroup(ctx, &iam.AddUserToGroupInput{UserName: &u.Name, GroupName: &group}))
		}
		if u.Boundary != "" {
			did(c.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: &u.Name, PermissionsBoundary: &u.Boundary}))
		}
	}
	for _, r := range a.Roles {
		did(c.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &r.Name, PolicyDocument: s.document(r.Trust)}))
		for _, d := range r.Inline {
			did(c.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &r.Name, PolicyName: nameOf(d), PolicyDocument: s.document(d)}))
		}
		for _, arn := range r.Attached {
			did(c.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: &r.Name, PolicyArn: &arn}))
		}
		if r.Boundary != "" {
			did(c.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: &r.Name, PermissionsBoundary: &r.Boundary}))
		}
	}
	return errors.Join(errs...)
}

// setUpBucket lays the objects before the bucket's policy may forbid it, and
// restricts public access after a public policy is in place.
func (s *stage) setUpBucket(objects []string) error {
	ctx, a, c := s.t.Context(), s.account, s.s3(s.admin, nil)
	bucket := &a.Config.Bucket
	var location *s3types.CreateBucketConfiguration
	if a.Config.Region != "us-east-1" {
		location = &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(a.Config.Region)}
	}
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket, CreateBucketConfiguration: location}); err != nil {
		return err
	}
	for _, key := range objects {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader("x")}); err != nil {
			return err
		}
	}
	open := &s3types.PublicAccessBlockConfiguration{}
	if _, err := c.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: bucket, PublicAccessBlockConfiguration: open}); err != nil {
		return err
	}
	if a.Bucket.Policy != nil {
		if _, err := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: bucket, Policy: s.document(a.Bucket)}); err != nil {
			return err
		}
	}
	if p := a.PublicAccess; p != nil && p.RestrictPublicBuckets {
		block := &s3types.PublicAccessBlockConfiguration{RestrictPublicBuckets: aws.Bool(true), IgnorePublicAcls: &p.IgnorePublicAcls}
		_, err := c.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: bucket, PublicAccessBlockConfiguration: block})
		return err
	}
	return nil
}

// tokenClaims are what a token of the set-up's issuer says.
type tokenClaims struct {
	audience, subject string
	tags              map[string]string
	passing           bool // the tags do not outlive a change of role
}

// token is our issuer's token for a tenant, as the set-up has it.
func (s *stage) token(tenant string) tokenClaims {
	c := s.account.Config
	return tokenClaims{audience: c.Audience, subject: strings.TrimSuffix(SubjectPattern, "*") + tenant, tags: map[string]string{c.TagKey: tenant}}
}

// byToken exchanges a token for a session of a role.
func (s *stage) byToken(role, name string, claims tokenClaims) (aws.CredentialsProvider, error) {
	text, err := s.issuer.minter(s.t, "", func(c map[string]any) {
		delete(c, DefaultTagKey)
		c["sub"], c["aud"] = claims.subject, claims.audience
		principal, keys := map[string][]string{}, []string{}
		for key, v := range claims.tags {
			principal[key] = []string{v}
			keys = append(keys, key)
		}
		if claims.passing {
			keys = []string{}
		}
		c[tagsClaim] = map[string]any{"principal_tags": principal, "transitive_tag_keys": keys}
		if len(claims.tags) == 0 {
			delete(c, tagsClaim)
		}
	})(s.t.Context())
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = defaultSessionName
	}
	out, err := s.sts(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(s.t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(s.roleARN(role)), RoleSessionName: &name, WebIdentityToken: &text,
	})
	if err != nil {
		return nil, err
	}
	return sessionKey(out.Credentials), nil
}

func (s *stage) roleARN(name string) string {
	for _, r := range s.account.Roles {
		if r.Name == name || r.ARN == name {
			return r.ARN
		}
	}
	return name
}

func sessionKey(c *ststypes.Credentials) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
}

// byCaller assumes a role with somebody's credentials.
func (s *stage) byCaller(who aws.CredentialsProvider, role string, context map[string][]string) (aws.CredentialsProvider, error) {
	in := &sts.AssumeRoleInput{RoleArn: aws.String(s.roleARN(role)), RoleSessionName: aws.String(defaultSessionName)}
	for key, v := range context {
		switch name, isTag := strings.CutPrefix(key, "aws:RequestTag/"); {
		case isTag:
			in.Tags = append(in.Tags, ststypes.Tag{Key: &name, Value: &v[0]})
		case strings.EqualFold(key, "sts:TransitiveTagKeys"):
			in.TransitiveTagKeys = v
		case strings.EqualFold(key, "sts:RoleSessionName"):
			in.RoleSessionName = &v[0]
		case strings.EqualFold(key, "sts:ExternalId"):
			in.ExternalId = &v[0]
		case strings.EqualFold(key, "sts:SourceIdentity"):
			in.SourceIdentity = &v[0]
		}
	}
	out, err := s.sts(who).AssumeRole(s.t.Context(), in)
	if err != nil {
		return nil, err
	}
	return sessionKey(out.Credentials), nil
}

// user is an access key of a user.
func (s *stage) user(name string) (aws.CredentialsProvider, error) {
	if key, ok := s.keys[name]; ok {
		return key, nil
	}
	out, err := s.iam().CreateAccessKey(s.t.Context(), &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		return nil, fmt.Errorf("an access key of %s: %w", name, err)
	}
	s.keys[name] = credentials.NewStaticCredentialsProvider(*out.AccessKey.AccessKeyId, *out.AccessKey.SecretAccessKey, "")
	return s.keys[name], nil
}
