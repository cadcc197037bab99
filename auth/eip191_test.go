package auth

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// wantCode fails unless err is the refusal with this code, and returns it.
func wantCode(t *testing.T, err error, code string) *Error {
	t.Helper()
	var refusal *Error
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want the refusal %s", err, code)
	}
	if refusal.Code != code {
		t.Fatalf("refused with %q, want %s", refusal, code)
	}
	if refusal.Detail == "" || strings.Contains(refusal.Detail, "\n") {
		t.Errorf("detail %q, want one line", refusal.Detail)
	}
	return refusal
}

// The hash of personal_sign counts bytes, not characters; the value is that of
// the example in EIP-191's reference implementations for "hello world".
func TestHashMessage(t *testing.T) {
	for message, want := range map[string]string{
		"":            "5f35dce98ba4fba25530a026ed80b2cecdaa31091ba4958b99b52ea1d068adad",
		"hello world": "d9eba16ed0ecae432b71fe008c98cc872bb4cc214d3220a36f365326cf807d68",
	} {
		if got := hex.EncodeToString(hashMessage(message)); got != want {
			t.Errorf("%q: hash %s, want %s", message, got, want)
		}
	}
}

func FuzzSignature(f *testing.F) {
	v := loadVectors(f)
	for _, a := range append(v.Answers.Allowed, v.Answers.Refused...) {
		f.Add(a.Signature)
	}
	const message = "the message"
	f.Fuzz(func(t *testing.T, signature string) {
		address, err := RecoverAddress(message, signature)
		var refusal *Error
		switch {
		case err != nil && !errors.As(err, &refusal):
			t.Fatalf("error %v is no refusal", err)
		case err != nil:
			if len(signature) > 16 && strings.Contains(refusal.Error(), signature[2:]) {
				t.Fatalf("the refusal holds the signature: %v", refusal)
			}
			return
		}
		if len(signature) != signatureLen || len(address) != 42 || address != strings.ToLower(address) {
			t.Fatalf("%q recovers %q", signature, address)
		}
		// v of 0 and 27 are the same answer; so are capitals. Nothing else is.
		again, err := RecoverAddress(message, strings.ToLower(signature))
		if err != nil || again != address {
			t.Fatalf("in lower case: %q, %v; want %q", again, err, address)
		}
	})
}

func BenchmarkRecover(b *testing.B) {
	v := loadVectors(b)
	message, signature := v.Answers.Message, v.Answers.Allowed[0].Signature
	b.ReportAllocs()
	for b.Loop() {
		if _, err := RecoverAddress(message, signature); err != nil {
			b.Fatal(err)
		}
	}
}
