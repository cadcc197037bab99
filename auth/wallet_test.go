package auth

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"agentkeys/identity"
)

// issued is when the challenge of testdata/vectors.json was issued.
var issued = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const issuer = "https://broker.example"

func newTestWallet(t testing.TB, c WalletConfig) *Wallet {
	t.Helper()
	if c.Issuer == "" {
		c.Issuer = issuer
	}
	w, err := NewWallet(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// vectorChallenge is the challenge whose message siwe wrote and ethers signed.
func vectorChallenge(t testing.TB, w *Wallet) Challenge {
	t.Helper()
	v := loadVectors(t)
	address, err := identity.ParseAddress(v.Wallets[v.Answers.Wallet].Address)
	if err != nil {
		t.Fatal(err)
	}
	c := Challenge{
		RequestID: "siwe-AAAABBBBCCCCDDDDEEEEFFFFGG", Nonce: "K7QJ5ZV2XNOPM3ABCDEFGHIJKL",
		Address: address, ChainID: 1, IssuedAt: issued, ExpiresAt: issued.Add(w.ttl),
	}
	c.Message = w.message(c).String()
	return c
}

func TestMessageIsWhatSiweWrites(t *testing.T) {
	got := vectorChallenge(t, newTestWallet(t, WalletConfig{})).Message
	if want := loadVectors(t).Answers.Message; got != want {
		t.Errorf("message\n%s\nwant\n%s", got, want)
	}
}

func TestNewChallenge(t *testing.T) {
	const checksummed = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	now := time.Date(2026, 3, 1, 13, 0, 0, 123_456_789, time.FixedZone("", 3600))
	for name, test := range map[string]struct {
		issuer, domain string
	}{
		"host":          {"https://broker.example", "broker.example"},
		"port":          {"https://broker.example:8443", "broker.example:8443"},
		"path":          {"https://broker.example/keys", "broker.example"},
		"loopback":      {"http://127.0.0.1:8091", "127.0.0.1:8091"},
		"IPv6 loopback": {"http://[::1]:8091", "[::1]:8091"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestWallet(t, WalletConfig{Issuer: test.issuer})
			for _, address := range []string{checksummed, strings.ToLower(checksummed), "0x" + strings.ToUpper(checksummed[2:])} {
				c, err := w.NewChallenge(address, 5, now)
				if err != nil {
					t.Fatal(err)
				}
				want := test.domain + " wants you to sign in with your Ethereum account:\n" + checksummed + "\n\n" +
					DefaultStatement + "\n\nURI: " + test.issuer + "\nVersion: 1\nChain ID: 5\nNonce: " + c.Nonce +
					"\nIssued At: 2026-03-01T12:00:00.123Z\nExpiration Time: 2026-03-01T12:45:00.123Z\nRequest ID: " + c.RequestID
				if c.Message != want {
					t.Errorf("message\n%s\nwant\n%s", c.Message, want)
				}
				if !c.IssuedAt.Equal(time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)) {
					t.Errorf("issued at %v, want the milliseconds of %v", c.IssuedAt, now)
				}
				if c.Address != strings.ToLower(checksummed) || c.ChainID != 5 || c.ExpiresAt.Sub(c.IssuedAt) != 45*time.Minute {
					t.Errorf("challenge %+v", c)
				}
			}
		})
	}
}

func TestNewChallengeIsNewEachTime(t *testing.T) {
	w := newTestWallet(t, WalletConfig{})
	form := regexp.MustCompile(`^[A-Za-z0-9]{17,}$`)
	seen := map[string]bool{}
	for range 1000 {
		c, err := w.NewChallenge("0x"+strings.Repeat("0", 40), 1, issued)
		if err != nil {
			t.Fatal(err)
		}
		id, found := strings.CutPrefix(c.RequestID, "siwe-")
		if !found || !form.MatchString(id) || !form.MatchString(c.Nonce) {
			t.Fatalf("request id %q, nonce %q", c.RequestID, c.Nonce)
		}
		if seen[id] || seen[c.Nonce] || id == c.Nonce {
			t.Fatal("a request id or a nonce came twice")
		}
		seen[id], seen[c.Nonce] = true, true
	}
}

func TestNewChallengeRefuses(t *testing.T) {
	const address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	for name, test := range map[string]struct {
		address string
		chain   int64
		allowed []int64
		code    string
	}{
		"no address":            {"", 1, nil, CodeAddressMalformed},
		"short address":         {address[:41], 1, nil, CodeAddressMalformed},
		"long address":          {address + "0", 1, nil, CodeAddressMalformed},
		"capital X":             {"0X" + address[2:], 1, nil, CodeAddressMalformed},
		"name for an address":   {"vitalik.eth", 1, nil, CodeAddressMalformed},
		"newline in address":    {address[:30] + "\nURI: evil:", 1, nil, CodeAddressMalformed},
		"newline at the end":    {address[:41] + "\n", 1, nil, CodeAddressMalformed},
		"unicode digit":         {address[:40] + "٢", 1, nil, CodeAddressMalformed},
		"wrong checksum":        {"0x5aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed", 1, nil, CodeAddressChecksum},
		"address before chain":  {"", -1, nil, CodeAddressMalformed},
		"chain zero":            {address, 0, nil, CodeChainNotAllowed},
		"chain negative":        {address, -1, nil, CodeChainNotAllowed},
		"chain least":           {address, math.MinInt64, nil, CodeChainNotAllowed},
		"chain beyond EIP-2294": {address, math.MaxInt64, nil, CodeChainNotAllowed},
		"chain not listed":      {address, 10, []int64{1, 8453}, CodeChainNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := newTestWallet(t, WalletConfig{ChainIDs: test.allowed}).NewChallenge(test.address, test.chain, issued)
			wantCode(t, err, test.code)
			if c != (Challenge{}) {
				t.Errorf("a refusal came with a challenge: %+v", c)
			}
		})
	}
	if _, err := newTestWallet(t, WalletConfig{ChainIDs: []int64{1, 8453}}).NewChallenge(address, 8453, issued); err != nil {
		t.Errorf("listed chain: %v", err)
	}
	if _, err := newTestWallet(t, WalletConfig{}).NewChallenge(address, 1, time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("a year that RFC 3339 cannot write got a challenge")
	}
}

func TestNewWalletRefuses(t *testing.T) {
	for name, c := range map[string]WalletConfig{
		"no issuer":             {},
		"issuer of no scheme":   {Issuer: "broker.example"},
		"issuer of no host":     {Issuer: "https:///path"},
		"issuer of port alone":  {Issuer: "https://:8443"},
		"issuer with newline":   {Issuer: "https://broker.example/\nURI: x"},
		"issuer of ftp":         {Issuer: "ftp://broker.example"},
		"issuer with user":      {Issuer: "https://broker.example@evil.example"},
		"issuer not ASCII":      {Issuer: "https://bröker.example"},
		"issuer encoded":        {Issuer: "https://br%C3%B6ker.example"},
		"issuer with a blank":   {Issuer: "https://broker.example/a b"},
		"issuer with a zone":    {Issuer: "http://[fe80::1%25eth0]:8091"},
		"statement newline":     {Issuer: issuer, Statement: "one\ntwo"},
		"statement unicode":     {Issuer: issuer, Statement: "Grüße"},
		"statement quote":       {Issuer: issuer, Statement: `"yes"`},
		"lifetime negative":     {Issuer: issuer, TTL: -time.Second},
		"lifetime too short":    {Issuer: issuer, TTL: time.Millisecond},
		"lifetime too long":     {Issuer: issuer, TTL: 25 * time.Hour},
		"chain zero":            {Issuer: issuer, ChainIDs: []int64{1, 0}},
		"chain beyond EIP-2294": {Issuer: issuer, ChainIDs: []int64{math.MaxInt64}},
	} {
		if w, err := NewWallet(c); err == nil || w != nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, %v", name, w, err)
		}
	}
}

func TestRecoverAnswersOfEthers(t *testing.T) {
	w := newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	answers := loadVectors(t).Answers
	for _, a := range answers.Allowed {
		t.Run(a.Name, func(t *testing.T) {
			got, err := w.Recover(c, a.Signature)
			if err != nil || got != c.Address {
				t.Errorf("recovered %q, %v; want %s", got, err, c.Address)
			}
		})
	}
	for _, a := range answers.Refused {
		t.Run(a.Name, func(t *testing.T) {
			got, err := w.Recover(c, a.Signature)
			if a.Code == CodeWrongSigner { // for Finish to tell
				if err != nil || got == c.Address {
					t.Errorf("recovered %q, %v; want another address than %s", got, err, c.Address)
				}
				err = w.decide(c, got, nil, issued)
			}
			refusal := wantCode(t, err, a.Code)
			if len(a.Signature) > 8 && strings.Contains(refusal.Error(), a.Signature[2:8]) || strings.Contains(refusal.Error(), c.Nonce) {
				t.Errorf("the refusal holds signature or nonce: %v", refusal)
			}
		})
	}
}

// A database whose rows were changed, or that another issuer wrote, must not
// make an answer count that its owner gave to something else.
func TestRecoverRefusesAMessageThatIsNotTheChallenges(t *testing.T) {
	w := newTestWallet(t, WalletConfig{})
	good := loadVectors(t).Answers.Allowed[0].Signature
	for name, test := range map[string]struct {
		change func(*Challenge)
		code   string
	}{
		"other address":    {func(c *Challenge) { c.Address = "0x" + strings.Repeat("0", 40) }, CodeMessageMismatch},
		"other nonce":      {func(c *Challenge) { c.Nonce = strings.Repeat("A", 26) }, CodeMessageMismatch},
		"other chain":      {func(c *Challenge) { c.ChainID = 10 }, CodeMessageMismatch},
		"other request":    {func(c *Challenge) { c.RequestID = "siwe-" + strings.Repeat("A", 26) }, CodeMessageMismatch},
		"later issue":      {func(c *Challenge) { c.IssuedAt = c.IssuedAt.Add(time.Millisecond) }, CodeMessageMismatch},
		"later end":        {func(c *Challenge) { c.ExpiresAt = c.ExpiresAt.Add(time.Hour) }, CodeMessageMismatch},
		"added resource":   {func(c *Challenge) { c.Message += "\nResources:\n- urn:admin" }, CodeMessageMismatch},
		"added scheme":     {func(c *Challenge) { c.Message = "https://" + c.Message }, CodeMessageMismatch},
		"no message":       {func(c *Challenge) { c.Message = "" }, CodeMessageMismatch},
		"message is prose": {func(c *Challenge) { c.Message = "I owe you 5" }, CodeMessageMismatch},
		"no statement":     {func(c *Challenge) { c.Message = strings.Replace(c.Message, DefaultStatement+"\n", "", 1) }, CodeWrongSigner},
		"other domain":     {func(c *Challenge) { c.Message = strings.Replace(c.Message, "broker.example", "evil.example", 1) }, CodeDomainMismatch},
		"other URI":        {func(c *Challenge) { c.Message = strings.Replace(c.Message, "URI: https", "URI: http", 1) }, CodeDomainMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			c := vectorChallenge(t, w)
			test.change(&c)
			recovered, err := w.Recover(c, good)
			if err == nil {
				err = w.decide(c, recovered, nil, issued)
			}
			wantCode(t, err, test.code)
		})
	}
}

// A challenge stays open when the operator changes the statement or the
// lifetime, and is refused when the broker gets another name.
func TestRecoverAfterTheConfigurationChanged(t *testing.T) {
	c := vectorChallenge(t, newTestWallet(t, WalletConfig{}))
	good := loadVectors(t).Answers.Allowed[0].Signature
	w := newTestWallet(t, WalletConfig{Statement: "Another sentence.", TTL: time.Hour})
	if got, err := w.Recover(c, good); err != nil || got != c.Address {
		t.Errorf("with another statement: %q, %v", got, err)
	}
	_, err := newTestWallet(t, WalletConfig{Issuer: "https://new.example"}).Recover(c, good)
	wantCode(t, err, CodeDomainMismatch)
}

// What a sign-in costs beside the database: the message checked and the key
// recovered.
func BenchmarkWalletRecover(b *testing.B) {
	w := newTestWallet(b, WalletConfig{})
	c := vectorChallenge(b, w)
	signature := loadVectors(b).Answers.Allowed[0].Signature
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Recover(c, signature); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewChallenge(b *testing.B) {
	w := newTestWallet(b, WalletConfig{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.NewChallenge("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", 1, issued); err != nil {
			b.Fatal(err)
		}
	}
}
