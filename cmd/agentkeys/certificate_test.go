package main

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/config"
	"agentkeys/token"
)

// TestCertificatesReachTheJWKS goes from the variables to the bytes that are served.
func TestCertificatesReachTheJWKS(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, purpose := range map[string]token.Purpose{
		"oidc.jwk": token.PurposeOIDC, "next.jwk": token.PurposeOIDC, "session.jwk": token.PurposeSession,
	} {
		key, err := token.GenerateKey(purpose)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.WriteKeyFile(file(name), key); err != nil {
			t.Fatal(err)
		}
	}
	audit, err := token.GenerateAuditKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := token.WriteAuditKeyFile(file("audit.jwk"), audit); err != nil {
		t.Fatal(err)
	}
	p := &program{stdout: io.Discard, stderr: io.Discard}
	for _, name := range []string{"oidc", "next"} {
		if err := p.certify(file(name+".jwk"), file(name+".pem"), 24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{
		"BROKER_ISSUER=https://broker.example.com", "BROKER_DATA_DIR=" + dir, "BROKER_OIDC_KEY_FILE=" + file("oidc.jwk"),
		"BROKER_OIDC_EXTRA_KEY_FILES=" + file("next.jwk"), "BROKER_SESSION_KEY_FILE=" + file("session.jwk"),
		"BROKER_AUDIT_KEY_FILE=" + file("audit.jwk"),
	}
	jwks := func(extra ...string) string {
		c, err := config.Load(append(environ, extra...))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := loadKeys(c)
		if err != nil {
			t.Fatal(err)
		}
		parts, _, err := assemble(c, keys, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return string(parts.OIDCKeys.JWKS())
	}
	if got := jwks(); strings.Contains(got, "x5c") || strings.Contains(got, "x5t") {
		t.Errorf("without certificates the JWKS is %s", got)
	}
	got := jwks("BROKER_OIDC_CERTIFICATE_FILES=" + file("next.pem") + "," + file("oidc.pem"))
	if strings.Count(got, `"x5c":["MII`) != 2 || strings.Count(got, `"x5t#S256":"`) != 2 {
		t.Errorf("with two certificates the JWKS is %s", got)
	}
}
