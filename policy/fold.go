package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// equalLower compares two strings by their lower-case forms, as the
// IgnoreCase operators do. This is not case folding: s and the long s differ.
func equalLower(a, b string) bool {
	if !isASCII(a) || !isASCII(b) {
		return lower(a) == lower(b)
	}
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lowerASCII(a[i]) != lowerASCII(b[i]) {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// lower lower-cases with the two rules of Unicode's SpecialCasing.txt that hold
// in every language: a capital sigma at the end of a word becomes a final one,
// and a dotted capital I keeps its dot.
func lower(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteByte(s[i])
		case r == 'İ':
			b.WriteString("i\u0307")
		case r == 'Σ' && finalSigma(s[:i], s[i+size:]):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
		i += size
	}
	return b.String()
}

// finalSigma reports whether a sigma stands after a cased letter and before
// none, not counting the characters that case ignores.
func finalSigma(before, after string) bool {
	for len(before) > 0 {
		r, size := utf8.DecodeLastRuneInString(before)
		before = before[:len(before)-size]
		if caseIgnorable(r) {
			continue
		}
		if !cased(r) {
			return false
		}
		for len(after) > 0 {
			r, size := utf8.DecodeRuneInString(after)
			after = after[size:]
			if !caseIgnorable(r) {
				return !cased(r)
			}
		}
		return true
	}
	return false
}

func cased(r rune) bool {
	return unicode.In(r, unicode.Upper, unicode.Lower, unicode.Title, unicode.Other_Uppercase, unicode.Other_Lowercase)
}

func caseIgnorable(r rune) bool {
	return strings.ContainsRune("'.:··՟״‘’․‧︓︕﹒﹕'.:", r) ||
		unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}

// matchFold matches an ASCII-lower-cased pattern of "*" and "?" against text,
// without regard to the case of ASCII letters. It never looks back further than
// the last star.
func matchFold(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == lowerASCII(text[t])):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
