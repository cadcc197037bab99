package store

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrClosed is returned by View and Update once Close has been called.
	ErrClosed = errors.New("store is closed")
	// ErrInUse is returned by Create and Open while another process, or another
	// Store of this one, has the database open for writing.
	ErrInUse = errors.New("database is in use")
	// ErrReadOnly is returned by Update on a store opened with ReadOnly.
	ErrReadOnly = errors.New("store was opened read-only")

	errEndedItself = errors.New("an update must not commit or roll back its own transaction")
	errBatchLost   = errors.New("SQLite rolled back the transaction that the update shared")
)

// explain puts plain words before the errors of SQLite that an operator can do
// something about. Other errors are returned as they are.
func explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	words, ok := map[int]string{
		sqlite3.SQLITE_NOTADB:   "the file is not a SQLite database",
		sqlite3.SQLITE_CORRUPT:  "the file is corrupted; restore a backup",
		sqlite3.SQLITE_FULL:     "no room left for the database",
		sqlite3.SQLITE_READONLY: "the file or its folder cannot be written",
		sqlite3.SQLITE_CANTOPEN: "the file or its folder cannot be opened",
		sqlite3.SQLITE_BUSY:     "another process holds the database's write lock",
		sqlite3.SQLITE_IOERR:    "the disk reported an error",
	}[primary(e)]
	if !ok {
		return err
	}
	return fmt.Errorf("%s: %w", words, err)
}

// primary is the error code without the detail in its upper bytes.
func primary(e *sqlite.Error) int { return e.Code() & 0xff }
