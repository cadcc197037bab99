package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"agentkeys/client"
	"agentkeys/federation"
)

// proof says where the proof's requests go and how it comes by tokens. Without a way
// to one its Tenant has no Token.
func (o *revokeOptions) proof(ctx context.Context, c federation.Config) (federation.RevocationProof, error) {
	proof := federation.RevocationProof{Config: c, Tenant: federation.Tenant{Tag: o.tenant}, Timeout: o.timeout}
	if o.timeout <= 0 || o.timeout > federation.MaxRevocationTimeout {
		return proof, fmt.Errorf("--timeout: want more than 0 and at most %v, got %v", federation.MaxRevocationTimeout, o.timeout)
	}
	endpoints := proveOptions{federationOptions: o.federationOptions, stsEndpoint: o.stsEndpoint, s3Endpoint: o.s3Host}
	if err := endpoints.checkEndpoints(); err != nil {
		return proof, err
	}
	sdk, err := o.sdkConfig(ctx, c)
	if err != nil {
		return proof, err
	}
	proof.Target = endpoints.targetOf(sdk)
	switch {
	case o.oidcKey != "":
		proof.Tenant.Token, proof.Other, err = signedTenants(o.oidcKey, c, o.tenant)
	case o.wallet != "":
		proof.Tenant.Token, err = o.walletToken(c)
	case o.token != "":
		proof.Tenant.Token, proof.Other, err = o.fileTokens(c)
	}
	return proof, err
}

// signedTenants signs tokens with the issuer's key: for the tenant, and for one that
// is made up at random, so that nobody's own session has to be made for the control.
func signedTenants(keyFile string, c federation.Config, tenant string) (func(context.Context) (string, error), *federation.Tenant, error) {
	identities, err := issuerOf(keyFile, c)
	if err != nil {
		return nil, nil, err
	}
	sign := func(tag string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) {
			jwt, _, err := identities.Mint(tag, time.Now())
			if err != nil {
				return "", fmt.Errorf("signing a token: %w", err)
			}
			return jwt.Reveal(), nil
		}
	}
	tag := madeUpTenant()
	return sign(tenant), &federation.Tenant{Tag: tag, Token: sign(tag)}, nil
}

// madeUpTenant is the tag of a wallet that nobody has.
func madeUpTenant() string {
	wallet := make([]byte, 20)
	rand.Read(wallet) // which never fails
	return "0x" + hex.EncodeToString(wallet)
}

// walletToken signs the tenant's wallet in at the broker whenever a token is wanted.
func (o *revokeOptions) walletToken(c federation.Config) (func(context.Context) (string, error), error) {
	url := o.broker
	if url == "" {
		url = c.Issuer
	}
	broker, err := client.New(url, nil)
	if err != nil {
		return nil, fmt.Errorf("--broker: %w", err)
	}
	w, err := client.ReadWalletFile(o.wallet)
	if err != nil {
		return nil, err
	}
	if tag := strings.ToLower(w.Address()); tag != o.tenant {
		return nil, fmt.Errorf("--wallet: want that of tenant %s, got that of %s", o.tenant, tag)
	}
	return func(ctx context.Context) (string, error) { return freshToken(ctx, broker, w, o.tenant, o.chainID) }, nil
}

// fileTokens takes one token for all sessions: STS takes a token as often as it comes,
// while it is good. The other tenant is anybody else.
func (o *revokeOptions) fileTokens(c federation.Config) (func(context.Context) (string, error), *federation.Tenant, error) {
	tenant, err := tenantOfFile(o.token, c)
	if err != nil {
		return nil, nil, err
	}
	if tenant.Tag != o.tenant {
		return nil, nil, fmt.Errorf("--token: want one of tenant %s, got one of %s", o.tenant, tenant.Tag)
	}
	if o.otherToken == "" {
		return tenant.Token, nil, nil
	}
	other, err := tenantOfFile(o.otherToken, c)
	if err == nil && other.Tag == o.tenant {
		err = fmt.Errorf("--other-token: want one of another tenant, got one of %s", other.Tag)
	}
	return tenant.Token, &other, err
}
