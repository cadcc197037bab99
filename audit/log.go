package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Log gives records their place in the Merkle tree, in the order in which they
// were committed, and signs its heads. It holds nothing but keys: the tree is in the
// database, and each call works in the transaction that it is handed. It is safe for
// concurrent use.
type Log struct {
	origin    string
	signer    note.Signer
	verifiers []note.Verifier
}

// NewLog makes the log of that origin, whose heads the signer signs. The verifiers
// are those of the signer and of keys that signed earlier heads.
func NewLog(origin string, signer note.Signer, verifiers ...note.Verifier) (*Log, error) {
	if origin == "" || signer.Name() != origin {
		return nil, fmt.Errorf("making the audit log: want a key named as its origin %q, got %q", origin, signer.Name())
	}
	for _, v := range verifiers {
		if v.Name() != origin {
			return nil, fmt.Errorf("making the audit log: want keys named as its origin %q, got %q", origin, v.Name())
		}
	}
	own := func(v note.Verifier) bool { return v.KeyHash() == signer.KeyHash() }
	for _, v := range verifiers {
		if own(v) {
			return &Log{origin: origin, signer: signer, verifiers: verifiers}, nil
		}
	}
	return nil, fmt.Errorf("making the audit log: want the verifier of its own key %08x among the verifiers, got none", signer.KeyHash())
}

// Origin names the log.
func (l *Log) Origin() string { return l.origin }

// Open reads a checkpoint of this log, by whichever of its keys.
func (l *Log) Open(text string) (Checkpoint, error) {
	return OpenCheckpoint(text, l.origin, l.verifiers...)
}

var (
	// ErrHeadMoved is returned by Extend when the head was changed under it.
	ErrHeadMoved = brokenf("the head of the audit log was moved by somebody else")
	// ErrNotInTree is returned for a record that has no place in the tree yet.
	ErrNotInTree = errors.New("the record has no place in the tree yet")
	// ErrEmpty is returned while no head was signed.
	ErrEmpty = errors.New("the audit log has no head yet")
	// ErrBroken is what errors are that another try cannot mend: the log is not as
	// it was left. No head may be signed over that.
	ErrBroken = errors.New("the audit log is not as it was left")
)

// broken is an error that is ErrBroken, in words of its own.
type broken struct{ error }

func brokenf(format string, args ...any) error { return broken{fmt.Errorf(format, args...)} }

func (b broken) Unwrap() error { return b.error }

func (broken) Is(target error) bool { return target == ErrBroken }

// Head reads the signed head, ErrEmpty where there is none.
func (l *Log) Head(ctx context.Context, tx *sql.Tx) (Checkpoint, error) {
	size, text, err := readHead(ctx, tx)
	if err != nil {
		return Checkpoint{}, err
	}
	if text == "" && size == 0 {
		return Checkpoint{Origin: l.origin}, ErrEmpty
	}
	c, err := l.Open(text)
	if err != nil {
		return Checkpoint{}, brokenf("reading the head of the audit log: %w", err)
	}
	if c.Size != size {
		return Checkpoint{}, brokenf("reading the head of the audit log: the signed one is of %s, the database says %d", Count(c.Size, "record"), size)
	}
	return c, nil
}

func readHead(ctx context.Context, tx *sql.Tx) (size int64, text string, err error) {
	err = tx.QueryRowContext(ctx, "SELECT size, note FROM audit_head WHERE id = 1").Scan(&size, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, "", brokenf("reading the head of the audit log: its row is missing")
	}
	if err != nil {
		return 0, "", fmt.Errorf("reading the head of the audit log: %w", err)
	}
	return size, text, nil
}

// Extend gives at most limit records that have none yet their place in the tree, and
// signs the new head. It returns the head, and whether records are left. The head
// must not leave before the transaction is durable.
func (l *Log) Extend(ctx context.Context, tx *sql.Tx, limit int) (head Checkpoint, more bool, err error) {
	old, err := l.Head(ctx, tx)
	if err != nil && !errors.Is(err, ErrEmpty) {
		return head, false, err
	}
	e, err := loadEdge(ctx, tx, old.Size)
	if err != nil {
		return head, false, fmt.Errorf("extending the audit log: %w", err)
	}
	if got := e.root(); old.Size > 0 && got != old.Root {
		return head, false, brokenf("extending the audit log: want the root %s of its head, got %s from its tiles", old.Root, got)
	}
	leaves, err := leavesAfter(ctx, tx, old.Size, limit)
	if err != nil {
		return head, false, fmt.Errorf("extending the audit log: %w", err)
	}
	if len(leaves) == 0 {
		return old, false, nil
	}
	keep := saveTile(ctx, tx)
	for _, leaf := range leaves {
		if err := e.add(tlog.Hash(leaf), keep); err != nil {
			return head, false, fmt.Errorf("extending the audit log: %w", err)
		}
	}
	if err := e.flush(keep); err != nil {
		return head, false, fmt.Errorf("extending the audit log: %w", err)
	}
	head = Checkpoint{Origin: l.origin, Size: e.size, Root: e.root()}
	if err := head.sign(l.signer); err != nil {
		return head, false, err
	}
	return head, len(leaves) == limit, swapHead(ctx, tx, old, head)
}

// swapHead replaces the head, if it still is the one that was extended.
func swapHead(ctx context.Context, tx *sql.Tx, old, head Checkpoint) error {
	result, err := tx.ExecContext(ctx, "UPDATE audit_head SET size = $1, note = $2 WHERE id = 1 AND size = $3 AND note = $4", head.Size, head.Note, old.Size, old.Note)
	if err != nil {
		return fmt.Errorf("moving the head of the audit log: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("moving the head of the audit log from %d to %s: %w", old.Size, Count(head.Size, "record"), errors.Join(ErrHeadMoved, err))
	}
	return nil
}

// leavesAfter reads the hashes of the leaves behind the first size records. The place
// of a record is its seq, which the database counts without gaps.
func leavesAfter(ctx context.Context, tx *sql.Tx, size int64, limit int) ([]Digest, error) {
	rows, err := tx.QueryContext(ctx, "SELECT seq, hash FROM audit_records WHERE seq > $1 ORDER BY seq LIMIT $2", size, limit)
	if err != nil {
		return nil, fmt.Errorf("reading leaves: %w", err)
	}
	defer rows.Close()
	var leaves []Digest
	for rows.Next() {
		var seq int64
		var hash sql.RawBytes
		if err := rows.Scan(&seq, &hash); err != nil {
			return nil, fmt.Errorf("reading leaves: %w", err)
		}
		if want := size + int64(len(leaves)) + 1; seq != want {
			return nil, brokenf("want the record at place %d, got the one at %d: records are missing", want, seq)
		}
		leaf, err := leafOf(ctx, tx, seq, hash)
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, leaf)
	}
	return leaves, rows.Err()
}

// leafOf is the hash that is kept with a record, or for one from before there was a
// tree what it would be.
func leafOf(ctx context.Context, tx *sql.Tx, seq int64, hash []byte) (Digest, error) {
	if len(hash) == len(Digest{}) {
		return Digest(hash), nil
	}
	var unhashed int64
	if err := tx.QueryRowContext(ctx, "SELECT unhashed FROM audit_head WHERE id = 1").Scan(&unhashed); err != nil {
		return Digest{}, fmt.Errorf("reading the head of the audit log: %w", err)
	}
	if len(hash) != 0 || seq > unhashed {
		return Digest{}, brokenf("the record at place %d: want a hash of %d bytes, got %d", seq, len(Digest{}), len(hash))
	}
	e, err := AtPlace(ctx, tx, seq)
	if err != nil {
		return Digest{}, err
	}
	return e.LeafHash(e.Digest()), nil
}

// Check holds the log against itself, at the cost of a few rows however long it is:
// the head is signed, its tiles have its root, and the records behind those that were
// pruned are there, the first and the last of them that the head counts. It returns the
// head, ErrEmpty where there is none.
func (l *Log) Check(ctx context.Context, tx *sql.Tx) (Checkpoint, error) {
	head, err := l.Head(ctx, tx)
	if err != nil {
		return head, err
	}
	e, err := loadEdge(ctx, tx, head.Size)
	if err != nil {
		return head, fmt.Errorf("checking the audit log: %w", err)
	}
	if got := e.root(); got != head.Root {
		return head, brokenf("checking the audit log: want the root %s of its head, got %s from its tiles", head.Root, got)
	}
	if err := checkEnds(ctx, tx, head); err != nil {
		return head, fmt.Errorf("checking the audit log: %w", err)
	}
	return head, nil
}

// checkEnds wants the records at both ends of what was not pruned. A prune that took all
// that the head counts has its own record behind them, which the head does not count yet;
// by the time that it does, the mark no longer reaches the head. A log that was restored
// from hashes alone is in the same state: a note says so until a broker starts on it, and
// from then on the record that this start makes of the note.
func checkEnds(ctx context.Context, tx *sql.Tx, head Checkpoint) error {
	var pruned, last int64
	var first, end bool
	err := tx.QueryRowContext(ctx, `SELECT pruned, (SELECT coalesce(max(seq), 0) FROM audit_records),
		EXISTS (SELECT 1 FROM audit_records WHERE seq = pruned + 1), EXISTS (SELECT 1 FROM audit_records WHERE seq = $1)
		FROM audit_head WHERE id = 1`, head.Size).Scan(&pruned, &last, &first, &end)
	switch {
	case err != nil:
		return err
	case max(last, pruned) < head.Size:
		return brokenf("its head counts %s, and the database ends with the one at place %d", Count(head.Size, "record"), last)
	case pruned < head.Size && !end:
		return brokenf("its head counts %s, and the database lacks the last of them, and ends with the one at place %d", Count(head.Size, "record"), last)
	case pruned < head.Size && !first:
		return brokenf("its first %s count as pruned, and the database lacks the one behind them, and ends with the one at place %d", Count(pruned, "record"), last)
	case pruned < head.Size || head.Size == 0:
		return nil
	}
	said, err := accounted(ctx, tx, head)
	if err == nil && !said {
		err = brokenf("all %s that its head counts are to be pruned, and no record behind them says so: the database ends with the one at place %d", Count(head.Size, "record"), last)
	}
	return err
}

// accounted reports whether there is word of why none of the records is left that a head
// counts. It looks at the records alone that the head does not count.
func accounted(ctx context.Context, tx *sql.Tx, head Checkpoint) (yes bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM audit_records WHERE seq > $1
		AND (action = $2 AND detail || ' ' LIKE $3 OR action = $4 AND detail LIKE $5))`, head.Size,
		ActionPruned, fmt.Sprintf("through=%d %%", head.Size), ActionRestored, noteOf(head)+" %").Scan(&yes)
	if err != nil || yes {
		return yes, err
	}
	note, err := RestoreNote(ctx, tx)
	return strings.HasPrefix(note, noteOf(head)+" "), err
}

// Extends holds the head against a checkpoint that was seen before, elsewhere: the
// log must have at least as many records, and the same ones up to there.
func (l *Log) Extends(ctx context.Context, tx *sql.Tx, head, seen Checkpoint) error {
	return extends(ctx, tx, head, seen)
}

func extends(ctx context.Context, tx *sql.Tx, head, seen Checkpoint) error {
	if head.Size < seen.Size {
		return fmt.Errorf("the log was seen with %s, and has %d: it was cut or put back to an earlier copy", Count(seen.Size, "record"), head.Size)
	}
	if seen.Size == 0 {
		return nil
	}
	root, err := tlog.TreeHash(seen.Size, hashes(ctx, tx, head))
	if err != nil {
		return fmt.Errorf("reading the tree of %s: %w", Count(seen.Size, "record"), err)
	}
	if Digest(root) != seen.Root {
		return fmt.Errorf("the log was seen with the root %s at %s, and has %s there: it was forked", seen.Root, Count(seen.Size, "record"), Digest(root))
	}
	return nil
}
