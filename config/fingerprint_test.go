package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// Every variable is in the fingerprint, whether it is set or not, in whatever order
// the environment has them; and what is no variable of ours is not.
func TestFingerprint(t *testing.T) {
	environ := []string{"BROKER_ISSUER=https://a.example", "PATH=/bin", "BROKER_BIND=127.0.0.1:1"}
	f := FingerprintOf(environ)
	var text strings.Builder
	for _, v := range table {
		value := v.standard
		switch v.name {
		case "BROKER_ISSUER":
			value = "https://a.example"
		case "BROKER_BIND":
			value = "127.0.0.1:1"
		}
		fmt.Fprintf(&text, "%s=%q\n", v.name, value)
	}
	sum := sha256.Sum256([]byte(text.String()))
	if want := hex.EncodeToString(sum[:]); f.SHA256 != want {
		t.Errorf("fingerprint %s, want %s", f.SHA256, want)
	}
	if got := slices.Sorted(maps.Keys(f.Set)); !slices.Equal(got, []string{"BROKER_BIND", "BROKER_ISSUER"}) {
		t.Errorf("set: %v", got)
	}
	slices.Reverse(environ)
	if again := FingerprintOf(environ); again.SHA256 != f.SHA256 || !maps.Equal(again.Set, f.Set) {
		t.Errorf("in another order: %+v, want %+v", again, f)
	}
	for _, other := range [][]string{
		{"BROKER_ISSUER=https://b.example", "BROKER_BIND=127.0.0.1:1"},
		{"BROKER_ISSUER=https://a.example"},
		{"BROKER_ISSUER=https://a.example", "BROKER_BIND=127.0.0.1:1", "BROKER_LOG_LEVEL=warn"},
	} {
		if FingerprintOf(other).SHA256 == f.SHA256 {
			t.Errorf("%v has the fingerprint of %v", other, environ)
		}
	}
	if a, b := f.Set["BROKER_ISSUER"], FingerprintOf([]string{"BROKER_ISSUER=https://b.example"}).Set["BROKER_ISSUER"]; a == b || len(a) != 8 {
		t.Errorf("digests of two values are %q and %q, want two of 8 digits", a, b)
	}
}
