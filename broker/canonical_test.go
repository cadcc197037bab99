package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"agentkeys/api"
)

// libraryText is the signed text by encoding/json and gowebpki/jcs, which callText
// must agree with: it has several passes for its one. ok is false for a body that is
// to be refused.
func libraryText(t testing.TB, body []byte) (text string, ok bool) {
	t.Helper()
	if !json.Valid(body) || !utf8.Valid(body) || !isExact(t, body) {
		return "", false
	}
	canonical, err := jcs.Transform(body)
	if err != nil { // a name twice, or half of a surrogate pair
		return "", false
	}
	outer, isObject := meaning(t, canonical).(map[string]any)
	if !isObject {
		return "", false
	}
	auth, isObject := outer["auth"].(map[string]any)
	if !isObject {
		return "", false
	}
	if _, isString := auth["signature"].(string); !isString {
		return "", false
	}
	delete(auth, "signature")
	unsigned, err := json.Marshal(map[string]any{"method": "POST", "url": callURL, "body": outer})
	if err != nil {
		t.Fatal(err)
	}
	canonical, err = jcs.Transform(unsigned)
	if err != nil {
		t.Fatal(err)
	}
	return string(canonical), true
}

// isExact says whether a body of valid JSON has only whole numbers that are written
// as RFC 8785 writes them, and is nested no deeper than 16.
func isExact(t testing.TB, body []byte) bool {
	t.Helper()
	depth := 0
	for d := decoderOf(body); ; {
		token, err := d.Token()
		switch token := token.(type) {
		case nil:
			if errors.Is(err, io.EOF) {
				return true
			}
			if err != nil {
				t.Fatal(err)
			}
		case json.Delim:
			if token == '{' || token == '[' {
				depth++
			} else {
				depth--
			}
			if depth > maxDepth {
				return false
			}
		case json.Number:
			n, err := strconv.ParseInt(string(token), 10, 64)
			if err != nil || n > 9007199254740991 || n < -9007199254740991 || strconv.FormatInt(n, 10) != string(token) {
				return false
			}
		}
	}
}

func decoderOf(body []byte) *json.Decoder {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return d
}

func wantLibraryText(t testing.TB, body []byte) {
	t.Helper()
	want, ok := libraryText(t, body)
	got, err := callText("POST", callURL, body)
	if (err == nil) != ok || got != want {
		t.Errorf("%q:\ngot  %s, %v\nwant %s, accepted: %t", body, got, err, want, ok)
	}
	var refusal *api.Error
	if err != nil && (!errors.As(err, &refusal) || refusal.Code != api.CodeBadRequest) {
		t.Errorf("%q: refused with %v, want bad_request", body, err)
	}
}

// FuzzCanonical: callText accepts what the libraries accept, and makes of it the text
// that they make.
func FuzzCanonical(f *testing.F) {
	v := loadCalls(f)
	for _, call := range v.Accepted {
		f.Add([]byte(call.Body))
	}
	for _, call := range v.Refused {
		f.Add([]byte(call.Body))
	}
	for _, x := range []string{
		`[1,-2,{"a":"\ud83d\udd11"},true,null]`, `{"b":{},"":[],"a":[[]],"\u0000":-1,"\ufb33":1,"\ud83d\udd11":2,"\u007f":"\/\u2028"}`,
		`"\ud83d"`, `"\udd11\ud83d"`, `"\b\f\n\r\t\"\\\/\u0008\u001f\u001F\u0022\u005c"`, `-0`, `01`, `-`, `1.0`, `1e2`, `9007199254740992`, `{"a":1,"\u0061":2}`,
		`{"auth":{"signature":"0x"}}`, `tru`, `nulll`, `[1,]`, `{"a":1,}`, `{"a"}`, `{,}`, `"\u12"`, `"\x"`, `"\`, `[`, `{`,
		strings.Repeat("[", 15) + strings.Repeat("]", 15), strings.Repeat("[", 16) + strings.Repeat("]", 16),
	} {
		f.Add([]byte(signedAs(x)))
	}
	f.Fuzz(func(t *testing.T, body []byte) { wantLibraryText(t, body) })
}

// What a fuzzer seldom comes to: bodies of many members whose names differ where
// UTF-8 and UTF-16 order them apart, written with and without escapes.
func TestCanonicalIsTheLibrarysOnNamesInAnyOrder(t *testing.T) {
	runes := []rune("ab\"\\/\x00\x1f\n\u007f\u0080\u07ff\u0800\ud7ff\ue000\ufb33\uffff\U00010000\U0001f511\U0010ffff\u2028<&")
	name := rapid.StringOfN(rapid.SampledFrom(runes), 0, 3, -1)
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		b.WriteString(`{"auth":{"signature":"0x"}`)
		for i, n := range rapid.SliceOfN(name, 0, 12).Draw(t, "names") {
			b.WriteString(`, ` + written(n, rapid.Bool().Draw(t, "escaped")) + ` :` + strconv.Itoa(i))
		}
		want, ok := libraryTextOf(t, b.String()+"}")
		got, err := callText("POST", callURL, []byte(b.String()+"}"))
		if (err == nil) != ok || got != want {
			t.Fatalf("%s}:\ngot  %s, %v\nwant %s, accepted: %t", b.String(), got, err, want, ok)
		}
	})
}

func libraryTextOf(t *rapid.T, body string) (string, bool) {
	canonical, err := jcs.Transform([]byte(body))
	if err != nil {
		return "", false
	}
	unsigned := strings.Replace(string(canonical), `"signature":"0x"`, "", 1)
	return `{"body":` + unsigned + `,"method":"POST","url":"` + callURL + `"}`, true
}

// written is a string as JSON, with or without an escape for each of its units.
func written(s string, escaped bool) string {
	if !escaped {
		data, _ := json.Marshal(s) // of valid UTF-8: it cannot fail
		return string(data)
	}
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(s)) {
		b.WriteString(`\u` + strings.ToUpper(strconv.FormatUint(uint64(unit)|1<<16, 16)[1:]))
	}
	return `"` + b.String() + `"`
}

func TestNamesAreOrderedByUTF16(t *testing.T) {
	runes := []rune("\x00a\u07ff\u0800\ud7ff\ue000\ufb33\uffff\U00010000\U0001f511\U0010ffff")
	text := rapid.StringOfN(rapid.SampledFrom(runes), 0, 4, -1)
	rapid.Check(t, func(t *rapid.T) {
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		want := slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		if got := compareUTF16([]byte(a), []byte(b)); got != want {
			t.Errorf("%q and %q: got %d, want %d", a, b, got, want)
		}
	})
}

// Cut off, with a byte more, and with one in another's place, at every place.
func TestTextOfABodyThatWasDamagedAnywhere(t *testing.T) {
	whole := signedAs(`{"b":["\ud83d\udd11",{"a":-1,"":true}],"a":null}`)
	wantLibraryText(t, []byte(whole))
	for n := range len(whole) {
		wantLibraryText(t, []byte(whole[:n]))
		for _, b := range []byte("\x00\"\\{}[]:,0-x\xff ") {
			wantLibraryText(t, []byte(whole[:n]+string(rune(b))+whole[n:]))
			wantLibraryText(t, slices.Concat([]byte(whole[:n]), []byte{b}, []byte(whole[n+1:])))
		}
	}
}
