package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"embed"
	"fmt"
	"io/fs"
	"os"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

//go:embed migrations/sqlite/*.sql
var embedded embed.FS

// migrations are the numbered files that make up the schema.
func migrations() fs.FS {
	dir, err := fs.Sub(embedded, "migrations/sqlite")
	if err != nil {
		panic(err) // the name above is not a valid path
	}
	return dir
}

// Migrations have a function sha256, which gives the digest of a text, as SQLite has none.
func init() {
	sqlite.MustRegisterDeterministicScalarFunction("sha256", 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		switch v := args[0].(type) {
		case nil:
			return nil, nil
		case string:
			sum := sha256.Sum256([]byte(v))
			return sum[:], nil
		default:
			return nil, fmt.Errorf("sha256: want a text, got %T", v)
		}
	})
}

// applicationID marks AgentKeys' databases in the file header ("AgK1");
// migration 0001 sets it.
const applicationID = 0x41674b31

// inspectSettings change nothing in a file that may not be ours.
var inspectSettings = settings[:1]

// checkSchema refuses a database that is not AgentKeys' or too new, and brings
// an older one up to date, or refuses it if nothing may be changed.
func checkSchema(ctx context.Context, path string, migrations fs.FS, o options) error {
	have, err := schemaVersion(ctx, path)
	if err != nil {
		return err
	}
	known, err := newest(migrations)
	switch {
	case err != nil:
		return err
	case have > known:
		return fmt.Errorf("its schema has version %d, this program knows versions up to %d; run the release that wrote it or a later one", have, known)
	case have == known:
		return nil
	case o.readOnly:
		return fmt.Errorf("its schema has version %d, this program reads version %d; start the broker once to migrate it", have, known)
	}
	if o.ready != nil {
		if err := o.ready(); err != nil {
			return fmt.Errorf("not upgrading its schema from version %d to %d: %w", have, known, err)
		}
	}
	return migrate(ctx, path, migrations)
}

// schemaVersion reads the version of an AgentKeys database without changing it.
func schemaVersion(ctx context.Context, path string) (version int64, err error) {
	db, err := openToInspect(path)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var id int64
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return 0, err
	}
	if id != applicationID {
		return 0, fmt.Errorf("not an AgentKeys database: want application id %#x, got %#x", applicationID, id)
	}
	err = db.QueryRowContext(ctx, "SELECT max(version_id) FROM "+goose.DefaultTablename).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("reading schema version: %w", err)
	}
	return version, nil
}

// newest is the version of the last migration.
func newest(migrations fs.FS) (int64, error) {
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return 0, err
	}
	var known int64
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("migration %q: %w", name, err)
		}
		known = max(known, v)
	}
	return known, nil
}

// migrate applies what is pending, each migration in a transaction of its own.
func migrate(ctx context.Context, path string, migrations fs.FS) error {
	db, err := openPlain(path, writerSettings)
	if err != nil {
		return err
	}
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("loading migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	return nil
}

// openToInspect opens a connection that leaves the database and its log as they are. One
// that may write would move the log of a process that was killed into the database when
// it closes. Where there is no such log it deletes the files that it makes itself, which
// one that may not write leaves behind.
func openToInspect(path string) (*sql.DB, error) {
	info, err := os.Stat(path + "-wal")
	if err != nil || info.Size() == 0 {
		return openPlain(path, inspectSettings)
	}
	c, err := sqlite.NewConnector(dsn(path, "ro", inspectSettings))
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// openPlain opens a single connection that may do anything.
func openPlain(path string, settings []setting) (*sql.DB, error) {
	c, err := newConnector(path, settings, true)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c.Connector)
	db.SetMaxOpenConns(1)
	return db, nil
}
