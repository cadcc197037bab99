package grant

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"agentkeys/federation"
	"agentkeys/localaws"
	"agentkeys/policy"
	"agentkeys/token"
)

// cloud is a local AWS with a set-up, and the issuer that it trusts.
type cloud struct {
	config federation.Config
	url    string
	admin  federation.AWS
	webs   *token.WebIdentities
	start  time.Time
	ahead  atomic.Int64 // how far the clock of the local AWS is ahead of the machine's
}

func newCloud(t *testing.T, inline map[string]*policy.Document) *cloud {
	t.Helper()
	key, err := token.GenerateKey(token.PurposeOIDC)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := token.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{config: testConfig(), start: time.Now()}
	c.config.Issuer = serveIssuer(t, ring)
	c.webs, err = token.NewWebIdentities(token.WebIdentityConfig{
		Issuer: c.config.Issuer, Audience: c.config.Audience, Keys: ring, TTL: 5 * time.Minute, TagKey: c.config.TagKey})
	if err != nil {
		t.Fatal(err)
	}
	conf := localaws.Config{Dir: t.TempDir(), Account: c.config.Account, Region: c.config.Region,
		Now: func() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }}
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
	c.url = server.URL
	id, secret := local.AdminCredentials()
	c.admin = c.clients(id, secret, "")
	documents, err := federation.Render(c.config, federation.Hardened)
	if err != nil {
		t.Fatal(err)
	}
	if err := federation.SetUp(t.Context(), c.admin, c.config, documents, inline); err != nil {
		t.Fatal(err)
	}
	return c
}

// serveIssuer publishes the ring as the broker does.
func serveIssuer(t *testing.T, ring *token.Keyring) string {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	answer := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, `{"issuer":"`+server.URL+`","jwks_uri":"`+server.URL+`/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`)
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) { answer(w, string(ring.JWKS())) })
	return server.URL
}

func (c *cloud) clients(id, secret, session string) federation.AWS {
	key := credentials.NewStaticCredentialsProvider(id, secret, session)
	return federation.AWS{
		IAM: iam.New(iam.Options{Region: c.config.Region, BaseEndpoint: &c.url, Credentials: key}),
		S3:  s3.New(s3.Options{Region: c.config.Region, BaseEndpoint: &c.url, Credentials: key, UsePathStyle: true}),
		STS: sts.New(sts.Options{Region: c.config.Region, BaseEndpoint: &c.url, Credentials: key}),
	}
}

// assume makes a session of the daemon for a grant, as the broker does.
func (c *cloud) assume(t *testing.T, s scope, until time.Time) *sts.AssumeRoleWithWebIdentityOutput {
	t.Helper()
	text, err := SessionPolicy(Target{"aws", c.config.Bucket, c.config.Prefix}, s.tenant, s.path, s.actions, until)
	if err != nil {
		t.Fatal(err)
	}
	jwt, _, err := c.webs.MintFor(daemonD, s.tenant, rand.Text(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	out, err := sts.New(sts.Options{Region: c.config.Region, BaseEndpoint: &c.url}).AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(c.config.RoleARN()), RoleSessionName: aws.String(SessionName(daemonD, "grn-ABCDEFGHIJKLMNOP")),
		WebIdentityToken: aws.String(jwt.Reveal()), DurationSeconds: aws.Int32(900), Policy: &text})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *cloud) session(t *testing.T, s scope, until time.Time) federation.AWS {
	t.Helper()
	k := c.assume(t, s, until).Credentials
	return c.clients(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
}

func (c *cloud) put(ctx context.Context, a federation.AWS, key string) error {
	_, err := a.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &c.config.Bucket, Key: &key, Body: strings.NewReader("text")})
	return err
}

func (c *cloud) get(ctx context.Context, a federation.AWS, key string) error {
	out, err := a.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.config.Bucket, Key: &key})
	if err == nil {
		err = out.Body.Close()
	}
	return err
}

func (c *cloud) remove(ctx context.Context, a federation.AWS, key string) error {
	_, err := a.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.config.Bucket, Key: &key})
	return err
}

func (c *cloud) list(ctx context.Context, a federation.AWS, prefix *string) error {
	_, err := a.S3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &c.config.Bucket, Prefix: prefix, Delimiter: aws.String("/")})
	return err
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestSessionAtAWS holds the policy against the local AWS by its wire, where the
// role may do everything and would be stopped by nothing else.
func TestSessionAtAWS(t *testing.T) {
	t.Parallel()
	full, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := newCloud(t, map[string]*policy.Document{"full": full})
	ctx := t.Context()
	s := scope{c.config, walletA, "reports/2026", AllActions()}
	// The bucket lets everybody of the role in besides, which no session policy
	// limits without a deny.
	c.openBucket(t)
	in, own := s.folder(), c.config.TenantPrefix(walletA)
	outside := []string{own + "reports/2026", own + "reports/20262/k", own + "reports/k", own + "k", c.config.TenantPrefix(walletB) + "reports/2026/k", "bots/k", "k"}
	for _, key := range outside {
		if err := c.put(ctx, c.admin, key); err != nil {
			t.Fatal(err)
		}
	}
	until := c.start.Add(10 * time.Minute).Truncate(time.Second)
	daemon := c.session(t, s, until)
	want := func(what, wanted string, err error) {
		t.Helper()
		if got := code(err); got != wanted {
			t.Errorf("%s: %q, want %q", what, got, wanted)
		}
	}
	want("put inside", "", c.put(ctx, daemon, in+"a/k"))
	want("get inside", "", c.get(ctx, daemon, in+"a/k"))
	want("get of what is not there", "NoSuchKey", c.get(ctx, daemon, in+"none"))
	want("list inside", "", c.list(ctx, daemon, &in))
	want("list deeper", "", c.list(ctx, daemon, aws.String(in+"a/")))
	want("upload in parts", "", c.uploadParts(ctx, daemon, in+"parts"))
	want("copy inside", "", c.copy(ctx, daemon, in+"a/k", in+"b"))
	want("delete inside", "", c.remove(ctx, daemon, in+"b"))
	for _, key := range outside {
		want("get "+key, "AccessDenied", c.get(ctx, daemon, key))
		want("put "+key, "AccessDenied", c.put(ctx, daemon, key))
		want("delete "+key, "AccessDenied", c.remove(ctx, daemon, key))
		want("list "+key, "AccessDenied", c.list(ctx, daemon, &key))
		want("copy in "+key, "AccessDenied", c.copy(ctx, daemon, key, in+"stolen"))
		want("copy out to "+key, "AccessDenied", c.copy(ctx, daemon, in+"a/k", key))
		want("get of the administrator", "", c.get(ctx, c.admin, key))
	}
	for what, prefix := range map[string]*string{"the parent": aws.String(own + "reports/"), "the prefix without a slash": aws.String(strings.TrimSuffix(in, "/")),
		"the tenant": &own, "all tenants": aws.String("bots/"), "the bucket": aws.String("")} {
		want("list "+what, "AccessDenied", c.list(ctx, daemon, prefix))
	}
	want("list without a prefix", "AccessDenied", c.list(ctx, daemon, nil))
	for _, query := range []string{"prefix=" + in + "&prefix=bots/", "prefix=bots/&prefix=" + in} {
		// What AWS makes of two is not known; the local AWS refuses them.
		want("list with "+query, "InvalidArgument", c.listRaw(ctx, daemon, query))
	}
	_, err = daemon.IAM.ListRoles(ctx, &iam.ListRolesInput{})
	want("IAM", "AccessDenied", err)
	_, err = daemon.STS.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(c.config.RoleARN()), RoleSessionName: aws.String("again")})
	want("another session", "AccessDenied", err)
	_, err = daemon.S3.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: &c.config.Bucket})
	want("the bucket's policy", "AccessDenied", err)
	_, err = daemon.S3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &c.config.Bucket, Key: aws.String(in + "a/k")})
	want("tags inside", "AccessDenied", err)
	_, err = daemon.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &c.config.Bucket, Key: aws.String(in + "tagged"), Tagging: aws.String("a=b"), Body: strings.NewReader("")})
	want("put with tags", "AccessDenied", err)
	_, err = daemon.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.config.Bucket, Key: aws.String(in + "a/k"), VersionId: aws.String("null")})
	want("a version inside", "AccessDenied", err)

	c.ahead.Store(int64(time.Until(until) - time.Minute))
	want("get a minute before the end", "", c.get(ctx, daemon, in+"a/k"))
	c.ahead.Store(int64(time.Until(until)))
	want("get at the end", "AccessDenied", c.get(ctx, daemon, in+"a/k"))
	want("put at the end", "AccessDenied", c.put(ctx, daemon, in+"late"))
	want("list at the end", "AccessDenied", c.list(ctx, daemon, &in))
}

// openBucket adds to the bucket's policy that all of the role may do all, in the
// two forms that an implicit deny of a session policy does not limit.
func (c *cloud) openBucket(t *testing.T) {
	t.Helper()
	out, err := c.admin.S3.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: &c.config.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	resources := `"Resource":["` + c.config.BucketARN() + `","` + c.config.BucketARN() + `/*"]`
	session := scope{config: c.config}.sessionARN()
	open := `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"s3:*",` + resources + `,"Condition":{"ArnEquals":{"aws:PrincipalArn":"` + c.config.RoleARN() + `"}}},` +
		`{"Effect":"Allow","Principal":{"AWS":"` + session + `"},"Action":"s3:*",` + resources + `},`
	// The hardened denies stay out of it: they would stop what is to be seen here.
	text := `{"Version":"2012-10-17","Statement":[` + strings.TrimSuffix(open, ",") + `]}`
	if !strings.Contains(*out.Policy, "DenyObjectsOutsideTenant") {
		t.Fatal("the set-up is not hardened")
	}
	if _, err := c.admin.S3.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &c.config.Bucket, Policy: &text}); err != nil {
		t.Fatal(err)
	}
}

func (c *cloud) copy(ctx context.Context, a federation.AWS, from, to string) error {
	_, err := a.S3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &c.config.Bucket, Key: &to, CopySource: aws.String(c.config.Bucket + "/" + from)})
	return err
}

func (c *cloud) uploadParts(ctx context.Context, a federation.AWS, key string) error {
	begun, err := a.S3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &c.config.Bucket, Key: &key})
	if err != nil {
		return err
	}
	part, err := a.S3.UploadPart(ctx, &s3.UploadPartInput{Bucket: &c.config.Bucket, Key: &key, UploadId: begun.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("part")})
	if err != nil {
		return err
	}
	_, err = a.S3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &c.config.Bucket, Key: &key, UploadId: begun.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}}})
	return err
}

// listRaw lists with a query as it is written.
func (c *cloud) listRaw(ctx context.Context, a federation.AWS, query string) error {
	_, err := a.S3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &c.config.Bucket}, func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, withQuery(query))
	})
	return err
}

// TestSessionByCLI drives the AWS CLI: an upload in parts needs no more than put,
// and "aws s3 ls" of the folder no more than list.
func TestSessionByCLI(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Fatal("the AWS CLI is not installed: want aws on PATH (Debian: apt-get install awscli)")
	}
	c := newCloud(t, nil)
	s := scope{c.config, walletA, "reports", AllActions()}
	k := c.assume(t, s, c.start.Add(time.Hour)).Credentials
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 9<<16) // 9 MiB, over the CLI's threshold of 8
	if err := os.WriteFile(filepath.Join(dir, "big"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--endpoint-url", c.url}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "AWS_CONFIG_FILE="+filepath.Join(dir, "none"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(dir, "none"),
			"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_DEFAULT_REGION="+c.config.Region, "AWS_MAX_ATTEMPTS=1",
			"AWS_ACCESS_KEY_ID="+*k.AccessKeyId, "AWS_SECRET_ACCESS_KEY="+*k.SecretAccessKey, "AWS_SESSION_TOKEN="+*k.SessionToken)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	in := "s3://" + c.config.Bucket + "/" + s.folder()
	for _, args := range [][]string{
		{"s3", "cp", "--no-progress", "big", in + "big"},
		{"s3", "ls", in},
		{"s3", "cp", "--no-progress", in + "big", "back"},
		{"s3", "rm", in + "big"},
	} {
		if out, err := run(args...); err != nil {
			t.Fatalf("aws %s: %v: %s", args, err, out)
		}
	}
	if back, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || !bytes.Equal(back, big) {
		t.Errorf("what came back differs, %v", err)
	}
	for _, args := range [][]string{
		{"s3", "ls", "s3://" + c.config.Bucket},
		{"s3", "ls", strings.TrimSuffix(in, "/")},
		{"s3", "cp", "--no-progress", "big", "s3://" + c.config.Bucket + "/" + c.config.TenantPrefix(walletA) + "big"},
	} {
		if out, err := run(args...); err == nil || !strings.Contains(out, "AccessDenied") {
			t.Errorf("aws %s: %v: %s; want AccessDenied", args, err, out)
		}
	}
}

// TestPackedSize: the longest policy that can be has room at the local AWS, whose
// estimate follows recorded sizes of AWS.
func TestPackedSize(t *testing.T) {
	t.Parallel()
	c := newCloud(t, nil)
	for name, tt := range map[string]struct {
		scope scope
		most  int32
	}{
		"typical": {scope{c.config, walletA, "reports/2026", AllActions()}, 65},
		"longest": {scope{c.config, omniC, Path(strings.Repeat("p", maxPath)), AllActions()}, 95},
	} {
		//lint:ignore SA1019 clients of every age still read the deprecated member
		size := *c.assume(t, tt.scope, c.start.Add(time.Hour)).PackedPolicySize
		t.Logf("%s: packed to %d%%", name, size)
		if size > tt.most {
			t.Errorf("%s: packed to %d%%, want at most %d%%", name, size, tt.most)
		}
	}
}

// withQuery adds to the query before it is signed.
func withQuery(query string) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Build.Add(middleware.BuildMiddlewareFunc("query", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
			r := in.Request.(*smithyhttp.Request)
			r.URL.RawQuery += "&" + query
			return next.HandleBuild(ctx, in)
		}), middleware.After)
	}
}
