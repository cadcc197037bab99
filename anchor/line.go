package anchor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"agentkeys/audit"
)

// maxLine is the longest line in bytes, with its line break. What audit admits
// has at most a fifth of it.
const maxLine = 16 << 10

// timeForm is RFC 3339 with milliseconds, in UTC.
const timeForm = "2006-01-02T15:04:05.000Z"

// line is a record in JSON. A member that is empty is left out.
type line struct {
	ID   string `json:"id"`
	Time string `json:"time"`
	members
}

// members is audit.Record with its names in JSON. The one is converted to the
// other, so a member that is added there does not compile until it has a name
// here; it must be left out when empty, or older files cannot be read any more.
type members struct {
	Seq           int64     `json:"-"`
	ID            string    `json:"-"`
	Time          time.Time `json:"-"`
	Action        string    `json:"action,omitempty"`
	Outcome       string    `json:"outcome,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	IdentityType  string    `json:"identity_type,omitempty"`
	IdentityValue string    `json:"identity_value,omitempty"`
	OmniAccount   string    `json:"omni_account,omitempty"`
	Wallet        string    `json:"wallet,omitempty"`
	KeyID         string    `json:"key_id,omitempty"`
	TokenID       string    `json:"token_id,omitempty"`
	Source        string    `json:"source,omitempty"`
	RequestID     string    `json:"request_id,omitempty"`

	Tenant       string `json:"tenant,omitempty"`
	Agent        string `json:"agent,omitempty"`
	Service      string `json:"service,omitempty"`
	ScopePath    string `json:"scope_path,omitempty"`
	GrantID      string `json:"grant_id,omitempty"`
	CredentialID string `json:"credential_id,omitempty"`
	Settles      string `json:"settles,omitempty"`

	Detail string `json:"detail,omitempty"`
}

// encode gives the line of a record. It refuses what would not read back as the
// same record.
func encode(r audit.Record) ([]byte, error) {
	r.Time = time.UnixMilli(r.Time.UnixMilli()).UTC() // as audit keeps it
	text, err := marshal(r)
	if err != nil {
		return nil, err
	}
	switch back, err := parse(text); {
	case err != nil:
		return nil, err
	case back != r:
		return nil, errors.New("want UTF-8 in every member, got other bytes")
	}
	return text, nil
}

func marshal(r audit.Record) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // for people who look for a text in the file
	err := e.Encode(line{ID: r.ID, Time: r.Time.Format(timeForm), members: members(r)})
	if err == nil && b.Len() > maxLine {
		err = fmt.Errorf("want a line of at most %d bytes, got %d", maxLine, b.Len())
	}
	return b.Bytes(), err
}

// decode reads a line, of which there is one spelling alone: another order,
// another escape or a member twice would make two lines of one record.
func decode(text []byte) (audit.Record, error) {
	r, err := parse(text)
	if err != nil {
		return r, err
	}
	switch again, err := marshal(r); {
	case err != nil:
		return r, err
	case !bytes.Equal(again, text):
		return r, errors.New("it is not as AgentKeys writes it: another spelling, or a member that is not known")
	}
	return r, nil
}

func parse(text []byte) (audit.Record, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return audit.Record{}, fmt.Errorf("want a JSON object of strings: %w", err)
	}
	r := audit.Record(l.members)
	r.ID = l.ID
	var err error
	if r.Time, err = time.Parse(timeForm, l.Time); err != nil || r.Time.Year() < 1970 {
		return audit.Record{}, fmt.Errorf("time: want RFC 3339 with milliseconds in UTC from 1970 to 9999, got %.40q", l.Time)
	}
	for _, m := range []struct{ name, value string }{
		{"id", r.ID}, {"action", r.Action}, {"outcome", r.Outcome}, {"request_id", r.RequestID},
	} {
		if m.value == "" {
			return audit.Record{}, fmt.Errorf("%s is missing", m.name)
		}
	}
	return r, nil
}

// ReadFile reads the records of a file in the order in which they were put. It
// is strict: the first line that is not exactly one that File writes, a line
// that is cut off included, ends it with an error that names the line and the
// byte where it begins. A record that was put twice comes twice.
func ReadFile(r io.Reader) iter.Seq2[audit.Record, error] {
	return func(yield func(audit.Record, error) bool) {
		in := bufio.NewReaderSize(r, maxLine)
		offset := 0
		for n := 1; ; n++ {
			text, err := in.ReadSlice('\n')
			if err == io.EOF && len(text) == 0 {
				return
			}
			record, err := readLine(text, err)
			if err != nil {
				yield(audit.Record{}, fmt.Errorf("reading anchor file: line %d, at byte %d: %w", n, offset, err))
				return
			}
			if !yield(record, nil) {
				return
			}
			offset += len(text)
		}
	}
}

// readLine decodes what a bufio.Reader gave as a line.
func readLine(text []byte, err error) (audit.Record, error) {
	switch {
	case err == io.EOF:
		return audit.Record{}, errors.New("it is cut off: want a line break at its end")
	case errors.Is(err, bufio.ErrBufferFull):
		return audit.Record{}, fmt.Errorf("want a line of at most %d bytes, got more", maxLine)
	case err != nil:
		return audit.Record{}, err
	}
	return decode(text)
}
