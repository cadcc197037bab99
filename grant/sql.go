package grant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// columns lists the members of a Grant in the order of scan and Insert.
const columns = `grant_id, owner, tenant, daemon, service, path, actions, created_at, expires_at,
	max_uses, used_count, revoked_at, last_used_at, last_record_id`

// Insert adds a grant that New made.
func Insert(ctx context.Context, tx *sql.Tx, g Grant) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO grants (`+columns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, NULL, NULL, '')`,
		g.ID, g.Owner, g.Tenant, g.Daemon, g.Service, string(g.Path), g.Actions.String(), g.CreatedAt.UnixMilli(), g.ExpiresAt.UnixMilli(), g.MaxUses)
	if err != nil {
		return fmt.Errorf("adding grant %s: %w", g.ID, err)
	}
	return nil
}

// Find returns the grant that allows a request, or says as an *Error why there is
// none: the one that the request names, or the oldest of those that fit. Where
// more than one owner's fit and none is named it is refused, since the choice
// would be one of tenants.
func Find(ctx context.Context, tx *sql.Tx, r Request, now time.Time) (Grant, error) {
	if r.GrantID != "" {
		return findNamed(ctx, tx, r, now)
	}
	fitting, err := query(ctx, tx, onPaths(r, ` AND revoked_at IS NULL AND expires_at > $3 AND used_count < max_uses ORDER BY seq`), onPathsArgs(r, now)...)
	if err != nil {
		return Grant{}, fmt.Errorf("finding a grant: %w", err)
	}
	for _, g := range fitting {
		if g.Owner != fitting[0].Owner {
			return Grant{}, refuse(CodeAmbiguous, "grants of more than one owner fit, %s and %s among them", fitting[0].ID, g.ID)
		}
	}
	if len(fitting) > 0 {
		return fitting[0], Check(fitting[0], r, now)
	}
	return Grant{}, whyNone(ctx, tx, r, now)
}

func findNamed(ctx context.Context, tx *sql.Tx, r Request, now time.Time) (Grant, error) {
	found, err := query(ctx, tx, "WHERE grant_id = $1 AND daemon = $2", r.GrantID, r.Daemon)
	if err != nil {
		return Grant{}, fmt.Errorf("finding a grant: %w", err)
	}
	if len(found) == 0 {
		return Grant{}, refuse(CodeRequired, "%s has no grant %.40q", r.Daemon, r.GrantID)
	}
	if refusal := Check(found[0], r, now); refusal != nil {
		return Grant{}, refusal
	}
	return found[0], nil
}

// whyNone looks for the newest grant that would have fitted once, and then for any
// other of the service.
func whyNone(ctx context.Context, tx *sql.Tx, r Request, now time.Time) error {
	past, err := query(ctx, tx, onPaths(r, " AND $3 = $3 ORDER BY seq DESC LIMIT 1"), onPathsArgs(r, now)...)
	if err == nil && len(past) == 0 {
		past, err = query(ctx, tx, "WHERE daemon = $1 AND service = $2 LIMIT 1", r.Daemon, r.Service)
	}
	switch {
	case err != nil:
		return fmt.Errorf("finding a grant: %w", err)
	case len(past) == 0:
		return refuse(CodeRequired, "%s has no grant for %.40q", r.Daemon, r.Service)
	case past[0].Path.Covers(r.Path):
		return Check(past[0], r, now)
	}
	return refuse(CodeScope, "no grant of %s for %s reaches %q", r.Daemon, r.Service, r.Path)
}

// onPaths selects the daemon's grants whose path covers that of the request: one
// of its ancestors each, so that an index finds them.
func onPaths(r Request, rest string) string {
	marks := make([]string, len(r.Path.ancestors()))
	for i := range marks {
		marks[i] = fmt.Sprintf("$%d", i+4)
	}
	return "WHERE daemon = $1 AND service = $2 AND path IN (" + strings.Join(marks, ", ") + ")" + rest
}

func onPathsArgs(r Request, now time.Time) []any {
	args := []any{r.Daemon, r.Service, now.UnixMilli()}
	for _, p := range r.Path.ancestors() {
		args = append(args, string(p))
	}
	return args
}

// Use counts one use of a grant, for the audit record that names it. A grant that
// has ended or is used up meanwhile is an *Error.
func Use(ctx context.Context, tx *sql.Tx, g Grant, record string, now time.Time) error {
	result, err := tx.ExecContext(ctx, `UPDATE grants SET used_count = used_count + 1, last_used_at = $2, last_record_id = $3
		WHERE grant_id = $1 AND used_count < max_uses AND revoked_at IS NULL AND expires_at > $2`, g.ID, now.UnixMilli(), record)
	if err != nil {
		return fmt.Errorf("using grant %s: %w", g.ID, err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, refuse(CodeExhausted, "grant %s was used up or ended meanwhile", g.ID))
	}
	return nil
}

// Revoke ends a grant of an owner and returns since when it is revoked, which is
// the same each time. It reports whether this call did it. Another owner's grant
// is as unknown as one that does not exist.
func Revoke(ctx context.Context, tx *sql.Tx, owner, id string, now time.Time) (g Grant, first bool, err error) {
	found, err := query(ctx, tx, "WHERE grant_id = $1 AND owner = $2", id, owner)
	switch {
	case err != nil:
		return Grant{}, false, fmt.Errorf("revoking a grant: %w", err)
	case len(found) == 0:
		return Grant{}, false, refuse(CodeUnknown, "no grant %.40q", id)
	case !found[0].RevokedAt.IsZero():
		return found[0], false, nil
	}
	g = found[0]
	g.RevokedAt = now.UTC().Truncate(time.Millisecond)
	if _, err := tx.ExecContext(ctx, "UPDATE grants SET revoked_at = $2 WHERE grant_id = $1", id, g.RevokedAt.UnixMilli()); err != nil {
		return Grant{}, false, fmt.Errorf("revoking grant %s: %w", id, err)
	}
	return g, true, nil
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
			return nil, refuse(CodeInvalid, "cursor: no grant %.40q", q.Before)
		}
		if err != nil {
			return nil, fmt.Errorf("listing grants: %w", err)
		}
	}
	// Two selections, each by its index; an OR would read the whole table.
	found, err := query(ctx, tx, `WHERE seq IN (
		SELECT seq FROM (SELECT seq FROM grants WHERE owner = $1 AND seq < $3 AND ($4 = '' OR grant_id = $4) ORDER BY seq DESC LIMIT $5) AS given
		UNION SELECT seq FROM (SELECT seq FROM grants WHERE daemon = $2 AND seq < $3 AND ($4 = '' OR grant_id = $4) ORDER BY seq DESC LIMIT $5) AS received)
		ORDER BY seq DESC LIMIT $5`, q.Owner, q.Daemon, before, q.ID, q.Limit)
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
	if g.Path, err = ParsePath(path); err != nil {
		return Grant{}, fmt.Errorf("grant %s in the database: path: %w", g.ID, err)
	}
	if g.Actions, err = parseActions(strings.Split(actions, ",")); err != nil {
		return Grant{}, fmt.Errorf("grant %s in the database: actions: %w", g.ID, err)
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
