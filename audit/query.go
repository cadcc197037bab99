package audit

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// The statuses of records: what became of what a record is about, by now. That of an
// intent is the one of the record that settles it.
const (
	StatusPending     = "pending"
	StatusConfirmed   = "confirmed"
	StatusFailed      = "failed" // refused, or tried in vain
	StatusQuarantined = "quarantined"
)

// Statuses are all there are.
func Statuses() []string {
	return []string{StatusPending, StatusConfirmed, StatusFailed, StatusQuarantined}
}

// Outcomes are all that records hold.
func Outcomes() []string {
	return []string{Issued, Refused, SignedIn, Confirmed, Pending, Failed, Quarantined, Replayed}
}

// A Query selects records. Members that are zero do not filter. Those of the first
// line have an index each, the time from which on is read through that of the IDs, and
// the other members cost a look at every record that is left.
type Query struct {
	OmniAccount, Tenant, GrantID         string
	Action, Outcome                      string
	Status                               string // one of Statuses
	Wallet, Agent, CredentialID, TokenID string
	RequestID                            string
	IDs                                  []string
	Since                                time.Time // records of this time or later
	Until                                time.Time // records before this time
	Before, After                        int64     // records before, and behind, a place: cursors
	OldestFirst                          bool
	Limit                                int // 1 to MaxLimit; 0 is DefaultLimit
}

// How many records Find returns at most.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Find returns the records that match, with what binds them to their leaves, the last
// appended first. The order is that of appending, which a clock that was set back does
// not change. To get the next page, ask again with Before (or, oldest first, After) set
// to the place of the last record: records appended meanwhile neither repeat nor hide
// any.
func Find(ctx context.Context, tx *sql.Tx, q Query) ([]Entry, error) {
	rest, args, err := q.build()
	if err != nil {
		return nil, fmt.Errorf("looking for audit records: %w", err)
	}
	found, err := entries(ctx, tx, rest, args...)
	if err != nil {
		return nil, fmt.Errorf("looking for audit records: %w", err)
	}
	return found, nil
}

// Settling returns the record that says what came of an intent, sql.ErrNoRows where
// nothing has yet.
func Settling(ctx context.Context, tx *sql.Tx, id string) (Entry, error) {
	found, err := entries(ctx, tx, "WHERE settles = $1 AND settles <> ''", id)
	if err == nil && len(found) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return Entry{}, fmt.Errorf("reading what settles audit record %.40q: %w", id, err)
	}
	return found[0], nil
}

// Actions returns those that the log has, sorted. It reads every record.
func Actions(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT DISTINCT action FROM audit_records ORDER BY action")
	if err != nil {
		return nil, fmt.Errorf("listing the actions of audit records: %w", err)
	}
	defer rows.Close()
	var actions []string
	for rows.Next() {
		var action string
		if err := rows.Scan(&action); err != nil {
			return nil, fmt.Errorf("listing the actions of audit records: %w", err)
		}
		actions = append(actions, action)
	}
	return actions, rows.Err()
}

// StatusOf is the status that an outcome stands for, as in the view audit.
func StatusOf(outcome string) string {
	switch outcome {
	case Pending:
		return StatusPending
	case Quarantined:
		return StatusQuarantined
	case Failed, Refused:
		return StatusFailed
	}
	return StatusConfirmed
}

// The outcome of what settles a record; and that of what settles this in turn: of
// credentials that were confirmed and taken back, since an anchor did not have it.
const (
	outcomeThen = `(SELECT s.outcome FROM audit_records s WHERE s.settles = audit_records.id AND s.settles <> '')`
	outcomeBack = `(SELECT b.outcome FROM audit_records s CROSS JOIN audit_records b WHERE s.settles = audit_records.id AND s.settles <> ''
		AND b.settles = s.id AND b.settles <> '')`
)

// settled is the outcome that a record came to, its own where nothing settles it.
const settled = "coalesce(" + outcomeBack + ", " + outcomeThen + ", outcome)"

var statusTerms = map[string]string{
	StatusPending:     settled + " = 'pending'",
	StatusConfirmed:   settled + " NOT IN ('pending', 'quarantined', 'failed', 'refused')",
	StatusFailed:      settled + " IN ('failed', 'refused')",
	StatusQuarantined: settled + " = 'quarantined'",
}

// terms collects what stands behind WHERE. Values are always arguments.
type terms struct {
	text []string
	args []any
}

func (t *terms) add(text string, value any) {
	t.args = append(t.args, value)
	t.text = append(t.text, fmt.Sprintf(text, len(t.args)))
}

// equal leaves out a value that is empty.
func (t *terms) equal(column, value string) {
	if value != "" {
		t.add(column+" = $%d", value)
	}
}

// build gives what stands behind FROM audit_records.
func (q Query) build() (string, []any, error) {
	if q.Limit < 0 || q.Limit > MaxLimit {
		return "", nil, fmt.Errorf("limit: want 0 to %d, got %d", MaxLimit, q.Limit)
	}
	if q.Before < 0 || q.After < 0 {
		return "", nil, fmt.Errorf("cursor: want a place from 1, got %d", min(q.Before, q.After))
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	t, err := q.terms()
	if err != nil {
		return "", nil, err
	}
	rest := ""
	if len(t.text) > 0 {
		rest = "WHERE " + strings.Join(t.text, " AND ")
	}
	order := "DESC"
	if q.OldestFirst {
		order = "ASC"
	}
	t.args = append(t.args, q.Limit)
	return rest + fmt.Sprintf(" ORDER BY seq %s LIMIT $%d", order, len(t.args)), t.args, nil
}

func (q Query) terms() (t terms, err error) {
	if q.Before > 0 {
		t.add("seq < $%d", q.Before)
	}
	if q.After > 0 {
		t.add("seq > $%d", q.After)
	}
	t.equal("omni_account", q.OmniAccount)
	if q.Tenant != "" {
		t.add("tenant = $%d AND tenant <> ''", q.Tenant) // which has its partial index used
	}
	if q.GrantID != "" {
		t.add("grant_id = $%d AND grant_id <> ''", q.GrantID)
	}
	t.equal("action", q.Action)
	t.equal("outcome", q.Outcome)
	t.equal("wallet", q.Wallet)
	t.equal("agent", q.Agent)
	t.equal("credential_id", q.CredentialID)
	t.equal("token_id", q.TokenID)
	t.equal("request_id", q.RequestID)
	if q.Status != "" {
		term, known := statusTerms[q.Status]
		if !known {
			return t, fmt.Errorf("status: want %s, got %q", strings.Join(Statuses(), ", "), q.Status)
		}
		t.text = append(t.text, term)
	}
	q.addIDs(&t)
	q.addTimes(&t)
	return t, nil
}

func (q Query) addIDs(t *terms) {
	if len(q.IDs) == 0 {
		return
	}
	var numbers []string
	for _, id := range slices.Compact(slices.Sorted(slices.Values(q.IDs))) {
		t.args = append(t.args, id)
		numbers = append(numbers, fmt.Sprintf("$%d", len(t.args)))
	}
	t.text = append(t.text, "id IN ("+strings.Join(numbers, ", ")+")")
}

// addTimes bounds the times. The time in an ID is never before that of its record, so
// no record of Since or later lies before the first place whose ID is. That place is
// found in the index of the IDs alone: with min(seq) SQLite would look for it from the
// first record on.
func (q Query) addTimes(t *terms) {
	if !q.Since.IsZero() {
		since := ceilMilli(q.Since)
		if since > 0 {
			t.add("seq >= (SELECT min(+i.seq) FROM audit_records i WHERE i.id >= $%d)", firstID(since))
		}
		t.add("time >= $%d", since)
	}
	if !q.Until.IsZero() {
		t.add("time < $%d", ceilMilli(q.Until))
	}
}

// firstID is the first ULID of a time.
func firstID(millis int64) string {
	var id ulid.ULID
	if err := id.SetTime(min(uint64(millis), ulid.MaxTime())); err != nil {
		return "" // before every ID; SetTime refuses what is beyond MaxTime alone
	}
	return id.String()
}

// ceilMilli is the first whole millisecond that is not before t.
func ceilMilli(t time.Time) int64 {
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	return ms
}
