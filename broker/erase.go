package broker

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agentkeys/audit"
	"agentkeys/auth"
	"agentkeys/grant"
	"agentkeys/identity"
	"agentkeys/store"
)

// An Erasure is what Erase did, or would do.
type Erasure struct {
	Account    bool     // whether there was an account; its records may be all that is left of one
	Records    int64    // of the audit log, which lost their personal members
	Grants     int64    // given and received
	Revoked    []string // those of them that had not ended
	Challenges int64    // of sign-ins
	Calls      int64    // that were remembered with their answers
}

var (
	// ErrNothingToErase is returned by Erase for an account that there is no trace of.
	ErrNothingToErase = errors.New("nothing in the database is of this account")
	// ErrUnsettled is returned by Erase while a mint has no outcome.
	ErrUnsettled = errors.New("a mint of AWS credentials has no outcome yet")

	errDryRun = errors.New("it was tried only")
)

// Erase takes a person out of the database of a broker that does not run: the account,
// its name in the grants it gave and received, which end, its sign-ins and remembered
// calls, and the personal members of every audit record that is about it. The records
// themselves stay, and so do the tree and its proofs. It says so in the log. The wallet
// may be "" where the database knows it, or there is none. A dry run changes nothing
// and returns what would be.
func Erase(ctx context.Context, db *store.Store, omniAccount, wallet string, now time.Time, dryRun bool) (Erasure, error) {
	var e Erasure
	err := db.Update(ctx, func(tx *sql.Tx) (err error) {
		e, err = erase(ctx, tx, omniAccount, wallet, now)
		if err == nil && dryRun {
			err = errDryRun // which undoes it
		}
		return err
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return Erasure{}, fmt.Errorf("erasing an account: %w", err)
	}
	return e, nil
}

func erase(ctx context.Context, tx *sql.Tx, omniAccount, wallet string, now time.Time) (e Erasure, err error) {
	if err := allSettled(ctx, tx); err != nil {
		return e, err
	}
	known, found, err := identity.Erase(ctx, tx, omniAccount)
	if err != nil {
		return e, err
	}
	e.Account = found
	if wallet == "" {
		wallet = known
	}
	if wallet == "" {
		if wallet, err = audit.WalletOf(ctx, tx, omniAccount); err != nil {
			return e, err
		}
	}
	person := audit.Person{OmniAccount: omniAccount, Wallet: wallet, Tenant: wallet}
	if wallet == "" {
		person.Tenant = omniAccount
	}
	if e.Revoked, e.Grants, err = grant.Erase(ctx, tx, omniAccount, wallet, now); err != nil {
		return e, err
	}
	if wallet != "" {
		if e.Challenges, err = auth.Erase(ctx, tx, wallet); err != nil {
			return e, err
		}
		if e.Calls, err = eraseCalls(ctx, tx, wallet); err != nil {
			return e, err
		}
	}
	if e.Records, err = audit.Erase(ctx, tx, person); err != nil {
		return e, err
	}
	if !e.Account && e.Records+e.Grants+e.Challenges+e.Calls == 0 {
		return e, ErrNothingToErase
	}
	return e, e.record(ctx, tx, now)
}

// allSettled refuses while the outcome of a mint is open: it would repeat what its
// intent says of a person.
func allSettled(ctx context.Context, tx *sql.Tx) error {
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM mints WHERE state = 'pending'").Scan(&n); err != nil {
		return fmt.Errorf("looking for mints without an outcome: %w", err)
	}
	if n > 0 {
		return ErrUnsettled
	}
	return nil
}

// eraseCalls forgets the calls of a wallet with the answers that were kept for it.
func eraseCalls(ctx context.Context, tx *sql.Tx, wallet string) (int64, error) {
	result, err := tx.ExecContext(ctx, "DELETE FROM mints WHERE caller = $1", wallet)
	if err != nil {
		return 0, fmt.Errorf("forgetting calls: %w", err)
	}
	return result.RowsAffected()
}

// record says in the log that somebody was erased, not who, and which grants ended.
func (e Erasure) record(ctx context.Context, tx *sql.Tx, now time.Time) error {
	c := &call{ctx: ctx, now: now, requestID: "erase-" + rand.Text()}
	for _, id := range e.Revoked {
		r := c.record(audit.ActionGrantRevoke)
		r.Outcome, r.GrantID, r.Detail = audit.Confirmed, id, "its owner or its daemon was erased"
		if err := c.append(ctx, tx, r); err != nil {
			return err
		}
	}
	r := c.record(audit.ActionErased)
	r.Outcome, r.Detail = audit.Confirmed, fmt.Sprintf("records=%d grants=%d", e.Records, e.Grants)
	return c.append(ctx, tx, r)
}
