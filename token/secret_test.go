package token

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretDoesNotPrint(t *testing.T) {
	const text = "eyJhbGciOi.very.secret"
	s := NewSecret(text)
	type holder struct {
		Token Secret
		More  map[string]*Secret
	}
	type named struct{ S Secret }
	type hidden struct{ s Secret } // fmt calls no method of it
	h := holder{s, map[string]*Secret{"x": &s}}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("minted", "token", s, "pointer", &s, "holder", h, "list", []Secret{s})
	}
	out := []string{log.String(), s.String(), errors.Join(fmt.Errorf("failed: %w", fmt.Errorf("%v", s))).Error(), fmt.Sprint(s, &s, h), fmt.Sprintln(h)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%c", "%U", "%e", "%t", "%100v", "%-100s", "%.3s", "%O"} {
		out = append(out, fmt.Sprintf(verb, s), fmt.Sprintf(verb, h), fmt.Sprintf(verb, []Secret{s}), fmt.Sprintf(verb, hidden{s}), fmt.Sprintf(verb, &hidden{s}), fmt.Sprintf(verb, map[Secret]Secret{s: s}))
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		for _, v := range []any{s, named{s}} {
			b, err := marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(b))
		}
	}
	if v := slog.AnyValue(s).Resolve(); v.Kind() != slog.KindString || v.String() != s.String() {
		t.Errorf("want a slog handler to get %s, got %v of kind %s", s, v, v.Kind())
	}
	for _, got := range out {
		for _, leak := range []string{text, "very", fmt.Sprintf("%x", "very"), fmt.Sprintf("%X", "very"), "76 65 72 79", "118 101"} {
			if strings.Contains(got, leak) {
				t.Errorf("the secret shows: %s", got)
			}
		}
	}
	if s.Reveal() != text {
		t.Errorf("want Reveal to give %q, got %q", text, s.Reveal())
	}
}

func TestSecretForm(t *testing.T) {
	// SHA-256 of "abc" is ba7816bf… (FIPS 180-2, appendix B.1).
	if got := fmt.Sprintf("%#v", NewSecret("abc")); got != "[secret ba78…]" {
		t.Errorf("want [secret ba78…], got %s", got)
	}
	if got := string(toJSON(t, NewSecret("abc"))); got != `"[secret ba78…]"` {
		t.Errorf(`want "[secret ba78…]", got %s`, got)
	}
	if got := fmt.Sprint(Secret{}); got != "[secret, empty]" {
		t.Errorf("want [secret, empty], got %s", got)
	}
}

func TestRedact(t *testing.T) {
	const jwt = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2kifQ.c2lnbmF0dXJlLW9m"
	for _, test := range []struct{ name, secret, text, want string }{
		{"nothing of it", jwt, "No OpenIDConnect provider found in your account for https://issuer.example", "No OpenIDConnect provider found in your account for https://issuer.example"},
		{"all of it", jwt, "bad token " + jwt + ", sorry", "bad token [secret], sorry"},
		{"twice", jwt, jwt + " and " + jwt, "[secret] and [secret]"},
		{"its signature", jwt, "signature <c2lnbmF0dXJlLW9m>", "signature <[secret]>"},
		{"a piece of eight", jwt, "a c2lnbmF0 b", "a [secret] b"},
		{"a piece of seven", jwt, "a c2lnbmF b", "a c2lnbmF b"},
		{"wrapped at every fifth", jwt, "x eyJhb\nGciOi\nJFUzI\n1NiJ9 y", "x [secret] y"},
		{"with dots between", jwt, "x e.y.J.h.b.G.c.i.O.i y", "x [secret] y"},
		{"with letters beyond ASCII between", jwt, "x eyJhéGci…", "x eyJhéGci…"},
		{"cut at letters beyond ASCII", jwt, "é" + "eyJhbGciOi" + "é", "é[secret]é"},
		{"shorter than a piece", "abc", "abcd-xabc", "[secret]d-x[secret]"},
		{"empty", "", "text", "text"},
		{"no text", jwt, "", ""},
	} {
		if got := NewSecret(test.secret).Redact(test.text); got != test.want {
			t.Errorf("%s: want %q, got %q", test.name, test.want, got)
		}
	}
	if got := (Secret{}).Redact("text"); got != "text" {
		t.Errorf("the zero Secret: want the text, got %q", got)
	}
}

// FuzzRedact holds that no piece of the secret is left, and that text without one
// stays as it is.
func FuzzRedact(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwcyJ9.c2ln", "bad eyJhbGciOiJFUzI1NiJ9 and c2ln")
	f.Add("aaaaaaaaaaaaaaaa", "aaaaaaaaa-aaaaaaaaa")
	f.Add("wJalrXUtnFEMI/K7MDENG", "wJalrXUt\nnFEMI/K7MDENG\xff")
	f.Fuzz(func(t *testing.T, secret, text string) {
		got := NewSecret(secret).Redact(text)
		bare, _ := tokenCharacters(secret)
		found := false
		for i := 0; i+giveaways <= len(bare); i++ {
			piece := bare[i : i+giveaways]
			found = found || strings.Contains(text, piece)
			if strings.Contains(got, piece) {
				t.Fatalf("%q is left in %q", piece, got)
			}
		}
		if found && !strings.Contains(got, redacted) {
			t.Fatalf("want a mark where something was cut, got %q", got)
		}
		if again := NewSecret(secret).Redact(text + got); strings.Count(again, redacted) == 0 && again != text+got {
			t.Fatalf("changed without a mark: %q", again)
		}
	})
}
