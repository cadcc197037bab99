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
func (b *Broker) concludeSuccess(c *call, m *mint, given Credentials) (*kept, error) {
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
		b.metrics.mintAWS(audit.Quarantined, string(api.CodeAuditUnavailable))
		return nil, err
	}
	b.metrics.mintAWS(audit.Confirmed, "")
	return answer, nil
}

// concludeUnrecorded is the outcome of credentials that an anchor did not take:
// they exist and are not released.
func (b *Broker) concludeUnrecorded(c *call, m *mint, given Credentials, cause error) error {
	b.recording.failed(c.now, cause)
	refusal := api.Errorf(api.CodeAuditUnavailable, "an anchor did not take the record")
	record := m.outcome(audit.Quarantined, string(refusal.Code))
	record.CredentialID = given.AccessKeyID
	err := b.conclude(c, m, record, refusal)
	b.metrics.mintAWS(audit.Quarantined, string(refusal.Code))
	return fmt.Errorf("%w: %w", refusal, errors.Join(cause, err))
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

// errTooLate is the answer where a mint took so long that it was settled meanwhile,
// as one of which nothing is released.
func errTooLate() error {
	return api.Errorf(api.CodeMintInterrupted, "the outcome came after %v, when nothing of it may be released", pendingTime)
}

// abandon settles an intent that an anchor, or an answer of the database that was
// lost, kept from being acted upon. Where that fails too, its deadline settles it.
func (b *Broker) abandon(c *call, m *mint) {
	if m.intent.ID == "" || m.intent.Outcome != audit.Pending {
		return
	}
	refusal := api.Errorf(api.CodeAuditUnavailable, "the record of intent could not be kept")
	if err := b.conclude(c, m, m.outcome(audit.Failed, string(refusal.Code)), refusal); err != nil {
		b.Log.WarnContext(c.ctx, "an intent is left to its deadline", "request_id", c.requestID, "record", m.intent.ID, "error", err)
	}
}

// outcome is the record of what came of an intent.
func (m *mint) outcome(outcome, reason string) *audit.Record {
	r := *m.intent
	r.ID, r.Outcome, r.Reason, r.Settles = "", outcome, reason, m.intent.ID
	return &r
}
