package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrNotEmpty is returned by NewRestore for a log that has records.
var ErrNotEmpty = errors.New("the audit log has records already")

// A Restore puts the lines of exports and anchor files into an empty log, in one
// transaction: places, IDs, salts, hashes and the signed head are again what they were.
// It believes no line: the personal members are held against the leaf, the leaf against
// its hash, and the hashes against the checkpoints.
//
// Lines behind the last checkpoint are put in as records that have no place in the tree
// yet. Nothing that is signed vouches for them; Log.Extend gives them their place.
//
// It is not for concurrent use.
type Restore struct {
	ctx   context.Context
	tx    *sql.Tx
	heads []Checkpoint // by size, those that are not reached yet
	last  Checkpoint   // up to where there is a tree
	tree  *edge
	done  Restored
	row   int64 // the last place that has a row
	bare  int64 // the last place that has none
}

// Restored says what a Restore put in.
type Restored struct {
	Records int64      // the place of the last one
	Erased  int64      // how many of them have no personal members any more
	Pruned  int64      // of how many there is the hash alone
	Holes   int64      // how many of those stand behind a record that is there
	Head    Checkpoint // the head of the log from now on
}

// NewRestore begins a restore that ends with a tree of the largest of the checkpoints,
// which the caller has opened with the keys of the log. It is ErrNotEmpty for a log
// that has been written to.
func NewRestore(ctx context.Context, tx *sql.Tx, checkpoints []Checkpoint) (*Restore, error) {
	if len(checkpoints) == 0 {
		return nil, errors.New("restoring the audit log: want a checkpoint, got none: nothing would vouch for its records")
	}
	var used bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM audit_records) OR EXISTS (SELECT 1 FROM audit_tiles)
		OR EXISTS (SELECT 1 FROM audit_anchors) OR EXISTS (SELECT 1 FROM audit_head WHERE size > 0 OR note <> '')`).Scan(&used)
	if err != nil {
		return nil, fmt.Errorf("restoring the audit log: %w", err)
	}
	if used {
		return nil, fmt.Errorf("restoring the audit log: %w", ErrNotEmpty)
	}
	r := &Restore{ctx: ctx, tx: tx, heads: slices.Clone(checkpoints), tree: &edge{}}
	slices.SortStableFunc(r.heads, func(a, b Checkpoint) int { return int(min(max(a.Size-b.Size, -1), 1)) })
	r.last = r.heads[len(r.heads)-1]
	return r, r.reached() // a checkpoint of no records
}

// Add puts the next line in. The first is that of place 1, and each has the place
// behind that of the line before.
func (r *Restore) Add(line []byte) error {
	l, err := ParseLine(line)
	if err != nil {
		return err
	}
	if want := r.done.Records + 1; l.Place != want {
		return fmt.Errorf("want the record at place %d, got that at place %d", want, l.Place)
	}
	if err := r.put(l); err != nil {
		return fmt.Errorf("the record at place %d: %w", l.Place, err)
	}
	r.done.Records = l.Place
	if l.Place > r.last.Size {
		return nil
	}
	if err := r.tree.add(tlog.Hash(l.Hash), saveTile(r.ctx, r.tx)); err != nil {
		return err
	}
	return r.reached()
}

// put keeps the record of a line, or that it was pruned.
func (r *Restore) put(l RawLine) error {
	if l.Leaf == nil {
		if l.Place > r.last.Size {
			return errors.New("there is its hash alone, and no checkpoint that counts it")
		}
		if r.row > 0 {
			r.done.Holes++
		}
		r.done.Pruned++
		r.bare = l.Place
		return nil
	}
	if err := l.Check(); err != nil {
		return err
	}
	e, err := l.Entry()
	if err != nil {
		return err
	}
	if len(e.Person) > 0 {
		r.done.Erased++
	}
	r.row = l.Place
	return insert(r.ctx, r.tx, &e)
}

func insert(ctx context.Context, tx *sql.Tx, e *Entry) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO audit_records (`+columns+`, seq, salt, hash, person)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)`,
		e.ID, e.Time.UnixMilli(), e.Action, e.Outcome, e.Reason, e.IdentityType, e.IdentityValue,
		e.OmniAccount, e.Wallet, e.KeyID, e.TokenID, e.Source, e.RequestID,
		e.Tenant, e.Agent, e.Service, e.ScopePath, e.GrantID, e.CredentialID, e.Settles, e.Detail,
		e.Seq, blob(e.Salt), blob(e.Hash), blob(e.Person))
	if err != nil {
		return fmt.Errorf("putting it in: %w", err)
	}
	return nil
}

// blob is never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// reached holds the tree against the checkpoints of its size.
func (r *Restore) reached() error {
	for len(r.heads) > 0 && r.heads[0].Size == r.tree.size {
		if got := r.tree.root(); got != r.heads[0].Root {
			return fmt.Errorf("the checkpoint of %s has the root %s, and the records have %s", Count(r.tree.size, "record"), r.heads[0].Root, got)
		}
		r.heads = r.heads[1:]
	}
	return nil
}

// Finish ends the restore. Before it returned nil, nothing of it may be kept.
func (r *Restore) Finish() (Restored, error) {
	if len(r.heads) > 0 {
		return Restored{}, fmt.Errorf("restoring the audit log: the checkpoint counts %s, and there are %d", Count(r.heads[0].Size, "record"), r.done.Records)
	}
	if err := r.tree.flush(saveTile(r.ctx, r.tx)); err != nil {
		return Restored{}, fmt.Errorf("restoring the audit log: %w", err)
	}
	_, err := r.tx.ExecContext(r.ctx, "UPDATE audit_head SET size = $1, note = $2, pruned = $3 WHERE id = 1", r.last.Size, r.last.Note, r.bare)
	if err != nil {
		return Restored{}, fmt.Errorf("restoring the audit log: keeping its head: %w", err)
	}
	r.done.Head = r.last
	if err := errors.Join(r.reserve(), r.note()); err != nil {
		return Restored{}, fmt.Errorf("restoring the audit log: %w", err)
	}
	return r.done, nil
}

// NoteKind and NoteName are the row of the table boot in which a Restore leaves its note.
const (
	NoteKind = "configuration"
	NoteName = "restored"
)

// note leaves word of the restore for the broker, whose next start records it and takes
// the note away: a record is not made here, since what was restored must verify as what
// it is, and a record that waits for its place does not.
func (r *Restore) note() error {
	text := fmt.Sprintf("%s records=%d pruned=%d", noteOf(r.done.Head), r.done.Records, r.done.Pruned)
	if _, err := r.tx.ExecContext(r.ctx, "INSERT INTO boot (kind, name, value) VALUES ($1, $2, $3)", NoteKind, NoteName, text); err != nil {
		return fmt.Errorf("noting it for the next start: %w", err)
	}
	return nil
}

// noteOf is how a note begins, which says under what head the log was restored.
func noteOf(head Checkpoint) string { return fmt.Sprintf("size=%d root=%s", head.Size, head.Root) }

// RestoreNote is the note of a Restore since which no broker has started, "" where there
// is none: size= and root= of the head, how many records= there are, and of how many the
// hash alone (pruned=).
func RestoreNote(ctx context.Context, tx *sql.Tx) (text string, err error) {
	err = tx.QueryRowContext(ctx, "SELECT value FROM boot WHERE kind = $1 AND name = $2", NoteKind, NoteName).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for the note of a restore: %w", err)
	}
	return text, nil
}

// reserve keeps the places of pruned records behind the last row from being given out
// again: a row that comes and goes takes the last one.
func (r *Restore) reserve() error {
	if r.row == r.done.Records {
		return nil
	}
	e := Entry{Record: Record{Seq: r.done.Records}}
	if err := insert(r.ctx, r.tx, &e); err != nil {
		return err
	}
	if _, err := r.tx.ExecContext(r.ctx, "DELETE FROM audit_records WHERE seq = $1", e.Seq); err != nil {
		return fmt.Errorf("reserving the place %d: %w", e.Seq, err)
	}
	return nil
}
