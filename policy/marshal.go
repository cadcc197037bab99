package policy

import (
	"bytes"
	"encoding/json"
)

// MarshalJSON writes the document with AWS' member names in the order in which
// AWS documents them. A list of one is written as the value alone. Conditions
// under one operator are gathered where the operator first stands.
func (d Document) MarshalJSON() ([]byte, error) {
	if _, err := d.compile(); err != nil {
		return nil, err
	}
	var w objectWriter
	w.text("Version", d.Version)
	w.text("Id", d.ID)
	list := make([]json.RawMessage, len(d.Statements))
	for i := range d.Statements {
		list[i] = d.Statements[i].encode()
	}
	w.value("Statement", list)
	return w.close(), nil
}

func (s *Statement) encode() []byte {
	var w objectWriter
	w.text("Sid", s.Sid)
	w.text("Effect", string(s.Effect))
	w.principals("Principal", s.Principal)
	w.principals("NotPrincipal", s.NotPrincipal)
	w.texts("Action", s.Action)
	w.texts("NotAction", s.NotAction)
	w.texts("Resource", s.Resource)
	w.texts("NotResource", s.NotResource)
	if len(s.Condition) > 0 {
		w.value("Condition", encodeConditions(s.Condition))
	}
	return w.close()
}

func encodeConditions(list []Condition) json.RawMessage {
	var w objectWriter
	done := make(map[string]bool)
	for _, c := range list {
		if done[c.Operator] {
			continue
		}
		done[c.Operator] = true
		var keys objectWriter
		for _, other := range list {
			if other.Operator == c.Operator {
				keys.texts(other.Key, append([]string{}, other.Values...))
			}
		}
		w.value(c.Operator, json.RawMessage(keys.close()))
	}
	return w.close()
}

// objectWriter writes the members of one JSON object in order.
type objectWriter struct{ buf bytes.Buffer }

// value writes a member. What it is given are strings, lists of strings and
// JSON that it wrote itself, none of which fails to encode.
func (w *objectWriter) value(name string, v any) {
	if w.buf.Len() == 0 {
		w.buf.WriteByte('{')
	} else {
		w.buf.WriteByte(',')
	}
	w.encode(name)
	w.buf.WriteByte(':')
	w.encode(v)
}

// encode leaves <, > and & as they are: a policy is read by people.
func (w *objectWriter) encode(v any) {
	enc := json.NewEncoder(&w.buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("policy: encoding a string failed: " + err.Error())
	}
	w.buf.Truncate(w.buf.Len() - 1) // Encode ends with a newline
}

func (w *objectWriter) text(name, s string) {
	if s != "" {
		w.value(name, s)
	}
}

// texts writes a list that is present, which a list that is nil is not.
func (w *objectWriter) texts(name string, list []string) {
	switch {
	case len(list) == 1:
		w.value(name, list[0])
	case list != nil:
		w.value(name, list)
	}
}

func (w *objectWriter) principals(name string, p *Principals) {
	switch {
	case p == nil:
	case p.Any:
		w.value(name, "*")
	default:
		var members objectWriter
		for _, m := range p.members() {
			members.texts(m.name, m.list)
		}
		w.value(name, json.RawMessage(members.close()))
	}
}

func (w *objectWriter) close() []byte {
	if w.buf.Len() == 0 {
		w.buf.WriteByte('{')
	}
	w.buf.WriteByte('}')
	return w.buf.Bytes()
}
