package policy

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// units splits a text into what one "?" takes: UTF-16 units, and single bytes
// where it is not UTF-8.
func units(s string) []rune {
	var out []rune
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			out = append(out, 0x110000+rune(s[0]))
		case r > 0xFFFF:
			out = append(out, 0xD800+(r-0x10000)>>10, 0xDC00+(r-0x10000)&0x3FF)
		default:
			out = append(out, r)
		}
		s = s[size:]
	}
	return out
}

// naive matches by dynamic programming over units: slow, and plainly right.
// wild marks which pattern units are wildcards.
func naive(pattern []rune, wild []bool, text []rune) bool {
	prev := make([]bool, len(text)+1)
	prev[0] = true
	for i, p := range pattern {
		next := make([]bool, len(text)+1)
		if wild[i] && p == '*' {
			seen := false
			for j := range next {
				seen = seen || prev[j]
				next[j] = seen
			}
		} else {
			for j := range text {
				next[j+1] = prev[j] && (wild[i] && p == '?' || p == text[j])
			}
		}
		prev = next
	}
	return prev[len(text)]
}

// naivePattern expands a pattern in which $ stands for the variable ${aws:v}.
func naivePattern(pattern, v string) (us []rune, wild []bool) {
	for _, r := range pattern {
		expanded, isWild := units(string(r)), r == '*' || r == '?'
		if r == '$' {
			expanded = units(v)
		}
		for _, u := range expanded {
			us, wild = append(us, u), append(wild, isWild)
		}
	}
	return us, wild
}

// matchAgrees compares the matcher with the naive one.
func matchAgrees(t testing.TB, pattern, v, text string) {
	t.Helper()
	p, err := parsePattern(strings.ReplaceAll(pattern, "$", "${aws:v}"), true, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx := NewContext()
	ctx.Set("aws:v", v)
	us, wild := naivePattern(pattern, v)
	if got, want := p.match(text, ctx) == yes, naive(us, wild, units(text)); got != want {
		t.Fatalf("pattern %q, variable %q, text %q: got %v, want %v", pattern, v, text, got, want)
	}
}

func TestMatchProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alphabet := rapid.SampledFrom([]rune("ab😀"))
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("ab😀**??$")), 0, 10, -1).Draw(t, "pattern")
		v := rapid.StringOfN(rapid.SampledFrom([]rune("ab*?😀")), 0, 3, -1).Draw(t, "variable")
		text := rapid.StringOfN(alphabet, 0, 12, -1).Draw(t, "text")
		p, err := parsePattern(strings.ReplaceAll(pattern, "$", "${aws:v}"), true, true)
		if err != nil {
			t.Fatal(err)
		}
		ctx := NewContext()
		ctx.Set("aws:v", v)
		us, wild := naivePattern(pattern, v)
		if got, want := p.match(text, ctx) == yes, naive(us, wild, units(text)); got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// TestMatchFold compares the matcher of actions with the naive one.
func TestMatchFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("ab:**??")), 0, 10, -1).Draw(t, "pattern")
		text := rapid.StringOfN(rapid.SampledFrom([]rune("abAB:")), 0, 12, -1).Draw(t, "text")
		us, wild := naivePattern(pattern, "")
		if got, want := matchFold(pattern, text), naive(us, wild, units(strings.ToLower(text))); got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// TestAdversarialPatterns: patterns on which a matcher that backtracks over
// several stars would not come to an end.
func TestAdversarialPatterns(t *testing.T) {
	text := strings.Repeat("a", 20000)
	for _, pattern := range []string{
		strings.Repeat("*a", 2000) + "*b",
		strings.Repeat("a*", 2000) + "b",
		strings.Repeat("*?a", 2000) + "b*",
		strings.Repeat("*", 5000) + "b",
		strings.Repeat("*😀", 1000),
	} {
		p, err := parsePattern(pattern, true, true)
		if err != nil {
			t.Fatal(err)
		}
		if p.match(text, nil) != no {
			t.Errorf("pattern %q… matches", pattern[:10])
		}
		if matchFold(pattern, text) {
			t.Errorf("pattern %q… matches as an action", pattern[:10])
		}
	}
}
