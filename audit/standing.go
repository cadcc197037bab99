package audit

import (
	"context"
	"database/sql"
	"fmt"
	"sort"

	"golang.org/x/mod/sumdb/tlog"
)

// A Standing is how far a log has come, as the database has it. Nobody has checked it:
// that takes the log's key, and is for Log.Check.
type Standing struct {
	Last   int64  // the place of the last record
	Size   int64  // how many records the signed head counts; those behind have no place in the tree yet
	Pruned int64  // of the first ones the leaves alone may be left
	Note   string // the signed head, "" while there is none
}

// ReadStanding reads it, at the same cost however long the log is.
func ReadStanding(ctx context.Context, tx *sql.Tx) (Standing, error) {
	var s Standing
	err := tx.QueryRowContext(ctx, `SELECT (SELECT coalesce(max(seq), 0) FROM audit_records), size, pruned, note
		FROM audit_head WHERE id = 1`).Scan(&s.Last, &s.Size, &s.Pruned, &s.Note)
	if err != nil {
		return Standing{}, fmt.Errorf("reading how far the audit log is: %w", err)
	}
	s.Last = max(s.Last, s.Pruned)
	return s, nil
}

// Head is what the signed head says, without a look at who signed it. It is ErrEmpty
// while there is none.
func (s Standing) Head() (Checkpoint, error) {
	if s.Note == "" && s.Size == 0 {
		return Checkpoint{}, ErrEmpty
	}
	c, err := claimed(s.Note)
	if err == nil && c.Size != s.Size {
		err = fmt.Errorf("the signed one is of %s, the database says %d", Count(c.Size, "record"), s.Size)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("reading the head of the audit log: %w", err)
	}
	return c, nil
}

// LeafAt is the hash that the tree of a head has at a place. What it reads of the tree
// is held against the head's root.
func LeafAt(ctx context.Context, tx *sql.Tx, head Checkpoint, place int64) (Digest, error) {
	if place < 1 || place > head.Size {
		return Digest{}, fmt.Errorf("reading the leaf at place %d: the head counts %s: %w", place, Count(head.Size, "record"), ErrNotInTree)
	}
	found, err := hashes(ctx, tx, head).ReadHashes([]int64{tlog.StoredHashIndex(0, place-1)})
	if err != nil {
		return Digest{}, fmt.Errorf("reading the leaf at place %d: %w", place, err)
	}
	return Digest(found[0]), nil
}

// AnchoredAt names the anchors beside this database that have the record at a place,
// and those that do not have it yet, in their order by name.
func AnchoredAt(ctx context.Context, tx *sql.Tx, place int64) (have, lack []string, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT name, upto FROM audit_anchors")
	if err != nil {
		return nil, nil, fmt.Errorf("reading what the anchors have: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var upto int64
		if err := rows.Scan(&name, &upto); err != nil {
			return nil, nil, fmt.Errorf("reading what the anchors have: %w", err)
		}
		if place <= upto {
			have = append(have, name)
		} else {
			lack = append(lack, name)
		}
	}
	sort.Strings(have)
	sort.Strings(lack)
	return have, lack, rows.Err()
}
