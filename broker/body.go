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
	"strings"
	"time"
	"unicode/utf8"

	"agentkeys/api"
)

// decode reads a JSON object of type T, strictly: a member that T does not
// have, one that is there twice, text that is not UTF-8 and anything behind the
// object are refused. encoding/json alone would take the last of two members
// and any spelling of a name's case.
func decode[T any](c *call) (T, error) {
	var v T
	data, err := readBody(c)
	if err != nil {
		return v, err
	}
	if err := checkMembers(data, memberNames(reflect.TypeFor[T]())); err != nil {
		return v, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
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
	return checkMembers(data, nil)
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

// checkMembers walks the outer object once and holds its member names to the
// known ones.
func checkMembers(data []byte, known map[string]bool) error {
	if !utf8.Valid(data) {
		return api.Errorf(api.CodeBadRequest, "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return api.Errorf(api.CodeBadRequest, "want a JSON object")
	}
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return api.Errorf(api.CodeBadRequest, "reading the body: %s", describe(err))
		}
		name, _ := t.(string)
		switch {
		case !known[name]:
			return api.Errorf(api.CodeUnknownField, "the body has the member %q, which is not known here", clip(name))
		case seen[name]:
			return api.Errorf(api.CodeBadRequest, "the body has the member %q twice", clip(name))
		}
		seen[name] = true
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return api.Errorf(api.CodeBadRequest, "reading the body: %s", describe(err))
		}
	}
	if _, err := d.Token(); err != nil {
		return api.Errorf(api.CodeBadRequest, "reading the body: %s", describe(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return api.Errorf(api.CodeBadRequest, "there is something behind the JSON object")
	}
	return nil
}

// describe names a JSON error without echoing what was sent.
func describe(err error) string {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		want := "a string"
		if wrongType.Type.Kind() != reflect.String {
			want = "a whole number"
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

func memberNames(t reflect.Type) map[string]bool {
	names := make(map[string]bool)
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names[name] = true
	}
	return names
}
