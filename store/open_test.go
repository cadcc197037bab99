package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	_ "modernc.org/sqlite"
)

func wantText(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want one with %q", texts)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has more than one line: %q", err)
	}
}

// plainDB makes a SQLite database that the store knows nothing of.
func plainDB(t *testing.T, path string, queries ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range queries {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	created := func(t *testing.T, path string) {
		wantErrors(t, []error{Create(t.Context(), path)}, nil)
	}
	content := func(b []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) { wantErrors(t, []error{os.WriteFile(path, b, 0o600)}, nil) }
	}
	for name, tt := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"missing":             {func(*testing.T, string) {}, "it does not exist; agentkeys init creates one"},
		"missing folder":      {func(t *testing.T, path string) { wantErrors(t, []error{os.Remove(filepath.Dir(path))}, nil) }, "it does not exist"},
		"a folder":            {func(t *testing.T, path string) { wantErrors(t, []error{os.Mkdir(path, 0o700)}, nil) }, "want a regular file, got d"},
		"empty":               {content(nil), "not an AgentKeys database"},
		"text":                {content(bytes.Repeat([]byte("not a database. "), 1000)), "the file is not a SQLite database"},
		"another program":     {func(t *testing.T, path string) { plainDB(t, path, "CREATE TABLE x (y)") }, "not an AgentKeys database: want application id 0x41674b31, got 0x0"},
		"readable by all":     {func(t *testing.T, path string) { created(t, path); _ = os.Chmod(path, 0o644) }, "want mode 0600, got 0644"},
		"writable by a group": {func(t *testing.T, path string) { created(t, path); _ = os.Chmod(path, 0o620) }, "want mode 0600, got 0620"},
		"newer schema": {func(t *testing.T, path string) {
			created(t, path)
			plainDB(t, path, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
		}, fmt.Sprintf("its schema has version 99, this program knows versions up to %d", last)},
		"corrupted": {func(t *testing.T, path string) {
			created(t, path)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 3000), 100)
			wantErrors(t, []error{err, f.Close()}, nil, nil)
		}, "the file is corrupted; restore a backup"},
		"cut off": {func(t *testing.T, path string) {
			created(t, path)
			wantErrors(t, []error{os.Truncate(path, 4096)}, nil)
		}, "the file is corrupted; restore a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "data")
			wantErrors(t, []error{os.Mkdir(folder, 0o700)}, nil)
			path := filepath.Join(folder, "agentkeys.db")
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			for _, opts := range [][]Option{nil, {ReadOnly()}} {
				s, err := Open(t.Context(), path, opts...)
				wantText(t, err, "opening database", path, tt.want)
				if s != nil {
					s.Close()
				}
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the refused file was changed")
			}
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a database":        {func(path string) error { return Create(context.Background(), path) }, "it exists already"},
		"a file":            {func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) }, "it exists already"},
		"a dangling link":   {func(path string) error { return os.Symlink("nowhere", path) }, "it exists already"},
		"a log left over":   {func(path string) error { return os.WriteFile(path+"-wal", []byte("precious"), 0o600) }, "the log of an earlier database is there"},
		"folder is missing": {func(path string) error { return os.Remove(filepath.Dir(path)) }, "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "data")
			path := filepath.Join(folder, "agentkeys.db")
			wantErrors(t, []error{os.Mkdir(folder, 0o700), tt.make(path)}, nil, nil)
			before, _ := os.ReadFile(path)
			wantText(t, Create(t.Context(), path), "creating database", path, tt.want)
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file that was there was changed")
			}
		})
	}
}

func TestFailedCreateLeavesNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErrors(t, []error{Create(ctx, path)}, context.Canceled)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
	wantErrors(t, []error{Create(t.Context(), path)}, nil)
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	s, path := newStore(t)
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "a"))}, nil)
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{path, path + "-lock", path + "-shm", path + "-wal"}
	if !slices.Equal(names, want) {
		t.Fatalf("files are %q, want %q", names, want)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %s, want -rw-------", name, info.Mode())
		}
	}
}

func TestStrangePaths(t *testing.T) {
	for _, name := range []string{"a?mode=memory", "b#c", "50%25", "with space", "ü", "file:x", ":memory:", "a&b=c;d"} {
		folder := t.TempDir()
		path := filepath.Join(folder, name)
		wantErrors(t, []error{Create(t.Context(), path)}, nil)
		s := openStore(t, path)
		wantErrors(t, []error{s.Update(t.Context(), putting(t, "a")), s.Close()}, nil, nil)
		wantIDs(t, openStore(t, path, ReadOnly()), "a")
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	wantErrors(t, []error{Create(t.Context(), "agentkeys.db")}, nil)
	s := openStore(t, "agentkeys.db")
	t.Chdir(t.TempDir()) // connections that are opened later still find it
	err := s.View(t.Context(), func(*sql.Tx) error { wantIDs(t, s); return nil })
	wantErrors(t, []error{err, s.Update(t.Context(), putting(t, "a"))}, nil, nil)
}

func TestSecondStoreIsRefused(t *testing.T) {
	s, path := newStore(t)
	_, err := Open(t.Context(), path)
	wantErrors(t, []error{err, Create(t.Context(), path)}, ErrInUse, ErrInUse)
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "a")), s.Close()}, nil, nil)
	wantIDs(t, openStore(t, path), "a")
}

func TestReadOnlyBesideAWriter(t *testing.T) {
	s, path := newStore(t)
	r := openStore(t, path, ReadOnly())
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "a"))}, nil)
	wantIDs(t, r, "a")
	never := func(*sql.Tx) error { t.Error("the function ran"); return nil }
	wantErrors(t, []error{r.Update(t.Context(), never)}, ErrReadOnly)
	if err := r.View(t.Context(), putting(t, "b")); err == nil {
		t.Error("a read-only store let an INSERT run")
	}
	if got := r.Stats(); got != (Stats{}) {
		t.Errorf("Stats = %+v, want none", got)
	}
}

func TestSettingsAreInForce(t *testing.T) {
	s, path := newStore(t)
	check := func(name string, db *sql.DB, settings []setting) {
		conns := make([]*sql.Conn, min(3, db.Stats().MaxOpenConnections))
		for i := range conns {
			var err error
			if conns[i], err = db.Conn(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer conns[i].Close()
			err = conns[i].Raw(func(c any) error {
				c.(*conn).own = true
				defer func() { c.(*conn).own = false }()
				for _, s := range settings {
					if err := readBack(t.Context(), c.(*conn).sqliteConn, s); err != nil {
						t.Errorf("%s, connection %d: %v", name, i, err)
					}
				}
				return nil
			})
			wantErrors(t, []error{err}, nil)
		}
	}
	required := []setting{ // named here again, so that the tables of the store are held to it
		{name: "journal_mode", want: "wal"},
		{name: "synchronous", want: "2"},
		{name: "foreign_keys", want: "1"},
		{name: "recursive_triggers", want: "1"},
		{name: "busy_timeout", want: "5000"},
	}
	check("reader", s.readers, append(required, setting{name: "query_only", want: "1"}))
	check("reader", s.readers, readerSettings)
	wantErrors(t, []error{s.Close()}, nil)
	c, err := newConnector(path, writerSettings, true)
	wantErrors(t, []error{err}, nil)
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(3)
	defer db.Close()
	check("writer", db, append(required, setting{name: "query_only", want: "0"}))
	check("writer", db, writerSettings)
}

func TestSettingNotInForceIsRefused(t *testing.T) {
	_, path := newStore(t)
	for _, s := range []setting{
		{"synchronous", "off", "2"},
		{"foreign_keys", "0", "1"},
		{"no_such_pragma", "1", "1"},
	} {
		c, err := newConnector(path, []setting{s}, true)
		wantErrors(t, []error{err}, nil)
		conn, err := c.Connect(t.Context())
		wantText(t, err, s.name)
		if conn != nil {
			conn.Close()
		}
	}
}

// last is the version of the newest migration that there is.
var last = must(newest(migrations()))

// with is the migrations that there are, and others after them.
func with(others ...string) fstest.MapFS {
	all := fstest.MapFS{}
	for _, name := range must(fs.Glob(migrations(), "*.sql")) {
		all[name] = &fstest.MapFile{Data: must(fs.ReadFile(migrations(), name))}
	}
	for i, text := range others {
		all[fmt.Sprintf("%04d_other.sql", int(last)+1+i)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)}
	}
	return all
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestOpenMigrates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	wantErrors(t, []error{Create(t.Context(), path)}, nil)
	next := with("ALTER TABLE accounts ADD COLUMN note TEXT;\n")
	_, err := open(t.Context(), path, next, []Option{ReadOnly()})
	wantText(t, err, fmt.Sprintf("its schema has version %d, this program reads version %d", last, last+1))
	s, err := open(t.Context(), path, next, nil)
	wantErrors(t, []error{err}, nil)
	err = s.View(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "SELECT note FROM accounts")
		return err
	})
	wantErrors(t, []error{err, s.Close()}, nil, nil)
	_, err = Open(t.Context(), path)
	wantText(t, err, fmt.Sprintf("its schema has version %d, this program knows versions up to %d", last+1, last))
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	wantErrors(t, []error{Create(t.Context(), path)}, nil)
	_, err := open(t.Context(), path, with(
		"CREATE TABLE good (x);\n",
		"CREATE TABLE half (x);\nCREATE TABLE good (x);\n"), nil)
	wantText(t, err, "migrating", fmt.Sprintf("version:%d", last+2), "table good already exists")
	version, err := schemaVersion(t.Context(), path)
	if version != last+1 || err != nil {
		t.Errorf("schema version %d, %v, want %d", version, err, last+1)
	}
	db, err := openPlain(path, inspectSettings)
	wantErrors(t, []error{err}, nil)
	defer db.Close()
	var tables int
	err = db.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema WHERE name IN ('good', 'half')").Scan(&tables)
	if tables != 1 || err != nil {
		t.Errorf("%d of the tables good and half exist, %v, want 1", tables, err)
	}
}

func TestMigrationFiles(t *testing.T) {
	names, err := fs.Glob(migrations(), "*")
	if err != nil || len(names) == 0 {
		t.Fatalf("migrations are %q, %v, want some", names, err)
	}
	for i, name := range names {
		if want := string([]byte{'0', '0', byte('0' + (i+1)/10), byte('0' + (i+1)%10), '_'}); !strings.HasPrefix(name, want) {
			t.Errorf("migration %d is %q, want a name that starts with %q", i+1, name, want)
		}
		text := string(must(fs.ReadFile(migrations(), name)))
		if !strings.Contains(text, "-- +goose Up") || strings.Contains(text, "NO TRANSACTION") || strings.Contains(text, "goose Down") {
			t.Errorf("%s: want an Up part alone, in a transaction", name)
		}
	}
}
