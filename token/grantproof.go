package token

import (
	"fmt"
	"time"
)

// GrantProofType is the typ of a grant proof's header.
const GrantProofType = "agentkeys-grant+jwt"

// GrantTerms is the content of a grant, which its proof holds.
type GrantTerms struct {
	ID, Owner, Tenant, Daemon, Service, Path, Actions string
	ExpiresAt                                         time.Time // whole seconds
	MaxUses                                           int64
	CreatedAt                                         time.Time
}

// GrantProofs signs what was granted, so that an owner can show later what the
// broker agreed to. A proof buys nothing: its typ is no session token's, and it has
// no audience. It may be used concurrently.
type GrantProofs struct {
	issuer string
	ring   *Keyring
}

// NewGrantProofs makes the signer of an issuer. The ring is of purpose session.
func NewGrantProofs(issuer string, ring *Keyring) (*GrantProofs, error) {
	if err := checkIssuer(issuer); err != nil {
		return nil, fmt.Errorf("grant proofs: %w", err)
	}
	if err := checkRing(ring, PurposeSession); err != nil {
		return nil, fmt.Errorf("grant proofs: %w", err)
	}
	return &GrantProofs{issuer: issuer, ring: ring}, nil
}

type grantClaims struct {
	Issuer    string `json:"iss"`
	IssuedAt  int64  `json:"iat"`
	ID        string `json:"grant_id"`
	Owner     string `json:"owner"`
	Tenant    string `json:"tenant"`
	Daemon    string `json:"daemon_address"`
	Service   string `json:"service"`
	Path      string `json:"scope_path"`
	Actions   string `json:"actions"`
	ExpiresAt int64  `json:"expires_at"` // of the grant; the proof itself does not end
	MaxUses   int64  `json:"max_uses"`
}

// Sign returns the proof: a compact JWS (RFC 7515, section 7.1) by the session key
// over the grant's content.
func (p *GrantProofs) Sign(g GrantTerms) (string, error) {
	payload, err := encodeJSON(grantClaims{
		Issuer: p.issuer, IssuedAt: g.CreatedAt.Unix(), ID: g.ID, Owner: g.Owner, Tenant: g.Tenant, Daemon: g.Daemon,
		Service: g.Service, Path: g.Path, Actions: g.Actions, ExpiresAt: g.ExpiresAt.Unix(), MaxUses: g.MaxUses,
	})
	if err != nil {
		return "", fmt.Errorf("proving grant %s: %w", g.ID, err)
	}
	raw, err := p.ring.signing.sign(GrantProofType, payload)
	if err != nil {
		return "", fmt.Errorf("proving grant %s: %w", g.ID, err)
	}
	return raw.Reveal(), nil
}
