package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func newCertificateOf(t *testing.T, k *Key) *Certificate {
	t.Helper()
	c, err := k.Certify(testNow, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificateIsWhatVerifiersRead(t *testing.T) {
	k := newTestKey(t, PurposeOIDC)
	path := filepath.Join(t.TempDir(), "oidc.pem")
	made := newCertificateOf(t, k)
	defer syscall.Umask(syscall.Umask(0o077))
	if err := WriteCertificateFile(path, made); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("want mode 0644, got %v, %v", info.Mode(), err)
	}
	if err := WriteCertificateFile(path, made); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written over: %v", err)
	}
	c, err := LoadCertificateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := newRing(t, k).WithCertificates(testNow, c)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet // which refuses a certificate of another key, and thumbprints of another certificate
	if err := json.Unmarshal(ring.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	jwk := set.Keys[0]
	if len(jwk.Certificates) != 1 || jwk.KeyID != k.ID() || !k.Public().Equal(jwk.Certificates[0].PublicKey) {
		t.Fatalf("the JWKS is %s", ring.JWKS())
	}
	leaf := jwk.Certificates[0]
	print256, print1 := sha256.Sum256(leaf.Raw), sha1.Sum(leaf.Raw)
	if !bytes.Equal(jwk.CertificateThumbprintSHA256, print256[:]) || len(jwk.CertificateThumbprintSHA1) > 0 {
		t.Error("want x5t#S256 of the certificate and no x5t")
	}
	if c.SHA1() != hex.EncodeToString(print1[:]) {
		t.Errorf("SHA-1 %s, want %x", c.SHA1(), print1)
	}
	if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		t.Error(err)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.Subject.CommonName != k.ID() {
		t.Errorf("CA %v, usage %b, name %q", leaf.IsCA, leaf.KeyUsage, leaf.Subject.CommonName)
	}
	if strings.Contains(string(ring.JWKS()), "key_ops") {
		t.Error("the JWKS has key_ops, which AWS refuses")
	}
}

// Without certificates not a byte changes. With one, the key that signs comes first.
func TestCertificatesInTheKeyring(t *testing.T) {
	one, two := newTestKey(t, PurposeOIDC), newTestKey(t, PurposeOIDC)
	plain := newRing(t, one, two)
	same, err := plain.WithCertificates(testNow)
	if err != nil || !bytes.Equal(same.JWKS(), plain.JWKS()) {
		t.Errorf("with no certificates the JWKS is %s, %v; want %s", same.JWKS(), err, plain.JWKS())
	}
	for _, keys := range [][2]*Key{{one, two}, {two, one}} {
		ring, err := newRing(t, keys[0], keys[1]).WithCertificates(testNow, newCertificateOf(t, one))
		if err != nil {
			t.Fatal(err)
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(ring.JWKS(), &set); err != nil {
			t.Fatal(err)
		}
		if len(set.Keys) != 2 || set.Keys[0].KeyID != keys[0].ID() || ring.SigningKeyID() != keys[0].ID() {
			t.Errorf("%s signs; the JWKS is %s", keys[0].ID(), ring.JWKS())
		}
		if has := len(set.Keys[0].Certificates) == 1; has != (keys[0] == one) {
			t.Errorf("the certificate is at another key: %s", ring.JWKS())
		}
	}
}

func TestCertificatesThatDoNotFit(t *testing.T) {
	k, other := newTestKey(t, PurposeOIDC), newTestKey(t, PurposeOIDC)
	c, foreign := newCertificateOf(t, k), newCertificateOf(t, other)
	ring := newRing(t, k)
	for name, test := range map[string]struct {
		now          time.Time
		certificates []*Certificate
		want         []string
	}{
		"another key's": {testNow, []*Certificate{foreign}, []string{k.ID(), other.ID()}},
		"two of one":    {testNow, []*Certificate{c, newCertificateOf(t, k)}, []string{"two", k.ID()}},
		"ended":         {testNow.Add(24 * time.Hour), []*Certificate{c}, []string{k.ID(), "2026-11-24T12:00:00Z", "until 2026-11-24T12:00:00Z"}},
		"to come":       {testNow.Add(-6 * time.Minute), []*Certificate{c}, []string{k.ID(), "from 2026-11-23T11:55:00Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ring.WithCertificates(test.now, test.certificates...)
			wantText(t, err, test.want...)
		})
	}
	if _, err := ring.WithCertificates(testNow.Add(-4*time.Minute), c); err != nil {
		t.Errorf("a clock that is 4 minutes behind: %v", err)
	}
	session := newTestKey(t, PurposeSession)
	_, err := session.Certify(testNow, time.Hour)
	wantText(t, err, session.ID(), "oidc")
	if _, err = newRing(t, session).WithCertificates(testNow, c); err == nil {
		t.Error("a keyring of session keys takes a certificate")
	}
	_, err = k.Certify(testNow, time.Minute)
	wantText(t, err, k.ID(), "1m0s")
}

// authority signs certificates for a public key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{key: key}
	a.cert = &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = a.sign(t, *a.cert, key.Public())
	return a
}

func (a authority) sign(t *testing.T, template x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), testNow.Add(-time.Hour), testNow.Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &template, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pemOf(certificates ...*x509.Certificate) string {
	var b bytes.Buffer
	for _, c := range certificates {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a bytes.Buffer takes every write
	}
	return b.String()
}

func TestCertificateFiles(t *testing.T) {
	k := newTestKey(t, PurposeOIDC)
	root, stranger := newAuthority(t), newAuthority(t)
	leaf := root.sign(t, x509.Certificate{Subject: pkix.Name{CommonName: "broker"}}, k.public)
	enciphers := root.sign(t, x509.Certificate{KeyUsage: x509.KeyUsageKeyEncipherment}, k.public)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("the secret")}))
	var long []*x509.Certificate
	for range maxChainLen + 1 {
		long = append(long, leaf)
	}
	for name, test := range map[string]struct{ content, want string }{
		"a leaf":               {pemOf(leaf), ""},
		"a chain":              {pemOf(leaf, root.cert), ""},
		"text before":          {"Certificate:\n    Data:\n" + pemOf(leaf), ""},
		"no certificate":       {"{}", "want a certificate in PEM, got none"},
		"nothing":              {" \n", "empty file"},
		"text behind":          {pemOf(leaf) + "more", "nothing behind"},
		"a private key":        {pemOf(leaf) + private, "want blocks of type CERTIFICATE alone"},
		"broken":               {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "certificate 1"},
		"another's chain":      {pemOf(leaf, stranger.cert), "certificate 1: want it signed by the one that follows it"},
		"chain in wrong order": {pemOf(root.cert, leaf), "P-256"},
		"RSA":                  {pemOf(root.sign(t, x509.Certificate{}, rsaKey.Public())), "P-256, got one of RSA"},
		"P-384":                {pemOf(root.cert), "P-256"},
		"for enciphering":      {pemOf(enciphers), "digitalSignature"},
		"many":                 {pemOf(long...), "at most"},
		"much":                 {strings.Repeat("\n", maxCertificateFileLen+1), "at most 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.pem")
			if err := os.WriteFile(path, []byte(test.content), 0o644); err != nil {
				t.Fatal(err)
			}
			c, err := LoadCertificateFile(path)
			if test.want != "" {
				wantText(t, err, "reading certificate", path, test.want)
				if strings.Contains(err.Error(), "the secret") {
					t.Errorf("the error shows what the file holds: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.KeyID() != k.ID() {
				t.Errorf("for key %s, want %s", c.KeyID(), k.ID())
			}
			if _, err := newRing(t, k).WithCertificates(testNow, c); err != nil {
				t.Error(err)
			}
		})
	}
	_, err = LoadCertificateFile(filepath.Join(t.TempDir(), "absent"))
	wantText(t, err, "file does not exist", "agentkeys certificate")
	_, err = LoadCertificateFile(t.TempDir())
	wantText(t, err, "got a directory")
}
