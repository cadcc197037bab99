package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// An Entry is a record with what binds it to its leaf.
type Entry struct {
	Record
	Salt   []byte // empty once the record is erased
	Hash   []byte // of the leaf, as it was kept with the record
	Person []byte // once the record is erased: the digest that stands for its personal members
}

// Digest is that of the personal members: computed, or the one that took their place.
func (e *Entry) Digest() Digest {
	if len(e.Person) == len(Digest{}) {
		return Digest(e.Person)
	}
	return e.PersonDigest(e.Salt)
}

// Leaf is the text that the tree commits to.
func (e *Entry) Leaf() []byte { return e.Record.Leaf(e.Digest()) }

const entryColumns = "seq, salt, hash, person, " + columns

// entries runs a query for entryColumns, with what follows FROM audit_records.
func entries(ctx context.Context, tx *sql.Tx, rest string, args ...any) ([]Entry, error) {
	rows, err := tx.QueryContext(ctx, "SELECT "+entryColumns+" FROM audit_records "+rest, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []Entry
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	return found, rows.Err()
}

func scanEntry(rows *sql.Rows) (Entry, error) {
	var e Entry
	var millis int64
	err := rows.Scan(append([]any{&e.Seq, &e.Salt, &e.Hash, &e.Person}, e.fields(&millis)...)...)
	e.Time = time.UnixMilli(millis).UTC()
	return e, err
}

// AtPlace returns the record at a place. Where there is none, because it was pruned or
// the log is shorter, the error is sql.ErrNoRows.
func AtPlace(ctx context.Context, tx *sql.Tx, place int64) (Entry, error) {
	found, err := entries(ctx, tx, "WHERE seq = $1", place)
	if err == nil && len(found) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return Entry{}, fmt.Errorf("reading the record at place %d: %w", place, err)
	}
	return found[0], nil
}

// ByID returns one record. An unknown ID is sql.ErrNoRows.
func ByID(ctx context.Context, tx *sql.Tx, id string) (Entry, error) {
	found, err := entries(ctx, tx, "WHERE id = $1", id)
	if err == nil && len(found) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return Entry{}, fmt.Errorf("reading audit record %.40q: %w", id, err)
	}
	return found[0], nil
}

// After returns the records behind the place seq in the order of the log, at most
// limit. To read the whole log without missing or repeating any, ask again with the
// Seq of the last one.
func After(ctx context.Context, tx *sql.Tx, seq int64, limit int) ([]Entry, error) {
	if limit < 1 {
		return nil, errors.New("reading audit records: want a limit of 1 or more")
	}
	found, err := entries(ctx, tx, "WHERE seq > $1 ORDER BY seq LIMIT $2", seq, limit)
	if err != nil {
		return nil, fmt.Errorf("reading audit records: %w", err)
	}
	return found, nil
}
