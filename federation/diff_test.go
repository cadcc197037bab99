package federation

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestUnifiedDiff(t *testing.T) {
	lines := func(s string) string { return strings.ReplaceAll(s, " ", "\n") + "\n" }
	for _, c := range []struct{ name, before, after, want string }{
		{"nothing", "", "", ""},
		{"the same", lines("a b"), lines("a b"), ""},
		{"from nothing", "", lines("a b"), "@@ -0,0 +1,2 @@|+a|+b|"},
		{"to nothing", lines("a"), "", "@@ -1 +0,0 @@|-a|"},
		{"one line", lines("a b c"), lines("a x c"), "@@ -1,3 +1,3 @@| a|-b|+x| c|"},
		{"context", lines("1 2 3 4 5 6 7 8 9"), lines("1 2 3 4 x 6 7 8 9"), "@@ -2,7 +2,7 @@| 2| 3| 4|-5|+x| 6| 7| 8|"},
		{"two changes whose context touches", lines("a 1 2 3 4 5 6 b"), lines("x 1 2 3 4 5 6 y"),
			"@@ -1,8 +1,8 @@|-a|+x| 1| 2| 3| 4| 5| 6|-b|+y|"},
		{"two changes apart", lines("a 1 2 3 4 5 6 7 b"), lines("1 2 3 4 5 6 7 b y"),
			"@@ -1,4 +1,3 @@|-a| 1| 2| 3|@@ -7,3 +6,4 @@| 6| 7| b|+y|"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := unifiedDiff("old", "new", c.before, c.after)
			want := ""
			if c.want != "" {
				want = "--- old\n+++ new\n" + strings.ReplaceAll(c.want, "|", "\n")
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Whoever has the text before and the diff has the text after.
func TestDiffHoldsTheWholeChange(t *testing.T) {
	text := rapid.Custom(func(t *rapid.T) string {
		list := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "{", "}"}), 0, 30).Draw(t, "lines")
		if len(list) == 0 {
			return ""
		}
		return strings.Join(list, "\n") + "\n"
	})
	rapid.Check(t, func(t *rapid.T) {
		before, after := text.Draw(t, "before"), text.Draw(t, "after")
		diff := unifiedDiff("old", "new", before, after)
		if got := patched(t, before, diff); got != after {
			t.Fatalf("from\n%s\nby\n%s\ncame\n%s\nwant\n%s", before, diff, got, after)
		}
		if back := patched(t, after, reversed(diff)); back != before {
			t.Fatalf("from\n%s\nback by\n%s\ncame\n%s\nwant\n%s", after, diff, back, before)
		}
	})
}

// reversed is a diff from the new text to the old one.
func reversed(diff string) string {
	var b strings.Builder
	for i, l := range splitLines(diff) {
		var before, after string
		switch {
		case i < 2:
		case l[0] == '@':
			if _, err := fmt.Sscanf(l, "@@ -%s +%s @@", &before, &after); err != nil {
				panic(err)
			}
			l = "@@ -" + after + " +" + before + " @@"
		case l[0] == '-':
			l = "+" + l[1:]
		case l[0] == '+':
			l = "-" + l[1:]
		}
		b.WriteString(l + "\n")
	}
	return b.String()
}

// patched does what patch(1) does, and takes nothing that does not fit.
func patched(t *rapid.T, text, diff string) string {
	old, out, at := splitLines(text), []string{}, 0
	take := func(want string) {
		if at >= len(old) || old[at] != want {
			t.Fatalf("line %d of\n%s\nis not %q, as the diff has it\n%s", at+1, text, want, diff)
		}
		at++
	}
	for i, l := range splitLines(diff) {
		switch {
		case i < 2:
		case l[0] == '@':
			var first int
			n := 1
			where, _, _ := strings.Cut(strings.TrimPrefix(l, "@@ -"), " ")
			if strings.Contains(where, ",") {
				if _, err := fmt.Sscanf(where, "%d,%d", &first, &n); err != nil {
					t.Fatal(err)
				}
			} else if _, err := fmt.Sscanf(where, "%d", &first); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				first++
			}
			for at < first-1 {
				out = append(out, old[at])
				at++
			}
		case l[0] == ' ':
			take(l[1:])
			out = append(out, l[1:])
		case l[0] == '-':
			take(l[1:])
		default:
			out = append(out, l[1:])
		}
	}
	out = append(out, old[at:]...)
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "\n") + "\n"
}
