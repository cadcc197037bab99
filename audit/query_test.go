package audit_test

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
)

func find(t testing.TB, s *store.Store, q audit.Query) (found []audit.Entry) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
		found, err = audit.Find(t.Context(), tx, q)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// requests names the records found by what stands behind "req-".
func requests(found []audit.Entry) string {
	var b strings.Builder
	for _, e := range found {
		b.WriteString(strings.TrimPrefix(e.RequestID, "req-"))
	}
	return b.String()
}

// Each member that filters has a record that differs from the others in that alone.
func TestFindFilters(t *testing.T) {
	s := newStore(t)
	var ids []string
	for n, change := range []func(*audit.Record){
		func(r *audit.Record) {},
		func(r *audit.Record) { r.OmniAccount = "other" },
		func(r *audit.Record) { r.Tenant = "other" },
		func(r *audit.Record) { r.GrantID = "other" },
		func(r *audit.Record) { r.Action = "mint.other" },
		func(r *audit.Record) { r.Outcome = "replayed" },
		func(r *audit.Record) { r.Wallet = "other" },
		func(r *audit.Record) { r.Agent = "other" },
		func(r *audit.Record) { r.CredentialID = "other" },
		func(r *audit.Record) { r.TokenID = "other" },
	} {
		r := record(n)
		change(&r)
		ids = append(ids, mustAppend(t, s, r).ID)
	}
	for want, q := range map[string]audit.Query{
		"1": {OmniAccount: "other"}, "2": {Tenant: "other"}, "3": {GrantID: "other"}, "4": {Action: "mint.other"}, "5": {Outcome: "replayed"},
		"6": {Wallet: "other"}, "7": {Agent: "other"}, "8": {CredentialID: "other"}, "9": {TokenID: "other"}, "0": {RequestID: "req-0"},
		"72":  {IDs: []string{ids[2], ids[7], ids[2], "01ARZ3NDEKTSV4RRFFQ69G5FAV"}},
		"98":  {After: 8},
		"10":  {Before: 3},
		"012": {Before: 4, OldestFirst: true},
		"34":  {After: 3, OldestFirst: true, Limit: 2},
		"543": {After: 3, Before: 7},
		"":    {Tenant: "other", GrantID: "other"},
	} {
		if got := requests(find(t, s, q)); got != want {
			t.Errorf("Find(%+v) = %q, want %q", q, got, want)
		}
	}
}

// The status of an intent is what came of it, and the view for people says the same.
func TestFindByStatus(t *testing.T) {
	s := newStore(t)
	var intents []audit.Record
	for n := range 5 {
		intents = append(intents, mustAppend(t, s, intent(n)))
	}
	for n, how := range []string{audit.Confirmed, audit.Failed, audit.Quarantined} {
		r := outcome(intents[n], how)
		r.RequestID = "req-" + string(rune('a'+n))
		mustAppend(t, s, r)
	}
	refused := record(8)
	refused.Outcome = audit.Refused
	mustAppend(t, s, refused)
	mustAppend(t, s, record(9)) // issued
	for status, want := range map[string]string{
		audit.StatusPending: "43", audit.StatusConfirmed: "9a0", audit.StatusFailed: "8b1", audit.StatusQuarantined: "c2",
	} {
		if got := requests(find(t, s, audit.Query{Status: status})); got != want {
			t.Errorf("%s: %q, want %q", status, got, want)
		}
		if got := strings.Join(column(t, s, "SELECT substr(request_id, 5) FROM audit WHERE status = '"+status+"' ORDER BY place DESC"), ""); got != want {
			t.Errorf("%s: the view has %q, want %q", status, got, want)
		}
	}
	for _, o := range audit.Outcomes() {
		r := record(1)
		r.Outcome = o
		id := mustAppend(t, s, r).ID
		if got := column(t, s, "SELECT status FROM audit WHERE id = '"+id+"'"); got[0] != audit.StatusOf(o) {
			t.Errorf("%s: the view has the status %q, StatusOf %q", o, got[0], audit.StatusOf(o))
		}
	}
}

// column runs a query for one text a row.
func column(t testing.TB, s *store.Store, query string) (values []string) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(t.Context(), query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var v string
			if err := rows.Scan(&v); err != nil {
				return err
			}
			values = append(values, v)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// Pages in either direction hold every record once, whatever is appended meanwhile.
func TestPagesByPlace(t *testing.T) {
	for _, oldest := range []bool{false, true} {
		s := newStore(t)
		var want []int64
		for n := range 10 {
			want = append(want, mustAppend(t, s, record(n%2)).Seq)
		}
		var got []int64
		for q := (audit.Query{Limit: 3, OldestFirst: oldest}); len(got) < 10; {
			page := find(t, s, q)
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				got = append(got, e.Seq)
			}
			last := page[len(page)-1].Seq
			if q.Before = last; oldest {
				q.Before, q.After = 0, last
			}
			mustAppend(t, s, record(3))
		}
		if !oldest {
			slices.Reverse(got)
		}
		if diff := cmp.Diff(want, got[:min(10, len(got))]); diff != "" {
			t.Errorf("oldest first %t (-want +got):\n%s", oldest, diff)
		}
	}
}

// A record is found by its time whatever IDs lie around it: those that were given while
// the clock was ahead, and those of another process after it was set back.
func TestSinceIsOfTheRecord(t *testing.T) {
	s := newStore(t)
	var all []audit.Record
	for n, minute := range []int{50, 10, 40, 20, 30, 15} {
		r := record(60 * minute)
		ahead := time.Duration([]int{0, 55, 0, 20, 3, 0}[n]) * time.Minute
		r.ID = ulid.MustNew(ulid.Timestamp(r.Time.Add(ahead)), rand.Reader).String()
		all = append(all, mustAppend(t, s, r))
	}
	for _, at := range all {
		for _, since := range []time.Time{at.Time, at.Time.Add(time.Nanosecond), at.Time.Add(-time.Nanosecond)} {
			var want []int64
			for _, r := range all {
				if !r.Time.Before(since) {
					want = append(want, r.Seq)
				}
			}
			if diff := cmp.Diff(want, places(find(t, s, audit.Query{Since: since, OldestFirst: true}))); diff != "" {
				t.Errorf("since %v (-want +got):\n%s", since, diff)
			}
		}
	}
	if got := find(t, s, audit.Query{Since: time.Unix(0, 0)}); len(got) != len(all) {
		t.Errorf("since 1970: %d records, want %d", len(got), len(all))
	}
	if got := find(t, s, audit.Query{Since: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}); len(got) != 0 {
		t.Errorf("since the year 20000: %d records, want none", len(got))
	}
}

func places(found []audit.Entry) (seqs []int64) {
	for _, e := range found {
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

// What Find runs reads no more of the log than the index gives it.
func TestFindUsesTheIndexes(t *testing.T) {
	s := newStore(t)
	for _, tt := range []struct {
		query audit.Query
		want  string
	}{
		{audit.Query{Before: 5}, "SEARCH audit_records USING INTEGER PRIMARY KEY (rowid<?)"},
		{audit.Query{After: 5, OldestFirst: true}, "SEARCH audit_records USING INTEGER PRIMARY KEY (rowid>?)"},
		{audit.Query{OmniAccount: "a", Before: 5}, "SEARCH audit_records USING INDEX audit_records_omni_account (omni_account=? AND seq<?)"},
		{audit.Query{Tenant: "a", Before: 5}, "SEARCH audit_records USING INDEX audit_records_tenant (tenant=? AND seq<?)"},
		{audit.Query{GrantID: "a", Before: 5, Status: audit.StatusFailed}, "SEARCH audit_records USING INDEX audit_records_grant (grant_id=? AND seq<?)"},
		{audit.Query{Tenant: "a", Outcome: "issued", Since: noon}, "SEARCH audit_records USING INDEX audit_records_tenant (tenant=? AND seq>?)"},
		{audit.Query{Since: noon}, "SEARCH audit_records USING INTEGER PRIMARY KEY (rowid>?)"},
		{audit.Query{Since: noon}, "SEARCH i USING COVERING INDEX sqlite_autoindex_audit_records_1 (id>?)"},
		{audit.Query{Status: audit.StatusPending}, "SEARCH s USING INDEX audit_records_settles (settles=?)"},
		{audit.Query{IDs: []string{"a", "b"}}, "SEARCH audit_records USING INDEX sqlite_autoindex_audit_records_1 (id=?)"},
	} {
		if plan := explain(t, s, tt.query); !slices.Contains(plan, tt.want) {
			t.Errorf("%+v: plan %q, want %q in it", tt.query, plan, tt.want)
		}
	}
}

func explain(t *testing.T, s *store.Store, q audit.Query) (plan []string) {
	t.Helper()
	query, args, err := q.SQL()
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				return err
			}
			plan = append(plan, step)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestSettling(t *testing.T) {
	s := newStore(t)
	pending := mustAppend(t, s, intent(1))
	err := s.View(t.Context(), func(tx *sql.Tx) error {
		_, err := audit.Settling(t.Context(), tx, pending.ID)
		return err
	})
	if !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("Settling before the outcome: %v, want %v", err, sql.ErrNoRows)
	}
	confirmed := mustAppend(t, s, outcome(pending, audit.Confirmed))
	err = s.View(t.Context(), func(tx *sql.Tx) error {
		e, err := audit.Settling(t.Context(), tx, pending.ID)
		if e.ID != confirmed.ID {
			t.Errorf("Settling = %q, want %q", e.ID, confirmed.ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
