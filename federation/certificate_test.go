package federation_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/go-jose/go-jose/v4"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/broker"
	"agentkeys/federation"
	"agentkeys/localaws"
	"agentkeys/token"
)

// TestCertificateLeavesAWSAsItIs: a JWKS with certificates is one that AWS takes,
// whose rule is that x5c must agree with the key.
func TestCertificateLeavesAWSAsItIs(t *testing.T) {
	b := newKeyedBroker(t, certifiedRing(t, newOIDCKey(t), newOIDCKey(t)))
	c := federation.Config{
		Issuer: b.Issuer, Account: "000011112222", Region: "us-east-1", Role: federation.DefaultRole, Bucket: "agentkeys-test",
		Prefix: federation.DefaultPrefix, TagKey: federation.DefaultTagKey, Audience: federation.DefaultAudience,
	}
	conf := localaws.Config{Dir: t.TempDir(), Account: c.Account, Region: c.Region}
	must(t, localaws.Create(conf))
	local, err := localaws.Open(conf)
	must(t, err)
	server := httptest.NewServer(local)
	t.Cleanup(func() {
		server.Close()
		must(t, local.Close())
	})
	id, secret := local.AdminCredentials()
	key := credentials.NewStaticCredentialsProvider(id, secret, "")
	admin := federation.AWS{
		IAM: iam.New(iam.Options{Region: c.Region, BaseEndpoint: &server.URL, Credentials: key}),
		S3:  s3.New(s3.Options{Region: c.Region, BaseEndpoint: &server.URL, Credentials: key, UsePathStyle: true}),
	}
	d, err := federation.Render(c, federation.Hardened)
	must(t, err)
	must(t, federation.SetUp(t.Context(), admin, c, d, nil))
	_, alice := b.SignIn(t)
	_, bob := b.SignIn(t)
	r, err := federation.Prove(t.Context(), federation.Proof{
		Config: c, Target: federation.Target{Name: "local AWS", Local: true, STS: server.URL, S3: server.URL},
		Tenants: b.tenants(alice, bob), Control: b.untagged(alice), Seeder: admin.S3,
	})
	must(t, err)
	if r.Verdict != federation.Proven {
		t.Errorf("verdict %s, want %s: %v %v", r.Verdict, federation.Proven, r.Broken, r.Unobserved)
	}
}

// keyedBroker is a real broker with keys of the test's choice.
type keyedBroker struct {
	*agentkeystest.Broker
	identities *token.WebIdentities
	thumbprint string // of the signing key's certificate
}

func newKeyedBroker(t *testing.T, ring *token.Keyring) *keyedBroker {
	t.Helper()
	b := &keyedBroker{thumbprint: thumbprint(t, ring)}
	b.Broker = agentkeystest.New(t, func(c *broker.Config) {
		b.identities = identities(t, c.Issuer, ring)
		c.OIDCKeys, c.Mint, c.Now = ring, b.identities.Mint, time.Now
	})
	return b
}

// tenants are two people with a session each. The broker mints their tokens.
func (b *keyedBroker) tenants(alice, bob api.Session) [2]federation.Tenant {
	tenant := func(name string, s api.Session) federation.Tenant {
		return federation.Tenant{Name: name, Tag: s.WalletAddress, Token: func(ctx context.Context) (string, error) {
			answer, err := b.Client.MintOIDC(ctx, s.SessionJWT)
			return answer.JWT, err
		}}
	}
	return [2]federation.Tenant{tenant("alice", alice), tenant("bob", bob)}
}

// untagged signs a token that the broker never mints.
func (b *keyedBroker) untagged(s api.Session) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		raw, _, err := b.identities.MintUntagged(s.WalletAddress, time.Now())
		return raw.Reveal(), err
	}
}

func identities(t *testing.T, issuer string, ring *token.Keyring) *token.WebIdentities {
	t.Helper()
	made, err := token.NewWebIdentities(token.WebIdentityConfig{
		Issuer: issuer, Audience: federation.DefaultAudience, Keys: ring, TTL: 5 * time.Minute, TagKey: token.TagKey})
	must(t, err)
	return made
}

// thumbprint is the SHA-1 of the first certificate that a JWKS has, as an operator
// would compute it.
func thumbprint(t *testing.T, ring *token.Keyring) string {
	t.Helper()
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal(ring.JWKS(), &set))
	if len(set.Keys[0].Certificates) == 0 {
		return ""
	}
	sum := sha1.Sum(set.Keys[0].Certificates[0].Raw)
	return hex.EncodeToString(sum[:])
}

func newOIDCKey(t *testing.T) *token.Key {
	t.Helper()
	key, err := token.GenerateKey(token.PurposeOIDC)
	must(t, err)
	return key
}

// certifiedRing has a certificate for each of its keys.
func certifiedRing(t *testing.T, signing *token.Key, others ...*token.Key) *token.Keyring {
	t.Helper()
	ring, err := token.NewKeyring(signing, others...)
	must(t, err)
	var certificates []*token.Certificate
	for _, k := range append(others, signing) {
		c, err := k.Certify(time.Now(), 24*time.Hour)
		must(t, err)
		certificates = append(certificates, c)
	}
	ring, err = ring.WithCertificates(time.Now(), certificates...)
	must(t, err)
	return ring
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
