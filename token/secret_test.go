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
	s := newSecret(text)
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
	if got := fmt.Sprintf("%#v", newSecret("abc")); got != "[secret ba78…]" {
		t.Errorf("want [secret ba78…], got %s", got)
	}
	if got := string(toJSON(t, newSecret("abc"))); got != `"[secret ba78…]"` {
		t.Errorf(`want "[secret ba78…]", got %s`, got)
	}
	if got := fmt.Sprint(Secret{}); got != "[secret, empty]" {
		t.Errorf("want [secret, empty], got %s", got)
	}
}
