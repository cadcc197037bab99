package audit_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"
)

// readAll reads all pages, with between after each.
func readAll(t *testing.T, s *store.Store, r audit.Reading, between func()) (all []audit.Seen) {
	t.Helper()
	for range 10_000 {
		page := readPage(t, s, r)
		all = append(all, page.Entries...)
		if !page.More {
			return all
		}
		if page.Next == r.From {
			t.Fatalf("the page after %d goes on there again", r.From)
		}
		r.From = page.Next
		between()
	}
	t.Fatal("there is no end of pages")
	return nil
}

func readPage(t *testing.T, s *store.Store, r audit.Reading) (page audit.Page) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
		page, err = audit.Read(t.Context(), tx, r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// appendSome appends n records of few values each.
func appendSome(t *testing.T, s *store.Store, rnd *rand.Rand, n int) {
	t.Helper()
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		for range n {
			r := audit.Record{Time: noon.Add(time.Duration(rnd.IntN(100)) * time.Second), RequestID: "r",
				Action: pick("mint.oidc_jwt", "mint.aws_credentials", "audit.read"), Outcome: pick(audit.Issued, audit.Refused),
				OmniAccount: pick("", "aa", "bb", "cc"), Tenant: pick("", "0xa", "0xb", "aa", "bb"), GrantID: pick("", "grn-1", "grn-2")}
			if err := audit.Append(t.Context(), tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fitsReading is what Reading means, without SQL.
func fitsReading(r audit.Reading, e audit.Entry) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	own := r.Owner == nil || e.OmniAccount == r.Owner.Account || e.Tenant != "" && (e.Tenant == r.Owner.Tenant || e.Tenant == r.Owner.Account)
	return own && is(r.Account, e.OmniAccount) && is(r.Tenant, e.Tenant) && is(r.GrantID, e.GrantID) && is(r.Action, e.Action) && is(r.Outcome, e.Outcome) &&
		(r.Since.IsZero() || !e.Time.Before(r.Since)) && (r.Until.IsZero() || e.Time.Before(r.Until))
}

// Whatever is asked for, in pages of whatever length, while records are appended: what
// was there at the beginning comes once each, in order.
func TestReadingsAgreeWithTheirMeaning(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	s := newStore(t)
	appendSome(t, s, rnd, 300)
	found := 0
	for range 70 {
		r := audit.Reading{Account: pick("", "", "aa", "bb"), Tenant: pick("", "", "0xa", "aa"), GrantID: pick("", "", "grn-1"),
			Action: pick("", "", "audit.read"), Outcome: pick("", "", audit.Refused), Ascending: rnd.IntN(2) == 0, Limit: 1 + rnd.IntN(40)}
		switch rnd.IntN(4) {
		case 0:
			r.Owner = &audit.Owner{Account: "aa", Tenant: "0xa"}
		case 1:
			r.Owner = &audit.Owner{Account: "bb", Tenant: "bb"} // without a wallet
		case 2:
			r.Owner = &audit.Owner{Account: "dd", Tenant: "0xd"} // without a record
		}
		if rnd.IntN(3) == 0 {
			r.Since = noon.Add(time.Duration(rnd.IntN(100)) * time.Second)
		}
		if rnd.IntN(3) == 0 {
			r.Until = noon.Add(time.Duration(rnd.IntN(100)) * time.Second)
		}
		var want []int64
		all := after(t, s, 0)
		for _, e := range all {
			if fitsReading(r, e) {
				want = append(want, e.Seq)
			}
		}
		if !r.Ascending {
			slices.Reverse(want)
		}
		var got []int64
		for _, e := range readAll(t, s, r, func() { appendSome(t, s, rnd, rnd.IntN(6)/5) }) {
			if e.Seq <= all[len(all)-1].Seq {
				got = append(got, e.Seq)
			}
			if !fitsReading(r, e.Entry) {
				t.Fatalf("%+v: got %+v", r, e)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: got %v, want %v", r, got, want)
		}
		found += len(got)
	}
	if found < 1000 {
		t.Errorf("the readings found %d records in all: they say little", found)
	}
}

// An owner with an empty tenant or account is not the owner of the records that have
// none: those of failed sign-ins, say.
func TestNobodysRecordsAreNobodys(t *testing.T) {
	s := newStore(t)
	appendSome(t, s, rand.New(rand.NewPCG(3, 4)), 100)
	for _, o := range []audit.Owner{{}, {Account: "dd"}, {Tenant: "0xd"}} {
		for _, grant := range []string{"", "grn-1"} {
			if page := readPage(t, s, audit.Reading{Owner: &o, GrantID: grant, Limit: 10}); len(page.Entries) != 0 {
				t.Errorf("owner %+v, grant %q: %d entries, want none", o, grant, len(page.Entries))
			}
		}
	}
}

func TestFollowing(t *testing.T) {
	s := newStore(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	r := audit.Reading{Ascending: true, Outcome: audit.Issued, Limit: 7}
	var got []int64
	for range 20 {
		for more := true; more; {
			page := readPage(t, s, r)
			for _, e := range page.Entries {
				got = append(got, e.Seq)
			}
			r.From, more = page.Next, page.More
		}
		appendSome(t, s, rnd, rnd.IntN(20))
	}
	for _, e := range readPage(t, s, r).Entries {
		got = append(got, e.Seq)
	}
	var want []int64
	for _, e := range after(t, s, 0) {
		if e.Outcome == audit.Issued {
			want = append(want, e.Seq)
		}
	}
	if len(want) < 50 || !slices.Equal(got, want) {
		t.Errorf("followed %v, want %v", got, want)
	}
}

// A filter that nothing passes makes a page no longer than any: it ends empty, and
// leads on.
func TestPagesExamineABoundedNumber(t *testing.T) {
	s := newStore(t)
	execute(t, s, `INSERT INTO audit_records (id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id, salt, hash)
		WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < 20599)
		SELECT printf('01%024d', i), $1, 'mint.oidc_jwt', iif(i IN (2, 20500), 'refused', 'issued'), '', '', '', 'aa', '', '', '', '', 'r', zeroblob(16), zeroblob(32) FROM n`, noon.UnixMilli())
	for _, owner := range []*audit.Owner{nil, {Account: "aa", Tenant: "0xa"}} {
		for _, ascending := range []bool{false, true} {
			var lengths []int
			r := audit.Reading{Owner: owner, Outcome: audit.Refused, Ascending: ascending, Limit: 10}
			for more := true; more; {
				page := readPage(t, s, r)
				lengths = append(lengths, len(page.Entries))
				r.From, more = page.Next, page.More
			}
			if fmt.Sprint(lengths) != "[1 0 1]" {
				t.Errorf("owner %v, ascending %v: pages of %v, want [1 0 1]", owner, ascending, lengths)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	s := newStore(t)
	intent := func(outcome string) *audit.Record {
		return &audit.Record{Time: noon, RequestID: "r", Action: "mint.aws_credentials", Outcome: outcome}
	}
	want := []string{"pending", "confirmed", "confirmed", "quarantined", "quarantined", "failed", "failed", "failed", "confirmed", "confirmed", "confirmed"}
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		for _, outcomes := range [][]string{{audit.Pending}, {audit.Pending, audit.Confirmed}, {audit.Pending, audit.Quarantined}, {audit.Pending, audit.Failed},
			{audit.Refused}, {audit.Issued}, {audit.SignedIn}, {audit.Replayed}} {
			settles := ""
			for _, outcome := range outcomes {
				r := intent(outcome)
				r.Settles = settles
				if err := audit.Append(t.Context(), tx, r); err != nil {
					return err
				}
				settles = r.ID
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	page := readPage(t, s, audit.Reading{Ascending: true, Limit: 100})
	for _, e := range page.Entries {
		got = append(got, e.Status)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var viewed []string
	err = s.View(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(t.Context(), "SELECT status FROM audit ORDER BY place")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var status string
			if err := rows.Scan(&status); err != nil {
				return err
			}
			viewed = append(viewed, status)
		}
		return rows.Err()
	})
	if err != nil || !slices.Equal(viewed, want) {
		t.Errorf("the view says %v, %v; want %v", viewed, err, want)
	}
}

func TestReadRefuses(t *testing.T) {
	s := newStore(t)
	for _, r := range []audit.Reading{{}, {Limit: -1}, {Limit: audit.MaxLimit + 1}, {Limit: 1, From: -1}} {
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			_, err := audit.Read(t.Context(), tx, r)
			return err
		})
		if err == nil {
			t.Errorf("%+v was read", r)
		}
	}
}

// Where all records were pruned, a follower goes on from where it is.
func TestFollowingOverNothing(t *testing.T) {
	if page := readPage(t, newStore(t), audit.Reading{Ascending: true, From: 50, Limit: 1}); page.Next != 50 || page.More {
		t.Errorf("goes on at %d, more %v; want at 50, and no more", page.Next, page.More)
	}
}

func TestCut(t *testing.T) {
	s := newStore(t)
	appendSome(t, s, rand.New(rand.NewPCG(7, 8)), 10)
	r := audit.Reading{Limit: 10}
	whole, cut := readPage(t, s, r), readPage(t, s, r)
	if whole.Cut(10); whole.More || whole.Next != 0 || len(whole.Entries) != 10 {
		t.Errorf("cut to what it has: %d entries, next %d, more %v", len(whole.Entries), whole.Next, whole.More)
	}
	cut.Cut(4)
	r.From = cut.Next
	if rest := readPage(t, s, r); !cut.More || len(rest.Entries) != 6 || rest.Entries[0].Seq != cut.Entries[3].Seq-1 {
		t.Errorf("cut after 4: more %v, then %d entries", cut.More, len(rest.Entries))
	}
}

func TestRangeErrorNamesTheSizes(t *testing.T) {
	s := newStore(t)
	appendSome(t, s, rand.New(rand.NewPCG(9, 10)), 10)
	l, _ := newLog(t)
	extend(t, s, l)
	for _, sizes := range [][2]int64{{0, 0}, {-1, 5}, {6, 5}, {1, 11}, {11, 0}} {
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			_, _, err := l.Consistency(t.Context(), tx, sizes[0], sizes[1])
			return err
		})
		var e *audit.RangeError
		if !errors.As(err, &e) || e.Size != 10 {
			t.Errorf("sizes %v: %v", sizes, err)
		}
	}
}
