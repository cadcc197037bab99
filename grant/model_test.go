package grant

import (
	"cmp"
	"database/sql"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"agentkeys/identity"
	"agentkeys/store"
)

// model says over a plain list what the package says over the database. The oldest
// grant comes first.
type model []*Grant

// open are the grants that allow a request at a time.
func (m model) open(r Request, now time.Time) (open []*Grant) {
	for _, g := range m {
		if g.Daemon == r.Daemon && g.RevokedAt.IsZero() && now.Before(g.ExpiresAt) && g.UsedCount < g.MaxUses && g.Path.Covers(r.Path) {
			open = append(open, g)
		}
	}
	return open
}

// find returns the ID of the grant, or the code of the refusal.
func (m model) find(r Request, now time.Time) (id, code string) {
	if open := m.open(r, now); len(open) > 0 {
		for _, g := range m {
			if g.Daemon == r.Daemon && g.Owner != open[0].Owner {
				return "", CodeAmbiguous
			}
		}
		return slices.MaxFunc(open, func(a, b *Grant) int { return a.ExpiresAt.Compare(b.ExpiresAt) }).ID, ""
	}
	code = CodeRequired
	for _, g := range m {
		switch {
		case g.Daemon != r.Daemon:
		case g.Path.Covers(r.Path):
			code = map[string]string{"revoked": CodeRevoked, "expired": CodeExpired, "exhausted": CodeExhausted}[g.Status(now)]
		case code == CodeRequired:
			code = CodeScope
		}
	}
	return "", code
}

func (m model) ended(g *Grant, now time.Time) string {
	return map[string]string{"revoked": CodeRevoked, "expired": CodeExpired, "exhausted": CodeExhausted}[g.Status(now)]
}

// TestAgainstAModel makes, uses and revokes grants while time passes and sometimes
// steps back, and compares each answer and each row with the model's.
func TestAgainstAModel(t *testing.T) {
	s := newStore(t)
	rapid.Check(t, func(rt *rapid.T) {
		mustRun(t, s, "DELETE FROM grants")
		var m model
		var known Known
		now := noon
		paths := []string{"/", "a", "a/b", "aa", "a/b/c"}
		owners := []identity.Identity{alice, bob}
		rt.Repeat(map[string]func(*rapid.T){
			"make": func(rt *rapid.T) {
				g, err := New(rapid.SampledFrom(owners).Draw(rt, "owner"), Terms{
					Daemon: rapid.SampledFrom([]string{daemonD, daemonE}).Draw(rt, "daemon"), Service: S3, Path: rapid.SampledFrom(paths).Draw(rt, "path"),
					ExpiresAt: now.Add(time.Duration(rapid.IntRange(1, 5).Draw(rt, "hours")) * time.Hour), MaxUses: rapid.Int64Range(1, 3).Draw(rt, "uses")}, longestLife, now)
				if err == nil {
					err = s.Update(t.Context(), func(tx *sql.Tx) error { return Insert(t.Context(), tx, g) })
				}
				if err != nil {
					rt.Fatal(err)
				}
				m = append(m, &g)
			},
			"use": func(rt *rapid.T) {
				if len(m) == 0 {
					rt.Skip("no grants")
				}
				g := rapid.SampledFrom(m).Draw(rt, "grant")
				want, found := m.ended(g, now), *g
				err := s.Update(t.Context(), func(tx *sql.Tx) (err error) {
					if rapid.Bool().Draw(rt, "known") { // as a mint does, which may know it from before
						if found, err = known.Find(t.Context(), tx, named(Request{Daemon: g.Daemon, Service: S3, Path: g.Path}, g.ID), now); err != nil {
							return err
						}
						return known.Use(t.Context(), tx, found, "01ARZ3NDEKTSV4RRFFQ69G5FAV", now)
					}
					return Use(t.Context(), tx, found, "01ARZ3NDEKTSV4RRFFQ69G5FAV", now)
				})
				if codeOf(err) != want {
					rt.Fatalf("using %s: %v, want %q", g.ID, err, want)
				}
				if want == "" {
					g.UsedCount, g.LastUsedAt, g.LastRecord = g.UsedCount+1, now, "01ARZ3NDEKTSV4RRFFQ69G5FAV"
				}
			},
			"revoke": func(rt *rapid.T) {
				if len(m) == 0 {
					rt.Skip("no grants")
				}
				g := rapid.SampledFrom(m).Draw(rt, "grant")
				by := rapid.SampledFrom(owners).Draw(rt, "by")
				got, first, err := revoke(t, s, by, g.ID, now)
				switch {
				case by.OmniAccount() != g.Owner:
					if codeOf(err) != CodeUnknown {
						rt.Fatalf("another's: %v", err)
					}
					return
				case err != nil || first != g.RevokedAt.IsZero():
					rt.Fatalf("revoking: first %v, %v", first, err)
				case first:
					g.RevokedAt = now
				}
				if got.RevokedAt != g.RevokedAt {
					rt.Fatalf("revoked at %v, want %v", got.RevokedAt, g.RevokedAt)
				}
			},
			"wait": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-20, 60).Draw(rt, "minutes")) * time.Minute)
			},
			"": func(rt *rapid.T) {
				err := s.View(t.Context(), func(tx *sql.Tx) error { // one state of the database, and much quicker
					compareFinds(t, rt, tx, m, now)
					return nil
				})
				if err != nil {
					rt.Fatal(err)
				}
				compareRows(t, rt, s, m)
			},
		})
	})
}

func compareFinds(t *testing.T, rt *rapid.T, tx *sql.Tx, m model, now time.Time) {
	paths := []Path{Root, "a", "a/b", "a/b/c/d", "aa", "b"}
	for range 3 { // of the twelve, at each step
		r := Request{Daemon: rapid.SampledFrom([]string{daemonD, daemonE}).Draw(rt, "asking"), Service: S3, Path: rapid.SampledFrom(paths).Draw(rt, "for")}
		id, code := m.find(r, now)
		g, err := Find(t.Context(), tx, r, now)
		if g.ID != id || codeOf(err) != code {
			rt.Fatalf("%s for %q at %v: %q, %v; want %q, %q", r.Daemon, r.Path, now, g.ID, err, id, code)
		}
	}
	if len(m) == 0 {
		return
	}
	g := rapid.SampledFrom(m).Draw(rt, "named")
	r := Request{Daemon: g.Daemon, Service: S3, Path: g.Path, GrantID: g.ID}
	if _, err := Find(t.Context(), tx, r, now); codeOf(err) != m.ended(g, now) {
		rt.Fatalf("named %s: %v, want %q", g.ID, err, m.ended(g, now))
	}
}

func compareRows(t *testing.T, rt *rapid.T, s *store.Store, m model) {
	for _, owner := range []identity.Identity{alice, bob} {
		got, err := list(t, s, Query{Owner: owner.OmniAccount(), Limit: MaxLimit})
		if err != nil {
			rt.Fatal(err)
		}
		slices.Reverse(got)
		var want []*Grant
		for _, g := range m {
			if g.Owner == owner.OmniAccount() {
				want = append(want, g)
			}
		}
		if !slices.EqualFunc(want, got, func(w *Grant, g Grant) bool {
			return w.ID == g.ID && w.Path == g.Path && w.UsedCount == g.UsedCount && w.RevokedAt.Equal(g.RevokedAt) && w.LastUsedAt.Equal(g.LastUsedAt) &&
				w.LastRecord == g.LastRecord && w.ExpiresAt.Equal(g.ExpiresAt) && cmp.Compare(w.MaxUses, g.MaxUses) == 0
		}) {
			rt.Fatalf("rows of %s:\n%+v, want\n%+v", owner.Value, got, want)
		}
	}
}
