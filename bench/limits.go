package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp256k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"agentkeys/federation"
	"agentkeys/policy"
)

// limits is what the parts of a mint cost by themselves.
type limits struct {
	sign, verify, recover          time.Duration
	evaluateAllow, evaluateForeign time.Duration
}

type limit struct {
	name string
	each time.Duration
}

func (l limits) rows() []limit {
	return []limit{
		{"ES256 sign", l.sign},
		{"ES256 verify", l.verify},
		{"ES256 verify + sign", l.verify + l.sign},
		{"secp256k1 recover", l.recover},
		{"policy: own prefix, hardened set-up", l.evaluateAllow},
		{"policy: foreign prefix, hardened set-up", l.evaluateForeign},
	}
}

func measureLimits() (limits, error) {
	var l limits
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return l, err
	}
	sum := sha256.Sum256(make([]byte, 900))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return l, err
	}
	l.sign = each(func() { _, _ = ecdsa.SignASN1(rand.Reader, key, sum[:]) })
	l.verify = each(func() { ecdsa.VerifyASN1(&key.PublicKey, sum[:], signature) })

	private, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return l, err
	}
	compact := secp256k1ecdsa.SignCompact(private, sum[:], false)
	l.recover = each(func() { _, _, _ = secp256k1ecdsa.RecoverCompact(compact, sum[:]) })

	set, err := referenceSet()
	if err != nil {
		return l, err
	}
	own, foreign := request(tenantA), request(tenantB)
	l.evaluateAllow = each(func() { policy.Evaluate(own, set) })
	l.evaluateForeign = each(func() { policy.Evaluate(foreign, set) })
	return l, nil
}

func each(f func()) time.Duration {
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			f()
		}
	})
	return time.Duration(float64(r.T) / float64(r.N))
}

const (
	account = "111122223333"
	tenantA = "0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	tenantB = "0xbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func referenceSet() (*policy.Set, error) {
	documents, err := federation.Render(federation.Config{
		Issuer: "https://broker.example.com", Account: account, Region: "us-east-1", Role: "agentkeys-data-role",
		Bucket: "agentkeys-data", Prefix: "bots", TagKey: "agentkeys_user_wallet", Audience: "sts.amazonaws.com",
	}, federation.Hardened)
	if err != nil {
		return nil, err
	}
	p, err := policy.Compile("bucket policy", documents.BucketPolicy)
	if err != nil {
		return nil, err
	}
	return &policy.Set{Resource: []*policy.Policy{p}}, nil
}

// request is tenant A's, for an object under the prefix of the given tenant.
func request(prefix string) *policy.Request {
	const role = "arn:aws:iam::" + account + ":role/agentkeys-data-role"
	c := new(policy.Context)
	c.Set("aws:PrincipalArn", role)
	c.Set("aws:PrincipalTag/agentkeys_user_wallet", tenantA)
	return &policy.Request{
		Principal: policy.Principal{Kind: policy.RoleSession, Account: account, Issuer: role,
			ARN: "arn:aws:sts::" + account + ":assumed-role/agentkeys-data-role/a"},
		Action:          "s3:GetObject",
		Resource:        "arn:aws:s3:::agentkeys-data/bots/" + prefix + "/key",
		ResourceAccount: account,
		Context:         c,
	}
}
