package identity

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// The test cases of EIP-55, in its order.
var eip55 = []string{
	"0x52908400098527886E0F7030069857D2E4169EE7", // all capitals
	"0x8617E340B3D01FA5F11F306F4090FD50E238070D",
	"0xde709f2102306220921060314715629080e2fb77", // all lower case
	"0x27b1fdb04752bbc536007a920d24acb045561c26",
	"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", // mixed
	"0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
	"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
	"0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
}

func TestChecksumOfEIP55(t *testing.T) {
	for _, address := range eip55 {
		lower := strings.ToLower(address)
		if got := Checksum(lower); got != address {
			t.Errorf("checksum of %s is %s, want %s", lower, got, address)
		}
		for _, form := range []string{address, lower, "0x" + strings.ToUpper(address[2:])} {
			if got, err := ParseAddress(form); err != nil || got != lower {
				t.Errorf("%s reads as %q, %v; want %s", form, got, err, lower)
			}
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	const good = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	for name, test := range map[string]struct {
		address string
		want    error
	}{
		"empty":               {"", ErrAddressMalformed},
		"prefix alone":        {"0x", ErrAddressMalformed},
		"no prefix":           {good[2:], ErrAddressMalformed},
		"capital X":           {"0X" + good[2:], ErrAddressMalformed},
		"prefix twice":        {"0x" + good[:40], ErrAddressMalformed},
		"one short":           {good[:41], ErrAddressMalformed},
		"one long":            {good + "0", ErrAddressMalformed},
		"blank before":        {" " + good, ErrAddressMalformed},
		"newline for a digit": {good[:41] + "\n", ErrAddressMalformed},
		"NUL for a digit":     {good[:41] + "\x00", ErrAddressMalformed},
		"g for a digit":       {good[:41] + "g", ErrAddressMalformed},
		"G for a digit":       {good[:41] + "G", ErrAddressMalformed},
		"wide digits":         {good[:39] + "０", ErrAddressMalformed},
		"one letter's case":   {"0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed", ErrAddressChecksum},
		"one digit":           {"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAee", ErrAddressChecksum},
		"all cases turned":    {"0x5AaEB6053f3e94c9B9a09F33669435e7eF1bEaED", ErrAddressChecksum},
	} {
		got, err := ParseAddress(test.address)
		if got != "" || !errors.Is(err, test.want) {
			t.Errorf("%s: got %q, %v; want the error %v", name, got, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has more than one line: %q", name, err)
		}
	}
}

func TestChecksumPanicsOnAnythingElse(t *testing.T) {
	for _, s := range []string{"", "0x", eip55[4], strings.ToLower(eip55[4])[2:], strings.Repeat("a", 42), "0x" + strings.Repeat("g", 40)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q got a checksum", s)
				}
			}()
			Checksum(s)
		}()
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, address := range eip55 {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lower, err := ParseAddress(s)
		if err != nil {
			if lower != "" || !errors.Is(err, ErrAddressMalformed) && !errors.Is(err, ErrAddressChecksum) {
				t.Fatalf("%q: %q, %v", s, lower, err)
			}
			return
		}
		if !strings.EqualFold(s, lower) || lower != strings.ToLower(lower) {
			t.Fatalf("%q reads as %q", s, lower)
		}
		for _, form := range []string{lower, Checksum(lower)} {
			if again, err := ParseAddress(form); err != nil || again != lower {
				t.Fatalf("%q reads as %q, %v; want %q", form, again, err, lower)
			}
		}
	})
}

func TestSeedsOfFuzzParseAddressExist(t *testing.T) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzParseAddress/*")
	if err != nil || len(seeds) == 0 {
		t.Errorf("want seeds, got %d (%v)", len(seeds), err)
	}
}
