// Package audit keeps the append-only record of what was asked of the broker
// and what came of it, as a Merkle tree with signed heads (RFC 6962, C2SP
// tlog-checkpoint; docs/audit-format.md).
//
// Append writes a record, Log gives it its place in the tree and signs the head,
// and Verification holds a whole log, of a database or an export, against that.
// Export and Restore take a log elsewhere, Proof shows that it has one record.
//
// What it keeps safe: a record is written in the transaction of the act that it
// records, so neither is durable without the other; a record that cannot be
// written in full, or that could be read as another one once printed, is
// refused, and with it the act; and through store, the database refuses to
// change or replace records, but to erase a person, and to delete any that are
// not marked as pruned.
// Somebody who writes the database file past that is found: a verification names
// each record that was changed, moved, put in or taken out since its place was
// signed, and, with a head or a record that was kept elsewhere (a Witness), a log
// that was cut, forked or put back to an earlier copy.
//
// What it does not: it prevents none of this. Records that have no place yet, which
// is a second's worth while a broker runs, are not under a head. Without a Witness a
// log that was put back whole looks whole. Who holds the log's key can sign another
// one. And what the members say is as true as the caller that filled them in.
//
// The package runs SQL on transactions that it is handed; it opens nothing and
// knows no driver.
package audit

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// A Record says who asked for what, by which key, and how it ended. Members
// that do not apply are empty; ID is set by Append, and Time, Action, Outcome
// and RequestID are required. No member may hold a secret: TokenID is a token's
// jti, never the token.
type Record struct {
	Seq           int64     // its place in the log, from 1; set by Append
	ID            string    // ULID
	Time          time.Time // kept to the millisecond, in UTC
	Action        string    // what was asked, like "mint.oidc_jwt"
	Outcome       string    // how it ended, like "issued" or "refused"
	Reason        string    // the code of a refusal or a failure
	IdentityType  string
	IdentityValue string
	OmniAccount   string
	Wallet        string
	KeyID         string // the key that signed
	TokenID       string // the jti of the token issued
	Source        string // the client's address
	RequestID     string

	// Of AWS credentials. An intent is recorded before AWS is asked, with the
	// outcome Pending, and the record of what came of it names it in Settles.
	Tenant       string // whose prefix the credentials are for: the session tag
	Agent        string // what the agent calls itself
	Service      string
	ScopePath    string // what was asked for, relative to the tenant's prefix
	GrantID      string
	CredentialID string // the access key id, which is no secret
	Settles      string // the ID of the record of intent

	Detail string // of events of the broker itself: which key, which configuration
}

// columns lists the members of a Record in the order of scan and values.
const columns = `id, time, action, outcome, reason, identity_type, identity_value,
	omni_account, wallet, key_id, token_id, source, request_id,
	tenant, agent, service, scope_path, grant_id, credential_id, settles, detail`

// Append validates the record, gives it an ID if it has none, and adds it to
// the log. The record is durable once tx is. The ID sorts after those that
// Append gave earlier in this process, and its time is that of the record, not
// earlier than that of the ID before it.
func Append(ctx context.Context, tx *sql.Tx, r *Record) error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("appending audit record: %w", err)
	}
	if err := r.Name(); err != nil {
		return fmt.Errorf("appending audit record: %w", err)
	}
	salt, hash := r.seal()
	result, err := tx.ExecContext(ctx, `INSERT INTO audit_records (`+columns+`, salt, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`,
		r.ID, r.Time.UnixMilli(), r.Action, r.Outcome, r.Reason, r.IdentityType, r.IdentityValue,
		r.OmniAccount, r.Wallet, r.KeyID, r.TokenID, r.Source, r.RequestID,
		r.Tenant, r.Agent, r.Service, r.ScopePath, r.GrantID, r.CredentialID, r.Settles, r.Detail, salt, hash[:])
	if err == nil {
		r.Seq, err = appended(result)
	}
	if err != nil {
		return fmt.Errorf("appending audit record: %w", err)
	}
	return nil
}

// appended is the place that a record was given. A trigger that somebody put there can
// have the database pass over an INSERT without an error.
func appended(result sql.Result) (int64, error) {
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("want 1 row written, got %d", n)
	}
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// Name gives the record its ID if it has none, for a caller that needs to know it
// before the record is appended.
func (r *Record) Name() error {
	if r.ID != "" {
		return nil
	}
	id, err := ids.next(r.Time)
	if err != nil {
		return err
	}
	r.ID = id
	return nil
}

// fields are where the columns are scanned to.
func (r *Record) fields(millis *int64) []any {
	return []any{&r.ID, millis, &r.Action, &r.Outcome, &r.Reason, &r.IdentityType, &r.IdentityValue,
		&r.OmniAccount, &r.Wallet, &r.KeyID, &r.TokenID, &r.Source, &r.RequestID,
		&r.Tenant, &r.Agent, &r.Service, &r.ScopePath, &r.GrantID, &r.CredentialID, &r.Settles, &r.Detail}
}

// Count says how many there are of a thing in a report or an error: 1 record, 2 records.
// It is for things whose plural ends in s.
func Count[N int | int64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
