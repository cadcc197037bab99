package grant

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"modernc.org/sqlite"

	"agentkeys/store"
)

// recorder notes the statements that run on a database.
type recorder struct {
	driver.Connector
	seen map[string][]driver.NamedValue
}

func (r recorder) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := r.Connector.Connect(ctx)
	return recording{c, r}, err
}

type recording struct {
	driver.Conn
	recorder
}

func (c recording) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c recording) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.seen[query] = args
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c recording) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.seen[query] = args
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

// searches are the ways in which SQLite gets at rows of grants: each by an index to
// the few that are wanted.
var searches = []string{
	"SEARCH grants USING COVERING INDEX grants_daemon (daemon=? AND seq<?)",
	"SEARCH grants USING COVERING INDEX grants_leaders (daemon=? AND service=? AND path=? AND expires_at>?)",
	"SEARCH grants USING COVERING INDEX grants_owner (owner=? AND seq<?)",
	"SEARCH grants USING COVERING INDEX grants_path (daemon=? AND service=? AND path=?)",
	"SEARCH grants USING INDEX grants_leader (daemon=? AND service=? AND path=? AND owner=?)",
	"SEARCH grants USING INDEX grants_open (daemon=? AND service=? AND path=? AND owner=?)",
	"SEARCH grants USING INDEX grants_owners (daemon=? AND service=? AND owner<?)", // for one row, like the next two
	"SEARCH grants USING INDEX grants_owners (daemon=? AND service=? AND owner>?)",
	"SEARCH grants USING INDEX grants_path (daemon=? AND service=?)",
	"SEARCH grants USING INDEX sqlite_autoindex_grants_1 (grant_id=?)",
	"SEARCH grants USING INTEGER PRIMARY KEY (rowid=?)",
}

// No statement of the package reads the whole table or sorts more than the few rows
// that it returns.
func TestNoStatementScans(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	base, err := sqlite.NewConnector("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	r := recorder{base, map[string][]driver.NamedValue{}}
	db := sql.OpenDB(r)
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	everyStatement(t, tx)
	found := map[string]bool{}
	for query, args := range maps.Clone(r.seen) {
		steps := plan(t, tx, query, args)
		for i, step := range steps {
			switch {
			case strings.HasPrefix(step, "SCAN grants"):
				t.Errorf("%s\nreads the whole table: %s", query, step)
			case strings.HasPrefix(step, "SEARCH grants"):
				found[step] = true
			case strings.HasPrefix(step, "USE TEMP B-TREE") && (i < len(steps)-1 || !strings.HasPrefix(query, "SELECT")): // the last sorts what is returned
				t.Errorf("%s\nsorts: %q", query, steps)
			}
		}
	}
	if diff := cmp.Diff(searches, slices.Sorted(maps.Keys(found))); diff != "" {
		t.Errorf("how rows are found (-want +got):\n%s", diff)
	}
}

func plan(t *testing.T, tx *sql.Tx, query string, args []driver.NamedValue) (steps []string) {
	t.Helper()
	values := make([]any, len(args))
	for i, a := range args {
		values[i] = a.Value
	}
	rows, err := tx.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, values...)
	if err != nil {
		t.Fatal(err)
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
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}

func everyStatement(t *testing.T, tx *sql.Tx) {
	ctx := t.Context()
	var all []Grant
	for _, path := range []string{"/", "reports", "reports/a"} {
		g, err := New(alice, terms(under(path), uses(1)), longestLife, noon)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, "insert", Insert(ctx, tx, g), "")
		all = append(all, g)
	}
	deep := Path(strings.Repeat("a/", maxSegments-1) + "a")
	for path, code := range map[Path]string{"reports/a/b": "", Root: "", deep: ""} {
		_, err := Find(ctx, tx, asking(path), noon)
		wantCode(t, "find", err, code)
	}
	_, err := Find(ctx, tx, named(asking("reports"), all[1].ID), noon)
	wantCode(t, "named", err, "")
	_, err = Find(ctx, tx, asking("reports"), end)
	wantCode(t, "none", err, CodeExpired)
	_, err = Find(ctx, tx, asking(deep), end)
	wantCode(t, "none, deep", err, CodeExpired)
	wantCode(t, "use", Use(ctx, tx, all[0], "r", noon), "")
	wantCode(t, "used up", Use(ctx, tx, all[0], "r", noon), CodeExhausted)
	_, _, err = Revoke(ctx, tx, all[1].Owner, all[1].ID, noon)
	wantCode(t, "revoke", err, "")
	_, err = Find(ctx, tx, Request{Daemon: daemonE, Service: S3, Path: "x"}, noon)
	wantCode(t, "no grants", err, CodeRequired)
	for _, q := range []Query{{Owner: all[0].Owner}, {Daemon: daemonD}, {Owner: all[0].Owner, Daemon: daemonD, Before: all[2].ID}, {Owner: all[0].Owner, ID: all[0].ID}} {
		_, err := List(ctx, tx, q)
		wantCode(t, "list", err, "")
	}
	_, err = ByID(ctx, tx, all[0].ID)
	wantCode(t, "by id", err, "")
}
