package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A Prunable is what may be pruned of a log: the records behind the place After, up to
// Through. Those up to After are gone.
type Prunable struct {
	After, Through int64
	Kept           string // why the next record stays
}

// Any reports whether there is anything to prune.
func (p Prunable) Any() bool { return p.Through > p.After }

// FindPrunable finds the records that may go: from the oldest on, as long as each is of
// a time before the one that is given, has its place under the signed head and is at
// every anchor, and is no intent without an outcome. The newest record that an anchor
// has stays: with it the next start holds that anchor against the database.
func FindPrunable(ctx context.Context, tx *sql.Tx, before time.Time) (Prunable, error) {
	var p Prunable
	fail := func(err error) (Prunable, error) {
		return Prunable{}, fmt.Errorf("looking for records to prune: %w", err)
	}
	if err := tx.QueryRowContext(ctx, "SELECT pruned, size FROM audit_head WHERE id = 1").Scan(&p.After, &p.Through); err != nil {
		return fail(err)
	}
	p.Kept = "the head of the log does not count it yet"
	for _, limit := range []struct {
		query string
		arg   any
		kept  string
	}{
		{"SELECT seq, '' FROM audit_records WHERE time >= $1 ORDER BY seq LIMIT 1", before.UnixMilli(), "it is not old enough"},
		{"SELECT upto, name FROM audit_anchors WHERE upto <= $1 ORDER BY upto LIMIT 1", p.Through, "an anchor has records up to there: "},
		{`SELECT r.seq, '' FROM audit_records r WHERE r.outcome = '` + Pending + `' AND r.seq <= $1
			AND NOT EXISTS (SELECT 1 FROM audit_records s WHERE s.settles = r.id AND s.settles <> '') ORDER BY r.seq LIMIT 1`, p.Through, "it is an intent without an outcome"},
	} {
		var stays int64
		var name string
		err := tx.QueryRowContext(ctx, limit.query, limit.arg).Scan(&stays, &name)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return fail(err)
		case stays <= p.Through:
			p.Through, p.Kept = stays-1, limit.kept+name
		}
	}
	return p, nil
}

// pruneLook is how many records CheckExport reads at once.
const pruneLook = 1000

// CheckExport holds an export against a log and returns the SHA-256 of it. It wants the
// line of each record that is to go, in order, as the log would write it now, so that
// nothing goes but what the export has: one that was erased since must be exported
// again. The records must be those under the log's head, and the export must have a
// checkpoint of the log that counts them. Open reads checkpoints and believes no others
// than those of the log by its own keys. view runs a function in a read transaction; the
// log must not change meanwhile.
//
// Lines of other places, and further checkpoints, are let be as long as they are whole.
func CheckExport(ctx context.Context, view func(context.Context, func(*sql.Tx) error) error, p Prunable, open func(string) (Checkpoint, error), export io.Reader) (Digest, error) {
	c := exportCheck{ctx: ctx, view: view, Prunable: p, open: open, next: p.After + 1}
	hash := sha256.New()
	lines := bufio.NewScanner(io.TeeReader(export, hash))
	lines.Buffer(make([]byte, 0, MaxLine), 2*MaxLine)
	for n := 1; lines.Scan(); n++ {
		if err := c.line(lines.Bytes()); err != nil {
			return Digest{}, fmt.Errorf("checking the export: line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return Digest{}, fmt.Errorf("checking the export: %w", err)
	}
	switch {
	case c.next <= p.Through:
		return Digest{}, fmt.Errorf("checking the export: it lacks the record at place %d, and those up to %d are to go", c.next, p.Through)
	case c.covers < p.Through:
		return Digest{}, fmt.Errorf("checking the export: want a checkpoint of %s or more, got one of %d: it has no end", Count(p.Through, "record"), c.covers)
	}
	return Digest(hash.Sum(nil)), nil
}

type exportCheck struct {
	ctx  context.Context
	view func(context.Context, func(*sql.Tx) error) error
	open func(string) (Checkpoint, error)
	Prunable

	next    int64   // the place that the export has not shown yet
	entries []Entry // of the log, from there on
	covers  int64   // the size of its largest checkpoint
}

func (c *exportCheck) line(text []byte) error {
	if IsCheckpointLine(text) {
		seen, err := ParseCheckpointLine(text)
		if err != nil {
			return err
		}
		return c.checkpoint(seen.Note)
	}
	line, err := ParseLine(text)
	switch {
	case err != nil:
		return err
	case line.Place < c.next || line.Place > c.Through:
		return line.Check()
	case line.Place > c.next:
		return fmt.Errorf("it is of place %d, and the record at place %d is to go: it is not in the export", line.Place, c.next)
	case line.Leaf == nil:
		return fmt.Errorf("it has the hash of the record at place %d alone", line.Place)
	}
	if len(c.entries) == 0 {
		if err := c.read(); err != nil {
			return err
		}
	}
	want := c.entries[0].Line()
	if !bytes.Equal(want, append(bytes.TrimSuffix(bytes.Clone(text), []byte("\n")), '\n')) {
		return fmt.Errorf("it is not the record that the log has at place %d now: export it again", line.Place)
	}
	c.next++
	c.entries = c.entries[1:]
	return nil
}

// read reads further records of the log, and holds them against the tree.
func (c *exportCheck) read() error {
	return c.view(c.ctx, func(tx *sql.Tx) (err error) {
		limit := int(min(pruneLook, c.Through-c.next+1))
		if c.entries, err = After(c.ctx, tx, c.next-1, limit); err != nil {
			return err
		}
		head, err := c.head(tx)
		if err != nil {
			return err
		}
		indexes := make([]int64, limit)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, c.next-1+int64(i))
		}
		leaves, err := hashes(c.ctx, tx, head).ReadHashes(indexes)
		if err != nil {
			return fmt.Errorf("reading the tree: %w", err)
		}
		for i, leaf := range leaves {
			place := c.next + int64(i)
			if i >= len(c.entries) || c.entries[i].Seq != place {
				return fmt.Errorf("the log lacks the record at place %d", place)
			}
			if e := &c.entries[i]; e.LeafHash(e.Digest()) != Digest(leaf) {
				return fmt.Errorf("the record at place %d is not the one in the tree", place)
			}
		}
		return nil
	})
}

func (c *exportCheck) head(tx *sql.Tx) (Checkpoint, error) {
	standing, err := ReadStanding(c.ctx, tx)
	if err != nil {
		return Checkpoint{}, err
	}
	return c.open(standing.Note)
}

// checkpoint wants a checkpoint that the log extends.
func (c *exportCheck) checkpoint(text string) error {
	seen, err := c.open(text)
	if err != nil {
		return err
	}
	c.covers = max(c.covers, seen.Size)
	return c.view(c.ctx, func(tx *sql.Tx) error {
		head, err := c.head(tx)
		if err != nil {
			return err
		}
		return extends(c.ctx, tx, head, seen)
	})
}

// Prune deletes records that FindPrunable found and CheckExport saw exported, at most
// limit of them, and records that they went. It returns up to which place they are gone
// now; the caller goes on, a transaction each time, until that is all. The mark, the
// deletion and the record stand or fall together, so a crash leaves no place that is
// neither there nor known to be gone. The tree and its heads stay.
func Prune(ctx context.Context, tx *sql.Tx, through int64, limit int, exported Digest, r Record) (upto int64, err error) {
	fail := func(err error) (int64, error) {
		return 0, fmt.Errorf("pruning the audit log up to place %d: %w", through, err)
	}
	var pruned int64
	if err := tx.QueryRowContext(ctx, "SELECT pruned FROM audit_head WHERE id = 1").Scan(&pruned); err != nil {
		return fail(err)
	}
	if upto = min(through, pruned+int64(limit)); upto <= pruned {
		return pruned, nil
	}
	if _, err := tx.ExecContext(ctx, "UPDATE audit_head SET pruned = $1 WHERE id = 1", upto); err != nil {
		return fail(err)
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM audit_records WHERE seq <= $1", upto); err != nil {
		return fail(err)
	}
	r.Action, r.Outcome, r.Detail = ActionPruned, Confirmed, fmt.Sprintf("through=%d exported=%s", upto, exported)
	if err := Append(ctx, tx, &r); err != nil {
		return fail(err)
	}
	return upto, nil
}
