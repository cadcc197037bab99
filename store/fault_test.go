package store

import (
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"testing"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// control runs a statement on the writer's connection, as the store itself.
func control(t *testing.T, s *Store, query string) {
	t.Helper()
	if err := s.writer.raw(func(c *conn) error { return c.control(query) }); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func wantCode(t *testing.T, err error, code int) {
	t.Helper()
	var e *sqlite.Error
	if !errors.As(err, &e) || primary(e) != code {
		t.Errorf("got error %v, want one of SQLite's code %d", err, code)
	}
}

func TestCommitFailureTakesTheWholeBatch(t *testing.T) {
	s, _ := newStore(t)
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "before"))}, nil)
	fail := true
	err := s.writer.raw(func(c *conn) error {
		c.RegisterCommitHook(func() int32 {
			if fail {
				return 1
			}
			return 0
		})
		return nil
	})
	wantErrors(t, []error{err}, nil)
	refused := errors.New("refused")
	errs := together(t, s, putting(t, "a"), func(*sql.Tx) error { return refused }, putting(t, "b"))
	wantErrors(t, errs[1:2], refused)
	for _, err := range []error{errs[0], errs[2]} {
		wantCode(t, err, sqlite3.SQLITE_CONSTRAINT)
		if !strings.HasPrefix(err.Error(), "committing: ") {
			t.Errorf("error %q does not say that the commit failed", err)
		}
	}
	wantIDs(t, s, "before")
	if got := s.Stats(); got.Updates != 1 || got.Commits != 1 {
		t.Errorf("Stats = %+v, want 1 update and 1 commit", got)
	}
	fail = false
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "after"))}, nil)
	wantIDs(t, s, "before", "after")
}

// A full database makes SQLite give up the whole transaction in the middle of a
// statement.
func TestNoRoom(t *testing.T) {
	s, _ := newStore(t)
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "before"))}, nil)
	control(t, s, "PRAGMA max_page_count = 40")
	big := func(id string) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO wallet_challenges VALUES ($1, $1, $2, '', 1, 0, 0, 0)`,
				id, strings.Repeat("m", 300_000))
			return err
		}
	}
	errs := together(t, s, putting(t, "a"), big("big"), putting(t, "b"))
	wantCode(t, errs[1], sqlite3.SQLITE_FULL)
	got := ids(t, s)
	for i, id := range []string{"a", "big", "b"} {
		if kept := contains(got, id); kept != (errs[i] == nil) {
			t.Errorf("update %s: error %v, but kept is %t", id, errs[i], kept)
		}
	}
	for i := 0; i < 20; i++ { // the store stays usable
		id := "small " + strconv.Itoa(i)
		wantErrors(t, []error{s.Update(t.Context(), putting(t, id))}, nil)
	}
	control(t, s, "PRAGMA max_page_count = 100000")
	wantErrors(t, []error{s.Update(t.Context(), big("big"))}, nil)
}

func contains(ids []string, id string) bool {
	for _, got := range ids {
		if got == id {
			return true
		}
	}
	return false
}

// INSERT OR ROLLBACK makes SQLite roll back everything. The batch is lost, it is
// told so, and what the update runs afterwards does not commit by itself.
func TestRollbackOfTheWholeTransaction(t *testing.T) {
	s, _ := newStore(t)
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "before"))}, nil)
	errs := together(t, s,
		putting(t, "a"),
		func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), `INSERT OR ROLLBACK INTO wallet_challenges VALUES ('before', '', '', '', 1, 0, 0, 0)`)
			wantCode(t, err, sqlite3.SQLITE_CONSTRAINT)
			wantErrors(t, []error{put(t.Context(), tx, "stowaway")}, errBatchLost)
			return nil
		},
		putting(t, "b"), // waits for the next batch
	)
	wantErrors(t, errs, errBatchLost, errBatchLost, nil)
	if !strings.Contains(errs[0].Error(), "UNIQUE constraint failed") {
		t.Errorf("error %q does not name the cause", errs[0])
	}
	wantIDs(t, s, "before", "b")
}

// What SQLite rolls back while updates run again is lost, and nothing else: the next
// batch is written.
func TestRollbackOfTheWholeTransactionWhileUpdatesRunAgain(t *testing.T) {
	s, _ := newStore(t)
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "before"))}, nil)
	refused := errors.New("refused")
	runs, behind := 0, 0
	errs := together(t, s,
		putting(t, "a"),
		func(tx *sql.Tx) error { // the second time SQLite rolls back, as when there is no room or memory
			if runs++; runs == 1 {
				return put(t.Context(), tx, "b")
			}
			_, err := tx.ExecContext(t.Context(), `INSERT OR ROLLBACK INTO wallet_challenges VALUES ('before', '', '', '', 1, 0, 0, 0)`)
			return err
		},
		func(tx *sql.Tx) error { behind++; return put(t.Context(), tx, "c") },
		func(*sql.Tx) error { return refused },
	)
	wantErrors(t, errs[:1], errBatchLost)
	wantErrors(t, errs[2:], errBatchLost, refused)
	if errs[1] == nil {
		t.Error("the update that cost the batch was told that it is durable")
	}
	if behind != 1 {
		t.Errorf("an update ran %d times, the last one in no transaction", behind)
	}
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "after")), s.Update(t.Context(), putting(t, "later"))}, nil, nil)
	wantIDs(t, s, "before", "after", "later")
}

// Should a statement ever run outside the store's transaction, its commit is
// refused.
func TestStrayCommitIsRefused(t *testing.T) {
	s, _ := newStore(t)
	wantErrors(t, []error{s.writer.raw(func(c *conn) error { c.rolledBack = false; return nil })}, nil)
	_, err := s.writer.conn.ExecContext(t.Context(), `INSERT INTO wallet_challenges VALUES ('stray', '', '', '', 1, 0, 0, 0)`)
	wantCode(t, err, sqlite3.SQLITE_CONSTRAINT)
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "a"))}, nil)
	wantIDs(t, s, "a")
}

func TestWriteLockHeldElsewhere(t *testing.T) {
	s, path := newStore(t)
	control(t, s, "PRAGMA busy_timeout = 1")
	db, err := openPlain(path, writerSettings)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	never := func(*sql.Tx) error { t.Error("the function ran"); return nil }
	err = s.Update(t.Context(), never)
	wantCode(t, err, sqlite3.SQLITE_BUSY)
	if want := "another process holds the database's write lock"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want %q in it", err, want)
	}
	if _, err := db.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "a"))}, nil)
}

// Where no other transaction can be begun, those beside an update that failed fail too.
func TestUpdatesThatCannotRunAgain(t *testing.T) {
	s, _ := newStore(t)
	refused := errors.New("refused")
	errs := together(t, s, putting(t, "a"), func(*sql.Tx) error {
		s.writer.fail(errors.New("the disk is gone"))
		return refused
	}, putting(t, "b"))
	wantErrors(t, errs[1:2], refused)
	for _, err := range []error{errs[0], errs[2]} {
		wantText(t, err, "store stopped writing, restart to recover: the disk is gone")
	}
	wantIDs(t, s)
}

// When one update cannot be undone, nothing of its batch may be kept.
func TestUpdateThatCannotBeUndone(t *testing.T) {
	refused := errors.New("refused")
	for name, tt := range map[string]struct {
		after func(*sql.Tx) error
		want  error
	}{
		"refused":  {func(*sql.Tx) error { return refused }, refused},
		"rollback": {func(tx *sql.Tx) error { _ = tx.Rollback(); return nil }, errEndedItself},
		"commit":   {func(tx *sql.Tx) error { _ = tx.Commit(); return nil }, errEndedItself},
		"success":  {func(*sql.Tx) error { return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := newStore(t)
			first := func(*sql.Tx) error { return refused } // so that those behind it have savepoints
			errs := together(t, s, first, putting(t, "a"), func(tx *sql.Tx) error {
				control(t, s, "RELEASE one_update")
				return errors.Join(put(t.Context(), tx, "half"), tt.after(tx))
			})[1:]
			for i, err := range errs {
				if err == nil {
					t.Errorf("update %d was told that it is durable", i)
				}
			}
			if tt.want != nil {
				wantErrors(t, errs[1:], tt.want)
			}
			wantIDs(t, s)
			wantText(t, s.Update(t.Context(), putting(t, "b")), "store stopped writing, restart to recover")
			wantErrors(t, []error{s.Close()}, nil)
			s = openStore(t, path)
			wantErrors(t, []error{s.Update(t.Context(), putting(t, "c"))}, nil)
			wantIDs(t, s, "c")
		})
	}
}
