package store

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"slices"
	"sync"
)

// object names a part of a schema: a table, an index, a view or a trigger.
type object struct{ kind, name string }

// expected is the schema that the migrations of this program make.
var expected = sync.OnceValues(func() (map[object]string, error) { return schemaOf(context.Background(), migrations()) })

// schemaOf makes a database of the migrations in memory and reads its schema. Goose, for
// which the rest of a migration's lines are comments, would take 4 MiB for each one that
// it reads at a time; a test holds what it makes to this.
func schemaOf(ctx context.Context, migrations fs.FS) (map[object]string, error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)                      // each connection has a memory of its own
	names, err := fs.Glob(migrations, "*.sql") // in their order
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(migrations, name)
		if err != nil {
			return nil, err
		}
		if _, err := db.ExecContext(ctx, string(text)); err != nil {
			return nil, fmt.Errorf("migrating to %q: %w", name, err)
		}
	}
	return readSchema(ctx, db)
}

// readSchema reads the texts that objects were made by. An index that a table has by
// itself has none, and is made by that of the table. SQLite takes a kind in any case.
func readSchema(ctx context.Context, db interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}) (map[object]string, error) {
	rows, err := db.QueryContext(ctx, "SELECT lower(type), name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	defer rows.Close()
	found := make(map[object]string)
	for rows.Next() {
		var o object
		var text string
		if err := rows.Scan(&o.kind, &o.name, &text); err != nil {
			return nil, fmt.Errorf("reading the schema: %w", err)
		}
		found[o] += text // one that is there twice has another text
	}
	return found, rows.Err()
}

// changes says what of a schema is not as it was made. Tables, indexes and views of
// others are let be, as goose and programs for copies of a database make them. A trigger is not:
// it can keep a record from being written without an error.
func changes(have, want map[object]string) (found []string) {
	for o, text := range want {
		switch got, ok := have[o]; {
		case !ok:
			found = append(found, fmt.Sprintf("the %s %s is missing", o.kind, o.name))
		case got != text:
			found = append(found, fmt.Sprintf("the %s %s was changed", o.kind, o.name))
		}
	}
	for o := range have {
		if _, ours := want[o]; !ours && o.kind == "trigger" {
			found = append(found, fmt.Sprintf("the trigger %.80q is not AgentKeys'", o.name))
		}
	}
	slices.Sort(found)
	return found
}

// SchemaChanges says what of the database's schema is not as this program's migrations
// make it: tables, indexes, views and triggers that are missing or changed, and triggers
// of others. Open does not look at that; what writes to the audit log must.
func (s *Store) SchemaChanges(ctx context.Context) (found []string, err error) {
	want, err := expected()
	if err != nil {
		return nil, err
	}
	err = s.View(ctx, func(tx *sql.Tx) error {
		have, err := readSchema(ctx, tx)
		found = changes(have, want)
		return err
	})
	return found, err
}
