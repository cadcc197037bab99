package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Account is a row of the table accounts: an identity that has signed in.
type Account struct {
	OmniAccount  string
	Identity     Identity
	Wallet       string    // lower case; "" without a wallet
	CreatedAt    time.Time // UTC, milliseconds
	LastSignInAt time.Time // UTC, milliseconds; never moves backwards
}

// SignIn records that the identity signed in at now and returns its account,
// which the first sign-in creates. The caller vouches that control of the
// identity was proven. An identity that is not in canonical form is refused,
// and so is a row that holds another identity under the same omni account.
func SignIn(ctx context.Context, tx *sql.Tx, id Identity, now time.Time) (Account, error) {
	if err := id.Check(); err != nil {
		return Account{}, fmt.Errorf("signing in: %w", err)
	}
	// The clock may step back between two sign-ins; the later one stands.
	const query = `
INSERT INTO accounts (omni_account, identity_type, identity_value, wallet, created_at, last_sign_in_at)
VALUES ($1, $2, $3, $4, $5, $5)
ON CONFLICT (omni_account) DO UPDATE SET last_sign_in_at =
  CASE WHEN excluded.last_sign_in_at > accounts.last_sign_in_at
       THEN excluded.last_sign_in_at ELSE accounts.last_sign_in_at END
RETURNING omni_account, identity_type, identity_value, wallet, created_at, last_sign_in_at`
	wallet := sql.NullString{String: id.Wallet(), Valid: id.Wallet() != ""}
	row := tx.QueryRowContext(ctx, query, id.OmniAccount(), string(id.Type), id.Value, wallet, now.UnixMilli())
	a, err := scanAccount(row)
	if err != nil {
		return Account{}, fmt.Errorf("recording the sign-in of %s: %w", id.OmniAccount(), err)
	}
	if a.Identity != id || a.Wallet != id.Wallet() {
		return Account{}, fmt.Errorf("account %s: want identity %s %q with wallet %q, the database has %s %q with %q",
			a.OmniAccount, id.Type, id.Value, id.Wallet(), a.Identity.Type, a.Identity.Value, a.Wallet)
	}
	return a, nil
}

func scanAccount(row *sql.Row) (Account, error) {
	var a Account
	var wallet sql.NullString
	var created, last int64
	err := row.Scan(&a.OmniAccount, &a.Identity.Type, &a.Identity.Value, &wallet, &created, &last)
	if err != nil {
		return Account{}, err
	}
	a.Wallet = wallet.String
	a.CreatedAt = time.UnixMilli(created).UTC()
	a.LastSignInAt = time.UnixMilli(last).UTC()
	return a, nil
}

// Erase deletes an account and returns its wallet, and whether there was one to delete.
// Whoever proves control of its identity again gets a new one of the same name.
func Erase(ctx context.Context, tx *sql.Tx, omniAccount string) (wallet string, found bool, err error) {
	var w sql.NullString
	err = tx.QueryRowContext(ctx, "DELETE FROM accounts WHERE omni_account = $1 RETURNING wallet", omniAccount).Scan(&w)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("erasing account %s: %w", omniAccount, err)
	}
	return w.String, true, nil
}
