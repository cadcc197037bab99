package store

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"
)

// What somebody changed of what keeps records is told.
func TestSchemaChanges(t *testing.T) {
	for name, tt := range map[string]struct {
		change string
		want   string // "" where it is let be
	}{
		"as it was made":                {"SELECT 1", ""},
		"a trigger that drops":          {"CREATE TRIGGER quiet BEFORE INSERT ON audit_records BEGIN SELECT RAISE(IGNORE); END", `the trigger "quiet" is not AgentKeys'`},
		"a trigger by another spelling": {"CREATE TRIGGER quiet BEFORE INSERT ON audit_records BEGIN SELECT RAISE(IGNORE); END; PRAGMA writable_schema = 1; UPDATE sqlite_schema SET type = 'Trigger' WHERE name = 'quiet'", `the trigger "quiet" is not AgentKeys'`},
		"a trigger gone":                {"DROP TRIGGER audit_records_no_delete", "the trigger audit_records_no_delete is missing"},
		"a trigger made harmless":       {"DROP TRIGGER audit_records_no_delete; CREATE TRIGGER audit_records_no_delete BEFORE DELETE ON audit_records BEGIN SELECT 1; END", "the trigger audit_records_no_delete was changed"},
		"a view that tells stories":     {"DROP VIEW audit; CREATE VIEW audit AS SELECT 1 AS id", "the view audit was changed"},
		"a table of the same name":      {"DROP VIEW audit; CREATE TABLE copy AS SELECT * FROM audit_records; DROP TABLE audit_records; ALTER TABLE copy RENAME TO audit_records", "the table audit_records was changed"},
		"a column more":                 {"ALTER TABLE audit_records ADD COLUMN extra TEXT", "the table audit_records was changed"},
		"an index gone":                 {"DROP INDEX audit_records_tenant", "the index audit_records_tenant is missing"},
		"tables of a copying program":   {"CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)", ""},
		"statistics":                    {"ANALYZE", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agentkeys.db")
			if err := Create(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			plainly(t, path, tt.change)
			s, err := Open(t.Context(), path, ReadOnly())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			found, err := s.SchemaChanges(t.Context())
			if err != nil || !strings.Contains(strings.Join(found, ", "), tt.want) || tt.want == "" && len(found) > 0 {
				t.Errorf("changes %q, %v, want %q", found, err, tt.want)
			}
		})
	}
}

// The schema that is expected of a database is that which goose makes.
func TestExpectedSchemaIsThatOfTheMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	made, err := readSchema(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	want, err := expected()
	if err != nil {
		t.Fatal(err)
	}
	delete(made, object{"table", goose.DefaultTablename})
	if diff := cmp.Diff(made, want, cmp.AllowUnexported(object{})); diff != "" {
		t.Errorf("goose's schema and the one that is expected:\n%s", diff)
	}
}

// plainly runs SQL behind the store's back.
func plainly(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", path) // which lets the schema be written to
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(context.Background(), statements); err != nil {
		t.Fatal(err)
	}
}
