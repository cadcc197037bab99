package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agentkeys/identity"
)

// The table wallet_challenges: request_id, nonce, message, address, chain_id,
// issued_at, expires_at and used_at, which is null until an answer came. Times
// are Unix milliseconds.
const challengeColumns = "request_id, nonce, message, address, chain_id, issued_at, expires_at"

// Save stores a new challenge, so that it can be answered once.
func (w *Wallet) Save(ctx context.Context, tx *sql.Tx, c Challenge) error {
	const insert = `INSERT INTO wallet_challenges (` + challengeColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	_, err := tx.ExecContext(ctx, insert, c.RequestID, c.Nonce, c.Message, c.Address, c.ChainID,
		c.IssuedAt.UnixMilli(), c.ExpiresAt.UnixMilli())
	if err != nil {
		return fmt.Errorf("saving wallet challenge %s: %w", c.RequestID, err)
	}
	return nil
}

// Pending reads a challenge that waits for its answer. The refusals
// request_unknown and request_used are an *Error; an expired challenge is
// returned, as only Finish may consume it.
func (w *Wallet) Pending(ctx context.Context, tx *sql.Tx, requestID string) (Challenge, error) {
	const query = `SELECT ` + challengeColumns + ` FROM wallet_challenges WHERE request_id = $1 AND used_at IS NULL`
	c, err := scanChallenge(tx.QueryRowContext(ctx, query, requestID))
	if errors.Is(err, sql.ErrNoRows) {
		refusal, err := whyNotPending(ctx, tx, requestID)
		if err != nil {
			return Challenge{}, err
		}
		return Challenge{}, refusal
	}
	if err != nil {
		return Challenge{}, fmt.Errorf("reading a wallet challenge: %w", err)
	}
	return c, nil
}

// Finish consumes the challenge, whatever comes of it, and returns the identity
// whose control is proven. recovered and recoverErr are what Recover returned
// for it; the refusal of Pending may stand for recoverErr.
//
// The *Error is the refusal: a result, with which the transaction must commit,
// or the challenge would be open again. The last error is the database's, and
// the transaction must roll back. Of several calls for one challenge, also at
// once, one finds it unused.
func (w *Wallet) Finish(ctx context.Context, tx *sql.Tx, requestID, recovered string, recoverErr error, now time.Time) (identity.Identity, *Error, error) {
	const consume = `UPDATE wallet_challenges SET used_at = $1 WHERE request_id = $2 AND used_at IS NULL RETURNING ` + challengeColumns
	c, err := scanChallenge(tx.QueryRowContext(ctx, consume, now.UnixMilli(), requestID))
	if errors.Is(err, sql.ErrNoRows) {
		refusal, err := whyNotPending(ctx, tx, requestID)
		return identity.Identity{}, refusal, err
	}
	if err != nil {
		return identity.Identity{}, nil, fmt.Errorf("consuming a wallet challenge: %w", err)
	}
	if refusal := w.decide(c, recovered, recoverErr, now); refusal != nil {
		return identity.Identity{}, refusal, nil
	}
	return identity.Identity{Type: identity.EVM, Value: c.Address}, nil, nil
}

// decide holds the rules for an answer to a challenge that was unused.
func (w *Wallet) decide(c Challenge, recovered string, recoverErr error, now time.Time) *Error {
	if now.Before(c.IssuedAt.Add(-clockLeeway)) {
		return refusef(CodeClockBackwards, "the clock reads %s, but the challenge was issued at %s",
			now.UTC().Format(timeLayout), c.IssuedAt.Format(timeLayout))
	}
	if !now.Before(c.ExpiresAt) {
		return refusef(CodeRequestExpired, "the challenge expired at %s, and it is %s",
			c.ExpiresAt.Format(timeLayout), now.UTC().Format(timeLayout))
	}
	if refusal := w.checkChain(c.ChainID); refusal != nil {
		return refusal
	}
	if recoverErr != nil {
		var refusal *Error
		if errors.As(recoverErr, &refusal) {
			return refusal
		}
		// The text of an error that is not ours may hold anything.
		return refusef(CodeBadSignature, "the signature could not be checked")
	}
	if recovered == "" || recovered != c.Address {
		return refusef(CodeWrongSigner, "want a signature by %s, got one by another key", c.Address)
	}
	return nil
}

// whyNotPending tells a challenge that was used from one that never was.
func whyNotPending(ctx context.Context, tx *sql.Tx, requestID string) (*Error, error) {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT count(*) FROM wallet_challenges WHERE request_id = $1`, requestID).Scan(&n)
	if err != nil {
		return nil, fmt.Errorf("looking for a wallet challenge: %w", err)
	}
	if n == 0 {
		return refusef(CodeRequestUnknown, "no sign-in request has this id"), nil
	}
	return refusef(CodeRequestUsed, "this sign-in request was answered before"), nil
}

func scanChallenge(row *sql.Row) (Challenge, error) {
	var c Challenge
	var issued, expires int64
	if err := row.Scan(&c.RequestID, &c.Nonce, &c.Message, &c.Address, &c.ChainID, &issued, &expires); err != nil {
		return Challenge{}, err
	}
	c.IssuedAt = time.UnixMilli(issued).UTC()
	c.ExpiresAt = time.UnixMilli(expires).UTC()
	return c, nil
}

// Expire deletes the challenges, used or not, that expired before the given
// time and returns their number. An answer to one is then request_unknown.
func Expire(ctx context.Context, tx *sql.Tx, before time.Time) (int64, error) {
	res, err := tx.ExecContext(ctx, `DELETE FROM wallet_challenges WHERE expires_at < $1`, before.UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("deleting expired wallet challenges: %w", err)
	}
	return res.RowsAffected()
}

// Erase deletes the challenges of an address and returns their number.
func Erase(ctx context.Context, tx *sql.Tx, address string) (int64, error) {
	res, err := tx.ExecContext(ctx, `DELETE FROM wallet_challenges WHERE address = $1`, address)
	if err != nil {
		return 0, fmt.Errorf("deleting the wallet challenges of an address: %w", err)
	}
	return res.RowsAffected()
}
