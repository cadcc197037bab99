package client_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"testing"

	"agentkeys/auth"
	"agentkeys/client"
	"agentkeys/identity"
)

// walletVectors are keys, addresses and signatures of the npm package ethers;
// auth/testdata/README.md tells how they were made.
type walletVectors struct {
	Wallets []struct {
		PrivateKey string `json:"private_key"`
		Address    string `json:"address"`
	} `json:"wallets"`
	Signatures []struct {
		Name      string `json:"name"`
		Wallet    int    `json:"wallet"`
		Message   string `json:"message"`
		Signature string `json:"signature"`
	} `json:"signatures"`
}

func loadWalletVectors(t *testing.T) walletVectors {
	t.Helper()
	data, err := os.ReadFile("../auth/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v walletVectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Wallets) == 0 || len(v.Signatures) == 0 {
		t.Fatal("the vectors are empty")
	}
	return v
}

func TestWalletSignsAsEthersDoes(t *testing.T) {
	v := loadWalletVectors(t)
	for _, s := range v.Signatures {
		t.Run(s.Name, func(t *testing.T) {
			key := v.Wallets[s.Wallet]
			w, err := client.ParseWallet(key.PrivateKey)
			if err != nil {
				t.Fatal(err)
			}
			if w.Address() != key.Address {
				t.Errorf("address %s, want %s", w.Address(), key.Address)
			}
			if got := w.SignMessage(s.Message); got != s.Signature {
				t.Errorf("signature %s, want %s", got, s.Signature)
			}
		})
	}
}

func TestNewWalletSignsWhatTheBrokerRecovers(t *testing.T) {
	halfOrder, _ := new(big.Int).SetString("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0", 16)
	seen := map[string]bool{}
	for n := range 64 {
		w, err := client.NewWallet()
		if err != nil {
			t.Fatal(err)
		}
		if seen[w.Address()] {
			t.Fatalf("address %s came twice", w.Address())
		}
		seen[w.Address()] = true
		message := strings.Repeat("é", n)
		signature := w.SignMessage(message)
		recovered, err := auth.RecoverAddress(message, signature)
		if err != nil {
			t.Fatal(err)
		}
		if got := identity.Checksum(recovered); got != w.Address() {
			t.Errorf("recovered %s, want %s", got, w.Address())
		}
		s, _ := new(big.Int).SetString(signature[66:130], 16)
		if v := signature[130:]; s.Cmp(halfOrder) > 0 || v != "1b" && v != "1c" {
			t.Errorf("signature %s: want a low s and a v of 27 or 28", signature)
		}
	}
}

func TestParseWallet(t *testing.T) {
	const key = "00000000000000000000000000000000000000000000000000000000000000AB"
	bare, err := client.ParseWallet(key)
	if err != nil {
		t.Fatal(err)
	}
	prefixed, err := client.ParseWallet("0x" + strings.ToLower(key))
	if err != nil || prefixed.Address() != bare.Address() {
		t.Errorf("with 0x: %v, %v; want %v", prefixed, err, bare)
	}
	const order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
	for name, text := range map[string]string{
		"empty":             "",
		"0x alone":          "0x",
		"0x twice":          "0x0x" + key[2:],
		"capital X":         "0X" + key,
		"one digit short":   key[1:],
		"one digit long":    "0" + key,
		"not hexadecimal":   "g" + key[1:],
		"newline":           key + "\n",
		"zero":              strings.Repeat("0", 64),
		"the order":         order,
		"beyond the order":  strings.Repeat("f", 64),
		"a seed phrase":     "test test test test test test test test test test test junk",
		"64 of other bytes": strings.Repeat("é", 32),
	} {
		w, err := client.ParseWallet(text)
		if err == nil || w != nil {
			t.Errorf("%s: got %v, %v", name, w, err)
			continue
		}
		if strings.Contains(err.Error(), "\n") || len(text) > 20 && strings.Contains(err.Error(), text[1:20]) {
			t.Errorf("%s: the error holds the input: %v", name, err)
		}
	}
	if _, err := client.ParseWallet(order[:63] + "0"); err != nil {
		t.Errorf("the largest key: %v", err)
	}
}

// Whatever a careless line of code does with a wallet, its key stays inside.
func TestWalletNeverPrintsItsKey(t *testing.T) {
	const key = "0x8d7b806b70cb07f7a882cd76cbf5e68c10a574b202a35c95e0bc9e08a66fd453"
	w, err := client.ParseWallet(key)
	if err != nil {
		t.Fatal(err)
	}
	number, _ := new(big.Int).SetString(key[2:], 16)
	// The key as digits, as a decimal number, as raw bytes, and its first and
	// last words as the library keeps them.
	secrets := []string{key[2:34], key[34:], number.String(), string(number.Bytes()), "2792346707", "2373681259", "[141 123 128"}
	check := func(how, out string) {
		t.Helper()
		for _, secret := range secrets {
			if strings.Contains(strings.ToLower(out), secret) {
				t.Errorf("%s prints the key: %s", how, out)
			}
		}
	}
	type holder struct {
		Public  *client.Wallet
		private *client.Wallet
		value   client.Wallet
		any     any
	}
	held := holder{w, w, *w, *w}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		for how, v := range map[string]any{"pointer": w, "value": *w} {
			if got, want := fmt.Sprintf(verb, v), "wallet "+w.Address(); got != want {
				t.Errorf("%s of %s prints %q, want %q", verb, how, got, want)
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%c", "%U", "%t", "%e", "%p", "%T", "%w"} {
		for how, v := range map[string]any{"pointer": w, "value": *w, "holder": held, "pointer to holder": &held, "slice": []*client.Wallet{w}, "map": map[string]client.Wallet{"a": *w}} {
			check(verb+" of "+how, fmt.Sprintf(verb, v))
		}
	}
	for how, v := range map[string]any{"pointer": w, "value": *w, "holder": held} {
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		check("JSON of "+how, string(out))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "wallet", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "wallet", v)
		check("slog of "+how, log.String())
	}
	check("an error", fmt.Errorf("signing with %v", w).Error())
}
