package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
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
	turns   chan *sql.Tx // the writer's word to go, each time; nil when there will be no more
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
		turns:   make(chan *sql.Tx, 1),
		ran:     make(chan error, 1),
		outcome: make(chan error, 1),
	}
}

// take claims the update for the writer; it is false if the caller has left.
func (u *update) take() bool { return u.state.CompareAndSwap(waiting, taken) }

// end tells an update what became of it. It waits for nobody: the caller of a function
// that did not return has left.
func (u *update) end(err error) {
	u.outcome <- err
	u.turns <- nil
}

// await is the caller's side: wait for a turn, run, and hear what became of it.
func (u *update) await(ctx context.Context, fn func(*sql.Tx) error) error {
	var tx *sql.Tx
	select {
	case tx = <-u.turns:
	case <-ctx.Done():
		if u.state.CompareAndSwap(waiting, withdrawn) {
			return ctx.Err()
		}
		tx = <-u.turns
	}
	for ; tx != nil; tx = <-u.turns {
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

// nextOrYield is next, after letting callers that are ready to run come and
// wait. Where flushing is quick, they would else miss the commit by a hair: with
// 64 callers and no flush at all it makes ten times fewer commits.
func (w *writer) nextOrYield() *update {
	if u := w.next(); u != nil {
		return u
	}
	runtime.Gosched()
	return w.next()
}

// refuse ends first and those who wait behind it. They are collected before any
// of them hears of it, so that none is refused for a cause that has passed.
func (w *writer) refuse(first *update, err error) {
	refused := []*update{first}
	for u := w.next(); u != nil; u = w.next() {
		refused = append(refused, u)
	}
	for _, u := range refused {
		u.end(err)
	}
}

// batch runs first and those who wait behind it in one transaction, commits it
// once, and tells them.
//
// Nearly every update succeeds, so at first none has a savepoint: with one, SQLite
// copies each page that an update is the first to change. When one fails, all is rolled
// back, those before it run again, and from then on each has its savepoint.
func (w *writer) batch(first *update) {
	if err := w.begin(false); err != nil {
		w.refuse(first, err)
		return
	}
	var kept []*update
	for u, n := first, 1; u != nil; n++ {
		if w.one(u) {
			kept = append(kept, u)
		} else if w.mixed() {
			if err := w.startOver(); err != nil {
				endAll(kept, err)
				return
			}
			kept = w.each(kept)
		}
		u = nil
		if n < maxBatch && w.spoiled() == nil {
			u = w.nextOrYield()
		}
	}
	endAll(kept, w.end(len(kept)))
}

func endAll(updates []*update, err error) {
	for _, u := range updates {
		u.end(err)
	}
}

// each gives every update a turn, and returns those whose rows are in the batch.
func (w *writer) each(updates []*update) (kept []*update) {
	for _, u := range updates {
		if w.one(u) {
			kept = append(kept, u)
		}
	}
	return kept
}

// one gives the update a turn. It is true if its rows are in the batch, and
// then the update still awaits the outcome.
func (w *writer) one(u *update) bool {
	tx, err := w.conn.BeginTx(context.Background(), nil)
	if err != nil {
		u.end(fmt.Errorf("starting update: %w", explain(err)))
		return false
	}
	u.turns <- tx
	if err = <-u.ran; err == nil {
		if err = w.seal(tx); err == nil {
			return true
		}
	} else {
		_ = tx.Rollback() // an error that matters spoils the batch
	}
	u.end(err)
	return false
}

// seal ends the turn of an update that succeeded, and releases its savepoint.
func (w *writer) seal(tx *sql.Tx) error {
	_ = w.raw(func(c *conn) error { c.sealed = true; return nil })
	err := tx.Commit()
	if errors.Is(err, sql.ErrTxDone) {
		return errEndedItself
	}
	if err != nil {
		return fmt.Errorf("keeping update: %w", explain(err))
	}
	return nil
}

// begin starts the transaction of a batch, in which each update has a savepoint or none.
func (w *writer) begin(apart bool) error {
	if w.broken != nil {
		return w.broken
	}
	err := w.raw(func(c *conn) error {
		c.apart, c.rolledBack, c.cause, c.stuck = apart, false, nil, nil
		return c.control("BEGIN IMMEDIATE")
	})
	if err != nil {
		return fmt.Errorf("starting transaction: %w", explain(err))
	}
	return nil
}

// mixed reports whether the rows of an update that failed may be in the transaction,
// among those of the others.
func (w *writer) mixed() (yes bool) {
	_ = w.raw(func(c *conn) error { yes = !c.apart && !c.rolledBack; return nil })
	return yes
}

// startOver undoes all of the batch, and has each update be undone by itself from now on.
func (w *writer) startOver() error {
	w.rollback()
	return w.begin(true)
}

// end commits the batch, or rolls it back if none of its updates succeeded or
// not all of the others could be undone.
func (w *writer) end(kept int) error {
	err := w.spoiled()
	if err == nil && kept > 0 {
		if err = w.raw(func(c *conn) error { return c.control("COMMIT") }); err == nil {
			w.stats.committed(kept)
			return nil
		}
		err = fmt.Errorf("committing: %w", explain(err))
	}
	if errors.Is(err, errBatchLost) {
		return err
	}
	w.rollback()
	if err != nil && !recoverable(err) {
		w.fail(err)
	}
	return err
}

// recoverable reports whether the writer may go on after the error. When the
// disk failed in a commit, what it holds is unknown and the page cache can no
// longer be believed (a later fsync may report success for lost pages), so the
// writer stops for good; opening the database again recovers its log.
func recoverable(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch primary(e) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_BUSY:
		return true
	}
	return false
}

// rollback ends the transaction, unless a failed COMMIT has ended it already.
func (w *writer) rollback() {
	err := w.raw(func(c *conn) error {
		if c.rolledBack {
			return nil
		}
		return c.control("ROLLBACK")
	})
	if err != nil {
		w.fail(err)
	}
}

// fail stops all writing.
func (w *writer) fail(err error) {
	if w.broken == nil {
		w.broken = fmt.Errorf("store stopped writing, restart to recover: %w", explain(err))
	}
}

// spoiled is why the transaction cannot be committed, or nil.
func (w *writer) spoiled() error {
	return w.raw(func(c *conn) error {
		if c.rolledBack {
			return c.lost()
		}
		return c.stuck
	})
}

func (w *writer) raw(fn func(*conn) error) error {
	return w.conn.Raw(func(c any) error { return fn(c.(*conn)) })
}
