package broker

import (
	"bytes"
	"cmp"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"agentkeys/api"
)

// maxDepth bounds how deep objects and arrays of a signed body may lie in one
// another: more than any needs.
const maxDepth = 16

// maxExact is the largest number that every reader of JSON has exactly (RFC 7493,
// section 2.2).
const maxExact = 1<<53 - 1

// Where a value lies in a signed body, as far as the signature depends on it.
type place int

const (
	inside place = iota // neither of the others
	outer               // the body itself
	inAuth              // the value of its member "auth"
)

// canonical writes the RFC 8785 form of a signed body while it reads it, without
// the member "signature" of its outer member "auth". It accepts JSON (RFC 8259) and
// refuses what callText says; each error is an *api.Error of code bad_request.
//
// Nothing gets longer: what was sent may have white space and longer escapes, and
// numbers stay as they are.
type canonical struct {
	rest    []byte // of the body
	out     []byte
	depth   int
	members []span // of the objects under way, the innermost last
	scratch []byte
	signed  bool // auth.signature was there, and a string
}

// span is one member of an object in out: from its name's quote to the end of its
// value.
type span struct {
	start, nameEnd, end int
	dropped             bool // the signature, which is only there to be found twice
}

// appendCanonical appends the canonical form of a body without its signature.
func appendCanonical(to, body []byte) ([]byte, error) {
	if !utf8.Valid(body) {
		return nil, errNotJSON()
	}
	c := &canonical{rest: skipSpace(body), out: to}
	if err := c.value(outer); err != nil {
		return nil, err
	}
	switch {
	case len(skipSpace(c.rest)) > 0:
		return nil, errNotJSON()
	case !c.signed:
		return nil, errText("want a string auth.signature in the body, got none")
	}
	return c.out, nil
}

func errText(what string, args ...any) error {
	return api.Errorf(api.CodeBadRequest, "reading the signed text: "+what, args...)
}

func errNotJSON() error { return errText("want JSON") }

// value reads the value that rest begins with.
func (c *canonical) value(at place) error {
	if len(c.rest) == 0 {
		return errNotJSON()
	}
	switch c.rest[0] {
	case '{', '[':
		return c.nested(at)
	case '"':
		return c.text()
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	}
	return c.number()
}

// nested reads an object or an array.
func (c *canonical) nested(at place) (err error) {
	if c.depth++; c.depth > maxDepth {
		return errText("want at most %d levels of objects and arrays, got more", maxDepth)
	}
	opening := c.rest[0]
	c.keep(1)
	if opening == '{' {
		err = c.object(at)
	} else {
		err = c.array()
	}
	c.depth--
	return err
}

// keep moves n bytes from rest to out as they are.
func (c *canonical) keep(n int) {
	c.out = append(c.out, c.rest[:n]...)
	c.rest = c.rest[n:]
}

// next steps over white space and says which byte follows, 0 at the end.
func (c *canonical) next() byte {
	if c.rest = skipSpace(c.rest); len(c.rest) == 0 {
		return 0
	}
	return c.rest[0]
}

// more reads what follows a value in an object or array: it is true at a comma, and
// false at the closing bracket, which it keeps.
func (c *canonical) more(closing byte) (bool, error) {
	switch c.next() {
	case ',':
		c.keep(1)
		c.next()
		return true, nil
	case closing:
		c.keep(1)
		return false, nil
	}
	return false, errNotJSON()
}

// array reads the elements, behind the opening bracket.
func (c *canonical) array() error {
	if c.next() == ']' {
		c.keep(1)
		return nil
	}
	for more := true; more; {
		err := c.value(inside)
		if err == nil {
			more, err = c.more(']')
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// object reads the members, behind the opening bracket, and puts them in order.
func (c *canonical) object(at place) error {
	begin, base := len(c.out), len(c.members)
	if c.next() == '}' {
		c.keep(1)
		return nil
	}
	for more := true; more; {
		m, err := c.member(at)
		if err == nil {
			c.members = append(c.members, m)
			more, err = c.more('}')
		}
		if err != nil {
			return err
		}
	}
	err := c.order(begin, c.members[base:])
	c.members = c.members[:base]
	return err
}

func (c *canonical) member(of place) (span, error) {
	m := span{start: len(c.out)}
	if err := c.text(); err != nil {
		return m, err
	}
	m.nameEnd = len(c.out)
	if c.next() != ':' {
		return m, errNotJSON()
	}
	c.keep(1)
	kind, at := c.next(), inside
	switch name := c.out[m.start:m.nameEnd]; {
	case of == outer && string(name) == `"auth"`:
		at = inAuth
	case of == inAuth && string(name) == `"signature"`:
		m.dropped, c.signed = true, kind == '"'
	}
	err := c.value(at)
	m.end = len(c.out)
	return m, err
}

// order sorts the members that out has from begin on by the UTF-16 code units of
// their names (RFC 8785, section 3.2.3), refuses a name that is there twice, and
// leaves out what is dropped.
func (c *canonical) order(begin int, members []span) error {
	sorted := true
	for i := 1; i < len(members); i++ {
		sorted = sorted && c.compare(members[i-1], members[i]) < 0
	}
	if sorted && !slices.ContainsFunc(members, func(m span) bool { return m.dropped }) {
		return nil
	}
	slices.SortFunc(members, c.compare)
	for i := 1; i < len(members); i++ {
		if c.compare(members[i-1], members[i]) == 0 {
			return errText("want each name once in an object, got one twice")
		}
	}
	c.scratch = append(c.scratch[:0], c.out[begin:]...)
	c.out = c.out[:begin]
	for _, m := range members {
		if m.dropped {
			continue
		}
		if len(c.out) > begin {
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, c.scratch[m.start-begin:m.end-begin]...)
	}
	c.out = append(c.out, '}')
	return nil
}

// compare orders two members by their names.
func (c *canonical) compare(m, n span) int {
	return compareUTF16(c.name(m), c.name(n))
}

// name is the name of a member in out, without quotes and escapes.
func (c *canonical) name(m span) []byte {
	return unquote(c.out[m.start:m.nameEnd])
}

// compareUTF16 orders two texts of UTF-8 by their UTF-16 code units. That is the
// order of the code points, but for those beyond U+FFFF, whose units begin at D800:
// they come before U+E000.
func compareUTF16(a, b []byte) int {
	for len(a) > 0 && len(b) > 0 {
		r, n := utf8.DecodeRune(a)
		s, m := utf8.DecodeRune(b)
		if r != s {
			return cmp.Compare(rank(r), rank(s))
		}
		a, b = a[n:], b[m:]
	}
	return cmp.Compare(len(a), len(b))
}

func rank(r rune) rune {
	if r >= 0xE000 && r <= 0xFFFF {
		return r + utf8.MaxRune
	}
	return r
}

func (c *canonical) literal(word string) error {
	if !bytes.HasPrefix(c.rest, []byte(word)) {
		return errNotJSON()
	}
	c.keep(len(word))
	return nil
}

// number reads a whole number whose canonical form is the text that was sent: any
// other, RFC 8785 would round or write in another way.
func (c *canonical) number() error {
	n := scalarLen(c.rest)
	digits := bytes.TrimPrefix(c.rest[:n], []byte("-"))
	value := int64(0)
	for i, d := range digits {
		if d < '0' || d > '9' || i == 0 && d == '0' && n > 1 {
			value = maxExact + 1
			break
		}
		if value = 10*value + int64(d-'0'); value > maxExact {
			break
		}
	}
	if len(digits) == 0 || value > maxExact {
		return errText("want whole numbers between -2^53 and 2^53, written out, got another number")
	}
	c.keep(n)
	return nil
}

// text reads a string and writes it with the escapes of RFC 8785, section 3.2.2.2.
func (c *canonical) text() error {
	if len(c.rest) == 0 || c.rest[0] != '"' {
		return errNotJSON()
	}
	c.keep(1)
	for {
		n := plainLen(c.rest)
		c.keep(n)
		switch {
		case len(c.rest) == 0 || c.rest[0] < ' ':
			return errNotJSON()
		case c.rest[0] == '"':
			c.keep(1)
			return nil
		}
		if err := c.escape(); err != nil {
			return err
		}
	}
}

// plainLen is how many bytes of a string lie before its end or its next escape.
func plainLen(text []byte) int {
	for i, b := range text {
		if b < ' ' || b == '"' || b == '\\' {
			return i
		}
	}
	return len(text)
}

// The characters that a backslash may precede, and what they stand for.
const (
	escapeNames = `"\/bfnrt`
	escapeRunes = "\"\\/\b\f\n\r\t"
)

// escape reads the escape that rest begins with.
func (c *canonical) escape() error {
	if len(c.rest) < 2 {
		return errNotJSON()
	}
	if c.rest[1] != 'u' {
		i := bytes.IndexByte([]byte(escapeNames), c.rest[1])
		if i < 0 {
			return errNotJSON()
		}
		c.rest = c.rest[2:]
		c.character(rune(escapeRunes[i]))
		return nil
	}
	r, ok := unit(c.rest)
	if !ok {
		return errNotJSON()
	}
	c.rest = c.rest[6:]
	if utf16.IsSurrogate(r) {
		low, _ := unit(c.rest)
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return errText("want text, got half of a surrogate pair")
		}
		c.rest = c.rest[6:]
	}
	c.character(r)
	return nil
}

// unit is the code unit of the \u escape that text begins with.
func unit(text []byte) (r rune, ok bool) {
	r = escaped(text)
	return r, r != 0 || bytes.HasPrefix(text, []byte(`\u0000`))
}

// character writes a character of a string.
func (c *canonical) character(r rune) {
	const hex = "0123456789abcdef"
	i := bytes.IndexRune([]byte(escapeRunes), r)
	switch {
	case r == '/' || i < 0 && r >= ' ':
		c.out = utf8.AppendRune(c.out, r)
	case i >= 0:
		c.out = append(c.out, '\\', escapeNames[i])
	default:
		c.out = append(c.out, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
	}
}
