package grant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"agentkeys/identity"
)

// columns lists the members of a Grant in the order of scan and Insert.
const columns = `grant_id, owner, tenant, daemon, service, path, actions, created_at, expires_at,
	max_uses, used_count, revoked_at, last_used_at, last_record_id`

// Insert adds a grant that New made.
func Insert(ctx context.Context, tx *sql.Tx, g Grant) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO grants (`+columns+`, standing)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, NULL, NULL, '', 1)`,
		g.ID, g.Owner, g.Tenant, g.Daemon, g.Service, string(g.Path), g.Actions.String(), g.CreatedAt.UnixMilli(), g.ExpiresAt.UnixMilli(), g.MaxUses)
	if err == nil {
		err = lead(ctx, tx, g)
	}
	if err != nil {
		return fmt.Errorf("adding grant %s: %w", g.ID, err)
	}
	return nil
}

// lead marks the one of the grants beside g that Find looks at: see the migration.
// Whatever adds or ends a grant calls it.
func lead(ctx context.Context, tx *sql.Tx, g Grant) error {
	const beside = "daemon = $1 AND service = $2 AND path = $3 AND owner = $4"
	args := []any{g.Daemon, g.Service, string(g.Path), g.Owner}
	_, err := tx.ExecContext(ctx, "UPDATE grants SET standing = 1 WHERE "+beside+" AND standing = 2", args...)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE grants SET standing = 2 WHERE seq = (SELECT seq FROM grants
		WHERE `+beside+` AND standing > 0 ORDER BY expires_at DESC, seq LIMIT 1)`, args...)
	return err
}

// Find returns the grant that allows a request, or says as an *Error why there is
// none: the one that the request names, or of those that fit the one that ends
// last, the oldest of several such.
//
// Anybody may grant to any daemon. So a request that names no grant is refused once
// the daemon has been given grants by more than one owner, for whatever path and
// whether or not they have ended: a stranger's would else be taken as soon as the
// owner's has ended, or for a path that it does not reach, and what the daemon then
// writes would lie in the stranger's prefix. That lets a stranger stop a daemon's
// unnamed calls, but never turn them. Of a daemon's first owner nobody but the
// daemon can tell whether it is the right one.
func Find(ctx context.Context, tx *sql.Tx, r Request, now time.Time) (Grant, error) {
	if err := r.Path.check(); err != nil {
		return Grant{}, refuse(CodeScope, "no grant reaches a path like that: %v", err)
	}
	if r.GrantID != "" {
		return findNamed(ctx, tx, r, now)
	}
	where, args := r.onPaths("AND standing = 2 AND expires_at > %s ORDER BY expires_at DESC, seq LIMIT 1", now.UnixMilli())
	fitting, err := query(ctx, tx, where+" ORDER BY expires_at DESC, seq LIMIT 1", args...)
	switch {
	case err != nil:
		return Grant{}, fmt.Errorf("finding a grant: %w", err)
	case len(fitting) == 0:
		return Grant{}, whyNone(ctx, tx, r, now)
	}
	g := fitting[0]
	if err := Check(g, r, now); err != nil {
		return Grant{}, fmt.Errorf("finding a grant: the database leads to one that allows nothing: %v", err)
	}
	if err := onlyOwner(ctx, tx, g); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// onlyOwner refuses to choose a grant of a daemon that another owner granted to as
// well, at any time.
func onlyOwner(ctx context.Context, tx *sql.Tx, g Grant) error {
	const others = "SELECT grant_id FROM grants WHERE daemon = $1 AND service = $2 AND owner "
	var other string
	err := tx.QueryRowContext(ctx, others+"< $3 UNION ALL "+others+"> $3 LIMIT 1", g.Daemon, g.Service, g.Owner).Scan(&other)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("finding a grant: %w", err)
	}
	return refuse(CodeAmbiguous, "%s was granted to by more than one owner, with %s and %s among others", g.Daemon, g.ID, other)
}

func findNamed(ctx context.Context, tx *sql.Tx, r Request, now time.Time) (Grant, error) {
	found, err := query(ctx, tx, "WHERE grant_id = $1 AND daemon = $2", r.GrantID, r.Daemon)
	if err != nil {
		return Grant{}, fmt.Errorf("finding a grant: %w", err)
	}
	if len(found) == 0 {
		return Grant{}, absent(r.Daemon, r.GrantID)
	}
	if refusal := Check(found[0], r, now); refusal != nil {
		return Grant{}, refusal
	}
	return found[0], nil
}

// whyNone looks for the newest grant that would have fitted once, and then for any
// other of the service. It always returns an error.
func whyNone(ctx context.Context, tx *sql.Tx, r Request, now time.Time) error {
	where, args := r.onPaths("ORDER BY seq DESC LIMIT 1")
	past, err := query(ctx, tx, where+" ORDER BY seq DESC LIMIT 1", args...)
	if err == nil && len(past) == 0 {
		past, err = query(ctx, tx, "WHERE daemon = $1 AND service = $2 LIMIT 1", r.Daemon, r.Service)
	}
	switch {
	case err != nil:
		return fmt.Errorf("finding a grant: %w", err)
	case len(past) == 0:
		return refuse(CodeRequired, "%s has no grant for %.40q", r.Daemon, r.Service)
	case !past[0].Path.Covers(r.Path):
		return refuse(CodeScope, "no grant of %s for %s reaches %q", r.Daemon, r.Service, r.Path)
	}
	if refusal := past[0].ended(now); refusal != nil {
		return refusal
	}
	return fmt.Errorf("finding a grant: grant %s fits, and the database does not lead to it", past[0].ID)
}

// onPaths selects of the daemon's grants the first on each path that covers the
// request's. rest says which are first; it has a %s for each of its arguments.
func (r Request) onPaths(rest string, more ...any) (where string, args []any) {
	args = []any{r.Daemon, r.Service}
	marks := make([]any, len(more))
	for i := range more {
		args = append(args, more[i])
		marks[i] = fmt.Sprintf("$%d", len(args))
	}
	rest = fmt.Sprintf(rest, marks...)
	var b strings.Builder
	for i, p := range r.Path.ancestors() {
		args = append(args, string(p))
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		fmt.Fprintf(&b, "SELECT seq FROM (SELECT seq FROM grants WHERE daemon = $1 AND service = $2 AND path = $%d %s) AS p%d", len(args), rest, i)
	}
	return "WHERE seq IN (" + b.String() + ")", args
}

// Use counts one use of a grant, for the audit record that names it. A grant that
// has ended since Find returned it is an *Error that says how.
func Use(ctx context.Context, tx *sql.Tx, g Grant, record string, now time.Time) error {
	used, err := count(ctx, tx, g, record, now, "", "used_count + 1 < max_uses")
	if err == nil && !used { // it may be the last use
		if used, err = count(ctx, tx, g, record, now, ", standing = 0", "used_count + 1 = max_uses"); err == nil && used {
			err = lead(ctx, tx, g)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("using grant %s: %w", g.ID, err)
	case !used:
		return whyUnused(ctx, tx, g.ID, now)
	}
	return nil
}

// count adds a use to a grant that has not ended, if a condition holds, with a further
// change. That names standing only where it must: to name it writes its indexes.
func count(ctx context.Context, tx *sql.Tx, g Grant, record string, now time.Time, change, condition string) (bool, error) {
	result, err := tx.ExecContext(ctx, `UPDATE grants SET used_count = used_count + 1, last_used_at = $1, last_record_id = $2`+change+`
		WHERE grant_id = $3 AND revoked_at IS NULL AND expires_at > $4 AND `+condition, now.UnixMilli(), record, g.ID, now.UnixMilli())
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// whyUnused always returns an error.
func whyUnused(ctx context.Context, tx *sql.Tx, id string, now time.Time) error {
	g, err := ByID(ctx, tx, id)
	if err == nil {
		err = g.ended(now)
	}
	if err == nil {
		err = fmt.Errorf("using grant %s: it could not be counted, and it has not ended", id)
	}
	return err
}

// Revoke ends a grant of an owner and returns since when it is revoked, which is
// the same each time. It reports whether this call did it. Another owner's grant
// is as unknown as one that does not exist.
func Revoke(ctx context.Context, tx *sql.Tx, owner, id string, now time.Time) (g Grant, first bool, err error) {
	result, err := tx.ExecContext(ctx, `UPDATE grants SET revoked_at = $3, standing = 0
		WHERE grant_id = $1 AND owner = $2 AND revoked_at IS NULL`, id, owner, now.UnixMilli())
	if err != nil {
		return Grant{}, false, fmt.Errorf("revoking a grant: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return Grant{}, false, fmt.Errorf("revoking a grant: %w", err)
	}
	found, err := query(ctx, tx, "WHERE grant_id = $1 AND owner = $2", id, owner)
	if err == nil && n > 0 {
		err = lead(ctx, tx, found[0])
	}
	switch {
	case err != nil:
		return Grant{}, false, fmt.Errorf("revoking a grant: %w", err)
	case len(found) == 0:
		return Grant{}, false, refuse(CodeUnknown, "no grant %.40q", id)
	}
	return found[0], n > 0, nil
}

// ByID returns a grant whoever asks.
func ByID(ctx context.Context, tx *sql.Tx, id string) (Grant, error) {
	found, err := query(ctx, tx, "WHERE grant_id = $1", id)
	if err != nil {
		return Grant{}, fmt.Errorf("reading a grant: %w", err)
	}
	if len(found) == 0 {
		return Grant{}, refuse(CodeUnknown, "no grant %.40q", id)
	}
	return found[0], nil
}

// How many grants List returns at most.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Query selects the grants of an account: those it gave, and those that its
// wallet was given.
type Query struct {
	Owner  string // omni account
	Daemon string // lower-case address, or ""
	ID     string // the one grant, or ""
	Before string // cursor: the ID of the last grant of the page before
	Limit  int    // 1 to MaxLimit; 0 is DefaultLimit
}

// List returns the grants that match, the newest first.
func List(ctx context.Context, tx *sql.Tx, q Query) ([]Grant, error) {
	if q.Limit < 0 || q.Limit > MaxLimit {
		return nil, refuse(CodeInvalid, "limit: want 1 to %d, got %d", MaxLimit, q.Limit)
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	before := int64(1<<63 - 1)
	if q.Before != "" {
		err := tx.QueryRowContext(ctx, "SELECT seq FROM grants WHERE grant_id = $1 AND (owner = $2 OR daemon = $3)", q.Before, q.Owner, q.Daemon).Scan(&before)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, refuse(CodeCursor, "no grant %.40q is in this caller's list", q.Before)
		}
		if err != nil {
			return nil, fmt.Errorf("listing grants: %w", err)
		}
	}
	// Two selections, each by its index; an OR would read the whole table.
	where := `WHERE seq IN (
		SELECT seq FROM (SELECT seq FROM grants WHERE owner = $1 AND seq < $3 ORDER BY seq DESC LIMIT $4) AS given
		UNION ALL SELECT seq FROM (SELECT seq FROM grants WHERE daemon = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4) AS received)
		ORDER BY seq DESC LIMIT $4`
	args := []any{q.Owner, q.Daemon, before, q.Limit}
	if q.ID != "" {
		where, args = "WHERE grant_id = $1 AND (owner = $2 OR daemon = $3) AND seq < $4", []any{q.ID, q.Owner, q.Daemon, before}
	}
	found, err := query(ctx, tx, where, args...)
	if err != nil {
		return nil, fmt.Errorf("listing grants: %w", err)
	}
	return found, nil
}

func query(ctx context.Context, tx *sql.Tx, rest string, args ...any) ([]Grant, error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+columns+" FROM grants "+rest, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []Grant
	for rows.Next() {
		g, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, g)
	}
	return found, rows.Err()
}

// scan reads a row and refuses one that New would not have made: only a database
// that was tampered with has it.
func scan(rows *sql.Rows) (Grant, error) {
	var g Grant
	var path, actions string
	var created, expires int64
	var revoked, lastUsed sql.NullInt64
	err := rows.Scan(&g.ID, &g.Owner, &g.Tenant, &g.Daemon, &g.Service, &path, &actions, &created, &expires,
		&g.MaxUses, &g.UsedCount, &revoked, &lastUsed, &g.LastRecord)
	if err != nil {
		return Grant{}, err
	}
	g.Path = Path(path)
	if err := g.Path.check(); err != nil {
		return Grant{}, fmt.Errorf("grant %s in the database: path: %w", g.ID, err)
	}
	if g.Actions, err = parseActions(strings.Split(actions, ",")); err == nil && g.Actions.String() != actions {
		err = fmt.Errorf("want %s, got %s", g.Actions, actions)
	}
	if err != nil {
		return Grant{}, fmt.Errorf("grant %s in the database: actions: %w", g.ID, err)
	}
	if wallet := (identity.Identity{Type: identity.EVM, Value: g.Tenant}); g.Tenant != g.Owner && wallet.OmniAccount() != g.Owner {
		return Grant{}, fmt.Errorf("grant %s in the database: tenant: %s is not that of owner %s", g.ID, g.Tenant, g.Owner)
	}
	g.CreatedAt, g.ExpiresAt = fromMillis(created), fromMillis(expires)
	if revoked.Valid {
		g.RevokedAt = fromMillis(revoked.Int64)
	}
	if lastUsed.Valid {
		g.LastUsedAt = fromMillis(lastUsed.Int64)
	}
	return g, nil
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
