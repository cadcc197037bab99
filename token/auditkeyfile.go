package token

import (
	"crypto/ed25519"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
)

// auditAlgorithm is the one of RFC 8037, section 3.1. RFC 9864 has a narrower name
// for the same, which fewer programs read.
const auditAlgorithm = "EdDSA"

// auditKeyFile is a private JWK of type OKP (RFC 8037, section 2) with a purpose
// beside it.
type auditKeyFile struct {
	Purpose   Purpose `json:"purpose"`
	Type      string  `json:"kty"`
	Curve     string  `json:"crv"`
	Algorithm string  `json:"alg"`
	Use       string  `json:"use"`
	KeyID     string  `json:"kid"`
	X         string  `json:"x"`
	D         string  `json:"d"`
}

// WriteAuditKeyFile writes a key to a new file as [WriteKeyFile] does.
func WriteAuditKeyFile(path string, k *AuditKey) error {
	fail := func(err error) error { return fmt.Errorf("writing %s key %q: %w", PurposeAudit, path, err) }
	data, err := encodeAuditKey(k)
	if err != nil {
		return fail(err)
	}
	if err := writeNewFile(path, data, 0o600); err != nil {
		return fail(err)
	}
	return nil
}

// LoadAuditKeyFile reads an audit key. It refuses what [LoadKeyFile] refuses, the
// keys of the other purposes among it, and anything but a whole and consistent
// Ed25519 key.
func LoadAuditKeyFile(path string) (*AuditKey, error) {
	return loadKey(path, PurposeAudit, parseAuditKey)
}

func encodeAuditKey(k *AuditKey) ([]byte, error) {
	data, err := json.MarshalIndent(auditKeyFile{
		Purpose: PurposeAudit, Type: "OKP", Curve: "Ed25519", Algorithm: auditAlgorithm, Use: "sig", KeyID: k.ID(),
		X: strict.EncodeToString(k.public),
		D: strict.EncodeToString(k.secret().private.Seed()),
	}, "", "  ")
	return append(data, '\n'), err
}

// parseAuditKey reads the content of a key file under the rules of parseKey.
func parseAuditKey(data []byte) (*AuditKey, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	if err := o.checkPurpose(PurposeAudit); err != nil {
		return nil, err
	}
	if err := o.only("purpose", "kty", "crv", "alg", "use", "kid", "x", "d"); err != nil {
		return nil, err
	}
	if err := o.checkConstants("kty", "OKP", "crv", "Ed25519", "alg", auditAlgorithm, "use", "sig"); err != nil {
		return nil, err
	}
	seed, err := o.coordinate("d")
	if err != nil {
		return nil, err
	}
	public, err := o.coordinate("x")
	if err != nil {
		return nil, err
	}
	k, err := newAuditKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(k.public, public) != 1 {
		return nil, errors.New("x: want the public half of d, got another")
	}
	if o["kid"] != k.ID() {
		return nil, fmt.Errorf("kid: want %s by the key's thumbprint, got another or none", k.ID())
	}
	return k, nil
}
