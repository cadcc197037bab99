package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxBatch bounds the updates that share a commit, and so how long the first
// of them waits for the last.
const maxBatch = 128

// An update is a caller waiting in Update. Its function runs in the caller's
// own goroutine, so a panic unwinds there with its stack; the writer only says
// when, and with which transaction.
type update struct {
	state   atomic.Int32 // waiting → taken (by the writer) or withdrawn (by the caller)
	turn    chan *sql.Tx // the writer's word to go; nil when there will be no turn
	ran     chan error   // what the function returned
	outcome chan error   // what became of it, sent once
}

const (
	waiting int32 = iota
	taken
	withdrawn
)

// errUnwound stands for a function that panicked or called runtime.Goexit.
var errUnwound = errors.New("update did not return")

func newUpdate() *update {
	return &update{
		turn:    make(chan *sql.Tx, 1),
		ran:     make(chan error, 1),
		outcome: make(chan error, 1),
	}
}

// take claims the update for the writer; it is false if the caller has left.
func (u *update) take() bool { return u.state.CompareAndSwap(waiting, taken) }

// refuse ends an update without running it.
func (u *update) refuse(err error) {
	u.outcome <- err
	u.turn <- nil
}

// await is the caller's side: wait for the turn, run, wait for the outcome.
func (u *update) await(ctx context.Context, fn func(*sql.Tx) error) error {
	var tx *sql.Tx
	select {
	case tx = <-u.turn:
	case <-ctx.Done():
		if u.state.CompareAndSwap(waiting, withdrawn) {
			return ctx.Err()
		}
		tx = <-u.turn
	}
	if tx != nil {
		u.run(tx, fn)
	}
	return <-u.outcome
}

// run reports to the writer even if fn never returns.
func (u *update) run(tx *sql.Tx, fn func(*sql.Tx) error) {
	result := errUnwound
	defer func() { u.ran <- result }()
	result = fn(tx)
}

// A writer owns the only connection that writes and groups commits on it. Its
// loop runs in one goroutine, until queue is closed.
type writer struct {
	conn  *sql.Conn
	queue chan *update
	done  chan struct{} // closed when loop has returned
	stats stats
	// broken is why nothing more may be written: after an I/O error during a
	// commit it is not known what is on disk. Only loop's goroutine uses it.
	broken error
}

func newWriter(conn *sql.Conn) *writer {
	return &writer{
		conn:  conn,
		queue: make(chan *update, maxBatch),
		done:  make(chan struct{}),
	}
}

func (w *writer) loop() {
	defer close(w.done)
	for u := range w.queue {
		if u.take() {
			w.batch(u)
		}
	}
}

// next is the next update that waits already, or nil.
func (w *writer) next() *update {
	for {
		select {
		case u, open := <-w.queue:
			if !open {
				return nil
			}
			if u.take() {
				return u
			}
		default:
			return nil
		}
	}
}

func (w *writer) refuseWaiting(err error) {
	for u := w.next(); u != nil; u = w.next() {
		u.refuse(err)
	}
}

// batch runs first and those who wait behind it in one transaction, commits it
// once, and tells them.
func (w *writer) batch(first *update) {
	if err := w.begin(); err != nil {
		first.refuse(err)
		w.refuseWaiting(err)
		return
	}
	var kept []*update
	for u, n := first, 1; u != nil; n++ {
		if w.one(u) {
			kept = append(kept, u)
		}
		u = nil
		if n < maxBatch && w.lost() == nil {
			u = w.next()
		}
	}
	err := w.end(len(kept))
	for _, u := range kept {
		u.outcome <- err
	}
}

// one gives the update its turn. It is true if its rows are in the batch, and
// then the update still awaits the outcome.
func (w *writer) one(u *update) bool {
	tx, err := w.conn.BeginTx(context.Background(), nil)
	if err != nil {
		u.refuse(fmt.Errorf("starting update: %w", explain(err)))
		return false
	}
	u.turn <- tx
	if err = <-u.ran; err == nil {
		if err = w.seal(tx); err == nil {
			return true
		}
	} else if e := tx.Rollback(); e != nil && !errors.Is(e, sql.ErrTxDone) {
		w.fail(e)
	}
	u.outcome <- err
	return false
}

// seal releases the savepoint of an update that succeeded.
func (w *writer) seal(tx *sql.Tx) error {
	w.raw(func(c *conn) error { c.sealed = true; return nil })
	err := tx.Commit()
	if errors.Is(err, sql.ErrTxDone) {
		return errEndedItself
	}
	if err != nil {
		return fmt.Errorf("keeping update: %w", explain(err))
	}
	return nil
}

func (w *writer) begin() error {
	if w.broken != nil {
		return w.broken
	}
	err := w.raw(func(c *conn) error {
		c.rolledBack, c.cause = false, nil
		return c.control("BEGIN IMMEDIATE")
	})
	if err != nil {
		return fmt.Errorf("starting transaction: %w", explain(err))
	}
	return nil
}

// end commits the batch, or rolls it back if none of its updates succeeded.
func (w *writer) end(kept int) error {
	if err := w.lost(); err != nil {
		return err
	}
	if kept == 0 {
		w.rollback()
		return nil
	}
	if err := w.raw(func(c *conn) error { return c.control("COMMIT") }); err != nil {
		w.afterFailedCommit(err)
		return fmt.Errorf("committing: %w", explain(err))
	}
	w.stats.committed(kept)
	return nil
}

// afterFailedCommit makes sure that nothing of the batch stays. When the disk
// failed, what it holds is unknown, and the page cache can no longer be
// believed (a later fsync may report success for lost pages), so the writer
// stops for good; opening the database again recovers its log.
func (w *writer) afterFailedCommit(err error) {
	if w.lost() == nil {
		w.rollback()
	}
	var e *sqlite.Error
	if errors.As(err, &e) && (primary(e) == sqlite3.SQLITE_FULL || primary(e) == sqlite3.SQLITE_CONSTRAINT || primary(e) == sqlite3.SQLITE_BUSY) {
		return
	}
	w.fail(err)
}

func (w *writer) rollback() {
	if err := w.raw(func(c *conn) error { return c.control("ROLLBACK") }); err != nil {
		w.fail(err)
	}
}

// fail stops all writing.
func (w *writer) fail(err error) {
	if w.broken == nil {
		w.broken = fmt.Errorf("store stopped writing, restart to recover: %w", explain(err))
	}
}

// lost is nil unless SQLite has rolled back the transaction on its own.
func (w *writer) lost() error {
	return w.raw(func(c *conn) error {
		if c.rolledBack {
			return c.lost()
		}
		return nil
	})
}

func (w *writer) raw(fn func(*conn) error) error {
	return w.conn.Raw(func(c any) error { return fn(c.(*conn)) })
}
