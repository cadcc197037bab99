package broker

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentkeys/audit"
	"agentkeys/store"
)

// shelf is an anchor with what there is to bring to it.
type shelf struct {
	mu    sync.Mutex // guards what follows
	there int64      // what there is to bring
	calls []time.Duration
	put   func(ctx context.Context) error // nil works
	busy  bool
	start time.Time
	twice bool // a call began before another ended
}

// following runs a follower of a shelf until the test ends.
func following(t *testing.T, s *shelf) *follower {
	t.Helper()
	s.start = time.Now()
	f := newFollower("east", &Broker{Config: Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)}, anchorFor: anchorTimeout})
	f.next = func(_ context.Context, after int64) (func(context.Context) error, int64, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if after >= s.there {
			return nil, after, nil
		}
		return s.call, min(after+followBatch, s.there), nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return f
}

func (s *shelf) call(ctx context.Context) error {
	s.mu.Lock()
	s.calls = append(s.calls, time.Since(s.start))
	s.twice = s.twice || s.busy
	s.busy = true
	put := s.put
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy = false
	}()
	if put == nil {
		return nil
	}
	return put(ctx)
}

// bring says that there is more, and what the anchor makes of it.
func (s *shelf) bring(f *follower, there int64, put func(context.Context) error) {
	s.mu.Lock()
	s.there, s.put, s.calls, s.start = there, put, nil, time.Now()
	s.mu.Unlock()
	nudge(f.wake)
}

func (s *shelf) called() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

var errDown = errors.New("this anchor is down")

func down(context.Context) error { return errDown }

// waited says how long a caller waits for a place, and what it hears.
func waited(t *testing.T, f *follower, place int64) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), anchorTimeout)
	defer cancel()
	start := time.Now()
	err := f.wait(ctx, place)
	return time.Since(start), err
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		f := following(t, s)
		s.bring(f, 300, nil)
		if took, err := waited(t, f, 300); err != nil || took != 0 || len(s.called()) != 3 {
			t.Errorf("300 records took %v in calls at %v, %v; want three at once", took, s.called(), err)
		}

		s.bring(f, 301, down)
		took, err := waited(t, f, 301)
		if err == nil || !strings.Contains(err.Error(), "anchor east is given up until it works again: this anchor is down") || took != 3*followRetry {
			t.Errorf("the first who waited heard %v after %v, want that it is given up after three tries", err, took)
		}
		if took, err := waited(t, f, 301); err == nil || took != 0 {
			t.Errorf("the next one heard %v after %v, want a refusal at once", err, took)
		}
		if took, err := waited(t, f, 300); err != nil || took != 0 {
			t.Errorf("one whose record is there heard %v after %v", err, took)
		}
		if st := f.standing(); !st.open || st.failures != 3 || st.upto != 300 || !st.since.Equal(time.Now()) {
			t.Errorf("it stands %+v", st)
		}
		<-time.After(5 * time.Minute)
		var between []time.Duration
		calls := s.called()
		for i := range calls[1:] {
			between = append(between, calls[i+1]-calls[i])
		}
		want := []time.Duration{followRetry, 2 * followRetry, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second}
		if len(between) < len(want) || !slices.Equal(between[:len(want)], want) || slices.Max(between) != probeMost {
			t.Errorf("it was tried again after %v, want %v and then every 30s", between, want)
		}

		s.bring(f, 1000, nil) // it works again, and lacks more than a batch
		<-time.After(probeMost)
		if st := f.standing(); st.open || st.failures != 0 || st.upto != 1000 {
			t.Errorf("after it worked again it stands %+v", st)
		}
		s.bring(f, 1001, nil)
		if took, err := waited(t, f, 1001); err != nil || took != 0 {
			t.Errorf("one who waited then heard %v after %v", err, took)
		}
	})
}

// While it lacks something nobody waits, also when it takes what it is brought.
func TestBreakerStaysOpenUntilAllIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		f := following(t, s)
		s.bring(f, 1, down)
		<-time.After(time.Second)
		one := make(chan struct{})
		s.bring(f, 2*followBatch, func(context.Context) error { <-one; return nil })
		one <- struct{}{} // at the next probe
		synctest.Wait()
		if st := f.standing(); !st.open || st.upto != followBatch {
			t.Errorf("with half of it there it stands %+v, want open", st)
		}
		if _, err := waited(t, f, 2*followBatch); err == nil {
			t.Error("somebody was let wait")
		}
		one <- struct{}{}
		synctest.Wait()
		if st := f.standing(); st.open || st.upto != 2*followBatch {
			t.Errorf("with all of it there it stands %+v, want closed", st)
		}
	})
}

// A failure or two are tried again while callers wait.
func TestFailureThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		f := following(t, s)
		failed := 0
		s.bring(f, 1, func(context.Context) error {
			if failed++; failed < failuresOpen {
				return errDown
			}
			return nil
		})
		if took, err := waited(t, f, 1); err != nil || took != 3*followRetry {
			t.Errorf("got %v after %v, want that it is there after two retries", err, took)
		}
	})
}

// A call that does not come back holds up its anchor alone: those who wait leave when
// their time is up, the next ones at once, and there is no second call beside it.
func TestHungAnchor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		f := following(t, s)
		release := make(chan struct{})
		s.bring(f, 1, func(context.Context) error { <-release; return nil })
		if took, err := waited(t, f, 1); err == nil || took != anchorTimeout {
			t.Errorf("the first heard %v after %v, want a refusal after %v", err, took, anchorTimeout)
		}
		synctest.Wait()
		if took, err := waited(t, f, 1); err == nil || took != 0 {
			t.Errorf("the next heard %v after %v, want a refusal at once", err, took)
		}
		<-time.After(time.Hour)
		if calls := s.called(); len(calls) != 1 || s.twice {
			t.Errorf("it was called at %v while a call hung, want one", calls)
		}
		s.mu.Lock()
		s.put = nil
		s.mu.Unlock()
		close(release)
		synctest.Wait() // what the call did is not known, so it is made again
		if calls := s.called(); len(calls) != 2 || s.twice {
			t.Errorf("after the call came back it was called at %v, want once more", calls)
		}
		if st := f.standing(); st.open || st.upto != 1 {
			t.Errorf("it stands %+v", st)
		}
	})
}

// The end waits for a call under way, brings what is left, and does not wait for an
// anchor that hangs.
func TestFollowingEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		put  func(release <-chan struct{}) func(context.Context) error
		took time.Duration
		upto int64
	}{
		"works": {func(<-chan struct{}) func(context.Context) error { return nil }, 0, 3 * followBatch},
		"fails": {func(<-chan struct{}) func(context.Context) error { return down }, 0, 0},
		"hangs": {func(release <-chan struct{}) func(context.Context) error {
			return func(context.Context) error { <-release; return nil }
		}, anchorTimeout, 0},
		"is slow": {func(<-chan struct{}) func(context.Context) error {
			return func(context.Context) error { <-time.After(time.Second); return nil }
		}, 3 * time.Second, 3 * followBatch},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{there: 3 * followBatch}
				release := make(chan struct{})
				s.put = tt.put(release)
				f := newFollower("east", &Broker{Config: Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)}, anchorFor: anchorTimeout})
				f.next = func(_ context.Context, after int64) (func(context.Context) error, int64, error) {
					if after >= s.there {
						return nil, after, nil
					}
					return s.call, after + followBatch, nil
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				start := time.Now()
				f.run(ctx)
				if took := time.Since(start); took != tt.took || f.at() != tt.upto {
					t.Errorf("it ended after %v with all up to %d, want %v and %d", took, f.at(), tt.took, tt.upto)
				}
				close(release)
			})
		})
	}
}

// An anchor is not brought past a record that is missing: those who wait for a later one
// would take it to have them all.
func TestNoRecordIsPassedOver(t *testing.T) {
	for name, tt := range map[string]struct {
		tamper string
		after  int64
		upto   int64 // 0 for an error
	}{
		"all there":           {"SELECT 1", 2, 9},
		"the next is missing": {"DELETE FROM audit_records WHERE seq = 3", 2, 0},
		"one further on is":   {"DELETE FROM audit_records WHERE seq = 7", 2, 0},
		"what was pruned":     {"UPDATE audit_head SET pruned = 4; DELETE FROM audit_records WHERE seq <= 4", 0, 9},
		"more than that":      {"UPDATE audit_head SET pruned = 4; DELETE FROM audit_records WHERE seq <= 5", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agentkeys.db")
			if err := store.Create(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			err = s.Update(t.Context(), func(tx *sql.Tx) error {
				for range 9 {
					r := audit.Record{Time: time.Now(), Action: "test", Outcome: audit.Confirmed, RequestID: "r"}
					if err := audit.Append(t.Context(), tx, &r); err != nil {
						return err
					}
				}
				_, err := tx.ExecContext(t.Context(), "UPDATE audit_head SET size = 9")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.ExecContext(t.Context(), "DROP TRIGGER audit_records_no_delete; "+tt.tamper); err != nil {
				t.Fatal(err)
			}
			b := &Broker{Config: Config{Store: s}, log: newSequence()}
			b.log.appended(9, false)
			bring, upto, err := b.nextEntries(func(context.Context, ...audit.Entry) error { return nil })(t.Context(), tt.after)
			if tt.upto == 0 && (err == nil || bring != nil) || tt.upto != 0 && (err != nil || upto != tt.upto) {
				t.Errorf("up to %d, %v; want %d", upto, err, tt.upto)
			}
		})
	}
}
