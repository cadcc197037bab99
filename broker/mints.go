package broker

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agentkeys/api"
)

// keepAnswers is how long an answer is kept for a retry with its Idempotency-Key.
const keepAnswers = 5 * time.Minute

// mintRow is a row of the table mints: a call that was decided within the last
// minutes.
type mintRow struct {
	caller, requestID, key string
	bodyHash               [sha256.Size]byte
	grantID                string
	recordID               string // of the intent, or of the refusal
	state                  string // pending, refused, confirmed, failed or quarantined
	answer                 []byte // sealed; nil while there is none
	settleBy, keepUntil    time.Time
}

// kept is the answer of a call as it is kept, sealed: credentials, or a refusal.
type kept struct {
	Credentials *api.MintAWSResponse `json:"credentials,omitempty"`
	Code        api.Code             `json:"code,omitempty"`
	Detail      string               `json:"detail,omitempty"`
}

const mintColumns = `caller, request_id, COALESCE(idempotency_key, ''), body_hash, grant_id, record_id, state, answer, settle_by, keep_until`

// caller is whose request_ids and keys a call's are: those of the wallet that signed
// it, since a signature names no account and would hold in each that has the wallet.
func (m *mint) caller() string { return m.session.Wallet }

// recall finds what is remembered of a call: under its Idempotency-Key while that
// is kept, or else under its request_id. It is nil where the call is new.
func recall(ctx context.Context, tx *sql.Tx, m *mint, now time.Time) (*mintRow, error) {
	if m.idempotencyKey != "" {
		row, err := scanMint(tx.QueryRowContext(ctx, "SELECT "+mintColumns+" FROM mints WHERE caller = $1 AND idempotency_key = $2",
			m.caller(), m.idempotencyKey))
		if err != nil || row != nil && now.Before(row.keepUntil) {
			return row, err
		}
		if row != nil {
			if err := forgetKey(ctx, tx, row); err != nil {
				return nil, err
			}
		}
	}
	return scanMint(tx.QueryRowContext(ctx, "SELECT "+mintColumns+" FROM mints WHERE caller = $1 AND request_id = $2",
		m.caller(), m.request.RequestID))
}

// forgetKey frees the key of a call whose window has ended, before Settle comes to it.
func forgetKey(ctx context.Context, tx *sql.Tx, row *mintRow) error {
	_, err := tx.ExecContext(ctx, "UPDATE mints SET answer = NULL, idempotency_key = NULL WHERE caller = $1 AND request_id = $2", row.caller, row.requestID)
	if err != nil {
		return fmt.Errorf("forgetting an Idempotency-Key: %w", err)
	}
	return nil
}

type scanner interface{ Scan(...any) error }

func scanMint(from scanner) (*mintRow, error) {
	var r mintRow
	var hash []byte
	var settleBy, keepUntil int64
	err := from.Scan(&r.caller, &r.requestID, &r.key, &hash, &r.grantID, &r.recordID, &r.state, &r.answer, &settleBy, &keepUntil)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a remembered call: %w", err)
	}
	copy(r.bodyHash[:], hash)
	r.settleBy, r.keepUntil = time.UnixMilli(settleBy), time.UnixMilli(keepUntil)
	return &r, nil
}

// remember keeps a call that was decided. Its request_id stays known for as long as
// its signature is fresh.
func (b *Broker) remember(ctx context.Context, tx *sql.Tx, c *call, m *mint, state, record string, answer *kept) error {
	row := m.row(record)
	sealed, err := b.seal(row, answer)
	if err != nil {
		return err
	}
	keepUntil := c.now.Add(keepAnswers)
	forgetAt := keepUntil
	if fresh := m.request.IssuedAt.Add(b.CallSkew); fresh.After(forgetAt) {
		forgetAt = fresh
	}
	key := sql.NullString{String: m.idempotencyKey, Valid: m.idempotencyKey != ""}
	_, err = tx.ExecContext(ctx, `INSERT INTO mints
		(caller, request_id, idempotency_key, body_hash, grant_id, record_id, state, answer, settle_by, keep_until, forget_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		row.caller, row.requestID, key, m.bodyHash[:], m.grant.ID, record, state, sealed,
		m.settleBy.UnixMilli(), keepUntil.UnixMilli(), forgetAt.Add(time.Minute).UnixMilli())
	if err != nil {
		return fmt.Errorf("remembering a call: %w", err)
	}
	return nil
}

// concludeRow gives a pending call its outcome, and its answer for a retry. It reports
// false where the call was settled meanwhile, since its deadline had passed.
func (b *Broker) concludeRow(ctx context.Context, tx *sql.Tx, row *mintRow, state string, answer *kept) (bool, error) {
	sealed, err := b.seal(row, answer)
	if err != nil {
		return false, err
	}
	result, err := tx.ExecContext(ctx, `UPDATE mints SET state = $4, answer = $5
		WHERE caller = $1 AND request_id = $2 AND record_id = $3 AND state = 'pending'`, row.caller, row.requestID, row.recordID, state, sealed)
	if err != nil {
		return false, fmt.Errorf("concluding a call: %w", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// place is where an answer is sealed to: moved to another row it does not open.
func (r *mintRow) place() string { return r.caller + "\x00" + r.requestID + "\x00" + r.recordID }

// row is what there is to say of a call before it was remembered.
func (m *mint) row(record string) *mintRow {
	return &mintRow{caller: m.caller(), requestID: m.request.RequestID, key: m.idempotencyKey, recordID: record}
}

// seal is nothing for a call that cannot be asked for again.
func (b *Broker) seal(row *mintRow, answer *kept) ([]byte, error) {
	if answer == nil || row.key == "" {
		return nil, nil
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("keeping an answer: %w", err)
	}
	return b.Sealer.Seal(text, row.place()), nil
}

func (b *Broker) open(row *mintRow) (*kept, error) {
	text, err := b.Sealer.Open(row.answer, row.place())
	if err != nil {
		return nil, err
	}
	var answer kept
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("reading a kept answer: %w", err)
	}
	return &answer, nil
}
