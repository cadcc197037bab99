package audit_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"
)

// A tale is records that name one another by number: each is the outcome, and whom it
// settles.
type tale []struct {
	outcome string
	settles int // 0 for none, else the number of the record, from 1; -1 for one that is not there
	age     time.Duration
}

// tell writes a tale, without the index that keeps one outcome to an intent.
func (l *ledger) tell(t testing.TB, tl tale) {
	t.Helper()
	l.tamper(t)
	l.with(t, func(s *store.Store) {
		var ids []string
		for i, step := range tl {
			r := intent(i)
			r.Time, r.Outcome = l.now.Add(-step.age), step.outcome
			switch {
			case step.settles > 0 && step.settles <= len(ids):
				r.Settles = ids[step.settles-1]
			case step.settles != 0:
				r.Settles = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
			}
			ids = append(ids, mustAppend(t, s, r).ID)
		}
		extend(t, s, l.log)
	})
}

func TestEveryIntentHasOneOutcome(t *testing.T) {
	const p, c, f, q, is = audit.Pending, audit.Confirmed, audit.Failed, audit.Quarantined, audit.Issued
	for name, tt := range map[string]struct {
		tale  tale
		code  audit.Code
		place int64
	}{
		"each its own":                          {tale{{p, 0, 0}, {p, 0, 0}, {c, 1, 0}, {f, 2, 0}, {is, 0, 0}}, "", 0},
		"confirmed, and quarantined after":      {tale{{p, 0, 0}, {c, 1, 0}, {is, 0, 0}, {q, 2, 0}}, "", 0},
		"open, and young":                       {tale{{p, 0, 59 * time.Second}}, "", 0},
		"open, and old":                         {tale{{is, 0, 0}, {p, 0, 61 * time.Second}, {p, 0, 62 * time.Second}}, audit.IntentOpen, 2},
		"two outcomes":                          {tale{{p, 0, 0}, {c, 1, 0}, {f, 1, 0}}, audit.SettledTwice, 3},
		"confirmed and quarantined, the intent": {tale{{p, 0, 0}, {c, 1, 0}, {q, 1, 0}}, audit.SettledTwice, 3},
		"quarantined twice":                     {tale{{p, 0, 0}, {c, 1, 0}, {q, 2, 0}, {q, 2, 0}}, audit.SettledTwice, 4},
		"of nothing":                            {tale{{c, -1, 0}}, audit.SettlesNothing, 1},
		"of what comes later":                   {tale{{c, 9, 0}, {p, 0, 0}, {f, 2, 0}}, audit.SettlesNothing, 1},
		"of a failure":                          {tale{{p, 0, 0}, {f, 1, 0}, {q, 2, 0}}, audit.SettlesNothing, 3},
		"confirmed once more":                   {tale{{p, 0, 0}, {c, 1, 0}, {c, 2, 0}}, audit.SettlesNothing, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t, 0, 0)
			l.tell(t, tt.tale)
			for kind, r := range map[string]*audit.Report{"database": l.verify(t, l.verification()), "export": verifyExport(t, l.verification(), l.export(t))} {
				switch {
				case tt.code == "":
					mustBeGood(t, r)
				case kind == "export" && tt.code == audit.IntentOpen: // its time is that of its last record
					if len(r.Findings) > 0 {
						mustFind(t, r, tt.code, tt.place)
					}
				default:
					mustFind(t, r, tt.code, tt.place)
				}
			}
		})
	}
}

// An outcome of what is confirmed later is none.
func TestOutcomeBeforeItsIntent(t *testing.T) {
	l := newLedger(t, 0, 0)
	l.tell(t, tale{{audit.Pending, 0, 0}, {audit.Issued, 0, 0}, {audit.Confirmed, 1, 0}})
	l.tamper(t, "UPDATE audit_records SET outcome = 'quarantined', settles = (SELECT id FROM audit_records WHERE seq = 3) WHERE seq = 2")
	mustFind(t, l.verify(t, l.verification()), audit.SettlesNothing, 2)
}

// Of an outcome whose intent was pruned nothing can be said.
func TestOutcomeOfAPrunedIntent(t *testing.T) {
	l := newLedger(t, 0, 0)
	l.tell(t, tale{{audit.Pending, 0, 0}, {audit.Confirmed, 1, 0}, {audit.Quarantined, 2, 0}})
	l.with(t, func(s *store.Store) {
		mustAppend(t, s, audit.Record{Time: l.now, Action: "audit.pruned", Outcome: audit.Confirmed, RequestID: "r", Detail: "through=2"})
		extend(t, s, l.log)
	})
	for _, through := range []int{1, 2} {
		c := l.copy(t)
		c.tamper(t, fmt.Sprintf("UPDATE audit_head SET pruned = %d", through), fmt.Sprintf("DELETE FROM audit_records WHERE seq <= %d", through))
		mustBeGood(t, c.verify(t, c.verification()))
	}
	l.tamper(t, "DELETE FROM audit_records WHERE seq <= 2", "UPDATE audit_records SET settles = 'Z' || settles WHERE seq = 3")
	mustFind(t, l.verify(t, l.verification()), audit.SettlesNothing, 3)
}

// A record of pruning vouches for what is before it and not for itself.
func TestPruningVouchesForThePast(t *testing.T) {
	for detail, want := range map[string]int64{"through=5": 6, "through=10": 0, "through=11": 1, "through=12": 1, "through=-1": 1, "through=x": 1, "": 1, "days=1 through=9 more": 10} {
		l := newLedger(t, 10, 0)
		l.with(t, func(s *store.Store) {
			mustAppend(t, s, audit.Record{Time: l.now, Action: "audit.pruned", Outcome: audit.Confirmed, RequestID: "r", Detail: detail})
			extend(t, s, l.log)
		})
		l.tamper(t, "UPDATE audit_head SET pruned = 10", "DELETE FROM audit_records WHERE seq <= 10")
		r := l.verify(t, l.verification())
		if want == 0 {
			mustBeGood(t, r)
			continue
		}
		mustFind(t, r, audit.PruneUnrecorded, want)
		if r.Counts[audit.PruneUnrecorded] != 11-want {
			t.Errorf("%q: %d places, want %d", detail, r.Counts[audit.PruneUnrecorded], 11-want)
		}
	}
}

// More than one chunk, read by any number of workers, is the same log; and a finding
// of a flood does not hide one of another kind.
func TestChunksAndWorkers(t *testing.T) {
	l := newLedger(t, 5000, 5)
	bad := l.copy(t)
	bad.tamper(t, "UPDATE audit_records SET reason = 'x' WHERE seq BETWEEN 4000 AND 4300", "DELETE FROM audit_records WHERE seq BETWEEN 4097 AND 4500", "DELETE FROM audit_records WHERE seq = 5000")
	for _, workers := range []int{1, 3} {
		v := l.verification(string(l.heads), string(l.anchor))
		var told int64
		v.Workers, v.Progress = workers, func(place, total int64) {
			if place < told || total != 5005 {
				t.Errorf("progress %d of %d, after %d", place, total, told)
			}
			told = place
		}
		r := l.verify(t, v)
		mustBeGood(t, r)
		if r.Records != 5005 || r.Heads != 50 || r.Anchored != 5005 || told != 5005 {
			t.Errorf("%d workers: %+v", workers, r)
		}
		v = l.verification()
		v.Workers = workers
		mustBeGood(t, verifyExport(t, v, l.export(t)))

		v = bad.verification()
		v.Workers, v.Keep = workers, 5
		r = bad.verify(t, v)
		mustFind(t, r, audit.RecordChanged, 4000)
		mustFind(t, r, audit.RecordMissing, 4097)
		if r.Counts[audit.RecordChanged] != 97 || r.Counts[audit.RecordMissing] != 405 {
			t.Errorf("%d workers: counts %v", workers, r.Counts)
		}
	}
}

// While a broker writes, a verification sees one state of the log.
func TestVerifyWhileTheLogGrows(t *testing.T) {
	l := newLedger(t, 500, 0)
	l.with(t, func(s *store.Store) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			var err error
			for i := 500; err == nil && ctx.Err() == nil; i++ {
				err = s.Update(t.Context(), func(tx *sql.Tx) error {
					r := record(i)
					r.Time = l.now
					if err := audit.Append(t.Context(), tx, &r); err != nil {
						return err
					}
					_, _, err := l.log.Extend(t.Context(), tx, 100)
					return err
				})
			}
			done <- err
		}()
		for range 20 {
			r, err := l.verification(string(l.anchor)).Database(t.Context(), s.View)
			if err != nil {
				t.Error(err)
				break
			}
			mustBeGood(t, r)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Transactions that see two states of the log are begun again.
func TestVerifyReadsOneState(t *testing.T) {
	l := newLedger(t, 500, 0)
	l.with(t, func(s *store.Store) {
		var mu sync.Mutex // guards begun, and keeps the order of the transactions
		begun := 0
		begin := func(tx *sql.Tx) error {
			var size int64
			return tx.QueryRowContext(t.Context(), "SELECT size FROM audit_head").Scan(&size) // from here on it sees one state
		}
		v := l.verification()
		v.Workers = 2
		r, err := v.Database(t.Context(), func(ctx context.Context, read func(*sql.Tx) error) error {
			mu.Lock()
			unlock := sync.OnceFunc(mu.Unlock)
			defer unlock() // also where it never begins
			if begun++; begun == 2 {
				late := record(500)
				late.Time = l.now
				mustAppend(t, s, late)
				extend(t, s, l.log)
			}
			return s.View(ctx, func(tx *sql.Tx) error {
				err := begin(tx)
				unlock()
				if err != nil {
					return err
				}
				return read(tx)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		mustBeGood(t, r)
		if begun != 6 || r.Size != 501 || r.Records != 501 {
			t.Errorf("%d transactions were begun, want twice 3; %d of %d records were read", begun, r.Records, r.Size)
		}
	})
}

func TestVerifyDatabaseThatCannotBeRead(t *testing.T) {
	l := newLedger(t, 20, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.with(t, func(s *store.Store) {
		if r, err := l.verification().Database(ctx, s.View); err == nil {
			t.Errorf("%+v", r)
		}
	})
	_, err := l.verification().Database(t.Context(), func(context.Context, func(*sql.Tx) error) error { return errDisk })
	if !errors.Is(err, errDisk) {
		t.Errorf("%v, want %v", err, errDisk)
	}
	l.with(t, func(s *store.Store) {
		v := l.verification()
		v.Witnesses = []*audit.Witness{audit.NewWitness("heads", brokenDisk{})}
		if r, err := v.Database(t.Context(), s.View); !errors.Is(err, errDisk) {
			t.Errorf("%+v, %v", r, err)
		}
	})
	l.tamper(t, "DROP TABLE audit_tiles")
	l.with(t, func(s *store.Store) {
		if r, err := l.verification().Database(t.Context(), s.View); err == nil {
			t.Errorf("%+v", r)
		}
	})
}
