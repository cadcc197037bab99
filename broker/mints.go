package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
)

// keepAnswers is how long a call is remembered, and its answer kept for a retry with
// its Idempotency-Key.
const keepAnswers = 5 * time.Minute

// maxCallSkew bounds the skew of calls: a signature may be fresh for twice the skew,
// and by then its request_id must still be remembered. The minute is for a clock that
// steps back, by up to ClockLeeway, and for a request that read it long before its
// turn: it may wait for its body and for the database.
const maxCallSkew = (keepAnswers - time.Minute) / 2

// mintRow is a row of the table mints: a call that was decided within the last
// minutes.
type mintRow struct {
	seq                int64
	caller, requestID  string
	key                []byte // digest of the Idempotency-Key; nil without one
	bodyHash           [sha256.Size]byte
	recordID           string // of the intent
	state              string // pending, refused, confirmed, failed or quarantined
	answer             []byte // sealed; nil while there is none
	settleBy, forgetAt time.Time
}

// kept is the answer of a call as it is kept, sealed: credentials, or a refusal.
type kept struct {
	Credentials *api.MintAWSResponse `json:"-"`
	GrantID     string               `json:"grant_id,omitempty"` // of the credentials
	Code        api.Code             `json:"code,omitempty"`
	Detail      string               `json:"detail,omitempty"`

	place int64  // of the record that confirms the credentials; not kept
	body  []byte // the credentials as they are sent, once that was written
}

// sent is the body that the credentials are released in. It is written once, for the
// seal and for the client: a retry gets the bytes that the first answer had.
func (k *kept) sent() (body []byte, err error) {
	if k.body == nil {
		if k.body, err = json.Marshal(k.Credentials); err != nil {
			return nil, fmt.Errorf("encoding credentials: %w", err)
		}
	}
	return k.body, nil
}

// text is the answer as it is sealed: a line of JSON, and after it the body of
// credentials. JSON has no line breaks of its own, as encoding/json writes it.
func (k *kept) text() ([]byte, error) {
	text, err := json.Marshal(k)
	if err != nil || k.Credentials == nil {
		return text, err
	}
	body, err := k.sent()
	return append(append(text, '\n'), body...), err
}

// readKept reads what text wrote, and what the release before the audit log's tree did:
// that had the credentials in the line, and an upgrade may come between an answer and
// its retry.
func readKept(text []byte) (*kept, error) {
	line, body, released := bytes.Cut(text, []byte("\n"))
	var k struct {
		kept
		InLine *api.MintAWSResponse `json:"credentials"`
	}
	if err := json.Unmarshal(line, &k); err != nil {
		return nil, err
	}
	if given := released || k.InLine != nil; given == (k.Code != "") || released && k.InLine != nil {
		return nil, errors.New("want credentials or a refusal, got both or neither")
	}
	k.Credentials = k.InLine
	if released {
		k.Credentials, k.body = &api.MintAWSResponse{}, body
		return &k.kept, json.Unmarshal(body, k.Credentials)
	}
	return &k.kept, nil
}

// keptRefusal is a refusal as it is kept.
func keptRefusal(refusal *api.Error) *kept { return &kept{Code: refusal.Code, Detail: refusal.Detail} }

const mintColumns = `seq, caller, request_id, key_digest, body_hash, record_id, state, answer, settle_by, forget_at`

// caller is whose request_ids and keys a call's are: those of the wallet that signed
// it, since a signature names no account and would hold in each that has the wallet.
func (m *mint) caller() string { return m.session.Wallet }

// name makes the digests that the call is found by.
func (m *mint) name() {
	m.callDigest = digestOf(m.caller(), m.request.RequestID)
	if m.idempotencyKey != "" {
		m.keyDigest = digestOf(m.caller(), m.idempotencyKey)
	}
}

// digestOf is short, for the indexes, and long enough that nobody finds a name that has
// the digest of another caller's. A caller is an address, which has no space in it.
func digestOf(caller, name string) []byte {
	sum := sha256.Sum256([]byte(caller + " " + name))
	return sum[:16]
}

// known finds what is remembered of a call, nil where it is new; then it is
// remembered from now on, if it is to be.
func known(ctx context.Context, tx *sql.Tx, c *call, m *mint, keep bool) (*mintRow, error) {
	if err := m.intent.Name(); err != nil {
		return nil, err
	}
	for {
		if keep { // one insert, and no look before it: nearly every call is new
			if isNew, err := remember(ctx, tx, m, c.now); err != nil || isNew {
				return nil, err
			}
		}
		row, err := recall(ctx, tx, m)
		if err != nil || row == nil || c.now.Before(row.forgetAt) || row.state == audit.Pending {
			return row, err
		}
		if err := forgetRow(ctx, tx, row); err != nil { // before Settle comes to it
			return nil, err
		}
	}
}

// recall finds a call under its Idempotency-Key, or else under its request_id.
func recall(ctx context.Context, tx *sql.Tx, m *mint) (*mintRow, error) {
	return scanMint(tx.QueryRowContext(ctx, `SELECT `+mintColumns+` FROM (
		SELECT 1 AS place, * FROM mints WHERE key_digest = $1
		UNION ALL SELECT 2 AS place, * FROM mints WHERE call_digest = $2) AS known ORDER BY place LIMIT 1`, m.keyDigest, m.callDigest))
}

type scanner interface{ Scan(...any) error }

func scanMint(from scanner) (*mintRow, error) {
	var r mintRow
	var hash []byte
	var settleBy, forgetAt int64
	err := from.Scan(&r.seq, &r.caller, &r.requestID, &r.key, &hash, &r.recordID, &r.state, &r.answer, &settleBy, &forgetAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a remembered call: %w", err)
	}
	copy(r.bodyHash[:], hash)
	r.settleBy, r.forgetAt = time.UnixMilli(settleBy), time.UnixMilli(forgetAt)
	return &r, nil
}

// remember keeps a call as pending. It reports false where one with the same
// request_id or Idempotency-Key is known: then nothing was changed.
func remember(ctx context.Context, tx *sql.Tx, m *mint, now time.Time) (bool, error) {
	result, err := tx.ExecContext(ctx, `INSERT INTO mints
		(call_digest, key_digest, caller, request_id, body_hash, record_id, state, answer, settle_by, forget_at)
		VALUES ($1, $2, $3, $4, $5, $6, 'pending', NULL, $7, $8) ON CONFLICT DO NOTHING`,
		m.callDigest, m.keyDigest, m.caller(), m.request.RequestID, m.bodyHash[:], m.intent.ID,
		m.settleBy.UnixMilli(), now.Add(keepAnswers).UnixMilli())
	if err != nil {
		return false, fmt.Errorf("remembering a call: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil || n == 0 {
		return false, err
	}
	m.seq, err = result.LastInsertId()
	return err == nil, err
}

// forgetRow takes back what remember did.
func forgetRow(ctx context.Context, tx *sql.Tx, row *mintRow) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM mints WHERE seq = $1", row.seq)
	if err != nil {
		return fmt.Errorf("forgetting a call: %w", err)
	}
	return nil
}

// concludeRow gives a pending call its outcome, and its sealed answer for a retry. It
// reports false where the call was settled meanwhile, since its deadline had passed.
func concludeRow(ctx context.Context, tx *sql.Tx, row *mintRow, state string, sealed []byte) (bool, error) {
	result, err := tx.ExecContext(ctx, `UPDATE mints SET state = $1, answer = $2
		WHERE seq = $3 AND record_id = $4 AND state = 'pending'`, state, sealed, row.seq, row.recordID)
	if err != nil {
		return false, fmt.Errorf("concluding a call: %w", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// takeBackRow takes a confirmed call back, whose answer was released to nobody. It
// reports false where a retry was given the answer meanwhile, or the call was
// forgotten.
func (b *Broker) takeBackRow(ctx context.Context, tx *sql.Tx, row *mintRow, answer *kept) (bool, error) {
	sealed, err := b.seal(row, answer)
	if err != nil {
		return false, err
	}
	result, err := tx.ExecContext(ctx, `UPDATE mints SET state = 'quarantined', answer = $1
		WHERE seq = $2 AND record_id = $3 AND state = 'confirmed' AND settle_by > 0`, sealed, row.seq, row.recordID)
	if err != nil {
		return false, fmt.Errorf("taking a call back: %w", err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// keepConfirmed has a confirmed call never be taken back, since a retry is about to be
// given its answer. It is marked by a deadline that is long gone.
func keepConfirmed(ctx context.Context, tx *sql.Tx, row *mintRow) error {
	_, err := tx.ExecContext(ctx, "UPDATE mints SET settle_by = 0 WHERE seq = $1 AND state = 'confirmed'", row.seq)
	if err != nil {
		return fmt.Errorf("marking a call that is given again: %w", err)
	}
	return nil
}

// place is where an answer is sealed to: moved to another row it does not open.
func (r *mintRow) place() string { return r.caller + "\x00" + r.requestID + "\x00" + r.recordID }

// row is what is known of a call that was remembered. A seq may be another call's once
// this one is forgotten, and so goes with the record.
func (m *mint) row() *mintRow {
	return &mintRow{seq: m.seq, caller: m.caller(), requestID: m.request.RequestID, key: m.keyDigest, recordID: m.intent.ID}
}

// seal is nothing for a call that cannot be asked for again. That of credentials is made
// before their transaction: all others wait for that.
func (b *Broker) seal(row *mintRow, answer *kept) ([]byte, error) {
	if answer == nil || row.key == nil {
		return nil, nil
	}
	text, err := answer.text()
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
	answer, err := readKept(text)
	if err != nil {
		return nil, fmt.Errorf("reading a kept answer: %w", err)
	}
	return answer, nil
}
