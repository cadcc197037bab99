package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"agentkeys/api"
)

// decode reads a JSON object of type T, strictly and at every depth: a member
// that T does not have, one that is there twice or missing, null, text that is
// not UTF-8 and anything behind the object are refused. encoding/json alone would
// take the last of two members, any spelling of a name's case, and zero for what
// is missing.
//
// A member whose tag says omitempty may be left out, but not sent empty: whether
// "" or [] means the same as nothing, or its opposite, would be a guess.
func decode[T any](c *call) (T, error) {
	v, _, err := decodeRaw[T](c)
	return v, err
}

// decodeRaw is decode with the body as it was received, for signatures.
func decodeRaw[T any](c *call) (T, []byte, error) {
	var v T
	data, err := readBody(c)
	if err != nil {
		return v, nil, err
	}
	v, err = decodeBody[T](data)
	return v, data, err
}

func decodeBody[T any](data []byte) (v T, err error) {
	if err := checkBody(data, reflect.TypeFor[T]()); err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, api.Errorf(api.CodeBadRequest, "reading the body: %s", describe(err))
	}
	return v, nil
}

// decodeNothing accepts no body or an empty object.
func decodeNothing(c *call) error {
	if c.r.ContentLength == 0 {
		return nil
	}
	data, err := c.readAll()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if err := checkType(c.r); err != nil {
		return err
	}
	return checkBody(data, reflect.TypeFor[struct{}]())
}

func readBody(c *call) ([]byte, error) {
	if err := checkType(c.r); err != nil {
		return nil, err
	}
	return c.readAll()
}

// readAll reads the body within its own time, so that a body that never ends
// does not take the time that the record needs.
func (c *call) readAll() ([]byte, error) {
	// A connection that knows no deadline is a test's; the server's own limit holds.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(bodyTimeout))
	data, err := io.ReadAll(c.r.Body)
	if err != nil {
		return nil, bodyError(err)
	}
	return data, nil
}

func checkType(r *http.Request) error {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return api.Errorf(api.CodeUnsupportedMediaType, "want Content-Type application/json")
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return api.Errorf(api.CodeUnsupportedMediaType, "want UTF-8, got another charset")
	}
	return nil
}

func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return api.Errorf(api.CodeBodyTooLarge, "want at most %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return api.Errorf(api.CodeTimeout, "want the whole body within %v", bodyTimeout)
	}
	return api.Errorf(api.CodeBadRequest, "the body ended early")
}

// checkBody holds a body to the members of type t, which must be a struct.
func checkBody(data []byte, t reflect.Type) error {
	data = skipSpace(data)
	switch {
	case !utf8.Valid(data):
		return api.Errorf(api.CodeBadRequest, "the body is not UTF-8")
	case len(data) == 0 || data[0] != '{':
		return api.Errorf(api.CodeBadRequest, "want a JSON object")
	case !json.Valid(data):
		return api.Errorf(api.CodeBadRequest, "reading the body: it is not one JSON object")
	case hasLoneSurrogate(data):
		return api.Errorf(api.CodeBadRequest, "the body has half of a surrogate pair")
	}
	return checkObject(data, t, "")
}

// checkObject holds an object to the fields of the struct t. Path names the object
// inside the body: "", or such as "intent.".
func checkObject(data []byte, t reflect.Type, path string) error {
	known := knownMembers(t)
	seen := make([]bool, len(known))
	for quoted, value := range members(data) {
		name := unquote(quoted)
		i := slices.IndexFunc(known, func(m member) bool { return m.name == name })
		switch {
		case i < 0:
			return api.Errorf(api.CodeUnknownField, "the body has the member %q, which is not known here", path+clip(name))
		case seen[i]:
			return api.Errorf(api.CodeBadRequest, "the body has the member %q twice", path+name)
		}
		seen[i] = true
		if err := checkValue(value, known[i].t, path+name); err != nil {
			return err
		}
		if known[i].optional && known[i].t.Kind() != reflect.Pointer && isEmpty(value) {
			return api.Errorf(api.CodeBadRequest, "the member %q is empty; leave it out, or give it a value", path+name)
		}
	}
	for i, m := range known {
		if !seen[i] && !m.optional {
			return api.Errorf(api.CodeBadRequest, "the body lacks the member %q", path+m.name)
		}
	}
	return nil
}

// checkValue holds a value to a type as far as encoding/json would be lenient
// with it; a string or a number in the other's place is for json.Unmarshal.
func checkValue(data []byte, t reflect.Type, path string) error {
	if t.Kind() == reflect.Pointer {
		if string(data) == "null" {
			return nil
		}
		t = t.Elem()
	}
	if string(data) == "null" {
		return api.Errorf(api.CodeBadRequest, "the member %q is null; want a value", path)
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		own := reflect.New(t).Interface().(json.Unmarshaler)
		if err := own.UnmarshalJSON(data); err != nil { // the types of package api do not echo what they read
			return api.Errorf(api.CodeBadRequest, "member %s: %s", path, err)
		}
		return nil
	}
	switch t.Kind() {
	case reflect.String, reflect.Int64:
		return nil
	case reflect.Struct:
		if data[0] != '{' {
			return api.Errorf(api.CodeBadRequest, "member %s: want an object", path)
		}
		return checkObject(data, t, path+".")
	case reflect.Slice:
		if data[0] != '[' {
			return api.Errorf(api.CodeBadRequest, "member %s: want an array", path)
		}
		for element := range elements(data) {
			if err := checkValue(element, t.Elem(), path); err != nil {
				return err
			}
		}
		return nil
	}
	panic("broker: a request body has a member of type " + t.String() + ", which decode does not know how to check")
}

// unquote reads a member's name.
func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var name string
	_ = json.Unmarshal(quoted, &name) // a string of valid JSON: it cannot fail
	return name
}

// isEmpty says whether encoding/json would leave the value out under omitempty.
func isEmpty(value []byte) bool {
	switch string(value) {
	case `""`, "0", "-0":
		return true
	}
	return value[0] == '[' && skipSpace(value[1:])[0] == ']'
}

// describe names a JSON error without echoing what was sent.
func describe(err error) string {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		want := "a whole number"
		if wrongType.Type.Kind() == reflect.String {
			want = "a string"
		}
		kind, _, _ := strings.Cut(wrongType.Value, " ") // behind the kind of a number stands the number
		return "member " + wrongType.Field + ": want " + want + ", got " + kind
	}
	return "it is not valid JSON"
}

// clip shortens a name that a caller chose, so that an error stays one line.
func clip(name string) string {
	if len(name) <= 40 {
		return name
	}
	return strings.ToValidUTF8(name[:40], "") + "…"
}

// member is what a request type says of one of its members.
type member struct {
	name     string
	optional bool // the tag says omitempty
	t        reflect.Type
}

var (
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	memberLists sync.Map // of reflect.Type to its []member, which is slow to find out
)

func knownMembers(t reflect.Type) []member {
	if known, ok := memberLists.Load(t); ok {
		return known.([]member)
	}
	var known []member
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		known = append(known, member{name: name, optional: options == "omitempty", t: f.Type})
	}
	memberLists.Store(t, known)
	return known
}
