package store

import (
	"strconv"
	"strings"
)

// anonymous writes a query's parameters $1, $2, … as ?, where each is there once and
// in this order, so that they mean the same. Of a numbered parameter the driver asks
// SQLite for its name each time that it binds it, which costs more than to bind it.
//
// Any other query is returned as it is, and so is one with a character outside of
// '…' that might begin a comment, a quoted name or another kind of parameter:
// then a $ need not be a parameter.
func anonymous(query string) string {
	var b strings.Builder
	b.Grow(len(query))
	quoted, next := false, 1
	for rest := query; rest != ""; {
		c := rest[0]
		switch {
		case c == '\'': // and '' within a text is the end of one and the beginning of another
			quoted = !quoted
		case quoted:
		case strings.IndexByte("\"`[?:@-/", c) >= 0:
			return query
		case c == '$':
			after, ok := strings.CutPrefix(rest[1:], strconv.Itoa(next))
			if !ok || inName(after) || endsInName(b.String()) {
				return query
			}
			b.WriteByte('?')
			rest, next = after, next+1
			continue
		}
		b.WriteByte(c)
		rest = rest[1:]
	}
	return b.String()
}

// inName says whether text goes on with a character that would belong to the name of
// a parameter, among them those of Tcl's (SQLite, "Expressions", section 3).
func inName(text string) bool {
	return text != "" && (isNameByte(text[0]) || text[0] == ':' || text[0] == '(')
}

func endsInName(text string) bool { return text != "" && isNameByte(text[len(text)-1]) }

func isNameByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
