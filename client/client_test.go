package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentkeys/api"
)

func TestNewRefusesAnInsecureBroker(t *testing.T) {
	for base, want := range map[string]string{
		"http://broker.example.com": "want https",
		"http://127.0.0.1.evil.com": "want https",
		"ftp://broker.example.com":  "want the broker's URL",
		"broker.example.com":        "want the broker's URL",
		"":                          "want the broker's URL",
		// What is signed names the issuer, which has nothing behind its host.
		"https://broker.example.com/v1":              "a host and nothing behind it",
		"https://broker.example.com?":                "a host and nothing behind it",
		"https://broker.example.com?a=b":             "a host and nothing behind it",
		"https://broker.example.com#a":               "a host and nothing behind it",
		"https://user:password@broker.example.com":   "a host and nothing behind it, got \"https://user:xxxxx@broker.example.com\"",
		"http://user:password@127.0.0.1.example.com": "a host and nothing behind it, got \"http://user:xxxxx@",
	} {
		if _, err := New(base, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", base, err, want)
		}
	}
	for _, base := range []string{"https://broker.example.com", "http://127.0.0.1:8091", "http://localhost:8091", "http://[::1]:8091"} {
		if _, err := New(base, nil); err != nil {
			t.Errorf("%q: %v", base, err)
		}
	}
}

// A false broker hands out the challenge of another site, or one for this site
// by another scheme; the wallet must sign neither.
func TestSignInSignsOnlyForItsBroker(t *testing.T) {
	w, err := NewWallet()
	if err != nil {
		t.Fatal(err)
	}
	var message string
	signed := false
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == api.PathWalletVerify {
			signed = true
		}
		_ = json.NewEncoder(rw).Encode(api.WalletStartResponse{RequestID: "siwe-x", SIWEMessage: message})
	}))
	defer server.Close()
	c, err := New(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(server.URL, "http://")
	good := func(domain, address, uri string) string {
		return domain + " wants you to sign in with your Ethereum account:\n" + address + "\n\n\nURI: " + uri + "\nVersion: 1"
	}
	for name, m := range map[string]string{
		"another domain":  good("bank.example", w.Address(), server.URL),
		"another address": good(host, "0x0000000000000000000000000000000000000001", server.URL),
		"another scheme":  good(host, w.Address(), "https://"+host),
		"a longer URI":    good(host, w.Address(), server.URL+".evil.com"),
		"no message":      "",
		"a transaction":   "0x02f87001",
	} {
		message = m
		if _, err := c.SignIn(t.Context(), w, 1); err == nil || !strings.Contains(err.Error(), "signing in: want") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if signed {
		t.Error("the wallet signed")
	}
	message = good(host, w.Address(), server.URL)
	if _, err := c.SignIn(t.Context(), w, 1); err != nil || !signed {
		t.Errorf("the good message: %v, signed %v", err, signed)
	}
}

// A bearer token does not follow a redirect to another host.
func TestRedirectIsNotFollowed(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	c, err := New(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.MintOIDC(t.Context(), "token")
	var e *api.Error
	if !errors.As(err, &e) || e.Status != http.StatusTemporaryRedirect || reached {
		t.Errorf("got %v, the other host was reached: %v", err, reached)
	}
}

func TestWalletFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.key")
	w, err := NewWallet()
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteWalletFile(path, w); err != nil {
		t.Fatal(err)
	}
	read, err := ReadWalletFile(path)
	if err != nil || read.Address() != w.Address() {
		t.Errorf("read %v, %v; want %v", read, err, w)
	}
	if err := WriteWalletFile(path, w); !errors.Is(err, os.ErrExist) {
		t.Errorf("over an existing file: %v", err)
	}
	if _, err := ReadWalletFile(path); err != nil {
		t.Errorf("the existing file was touched: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadWalletFile(path); err == nil || !strings.Contains(err.Error(), "want mode 0600, got 0640") {
		t.Errorf("a file that the group can read: %v", err)
	}
	if _, err := ReadWalletFile(dir); err == nil || !strings.Contains(err.Error(), "want a file") {
		t.Errorf("a folder: %v", err)
	}
}
