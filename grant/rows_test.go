package grant

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A row that New would not have made is an error, and never a wider grant.
func TestTamperedRows(t *testing.T) {
	for name, change := range map[string]string{
		"path climbs":            "path = 'reports/..'",
		"path with a star":       "path = '*'",
		"path in other spelling": "path = 'reports/'",
		"no path":                "path = ''",
		"path of a tenant":       "path = '" + walletB + "'",
		"no actions":             "actions = ''",
		"unknown action":         "actions = 'list,get,put,delete,admin'",
		"star":                   "actions = '*'",
		"actions in other order": "actions = 'get,list'",
		"an action twice":        "actions = 'get,get'",
		"another's tenant":       "tenant = '" + walletB + "'",
		"tenant in capitals":     "tenant = upper(tenant)",
		"no tenant":              "tenant = ''",
		"owner without tenant":   "owner = '" + omniC + "'",
	} {
		s := newStore(t)
		g := add(t, s, alice)
		mustRun(t, s, "UPDATE grants SET "+change)
		for what, r := range map[string]Request{"named": named(asking("reports"), g.ID), "unnamed": asking("reports"), "unnamed, climbing": asking("reports/x")} {
			got, err := find(t, s, r, noon)
			// By another path the row is not found at all.
			if code := codeOf(err); code != "error" && !(r.GrantID == "" && (code == CodeRequired || code == CodeScope)) || got.ID != "" {
				t.Errorf("%s: %s: %+v, %v; want an error", name, what, got, err)
			}
		}
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			_, err := List(t.Context(), tx, Query{Daemon: daemonD})
			return err
		})
		wantCode(t, name+": list", err, "error")
	}
	// A mark that was moved or taken away leads to an error as well.
	s := newStore(t)
	add(t, s, alice)
	mustRun(t, s, "UPDATE grants SET standing = 1")
	got, err := find(t, s, asking("reports"), noon)
	if codeOf(err) != "error" || got.ID != "" {
		t.Errorf("no mark: %+v, %v; want an error", got, err)
	}
}

func TestDatabaseRefuses(t *testing.T) {
	s := newStore(t)
	g := add(t, s, alice)
	for name, change := range map[string]string{
		"more uses than allowed":                 "used_count = max_uses + 1, standing = 0",
		"fewer than none":                        "used_count = -1",
		"no uses":                                "max_uses = 0",
		"used up and leading":                    "used_count = max_uses",
		"revoked and leading":                    "revoked_at = 1",
		"a mark that is no mark":                 "standing = 3",
		"ended, and neither revoked nor used up": "standing = 0",
		"a text for a number":                    "expires_at = 'never'",
	} {
		if err := run(t, s, "UPDATE grants SET "+change); err == nil || !strings.Contains(err.Error(), "constraint") {
			t.Errorf("%s: %v, want a constraint that fails", name, err)
		}
	}
	if err := s.Update(t.Context(), func(tx *sql.Tx) error { return Insert(t.Context(), tx, g) }); codeOf(err) != "error" {
		t.Errorf("the same grant twice: %v", err)
	}
	if diff := cmp.Diff(g, byID(t, s, g.ID)); diff != "" {
		t.Errorf("the grant has changed (-want +got):\n%s", diff)
	}
}
