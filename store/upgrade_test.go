package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"modernc.org/sqlite"

	"agentkeys/agentkeystest/child"
	"agentkeys/agentkeystest/landed"
)

// eachLanded runs a test over the database of each release that landed, as it was left.
func eachLanded(t *testing.T, test func(t *testing.T, release, path string)) {
	releases, err := landed.Releases()
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range releases {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			test(t, release, restored(t, release))
		})
	}
}

func restored(t *testing.T, release string) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := landed.Restore(t.Context(), release, dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, landed.Database)
}

// A content is the rows of the tables of a database, each with its columns by name.
type content map[string][]map[string]string

// contentOf reads all rows, but those in which goose keeps count. What SQLite counts of
// a table is a table by itself.
func contentOf(t *testing.T, path string) content {
	t.Helper()
	db, err := openPlain(path, inspectSettings)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := content{}
	for _, table := range column(t, db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('goose_db_version', 'sqlite_sequence')") {
		quoted := []string{}
		for _, name := range column(t, db, "SELECT name FROM pragma_table_info('"+table+"')") {
			quoted = append(quoted, "'"+name+"', quote(\""+name+"\")")
		}
		for _, text := range column(t, db, "SELECT json_object("+strings.Join(quoted, ", ")+") FROM "+table+" ORDER BY rowid") {
			row := map[string]string{}
			if err := json.Unmarshal([]byte(text), &row); err != nil {
				t.Fatal(err)
			}
			all[table] = append(all[table], row)
		}
		for _, seq := range column(t, db, "SELECT seq FROM sqlite_sequence WHERE name = '"+table+"'") {
			all["the sequence of "+table] = []map[string]string{{"seq": seq}}
		}
	}
	return all
}

func column(t *testing.T, db *sql.DB, query string) (values []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}

// wantKept wants every row of every table that was there before, in its order, with the
// same values in the columns that it had.
func wantKept(t *testing.T, before, after content) {
	t.Helper()
	for table, rows := range before {
		if len(after[table]) != len(rows) {
			t.Errorf("%s: want %d rows, got %d", table, len(rows), len(after[table]))
			continue
		}
		for i, row := range rows {
			_, texts := row["idempotency_key"]
			if _, digests := after[table][i]["call_digest"]; texts && digests {
				row = withDigests(row)
			}
			for name, want := range row {
				if got := after[table][i][name]; got != want {
					t.Errorf("%s, row %d: want %s = %s, got %s", table, i+1, name, want, got)
				}
			}
		}
	}
	if len(before["accounts"]) < 2 || len(before["audit_records"]) < 6 {
		t.Errorf("there were %d accounts and %d records before, want some", len(before["accounts"]), len(before["audit_records"]))
	}
}

// withDigests is a row of mints as it is found by digests. The values are quoted.
func withDigests(row map[string]string) map[string]string {
	row = maps.Clone(row)
	digest := func(name string) string {
		sum := sha256.Sum256([]byte(strings.Trim(row["caller"], "'") + " " + strings.Trim(name, "'")))
		return fmt.Sprintf("X'%X'", sum[:16])
	}
	row["call_digest"], row["key_digest"] = digest(row["request_id"]), row["idempotency_key"]
	if row["idempotency_key"] != "NULL" {
		row["key_digest"] = digest(row["idempotency_key"])
	}
	delete(row, "idempotency_key")
	return row
}

// wantToday wants the schema that the migrations of today make, and a whole file.
func wantToday(t *testing.T, s *Store, path string) {
	t.Helper()
	if found, err := s.SchemaChanges(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("changes of the schema %q, %v, want none", found, err)
	}
	if version, err := schemaVersion(t.Context(), path); err != nil || version != last {
		t.Errorf("schema version %d, %v, want %d", version, err, last)
	}
	wantIntegrity(t, path)
	err := s.View(t.Context(), func(tx *sql.Tx) error {
		var bare int
		err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM audit_records WHERE length(salt) <> 16 AND person = x''").Scan(&bare)
		if bare > 0 {
			t.Errorf("%d records have no salt", bare)
		}
		return err
	})
	wantErrors(t, []error{err}, nil)
}

func TestLandedDatabasesAreUpgraded(t *testing.T) {
	eachLanded(t, func(t *testing.T, release, path string) {
		before := contentOf(t, path)
		if version, err := schemaVersion(t.Context(), path); err != nil || fmt.Sprint(version) != release {
			t.Fatalf("schema version %d, %v, want %s", version, err, release)
		}
		if s, err := Open(t.Context(), path, ReadOnly()); release != fmt.Sprint(last) {
			wantText(t, err, "its schema has version "+release, "start the broker once to migrate it")
		} else if err == nil {
			wantErrors(t, []error{s.Close()}, nil)
		}
		s := openStore(t, path)
		wantToday(t, s, path)
		wantErrors(t, []error{s.Close()}, nil)
		wantKept(t, before, contentOf(t, path))

		once, err := os.ReadFile(path)
		wantErrors(t, []error{err, openStore(t, path).Close()}, nil, nil)
		if twice, err := os.ReadFile(path); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("a second start changed the file (%v)", err)
		}
	})
}

// An older database is not touched where whoever opens it is not ready for that, and
// nobody is asked about one of today.
func TestUpgradeAsksFirst(t *testing.T) {
	eachLanded(t, func(t *testing.T, release, path string) {
		before := must(os.ReadFile(path))
		unready := errors.New("no place for heads")
		s, err := Open(t.Context(), path, BeforeUpgrade(func() error { return unready }))
		if release == fmt.Sprint(last) {
			wantErrors(t, []error{err, s.Close()}, nil, nil)
			return
		}
		wantErrors(t, []error{err}, unready)
		wantText(t, err, fmt.Sprintf("not upgrading its schema from version %s to %d: no place for heads", release, last))
		if after := must(os.ReadFile(path)); !bytes.Equal(after, before) {
			t.Error("the database was changed")
		}
		s, err = Open(t.Context(), path, BeforeUpgrade(func() error { return nil }))
		wantErrors(t, []error{err}, nil)
		wantToday(t, s, path)
		wantErrors(t, []error{s.Close()}, nil)
	})
}

// The schema of today is one that is kept, so that none lands without.
func TestTodaysSchemaIsKept(t *testing.T) {
	releases, err := landed.Releases()
	if err != nil || !slices.Contains(releases, fmt.Sprint(last)) {
		t.Errorf("the releases are %q (%v), want one with the schema of today, %d: TestLandedStory of cmd/agentkeys makes it", releases, err, last)
	}
}

// pending are the versions that a database of a release lacks.
func pending(t *testing.T, path string) (versions []int64) {
	t.Helper()
	have, err := schemaVersion(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for v := have + 1; v <= last; v++ {
		versions = append(versions, v)
	}
	return versions
}

// changed is the migrations up to a version, whose text is changed.
func changed(version int64, change func(text string) string) fstest.MapFS {
	all := fstest.MapFS{}
	for i, name := range must(fs.Glob(migrations(), "*.sql")) {
		text := string(must(fs.ReadFile(migrations(), name)))
		if int64(i+1) == version {
			text = change(text)
		}
		if int64(i+1) <= version {
			all[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return all
}

// wantGoesOn wants a database whose upgrade ended before a version to be as that
// version finds it, and today's program to go on from there.
func wantGoesOn(t *testing.T, path string, before content, version int64) {
	t.Helper()
	if have, err := schemaVersion(t.Context(), path); err != nil || have != version-1 {
		t.Errorf("schema version %d, %v, want %d", have, err, version-1)
	}
	wantKept(t, before, contentOf(t, path))
	so, err := open(t.Context(), path, changed(version-1, strings.Clone), nil) // the program of then
	wantErrors(t, []error{err}, nil)
	wantErrors(t, []error{so.Close()}, nil)
	s := openStore(t, path)
	wantToday(t, s, path)
	wantErrors(t, []error{s.Close()}, nil)
	wantKept(t, before, contentOf(t, path))
}

// An error in a migration undoes all of it. The program that knows no more than what
// was done before still opens the database, and the next start completes the upgrade.
func TestFailedUpgradeGoesOn(t *testing.T) {
	eachLanded(t, func(t *testing.T, release, path string) {
		for _, version := range pending(t, path) {
			path := restored(t, release)
			before := contentOf(t, path)
			_, err := open(t.Context(), path, changed(version, func(text string) string {
				return text + "\nINSERT INTO accounts (omni_account) VALUES (NULL);\n"
			}), nil)
			wantText(t, err, "migrating", fmt.Sprintf("version:%d", version), "NOT NULL")
			wantGoesOn(t, path, before, version)
		}
	})
}

// roleUpgrade opens args[0] with migrations one of which, args[1], does not come past
// its statement args[2].
func roleUpgrade(args []string) error {
	if err := sqlite.RegisterScalarFunction("halt", 0, func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
		fmt.Println("halted")
		select {} // until it is killed
	}); err != nil {
		return err
	}
	version, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	at, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	_, err = open(context.Background(), args[0], changed(version, func(text string) string {
		ends := statementEnds(text)
		return text[:ends[at]] + "\nSELECT halt();\n" + text[ends[at]:]
	}), nil)
	return err
}

// statementEnds are the places behind the statements of a migration.
func statementEnds(text string) (ends []int) {
	whole := true // not within StatementBegin and StatementEnd
	n := 0
	for line := range strings.Lines(text) {
		n += len(line)
		switch line = strings.TrimSpace(line); {
		case strings.HasSuffix(line, "StatementBegin"):
			whole = false
		case strings.HasSuffix(line, "StatementEnd"):
			whole = true
			ends = append(ends, n)
		case whole && strings.HasSuffix(line, ";"):
			ends = append(ends, n)
		}
	}
	return ends
}

// A process that is killed in the middle of a migration, or before its commit, leaves
// what was there before it.
func TestKilledUpgradeGoesOn(t *testing.T) {
	eachLanded(t, func(t *testing.T, release, path string) {
		for _, version := range pending(t, path) {
			n := len(statementEnds(string(must(fs.ReadFile(migrations(), must(fs.Glob(migrations(), "*.sql"))[version-1])))))
			for _, at := range slices.Compact([]int{n / 2, n - 1}) {
				path := restored(t, release)
				before := contentOf(t, path)
				if got := child.KillAfter(t, child.Command(t, "upgrade", path, fmt.Sprint(version), fmt.Sprint(at)), 1); len(got) != 1 || got[0] != "halted" {
					t.Fatalf("migration %d, statement %d of %d: %q, want that it halts", version, at+1, n, got)
				}
				wantGoesOn(t, path, before, version)
			}
		}
	})
}

// A database that a later release has written to is refused in one line, and neither it
// nor the log that the release left beside it is touched.
func TestNewerDatabaseIsLeftAlone(t *testing.T) {
	eachLanded(t, func(t *testing.T, release, path string) {
		wantErrors(t, []error{openStore(t, path).Close()}, nil)
		db, err := openPlain(path, writerSettings)
		wantErrors(t, []error{err}, nil)
		defer db.Close()
		_, err = db.ExecContext(t.Context(), fmt.Sprintf("CREATE TABLE later (x); INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, 1)", last+1))
		wantErrors(t, []error{err}, nil)
		killed := filepath.Join(t.TempDir(), landed.Database) // as if its process had been
		before := map[string][]byte{}
		for _, suffix := range []string{"", "-wal"} {
			before[suffix] = must(os.ReadFile(path + suffix))
			wantErrors(t, []error{os.WriteFile(killed+suffix, before[suffix], 0o600)}, nil)
		}
		for _, opts := range [][]Option{nil, {ReadOnly()}} {
			_, err := Open(t.Context(), killed, opts...)
			wantText(t, err, killed, fmt.Sprintf("its schema has version %d, this program knows versions up to %d; run the release that wrote it or a later one", last+1, last))
		}
		for _, suffix := range slices.Sorted(maps.Keys(before)) {
			if after, err := os.ReadFile(killed + suffix); err != nil || !bytes.Equal(after, before[suffix]) {
				t.Errorf("%q was changed: %v", landed.Database+suffix, err)
			}
		}
	})
}
