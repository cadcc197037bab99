//go:build linux

package federation_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"agentkeys/api"
	"agentkeys/federation"
	"agentkeys/token"
)

// TestProveRadosgw proves the isolation at a server that is none of ours: Ceph's
// RADOS gateway, with tokens of a real broker and the documents of docs/radosgw.md.
// It runs beside no test that starts processes: between fork and exec a child holds
// the lock of a database that is closed and opened again meanwhile.
func TestProveRadosgw(t *testing.T) {
	needGateway(t)
	g := startGateway(t)
	w := newCephSetUp(t, g)
	t.Run("tenants are kept apart", w.keptApart)
	t.Run("a grant to everybody in the role", w.wideBucketPolicy)
	t.Run("a policy of the role's own", w.wideRolePolicy)
	t.Run("a bucket that anybody may read", w.publicBucket)
	t.Run("a trust policy that asks for no tag", w.untaggedTrust)
	t.Run("a JWKS without a certificate", w.noCertificate)
	t.Run("the documents for AWS at 16.2", w.documentsForAWS)
	t.Run("spaces in a form at 16.2", w.spacesInAForm)
	t.Run("Null at 16.2", w.nullAt16)
	t.Run("keys at 16.2", w.keysAt16)
	t.Run("thumbprints at 16.2", w.thumbprintsAt16)
}

// cephSetUp is the gateway with a broker, a role and a bucket.
type cephSetUp struct {
	*gateway
	config   federation.Config
	broker   *keyedBroker
	sessions [2]api.Session
	// The documents of docs/radosgw.md; merged has taken the spaces out.
	trustAsWritten, trust, policy string
}

func newCephSetUp(t *testing.T, g *gateway) *cephSetUp {
	t.Helper()
	w := &cephSetUp{gateway: g, broker: newKeyedBroker(t, certifiedRing(t, newOIDCKey(t)))}
	w.config = federation.Config{
		Issuer: w.broker.Issuer, Account: gatewayTenant, Region: "us-east-1", Role: federation.DefaultRole, Bucket: "agentkeys-test",
		Prefix: federation.DefaultPrefix, TagKey: federation.DefaultTagKey, Audience: federation.DefaultAudience,
	}
	for i := range w.sessions {
		_, w.sessions[i] = w.broker.SignIn(t)
	}
	w.readDocuments(t)
	w.register(t, w.broker.Issuer, w.broker.thumbprint)
	_, err := w.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &w.config.Role, AssumeRolePolicyDocument: &w.trust})
	must(t, err)
	_, err = w.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &w.config.Bucket})
	must(t, err)
	w.putBucketPolicy(t, w.policy)
	return w
}

var jsonBlock = regexp.MustCompile("(?s)```json\n(.*?)```")

// readDocuments takes the documents from the page that tells operators of them.
func (w *cephSetUp) readDocuments(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile("../docs/radosgw.md")
	must(t, err)
	blocks := jsonBlock.FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/radosgw.md: want two documents, got %d", len(blocks))
	}
	w.trustAsWritten = strings.ReplaceAll(string(blocks[0][1]), "HOST", w.config.ProviderID())
	w.trust = merged(t, w.trustAsWritten)
	var policies []string
	for _, s := range w.sessions {
		policies = append(policies, strings.NewReplacer("TENANT", s.WalletAddress, "BUCKET", w.config.Bucket).Replace(string(blocks[1][1])))
	}
	w.policy = merged(t, policies...)
}

// merged is one document with the statements of all, without spaces between them:
// see spacesInAForm.
func merged(t *testing.T, documents ...string) string {
	t.Helper()
	var all struct {
		Version   string
		Statement []json.RawMessage
	}
	for _, d := range documents {
		one := all
		one.Statement = nil
		must(t, json.Unmarshal([]byte(d), &one))
		all.Version, all.Statement = one.Version, append(all.Statement, one.Statement...)
	}
	text, err := json.Marshal(all)
	must(t, err)
	return string(text)
}

// register makes an OIDC provider with one thumbprint.
func (w *cephSetUp) register(t *testing.T, issuer, thumbprint string) {
	t.Helper()
	_, err := w.iam.CreateOpenIDConnectProvider(t.Context(), &iam.CreateOpenIDConnectProviderInput{
		Url: &issuer, ClientIDList: []string{w.config.Audience}, ThumbprintList: []string{thumbprint},
	})
	must(t, err)
}

func (w *cephSetUp) putBucketPolicy(t *testing.T, text string) {
	t.Helper()
	_, err := w.s3.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &w.config.Bucket, Policy: &text})
	must(t, err)
}

// changeBucketPolicy puts a bucket policy in force until the test ends.
func (w *cephSetUp) changeBucketPolicy(t *testing.T, text string) {
	t.Helper()
	w.putBucketPolicy(t, text)
	t.Cleanup(func() { // the test's context has ended by then
		_, err := w.s3.PutBucketPolicy(context.Background(), &s3.PutBucketPolicyInput{Bucket: &w.config.Bucket, Policy: &w.policy})
		must(t, err)
	})
}

// changeTrust puts a trust policy in force until the test ends.
func (w *cephSetUp) changeTrust(t *testing.T, text string) {
	t.Helper()
	put := func(ctx context.Context, text string) {
		_, err := w.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &w.config.Role, PolicyDocument: &text})
		must(t, err)
	}
	put(t.Context(), text)
	t.Cleanup(func() { put(context.Background(), w.trust) })
}

// prove makes the proof with all its controls.
func (w *cephSetUp) prove(t *testing.T) *federation.Report {
	t.Helper()
	r, err := federation.Prove(t.Context(), federation.Proof{
		Config: w.config,
		Target: federation.Target{
			Name: "Ceph's RADOS gateway", Other: true, STS: w.url, S3: w.url, PublicBucket: gatewayTenant + ":" + w.config.Bucket,
		},
		Tenants: w.broker.tenants(w.sessions[0], w.sessions[1]),
		Control: w.broker.untagged(w.sessions[0]),
		Seeder:  w.s3,
	})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			var text strings.Builder
			_ = r.WriteText(&text, false)
			t.Log("\n" + text.String())
		}
	})
	return r
}

// broken wants the verdict BROKEN for the probes of one id, and of none that must
// not be among them.
func broken(t *testing.T, r *federation.Report, id string, want federation.Answer) {
	t.Helper()
	if r.Verdict != federation.Broken {
		t.Errorf("verdict %s, want %s", r.Verdict, federation.Broken)
	}
	seen := 0
	for _, p := range r.Probes {
		if p.ID != id {
			continue
		}
		seen++
		if p.Result != federation.Contrary || p.Actual != want {
			t.Errorf("%s (%s): %s and %s, want %s and %s", p.ID, p.Actor, p.Actual, p.Result, want, federation.Contrary)
		}
	}
	if seen == 0 {
		t.Errorf("no probe %s", id)
	}
}

func (w *cephSetUp) keptApart(t *testing.T) {
	r := w.prove(t)
	if r.Verdict != federation.Proven || len(r.Broken) > 0 || len(r.Unobserved) > 0 || len(r.Leftovers) > 0 {
		t.Errorf("verdict %s, broken %v, not observed %v, left over %v; want %s and nothing else",
			r.Verdict, r.Broken, r.Unobserved, r.Leftovers, federation.Proven)
	}
	if r.Target.Kind != "other" || !strings.Contains(r.Target.Note, "only a run against AWS proves AWS") {
		t.Errorf("target %q, note %q: want another server that proves nothing of AWS", r.Target.Kind, r.Target.Note)
	}
	listed, err := w.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &w.config.Bucket})
	must(t, err)
	if len(listed.Contents) > 0 {
		t.Errorf("%d objects are left", len(listed.Contents))
	}
}

func (w *cephSetUp) wideBucketPolicy(t *testing.T) {
	w.changeBucketPolicy(t, merged(t, w.policy, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
		"Principal": {"AWS": ["`+w.config.RoleARN()+`"]}, "Action": ["s3:GetObject"], "Resource": ["`+w.config.BucketARN()+`/*"]}]}`))
	r := w.prove(t)
	broken(t, r, "foreign.get", federation.Allowed)
}

func (w *cephSetUp) wideRolePolicy(t *testing.T) {
	name, text := aws.String("old"), merged(t, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"],
		"Resource": ["`+w.config.BucketARN()+`/*"]}]}`)
	_, err := w.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &w.config.Role, PolicyName: name, PolicyDocument: &text})
	must(t, err)
	t.Cleanup(func() {
		_, err := w.iam.DeleteRolePolicy(context.Background(), &iam.DeleteRolePolicyInput{RoleName: &w.config.Role, PolicyName: name})
		must(t, err)
	})
	r := w.prove(t)
	broken(t, r, "foreign.get", federation.Allowed)
}

func (w *cephSetUp) publicBucket(t *testing.T) {
	w.changeBucketPolicy(t, merged(t, w.policy, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
		"Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": ["`+w.config.BucketARN()+`", "`+w.config.BucketARN()+`/*"]}]}`))
	r := w.prove(t)
	broken(t, r, "anonymous.get.alice", federation.Allowed)
	broken(t, r, "anonymous.list.bob", federation.Allowed)
}

func (w *cephSetUp) untaggedTrust(t *testing.T) {
	var d map[string]any
	must(t, json.Unmarshal([]byte(w.trust), &d))
	delete(d["Statement"].([]any)[0].(map[string]any), "Condition")
	text, err := json.Marshal(d)
	must(t, err)
	w.changeTrust(t, string(text))
	r := w.prove(t)
	broken(t, r, "control.untagged_token", federation.Allowed)
	for _, p := range r.Probes {
		if strings.HasPrefix(p.ID, "control.untagged_get.") && p.Actual != federation.Denied {
			t.Errorf("%s: %s, want %s: the bucket's policy asks for the tag", p.ID, p.Actual, federation.Denied)
		}
	}
}

// documentsForAWS: what we render for AWS lets nobody in here. The gateway refuses the
// bucket's policy, whose resources have a variable, and reads Null as true whenever
// the key is absent, whatever it is compared with.
func (w *cephSetUp) documentsForAWS(t *testing.T) {
	w.only16(t)
	for _, form := range []federation.Form{federation.Plain, federation.Hardened} {
		d, err := federation.Render(w.config, form)
		must(t, err)
		text, err := json.Marshal(d.BucketPolicy)
		must(t, err)
		_, err = w.s3.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &w.config.Bucket, Policy: aws.String(string(text))})
		var refused smithy.APIError
		if !errors.As(err, &refused) || refused.ErrorCode() != "InvalidArgument" {
			t.Errorf("%s: the bucket policy came to %v, want InvalidArgument", form, err)
		}
		text, err = json.Marshal(d.Trust)
		must(t, err)
		w.changeTrust(t, string(text))
		broken(t, w.prove(t), "session", federation.Denied)
	}
}

// noCertificate: the gateway takes the key from x5c alone.
func (w *cephSetUp) noCertificate(t *testing.T) {
	key := newOIDCKey(t)
	bare, err := token.NewKeyring(key)
	must(t, err)
	certified := newKeyedBroker(t, certifiedRing(t, key))
	if err := w.sessionBy(t, certified, certified.thumbprint); err != nil {
		t.Errorf("a token whose key has a certificate got no session: %v", err)
	}
	if err := w.sessionBy(t, newKeyedBroker(t, bare), certified.thumbprint); err == nil {
		t.Error("a token whose key has none got a session, want none")
	}
}

// spacesInAForm: the gateway takes the plus sign that stands for a space in a form for
// a plus sign, so a policy with spaces in it is none.
func (w *cephSetUp) spacesInAForm(t *testing.T) {
	w.only16(t)
	_, err := w.iam.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{
		RoleName: &w.config.Role, PolicyDocument: &w.trustAsWritten})
	if err == nil {
		t.Error("a trust policy with spaces was taken: docs/radosgw.md says otherwise")
	}
}

// nullAt16: 16.2 reads {"Null": {KEY: "false"}} as "KEY is absent", which is the
// opposite of what it says.
func (w *cephSetUp) nullAt16(t *testing.T) {
	w.only16(t)
	var d struct {
		Version   string
		Statement []map[string]any
	}
	must(t, json.Unmarshal([]byte(w.trust), &d))
	d.Statement[0]["Condition"] = map[string]any{"Null": map[string]string{"aws:RequestTag/" + w.config.TagKey: "false"}}
	text, err := json.Marshal(d)
	must(t, err)
	w.changeTrust(t, string(text))
	r := w.prove(t)
	broken(t, r, "session", federation.Denied)
	broken(t, r, "control.untagged_token", federation.Allowed)
}

// keysAt16: of several keys in the JWKS, 16.2 knows the first alone, whatever their
// ids. The key that signs comes first, so that a new one can take over; what the
// former one signed is worth nothing from then on.
func (w *cephSetUp) keysAt16(t *testing.T) {
	w.only16(t)
	one, two := newOIDCKey(t), newOIDCKey(t)
	for _, keys := range [][2]*token.Key{{one, two}, {two, one}} {
		b := newKeyedBroker(t, certifiedRing(t, keys[0], keys[1]))
		if err := w.sessionBy(t, b, unknownThumbprint); err != nil {
			t.Errorf("a token by the key that signs got no session: %v", err)
		}
		b = newKeyedBroker(t, certifiedRing(t, keys[0], keys[1]))
		b.identities = identities(t, b.Issuer, certifiedRing(t, keys[1]))
		if err := w.sessionBy(t, b, unknownThumbprint); err == nil {
			t.Error("a token by the other key got a session, want none")
		}
	}
}

// thumbprintsAt16: 16.2 compares the certificate with the provider's thumbprints and
// goes on whatever comes of it.
func (w *cephSetUp) thumbprintsAt16(t *testing.T) {
	w.only16(t)
	if err := w.sessionBy(t, newKeyedBroker(t, certifiedRing(t, newOIDCKey(t))), unknownThumbprint); err != nil {
		t.Errorf("with a thumbprint of another certificate there is no session (%v): docs/radosgw.md says otherwise", err)
	}
}

const unknownThumbprint = "0000000000000000000000000000000000000000"

// only16 skips what is known of one version.
func (w *cephSetUp) only16(t *testing.T) {
	t.Helper()
	out, err := exec.Command("radosgw", "--version").Output()
	must(t, err)
	if !strings.HasPrefix(string(out), "ceph version 16.2.") {
		t.Skipf("this is of Ceph 16.2; here is %s", out)
	}
}

// sessionBy exchanges a token of another broker's, at a provider and a role that are
// made for it.
func (w *cephSetUp) sessionBy(t *testing.T, b *keyedBroker, thumbprint string) error {
	t.Helper()
	w.register(t, b.Issuer, thumbprint)
	role := "role-" + strings.ToLower(rand.Text())
	trust := strings.ReplaceAll(w.trust, w.config.ProviderID(), strings.TrimPrefix(b.Issuer, "http://"))
	made, err := w.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: &trust})
	must(t, err)
	raw, _, err := b.identities.Mint(w.sessions[0].WalletAddress, time.Now())
	must(t, err)
	client := sts.New(sts.Options{Region: w.config.Region, BaseEndpoint: &w.url, Credentials: aws.AnonymousCredentials{}})
	_, err = client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: made.Role.Arn, RoleSessionName: aws.String("test"), WebIdentityToken: aws.String(raw.Reveal()),
	})
	return err
}
