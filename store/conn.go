package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"modernc.org/sqlite"
)

// A setting is a PRAGMA that must be in force on a connection: how the DSN
// asks for it, and what reading it back gives.
type setting struct{ name, set, want string }

// settings are what durability and the schema's rules rest on. SQLite ignores
// a PRAGMA that it does not know or cannot apply, so each is read back.
var settings = []setting{
	{"busy_timeout", "5000", "5000"},
	{"journal_mode", "wal", "wal"},
	{"journal_size_limit", "67108864", "67108864"}, // a log that a long View let grow shrinks again
	{"synchronous", "full", "2"},                   // fsync of the log at every commit
	{"fullfsync", "1", "1"},                        // on Darwin fsync alone stops at the drive's cache
	{"foreign_keys", "1", "1"},                     // off by default
	{"recursive_triggers", "1", "1"},               // else REPLACE deletes without firing DELETE triggers
	{"trusted_schema", "0", "0"},                   // a tampered file's views and triggers call no unsafe functions
	{"temp_store", "memory", "2"},                  // no rows in temporary files in some other folder
	{"secure_delete", "1", "1"},                    // what is deleted is overwritten, not left in the file
	{"cell_size_check", "1", "1"},                  // finds a corrupted page earlier
}

var (
	writerSettings = append([]setting{{"query_only", "0", "0"}}, settings...)
	readerSettings = append([]setting{{"query_only", "1", "1"}}, settings...)
)

// dsn names the database at path, which must be absolute, with the given
// settings and the mode rw or ro. It never creates the file.
func dsn(path, mode string, settings []setting) string {
	q := url.Values{"mode": {mode}, "_defensive": {"1"}, "_dqs": {"0"}, "_error_rc": {"1"}}
	for _, s := range settings {
		q.Add("_pragma", s.name+"("+s.set+")")
	}
	return (&url.URL{Scheme: "file", Path: path}).String() + "?" + q.Encode()
}

// connector opens connections for database/sql and vouches for their settings.
type connector struct {
	driver.Connector
	settings []setting
	writer   bool
}

func newConnector(path string, settings []setting, writer bool) (*connector, error) {
	base, err := sqlite.NewConnector(dsn(path, "rw", settings))
	if err != nil {
		return nil, err
	}
	return &connector{base, settings, writer}, nil
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	raw, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := raw.(sqliteConn)
	if !ok {
		raw.Close()
		return nil, fmt.Errorf("SQLite driver's %T lacks an interface that the store needs", raw)
	}
	if err := c.check(ctx, inner); err != nil {
		inner.Close()
		return nil, err
	}
	conn := &conn{sqliteConn: inner, writer: c.writer, stmts: make(map[string]*stmt), controls: make(map[string]*stmt)}
	if err := inner.RegisterAuthorizer(conn.authorize); err != nil {
		inner.Close()
		return nil, err
	}
	inner.RegisterCommitHook(conn.allowCommit)
	inner.RegisterRollbackHook(func() { conn.rolledBack = true })
	return conn, nil
}

// check fails unless the connection is what was asked for. SQLite opens a file
// that it may not write without complaint, and fails at the first write.
func (c *connector) check(ctx context.Context, inner sqliteConn) error {
	for _, s := range c.settings {
		if err := readBack(ctx, inner, s); err != nil {
			return err
		}
	}
	if !c.writer {
		return nil
	}
	readOnly, err := inner.IsReadOnly("main")
	if err == nil && readOnly {
		err = errors.New("the file cannot be written")
	}
	return err
}

// readBack fails unless the setting is in force on the connection.
func readBack(ctx context.Context, c driver.QueryerContext, s setting) error {
	rows, err := c.QueryContext(ctx, "PRAGMA "+s.name, nil)
	if err != nil {
		return fmt.Errorf("reading back %s: %w", s.name, err)
	}
	defer rows.Close()
	got := make([]driver.Value, len(rows.Columns()))
	if len(got) != 1 {
		return fmt.Errorf("reading back %s: want one column, got %d", s.name, len(got))
	}
	if err := rows.Next(got); err != nil {
		return fmt.Errorf("reading back %s: %w", s.name, err)
	}
	if v := strings.ToLower(fmt.Sprint(got[0])); v != s.want {
		return fmt.Errorf("setting %s is not in force: want %s, got %s", s.name, s.want, v)
	}
	return nil
}

// sqliteConn is what the store uses of the driver's connection.
type sqliteConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	IsReadOnly(schema string) (bool, error)
	sqlite.HookRegisterer
	sqlite.AuthorizerRegisterer
}

// A conn is one SQLite connection, with three things added.
//
// It keeps statements prepared: preparing an INSERT costs more than running it.
//
// It lets callers read and write rows and nothing else: transactions, PRAGMAs,
// ATTACH and changes of the schema are denied while a statement is prepared,
// unless the store itself asks.
//
// On the writer a transaction of database/sql is a part of the transaction of the
// batch, and a savepoint in it where updates are to be undone by themselves. So each
// update has a *sql.Tx of its own that is dead once its update is over.
//
// database/sql runs one call on it at a time, which is what guards the fields.
type conn struct {
	sqliteConn
	writer     bool
	stmts      map[string]*stmt
	controls   map[string]*stmt // apart from stmts, or callers could run them by their text
	own        bool             // a statement of the store's own is being prepared or run
	apart      bool             // each update has a savepoint
	sealed     bool             // the store is ending the update's turn, not the update
	rolledBack bool             // SQLite has rolled back the whole transaction
	cause      error            // the statement's error with which it did so
	stuck      error            // why a savepoint could not be ended: the transaction must not commit
}

// maxStatements bounds the statements that a connection keeps prepared. A
// query text beyond it is prepared each time.
const maxStatements = 256

func (c *conn) authorize(action sqlite.AuthorizerActionCode, _, _, _, _ string) sqlite.AuthorizerReturnCode {
	if c.own {
		return sqlite.AuthorizerOK
	}
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRead, sqlite.AuthFunction, sqlite.AuthRecursive:
		return sqlite.AuthorizerOK
	case sqlite.AuthInsert, sqlite.AuthUpdate, sqlite.AuthDelete:
		if c.writer {
			return sqlite.AuthorizerOK
		}
	}
	return sqlite.AuthorizerDeny
}

// allowCommit turns a commit that is not the store's own into a rollback. None
// should get this far; the rows of one that did would be durable unasked.
func (c *conn) allowCommit() int32 {
	if c.own || !c.writer {
		return 0
	}
	return 1
}

// control runs a statement of the store's own.
func (c *conn) control(query string) error {
	c.own = true
	defer func() { c.own = false }()
	s, err := c.statement(context.Background(), c.controls, query)
	if err != nil {
		return err
	}
	defer s.release()
	_, err = s.ExecContext(context.Background(), nil)
	return err
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.statement(ctx, c.stmts, query)
	if err != nil {
		return nil, err
	}
	defer s.release()
	return s.ExecContext(ctx, args)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.statement(ctx, c.stmts, query)
	if err != nil {
		return nil, err
	}
	r, err := s.QueryContext(ctx, args)
	if err != nil {
		s.release()
		return nil, err
	}
	return &rows{r, s}, nil
}

// PrepareContext prepares a statement that the caller keeps and closes.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.prepare(ctx, query)
}

func (c *conn) prepare(ctx context.Context, query string) (*stmt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	raw, err := c.sqliteConn.PrepareContext(context.WithoutCancel(ctx), anonymous(query))
	if err != nil {
		return nil, err
	}
	inner, ok := raw.(sqliteStmt)
	if !ok {
		raw.Close()
		return nil, fmt.Errorf("SQLite driver's %T lacks an interface that the store needs", raw)
	}
	return &stmt{sqliteStmt: inner, conn: c}, nil
}

// statement returns the kept statement for the query, or a new one if there is
// none or its rows are still being read. The caller releases it.
func (c *conn) statement(ctx context.Context, among map[string]*stmt, query string) (*stmt, error) {
	kept, ok := among[query]
	if ok && !kept.busy {
		kept.busy = true
		return kept, nil
	}
	s, err := c.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	s.busy = true
	if !ok && len(among) < maxStatements {
		s.kept = true
		among[query] = s
	}
	return s, nil
}

func (c *conn) BeginTx(_ context.Context, _ driver.TxOptions) (driver.Tx, error) {
	if !c.writer {
		return readTx{c}, c.control("BEGIN")
	}
	c.sealed = false
	if c.rolledBack { // a savepoint would begin a transaction that nobody ends
		return nil, c.lost()
	}
	if !c.apart {
		return writeTx{c}, nil
	}
	return writeTx{c}, c.control("SAVEPOINT one_update")
}

func (c *conn) Close() error {
	var errs []error
	for _, kept := range []map[string]*stmt{c.stmts, c.controls} {
		for _, s := range kept {
			errs = append(errs, s.Close())
		}
		clear(kept)
	}
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}

// readTx is a snapshot for View; there is nothing to keep at its end.
type readTx struct{ c *conn }

func (t readTx) Commit() error   { return t.c.control("ROLLBACK") }
func (t readTx) Rollback() error { return t.c.control("ROLLBACK") }

// writeTx is one update's part of the transaction of the batch.
type writeTx struct{ c *conn }

// Commit keeps the update's rows for the commit of the batch. An update that
// calls it itself fails: it would be claiming an end that only the store can bring
// about.
func (t writeTx) Commit() error {
	if !t.c.sealed {
		return errors.Join(errEndedItself, t.Rollback())
	}
	if t.c.rolledBack {
		return t.c.lost()
	}
	if !t.c.apart {
		return nil
	}
	return t.c.stick(t.c.control("RELEASE one_update"))
}

// Rollback undoes the update's rows where it has a savepoint. Elsewhere the writer
// undoes the batch.
func (t writeTx) Rollback() error {
	if t.c.rolledBack || !t.c.apart {
		return nil
	}
	err := t.c.control("ROLLBACK TO one_update")
	if err == nil {
		err = t.c.control("RELEASE one_update")
	}
	return t.c.stick(err)
}

// sqliteStmt is what the store uses of the driver's statement.
type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// A stmt is a prepared statement, kept by its connection or owned by a caller.
type stmt struct {
	sqliteStmt
	conn *conn
	kept bool
	busy bool
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	ctx, err := s.conn.scope(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.sqliteStmt.ExecContext(ctx, args)
	return r, s.conn.note(err)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	ctx, err := s.conn.scope(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.sqliteStmt.QueryContext(ctx, args)
	return r, s.conn.note(err)
}

// scope is the context that a statement runs under. On the writer it is never
// cancelled midway: interrupting a write makes SQLite roll back the whole
// transaction, so one caller who hangs up would undo everybody's updates. And
// once SQLite has rolled back, nothing more runs, as it would commit by itself.
func (c *conn) scope(ctx context.Context) (context.Context, error) {
	if !c.writer || c.own {
		return ctx, ctx.Err()
	}
	if c.rolledBack {
		return nil, c.lost()
	}
	return context.Background(), ctx.Err()
}

// note remembers the error that cost the transaction.
func (c *conn) note(err error) error {
	if err != nil && c.rolledBack && c.cause == nil {
		c.cause = err
	}
	return err
}

// stick remembers that a savepoint could not be ended. Its caller may swallow
// the error; the writer must see it.
func (c *conn) stick(err error) error {
	if err != nil && c.stuck == nil {
		c.stuck = err
	}
	return err
}

// lost is the error of those who shared a transaction that SQLite rolled back.
func (c *conn) lost() error {
	if c.cause == nil {
		return errBatchLost
	}
	return fmt.Errorf("%w: %w", errBatchLost, explain(c.cause))
}

// release gives the statement back to its connection.
func (s *stmt) release() {
	s.busy = false
	if !s.kept {
		_ = s.Close()
	}
}

// rows gives its statement back when closed.
type rows struct {
	driver.Rows
	stmt *stmt
}

func (r *rows) Close() error {
	if r.stmt == nil {
		return nil
	}
	err := r.Rows.Close()
	r.stmt.release()
	r.stmt = nil
	return err
}
