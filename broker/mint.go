package broker

import (
	"strings"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/identity"
	"agentkeys/token"
)

// serveMintOIDC mints a web identity token for the bearer of a session. Minted
// or refused, the answer waits until its record is durable; without a record
// there is neither a token nor a reason.
func (b *Broker) serveMintOIDC(c *call) error {
	record := c.record(audit.ActionMintOIDC)
	defer func() {
		if p := recover(); p != nil { // a refusal too, if an unwanted one
			_ = b.refuseMint(c, record, api.Errorf(api.CodeInternal, "see the log"))
			panic(p)
		}
	}()
	jwt, minted, refusal := b.mint(c, record)
	if refusal != nil {
		return b.refuseMint(c, record, refusal)
	}
	record.Outcome, record.KeyID, record.TokenID = audit.Issued, minted.KeyID, minted.ID
	if err := b.record(c, record); err != nil {
		b.metrics.mint(audit.Refused, string(api.CodeAuditUnavailable))
		return err
	}
	c.note("jti", minted.ID)
	b.metrics.mint(audit.Issued, "")
	return c.writeJSON(api.MintOIDCResponse{JWT: jwt.Reveal(), Wallet: minted.Tag, Expiration: minted.ExpiresAt.Unix()})
}

// refuseMint records a refusal and returns what the client gets: the refusal, or
// that it could not be recorded.
func (b *Broker) refuseMint(c *call, record *audit.Record, refusal error) error {
	err := b.refuse(c, record, refusal)
	b.metrics.mint(audit.Refused, string(asAPI(err).Code))
	return err
}

// mint decides. It fills in who asks as soon as that is proven, so that a
// refusal further on says whom it concerned.
func (b *Broker) mint(c *call, record *audit.Record) (token.Secret, token.WebIdentity, error) {
	session, err := b.session(c)
	if err != nil {
		return token.Secret{}, token.WebIdentity{}, err
	}
	id := identity.Identity{Type: identity.Type(session.IdentityType), Value: session.IdentityValue}
	b.describe(record, id)
	if err := b.clock.check(c.now); err != nil {
		return token.Secret{}, token.WebIdentity{}, err
	}
	if err := decodeNothing(c); err != nil {
		return token.Secret{}, token.WebIdentity{}, err
	}
	if err := b.takeToken(c, session.OmniAccount); err != nil {
		return token.Secret{}, token.WebIdentity{}, err
	}
	return b.Mint(id.TenantTag(), c.now)
}

// session verifies the bearer token of a request (RFC 6750, section 2.1).
func (b *Broker) session(c *call) (token.Session, error) {
	headers := c.r.Header.Values("Authorization")
	if len(headers) != 1 {
		return token.Session{}, api.Errorf(api.CodeSessionRequired, "want one Authorization header, got %d", len(headers))
	}
	scheme, credentials, _ := strings.Cut(headers[0], " ")
	credentials = strings.TrimLeft(credentials, " ") // RFC 9110, section 11.4: one space or more
	if !strings.EqualFold(scheme, "Bearer") || credentials == "" {
		return token.Session{}, api.Errorf(api.CodeSessionRequired, "want Authorization: Bearer and a session token")
	}
	session, err := b.Sessions.Verify(credentials, c.now)
	if err != nil {
		return token.Session{}, err
	}
	c.note("session_jti", session.ID)
	return session, nil
}
