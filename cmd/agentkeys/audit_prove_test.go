package main

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzParseSubject: a place has one spelling, an ID that of records beside the one in
// other cases, and nothing is taken for both.
func FuzzParseSubject(f *testing.F) {
	for _, text := range []string{"1", "9223372036854775807", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav", "00000000000000000000000004", "0", "-1", "é"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSubject(text)
		switch {
		case err != nil:
			if s != (subject{}) {
				t.Errorf("%q is refused, and read as %+v", text, s)
			}
		case s.place != 0:
			if s.place < 1 || s.id != "" || fmt.Sprint(s.place) != text {
				t.Errorf("%q was read as %+v", text, s)
			}
		default:
			if len(s.id) != 26 || strings.ToUpper(text) != s.id {
				t.Errorf("%q was read as %+v", text, s)
			}
		}
	})
}
