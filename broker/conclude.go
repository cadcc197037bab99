package broker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agentkeys/api"
	"agentkeys/audit"
)

// concludeSuccess makes it durable that credentials were given: in the database, and
// then at every anchor. What is confirmed was released, or may be to a retry; where an
// anchor does not take that it is taken back. From the deadline of the intent on
// nothing of it is released.
func (b *Broker) concludeSuccess(c *call, m *mint, given Credentials) (*kept, error) {
	if !b.Now().Before(m.settleBy) {
		return nil, b.concludeUnreleased(c, m, given, errTooLate())
	}
	record := m.outcome(audit.Confirmed, "")
	record.CredentialID = given.AccessKeyID
	answer, inTime := &kept{Credentials: b.answer(m, given), GrantID: m.grant.ID}, false
	sealed, err := b.seal(m.row(), answer)
	if err == nil {
		err = b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) (err error) {
			if inTime, err = concludeRow(ctx, tx, m.row(), audit.Confirmed, sealed); err != nil || !inTime {
				return err
			}
			return c.append(ctx, tx, record)
		})
	}
	switch {
	case err == nil && !inTime:
		err = errTooLate()
	case err == nil:
		if err = b.awaitAnchors(c); err != nil {
			b.takeBack(c, m, record)
		}
	}
	if err != nil {
		c.note("unreleased", given.AccessKeyID)
		b.metrics.mintAWS(audit.Quarantined, string(asAPI(err).Code))
		return nil, err
	}
	b.metrics.mintAWS(audit.Confirmed, "")
	answer.place = record.Seq
	return answer, nil
}

// takeBack has what was confirmed, and could not be released, be released to nobody.
// Where a retry was given the answer meanwhile, or this fails, it stays confirmed: the
// retry is released as any is, once its own record is at every anchor.
func (b *Broker) takeBack(c *call, m *mint, confirmed *audit.Record) {
	record := *confirmed
	record.ID, record.Outcome, record.Reason, record.Settles = "", audit.Quarantined, string(api.CodeAuditUnavailable), confirmed.ID
	err := b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		ours, err := b.takeBackRow(ctx, tx, m.row(), keptRefusal(errInterrupted()))
		if err != nil || !ours {
			return err
		}
		return c.append(ctx, tx, &record)
	})
	if err != nil {
		b.Log.WarnContext(c.ctx, "what was not released is kept for a retry", "request_id", c.requestID, "record", m.intent.ID, "error", err)
	}
}

// concludeUnreleased is the outcome of credentials that exist and are released to
// nobody. The log names them: an intent that was settled meanwhile does not.
func (b *Broker) concludeUnreleased(c *call, m *mint, given Credentials, refusal *api.Error) error {
	c.note("unreleased", given.AccessKeyID)
	record := m.outcome(audit.Quarantined, string(refusal.Code))
	record.CredentialID = given.AccessKeyID
	err := b.conclude(c, m, record, errInterrupted())
	if err == nil {
		err = b.awaitAnchors(c)
	}
	b.metrics.mintAWS(audit.Quarantined, string(refusal.Code))
	if err != nil {
		return fmt.Errorf("%w: %w", refusal, err)
	}
	return refusal
}

// concludeFailure is the outcome of a call that STS did not give credentials for, or
// may have, without our seeing them.
func (b *Broker) concludeFailure(c *call, m *mint, cause error) error {
	outcome, refusal := audit.Failed, asAPI(cause)
	var sts *STSError
	if errors.As(cause, &sts) && sts.Unknown {
		outcome, refusal = audit.Quarantined, api.Errorf(api.CodeSTSUnavailable, "%s", sts.unclear())
	}
	err := b.conclude(c, m, m.outcome(outcome, string(refusal.Code)), refusal)
	if err == nil {
		err = b.awaitAnchors(c)
	}
	if err != nil {
		b.metrics.mintAWS(outcome, string(api.CodeAuditUnavailable))
		return err
	}
	b.metrics.mintAWS(outcome, string(refusal.Code))
	return fmt.Errorf("%w: %w", refusal, cause)
}

// conclude makes an outcome without credentials durable in the database. One that its
// deadline settled meanwhile has its outcome already.
func (b *Broker) conclude(c *call, m *mint, record *audit.Record, refusal *api.Error) error {
	sealed, err := b.seal(m.row(), keptRefusal(refusal))
	if err != nil {
		return err
	}
	return b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		inTime, err := concludeRow(ctx, tx, m.row(), record.Outcome, sealed)
		if err != nil || !inTime {
			return err
		}
		return c.append(ctx, tx, record)
	})
}

// errInterrupted is what a retry of a call hears that was cut off. To send it once
// more is of no use, since its request_id is decided.
func errInterrupted() *api.Error {
	return api.Errorf(api.CodeMintInterrupted, "the first request was cut off")
}

// errTooLate is the answer where a mint took so long that it was settled meanwhile,
// as one of which nothing is released.
func errTooLate() *api.Error {
	return api.Errorf(api.CodeMintInterrupted, "the outcome came after %v, when nothing of it may be released", pendingTime)
}

// abandon settles an intent that an anchor, or an answer of the database that was
// lost, kept from being acted upon. Where that fails too, its deadline settles it.
func (b *Broker) abandon(c *call, m *mint) {
	if m.intent.ID == "" || m.intent.Outcome != audit.Pending {
		return
	}
	if err := b.conclude(c, m, m.outcome(audit.Failed, string(api.CodeAuditUnavailable)), errInterrupted()); err != nil {
		b.Log.WarnContext(c.ctx, "an intent is left to its deadline", "request_id", c.requestID, "record", m.intent.ID, "error", err)
	}
}

// outcome is the record of what came of an intent.
func (m *mint) outcome(outcome, reason string) *audit.Record {
	r := *m.intent
	r.ID, r.Outcome, r.Reason, r.Settles = "", outcome, reason, m.intent.ID
	return &r
}
