package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The bounds of what a certificate file may hold.
const (
	maxCertificateFileLen = 64 << 10 // bytes
	maxChainLen           = 8        // certificates
)

// certificateLead is how long before it is made a certificate begins, for verifiers
// whose clocks are behind.
const certificateLead = 5 * time.Minute

const certificateBlock = "CERTIFICATE" // RFC 7468, section 5

// Certificate is an X.509 certificate for the public half of an OIDC key, with the
// chain behind it where it has one. AWS STS needs none: it takes the key from the
// JWK. Ceph's RADOS gateway takes it from the JWK's x5c and from nowhere else.
//
// A certificate vouches for nothing here. Whoever reads the JWKS has fetched it
// from the issuer, and believes the key for that reason.
type Certificate struct {
	thumbprint string // of the key, as in Key
	chain      []*x509.Certificate
}

// Certify makes a certificate for the key, signed by the key itself.
func (k *Key) Certify(now time.Time, validity time.Duration) (*Certificate, error) {
	fail := func(err error) (*Certificate, error) {
		return nil, fmt.Errorf("certifying %s: %w", k.ID(), err)
	}
	if k.purpose != PurposeOIDC {
		return fail(fmt.Errorf("want a key for %s, which alone are published", PurposeOIDC))
	}
	if validity < time.Hour {
		return fail(fmt.Errorf("want a validity of an hour or more, got %s", validity))
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: k.ID()},
		NotBefore:             now.Add(-certificateLead),
		NotAfter:              now.Add(validity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, // and no CA
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.public, k.signer)
	if err != nil {
		return fail(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	return &Certificate{thumbprint: k.thumbprint, chain: []*x509.Certificate{c}}, nil
}

// WriteCertificateFile writes a certificate to a new file as PEM, mode 0644: it is
// as public as the JWKS. It never writes over a file.
func WriteCertificateFile(path string, c *Certificate) error {
	var text bytes.Buffer
	for _, cert := range c.chain {
		if err := pem.Encode(&text, &pem.Block{Type: certificateBlock, Bytes: cert.Raw}); err != nil {
			return fmt.Errorf("writing certificate %q: %w", path, err)
		}
	}
	if err := writeNewFile(path, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing certificate %q: %w", path, err)
	}
	return nil
}

// LoadCertificateFile reads a certificate in PEM: that of the key first, then each
// followed by the one that signed it (RFC 7517, section 4.7). Anything else in the
// file is refused, a private key above all.
func LoadCertificateFile(path string) (*Certificate, error) {
	fail := func(err error) (*Certificate, error) {
		return nil, fmt.Errorf("reading certificate %q: %w", path, err)
	}
	data, err := readCertificateFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(fmt.Errorf("%w; make one with agentkeys certificate --key KEY --out FILE", fs.ErrNotExist))
	}
	if err != nil {
		return fail(cause(err))
	}
	chain, err := parseChain(data)
	if err != nil {
		return fail(err)
	}
	c, err := newCertificate(chain)
	if err != nil {
		return fail(err)
	}
	return c, nil
}

func readCertificateFile(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, maxCertificateFileLen)
}

func parseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		switch {
		case block == nil && len(chain) == 0:
			return nil, errors.New("want a certificate in PEM, got none")
		case block == nil:
			return nil, fmt.Errorf("want nothing behind the last certificate, got %d bytes", len(data))
		case block.Type != certificateBlock:
			return nil, fmt.Errorf("want blocks of type %s alone, got one of another type (%.40q)", certificateBlock, block.Type)
		case len(chain) == maxChainLen:
			return nil, fmt.Errorf("want at most %d certificates, got more", maxChainLen)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain, data = append(chain, c), rest
	}
	if len(chain) == 0 {
		return nil, errors.New("want a certificate in PEM, got an empty file")
	}
	return chain, nil
}

// newCertificate holds a chain to what a JWK may carry as its x5c.
func newCertificate(chain []*x509.Certificate) (*Certificate, error) {
	leaf := chain[0]
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve.Params().BitSize != 8*coordinateLen {
		return nil, fmt.Errorf("want the certificate of a key on P-256, got one of %s", leaf.PublicKeyAlgorithm)
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, errors.New("key usage: want digitalSignature among them, or none said")
	}
	for i, c := range chain[:len(chain)-1] {
		if err := c.CheckSignatureFrom(chain[i+1]); err != nil {
			return nil, fmt.Errorf("certificate %d: want it signed by the one that follows it: %w", i+1, err)
		}
	}
	print, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("computing its key's thumbprint: %w", err)
	}
	return &Certificate{thumbprint: base64.RawURLEncoding.EncodeToString(print), chain: chain}, nil
}

// KeyID is the id of the OIDC key that the certificate is for.
func (c *Certificate) KeyID() string { return "ak-" + string(PurposeOIDC) + "-" + c.thumbprint }

// SHA1 is the certificate's SHA-1 in hexadecimal: the "thumbprint" by which an OIDC
// provider at IAM or Ceph knows it. Nothing here rests on it.
func (c *Certificate) SHA1() string {
	sum := sha1.Sum(c.chain[0].Raw)
	return hex.EncodeToString(sum[:])
}

// ExpiresAt is the end of the first certificate of the chain to end.
func (c *Certificate) ExpiresAt() time.Time {
	first := slices.MinFunc(c.chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	return first.NotAfter
}

func (c *Certificate) check(now time.Time) error {
	for _, cert := range c.chain {
		if now.Before(cert.NotBefore) || !now.Before(cert.NotAfter) {
			return fmt.Errorf("certificate of %s: want one that is valid at %s, got one from %s until %s", c.KeyID(),
				now.UTC().Format(time.RFC3339), cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
		}
	}
	return nil
}

// into adds the certificate to the JWK of its key. The chain goes into x5c and its
// SHA-256 into x5t#S256; x5t, the SHA-1, has no reader that wants it.
func (c *Certificate) into(k *jose.JSONWebKey) {
	sum := sha256.Sum256(c.chain[0].Raw)
	k.Certificates, k.CertificateThumbprintSHA256 = c.chain, sum[:]
}
