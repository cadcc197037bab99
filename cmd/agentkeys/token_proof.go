package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/token"
)

// proofTokenOptions are the flags of token proof.
type proofTokenOptions struct {
	federationOptions
	oidcKey, tenant, out, otherOut string
}

func (p *program) proofToken() *cobra.Command {
	var o proofTokenOptions
	cmd := &cobra.Command{
		Use:   "proof --oidc-key FILE --tenant W --out FILE",
		Short: "Sign a token of a tenant's, for the proof that its sessions are revoked",
		Long: `Signs, with the issuer's key and without the tenant's wallet, a web identity token of a tenant's:
the one that "agentkeys revoke --token" needs on a machine that has AWS credentials and not the
issuer's key.

Whoever holds it acts as the tenant for five minutes, and at STS for up to five more. It is in no
record of the broker's; a line on standard error says what was signed. It goes to a file of mode
0600.

With --other-out it signs a second token, of a tenant that is made up, for "revoke --other-token":
by its session the proof shows that other tenants are spared.

The configuration is that of "agentkeys federation": on the broker host the BROKER_* variables.`,
		Example: "  agentkeys token proof --oidc-key oidc.jwk --tenant 0x52908400098527886e0f7030069857d2e4169ee7 \\\n" +
			"      --out proof.jwt --other-out other.jwt",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.signProofTokens(cmd, &o) },
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.oidcKey, "oidc-key", "", "`FILE` of the issuer's key")
	cmd.Flags().StringVar(&o.tenant, "tenant", "", "`TAG` of the tenant: 0x and 40 digits, or 64 digits, in lower case")
	cmd.Flags().StringVar(&o.out, "out", "", "`FILE` to write the token to, in the place of an earlier one")
	cmd.Flags().StringVar(&o.otherOut, "other-out", "", "`FILE` to write a made-up tenant's token to")
	return cmd
}

func (p *program) signProofTokens(cmd *cobra.Command, o *proofTokenOptions) error {
	if o.oidcKey == "" || o.tenant == "" || o.out == "" {
		return usage(hint{errors.New("--oidc-key, --tenant and --out are all needed"), `see "agentkeys token proof --help"`})
	}
	if o.out == o.otherOut {
		return usage(fmt.Errorf("--out and --other-out: want two files, got %s for both", o.out))
	}
	if err := checkTenantFlag(o.tenant); err != nil {
		return usage(err)
	}
	c, err := o.load(cmd, p.environ)
	if err != nil {
		return err
	}
	identities, err := issuerOf(o.oidcKey, c)
	if err != nil {
		return err
	}
	if err := p.signProofToken(identities, o.tenant, o.out); err != nil || o.otherOut == "" {
		return err
	}
	return p.signProofToken(identities, madeUpTenant(), o.otherOut)
}

// signProofToken signs one and says so: nothing else records it.
func (p *program) signProofToken(identities *token.WebIdentities, tenant, out string) error {
	jwt, says, err := identities.Mint(tenant, time.Now())
	if err != nil {
		return fmt.Errorf("signing a token: %w", err)
	}
	if err := writeToken(out, jwt.Reveal()); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "agentkeys: note: signed with the issuer's key %s, in no record of the broker's: %s, token %s of tenant %s."+
		" Whoever has the file acts as that tenant until %s\n", says.KeyID, out, says.ID, says.Tag, says.ExpiresAt.UTC().Format(time.RFC3339))
	return nil
}
