package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// object is a JSON object whose values are strings and numbers: all that the
// headers, session claims and key files here consist of.
type object map[string]any

// parseObject reads a flat JSON object strictly. encoding/json alone would
// take the last of two members of one name, match names regardless of case and
// mend broken UTF-8; each lets two readers see two meanings in one text.
func parseObject(data []byte) (object, error) {
	if !json.Valid(data) {
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	o := object{}
	for d.More() {
		name, value, err := member(d)
		if err != nil {
			return nil, err
		}
		if _, twice := o[name]; twice {
			return nil, errors.New("a member occurs twice")
		}
		o[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("the object does not end")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("text after the object")
	}
	return o, nil
}

func member(d *json.Decoder) (name string, value any, err error) {
	key, err := d.Token()
	if err != nil {
		return "", nil, errors.New("not JSON")
	}
	value, err = d.Token()
	if err != nil {
		return "", nil, errors.New("not JSON")
	}
	name, ok := key.(string)
	if !ok || !wellFormed(name) {
		return "", nil, errors.New("a member's name is not valid UTF-8")
	}
	switch v := value.(type) {
	case json.Number:
		return name, v, nil
	case string:
		if !wellFormed(v) {
			return "", nil, errors.New("a member is not valid UTF-8")
		}
		return name, v, nil
	}
	return "", nil, errors.New("a member is neither a string nor a number")
}

// wellFormed refuses the replacement character as well: it is what the decoder
// makes of broken UTF-8 and of lone surrogates.
func wellFormed(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, utf8.RuneError)
}

// only refuses members other than the named ones.
func (o object) only(names ...string) error {
	for name := range o {
		if !slices.Contains(names, name) {
			return fmt.Errorf("want no member but %s, got another", strings.Join(names, ", "))
		}
	}
	return nil
}

// text returns a string member that must be there and not be empty.
func (o object) text(name string) (string, error) {
	s, ok := o[name].(string)
	if !ok || s == "" {
		return "", fmt.Errorf("want %s as a text, got none", name)
	}
	return s, nil
}

// lastSecond is the end of the year 9999, the last one that RFC 3339 writes.
const lastSecond = 253402300799

// seconds returns a NumericDate (RFC 7519, section 2) in whole seconds.
func (o object) seconds(name string) (time.Time, error) {
	n, ok := o[name].(json.Number)
	if !ok {
		return time.Time{}, fmt.Errorf("want %s as a number, got none", name)
	}
	sec, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil || sec < 1 || sec > lastSecond {
		return time.Time{}, fmt.Errorf("%s: want whole seconds from 1 to %d", name, lastSecond)
	}
	return time.Unix(sec, 0).UTC(), nil
}
