package policy

import (
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// Glob is a value of a policy with its variables filled in: text in which only
// "*" and "?" stand for more than themselves.
type Glob struct{ tokens []globToken }

type globToken struct {
	kind partKind // partLiteral, partUnit or partStar
	r    rune
}

// Literal is the Glob that matches text and nothing else.
func Literal(text string) Glob {
	var g Glob
	for _, r := range text {
		g.tokens = append(g.tokens, globToken{partLiteral, r})
	}
	return g
}

// Globs reads a value of a document as Evaluate would: wild says whether "*" and
// "?" are wildcards in its place, and c has the values of its variables. A value
// whose variable has no value in c matches nothing and gives no Glob; one of
// which AWS leaves open how it reads gives both. It must be a value of a document
// that Parse took.
func (d *Document) Globs(text string, wild bool, c *Context) []Glob {
	p, err := parsePattern(text, wild, d.Version == version2012)
	if err != nil {
		return nil
	}
	vals, state := p.resolve(c, nil, false)
	if state == unresolved {
		return nil
	}
	globs := []Glob{p.glob(vals)}
	if state == unsettled {
		vals, _ = p.resolve(c, nil, true)
		globs = append(globs, p.glob(vals))
	}
	return globs
}

func (p *pattern) glob(vals []string) Glob {
	var g Glob
	for i, seg := range p.segs {
		if i > 0 {
			g.tokens = append(g.tokens, globToken{kind: partStar})
		}
		for _, t := range seg {
			if t.kind == partUnit {
				g.tokens = append(g.tokens, globToken{kind: partUnit})
				continue
			}
			g.tokens = append(g.tokens, Literal(t.literal(vals)).tokens...)
		}
	}
	return g
}

// Alphabet is the texts that Distinguish may make: of which characters, and how
// long, in characters and with the start.
type Alphabet struct {
	Allows   func(rune) bool // nil: every character
	Fill     string          // characters that Distinguish prefers for what no glob names
	Min, Max int
	States   int // how many states to look at, at most; 0: the usual number
}

// maxStates bounds what Distinguish looks at. The number of states grows with the
// sum of the globs' lengths, and with their product only where stars let several
// of them wait for different text at once.
const maxStates = 20000

// Distinguish returns texts that begin with start and between them match every
// combination of globs that any such text matches: whatever a policy made of
// these globs does with some text, it does with one of these. The suffixes in
// prefer are taken first, where they add a combination. It reports false where
// there were too many combinations to find them all.
//
// It walks the product of the globs' automata, breadth first, so each text is
// the shortest of its kind, apart from the preferred ones.
func Distinguish(start string, globs []Glob, a Alphabet, prefer ...string) ([]string, bool) {
	s := newStroll(globs, a)
	seen := map[string]bool{}
	var out []string
	take := func(text string, at state) {
		n := utf8.RuneCountInString(text)
		if n < a.Min || n > a.Max {
			return
		}
		if vector := s.vector(at); !seen[vector] {
			seen[vector] = true
			out = append(out, text)
		}
	}
	for _, suffix := range prefer {
		if text := start + suffix; s.allows(suffix) {
			take(text, s.after(text))
		}
	}
	complete := s.walk(start, take)
	return out, complete
}

// Combinations returns for each text which of the globs it matches, as a string
// with a byte for each glob: two texts with the same one are alike to the globs.
func Combinations(globs []Glob, texts ...string) []string {
	s := newStroll(globs, Alphabet{})
	out := make([]string, len(texts))
	last, at := "", s.after("")
	for i, text := range texts {
		rest, longer := strings.CutPrefix(text, last)
		if longer { // go on from where the one before ended
			at = s.walkOn(at, rest)
		} else {
			at = s.after(text)
		}
		last, out[i] = text, s.vector(at)
	}
	return out
}

// Matches reports whether the glob matches the whole of a text.
func (g Glob) Matches(text string) bool {
	return Combinations([]Glob{g}, text)[0] == "\x01"
}

// state is, for each glob, the set of its places that a text may have led to.
type state []uint64

// stroll is a walk over the product of some globs' automata.
type stroll struct {
	globs    []Glob
	offset   []int // of each glob's first word in a state
	words    int
	alphabet []rune
	limits   Alphabet
}

func newStroll(globs []Glob, a Alphabet) *stroll {
	s := &stroll{globs: globs, limits: a}
	for _, g := range globs {
		s.offset = append(s.offset, s.words)
		s.words += (len(g.tokens) + 64) / 64
	}
	s.alphabet = s.letters()
	return s
}

// letters are the characters that some glob tells from others, and one or two
// that none does.
func (s *stroll) letters() []rune {
	named := map[rune]bool{}
	var list []rune
	for _, g := range s.globs {
		for _, t := range g.tokens {
			if t.kind == partLiteral && !named[t.r] {
				named[t.r] = true
				list = append(list, t.r)
			}
		}
	}
	slices.Sort(list)
	const others = "qzwvkjQZ_-.~@x0aé☃"
	for _, r := range s.limits.Fill + others {
		if !named[r] && s.allowsRune(r) {
			list = append([]rune{r}, list...)
			break
		}
	}
	return slices.DeleteFunc(list, func(r rune) bool { return !s.allowsRune(r) })
}

func (s *stroll) allowsRune(r rune) bool { return s.limits.Allows == nil || s.limits.Allows(r) }

func (s *stroll) allows(text string) bool {
	for _, r := range text {
		if !s.allowsRune(r) {
			return false
		}
	}
	return true
}

// after is the state that a whole text leads to.
func (s *stroll) after(text string) state {
	at := make(state, s.words)
	for i := range s.globs {
		s.add(at, i, 0)
	}
	return s.walkOn(at, text)
}

func (s *stroll) walkOn(at state, text string) state {
	for _, r := range text {
		at = s.step(at, r)
	}
	return at
}

// add puts a place into a set, with those that stars let it reach at once.
func (s *stroll) add(at state, glob, place int) {
	tokens := s.globs[glob].tokens
	for {
		at[s.offset[glob]+place/64] |= 1 << (place % 64)
		if place == len(tokens) || tokens[place].kind != partStar {
			return
		}
		place++
	}
}

func (s *stroll) step(at state, r rune) state {
	next := make(state, s.words)
	for i, g := range s.globs {
		for w := range (len(g.tokens) + 64) / 64 {
			for set := at[s.offset[i]+w]; set != 0; set &= set - 1 {
				place := w*64 + bits.TrailingZeros64(set)
				if place == len(g.tokens) {
					continue
				}
				switch t := g.tokens[place]; {
				case t.kind == partStar:
					s.add(next, i, place)
				case t.kind == partUnit, t.r == r:
					s.add(next, i, place+1)
				}
			}
		}
	}
	return next
}

// vector has a byte for each glob: whether it matches what led here.
func (s *stroll) vector(at state) string {
	v := make([]byte, len(s.globs))
	for i, g := range s.globs {
		place := len(g.tokens)
		v[i] = byte(at[s.offset[i]+place/64] >> (place % 64) & 1)
	}
	return string(v)
}

// settled reports whether no further text changes which globs match.
func (s *stroll) settled(at state) bool {
	for i, g := range s.globs {
		last := len(g.tokens)
		if last > 0 && g.tokens[last-1].kind == partStar && at[s.offset[i]+(last-1)/64]>>((last-1)%64)&1 == 1 {
			continue
		}
		for w := range (last + 64) / 64 {
			if at[s.offset[i]+w] != 0 {
				return false
			}
		}
	}
	return true
}

func (at state) key(length int) string {
	b := make([]byte, 0, len(at)*8+2)
	for _, w := range at {
		for shift := 0; shift < 64; shift += 8 {
			b = append(b, byte(w>>shift))
		}
	}
	return string(append(b, byte(length), byte(length>>8)))
}

// walk visits every state that a text within the limits leads to, the shortest
// texts first. Where the length matters it is part of the state.
func (s *stroll) walk(start string, visit func(text string, at state)) bool {
	type step struct {
		text   string
		length int
		at     state
	}
	most := s.limits.States
	if most == 0 {
		most = maxStates
	}
	measured := func(length int) int { return min(length, s.limits.Min) }
	queue := []step{{start, utf8.RuneCountInString(start), s.after(start)}}
	seen := map[string]bool{queue[0].at.key(measured(queue[0].length)): true}
	for len(queue) > 0 {
		here := queue[0]
		queue = queue[1:]
		visit(here.text, here.at)
		if here.length >= s.limits.Max || here.length >= s.limits.Min && s.settled(here.at) {
			continue
		}
		for _, r := range s.alphabet {
			next := step{here.text + string(r), here.length + 1, s.step(here.at, r)}
			key := next.at.key(measured(next.length))
			if seen[key] {
				continue
			}
			if len(seen) >= most {
				return false
			}
			seen[key] = true
			queue = append(queue, next)
		}
	}
	return true
}
