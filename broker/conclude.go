package broker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agentkeys/api"
	"agentkeys/audit"
)

// concludeSuccess makes it durable at every anchor that credentials were given, the
// database last: only what is confirmed there was released, or may be to a retry.
// From the deadline of the intent on nothing of it is.
func (b *Broker) concludeSuccess(c *call, m *mint, given Credentials) (*kept, error) {
	if !b.Now().Before(m.settleBy) {
		return nil, b.concludeUnreleased(c, m, given, errTooLate(), nil)
	}
	record := m.outcome(audit.Confirmed, "")
	record.CredentialID = given.AccessKeyID
	err := record.Name()
	if err == nil {
		err = b.anchor(c.ctx, *record)
	}
	if err != nil {
		return nil, b.concludeUnrecorded(c, m, given, err)
	}
	answer, inTime := &kept{Credentials: b.answer(m, given), GrantID: m.grant.ID}, false
	err = b.update(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) (err error) {
		if inTime, err = b.concludeRow(ctx, tx, m.row(), audit.Confirmed, answer); err != nil || !inTime {
			return err
		}
		return audit.Append(ctx, tx, record)
	})
	if err == nil && !inTime {
		err = errTooLate()
	}
	if err != nil {
		c.note("unreleased", given.AccessKeyID)
		b.metrics.mintAWS(audit.Quarantined, string(asAPI(err).Code))
		return nil, err
	}
	b.metrics.mintAWS(audit.Confirmed, "")
	return answer, nil
}

// concludeUnrecorded is the outcome of credentials that an anchor did not take.
func (b *Broker) concludeUnrecorded(c *call, m *mint, given Credentials, cause error) error {
	b.recording.failed(c.now, cause)
	return b.concludeUnreleased(c, m, given, api.Errorf(api.CodeAuditUnavailable, "an anchor did not take the record"), cause)
}

// concludeUnreleased is the outcome of credentials that exist and are released to
// nobody. The log names them: an intent that was settled meanwhile does not.
func (b *Broker) concludeUnreleased(c *call, m *mint, given Credentials, refusal *api.Error, cause error) error {
	c.note("unreleased", given.AccessKeyID)
	record := m.outcome(audit.Quarantined, string(refusal.Code))
	record.CredentialID = given.AccessKeyID
	err := b.conclude(c, m, record, errInterrupted())
	b.metrics.mintAWS(audit.Quarantined, string(refusal.Code))
	if cause = errors.Join(cause, err); cause != nil {
		return fmt.Errorf("%w: %w", refusal, cause)
	}
	return refusal
}

// concludeFailure is the outcome of a call that STS did not give credentials for, or
// may have, without our seeing them.
func (b *Broker) concludeFailure(c *call, m *mint, cause error) error {
	outcome, refusal := audit.Failed, asAPI(cause)
	var sts *STSError
	if errors.As(cause, &sts) && sts.Unknown {
		outcome, refusal = audit.Quarantined, api.Errorf(api.CodeSTSUnavailable, "AWS STS gave no answer that can be read")
	}
	err := b.conclude(c, m, m.outcome(outcome, string(refusal.Code)), refusal)
	if err != nil {
		b.metrics.mintAWS(outcome, string(api.CodeAuditUnavailable))
		return err
	}
	b.metrics.mintAWS(outcome, string(refusal.Code))
	return fmt.Errorf("%w: %w", refusal, cause)
}

// conclude makes an outcome without credentials durable. One that its deadline
// settled meanwhile has its outcome already.
func (b *Broker) conclude(c *call, m *mint, record *audit.Record, refusal *api.Error) error {
	return b.update(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		inTime, err := b.concludeRow(ctx, tx, m.row(), record.Outcome, &kept{Code: refusal.Code, Detail: refusal.Detail})
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
