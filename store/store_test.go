package store

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	return openStore(t, path), path
}

func openStore(t testing.TB, path string, opts ...Option) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// put writes a row that only its id tells apart.
func put(ctx context.Context, tx *sql.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO wallet_challenges
		(request_id, nonce, message, address, chain_id, issued_at, expires_at)
		VALUES ($1, $1, 'm', 'a', 1, 0, 0)`, id)
	return err
}

func putting(t testing.TB, id string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error { return put(t.Context(), tx, id) }
}

// ids reads the rows that put wrote, as View sees them.
func ids(t testing.TB, s *Store) (got []string) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(t.Context(), "SELECT request_id FROM wallet_challenges ORDER BY request_id")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			got = append(got, id)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantIDs(t testing.TB, s *Store, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := ids(t, s); !slices.Equal(got, want) {
		t.Errorf("rows = %q, want %q", got, want)
	}
}

// together runs the updates in one batch, in order, and returns what each got.
// It holds the writer with an update of its own until all of them wait.
func together(t testing.TB, s *Store, fns ...func(*sql.Tx) error) []error {
	t.Helper()
	if len(fns) > cap(s.writer.queue) {
		t.Fatalf("%d updates do not fit in the queue", len(fns))
	}
	release, held := hold(t, s)
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() { errs[i] = s.Update(t.Context(), fn) })
		waitQueued(s, i+1)
	}
	release()
	wg.Wait()
	if err := <-held; err != nil {
		t.Logf("the update that held the batch: %v", err)
	}
	return errs
}

// hold occupies the writer until release is called, and then sends what its
// update got.
func hold(t testing.TB, s *Store) (release func(), held <-chan error) {
	t.Helper()
	started, end, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	first := sync.OnceFunc(func() { close(started) })
	go func() {
		result <- s.Update(t.Context(), func(*sql.Tx) error {
			first()
			<-end
			return nil
		})
	}()
	<-started
	return func() { close(end) }, result
}

func waitQueued(s *Store, n int) {
	for len(s.writer.queue) < n {
		runtime.Gosched()
	}
}

func wantErrors(t testing.TB, got []error, want ...error) {
	t.Helper()
	for i := range want {
		if !errors.Is(got[i], want[i]) {
			t.Errorf("update %d: got error %v, want %v", i, got[i], want[i])
		}
	}
}

func TestUpdateThenView(t *testing.T) {
	s, path := newStore(t)
	if err := s.Update(t.Context(), putting(t, "a")); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, s, "a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, openStore(t, path), "a")
}

func TestLoneUpdateTakesOneCommit(t *testing.T) {
	s, _ := newStore(t)
	for _, id := range []string{"a", "b", "c"} {
		if err := s.Update(t.Context(), putting(t, id)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := s.Stats(), (Stats{Updates: 3, Commits: 3, LargestBatch: 1}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

func TestWaitingUpdatesShareACommit(t *testing.T) {
	s, _ := newStore(t)
	var fns []func(*sql.Tx) error
	var want []string
	for i := range 20 {
		want = append(want, string(rune('a'+i)))
		fns = append(fns, putting(t, want[i]))
	}
	for i, err := range together(t, s, fns...) {
		if err != nil {
			t.Errorf("update %d: %v", i, err)
		}
	}
	wantIDs(t, s, want...)
	if got, want := s.Stats(), (Stats{Updates: 21, Commits: 1, LargestBatch: 21}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

func TestBatchIsBounded(t *testing.T) {
	s, _ := newStore(t)
	release, held := hold(t, s)
	var wg sync.WaitGroup
	for range 3 * maxBatch {
		wg.Go(func() {
			if err := s.Update(t.Context(), func(*sql.Tx) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	waitQueued(s, cap(s.writer.queue))
	release()
	wg.Wait()
	if err := <-held; err != nil {
		t.Error(err)
	}
	if got := s.Stats(); got.Updates != 3*maxBatch+1 || got.LargestBatch != maxBatch || got.Commits < 4 {
		t.Errorf("Stats = %+v, want %d updates in batches of at most %d", got, 3*maxBatch+1, maxBatch)
	}
}

func TestFailedUpdateIsUndoneAlone(t *testing.T) {
	s, _ := newStore(t)
	refused := errors.New("refused")
	errs := together(t, s,
		putting(t, "before"),
		func(tx *sql.Tx) error { return errors.Join(put(t.Context(), tx, "failed"), refused) },
		putting(t, "after"),
	)
	wantErrors(t, errs, nil, refused, nil)
	wantIDs(t, s, "before", "after")
}

// Those beside updates that failed run once more, and no further time; what failed does
// not. All happens in one commit.
func TestUpdatesRunAgainBesideOneThatFailed(t *testing.T) {
	s, _ := newStore(t)
	refused := errors.New("refused")
	var runs [7]int
	counting := func(i int, then error) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			runs[i]++
			return errors.Join(put(t.Context(), tx, strconv.Itoa(i)), then)
		}
	}
	errs := together(t, s,
		counting(0, nil),
		func(tx *sql.Tx) error { // fails the second time
			if err := counting(1, nil)(tx); err != nil || runs[1] == 1 {
				return err
			}
			return refused
		},
		func(tx *sql.Tx) error { // finds another state the second time
			runs[2]++
			id := "2 beside 1"
			if err := tx.QueryRowContext(t.Context(), "SELECT request_id FROM wallet_challenges WHERE request_id = '1'").Scan(new(string)); err != nil {
				id = "2 alone"
			}
			return put(t.Context(), tx, id)
		},
		counting(3, refused),
		counting(4, nil),
		counting(5, refused),
		counting(6, nil),
	)
	wantErrors(t, errs, nil, refused, nil, refused, nil, refused, nil)
	wantIDs(t, s, "0", "2 alone", "4", "6")
	if want := [...]int{2, 2, 2, 1, 1, 1, 1}; runs != want {
		t.Errorf("the updates ran %v times, want %v", runs, want)
	}
	if got, want := s.Stats(), (Stats{Updates: 5, Commits: 1, LargestBatch: 5}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

func TestErrorComesBackUnchanged(t *testing.T) {
	s, _ := newStore(t)
	want := errors.New("refused")
	if got := s.Update(t.Context(), func(*sql.Tx) error { return want }); got != want {
		t.Errorf("Update = %v, want the very error of the function", got)
	}
	if got := s.View(t.Context(), func(*sql.Tx) error { return want }); got != want {
		t.Errorf("View = %v, want the very error of the function", got)
	}
	if got := s.Stats(); got.Commits != 0 {
		t.Errorf("Stats = %+v, want no commit for nothing", got)
	}
}

func TestUpdatesDoNotSeeAnUndoneRow(t *testing.T) {
	s, _ := newStore(t)
	refused := errors.New("refused")
	errs := together(t, s,
		func(tx *sql.Tx) error { return errors.Join(put(t.Context(), tx, "x"), refused) },
		putting(t, "x"), // its primary key is free again
	)
	wantErrors(t, errs, refused, nil)
	wantIDs(t, s, "x")
}

func TestPanicUnwindsInItsCaller(t *testing.T) {
	s, _ := newStore(t)
	type mark struct{}
	var recovered any
	errs := together(t, s,
		putting(t, "before"),
		func(*sql.Tx) error { return nil },
		putting(t, "after"),
	)
	wantErrors(t, errs, nil, nil, nil)
	func() {
		defer func() { recovered = recover() }()
		_ = s.Update(t.Context(), func(tx *sql.Tx) error {
			if err := put(t.Context(), tx, "panicked"); err != nil {
				t.Error(err)
			}
			panic(mark{})
		})
	}()
	if _, ok := recovered.(mark); !ok {
		t.Errorf("recovered %v, want the value that the function panicked with", recovered)
	}
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "later"))}, nil)
	wantIDs(t, s, "before", "after", "later")
}

func TestPanicAndGoexitSpareTheBatch(t *testing.T) {
	s, _ := newStore(t)
	release, held := hold(t, s)
	var wg sync.WaitGroup
	start := func(n int, call func()) {
		wg.Go(call)
		waitQueued(s, n)
	}
	start(1, func() { wantErrors(t, []error{s.Update(t.Context(), putting(t, "before"))}, nil) })
	start(2, func() {
		defer func() { _ = recover() }()
		_ = s.Update(t.Context(), func(tx *sql.Tx) error { panic(put(t.Context(), tx, "panicked")) })
	})
	start(3, func() {
		_ = s.Update(t.Context(), func(tx *sql.Tx) error {
			defer runtime.Goexit()
			return put(t.Context(), tx, "exited")
		})
	})
	start(4, func() { wantErrors(t, []error{s.Update(t.Context(), putting(t, "after"))}, nil) })
	release()
	wg.Wait()
	wantErrors(t, []error{<-held}, nil)
	wantIDs(t, s, "before", "after")
	if got, want := s.Stats(), (Stats{Updates: 3, Commits: 1, LargestBatch: 3}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

func TestUpdateCannotEndItsTransaction(t *testing.T) {
	refused := errors.New("refused")
	for name, tt := range map[string]struct {
		end  func(*sql.Tx) error
		want error
	}{
		"Commit":             {func(tx *sql.Tx) error { _ = tx.Commit(); return nil }, errEndedItself},
		"Commit, reported":   {func(tx *sql.Tx) error { return tx.Commit() }, errEndedItself},
		"Rollback":           {func(tx *sql.Tx) error { return tx.Rollback() }, errEndedItself},
		"Rollback and error": {func(tx *sql.Tx) error { _ = tx.Rollback(); return refused }, refused},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStore(t)
			errs := together(t, s,
				putting(t, "before"),
				func(tx *sql.Tx) error { return errors.Join(put(t.Context(), tx, "escaped"), tt.end(tx)) },
				putting(t, "after"),
			)
			wantErrors(t, errs, nil, tt.want, nil)
			wantIDs(t, s, "before", "after")
		})
	}
}

func TestRowsOnly(t *testing.T) {
	s, path := newStore(t)
	for _, query := range []string{
		"COMMIT", "END", "ROLLBACK", "BEGIN", "SAVEPOINT x", "RELEASE one_update", "ROLLBACK TO one_update",
		"INSERT INTO wallet_challenges VALUES ('with script','y','','',1,0,0,0); COMMIT",
		"PRAGMA synchronous=OFF", "PRAGMA foreign_keys=OFF", "PRAGMA query_only=0", "PRAGMA recursive_triggers=0",
		"PRAGMA writable_schema=1", "PRAGMA user_version=9", "PRAGMA journal_mode=DELETE", "PRAGMA defer_foreign_keys=1",
		"ATTACH ':memory:' AS x", "DETACH main", "VACUUM", "VACUUM INTO '" + path + ".copy'", "REINDEX", "ANALYZE",
		"DROP TRIGGER audit_records_no_update", "DROP TABLE audit_records", "CREATE TABLE x (y)", "CREATE TEMP TABLE x (y)",
		"CREATE TEMP TRIGGER x BEFORE INSERT ON accounts BEGIN SELECT RAISE(IGNORE); END",
		"ALTER TABLE audit_records RENAME TO x", "CREATE VIRTUAL TABLE x USING fts5(y)",
	} {
		errs := together(t, s,
			putting(t, "before "+query),
			func(tx *sql.Tx) error {
				if _, err := tx.ExecContext(t.Context(), query); err == nil {
					t.Errorf("Update let %q run", query)
				}
				return put(t.Context(), tx, "with "+query)
			},
		)
		wantErrors(t, errs, nil, nil)
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), query); err == nil {
				t.Errorf("View let %q run", query)
			}
			return nil
		})
		if err != nil {
			t.Errorf("View with %q: %v", query, err)
		}
	}
	for _, id := range ids(t, s) {
		if !strings.Contains(id, " ") {
			t.Errorf("row %q escaped", id)
		}
	}
}

func TestViewCannotWrite(t *testing.T) {
	s, _ := newStore(t)
	err := s.View(t.Context(), putting(t, "a"))
	if err == nil {
		t.Error("View let an INSERT run")
	}
	wantIDs(t, s)
}

func TestTransactionIsDeadAfterItsUpdate(t *testing.T) {
	s, _ := newStore(t)
	var kept *sql.Tx
	err := s.Update(t.Context(), func(tx *sql.Tx) error { kept = tx; return nil })
	if err != nil {
		t.Fatal(err)
	}
	errs := together(t, s, putting(t, "a"), func(*sql.Tx) error {
		if err := put(t.Context(), kept, "stowaway"); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("using a finished transaction: %v, want %v", err, sql.ErrTxDone)
		}
		return errors.New("refused")
	})
	wantErrors(t, errs, nil)
	wantIDs(t, s, "a")
}

func TestPreparedAndOpenStatements(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	err := s.Update(ctx, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `INSERT INTO wallet_challenges VALUES ($1,$1,'','',1,0,0,0) RETURNING request_id`)
		if err != nil {
			return err
		}
		for _, id := range []string{"a", "b"} {
			var got string
			if err := insert.QueryRowContext(ctx, id).Scan(&got); err != nil || got != id {
				t.Errorf("inserting %q returned %q, %v", id, got, err)
			}
		}
		// Rows of the outer query stay readable while the same text runs inside.
		const list = "SELECT request_id FROM wallet_challenges ORDER BY request_id"
		outer, err := tx.QueryContext(ctx, list)
		if err != nil {
			return err
		}
		var seen []string
		for outer.Next() {
			var id, first string
			if err := errors.Join(outer.Scan(&id), tx.QueryRowContext(ctx, list).Scan(&first)); err != nil {
				return err
			}
			seen = append(seen, id+first)
		}
		if want := []string{"aa", "ba"}; !slices.Equal(seen, want) {
			t.Errorf("nested queries read %q, want %q", seen, want)
		}
		_, err = tx.QueryContext(ctx, list) // left open: the end of the update closes it
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, s, "a", "b")
}

func TestManyDistinctStatements(t *testing.T) {
	s, _ := newStore(t)
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		for i := range maxStatements + 50 {
			var got int
			query := "SELECT $1 " + strings.Repeat(" ", i)
			if err := tx.QueryRowContext(t.Context(), query, i).Scan(&got); err != nil || got != i {
				t.Fatalf("statement %d gave %d, %v", i, got, err)
			}
		}
		return put(t.Context(), tx, "a")
	})
	wantErrors(t, []error{err}, nil)
	wantIDs(t, s, "a")
	err = s.writer.raw(func(c *conn) error {
		if len(c.stmts) > maxStatements {
			t.Errorf("the connection keeps %d statements, want at most %d", len(c.stmts), maxStatements)
		}
		return nil
	})
	wantErrors(t, []error{err}, nil)
}

func TestViewSeesOneState(t *testing.T) {
	s, _ := newStore(t)
	ctx := t.Context()
	count := func(tx *sql.Tx) (n int) {
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM wallet_challenges").Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	err := s.View(ctx, func(tx *sql.Tx) error {
		before := count(tx)
		wantErrors(t, []error{s.Update(ctx, putting(t, "a"))}, nil)
		if after := count(tx); before != 0 || after != 0 {
			t.Errorf("a View counted %d rows, then %d, want 0 and 0", before, after)
		}
		return nil
	})
	wantErrors(t, []error{err}, nil)
	err = s.Update(ctx, func(tx *sql.Tx) error {
		wantErrors(t, []error{put(ctx, tx, "b")}, nil)
		wantIDs(t, s, "a") // a View inside an Update sees what is durable
		return nil
	})
	wantErrors(t, []error{err}, nil)
	wantIDs(t, s, "a", "b")
}

func TestClose(t *testing.T) {
	s, _ := newStore(t)
	release, held := hold(t, s)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	never := func(*sql.Tx) error { t.Error("the function ran"); return nil }
	for s.View(t.Context(), func(*sql.Tx) error { return nil }) == nil {
		runtime.Gosched() // until Close has begun
	}
	wantErrors(t, []error{s.Update(t.Context(), never), s.View(t.Context(), never)}, ErrClosed, ErrClosed)
	select {
	case err := <-closed:
		t.Errorf("Close returned %v while an Update was under way", err)
	default:
	}
	release()
	wantErrors(t, []error{<-held, <-closed, s.Close()}, nil, nil, nil)
}

func TestCloseLetsTheWaitingFinish(t *testing.T) {
	s, path := newStore(t)
	release, held := hold(t, s)
	var wg sync.WaitGroup
	var done atomic.Int64
	for i := range 2 * cap(s.writer.queue) {
		wg.Go(func() {
			switch err := s.Update(t.Context(), putting(t, strconv.Itoa(i))); {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, ErrClosed):
				t.Error(err)
			}
		})
	}
	waitQueued(s, cap(s.writer.queue))
	wg.Go(func() { wantErrors(t, []error{s.Close()}, nil) })
	for s.View(t.Context(), func(*sql.Tx) error { return nil }) == nil {
		runtime.Gosched()
	}
	release()
	wg.Wait()
	wantErrors(t, []error{<-held}, nil)
	rows := int64(len(ids(t, openStore(t, path))))
	if rows != done.Load() || rows < int64(cap(s.writer.queue)) {
		t.Errorf("%d rows, %d updates that returned nil; want as many, and at least the %d that waited", rows, done.Load(), cap(s.writer.queue))
	}
}

func TestConcurrentCallers(t *testing.T) {
	s, _ := newStore(t)
	const callers, each = 64, 25
	refused := errors.New("refused")
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				id := string(rune('0'+c)) + "-" + string(rune('0'+i))
				err := s.Update(t.Context(), func(tx *sql.Tx) error {
					if err := put(t.Context(), tx, id); err != nil || i%5 > 0 {
						return err
					}
					return refused
				})
				if (i%5 == 0) != errors.Is(err, refused) {
					t.Errorf("update %s: %v", id, err)
				}
				if err := s.View(t.Context(), func(*sql.Tx) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(ids(t, s)); got != callers*each*4/5 {
		t.Errorf("%d rows, want %d", got, callers*each*4/5)
	}
	if got := s.Stats(); got.Updates != callers*each*4/5 || got.Commits > got.Updates {
		t.Errorf("Stats = %+v, want %d updates and at most as many commits", got, callers*each*4/5)
	}
}
