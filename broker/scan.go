package broker

import (
	"iter"
	"strconv"
	"unicode/utf16"
)

// The functions here step over JSON text without decoding it, so that what was
// sent can be judged member by member as it was sent. Their text must be JSON
// that json.Valid accepts; on anything else they may panic or go astray.

// members yields the members of a JSON object as they are written: the name with
// its quotes and escapes, and the value.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for rest := skipSpace(object[1:]); rest[0] != '}'; rest = skipComma(rest) {
			n := stringLen(rest)
			name := rest[:n]
			rest = skipSpace(skipSpace(rest[n:])[1:]) // the colon
			n = valueLen(rest)
			if !yield(name, rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// elements yields the elements of a JSON array as they are written.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := skipSpace(array[1:]); rest[0] != ']'; rest = skipComma(rest) {
			n := valueLen(rest)
			if !yield(rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

func skipSpace(text []byte) []byte {
	for len(text) > 0 && isSpace(text[0]) {
		text = text[1:]
	}
	return text
}

// skipComma steps to the next member or element, or to the closing bracket.
func skipComma(text []byte) []byte {
	text = skipSpace(text)
	if text[0] == ',' {
		text = skipSpace(text[1:])
	}
	return text
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// stringLen is the length of the string that text begins with, quotes included.
func stringLen(text []byte) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// valueLen is the length of the value that text begins with.
func valueLen(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			i += stringLen(text[i:]) - 1
		case c == '{' || c == '[':
			depth++
			continue
		case (c == '}' || c == ']') && depth > 0:
			depth--
		case depth > 0:
			continue
		default:
			i += scalarLen(text[i:]) - 1
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(text)
}

// scalarLen is the length of the number, true, false or null that text begins with.
func scalarLen(text []byte) int {
	for i, c := range text {
		if c == ',' || c == '}' || c == ']' || isSpace(c) {
			return i
		}
	}
	return len(text)
}

// hasLoneSurrogate says whether a \u escape anywhere in the text is half of a
// pair. Such a string has no UTF-8, and encoding/json would read another one.
func hasLoneSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		r := escaped(text[i-1:])
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		if utf16.DecodeRune(r, escaped(text[i+1:])) == '\uFFFD' {
			return true
		}
		i += 6
	}
	return false
}

// escaped is the code unit of the \u escape that text begins with, or 0.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(unit)
}
