package audit

import (
	"context"
	"database/sql"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

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
	return fromTree(path), head, nil
}

// A RangeError says that there is no proof between two sizes, for a log of this one.
type RangeError struct{ From, To, Size int64 }

func (e *RangeError) Error() string {
	return fmt.Sprintf("want sizes from 1 to %d, the smaller one first, got %d and %d", e.Size, e.From, e.To)
}
