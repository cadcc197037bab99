package audit

import (
	"context"
	"database/sql"
	"fmt"
)

// A Person is somebody whose personal members are to go.
type Person struct {
	OmniAccount string
	Wallet      string // "" for an account without one
	Tenant      string // the session tag
}

// ofPerson selects the records that are not erased yet and are about a person: what
// the account did, what was done under its tenant, where its wallet is named, and who
// read of the account or of its tenant, or tried to. A record that is about somebody else
// as well goes with the rest, since the personal members of a record stand and fall
// together.
const ofPerson = `person = x'' AND (omni_account = $1 OR tenant = $2 AND tenant <> ''
	OR wallet = $3 AND wallet <> '' OR agent = $3 AND agent <> ''
	OR action = '` + ActionRead + `' AND ($1 <> '' AND (tenant = $1 OR instr(scope_path, $1) > 0) OR $2 <> '' AND instr(scope_path, $2) > 0))`

func (p Person) args() []any { return []any{p.OmniAccount, p.Tenant, p.Wallet} }

// erasePage is how many records Erase reads at once.
const erasePage = 500

// Erase takes the personal members out of every record that is about a person, and
// returns how many records those were. The digest of the members takes their place and
// their salt goes with them, so the tree and its proofs stay as they are and nobody can
// find the members by trying. It reads the whole log. The caller records it, under
// ActionErased, in the same transaction.
//
// The members leave this database alone: anchors, exports and backups have their own.
func Erase(ctx context.Context, tx *sql.Tx, p Person) (erased int64, err error) {
	for last := int64(0); ; {
		found, err := entries(ctx, tx, "WHERE "+ofPerson+" AND seq > $4 ORDER BY seq LIMIT $5", append(p.args(), last, erasePage)...)
		if err != nil {
			return erased, fmt.Errorf("erasing the records of a person: %w", err)
		}
		if len(found) == 0 {
			return erased, nil
		}
		for _, e := range found {
			digest := e.Digest()
			_, err := tx.ExecContext(ctx, `UPDATE audit_records SET person = $2, salt = x'', identity_type = '', identity_value = '',
				omni_account = '', wallet = '', source = '', tenant = '', agent = '', scope_path = '' WHERE seq = $1`, e.Seq, digest[:])
			if err != nil {
				return erased, fmt.Errorf("erasing the record at place %d: %w", e.Seq, err)
			}
			last = e.Seq
			erased++
		}
	}
}

// WalletOf finds the wallet of an account in its records, "" where none names one.
func WalletOf(ctx context.Context, tx *sql.Tx, omniAccount string) (wallet string, err error) {
	err = tx.QueryRowContext(ctx, "SELECT coalesce(max(wallet), '') FROM audit_records WHERE omni_account = $1", omniAccount).Scan(&wallet)
	if err != nil {
		return "", fmt.Errorf("looking for the wallet of an account: %w", err)
	}
	return wallet, nil
}
