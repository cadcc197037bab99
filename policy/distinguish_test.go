package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func globsOf(texts ...string) []Glob {
	d := &Document{Version: version2012}
	var out []Glob
	for _, text := range texts {
		out = append(out, d.Globs(text, true, nil)...)
	}
	return out
}

// Whatever combination of globs a short text matches, one of the texts matches
// it too; and what Distinguish returns keeps to its limits.
func TestDistinguishFindsEveryCombination(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringMatching(`[ab*?/]{0,4}`), 1, 4).Draw(t, "globs")
		globs := globsOf(texts...)
		start := rapid.SampledFrom([]string{"", "a", "a/"}).Draw(t, "start")
		limits := Alphabet{Min: rapid.IntRange(0, 3).Draw(t, "min"), Max: 7}
		got, complete := Distinguish(start, globs, limits)
		if !complete {
			t.Fatal("too many combinations")
		}
		vector := func(text string) string {
			var b strings.Builder
			for _, g := range globs {
				if g.Matches(text) {
					b.WriteByte('1')
				} else {
					b.WriteByte('0')
				}
			}
			return b.String()
		}
		found := map[string]bool{}
		for _, text := range got {
			if !strings.HasPrefix(text, start) || len(text) < limits.Min || len(text) > limits.Max {
				t.Fatalf("%q breaks the limits", text)
			}
			if v := vector(text); found[v] {
				t.Fatalf("%q adds nothing", text)
			} else {
				found[v] = true
			}
		}
		text := start + rapid.StringMatching(`[abc/]{0,5}`).Draw(t, "text")
		if len(text) >= limits.Min && !found[vector(text)] {
			t.Fatalf("%q matches %s of %q, which none of %q does", text, vector(text), texts, got)
		}
	})
}

// Matches agrees with the matcher that decides.
func TestGlobMatchesAsPatternsDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ab*?]{0,6}`).Draw(t, "pattern")
		subject := rapid.StringMatching(`[abc]{0,8}`).Draw(t, "subject")
		p, err := parsePattern(text, true, true)
		if err != nil {
			t.Fatal(err)
		}
		if want, got := p.match(subject, nil) == yes, globsOf(text)[0].Matches(subject); got != want {
			t.Fatalf("%q matches %q: got %v, want %v", text, subject, got, want)
		}
	})
}

func TestGlobsFillVariablesIn(t *testing.T) {
	c := NewContext()
	c.Set("aws:PrincipalTag/w", "a*")
	d := &Document{Version: version2012}
	globs := d.Globs("bots/${aws:PrincipalTag/w}/*", true, c)
	if len(globs) != 1 || !globs[0].Matches("bots/a*/x") || globs[0].Matches("bots/ab/x") {
		t.Errorf("a value with a star must stand for itself: %v", globs)
	}
	if got := d.Globs("${aws:PrincipalTag/other}", true, c); got != nil {
		t.Errorf("a variable without a value gives %v, want nothing", got)
	}
	c.Set("aws:PrincipalTag/w", "")
	if got := d.Globs("x${aws:PrincipalTag/w, 'd'}", true, c); len(got) != 2 {
		t.Errorf("an empty value with a default gives %d readings, want 2", len(got))
	}
	old := &Document{}
	if got := old.Globs("${a:b}", true, c); len(got) != 1 || !got[0].Matches("${a:b}") {
		t.Errorf("the old language has variables: %v", got)
	}
}

// A tag's value that is not of the one shape, and yet matches the pattern meant
// for it.
func TestDistinguishFindsTheSlash(t *testing.T) {
	shape := strings.Repeat("?", 64)
	got, _ := Distinguish("", globsOf(shape, "*/*"), Alphabet{Max: 256})
	for _, text := range got {
		if len(text) == 64 && strings.Contains(text, "/") {
			return
		}
	}
	t.Errorf("no text of 64 characters with a slash among %q", got)
}

func TestDistinguishPrefers(t *testing.T) {
	got, _ := Distinguish("bots/x/", globsOf("bots/*", "*/secret/*"), Alphabet{Max: 1024}, "notes.txt")
	if len(got) != 2 || got[0] != "bots/x/notes.txt" {
		t.Errorf("got %q", got)
	}
}
