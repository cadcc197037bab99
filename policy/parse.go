package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// The two versions of the policy language. A document without a version is of
// the older one, which has no policy variables.
const (
	version2012 = "2012-10-17"
	version2008 = "2008-10-17"
)

// MaxDocument is the size of the largest document that Parse reads, in bytes:
// the most that IAM takes in a PolicyDocument parameter.
const MaxDocument = 131072

// ParseError says what is wrong with a document.
type ParseError struct {
	Statement int    // index of the statement, or -1 for the document itself
	Element   string // "Effect", "Condition", …; "" where the text is no JSON
	Reason    string // what was wanted and what was there
	Missing   bool   // the element is required and absent
	empty     bool   // there is a Statement, without statements
}

func (e *ParseError) Error() string {
	where := ""
	if e.Statement >= 0 {
		where = fmt.Sprintf("Statement[%d]: ", e.Statement)
	}
	if e.Element != "" {
		where += e.Element + ": "
	}
	return "parsing policy document: " + where + e.Reason
}

// Parse reads a policy document. It refuses members that it does not know,
// that appear twice or are spelled in another case, values of the wrong type,
// unknown operators, malformed patterns and policy variables where the language
// has none, and anything after the document. What a document may hold in a
// certain place is for Validate. Errors are of type *ParseError.
func Parse(data []byte) (*Document, error) {
	if err := checkText(data); err != nil {
		return nil, err
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(data)), statement: -1}
	p.dec.UseNumber()
	d := &Document{}
	if err := p.document(d); err != nil {
		var perr *ParseError
		if errors.As(err, &perr) {
			return nil, perr
		}
		return nil, &ParseError{Statement: p.statement, Reason: err.Error()}
	}
	if _, err := d.compile(); err != nil {
		return nil, err
	}
	return d, nil
}

// UnmarshalJSON is Parse, for documents inside other JSON.
func (d *Document) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err != nil {
		return err
	}
	*d = *parsed
	return nil
}

// checkText refuses what is no JSON, and text that encoding/json would silently
// repair: bytes that are not UTF-8 and escapes of half a surrogate pair.
func checkText(data []byte) error {
	switch {
	case len(data) > MaxDocument:
		return &ParseError{Statement: -1, Reason: fmt.Sprintf("want at most %d bytes, got %d", MaxDocument, len(data))}
	case !utf8.Valid(data):
		return &ParseError{Statement: -1, Reason: "want UTF-8"}
	case !json.Valid(data):
		return &ParseError{Statement: -1, Reason: "want one JSON object and nothing after it"}
	case hasLoneSurrogate(data):
		return &ParseError{Statement: -1, Reason: `want both halves of a surrogate pair after \u`}
	}
	return nil
}

// hasLoneSurrogate looks at valid JSON, where a backslash stands only in strings.
func hasLoneSurrogate(data []byte) bool {
	for i := 0; i+1 < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		if data[i+1] != 'u' {
			i++
			continue
		}
		switch surrogate(data[i:]) {
		case 1:
			if surrogate(data[i+6:]) != 2 {
				return true
			}
			i += 11
		case 2:
			return true
		default:
			i += 5
		}
	}
	return false
}

// surrogate returns 1 for an escape of a high surrogate at the start of data, 2
// for a low one, and 0 for anything else.
func surrogate(data []byte) int {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' || data[2]|0x20 != 'd' {
		return 0
	}
	switch data[3] | 0x20 {
	case '8', '9', 'a', 'b':
		return 1
	case 'c', 'd', 'e', 'f':
		return 2
	}
	return 0
}

// parser walks the tokens of a document that is known to be valid JSON.
type parser struct {
	dec       *json.Decoder
	statement int
}

func (p *parser) errorf(element, format string, args ...any) error {
	return &ParseError{Statement: p.statement, Element: element, Reason: fmt.Sprintf(format, args...)}
}

// object reads an object and calls member at the value of each of its members.
func (p *parser) object(element string, member func(name string) error) error {
	tok, err := p.dec.Token()
	if err != nil {
		return err
	}
	if tok != json.Delim('{') {
		return p.errorf(element, "want an object, got %s", describe(tok))
	}
	return p.members(element, member)
}

// members reads the members of an object after its opening brace.
func (p *parser) members(element string, member func(name string) error) error {
	seen := make(map[string]bool)
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return err
		}
		name, _ := tok.(string)
		if seen[name] {
			return p.errorf(element, "want each member once, got %q twice", clip(name))
		}
		seen[name] = true
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := p.dec.Token()
	return err
}

func (p *parser) document(d *Document) error {
	err := p.object("", func(name string) (err error) {
		switch name {
		case "Version":
			if d.Version, err = p.text(name); err == nil && d.Version == "" {
				err = p.errorf(name, "want %q or %q, got %q", version2012, version2008, "")
			}
		case "Id":
			d.ID, err = p.text(name)
		case "Statement":
			err = p.statements(d)
		default:
			err = p.errorf("", "want Version, Id or Statement, got %q", clip(name))
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := p.dec.Token(); err != io.EOF {
		return p.errorf("", "want nothing after the document")
	}
	return nil
}

// statements reads one statement or a list of them.
func (p *parser) statements(d *Document) error {
	tok, err := p.dec.Token()
	if err != nil {
		return err
	}
	read := func() error {
		var s Statement
		p.statement = len(d.Statements)
		err := p.members("", func(name string) error { return p.statementMember(&s, name) })
		d.Statements = append(d.Statements, s)
		return err
	}
	if tok == json.Delim('{') {
		err := read()
		if err == nil {
			p.statement = -1
		}
		return err
	}
	if tok != json.Delim('[') {
		return p.errorf("Statement", "want an object or a list of objects, got %s", describe(tok))
	}
	d.Statements = []Statement{}
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return err
		}
		if tok != json.Delim('{') {
			return p.errorf("Statement", "want an object, got %s", describe(tok))
		}
		if err := read(); err != nil {
			return err
		}
	}
	p.statement = -1
	_, err = p.dec.Token()
	return err
}

func (p *parser) statementMember(s *Statement, name string) (err error) {
	switch name {
	case "Sid":
		s.Sid, err = p.text(name)
	case "Effect":
		var text string
		if text, err = p.text(name); err == nil && text == "" {
			err = p.errorf(name, `want Allow or Deny, got ""`)
		}
		s.Effect = Effect(text)
	case "Principal":
		s.Principal, err = p.principals(name)
	case "NotPrincipal":
		s.NotPrincipal, err = p.principals(name)
	case "Action":
		s.Action, err = p.texts(name, false)
	case "NotAction":
		s.NotAction, err = p.texts(name, false)
	case "Resource":
		s.Resource, err = p.texts(name, false)
	case "NotResource":
		s.NotResource, err = p.texts(name, false)
	case "Condition":
		s.Condition, err = p.conditions()
	default:
		err = p.errorf("", "want an element of a statement, got %q", clip(name))
	}
	return err
}

func (p *parser) principals(element string) (*Principals, error) {
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	if tok == "*" {
		return &Principals{Any: true}, nil
	}
	if tok != json.Delim('{') {
		return nil, p.errorf(element, `want "*" or an object, got %s`, describe(tok))
	}
	out := &Principals{}
	err = p.members(element, func(name string) (err error) {
		var list *[]string
		switch name {
		case "AWS":
			list = &out.AWS
		case "Federated":
			list = &out.Federated
		case "Service":
			list = &out.Service
		case "CanonicalUser":
			list = &out.CanonicalUser
		default:
			return p.errorf(element, "want AWS, Federated, Service or CanonicalUser, got %q", clip(name))
		}
		if *list, err = p.texts(element, false); err == nil && len(*list) == 0 {
			err = p.errorf(element, "want at least one value under %s, got none", name)
		}
		return err
	})
	return out, err
}

func (p *parser) conditions() ([]Condition, error) {
	var out []Condition
	err := p.object("Condition", func(operator string) error {
		before := len(out)
		err := p.object("Condition", func(key string) error {
			values, err := p.texts("Condition", true)
			out = append(out, Condition{Operator: operator, Key: key, Values: values})
			return err
		})
		if err == nil && len(out) == before {
			err = p.errorf("Condition", "want at least one key under %q, got none", clip(operator))
		}
		return err
	})
	return out, err
}

// text reads a string.
func (p *parser) text(element string) (string, error) {
	tok, err := p.dec.Token()
	if err != nil {
		return "", err
	}
	s, ok := tok.(string)
	if !ok {
		return "", p.errorf(element, "want a string, got %s", describe(tok))
	}
	return s, nil
}

// texts reads one value or a list of them; a list may be empty. scalars says
// whether numbers and booleans stand for their text, as they do in conditions.
func (p *parser) texts(element string, scalars bool) ([]string, error) {
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	if tok != json.Delim('[') {
		s, err := p.scalar(element, tok, scalars)
		return []string{s}, err
	}
	out := []string{}
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		s, err := p.scalar(element, tok, scalars)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	_, err = p.dec.Token()
	return out, err
}

func (p *parser) scalar(element string, tok json.Token, scalars bool) (string, error) {
	switch v := tok.(type) {
	case string:
		return v, nil
	case json.Number:
		if scalars {
			return v.String(), nil
		}
	case bool:
		if scalars {
			return fmt.Sprint(v), nil
		}
	}
	want := "a string or a list of strings"
	if scalars {
		want = "a string, a number, a boolean or a list of them"
	}
	return "", p.errorf(element, "want %s, got %s", want, describe(tok))
}

// describe names the type of a token, and the text of a short string.
func describe(tok json.Token) string {
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' {
			return "an object"
		}
		return "a list"
	case string:
		return fmt.Sprintf("the string %q", clip(v))
	case json.Number:
		return "the number " + clip(v.String())
	case bool:
		return fmt.Sprint(v)
	default:
		return "null"
	}
}
