package auth

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"agentkeys/identity"
)

// vectors is testdata/vectors.json: what the npm packages ethers and siwe make
// of messages and signatures. testdata/README.md tells how it came about.
type vectors struct {
	Wallets []struct {
		PrivateKey string `json:"private_key"`
		Address    string `json:"address"`
	} `json:"wallets"`
	Messages []struct {
		Name    string        `json:"name"`
		Message string        `json:"message"`
		Fields  messageFields `json:"fields"`
	} `json:"messages"`
	Readings []struct {
		Name           string `json:"name"`
		Message        string `json:"message"`
		SiweAccepts    bool   `json:"siwe_accepts"`
		SiweWritesBack bool   `json:"siwe_writes_back"`
	} `json:"readings"`
	Signatures []struct {
		Name      string `json:"name"`
		Wallet    int    `json:"wallet"`
		Message   string `json:"message"`
		Signature string `json:"signature"`
	} `json:"signatures"`
	Answers struct {
		Wallet  int      `json:"wallet"`
		Message string   `json:"message"`
		Allowed []answer `json:"allowed"`
		Refused []answer `json:"refused"`
	} `json:"answers"`
}

type answer struct {
	Name      string `json:"name"`
	Code      string `json:"code"`
	Signature string `json:"signature"`
}

type messageFields struct {
	Scheme         *string  `json:"scheme"`
	Domain         string   `json:"domain"`
	Address        string   `json:"address"`
	Statement      *string  `json:"statement"`
	URI            string   `json:"uri"`
	Version        string   `json:"version"`
	ChainID        string   `json:"chain_id"`
	Nonce          string   `json:"nonce"`
	IssuedAt       string   `json:"issued_at"`
	ExpirationTime *string  `json:"expiration_time"`
	NotBefore      *string  `json:"not_before"`
	RequestID      *string  `json:"request_id"`
	Resources      []string `json:"resources"`
}

func (f messageFields) message() Message {
	orEmpty := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return Message{
		Scheme: orEmpty(f.Scheme), Domain: f.Domain, Address: f.Address, Statement: f.Statement, URI: f.URI,
		ChainID: f.ChainID, Nonce: f.Nonce, IssuedAt: f.IssuedAt, ExpirationTime: orEmpty(f.ExpirationTime),
		NotBefore: orEmpty(f.NotBefore), RequestID: f.RequestID, Resources: f.Resources,
	}
}

func loadVectors(t testing.TB) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Wallets) == 0 || len(v.Messages) == 0 || len(v.Readings) == 0 || len(v.Signatures) == 0 ||
		len(v.Answers.Allowed) == 0 || len(v.Answers.Refused) == 0 {
		t.Fatal("testdata/vectors.json has an empty list")
	}
	return v
}

func TestParseMessageReadsWhatSiweWrites(t *testing.T) {
	for _, v := range loadVectors(t).Messages {
		t.Run(v.Name, func(t *testing.T) {
			got, err := ParseMessage(v.Message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.Fields.message(), got); diff != "" {
				t.Errorf("fields (-siwe +ours):\n%s", diff)
			}
			if got.String() != v.Message {
				t.Errorf("String:\n%q, want\n%q", got.String(), v.Message)
			}
		})
	}
}

func TestParseMessageAcceptsWhatSiweAccepts(t *testing.T) {
	for _, v := range loadVectors(t).Readings {
		t.Run(v.Name, func(t *testing.T) {
			got, err := ParseMessage(v.Message)
			if accepted := err == nil; accepted != v.SiweAccepts {
				t.Fatalf("accepted %v (%v), siwe accepted %v", accepted, err, v.SiweAccepts)
			}
			if err == nil && got.String() != v.Message {
				t.Errorf("String:\n%q, want\n%q", got.String(), v.Message)
			}
		})
	}
}

func TestRecoverAddressOfEthersSignatures(t *testing.T) {
	v := loadVectors(t)
	for _, s := range v.Signatures {
		t.Run(s.Name, func(t *testing.T) {
			got, err := RecoverAddress(s.Message, s.Signature)
			if err != nil {
				t.Fatal(err)
			}
			if want := v.Wallets[s.Wallet].Address; identity.Checksum(got) != want {
				t.Errorf("recovered %s, want %s", got, want)
			}
			if other, err := RecoverAddress(s.Message+" ", s.Signature); err == nil && other == got {
				t.Error("the same signature recovers over another message")
			}
		})
	}
}
