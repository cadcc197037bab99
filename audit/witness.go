package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// A Witness is what was seen of a log elsewhere: a file of heads, or a file of records,
// or both in one, a line each in the order of the log. It is read along with the log,
// so it may be of any length.
type Witness struct {
	name  string
	lines *bufio.Reader
	line  int64 // of next
	next  seen
	ended bool
	ahead *Finding // of the first signed head that the log does not reach, with those behind it; nil without one
}

// seen is a line of a witness.
type seen struct {
	at     int64 // the size of a head, the place of a record
	digest Digest
	note   string // of a head
	id     string // of a record, where its line has it
}

// NewWitness reads the lines of r. The name says where they are from.
func NewWitness(name string, r io.Reader) *Witness {
	return &Witness{name: name, lines: bufio.NewReaderSize(r, MaxLine)}
}

// advance reads the next line that can be read. Those that cannot go to unread.
func (w *Witness) advance(unread func(line int64, err error)) error {
	for {
		line, err := w.lines.ReadSlice('\n')
		w.line++
		if errors.Is(err, io.EOF) {
			w.last(line)
			return nil
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			unread(w.line, fmt.Errorf("want a line of at most %d bytes, got a longer one", MaxLine))
			if err = skipLine(w.lines); errors.Is(err, io.EOF) {
				err = nil
			}
			if err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", w.name, err)
		}
		if w.next, err = parseSeen(line); err == nil {
			return nil
		}
		unread(w.line, err)
	}
}

// last reads what is behind the last line break. A line that was cut off there was
// never said to have been written.
func (w *Witness) last(line []byte) {
	next, err := parseSeen(line)
	if err != nil {
		w.ended, next = true, seen{at: math.MaxInt64}
	}
	w.next = next
}

func skipLine(r *bufio.Reader) error {
	for {
		if _, err := r.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// parseSeen reads a line of either kind.
func parseSeen(line []byte) (seen, error) {
	if bytes.HasPrefix(line, []byte(headBegin)) {
		_, c, err := ParseHeadLine(line)
		return seen{at: c.Size, digest: c.Root, note: c.Note}, err
	}
	l, err := ParseLine(line)
	if err == nil {
		err = l.Check()
	}
	if err != nil {
		return seen{}, err
	}
	s := seen{at: l.Place, digest: l.Hash}
	if l.Leaf != nil {
		leaf, err := parseLeaf(l.Leaf)
		if err != nil {
			return seen{}, err
		}
		s.id = string(leaf.id)
	}
	return s, nil
}

// CheckpointWitness is one head that was seen elsewhere: the signed note itself.
func CheckpointWitness(name, checkpoint string) (*Witness, error) {
	c, err := claimed(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("%s: want a checkpoint: %w", name, err)
	}
	return &Witness{name: name, lines: bufio.NewReader(bytes.NewReader(nil)), line: 1, next: seen{at: c.Size, digest: c.Root, note: c.Note}}, nil
}

// position says where in a witness something is.
func (w *Witness) position() string { return fmt.Sprintf("%s, line %d", w.name, w.line) }

// parseEnd reads the line that ends an export, and is false for a line that is not
// meant to be one.
func parseEnd(line []byte) (c Checkpoint, is bool, err error) {
	if !IsCheckpointLine(line) {
		return c, false, nil
	}
	c, err = ParseCheckpointLine(line)
	return c, true, err
}
