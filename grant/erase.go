package grant

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// erasedName stands where an erased owner or daemon stood.
const erasedName = "erased"

// Erase ends the grants of an owner and those that a daemon was given, takes both names
// out of them, and of the owner's the path, and returns the IDs of those that had not
// ended. The rows stay: a daemon that was granted to by more than one owner must name
// its grant, and to forget that one of them is gone would let the other's be taken
// (see Find). Without a daemon the second kind is let be.
func Erase(ctx context.Context, tx *sql.Tx, owner, daemon string, now time.Time) (open []string, all int64, err error) {
	fail := func(err error) ([]string, int64, error) { return nil, 0, fmt.Errorf("erasing grants: %w", err) }
	found, err := query(ctx, tx, "WHERE (owner = $1 OR daemon = $2 AND daemon <> '') ORDER BY seq", owner, daemon)
	if err != nil {
		return fail(err)
	}
	for _, g := range found {
		if g.ended(now) == nil {
			open = append(open, g.ID)
		}
	}
	const end = "revoked_at = coalesce(revoked_at, $2), standing = 0"
	_, err = tx.ExecContext(ctx, `UPDATE grants SET `+end+`, owner = $3, tenant = $3, path = $4 WHERE owner = $1`, owner, now.UnixMilli(), erasedName, string(Root))
	if err != nil {
		return fail(err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE grants SET `+end+`, daemon = $3 WHERE daemon = $1 AND daemon <> ''`, daemon, now.UnixMilli(), erasedName)
	if err != nil {
		return fail(err)
	}
	return open, int64(len(found)), nil
}
