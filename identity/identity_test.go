package identity

import (
	"regexp"
	"strings"
	"testing"
)

const lowerAddress = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"

func TestOmniAccount(t *testing.T) {
	for _, test := range []struct {
		id                Identity
		omni, wallet, tag string
	}{
		{
			Identity{EVM, lowerAddress},
			"53984203621218b030ee73424e3d702762ea42ae840bb6daa56b6883c1e824e8", lowerAddress, lowerAddress,
		}, {
			Identity{Email, "alice@example.com"},
			"caf843f7f6b17c15fb43e8f6b2ae2e850045497ba7fb6a58b9d930ba6c158824", "",
			"caf843f7f6b17c15fb43e8f6b2ae2e850045497ba7fb6a58b9d930ba6c158824",
		}, {
			Identity{OAuth2Google, "110169484474386276334"},
			"d3484b9babbad77eb242bdbe6f6282b89ae36279b23138ccaaae52c414167f1c", "",
			"d3484b9babbad77eb242bdbe6f6282b89ae36279b23138ccaaae52c414167f1c",
		},
	} {
		if err := test.id.Check(); err != nil {
			t.Error(err)
		}
		if got := test.id.OmniAccount(); got != test.omni {
			t.Errorf("%v: omni account %s, want %s", test.id, got, test.omni)
		}
		if got := test.id.Wallet(); got != test.wallet {
			t.Errorf("%v: wallet %q, want %q", test.id, got, test.wallet)
		}
		got := test.id.TenantTag()
		if got != test.tag || !regexp.MustCompile(`^[a-z0-9]+$`).MatchString(got) {
			t.Errorf("%v: tenant tag %q, want %q", test.id, got, test.tag)
		}
	}
}

// The omni account hashes type and value without a mark between them: no type
// may be the beginning of another, or one hash would stand for two identities.
func TestNoTypeBeginsAnother(t *testing.T) {
	types := []Type{EVM, Email, OAuth2Google}
	for i, a := range types {
		for j, b := range types {
			if i != j && strings.HasPrefix(string(b), string(a)) {
				t.Errorf("type %q begins with type %q", b, a)
			}
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, id := range map[string]Identity{
		"no type":              {"", lowerAddress},
		"unknown type":         {"EVM", lowerAddress},
		"type and more":        {"evm2", lowerAddress},
		"address with capital": {EVM, eip55[4]},
		"address short":        {EVM, lowerAddress[:41]},
		"address empty":        {EVM, ""},
		"address in e-mail":    {EVM, "alice@example.com"},
		"e-mail empty":         {Email, ""},
		"e-mail with capital":  {Email, "Alice@example.com"},
		"e-mail with newline":  {Email, "alice@example.com\n"},
		"e-mail with blank":    {Email, "alice @example.com"},
		"e-mail too long":      {Email, strings.Repeat("a", 256)},
		"sub with NUL":         {OAuth2Google, "1\x00"},
		"sub with delete":      {OAuth2Google, "1\x7f"},
	} {
		if err := id.Check(); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got the error %v", name, err)
		}
	}
}
