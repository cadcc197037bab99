package audit

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// An Export gives the lines of a log in the order of places, from behind a cursor up to
// the head that was signed when it began, and that head. So an export neither lacks a
// record that its checkpoint counts nor has one that it does not, and the next one,
// behind the last place of this one, neither skips nor repeats any.
//
// Each page is read in a transaction of its own, so that a long export does not keep
// the database's log from being written back. In between records may be appended,
// which it does not see, and may be erased or pruned, which it shows from there on:
// neither changes the tree. Every line is held against the tree, and the tree against
// the head: what would not verify is not exported. Who signed the head is not looked
// at, that is for those who read the export.
//
// It is not for concurrent use.
type Export struct {
	head   Checkpoint
	tenant string
	tree   *edge // of the lines so far
}

// A Cursor is where an export ended.
type Cursor struct {
	Place int64
	Root  *Digest // of the tree up to there; nil where it is not known
}

// NewExport begins an export behind a cursor. With a tenant, the records of all others
// are there as hashes alone. It is ErrEmpty while the log has no head.
func NewExport(ctx context.Context, tx *sql.Tx, after Cursor, tenant string) (*Export, error) {
	standing, err := ReadStanding(ctx, tx)
	if err != nil {
		return nil, err
	}
	head, err := standing.Head()
	if err != nil {
		return nil, err
	}
	if after.Place < 0 || after.Place > head.Size {
		return nil, fmt.Errorf("the cursor is place %d, and the head of the log counts %s: it is another log's, or this one was put back to an earlier copy", after.Place, Count(head.Size, "record"))
	}
	tree, err := loadEdge(ctx, tx, after.Place)
	if err != nil {
		return nil, err
	}
	if got := tree.root(); after.Root != nil && got != *after.Root {
		return nil, fmt.Errorf("the log was exported with the root %s at %s, and has %s there: it was forked", after.Root, Count(after.Place, "record"), got)
	}
	return &Export{head: head, tenant: tenant, tree: tree}, nil
}

// Place is that of the last line so far: the cursor.
func (x *Export) Place() int64 { return x.tree.size }

// Head is the head up to which it goes.
func (x *Export) Head() Checkpoint { return x.head }

// Next gives at most limit further lines, and none when all are given. The transaction
// is any that sees what the one of NewExport saw.
func (x *Export) Next(ctx context.Context, tx *sql.Tx, limit int) ([]RawLine, error) {
	upto := min(x.Place()+int64(limit), x.head.Size)
	if upto == x.Place() {
		return nil, x.whole()
	}
	standing, err := ReadStanding(ctx, tx)
	if err != nil {
		return nil, err
	}
	found, err := entries(ctx, tx, "WHERE seq > $1 AND seq <= $2 ORDER BY seq", x.Place(), upto)
	if err != nil {
		return nil, fmt.Errorf("reading audit records: %w", err)
	}
	leaves, err := leavesBetween(ctx, tx, x.Place(), upto)
	if err != nil {
		return nil, err
	}
	lines := make([]RawLine, 0, len(leaves))
	for _, leaf := range leaves {
		line, rest, err := x.line(x.Place()+1, leaf, found, standing.Pruned)
		if err != nil {
			return nil, err
		}
		if err := x.tree.add(tlog.Hash(leaf), discard); err != nil {
			return nil, err
		}
		lines, found = append(lines, line), rest
	}
	return lines, nil
}

// line is that of a place, from the first of the records that are left or, where it
// was pruned, from the tree alone.
func (x *Export) line(place int64, leaf Digest, left []Entry, pruned int64) (RawLine, []Entry, error) {
	bare := RawLine{Place: place, Hash: leaf}
	if len(left) == 0 || left[0].Seq != place {
		if place > pruned {
			return RawLine{}, nil, fmt.Errorf("the record at place %d is missing", place)
		}
		return bare, left, nil
	}
	line := left[0].rawLine()
	if line.Hash != leaf {
		return RawLine{}, nil, fmt.Errorf("the record at place %d is not the one in the tree: want the hash %s, got %s", place, leaf, line.Hash)
	}
	if x.tenant != "" && left[0].Tenant != x.tenant {
		line = bare
	}
	return line, left[1:], nil
}

// whole holds what was given against the head.
func (x *Export) whole() error {
	if got := x.tree.root(); got != x.head.Root {
		return fmt.Errorf("want the root %s of the log's head, got %s from its records", x.head.Root, got)
	}
	return nil
}

func discard(int, int64, []tlog.Hash) error { return nil }

// leavesBetween reads the tree's own hashes of the records behind after, up to upto.
func leavesBetween(ctx context.Context, tx *sql.Tx, after, upto int64) ([]Digest, error) {
	var leaves []Digest
	for after < upto {
		n := after / tileWidth
		end := min(upto, (n+1)*tileWidth)
		data, err := readTile(ctx, tx, 0, n, int(end-n*tileWidth))
		if err != nil {
			return nil, err
		}
		for ; after < end; after++ {
			leaves = append(leaves, Digest(data[(after-n*tileWidth)*tlog.HashSize:]))
		}
	}
	return leaves, nil
}

const checkpointLine = `{"checkpoint":`

// Line is the line that ends an export: {"checkpoint":"…"} and a line break.
func (c Checkpoint) Line() []byte {
	return append(appendText([]byte(checkpointLine), c.Note), "}\n"...)
}

// IsCheckpointLine reports whether a line of an export is a checkpoint and no record.
func IsCheckpointLine(line []byte) bool { return bytes.HasPrefix(line, []byte(checkpointLine)) }

// ParseCheckpointLine reads the line that ends an export, with or without its line
// break. Nobody has checked what the checkpoint says: see OpenCheckpoint.
func ParseCheckpointLine(line []byte) (Checkpoint, error) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	var l struct {
		Checkpoint string `json:"checkpoint"`
	}
	if err := strictly(line, &l); err != nil {
		return Checkpoint{}, err
	}
	c, err := claimed(l.Checkpoint)
	if err != nil {
		return Checkpoint{}, err
	}
	if !bytes.Equal(bytes.TrimSuffix(c.Line(), []byte("\n")), line) {
		return Checkpoint{}, fmt.Errorf("want %s and a signed note, and no other spelling", checkpointLine)
	}
	return c, nil
}
