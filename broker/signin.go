package broker

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/auth"
	"agentkeys/identity"
	"agentkeys/token"
)

// keepChallenges is how long a challenge stays after its end, so that a late
// answer hears "used" or "expired" and not "unknown".
const keepChallenges = 24 * time.Hour

func (b *Broker) serveWalletStart(c *call) error {
	r := c.record(audit.ActionSignInStart)
	return b.recorded(c, r, func() error { return b.startWallet(c, r) })
}

// startWallet hands out a challenge. Its record names the address as what the caller
// says it is: nothing is proven yet.
func (b *Broker) startWallet(c *call, r *audit.Record) error {
	req, err := decode[api.WalletStartRequest](c)
	if err != nil {
		return err
	}
	if err := b.clock.check(c.now); err != nil {
		return err
	}
	challenge, err := b.Wallet.NewChallenge(req.Address, req.ChainID, c.now)
	if err != nil {
		return err
	}
	if err := b.takeSignIn(c); err != nil {
		return err
	}
	r.Outcome, r.Agent, r.Detail = audit.Issued, challenge.Address, challengeDetail(challenge)
	err = b.update(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := auth.Expire(ctx, tx, c.now.Add(-keepChallenges)); err != nil {
			return err
		}
		if err := b.Wallet.Save(ctx, tx, challenge); err != nil {
			return err
		}
		return c.append(ctx, tx, r)
	})
	if err != nil {
		return err
	}
	c.note("auth_request", challenge.RequestID)
	return c.writeJSON(api.WalletStartResponse{
		RequestID:        challenge.RequestID,
		SIWEMessage:      challenge.Message,
		Nonce:            challenge.Nonce,
		ExpiresInSeconds: int64(challenge.ExpiresAt.Sub(challenge.IssuedAt) / time.Second),
		ExpiresAtISO:     challenge.ExpiresAt.UTC().Format("2006-01-02T15:04:05.000Z07:00"), // as in the message
	})
}

// challengeDetail is what the records of one sign-in have in common.
func challengeDetail(challenge auth.Challenge) string { return "challenge=" + challenge.RequestID }

func (b *Broker) serveWalletVerify(c *call) error {
	r := c.record(audit.ActionSignInVerify)
	return b.recorded(c, r, func() error { return b.finishWallet(c, r) })
}

func (b *Broker) finishWallet(c *call, r *audit.Record) error {
	req, err := decode[api.WalletVerifyRequest](c)
	if err != nil {
		return err
	}
	if err := b.clock.check(c.now); err != nil {
		return err
	}
	id, err := b.verifyWallet(c, req, r)
	if err != nil {
		return err
	}
	return b.writeSession(c, id)
}

// verifyWallet consumes the challenge, right or wrong, and records what came of
// it in the same transaction. The signature is checked before it, since
// recovery is slow and the writer is shared.
func (b *Broker) verifyWallet(c *call, req api.WalletVerifyRequest, record *audit.Record) (identity.Identity, error) {
	var challenge auth.Challenge
	// Under the same time as the write: hanging up must not spare a wrong answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), writeTimeout)
	defer cancel()
	err := b.Store.View(ctx, func(tx *sql.Tx) (err error) {
		challenge, err = b.Wallet.Pending(ctx, tx, req.RequestID)
		return err
	})
	var recovered string
	var recoverErr error
	var unusable *auth.Error
	switch {
	case errors.As(err, &unusable):
		recoverErr = unusable
	case err != nil:
		return identity.Identity{}, b.storeFailed(c, api.CodeStoreUnavailable, err)
	default:
		record.Detail = challengeDetail(challenge)
		recovered, recoverErr = b.Wallet.Recover(challenge, req.Signature)
	}

	var id identity.Identity
	var refused *auth.Error
	asked := *record
	err = b.update(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) (err error) {
		*record = asked // it may run twice
		id, refused, err = b.Wallet.Finish(ctx, tx, req.RequestID, recovered, recoverErr, c.now)
		if err != nil {
			return err
		}
		if refused != nil {
			record.Outcome, record.Reason = audit.Refused, refused.Code
			return b.appendRefusal(ctx, tx, c, record)
		}
		record.Outcome = audit.SignedIn
		b.describe(record, id)
		if err := c.append(ctx, tx, record); err != nil {
			return err
		}
		_, err = identity.SignIn(ctx, tx, id, c.now)
		return err
	})
	if err != nil {
		return identity.Identity{}, err
	}
	if refused != nil {
		return identity.Identity{}, recordedRefusal{refused}
	}
	return id, nil
}

// writeSession answers with a session token for a proven identity.
func (b *Broker) writeSession(c *call, id identity.Identity) error {
	subject := token.Subject{
		IdentityType:  string(id.Type),
		IdentityValue: id.Value,
		OmniAccount:   id.OmniAccount(),
		Wallet:        id.Wallet(),
	}
	jwt, session, err := b.Sessions.Issue(subject, c.now)
	if err != nil {
		return err
	}
	c.note("session_jti", session.ID)
	return c.writeJSON(api.Session{
		SessionJWT:    jwt.Reveal(),
		SessionJWTKid: session.KeyID,
		ExpiresAt:     session.ExpiresAt.Unix(),
		OmniAccount:   subject.OmniAccount,
		WalletAddress: subject.Wallet,
		IdentityType:  subject.IdentityType,
		IdentityValue: subject.IdentityValue,
	})
}

// describe fills in whose identity was proven. An e-mail address goes by its
// pseudonym, which tells two of them apart and is none.
func (b *Broker) describe(r *audit.Record, id identity.Identity) {
	r.IdentityType, r.IdentityValue = string(id.Type), id.Value
	if id.Type == identity.Email {
		r.IdentityValue = b.Pseudonym(id.Value)
	}
	r.OmniAccount, r.Wallet = id.OmniAccount(), id.Wallet()
}
