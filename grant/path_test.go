package grant

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("p", maxPath)
	for in, want := range map[string]Path{
		"/":                            Root,
		"a":                            "a",
		"a/":                           "a",
		"reports/2026":                 "reports/2026",
		"reports/2026/":                "reports/2026",
		"A-Z_a.z0=9@x+y":               "A-Z_a.z0=9@x+y",
		"...":                          "...",
		".hidden/..b/c..":              ".hidden/..b/c..",
		long:                           Path(long),
		"0x" + strings.Repeat("a", 39): Path("0x" + strings.Repeat("a", 39)),
		strings.Repeat("a", 63):        Path(strings.Repeat("a", 63)),
		strings.Repeat("g", 64):        Path(strings.Repeat("g", 64)),
		strings.Repeat("a/", maxSegments-1) + "a": Path(strings.Repeat("a/", maxSegments-1) + "a"),
	} {
		if got, err := ParsePath(in); got != want || err != nil {
			t.Errorf("ParsePath(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	wallet := strings.Repeat("aB", 20)
	for in, want := range map[string]string{
		"":                                      `got ""`,
		"/a":                                    "relative to the owner's prefix",
		"//":                                    "relative to the owner's prefix",
		"/..":                                   "relative to the owner's prefix",
		".":                                     "want segments that are names",
		"..":                                    "want segments that are names",
		"a/..":                                  "want segments that are names",
		"a/../b":                                "want segments that are names",
		"../" + wallet:                          "want segments that are names",
		"a/./b":                                 "want segments that are names",
		"a//b":                                  `got ""`,
		"a//":                                   `got ""`,
		"./":                                    "want segments that are names",
		"*":                                     `got "*"`,
		"a/b*":                                  `got "b*"`,
		"a?":                                    `got "a?"`,
		"${aws:username}":                       "want segments of",
		"a/$":                                   `got "$"`,
		`a\..\b`:                                "want segments of",
		"a%2fb":                                 `got "a%2fb"`,
		"a%252fb":                               "want segments of",
		"a%2F..%2Fb":                            "want segments of",
		"%2e%2e":                                "want segments of",
		"a\u2215b":                              "want segments of", // division slash
		"a\u2044b":                              "want segments of", // fraction slash
		"a\uff0fb":                              "want segments of", // full-width solidus
		"a\u29f8b":                              "want segments of", // big solidus
		"a\u2024\u2024b":                        "want segments of", // one dot leader, twice
		"a\xc0\xafb":                            "want segments of", // overlong slash
		"a\xe0\x80\xafb":                        "want segments of",
		"\xc0\xae\xc0\xae":                      "want segments of", // overlong dots
		"a\xff":                                 "want segments of",
		"a\x00b":                                "want segments of",
		"a\n":                                   "want segments of",
		"a\r":                                   "want segments of",
		"a\n/b":                                 "want segments of",
		"a\x7f":                                 "want segments of",
		"a b":                                   "want segments of",
		" a":                                    "want segments of",
		"é":                                     "want segments of",
		"a\u200b":                               "want segments of",
		`a"b`:                                   "want segments of",
		"a:b":                                   "want segments of",
		"a,b":                                   "want segments of",
		"a;b":                                   "want segments of",
		"a#b":                                   "want segments of",
		"a&b":                                   "want segments of",
		"a'b":                                   "want segments of",
		"<a>":                                   "want segments of",
		"0x" + wallet:                           "names no tenant",
		"0X" + wallet:                           "names no tenant",
		"a/0x" + wallet + "/b":                  "names no tenant",
		"a/0x" + wallet + "/":                   "names no tenant",
		strings.Repeat("aF", 32):                "names no tenant",
		"a/" + strings.Repeat("0", 64):          "names no tenant",
		strings.Repeat("p", maxPath+1):          "want at most 200 bytes, got 201",
		strings.Repeat("p", maxPath) + "/":      "want at most 200 bytes, got 201",
		strings.Repeat("a/", maxSegments) + "a": "want at most 16 segments, got 17",
	} {
		got, err := ParsePath(in)
		if err == nil || got != "" || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\r\x00\u200b") {
			t.Errorf("ParsePath(%q) = %q, %v; want an error with %q", in, got, err, want)
		}
	}
}

// What parses has one spelling, stays beneath the prefix, and holds nothing that a
// policy, a shell or a URL reads as more than text.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/", "a", "a/b/", "..", "a/../b", "%2f", "a\u2215b", "a\xc0\xafb", "*", "${a}", `\`, "0x" + strings.Repeat("a", 40), strings.Repeat("f", 64), "a//b", "\x00"} {
		f.Add(s)
	}
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._=@+-/"
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			return
		}
		again, err := ParsePath(string(p))
		if err != nil || again != p || p.check() != nil {
			t.Fatalf("%q parses as %q, and that as %q, %v", s, p, again, err)
		}
		if string(p) != s && string(p)+"/" != s {
			t.Fatalf("%q parses as %q, which is more than a slash at the end away", s, p)
		}
		const folder = "bots/0xowner/"
		under := p.under("bots", "0xowner")
		if !strings.HasPrefix(under, folder) || !strings.HasSuffix(under, "/") || strings.Contains(under, "//") || strings.Trim(under, plain) != "" {
			t.Fatalf("%q is under %q", s, under)
		}
		for segment := range strings.SplitSeq(strings.Trim(under, "/"), "/") {
			tenant := len(segment) == 42 && strings.EqualFold(segment[:2], "0x") && strings.Trim(segment[2:], "0123456789abcdefABCDEF") == "" ||
				len(segment) == 64 && strings.Trim(segment, "0123456789abcdefABCDEF") == ""
			if segment == "" || segment == "." || segment == ".." || tenant {
				t.Fatalf("%q has the segment %q", s, segment)
			}
		}
		if !Root.Covers(p) || !p.Covers(p) || !slices.Contains(p.ancestors(), p) || len(p) > maxPath {
			t.Fatalf("%q does not stand under the root", s)
		}
	})
}

// drawnPath draws paths that often lie beside or beneath one another.
func drawnPath(t *rapid.T, label string) Path {
	segments := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "aa", "a-", "a.", "reports", "reports2"}), 0, 4).Draw(t, label)
	if len(segments) == 0 {
		return Root
	}
	return Path(strings.Join(segments, "/"))
}

func TestCoversIsAPartialOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q, r := drawnPath(t, "p"), drawnPath(t, "q"), drawnPath(t, "r")
		if !p.Covers(p) {
			t.Errorf("%q does not cover itself", p)
		}
		if p.Covers(q) && q.Covers(p) && p != q {
			t.Errorf("%q and %q cover each other", p, q)
		}
		if p.Covers(q) && q.Covers(r) && !p.Covers(r) {
			t.Errorf("%q covers %q, that %q, and the first not the last", p, q, r)
		}
		if got, want := p.Covers(q), slices.Contains(q.ancestors(), p); got != want {
			t.Errorf("%q covers %q: %v, and is among its ancestors %q: %v", p, q, got, q.ancestors(), want)
		}
		// The keys under one are under the other, and of no other.
		if got, want := p.Covers(q), strings.HasPrefix(q.under("x", "t"), p.under("x", "t")); got != want {
			t.Errorf("%q covers %q: %v, and its keys: %v", p, q, got, want)
		}
		if n := len(q.ancestors()); n != len(slices.Compact(slices.Sorted(slices.Values(q.ancestors())))) || q.ancestors()[n-1] != q {
			t.Errorf("the ancestors of %q are %q", q, q.ancestors())
		}
	})
}

func TestSiblingsDoNotCoverEachOther(t *testing.T) {
	for _, pair := range [][2]Path{{"reports", "reports2"}, {"reports", "reports-old"}, {"a/b", "a/bc"}, {"a/b", "a/b.c/d"}, {"a", "b"}, {"a/b", "b/a"}} {
		if pair[0].Covers(pair[1]) || pair[1].Covers(pair[0]) {
			t.Errorf("one of %q covers the other", pair)
		}
	}
}
