package localaws

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	s3Namespace  = "http://s3.amazonaws.com/doc/2006-03-01/"
	s3TimeFormat = "2006-01-02T15:04:05.000Z"
)

// s3Error is S3's error document.
type s3Error struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Region    string `xml:",omitempty"` // that the request should have been signed for
	Resource  string
	RequestID string `xml:"RequestId"`
	HostID    string `xml:"HostId"`
}

// writeError answers with a refusal. An answer to HEAD has no body.
func (c *s3Call) writeError(e *apiError) {
	if e.Code == "InternalFailure" { // the query protocol's name for it
		e = &apiError{Status: e.Status, Code: "InternalError", Message: "We encountered an internal error. Please try again."}
	}
	doc := s3Error{Code: e.Code, Message: e.Message, Resource: xmlSafe(rawPath(c.r)), RequestID: c.id, HostID: c.w.Header().Get("X-Amz-Id-2")}
	doc.Message = xmlSafe(e.Message)
	if strings.HasPrefix(e.Code, "Authorization") {
		doc.Region = c.b.server.config.Region
	}
	body, err := xml.Marshal(doc)
	if err != nil {
		http.Error(c.w, "InternalError", http.StatusInternalServerError)
		return
	}
	if e.Status == http.StatusNotModified {
		c.w.WriteHeader(e.Status)
		return
	}
	for _, name := range []string{"ETag", "Content-Length", "Content-Range", "Last-Modified"} {
		c.w.Header().Del(name)
	}
	c.w.Header().Set("Content-Type", "application/xml")
	c.w.WriteHeader(e.Status)
	if c.r.Method != http.MethodHead {
		_, _ = io.WriteString(c.w, xml.Header+string(body)) // the client may be gone; there is nothing left to tell it
	}
}

// xmlSafe replaces what no XML document can hold, in texts that only people read.
func xmlSafe(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r == utf8.RuneError || r == 0xFFFE || r == 0xFFFF {
			return '?'
		}
		return r
	}, text)
}

// writeXML answers 200 with a document.
func (c *s3Call) writeXML(v any) *apiError {
	body, err := xml.Marshal(v)
	if err != nil {
		return c.fault(err)
	}
	return c.writeXMLText(http.StatusOK, string(body))
}

func (c *s3Call) writeXMLText(status int, body string) *apiError {
	c.w.Header().Set("Content-Type", "application/xml")
	c.w.WriteHeader(status)
	_, _ = io.WriteString(c.w, xml.Header+body) // as in writeError
	return nil
}

func (c *s3Call) writeStatus(status int) *apiError {
	c.w.WriteHeader(status)
	return nil
}

// readBody takes in a small body to its end, where it is verified.
func (c *s3Call) readBody(limit int64) ([]byte, *apiError) {
	data, err := io.ReadAll(io.LimitReader(c.r.Body, limit+1))
	if int64(len(data)) > limit {
		return nil, refuse(http.StatusBadRequest, "MaxMessageLengthExceeded", "Your request was too big: the limit is %d bytes.", limit)
	}
	if err != nil {
		return nil, c.bodyFault(err)
	}
	return data, nil
}

// bodyFault tells a refusal of the body from a connection that broke and from
// a fault of ours.
func (c *s3Call) bodyFault(err error) *apiError {
	var refusal *apiError
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, io.ErrUnexpectedEOF) || c.r.Context().Err() != nil:
		return incompleteBody()
	}
	return c.fault(err)
}

// readXML reads a body that must be one XML document of v's root.
func (c *s3Call) readXML(limit int64, v any) *apiError {
	data, e := c.readBody(limit)
	if e != nil {
		return e
	}
	d := xml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(v); err != nil {
		return malformedXML()
	}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if text, ok := token.(xml.CharData); err != nil || !ok || len(bytes.TrimSpace(text)) > 0 {
			return malformedXML()
		}
	}
}

func malformedXML() *apiError {
	return refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
}

// xmlKey is an object key in a listing. Where the client did not ask for
// URL-encoding, characters that XML 1.0 cannot hold go out as the character
// references that S3 sends; encoding/xml would replace them.
type xmlKey struct {
	text string
	url  bool
}

// MarshalXML implements xml.Marshaler.
func (k xmlKey) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	var b bytes.Buffer
	if k.url {
		b.WriteString(uriEncode(k.text, true))
	} else {
		for _, r := range k.text {
			if r < ' ' || r == 0xFFFE || r == 0xFFFF {
				b.WriteString("&#x" + strconv.FormatInt(int64(r), 16) + ";")
				continue
			}
			if err := xml.EscapeText(&b, []byte(string(r))); err != nil {
				return err
			}
		}
	}
	return e.EncodeElement(struct {
		Inner []byte `xml:",innerxml"`
	}{b.Bytes()}, start)
}

// quoted is an ETag as S3 shows it.
func quoted(etag string) string { return `"` + etag + `"` }

func s3Time(t time.Time) string { return t.UTC().Format(s3TimeFormat) }
