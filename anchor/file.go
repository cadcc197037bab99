package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"agentkeys/audit"
)

// File is an append-only file of audit records, a line of audit.Entry.Line each. It
// is safe for concurrent use: records that wait share one write and one flush.
type File struct {
	*lines
	last *audit.RawLine
}

var records = kind{"anchor file", "--anchor-file", func(line []byte) error {
	_, err := parseRecord(line)
	return err
}}

// CreateFile makes an empty file of mode 0600 and returns when it and its name
// are durable. It refuses a path where anything exists already, a symbolic link
// included.
func CreateFile(path string) error { return records.create(path) }

// OpenFile opens a file that CreateFile made, for this process alone. It refuses
// a file that is missing, no regular file or a symbolic link, that others than
// its owner can reach, that another File has open (ErrInUse), and one whose last
// line is cut off or no record.
func OpenFile(path string) (*File, error) {
	l, err := records.open(path)
	if err != nil {
		return nil, err
	}
	f := &File{lines: l}
	if l.tail != nil {
		last, _ := audit.ParseLine(l.tail) // open has parsed it
		f.last = &last
	}
	return f, nil
}

// Name is what the configuration and the answers of the broker call this kind.
func (f *File) Name() string { return "file" }

// Last is the last line when the file was opened, and false where it had none. It has
// all records up to the place of that line which were ever put into it.
func (f *File) Last() (audit.RawLine, bool) {
	if f.last == nil {
		return audit.RawLine{}, false
	}
	return *f.last, true
}

// Put appends records as the database has them, in one write, and returns nil when
// all of them are durable. After an error they may be in the file or not, in part
// too, except that nothing is when the error comes before any writing (one cannot be
// read back, or its leaf is not that of the hash which was kept with it; the context
// had ended, the file is closed or has stopped).
//
// Putting a record again is fine, and puts another line with the same content;
// Put does not look for two different records at one place, nor for missing ones.
//
// When the context ends, Put returns at once, also while the disk hangs: what is
// being written goes on in the background, and a record that still waits for its
// turn is not written any more. A bounded number waits; further ones wait for
// room until their contexts end.
//
// When the disk is full, or takes a part only, the file is cut back to its last
// durable record and stays in use. When it cannot be cut, when a flush fails or
// when somebody else changed the file, it refuses everything until it is opened
// again.
func (f *File) Put(ctx context.Context, entries ...audit.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	fail := func(e *audit.Entry, err error) error {
		return fmt.Errorf("putting the audit record at place %d into anchor file %q: %w", e.Seq, f.path, err)
	}
	var text []byte
	for i := range entries {
		line, err := lineOf(&entries[i])
		if err != nil {
			return fail(&entries[i], err)
		}
		text = append(text, line...)
	}
	if err := f.put(ctx, text); err != nil {
		return fail(&entries[0], err)
	}
	return nil
}

// lineOf is the line of an entry. It refuses one that would not read back as the same
// entry, and one whose hash, as it was kept with it, is another by now.
func lineOf(e *audit.Entry) ([]byte, error) {
	text := e.Line()
	back, err := parseRecord(text)
	if err != nil {
		return nil, err
	}
	if len(e.Hash) > 0 && !bytes.Equal(e.Hash, back.Hash) {
		return nil, fmt.Errorf("want the hash %x that was kept with it, got %x: it was changed", e.Hash, back.Hash)
	}
	return text, nil
}

// parseRecord reads a line, of which there is one spelling alone.
func parseRecord(text []byte) (audit.Entry, error) {
	if bytes.HasPrefix(text, []byte(`{"id":`)) {
		return audit.Entry{}, errors.New("it is of the form from before the audit log was a tree: keep the file, and have agentkeys init --anchor-file FILE make a new one")
	}
	if len(text) > maxLine {
		return audit.Entry{}, fmt.Errorf("want a line of at most %d bytes, got %d", maxLine, len(text))
	}
	l, err := audit.ParseLine(text)
	if err != nil {
		return audit.Entry{}, err
	}
	if err := l.Check(); err != nil {
		return audit.Entry{}, err
	}
	e, err := l.Entry()
	if err != nil {
		return audit.Entry{}, err
	}
	if !bytes.Equal(l.Append(nil), text) {
		return audit.Entry{}, errors.New("it is not as AgentKeys writes it: another spelling")
	}
	return e, nil
}

// ReadFile reads the records of a file in the order in which they were put. It
// is strict: the first line that is not exactly one that File writes, a line
// that is cut off included, ends it with an error that names the line and the
// byte where it begins. A record that was put twice comes twice.
func ReadFile(r io.Reader) iter.Seq2[audit.Entry, error] { return read(r, records, parseRecord) }
