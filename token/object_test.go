package token

import (
	"encoding/json"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Time{
		"1":            time.Unix(1, 0),
		"1800000000":   time.Unix(1_800_000_000, 0),
		"253402300799": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	} {
		got, err := object{"exp": json.Number(text)}.seconds("exp")
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: want %s, got %s, %v", text, want, got, err)
		}
	}
	for _, text := range []string{"0", "-1", "-1800000000", "253402300800", "9223372036854775807", "9223372036854775808", "1.0", "1e3", "-0"} {
		_, err := object{"exp": json.Number(text)}.seconds("exp")
		wantText(t, err, "exp: want whole seconds from 1 to 253402300799")
	}
	for _, o := range []object{{}, {"exp": "1"}, {"iat": json.Number("1")}} {
		_, err := o.seconds("exp")
		wantText(t, err, "want exp as a number, got none")
	}
}
