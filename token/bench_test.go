package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"testing"
)

// What signing costs by itself, to hold BenchmarkMint and BenchmarkIssue
// against.
func BenchmarkRawSign(b *testing.B) {
	key := newTestKey(b, PurposeOIDC)
	digest := sha256.Sum256([]byte("text"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.signer.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}

// What verifying costs by itself, to hold BenchmarkVerify against.
func BenchmarkRawVerify(b *testing.B) {
	key := newTestKey(b, PurposeSession)
	digest := sha256.Sum256([]byte("text"))
	sig, err := key.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.VerifyASN1(key.public, digest[:], sig) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkMint(b *testing.B) {
	webs := newWebIdentities(b, newTestKey(b, PurposeOIDC))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := webs.Mint(testWallet, testNow); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	sessions := newSessions(b, newTestKey(b, PurposeSession))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := sessions.Issue(testSubject, testNow); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify forgets each verification, which costs next to nothing.
func BenchmarkVerify(b *testing.B) {
	sessions := newSessions(b, newTestKey(b, PurposeSession))
	raw, session := issue(b, sessions, testSubject)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sessions.Verify(raw, testNow); err != nil {
			b.Fatal(err)
		}
		sessions.Forget(session.ID)
	}
}

func BenchmarkVerifyRemembered(b *testing.B) {
	sessions := newSessions(b, newTestKey(b, PurposeSession))
	raw, _ := issue(b, sessions, testSubject)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sessions.Verify(raw, testNow); err != nil {
			b.Fatal(err)
		}
	}
}
