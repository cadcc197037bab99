package audit

import (
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/store"

	_ "modernc.org/sqlite"
)

// readingSearches are the ways in which a reading gets at records: each by an index, in
// the order of the log.
var readingSearches = []string{
	"SEARCH audit_records USING INTEGER PRIMARY KEY (rowid>?)",
	"SEARCH audit_records USING INTEGER PRIMARY KEY (rowid<?)",
	"SEARCH audit_records USING INTEGER PRIMARY KEY (rowid=?)",
	"SEARCH audit_records USING COVERING INDEX audit_records_omni_account (omni_account=? AND seq>?)",
	"SEARCH audit_records USING COVERING INDEX audit_records_omni_account (omni_account=? AND seq<?)",
	"SEARCH audit_records USING COVERING INDEX audit_records_tenant (tenant=? AND seq>?)",
	"SEARCH audit_records USING COVERING INDEX audit_records_tenant (tenant=? AND seq<?)",
	"SEARCH audit_records USING COVERING INDEX audit_records_grant (grant_id=? AND seq>?)",
	"SEARCH audit_records USING COVERING INDEX audit_records_grant (grant_id=? AND seq<?)",
	"SEARCH s USING INDEX audit_records_settles (settles=?)",
	"SEARCH b USING INDEX audit_records_settles (settles=?)",
}

// readingSteps lead to no rows of the table by themselves; a subquery has its limit.
var readingSteps = []string{"MERGE (UNION)", "LEFT", "RIGHT", "CORRELATED SCALAR SUBQUERY", "LIST SUBQUERY", "CO-ROUTINE", "SCAN (subquery-"}

// No reading scans the table or sorts what it finds, whoever asks for whatever; and an
// owner's goes by both of the indexes, not by one of them.
func TestNoReadingScans(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	owner := &Owner{Account: "aa", Tenant: "0xa"}
	for _, base := range []Reading{
		{}, {Account: "aa"}, {Tenant: "0xa"}, {GrantID: "g"}, {Account: "aa", Tenant: "0xa"}, {GrantID: "g", Account: "aa", Tenant: "0xa"},
		{Owner: owner}, {Owner: owner, GrantID: "g"}, {Owner: owner, Tenant: "0xa"}, {Owner: owner, Account: "aa"}, {Owner: &Owner{Account: "aa", Tenant: "aa"}},
	} {
		for _, r := range []Reading{base, {Owner: base.Owner, Account: base.Account, Tenant: base.Tenant, GrantID: base.GrantID, Action: "a", Outcome: "b",
			Since: time.Unix(1, 0), Until: time.Unix(2, 0)}} {
			for _, ascending := range []bool{true, false} {
				for _, from := range []int64{0, 5} {
					r.Ascending, r.From = ascending, from
					checkReadingPlan(t, tx, r)
				}
			}
		}
	}
}

func checkReadingPlan(t *testing.T, tx *sql.Tx, r Reading) {
	t.Helper()
	s := r.selection()
	for _, query := range []string{s.candidates() + " LIMIT 1 OFFSET 10", s.page(10)} {
		var indexes []string
		for _, step := range planOf(t, tx, query, s.args) {
			known := slices.ContainsFunc(readingSteps, func(p string) bool { return strings.HasPrefix(step, p) })
			if !known && !slices.Contains(readingSearches, step) {
				t.Errorf("%+v: %s\n%s", r, step, query)
			}
			for _, name := range []string{"audit_records_omni_account", "audit_records_tenant"} {
				if strings.Contains(step, name) && !slices.Contains(indexes, name) {
					indexes = append(indexes, name)
				}
			}
		}
		if r.Owner != nil && r.GrantID+r.Account+r.Tenant == "" && len(indexes) != 2 {
			t.Errorf("%+v: by the indexes %v, want both\n%s", r, indexes, query)
		}
	}
}

func planOf(t *testing.T, tx *sql.Tx, query string, args []any) (steps []string) {
	t.Helper()
	rows, err := tx.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil || len(steps) == 0 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	return steps
}
