package store

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestContextEndedBefore(t *testing.T) {
	s, _ := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(*sql.Tx) error { t.Error("the function ran"); return nil }
	wantErrors(t, []error{s.Update(ctx, never), s.View(ctx, never)}, context.Canceled, context.Canceled)
}

func TestContextEndedWhileWaiting(t *testing.T) {
	s, _ := newStore(t)
	release, held := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Update(ctx, func(*sql.Tx) error { t.Error("the function ran"); return nil })
		wantErrors(t, []error{err}, context.Canceled)
	})
	waitQueued(s, 1)
	wg.Go(func() { wantErrors(t, []error{s.Update(t.Context(), putting(t, "a"))}, nil) })
	waitQueued(s, 2)
	cancel()
	for !withdrawnFirst(s) {
		runtime.Gosched()
	}
	release()
	wg.Wait()
	wantErrors(t, []error{<-held}, nil)
	wantIDs(t, s, "a")
}

// withdrawnFirst reports whether the caller first in the queue has left.
func withdrawnFirst(s *Store) bool {
	u := <-s.writer.queue
	gone := u.state.Load() == withdrawn
	next := <-s.writer.queue
	s.writer.queue <- u
	s.writer.queue <- next
	return gone
}

func TestContextEndedWhileQueueIsFull(t *testing.T) {
	s, _ := newStore(t)
	release, held := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range cap(s.writer.queue) + 5 {
		wg.Go(func() {
			err := s.Update(ctx, func(*sql.Tx) error { t.Error("the function ran"); return nil })
			wantErrors(t, []error{err}, context.Canceled)
		})
	}
	waitQueued(s, cap(s.writer.queue))
	cancel()
	wg.Wait()
	release()
	wantErrors(t, []error{<-held}, nil)
}

func TestContextEndedWhileRunning(t *testing.T) {
	s, _ := newStore(t)
	early, cancelEarly := context.WithCancel(t.Context())
	late, cancelLate := context.WithCancel(t.Context())
	release, held := hold(t, s)
	var wg sync.WaitGroup
	wg.Go(func() { wantErrors(t, []error{s.Update(t.Context(), putting(t, "before"))}, nil) })
	waitQueued(s, 1)
	wg.Go(func() {
		err := s.Update(early, func(tx *sql.Tx) error {
			if err := put(early, tx, "early"); err != nil {
				return err
			}
			cancelEarly()
			return put(early, tx, "early, again")
		})
		wantErrors(t, []error{err}, context.Canceled)
	})
	waitQueued(s, 2)
	wg.Go(func() {
		err := s.Update(late, func(tx *sql.Tx) error {
			defer cancelLate()
			return put(late, tx, "late")
		})
		wantErrors(t, []error{err}, nil) // it ran to its end, so its outcome is the commit's
	})
	waitQueued(s, 3)
	release()
	wg.Wait()
	wantErrors(t, []error{<-held}, nil)
	wantIDs(t, s, "before", "late")
}

// A caller who hangs up in the middle of a statement must not undo the batch.
func TestHangingUpDoesNotInterrupt(t *testing.T) {
	s, _ := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	errs := together(t, s, putting(t, "before"), func(tx *sql.Tx) error {
		time.AfterFunc(time.Millisecond, cancel)
		_, err := tx.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 60000)
			INSERT INTO wallet_challenges SELECT 'many', 'many', '', '', max(i), 0, 0, 0 FROM n`)
		return err
	}, putting(t, "after"))
	wantErrors(t, []error{errs[0], errs[2]}, nil, nil)
	if errs[1] == nil {
		wantIDs(t, s, "before", "many", "after")
	} else {
		wantErrors(t, errs[1:2], context.Canceled) // cancelled before the statement began
		wantIDs(t, s, "before", "after")
	}
}
