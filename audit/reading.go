package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Reading is a page of the log, for somebody who may see all of it or no more than
// what concerns an Owner. Members that are zero do not filter.
type Reading struct {
	Owner   *Owner // nil sees all
	Account string // of the records with this omni account
	Tenant  string // of this tenant
	GrantID string
	Action  string
	Outcome string
	Since   time.Time // records of this time or later
	Until   time.Time // records before this time

	Ascending bool  // the first appended first; else the last
	From      int64 // Next of the page before; 0 begins
	Limit     int   // 1 to MaxLimit
}

// An Owner sees the records of an account, and those of others in the prefix of a
// tenant or about the account.
type Owner struct{ Account, Tenant string }

// A Page is what a Reading found. It may hold fewer records than there are, even
// none: only without More have all been looked at. Next is where to go on; in
// ascending order it is so too when there is no more yet.
type Page struct {
	Entries []Seen
	Next    int64
	More    bool
}

// Seen is an entry, and what became of it by now: "pending", "confirmed", "failed" or
// "quarantined".
type Seen struct {
	Entry
	Status string
}

// maxExamined bounds how many records a page with filters looks at, so that a filter
// that nothing passes costs no more than one that all pass.
const maxExamined = 10_000

// Read reads a page. Its order is that of the log, in which records are appended and
// nowhere else, so pages that are read one after the other neither skip nor repeat a
// record, however many are appended meanwhile.
func Read(ctx context.Context, tx *sql.Tx, r Reading) (Page, error) {
	if r.Limit < 1 || r.Limit > MaxLimit || r.From < 0 {
		return Page{}, fmt.Errorf("reading audit records: want a limit of 1 to %d from a place on, got %d from %d", MaxLimit, r.Limit, r.From)
	}
	page, err := r.page(ctx, tx)
	if err != nil {
		return Page{}, fmt.Errorf("reading audit records: %w", err)
	}
	return page, nil
}

func (r Reading) page(ctx context.Context, tx *sql.Tx) (Page, error) {
	s := r.selection()
	bound, err := s.bound(ctx, tx)
	if err != nil {
		return Page{}, err
	}
	seen, err := s.read(ctx, tx, r.Limit+1) // one more tells whether there is a next page
	switch {
	case err != nil:
		return Page{}, err
	case len(seen) > r.Limit:
		seen = seen[:r.Limit]
		return Page{seen, seen[r.Limit-1].Seq, true}, nil
	case bound != 0:
		return Page{seen, bound, true}, nil
	case !r.Ascending:
		return Page{Entries: seen}, nil
	}
	var last int64
	err = tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM audit_records").Scan(&last)
	return Page{Entries: seen, Next: max(last, r.From)}, err
}

// Cut keeps the first n entries of a page, 1 or more; the others begin the next one.
func (p *Page) Cut(n int) {
	if n < len(p.Entries) {
		p.Entries = p.Entries[:n]
		p.Next, p.More = p.Entries[n-1].Seq, true
	}
}

// A selection is a Reading in SQL. Values are always arguments.
type selection struct {
	sources   []string // conditions, to the rows of each of which an index leads
	filters   []string // conditions on those rows
	args      []any
	beyond    string // the condition of the rows behind From
	ascending bool
}

func (s *selection) arg(value any) string {
	s.args = append(s.args, value)
	return fmt.Sprintf("$%d", len(s.args))
}

// The + before a column keeps the database from taking its index where another one
// leads to the rows (sqlite.org/optoverview.html, section 7). The comparisons with ”
// are those of the indexes that leave such rows out.
func (r Reading) selection() *selection {
	s := &selection{ascending: r.Ascending}
	s.beyond = "seq > " + s.arg(r.From)
	if !r.Ascending && r.From > 0 {
		s.beyond = "seq < $1"
	}
	for _, f := range []struct{ column, value string }{
		{"grant_id", r.GrantID}, {"omni_account", r.Account}, {"tenant", r.Tenant}, {"action", r.Action}, {"outcome", r.Outcome},
	} {
		switch indexed := f.column != "action" && f.column != "outcome"; {
		case f.value == "":
		case indexed && s.sources == nil:
			s.sources = []string{fmt.Sprintf("%s = %s AND %s <> ''", f.column, s.arg(f.value), f.column)}
		default:
			s.filters = append(s.filters, "+"+f.column+" = "+s.arg(f.value))
		}
	}
	if !r.Since.IsZero() {
		s.filters = append(s.filters, "time >= "+s.arg(ceilMilli(r.Since)))
	}
	if !r.Until.IsZero() {
		s.filters = append(s.filters, "time < "+s.arg(ceilMilli(r.Until)))
	}
	if r.Owner != nil {
		s.own(*r.Owner)
	}
	if s.sources == nil {
		s.sources = []string{"TRUE"}
	}
	return s
}

// own lets an owner's records through alone. A record about an account has it as its
// tenant, which is no wallet's.
func (s *selection) own(o Owner) {
	account, tenant := s.arg(o.Account), s.arg(o.Tenant)
	if s.sources != nil {
		s.filters = append(s.filters, fmt.Sprintf("(+omni_account = %[1]s AND +omni_account <> '' OR +tenant IN (%[1]s, %[2]s) AND +tenant <> '')", account, tenant))
		return
	}
	s.sources = []string{fmt.Sprintf("omni_account = %s AND omni_account <> ''", account), fmt.Sprintf("tenant = %s AND tenant <> ''", tenant)}
	if o.Tenant != o.Account {
		s.sources = append(s.sources, fmt.Sprintf("tenant = %s AND tenant <> ''", account))
	}
}

func (s *selection) order() string {
	if s.ascending {
		return "ORDER BY seq"
	}
	return "ORDER BY seq DESC"
}

// candidates selects the places behind From to which the sources lead, in order. UNION
// merges them and gives each once; each source is read no farther than that needs.
func (s *selection) candidates() string {
	var parts []string
	for _, source := range s.sources {
		parts = append(parts, "SELECT seq FROM audit_records WHERE "+source+" AND "+s.beyond)
	}
	return strings.Join(parts, " UNION ") + " " + s.order()
}

// page selects the records, at most limit.
func (s *selection) page(limit int) string {
	examined := limit
	if len(s.filters) > 0 {
		examined = maxExamined
	}
	among := fmt.Sprintf("seq IN (SELECT seq FROM (%s LIMIT %d))", s.candidates(), examined)
	return fmt.Sprintf("SELECT %s, %s FROM audit_records WHERE %s %s LIMIT %d",
		entryColumns, settledBy, strings.Join(append([]string{among}, s.filters...), " AND "), s.order(), limit)
}

// bound is the place of the last record that a page with filters looks at, 0 where it
// looks at all that are left.
func (s *selection) bound(ctx context.Context, tx *sql.Tx) (seq int64, err error) {
	if len(s.filters) == 0 {
		return 0, nil
	}
	query := fmt.Sprintf("%s LIMIT 1 OFFSET %d", s.candidates(), maxExamined-1)
	err = tx.QueryRowContext(ctx, query, s.args...).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

// settledBy is the outcome that a record came to, ” where nothing settles it.
const settledBy = "coalesce(" + outcomeBack + ", " + outcomeThen + ", '')"

func (s *selection) read(ctx context.Context, tx *sql.Tx, limit int) ([]Seen, error) {
	rows, err := tx.QueryContext(ctx, s.page(limit), s.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []Seen
	for rows.Next() {
		var e Seen
		var millis int64
		if err := rows.Scan(append(append([]any{&e.Seq, &e.Salt, &e.Hash, &e.Person}, e.fields(&millis)...), &e.Status)...); err != nil {
			return nil, err
		}
		e.Time = time.UnixMilli(millis).UTC()
		e.Status = status(e.Outcome, e.Status)
		found = append(found, e)
	}
	return found, rows.Err()
}

// status is that of the view audit.
func status(outcome, settled string) string {
	if settled != "" {
		outcome = settled
	}
	switch outcome {
	case Pending, Quarantined, Failed:
		return outcome
	case Refused:
		return Failed
	}
	return Confirmed
}
