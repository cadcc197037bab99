// Package store keeps AgentKeys' rows in one SQLite file.
//
// What it keeps safe: an Update that returned nil survives the death of the
// process and of the machine, as far as the disk honours fsync; an Update that
// failed leaves nothing; updates do not see each other's unfinished rows; two
// brokers cannot write one database; a function given to View or Update can
// touch rows only, not the schema, the settings or the transaction.
//
// What it does not: the file is neither encrypted nor signed. Whoever can write
// it can change it, and whoever can read it reads everything (its mode is 0600,
// and Open insists). A disk that lies about fsync is believed.
//
// The package knows no domain: the packages that own the tables own their SQL.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
)

// A Store is an open database. Its methods may be called concurrently.
type Store struct {
	readers *sql.DB
	writing *sql.DB // the pool of one behind writer; nil when read-only
	writer  *writer
	lock    *os.File

	mu     sync.Mutex // guards closed, and that no call begins once it is set
	closed bool
	calls  sync.WaitGroup // View and Update under way
}

// enter begins a call; the caller ends it with s.calls.Done.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.calls.Add(1)
	return nil
}

// View runs fn in a read-only transaction that sees one state of the database,
// including every Update that returned before View was called. It returns fn's
// error unchanged. fn must not keep the transaction.
func (s *Store) View(ctx context.Context, fn func(*sql.Tx) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	tx, err := s.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("starting read: %w", explain(err))
	}
	defer tx.Rollback()
	return fn(tx)
}

// Update runs fn in a read-write transaction of its own and returns nil only
// once its rows are durable. It shares the commit, and so the disk flush, with
// the updates that wait at the same time; they run one after the other.
//
//   - If fn returns an error, its rows, and only its rows, are undone and the
//     error is returned unchanged. So a refusal that must be recorded is a
//     result of fn, not its error.
//   - If fn panics, its rows are undone and the panic continues.
//   - If the commit fails, every update that shared it gets the error and none
//     of their rows can be seen. After an I/O error the store writes no more
//     until it is opened again; what the failed commit had already brought to
//     disk may then be found to have been kept. That is the one case of a row
//     from an Update that returned an error.
//   - A context that ends before fn's turn means that fn never runs and its
//     error is returned. Once fn runs, Update waits for the outcome, and an
//     ended context only fails fn's later statements.
//
// fn runs in the caller's goroutine. It may run twice, where another update that shares
// the commit fails: of the first time nothing is kept then, and what fn has set outside
// the database it must set anew. Once it has failed it does not run again. All other
// updates wait for it, so it must do nothing slow. It must not call Update (that waits
// for itself), keep the transaction, or end it.
func (s *Store) Update(ctx context.Context, fn func(*sql.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if s.writer == nil {
		return ErrReadOnly
	}
	u := newUpdate()
	select {
	case s.writer.queue <- u:
		return u.await(ctx, fn)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close waits for the calls under way, refuses further ones, and closes the
// database. Closing again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	s.calls.Wait()
	if err := s.disconnect(); err != nil {
		return fmt.Errorf("closing database: %w", err)
	}
	return nil
}

// disconnect closes what is open. The writer goes after the readers, since the
// last connection moves the log into the file, and the lock goes last.
func (s *Store) disconnect() error {
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.writer != nil {
		close(s.writer.queue)
		<-s.writer.done
		errs = append(errs, s.writer.conn.Close())
	}
	if s.writing != nil {
		errs = append(errs, s.writing.Close())
	}
	if s.lock != nil {
		errs = append(errs, unlock(s.lock))
	}
	return errors.Join(errs...)
}
