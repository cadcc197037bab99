package api

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"
)

func TestTimestamp(t *testing.T) {
	for text, want := range map[string]string{
		`"2026-03-01T12:00:00Z"`:      `"2026-03-01T12:00:00Z"`,
		`"2026-03-01T17:30:00+05:30"`: `"2026-03-01T12:00:00Z"`,
		`"2026-03-01T12:00:00.9Z"`:    `"2026-03-01T12:00:00Z"`,
		`1772366400`:                  `"2026-03-01T12:00:00Z"`,
		`0`:                           `"1970-01-01T00:00:00Z"`,
		`253402300799`:                `"9999-12-31T23:59:59Z"`,
	} {
		var at Timestamp
		if err := json.Unmarshal([]byte(text), &at); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := json.Marshal(at); err != nil || string(got) != want {
			t.Errorf("%s: written %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{`null`, `""`, `"1772366400"`, `1772366400.5`, `1.7723664e9`, `true`, `{}`, `"2026-02-30T12:00:00Z"`, `"2026-03-01"`,
		`"2026-03-01T12:00:00,9Z"`, `"2026-03-01T2:00:00Z"`, `"2026-03-01T12:00:00+24:00"`, `"2026-03-01T12:00:00+01:60"`, `"2026-03-01T12:00:60Z"`,
		`253402300800`, `9223372036854775807`, `-9223372036854775808`, `"9999-12-31T23:59:59-00:01"`, `"0000-01-01T00:00:00+00:01"`} {
		var at Timestamp
		if err := at.UnmarshalJSON([]byte(text)); err == nil || !at.IsZero() {
			t.Errorf("%s: read as %v, %v; want a refusal", text, at, err)
		}
	}
}

// What is read is written as the same time, and reads as that again.
func FuzzParseTime(f *testing.F) {
	for _, text := range []string{"2026-03-01T12:00:00Z", "2026-03-01T12:00:00.123456789-23:59", "2026-03-01T12:00:00,5Z", "0000-01-01T00:00:00Z", "2026-02-29T00:00:00Z",
		"2026-03-01T12:00:00.Z", "2026-03-01T12:00:00+24:00", "2026-03-01T12:00:00+23:60", "2026-03-01T12:00:00", "2026-03-01T12:00:00+", "2026-03-01T12:00:00z", "2026-03-01T12:00:00Z\n"} {
		f.Add(text)
	}
	form := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$`)
	f.Fuzz(func(t *testing.T, text string) {
		if got, want := isRFC3339(text), form.MatchString(text); got != want {
			t.Errorf("%q: has the form: %t, want %t", text, got, want)
		}
		at, err := ParseTime(text)
		if err != nil {
			return
		}
		var strict time.Time
		if err := json.Unmarshal([]byte(`"`+text+`"`), &strict); err != nil || !strict.Equal(at) {
			t.Errorf("%q: encoding/json reads %v, %v; want %v", text, strict, err, at)
		}
		if again, err := ParseTime(at.Format(time.RFC3339Nano)); err != nil || !again.Equal(at) {
			t.Errorf("%q: %v reads as %v, %v", text, at, again, err)
		}
	})
}
