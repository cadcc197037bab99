package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// An Inclusion proves that the leaf of a record is in the tree of a head (RFC 6962,
// section 2.1.1). It tells nothing of the record but the hash of its leaf.
type Inclusion struct {
	Index  int64 // of the leaf, from 0
	Leaf   Digest
	Hashes []Digest
	Head   Checkpoint
}

// Inclusion proves a record's place in the tree of the present head: sql.ErrNoRows
// where there is no such record, ErrNotInTree where the tree does not reach it yet. A
// record that is not the one whose leaf the tree has is an error.
func (l *Log) Inclusion(ctx context.Context, tx *sql.Tx, id string) (Inclusion, error) {
	e, err := EntryByID(ctx, tx, id)
	if err != nil {
		return Inclusion{}, err
	}
	head, err := l.Head(ctx, tx)
	switch {
	case errors.Is(err, ErrEmpty), err == nil && e.Seq > head.Size:
		return Inclusion{}, fmt.Errorf("proving record %s: %w", id, ErrNotInTree)
	case err != nil:
		return Inclusion{}, err
	}
	p := Inclusion{Index: e.Seq - 1, Leaf: e.LeafHash(e.Digest()), Head: head}
	proof, err := tlog.ProveRecord(head.Size, p.Index, hashes(ctx, tx, head))
	if err == nil {
		err = tlog.CheckRecord(proof, head.Size, tlog.Hash(head.Root), p.Index, tlog.Hash(p.Leaf))
	}
	if err != nil {
		return Inclusion{}, fmt.Errorf("proving record %s at place %d in the tree of %d: %w", id, e.Seq, head.Size, err)
	}
	p.Hashes = digests(proof)
	return p, nil
}

// Consistency proves that the tree of size to begins with the tree of size from (RFC
// 6962, section 2.1.2); a to of 0 is the present head's, which comes with the proof.
// Sizes that the log does not have are a *RangeError.
func (l *Log) Consistency(ctx context.Context, tx *sql.Tx, from, to int64) (proof []Digest, head Checkpoint, err error) {
	head, err = l.Head(ctx, tx)
	if err != nil {
		return nil, head, err
	}
	if to == 0 {
		to = head.Size
	}
	if from < 1 || from > to || to > head.Size {
		return nil, head, &RangeError{from, to, head.Size}
	}
	path, err := tlog.ProveTree(to, from, hashes(ctx, tx, head))
	if err != nil {
		return nil, head, fmt.Errorf("proving that the tree of %d begins with that of %d: %w", to, from, err)
	}
	return digests(path), head, nil
}

// A RangeError says that there is no proof between two sizes, for a log of this one.
type RangeError struct{ From, To, Size int64 }

func (e *RangeError) Error() string {
	return fmt.Sprintf("want sizes from 1 to %d, the smaller one first, got %d and %d", e.Size, e.From, e.To)
}

// LeafHash is the hash of the text of a leaf in the tree (RFC 6962, section 2.1).
func LeafHash(leaf []byte) Digest { return Digest(tlog.RecordHash(leaf)) }

func digests(hashes []tlog.Hash) []Digest {
	all := make([]Digest, 0, len(hashes))
	for _, h := range hashes {
		all = append(all, Digest(h))
	}
	return all
}
