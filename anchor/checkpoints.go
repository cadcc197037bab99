package anchor

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"agentkeys/audit"
)

// Checkpoints is an append-only file of the signed heads of a log as they were seen, a
// line each (audit.HeadLine). A log that was cut, put back to an earlier copy or forked
// does not extend what is in it. It is safe for concurrent use.
type Checkpoints struct {
	*lines
	now  func() time.Time
	turn chan struct{} // holds one while last is changed
	last *Seen
}

// Seen is a checkpoint as it was seen. Nothing of it is to be believed before its
// note was opened (audit.Log.Open).
type Seen struct {
	Time time.Time // when it was published, to the millisecond
	Size int64     // how many records it is of, which its note says too
	Note string    // the signed checkpoint
}

var heads = kind{"file of checkpoints", "--checkpoints-file", func(line []byte) error {
	_, err := parseSeen(line)
	return err
}}

// CreateCheckpoints makes an empty file as CreateFile does.
func CreateCheckpoints(path string) error { return heads.create(path) }

// OpenCheckpoints opens a file that CreateCheckpoints made, as OpenFile does. now is
// what the lines have their times of.
func OpenCheckpoints(path string, now func() time.Time) (*Checkpoints, error) {
	l, err := heads.open(path)
	if err != nil {
		return nil, err
	}
	return newCheckpoints(l, now), nil
}

func newCheckpoints(l *lines, now func() time.Time) *Checkpoints {
	c := &Checkpoints{lines: l, now: now, turn: make(chan struct{}, 1)}
	if l.tail != nil {
		last, _ := parseSeen(l.tail) // open has parsed it
		c.last = &last
	}
	return c
}

// Name is what the configuration and the answers of the broker call this kind.
func (c *Checkpoints) Name() string { return "checkpoints" }

// Last is the newest checkpoint in the file, and false where it has none.
func (c *Checkpoints) Last() (Seen, bool) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.last == nil {
		return Seen{}, false
	}
	return *c.last, true
}

// Publish appends a checkpoint, and returns nil when it is durable. The one that is
// the newest already is not appended again. One of fewer records than the newest, or
// another one of as many, is refused: the file shows one log. Of errors of the disk,
// and of contexts that end, it does as File.Put does.
func (c *Checkpoints) Publish(ctx context.Context, head audit.Checkpoint) error {
	if err := c.publish(ctx, Seen{Time: c.now(), Size: head.Size, Note: head.Note}); err != nil {
		return fmt.Errorf("putting the checkpoint of %s into %s %q: %w", audit.Count(head.Size, "record"), c.name, c.path, err)
	}
	return nil
}

func (c *Checkpoints) publish(ctx context.Context, s Seen) error {
	line, err := s.line()
	if err != nil {
		return err
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.last != nil {
		if err := s.follows(*c.last); err != nil || s.Note == c.last.Note {
			return err
		}
	}
	if err := c.put(ctx, line); err != nil {
		return err
	}
	c.last = &s
	return nil
}

// follows refuses what cannot be seen after another checkpoint of the same log.
func (s Seen) follows(last Seen) error {
	switch {
	case s.Size < last.Size:
		return fmt.Errorf("want one of %s, as the newest is, or more, got one of %d", audit.Count(last.Size, "record"), s.Size)
	case s.Size == last.Size && s.Note != last.Note:
		return fmt.Errorf("there is another one of %s already", audit.Count(s.Size, "record"))
	}
	return nil
}

// line refuses what would not read back as the same checkpoint.
func (s Seen) line() ([]byte, error) {
	text := audit.HeadLine(s.Time, audit.Checkpoint{Size: s.Size, Note: s.Note})
	_, err := parseSeen(text)
	return text, err
}

func parseSeen(text []byte) (Seen, error) {
	at, c, err := audit.ParseHeadLine(text)
	return Seen{Time: at, Size: c.Size, Note: c.Note}, err
}

// ReadCheckpoints reads the checkpoints of a file from the oldest, as strictly as
// ReadFile. One that cannot come after the one before it ends it as well.
func ReadCheckpoints(r io.Reader) iter.Seq2[Seen, error] {
	var last Seen
	return read(r, heads, func(text []byte) (Seen, error) {
		s, err := parseSeen(text)
		if err == nil {
			err = s.follows(last)
		}
		last = s
		return s, err
	})
}
