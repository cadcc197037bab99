package audit

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// headLine is a line of a file of heads.
type headLine struct {
	Time       string `json:"time"`
	Size       int64  `json:"size"`
	Checkpoint string `json:"checkpoint"`
}

// headBegin is how every line of a file of heads begins.
const headBegin = `{"time":`

// HeadLine is the line of a file of heads for a checkpoint and the time, to the
// millisecond, that it was seen at: {"time":"…","size":N,"checkpoint":"…"} and a line
// break, of which the last member is the signed note.
func HeadLine(at time.Time, c Checkpoint) []byte {
	b := append(appendTime(append([]byte(headBegin), '"'), at), `","size":`...)
	return append(appendText(fmt.Appendf(b, `%d,"checkpoint":`, c.Size), c.Note), "}\n"...)
}

// ParseHeadLine reads a line that HeadLine wrote, with or without its line break, and
// no other spelling of it. Nobody has checked what the checkpoint says: see
// OpenCheckpoint.
func ParseHeadLine(line []byte) (at time.Time, c Checkpoint, err error) {
	if len(line) > MaxLine {
		return at, c, fmt.Errorf("want a line of at most %d bytes, got %d", MaxLine, len(line))
	}
	var l headLine
	if err := strictly(line, &l); err != nil {
		return at, c, err
	}
	at, err = time.Parse(timeForm, l.Time)
	if err != nil || at.Year() < 1970 {
		return at, c, fmt.Errorf("time: want RFC 3339 with milliseconds in UTC from 1970 to 9999, got %.40q", l.Time)
	}
	if c, err = claimed(l.Checkpoint); err != nil {
		return at, c, fmt.Errorf("checkpoint: %w", err)
	}
	if c.Size != l.Size {
		return at, c, fmt.Errorf("size: want %d, as the checkpoint has it, got %d", c.Size, l.Size)
	}
	if !bytes.Equal(bytes.TrimSuffix(HeadLine(at, c), []byte("\n")), bytes.TrimSuffix(line, []byte("\n"))) {
		return at, c, errors.New("it is not as AgentKeys writes it: another spelling")
	}
	return at, c, nil
}
