package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The three examples of ERC-4361.
func TestParseMessageReadsTheExamplesOfTheStandard(t *testing.T) {
	const body = ` wants you to sign in with your Ethereum account:
0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2

I accept the ExampleOrg Terms of Service: https://example.com/tos

URI: https://example.com/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2021-09-30T16:25:24Z
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json`
	for origin, want := range map[string][2]string{
		"example.com":         {"", "example.com"},
		"example.com:3388":    {"", "example.com:3388"},
		"https://example.com": {"https", "example.com"},
	} {
		m, err := ParseMessage(origin + body)
		if err != nil {
			t.Errorf("%s: %v", origin, err)
			continue
		}
		if got := [2]string{m.Scheme, m.Domain}; got != want {
			t.Errorf("%s: scheme and domain %q, want %q", origin, got, want)
		}
		if len(m.Resources) != 2 || *m.Statement != "I accept the ExampleOrg Terms of Service: https://example.com/tos" {
			t.Errorf("%s: read as %+v", origin, m)
		}
	}
}

// A field whose text holds a newline must not become two fields.
func TestMessageCannotBeSplitByItsFields(t *testing.T) {
	statement, id := "Sign in.", "siwe-A"
	base := Message{
		Domain: "broker.example", Address: "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2", Statement: &statement,
		URI: "https://broker.example", ChainID: "1", Nonce: "12345678", IssuedAt: "2026-03-01T12:00:00Z", RequestID: &id,
	}
	if _, err := ParseMessage(base.String()); err != nil {
		t.Fatal(err)
	}
	broken := "x\n\nURI: https://evil.example\nVersion: 1\nChain ID: 1\nNonce: 87654321\nIssued At: 2026-03-01T12:00:00Z"
	for name, set := range map[string]func(*Message){
		"domain":     func(m *Message) { m.Domain = broken },
		"address":    func(m *Message) { m.Address += "\n" + broken },
		"statement":  func(m *Message) { m.Statement = &broken },
		"URI":        func(m *Message) { m.URI += "\n" + broken },
		"chain id":   func(m *Message) { m.ChainID += "\n" + broken },
		"nonce":      func(m *Message) { m.Nonce += "\nIssued At: 2026-03-01T12:00:00Z" },
		"issued at":  func(m *Message) { m.IssuedAt += "\nExpiration Time: 2036-03-01T12:00:00Z" },
		"request id": func(m *Message) { s := id + "\nResources:\n- urn:x"; m.RequestID = &s },
	} {
		m := base
		set(&m)
		if read, err := ParseMessage(m.String()); err == nil && reflect.DeepEqual(read, m) {
			t.Errorf("%s with newlines reads as it was written", name)
		}
	}
}

// ruleOfMessage is ERC-4361's grammar as one regular expression, a second
// reading of the standard. It leaves dates and IP literals coarser.
var ruleOfMessage = func() *regexp.Regexp {
	const (
		pct       = `%[0-9A-Fa-f]{2}`
		unres     = `A-Za-z0-9\-._~`
		sub       = `!$&'()*+,;=`
		pchar     = `(?:[` + unres + sub + `:@]|` + pct + `)`
		host      = `(?:\[[0-9A-Za-z:.` + unres + sub + `]+\]|(?:[` + unres + sub + `]|` + pct + `)*)`
		authority = `(?:(?:[` + unres + sub + `:]|` + pct + `)*@)?` + host + `(?::[0-9]*)?`
		scheme    = `[A-Za-z][A-Za-z0-9+\-.]*`
		hier      = `(?://` + authority + `(?:/` + pchar + `*)*|/(?:` + pchar + `+(?:/` + pchar + `*)*)?|` + pchar + `+(?:/` + pchar + `*)*|)`
		tail      = `(?:` + pchar + `|[/?])*`
		uri       = scheme + `:` + hier + `(?:\?` + tail + `)?(?:#` + tail + `)?`
		date      = `[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+\-][0-9]{2}:[0-9]{2})`
		statement = `[` + unres + sub + `:/?#\[\]@ ]*`
	)
	return regexp.MustCompile(`\A(?:` + scheme + `://)?` + authority + ` wants you to sign in with your Ethereum account:\n` +
		`0x[0-9A-Fa-f]{40}\n\n(?:` + statement + `\n)?\nURI: ` + uri + `\nVersion: 1\nChain ID: [0-9]+\nNonce: [A-Za-z0-9]{8,}\n` +
		`Issued At: ` + date + `(?:\nExpiration Time: ` + date + `)?(?:\nNot Before: ` + date + `)?` +
		`(?:\nRequest ID: ` + pchar + `*)?(?:\nResources:(?:\n- ` + uri + `)*)?\z`)
}()

func FuzzSIWEMessage(f *testing.F) {
	v := loadVectors(f)
	for _, m := range v.Messages {
		f.Add(m.Message)
	}
	for _, r := range v.Readings {
		f.Add(r.Message)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMessage(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has more than one line: %q", err)
			}
			return
		}
		if got := m.String(); got != text {
			t.Fatalf("reads\n%q\nbut writes\n%q", text, got)
		}
		if !ruleOfMessage.MatchString(text) {
			t.Fatalf("accepts what the grammar does not: %q", text)
		}
	})
}

// The grammar's regular expression is itself held against siwe, or it would
// prove nothing.
func TestRuleOfMessageAcceptsWhatSiweAccepts(t *testing.T) {
	for _, v := range loadVectors(t).Readings {
		if v.SiweAccepts && !ruleOfMessage.MatchString(v.Message) {
			t.Errorf("%s: the regular expression refuses it", v.Name)
		}
	}
}

func TestSeedsOfFuzzTargetsExist(t *testing.T) {
	for _, target := range []string{"FuzzSIWEMessage", "FuzzSignature"} {
		seeds, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
		if err != nil || len(seeds) == 0 {
			t.Errorf("%s: want seeds, got %d (%v)", target, len(seeds), err)
		}
		for _, seed := range seeds {
			if info, err := os.Stat(seed); err != nil || info.Size() == 0 {
				t.Errorf("%s: empty seed (%v)", seed, err)
			}
		}
	}
}

func ExampleParseMessage() {
	m, err := ParseMessage("broker.example wants you to sign in with your Ethereum account:\n" +
		"0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2\n\n\n" +
		"URI: https://broker.example\nVersion: 1\nChain ID: 1\nNonce: 32891756\nIssued At: 2026-03-01T12:00:00Z")
	fmt.Println(m.Domain, m.Address, err)
	// Output: broker.example 0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2 <nil>
}
