package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/token"
)

// The validity of a certificate in days. It says nothing of the key's safety; a long
// one spares the operator from registering a new thumbprint before the key itself is
// replaced.
const (
	defaultCertificateDays = 3650
	maxCertificateDays     = 36500
)

func (p *program) certificate() *cobra.Command {
	var key, out string
	var days int
	cmd := &cobra.Command{
		Use:   "certificate --key FILE --out FILE [--days N]",
		Short: "Make a self-signed certificate for an OIDC key, for servers that want x5c in the JWKS",
		Long: `Makes a certificate for an OIDC key, signed by the key itself, and writes it to a file of mode 0644. An existing
file is never touched. The broker publishes it in the JWKS where BROKER_OIDC_CERTIFICATE_FILES names the file.

AWS needs no certificate. Ceph's RADOS gateway does, and wants its SHA-1 in the OIDC provider's ThumbprintList.`,
		Example: "  agentkeys certificate --key oidc.jwk --out oidc.pem",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			wrong := func(err error) error { return usage(hint{err, `see "agentkeys certificate --help"`}) }
			switch {
			case key == "":
				return wrong(errors.New("--key is missing: it names the file of an OIDC key"))
			case out == "":
				return wrong(errors.New("--out is missing: it names the file to write"))
			case days < 1 || days > maxCertificateDays:
				return wrong(fmt.Errorf("--days: want 1 to %d, got %d", maxCertificateDays, days))
			}
			return p.certify(key, out, time.Duration(days)*24*time.Hour)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "file of the OIDC key")
	cmd.Flags().StringVar(&out, "out", "", "file to write")
	cmd.Flags().IntVar(&days, "days", defaultCertificateDays, fmt.Sprintf("days that the certificate is valid, 1 to %d", maxCertificateDays))
	return cmd
}

func (p *program) certify(keyFile, out string, validity time.Duration) error {
	key, err := token.LoadKeyFile(keyFile, token.PurposeOIDC)
	if err != nil {
		return err
	}
	c, err := key.Certify(time.Now(), validity)
	if err != nil {
		return err
	}
	if err := token.WriteCertificateFile(out, c); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "wrote %s: %s, valid until %s\nSHA-1 thumbprint: %s\n",
		out, c.KeyID(), c.ExpiresAt().UTC().Format(time.DateOnly), c.SHA1())
	return nil
}
