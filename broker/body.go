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
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"agentkeys/api"
)

// decode reads a JSON object of type T, strictly and at every depth: a member
// that T does not have, one that is there twice or missing, null, text that is
// not UTF-8, anything behind the object and a query parameter are refused.
// encoding/json alone would take the last of two members, any spelling of a name's
// case, and zero for what is missing.
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
	if err := noParameters(c); err != nil { // a parameter would be outside of the signature, or be taken to count
		return v, nil, err
	}
	data, err := readBody(c)
	if err != nil {
		return v, nil, err
	}
	v, err = decodeBody[T](data)
	return v, data, err
}

func decodeBody[T any](data []byte) (v T, err error) {
	data = skipSpace(data)
	switch {
	case !utf8.Valid(data):
		return v, api.Errorf(api.CodeBadRequest, "the body is not UTF-8")
	case len(data) == 0 || data[0] != '{':
		return v, api.Errorf(api.CodeBadRequest, "want a JSON object")
	case !json.Valid(data):
		return v, api.Errorf(api.CodeBadRequest, "reading the body: it is not one JSON object")
	case hasLoneSurrogate(data):
		return v, api.Errorf(api.CodeBadRequest, "the body has half of a surrogate pair")
	}
	var read T
	if err := readObject(data, reflect.ValueOf(&read).Elem(), ""); err != nil {
		return v, err // and nothing of a body that was refused
	}
	return read, nil
}

// decodeNothing accepts no body or an empty object.
func decodeNothing(c *call) error {
	if err := noParameters(c); err != nil {
		return err
	}
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
	_, err = decodeBody[struct{}](data)
	return err
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
	if n := len(r.Header.Values("Content-Type")); n > 1 {
		return api.Errorf(api.CodeUnsupportedMediaType, "want one Content-Type, got %d", n)
	}
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return api.Errorf(api.CodeUnsupportedMediaType, "want Content-Type application/json")
	}
	if coding := strings.Join(r.Header.Values("Content-Encoding"), ","); coding != "" && !strings.EqualFold(coding, "identity") { // RFC 9110, section 8.4
		return api.Errorf(api.CodeUnsupportedMediaType, "want a body without Content-Encoding")
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

// readObject reads an object into the struct v and holds it to the fields. Path names
// the object inside the body: "", or such as "intent.".
func readObject(data []byte, v reflect.Value, path string) error {
	known := knownMembers(v.Type())
	seen := make([]bool, len(known))
	for quoted, value := range members(data) {
		name := unquote(quoted)
		i := slices.IndexFunc(known, func(m member) bool { return m.name == string(name) })
		switch {
		case i < 0:
			return api.Errorf(api.CodeUnknownField, "the body has the member %q, which is not known here", path+clip(string(name)))
		case seen[i]:
			return api.Errorf(api.CodeBadRequest, "the body has the member %q twice", path+known[i].name)
		}
		seen[i] = true
		if err := readValue(value, v.Field(i), path, known[i].name); err != nil {
			return err
		}
		if known[i].optional && v.Field(i).Kind() != reflect.Pointer && isEmpty(value) {
			return api.Errorf(api.CodeBadRequest, "the member %q is empty; leave it out, or give it a value", path+known[i].name)
		}
	}
	for i, m := range known {
		if !seen[i] && !m.optional {
			return api.Errorf(api.CodeBadRequest, "the body lacks the member %q", path+m.name)
		}
	}
	return nil
}

// readValue reads the value of the member of that name, or an element of it, into v.
func readValue(data []byte, v reflect.Value, path, name string) error {
	if string(data) == "null" {
		if v.Kind() == reflect.Pointer {
			return nil
		}
		return api.Errorf(api.CodeBadRequest, "the member %q is null; want a value", path+name)
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if own, ok := v.Addr().Interface().(json.Unmarshaler); ok {
		if err := own.UnmarshalJSON(data); err != nil { // the types of package api do not echo what they read
			return api.Errorf(api.CodeBadRequest, "member %s: %s", path+name, err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		if data[0] != '"' {
			return errKind(path+name, "a string", data)
		}
		v.SetString(string(unquote(data)))
		return nil
	case reflect.Int64:
		n, err := strconv.ParseInt(string(data), 10, 64)
		if err != nil {
			return errKind(path+name, "a whole number", data)
		}
		v.SetInt(n)
		return nil
	case reflect.Struct:
		if data[0] != '{' {
			return errKind(path+name, "an object", data)
		}
		return readObject(data, v, path+name+".")
	case reflect.Slice:
		return readArray(data, v, path, name)
	}
	panic("broker: a request body has a member of type " + v.Type().String() + ", which decode cannot read")
}

func readArray(data []byte, v reflect.Value, path, name string) error {
	if data[0] != '[' {
		return errKind(path+name, "an array", data)
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for element := range elements(data) {
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		if err := readValue(element, v.Index(v.Len()-1), path, name); err != nil {
			return err
		}
	}
	return nil
}

// errKind says what a member is to be, without echoing what was sent.
func errKind(name, want string, data []byte) error {
	kind := "number"
	switch data[0] {
	case '"':
		kind = "string"
	case '{':
		kind = "object"
	case '[':
		kind = "array"
	case 't', 'f':
		kind = "bool"
	}
	return api.Errorf(api.CodeBadRequest, "reading the body: member %s: want %s, got %s", name, want, kind)
}

// unquote reads a string of JSON.
func unquote(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var text string
	_ = json.Unmarshal(quoted, &text) // a string of valid JSON: it cannot fail
	return []byte(text)
}

// isEmpty says whether encoding/json would leave the value out under omitempty.
func isEmpty(value []byte) bool {
	switch string(value) {
	case `""`, "0", "-0":
		return true
	}
	return value[0] == '[' && skipSpace(value[1:])[0] == ']'
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
}

var memberLists sync.Map // of reflect.Type to its []member, which is slow to find out

// knownMembers lists the fields of a struct in their order.
func knownMembers(t reflect.Type) []member {
	if known, ok := memberLists.Load(t); ok {
		return known.([]member)
	}
	var known []member
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		known = append(known, member{name: name, optional: options == "omitempty"})
	}
	memberLists.Store(t, known)
	return known
}
