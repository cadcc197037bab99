package store

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// What an update of the property test does after it has put its rows.
const (
	succeeds = iota
	fails
	panics
	endsItself
	commitsBySQL
	collides       // with a row that is there, and passes the error on
	rollsBack      // all of the transaction, as SQLite does where there is no room
	rollsBackAgain // does so the second time that it runs
	kinds
)

type planned struct {
	id   string
	rows int
	kind int
}

var errPlanned = errors.New("planned")

// Whatever runs side by side and however it ends, exactly the rows of the
// updates that returned nil are there, all of each.
func TestExactlyTheSuccessfulRowsStay(t *testing.T) {
	s, _ := newStore(t)
	wantErrors(t, []error{s.Update(t.Context(), putting(t, "taken"))}, nil)
	want := []string{"taken"}
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		callers := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) planned {
			return planned{rows: rapid.IntRange(0, 3).Draw(rt, "rows"), kind: rapid.IntRange(0, kinds-1).Draw(rt, "kind")}
		}), 1, 6), 1, 12).Draw(rt, "callers")
		var wg sync.WaitGroup
		var mu sync.Mutex // guards want
		for c, plans := range callers {
			wg.Go(func() {
				for i, p := range plans {
					p.id = fmt.Sprintf("%d-%d-%d", run, c, i)
					rows, err := s.perform(t, p)
					good := p.kind == succeeds || p.kind == commitsBySQL
					open := p.kind == rollsBackAgain || errors.Is(err, errBatchLost) // it goes by what the others do
					if (err == nil) != good && !open {
						t.Errorf("update %+v: %v", p, err)
					}
					mu.Lock()
					want = append(want, rows...)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		slices.Sort(want)
		if got := ids(t, s); !slices.Equal(got, want) {
			rt.Fatalf("rows are %q, want %q", got, want)
		}
	})
}

// perform runs the planned update and returns the rows that must stay.
func (s *Store) perform(t *testing.T, p planned) (rows []string, err error) {
	defer func() {
		if recover() != nil {
			rows, err = nil, errPlanned
		}
	}()
	runs := 0
	err = s.Update(t.Context(), func(tx *sql.Tx) error {
		rows = nil // it may run twice
		runs++
		for i := range p.rows {
			rows = append(rows, fmt.Sprintf("%s-%d", p.id, i))
			if err := put(t.Context(), tx, rows[i]); err != nil {
				return err
			}
		}
		switch p.kind {
		case fails:
			return errPlanned
		case panics:
			panic(errPlanned)
		case endsItself:
			return tx.Commit()
		case commitsBySQL:
			_, _ = tx.ExecContext(t.Context(), "COMMIT") // denied, so it changes nothing
		case collides:
			return put(t.Context(), tx, "taken")
		case rollsBack, rollsBackAgain:
			if p.kind == rollsBack || runs == 2 {
				_, err := tx.ExecContext(t.Context(), "INSERT OR ROLLBACK INTO wallet_challenges SELECT * FROM wallet_challenges WHERE request_id = 'taken'")
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}
