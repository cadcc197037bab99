package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"agentkeys/client"
	"agentkeys/federation"
	"agentkeys/token"
)

// tenantsOf says how a run comes by its two tenants.
func (o *proveOptions) tenantsOf(c federation.Config) (func() ([2]federation.Tenant, error), error) {
	if len(o.tokens) > 0 {
		return func() ([2]federation.Tenant, error) { return tokenTenants(o.tokens, c) }, nil
	}
	tenants, err := o.walletTenants(c)
	return func() ([2]federation.Tenant, error) { return tenants, nil }, err
}

// namedFile parts NAME=FILE. A name has no slash, so ./a=b is a file.
func namedFile(arg string) (name, path string, named bool) {
	name, path, named = strings.Cut(arg, "=")
	if !named || strings.Contains(name, "/") {
		return "", arg, false
	}
	return name, path, true
}

// walletTenants are tenants who sign in at the broker whenever a token is wanted.
// Without a name of their own they have that of the file.
func (o *proveOptions) walletTenants(c federation.Config) (tenants [2]federation.Tenant, err error) {
	url := o.broker
	if url == "" {
		url = c.Issuer
	}
	broker, err := client.New(url, nil)
	if err != nil {
		return tenants, fmt.Errorf("--broker: %w", err)
	}
	for i, arg := range o.wallets {
		name, path, named := namedFile(arg)
		if !named {
			name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		}
		w, err := client.ReadWalletFile(path)
		if err != nil {
			return tenants, err
		}
		tag := strings.ToLower(w.Address())
		tenants[i] = federation.Tenant{Name: name, Tag: tag, Token: func(ctx context.Context) (string, error) {
			return freshToken(ctx, broker, w, tag, o.chainID)
		}}
	}
	return tenants, nil
}

// freshToken signs a wallet in and mints a token for it.
func freshToken(ctx context.Context, broker *client.Client, w *client.Wallet, tag string, chainID int64) (string, error) {
	session, err := broker.SignIn(ctx, w, chainID)
	if err != nil {
		return "", err
	}
	if session.WalletAddress != tag {
		return "", fmt.Errorf("signing in: want a session for %s, got one for %s", tag, session.WalletAddress)
	}
	minted, err := broker.MintOIDC(ctx, session.SessionJWT)
	return minted.JWT, err
}

// tokenTenants are tenants whose tokens were minted elsewhere.
func tokenTenants(args []string, c federation.Config) (tenants [2]federation.Tenant, err error) {
	for i, arg := range args {
		name, path, named := namedFile(arg)
		if !named {
			return tenants, fmt.Errorf("--token: want NAME=FILE, got %q", arg)
		}
		tenant, err := tenantOfFile(path, c)
		if err != nil {
			return tenants, err
		}
		tenant.Name = name
		tenants[i] = tenant
	}
	return tenants, nil
}

// tenantOfFile is the tenant whose token a file holds.
func tenantOfFile(path string, c federation.Config) (federation.Tenant, error) {
	jwt, err := readTokenFile(path)
	if err != nil {
		return federation.Tenant{}, err
	}
	tag, err := federation.TenantOf(jwt, c)
	if err != nil {
		return federation.Tenant{}, fmt.Errorf("%s: %w", path, err)
	}
	return federation.Tenant{Tag: tag, Token: func(context.Context) (string, error) { return jwt, nil }}, nil
}

// maxToken is the most that STS takes (AssumeRoleWithWebIdentity,
// WebIdentityToken).
const maxToken = 20_000

// readTokenFile reads a token, with or without a line end. A pipe will do, such as a
// shell's <(agentkeys mint …).
func readTokenFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading the web identity token: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+2))
	if err != nil {
		return "", fmt.Errorf("reading the web identity token: %w", err)
	}
	jwt := strings.TrimSpace(string(data))
	if n := len(jwt); n == 0 || n > maxToken {
		return "", fmt.Errorf("reading the web identity token %s: want 1 to %d characters, got %d", path, maxToken, n)
	}
	return jwt, nil
}

// controlSource gives a run its control: a token like the tenant's without the tag.
type controlSource func(federation.Tenant) (func(context.Context) (string, error), error)

// controlOf is nil where there is no way to a control.
func (o *proveOptions) controlOf(c federation.Config) (controlSource, error) {
	switch {
	case o.controlToken != "":
		return func(federation.Tenant) (func(context.Context) (string, error), error) {
			jwt, err := readTokenFile(o.controlToken)
			return func(context.Context) (string, error) { return jwt, nil }, err
		}, nil
	case o.oidcKey != "":
		return signedControl(o.oidcKey, c)
	}
	return nil, nil
}

// issuerOf signs tokens with the issuer's key, as the broker does.
func issuerOf(keyFile string, c federation.Config) (*token.WebIdentities, error) {
	key, err := token.LoadKeyFile(keyFile, token.PurposeOIDC)
	if err != nil {
		return nil, err
	}
	ring, err := token.NewKeyring(key)
	if err != nil {
		return nil, err
	}
	return token.NewWebIdentities(token.WebIdentityConfig{
		Issuer: c.Issuer, Audience: c.Audience, Keys: ring, TTL: 5 * time.Minute, TagKey: c.TagKey})
}

// signedControl signs the control with the issuer's key.
func signedControl(keyFile string, c federation.Config) (controlSource, error) {
	identities, err := issuerOf(keyFile, c)
	if err != nil {
		return nil, err
	}
	return func(t federation.Tenant) (func(context.Context) (string, error), error) {
		return func(context.Context) (string, error) {
			jwt, _, err := identities.MintUntagged(t.Tag, time.Now())
			if err != nil {
				return "", fmt.Errorf("signing the control token: %w", err)
			}
			return jwt.Reveal(), nil
		}, nil
	}, nil
}
