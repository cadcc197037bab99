package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// verdict is the answer of a match. Maybe means that AWS leaves the point
// unsettled: an Allow then does not match, and a Deny does.
type verdict uint8

const (
	no verdict = iota
	maybe
	yes
)

func verdictOf(matched bool) verdict {
	if matched {
		return yes
	}
	return no
}

func (v verdict) not() verdict { return yes - v }

// pattern is a policy value that was taken apart once, so that matching never
// looks for wildcards or variables again: what a request puts in the place of
// a variable is literal text.
type pattern struct {
	text  string   // as the document has it
	segs  [][]part // what stands between the stars; one segment: no star
	vars  []variable
	plain bool // no wildcard and no variable: lit is all
	lit   string
}

type partKind uint8

const (
	partLiteral  partKind = iota
	partUnit              // "?"
	partStar              // "*"
	partVariable          // "${key}"
)

type part struct {
	kind partKind
	lit  string
	v    int // index into pattern.vars
}

// variable is "${key}" or "${key, 'default'}".
type variable struct {
	name       string // as written
	key        string // folded
	def        string
	hasDefault bool
}

// parsePattern takes a policy value apart. wild says whether "*" and "?" are
// wildcards, vars whether "${" begins a policy variable: only in documents of
// version 2012-10-17.
func parsePattern(text string, wild, vars bool) (pattern, error) {
	parts, variables, err := scanPattern(text, wild, vars)
	if err != nil {
		return pattern{}, err
	}
	return newPattern(text, parts, variables), nil
}

func newPattern(text string, parts []part, vars []variable) pattern {
	p := pattern{text: text, vars: vars, segs: [][]part{nil}}
	for _, t := range parts {
		last := len(p.segs) - 1
		if t.kind == partStar {
			p.segs = append(p.segs, nil)
			continue
		}
		p.segs[last] = append(p.segs[last], t)
	}
	if len(p.segs) == 1 {
		switch seg := p.segs[0]; {
		case len(seg) == 0:
			p.plain = true
		case len(seg) == 1 && seg[0].kind == partLiteral:
			p.plain, p.lit = true, seg[0].lit
		}
	}
	return p
}

// scanPattern splits text into literals, wildcards and variables.
func scanPattern(text string, wild, vars bool) ([]part, []variable, error) {
	var parts []part
	var variables []variable
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			parts = append(parts, part{kind: partLiteral, lit: lit.String()})
			lit.Reset()
		}
	}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case vars && strings.HasPrefix(text[i:], "${"):
			literal, v, n, err := scanVariable(text[i:])
			if err != nil {
				return nil, nil, err
			}
			if v == nil {
				lit.WriteByte(literal)
			} else {
				flush()
				parts = append(parts, part{kind: partVariable, v: len(variables)})
				variables = append(variables, *v)
			}
			i += n
			continue
		case wild && c == '*':
			flush()
			parts = append(parts, part{kind: partStar})
		case wild && c == '?':
			flush()
			parts = append(parts, part{kind: partUnit})
		default:
			lit.WriteByte(c)
		}
		i++
	}
	flush()
	return parts, variables, nil
}

// scanVariable reads "${…}" at the start of text: either one of the three
// literals or a variable. n is how many bytes it takes.
func scanVariable(text string) (literal byte, v *variable, n int, err error) {
	if len(text) >= 4 && text[3] == '}' && strings.IndexByte("*?$", text[2]) >= 0 {
		return text[2], nil, 4, nil
	}
	name, def, hasDefault := text[2:], "", false
	end := strings.IndexAny(name, "},")
	if end < 0 {
		return 0, nil, 0, fmt.Errorf("policy variable %q has no closing brace", clip(text))
	}
	n = 2 + end + 1
	if name[end] == ',' {
		rest, ok := strings.CutPrefix(name[end:], ", '")
		quote := strings.IndexByte(rest, '\'')
		if !ok || quote < 0 || !strings.HasPrefix(rest[quote:], "'}") {
			return 0, nil, 0, fmt.Errorf("policy variable %q: want a default of the form ${key, 'default'}", clip(text))
		}
		def, hasDefault = rest[:quote], true
		n = 2 + end + len(", '") + quote + len("'}")
	}
	name = name[:end]
	if err := checkKey(name); err != nil {
		return 0, nil, 0, fmt.Errorf("policy variable %q: %w", text[:n], err)
	}
	return 0, &variable{name: name, key: foldKey(name), def: def, hasDefault: hasDefault}, n, nil
}

func clip(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// resolution says how the variables of a pattern came out.
type resolution uint8

const (
	unresolved resolution = iota // one is absent without a default, or multivalued
	resolved
	unsettled // one with a default is present and empty: AWS' documents differ on whether the default is used
)

// resolve appends the values of the pattern's variables to buf. With
// emptyIsAbsent an empty value is replaced by the default.
func (p *pattern) resolve(c *Context, buf []string, emptyIsAbsent bool) ([]string, resolution) {
	state := resolved
	for i := range p.vars {
		v := &p.vars[i]
		got, present := c.lookup(v.key)
		switch {
		case present && got.multi: // never expands, even with a default
			return buf, unresolved
		case !present && !v.hasDefault:
			return buf, unresolved
		case !present:
			buf = append(buf, v.def)
		case got.single == "" && v.hasDefault && v.def != "":
			state = unsettled
			if emptyIsAbsent {
				buf = append(buf, v.def)
				continue
			}
			buf = append(buf, "")
		default:
			buf = append(buf, got.single)
		}
	}
	return buf, state
}

// whyEmptyDefault names the point on which resolve may be unsettled.
const whyEmptyDefault = "whether the default of a policy variable replaces an empty value"

// match reports whether the whole of text matches. A pattern with an unresolved
// variable matches nothing.
func (p *pattern) match(text string, c *Context) verdict {
	if p.plain {
		return verdictOf(p.lit == text)
	}
	if len(p.vars) == 0 {
		return verdictOf(p.matchValues(text, nil))
	}
	return p.matchResolved(text, c, false)
}

// matchIgnoreCase is match by lower-case forms, for a pattern without wildcards.
func (p *pattern) matchIgnoreCase(text string, c *Context) verdict {
	if p.plain {
		return verdictOf(equalLower(p.lit, text))
	}
	return p.matchResolved(text, c, true)
}

// matchResolved puts the variables in and matches, under both readings of an
// empty value with a default.
func (p *pattern) matchResolved(text string, c *Context, ignoreCase bool) verdict {
	var buf [4]string
	vals, state := p.resolve(c, buf[:0], false)
	if state == unresolved {
		return no
	}
	matched := p.matchWith(text, vals, ignoreCase)
	if state == unsettled {
		vals, _ = p.resolve(c, buf[:0], true)
		if p.matchWith(text, vals, ignoreCase) != matched {
			return maybe
		}
	}
	return verdictOf(matched)
}

func (p *pattern) matchWith(text string, vals []string, ignoreCase bool) bool {
	if ignoreCase {
		return equalLower(p.concat(vals), text)
	}
	return p.matchValues(text, vals)
}

// unresolvedIn reports whether a variable of the pattern has no value.
func (p *pattern) unresolvedIn(c *Context) bool {
	if len(p.vars) == 0 {
		return false
	}
	var buf [4]string
	_, state := p.resolve(c, buf[:0], false)
	return state == unresolved
}

// concat returns the literal text of a pattern without wildcards.
func (p *pattern) concat(vals []string) string {
	var b strings.Builder
	for _, t := range p.segs[0] {
		b.WriteString(t.literal(vals))
	}
	return b.String()
}

// literal returns the text of a literal or of a variable.
func (t part) literal(vals []string) string {
	if t.kind == partVariable {
		return vals[t.v]
	}
	return t.lit
}

// position is a place in a text, counted in UTF-16 units as AWS counts "?":
// half is the place between the two units of a character outside the basic
// plane.
type position struct {
	i    int
	half bool
}

// next moves over one unit. A byte that is not UTF-8 counts as one.
func (at position) next(text string) (position, bool) {
	if at.i >= len(text) {
		return at, false
	}
	r, size := utf8.DecodeRuneInString(text[at.i:])
	if r > 0xFFFF && !at.half {
		return position{at.i, true}, true
	}
	return position{at.i + size, false}, true
}

// matchValues matches the segments between the stars from left to right, each
// at the first place where it fits: a segment always takes the same number of
// units, so the first place leaves the most room for those that follow. The
// cost is at most len(text) times the length of the longest segment.
func (p *pattern) matchValues(text string, vals []string) bool {
	first := p.segs[0]
	at, ok := matchSegment(first, text, position{}, vals)
	if !ok {
		return false
	}
	if len(p.segs) == 1 {
		return at == position{i: len(text)}
	}
	for _, seg := range p.segs[1 : len(p.segs)-1] {
		if at, ok = findSegment(seg, text, at, vals, false); !ok {
			return false
		}
	}
	last := p.segs[len(p.segs)-1]
	if len(last) == 0 {
		return true
	}
	_, ok = findSegment(last, text, at, vals, true)
	return ok
}

// matchSegment matches a segment at one place and returns where it ends.
func matchSegment(seg []part, text string, at position, vals []string) (position, bool) {
	for _, t := range seg {
		if t.kind == partUnit {
			var ok bool
			if at, ok = at.next(text); !ok {
				return at, false
			}
			continue
		}
		lit := t.literal(vals)
		if lit == "" {
			continue
		}
		if at.half || !strings.HasPrefix(text[at.i:], lit) {
			return at, false
		}
		at.i += len(lit)
	}
	return at, true
}

// findSegment finds the first place from at on where a segment matches; with
// atEnd, where it also ends with the text.
func findSegment(seg []part, text string, at position, vals []string, atEnd bool) (position, bool) {
	if atEnd && len(seg) == 1 && seg[0].kind != partUnit {
		return matchSuffix(seg[0].literal(vals), text, at)
	}
	for {
		if at = skipTo(seg, text, at, vals); at.i > len(text) {
			return at, false
		}
		if end, ok := matchSegment(seg, text, at, vals); ok && (!atEnd || end == position{i: len(text)}) {
			return end, true
		}
		var ok bool
		if at, ok = at.next(text); !ok {
			return at, false
		}
	}
}

func matchSuffix(lit, text string, at position) (position, bool) {
	end := position{i: len(text)}
	if lit == "" {
		return end, true
	}
	from := at.i
	if at.half { // the second unit of this character belongs to the star
		at, _ = at.next(text)
		from = at.i
	}
	return end, strings.HasSuffix(text[from:], lit)
}

// skipTo moves to the next place where a segment that begins with a literal can
// begin at all. A place beyond the text means nowhere.
func skipTo(seg []part, text string, at position, vals []string) position {
	if len(seg) == 0 || seg[0].kind == partUnit {
		return at
	}
	lit := seg[0].literal(vals)
	if lit == "" {
		return at
	}
	if at.half {
		at, _ = at.next(text)
	}
	n := strings.Index(text[at.i:], lit)
	if n < 0 {
		return position{i: len(text) + 1}
	}
	return position{i: at.i + n}
}
