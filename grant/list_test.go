package grant

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"agentkeys/identity"
	"agentkeys/store"
)

func list(t testing.TB, s *store.Store, q Query) (found []Grant, err error) {
	t.Helper()
	err = s.View(t.Context(), func(tx *sql.Tx) (err error) {
		found, err = List(t.Context(), tx, q)
		return err
	})
	return found, err
}

func mustList(t testing.TB, s *store.Store, q Query) []string {
	t.Helper()
	found, err := list(t, s, q)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, g := range found {
		ids = append(ids, g.ID)
	}
	return ids
}

func TestList(t *testing.T) {
	s := newStore(t)
	given := add(t, s, alice).ID                        // to D
	self := add(t, s, alice, to(walletA)).ID            // to herself
	received := add(t, s, bob, to(walletA)).ID          // from bob
	other := add(t, s, bob, to(daemonE), under("/")).ID // none of hers
	both := Query{Owner: alice.OmniAccount(), Daemon: walletA}
	for name, tt := range map[string]struct {
		query Query
		want  []string
	}{
		"given, received and both":  {both, []string{received, self, given}},
		"given":                     {Query{Owner: alice.OmniAccount()}, []string{self, given}},
		"received":                  {Query{Daemon: daemonD}, []string{given}},
		"nobody":                    {Query{}, []string{}},
		"nobody's owner, no daemon": {Query{Owner: "x"}, []string{}},
		"one that was given":        {Query{Owner: both.Owner, Daemon: both.Daemon, ID: given}, []string{given}},
		"one that was received":     {Query{Owner: both.Owner, Daemon: both.Daemon, ID: received}, []string{received}},
		"one of others":             {Query{Owner: both.Owner, Daemon: both.Daemon, ID: other}, []string{}},
		"one that is not there":     {Query{Owner: both.Owner, Daemon: both.Daemon, ID: "grn-"}, []string{}},
		"an owner with a wildcard":  {Query{Owner: "%", Daemon: "%"}, []string{}},
		"first":                     {Query{Owner: both.Owner, Daemon: both.Daemon, Limit: 1}, []string{received}},
		"after the first":           {Query{Owner: both.Owner, Daemon: both.Daemon, Before: received, Limit: 1}, []string{self}},
		"after the last":            {Query{Owner: both.Owner, Daemon: both.Daemon, Before: given}, []string{}},
		"one, after it":             {Query{Owner: both.Owner, Daemon: both.Daemon, ID: self, Before: self}, []string{}},
	} {
		if got := mustList(t, s, tt.query); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if _, _, err := revoke(t, s, alice, self, noon); err != nil {
		t.Fatal(err)
	}
	if got := mustList(t, s, both); !slices.Equal(got, []string{received, self, given}) {
		t.Errorf("after a revocation: %q", got)
	}
	_, foreign := list(t, s, Query{Owner: both.Owner, Daemon: both.Daemon, Before: other})
	_, none := list(t, s, Query{Owner: both.Owner, Daemon: both.Daemon, Before: "grn-AAAAAAAAAAAAAAAA"})
	wantCode(t, "cursor of others", foreign, CodeCursor)
	if got, want := strings.ReplaceAll(fmt.Sprint(foreign), other, "grn-AAAAAAAAAAAAAAAA"), fmt.Sprint(none); got != want {
		t.Errorf("a cursor of others: %q, and of none: %q", got, want)
	}
	for _, limit := range []int{-1, MaxLimit + 1} {
		_, err := list(t, s, Query{Limit: limit})
		wantCode(t, fmt.Sprintf("limit %d", limit), err, CodeInvalid)
	}
}

func TestListLimits(t *testing.T) {
	s := newStore(t)
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		for range MaxLimit + 1 {
			g, err := New(alice, terms(), longestLife, noon)
			if err == nil {
				err = Insert(t.Context(), tx, g)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]int{0: DefaultLimit, 1: 1, MaxLimit: MaxLimit} {
		for _, q := range []Query{{Owner: alice.OmniAccount(), Limit: limit}, {Owner: alice.OmniAccount(), Daemon: daemonD, Limit: limit}} {
			if got := len(mustList(t, s, q)); got != want {
				t.Errorf("limit %d: %d grants, want %d", limit, got, want)
			}
		}
	}
}

// Pages hold each grant once, in the order of making, whatever is added, used and
// revoked meanwhile.
func TestPagesNeitherSkipNorRepeat(t *testing.T) {
	s := newStore(t)
	rapid.Check(t, func(rt *rapid.T) {
		mustRun(t, s, "DELETE FROM grants")
		q := Query{Owner: alice.OmniAccount(), Daemon: walletA, Limit: rapid.IntRange(1, 4).Draw(rt, "limit")}
		var want []string
		grow := func(n int) (made []string) {
			for range n {
				owner := rapid.SampledFrom([]identity.Identity{alice, bob}).Draw(rt, "owner")
				daemon := rapid.SampledFrom([]string{walletA, daemonD}).Draw(rt, "daemon")
				if g := add(t, s, owner, to(daemon)); g.Owner == q.Owner || daemon == walletA {
					made = append(made, g.ID)
				}
			}
			return made
		}
		want = grow(rapid.IntRange(0, 12).Draw(rt, "grants"))
		slices.Reverse(want)
		var got []string
		for page := mustList(t, s, q); len(page) > 0; page = mustList(t, s, q) {
			if len(page) > q.Limit {
				t.Fatalf("a page of %d, want at most %d", len(page), q.Limit)
			}
			got = append(got, page...)
			q.Before = page[len(page)-1]
			grow(rapid.IntRange(0, 3).Draw(rt, "meanwhile"))
			_, _, _ = revoke(t, s, alice, q.Before, noon.Add(time.Second))
		}
		if !slices.Equal(got, want) {
			rt.Errorf("pages hold %q, want %q", got, want)
		}
	})
}
