package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
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

// HeadLine is a head as files of witnessed heads have it, a JSON object and a line
// break: {"time":"…","size":1,"checkpoint":"…"}.
type HeadLine struct {
	Time       time.Time
	Checkpoint Checkpoint
}

// headText is a HeadLine in JSON.
type headText struct {
	Time       string `json:"time"`
	Size       int64  `json:"size"`
	Checkpoint string `json:"checkpoint"`
}

// Append adds the line to b.
func (l HeadLine) Append(b []byte) []byte {
	b = append(appendTime(append(b, `{"time":"`...), l.Time), `","size":`...)
	b = fmt.Appendf(b, `%d,"checkpoint":`, l.Checkpoint.Size)
	return append(appendText(b, l.Checkpoint.Note), "}\n"...)
}

// ParseHeadLine reads a line of a file of heads. It does not look at the signature:
// see OpenCheckpoint.
func ParseHeadLine(line []byte) (HeadLine, error) {
	var text headText
	if err := strictly(line, &text); err != nil {
		return HeadLine{}, err
	}
	at, err := time.Parse(time.RFC3339, text.Time)
	if err != nil {
		return HeadLine{}, fmt.Errorf("time: want RFC 3339, got %.40q", text.Time)
	}
	c, err := claimed(text.Checkpoint)
	if err != nil {
		return HeadLine{}, fmt.Errorf("checkpoint: %w", err)
	}
	if c.Size != text.Size {
		return HeadLine{}, fmt.Errorf("size: want %d, as the checkpoint has it, got %d", c.Size, text.Size)
	}
	return HeadLine{at, c}, nil
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
	if bytes.HasPrefix(line, []byte(`{"time":`)) {
		l, err := ParseHeadLine(line)
		return seen{at: l.Checkpoint.Size, digest: l.Checkpoint.Root, note: l.Checkpoint.Note}, err
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

// position says where in a witness something is.
func (w *Witness) position() string { return fmt.Sprintf("%s, line %d", w.name, w.line) }

// checkpointLine is the line of an export with the head that its records lead to.
type checkpointLine struct {
	Checkpoint string `json:"checkpoint"`
}

// Line is the checkpoint as the last line of an export has it: {"checkpoint":"…"}.
func (c Checkpoint) Line() []byte {
	return append(appendText([]byte(`{"checkpoint":`), c.Note), "}\n"...)
}

// parseCheckpointLine reads such a line, without looking at the signature. It is false
// for a line that is not meant to be one.
func parseCheckpointLine(line []byte) (c Checkpoint, is bool, err error) {
	if !bytes.HasPrefix(line, []byte(`{"checkpoint":`)) {
		return c, false, nil
	}
	var text checkpointLine
	if err := strictly(line, &text); err != nil {
		return c, true, err
	}
	c, err = claimed(text.Checkpoint)
	if err == nil && !bytes.Equal(bytes.TrimSuffix(c.Line(), []byte("\n")), bytes.TrimSuffix(line, []byte("\n"))) {
		err = errors.New("it is not as AgentKeys writes it: another spelling")
	}
	return c, true, err
}
