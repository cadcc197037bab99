package grant

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"agentkeys/store"
)

func findKnown(t *testing.T, k *Known, s *store.Store, r Request, now time.Time) (g Grant, err error) {
	t.Helper()
	err = s.View(t.Context(), func(tx *sql.Tx) (err error) {
		g, err = k.Find(t.Context(), tx, r, now)
		return err
	})
	return g, err
}

// A grant that is known is not read again, and is refused in no other words than one
// that is not.
func TestKnownRefusesAsFindDoes(t *testing.T) {
	s := newStore(t)
	var k Known
	g := add(t, s, alice)
	first, err := findKnown(t, &k, s, named(asking("reports"), g.ID), noon)
	if err != nil || first.ID != g.ID {
		t.Fatalf("got %+v, %v", first, err)
	}
	other := named(asking("reports"), g.ID)
	other.Daemon = daemonE
	service := named(asking("reports"), g.ID)
	service.Service = "dynamodb"
	for what, r := range map[string]Request{
		"within its path": named(asking("reports/2026"), g.ID), "outside": named(asking("private"), g.ID), "beside": named(asking("reports-old"), g.ID),
		"above": named(asking(Root), g.ID), "no path": named(asking("reports/../private"), g.ID), "another daemon": other, "another service": service,
		"unnamed": asking("reports"), "another grant": named(asking("reports"), "grn-AAAAAAAAAAAAAAAA"),
	} {
		for _, now := range []time.Time{noon, end.Add(-time.Millisecond), end, end.Add(time.Hour)} {
			_, want := find(t, s, r, now)
			if _, got := findKnown(t, &k, s, r, now); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s at %v: %v, want %v", what, now, got, want)
			}
		}
	}
}

// What a known grant cannot know, Use finds out, and counts nothing.
func TestKnownGrantsEndAtOnce(t *testing.T) {
	for what, test := range map[string]struct {
		ends func(*store.Store, Grant)
		code string
	}{
		"revoked": {func(s *store.Store, g Grant) {
			if _, _, err := revoke(t, s, alice, g.ID, noon); err != nil {
				t.Fatal(err)
			}
		}, CodeRevoked},
		"used up": {func(s *store.Store, g Grant) {
			for range g.MaxUses {
				if err := use(t, s, g, noon); err != nil {
					t.Fatal(err)
				}
			}
		}, CodeExhausted},
		"gone": {func(s *store.Store, g Grant) { mustRun(t, s, "DELETE FROM grants WHERE grant_id = $1", g.ID) }, CodeUnknown},
	} {
		s := newStore(t)
		var k Known
		g := add(t, s, alice)
		r := named(asking("reports"), g.ID)
		if _, err := findKnown(t, &k, s, r, noon); err != nil {
			t.Fatal(err)
		}
		test.ends(s, g)
		found, err := findKnown(t, &k, s, r, noon)
		if err != nil {
			t.Errorf("%s: %v: want it to be known", what, err)
		}
		for range 2 {
			err = s.Update(t.Context(), func(tx *sql.Tx) error { return k.Use(t.Context(), tx, found, "01ARZ3NDEKTSV4RRFFQ69G5FAV", noon) })
			wantCode(t, what, err, test.code)
		}
		_, want := find(t, s, r, noon)
		if _, err := findKnown(t, &k, s, r, noon); err == nil || fmt.Sprint(err) != fmt.Sprint(want) {
			t.Errorf("%s, once it is known to be: %v, want %v", what, err, want)
		}
	}
}

// What is known is bounded.
func TestKnownIsBounded(t *testing.T) {
	var k Known
	for i := range maxKnown + 10 {
		k.put(known{Grant: Grant{ID: fmt.Sprint(i)}})
	}
	if len(k.grants) != maxKnown {
		t.Errorf("got %d grants, want %d", len(k.grants), maxKnown)
	}
	if _, ok := k.get(fmt.Sprint(maxKnown + 9)); !ok {
		t.Error("the last is not known")
	}
}

// A session policy that is known is that of its grant, its path and its target.
func TestKnownSessionPolicies(t *testing.T) {
	s := newStore(t)
	var k Known
	grants := []Grant{add(t, s, alice), add(t, s, alice, doing("get")), add(t, s, bob), add(t, s, alice, until(end.Add(time.Hour)))}
	for _, g := range grants[:3] { // the last one is not known
		if _, err := findKnown(t, &k, s, named(asking("reports"), g.ID), noon); err != nil {
			t.Fatal(err)
		}
	}
	here, there := Target{Partition: "aws", Bucket: "agentkeys-data", Prefix: "bots"}, Target{Partition: "aws", Bucket: "another-bucket", Prefix: "bots"}
	for _, g := range grants {
		for _, ask := range []struct {
			in   Target
			path Path
		}{{here, "reports"}, {here, "reports/2026"}, {there, "reports/2026"}, {there, "reports"}, {here, "reports"}, {here, "reports"}} {
			want, err := SessionPolicy(ask.in, g.Tenant, ask.path, g.Actions, g.ExpiresAt)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.SessionPolicy(ask.in, g, ask.path); err != nil || got != want {
				t.Errorf("%s for %s in %s: got %s, %v; want %s", g.ID, ask.path, ask.in.Bucket, got, err, want)
			}
		}
	}
	if _, err := k.SessionPolicy(here, grants[0], "../b"); err == nil {
		t.Error("a path that leaves: want an error")
	}
}
