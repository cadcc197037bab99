package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentkeys/api"
	"agentkeys/client"
)

const (
	aliceWallet = "0x1111111111111111111111111111111111111aaa"
	carolWallet = "0x2222222222222222222222222222222222222bbb"
)

// falseBroker signs a wallet in, lists grants, and answers a call for credentials with
// those of a tenant, whatever grant it names. It keeps which one that was.
type falseBroker struct {
	grants []api.Grant
	tenant string
	named  string
}

func (f *falseBroker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch r.URL.Path {
	case api.PathWalletStart:
		var start api.WalletStartRequest
		_ = json.NewDecoder(r.Body).Decode(&start)
		answer = api.WalletStartResponse{SIWEMessage: r.Host + " wants you to sign in with your Ethereum account:\n" + start.Address + "\n\nURI: http://" + r.Host}
	case api.PathWalletVerify:
		answer = api.Session{SessionJWT: "session"}
	case api.PathGrantList:
		answer = api.GrantListResponse{Grants: f.grants}
	case api.PathMintAWS:
		var call api.MintAWSRequest
		_ = json.NewDecoder(r.Body).Decode(&call)
		f.named = call.Intent.GrantID
		answer = api.MintAWSResponse{AccessKeyID: "ASIAGIVEN", SecretAccessKey: "secret", SessionToken: "token", Expiration: 1780000000, Wallet: f.tenant}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// Credentials of another tenant than the one that is meant are handed on to nobody,
// and a call names the grant that was meant.
func TestCredentialsAreOfWhoIsMeant(t *testing.T) {
	w, err := client.NewWallet()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "bob.key")
	if err := client.WriteWalletFile(key, w); err != nil {
		t.Fatal(err)
	}
	bob := strings.ToLower(w.Address())
	grantOf := func(id, tenant, daemon, path, status string, end int64) api.Grant {
		return api.Grant{GrantID: id, Wallet: tenant, Owner: strings.Repeat("a", 64), DaemonAddress: daemon, Service: "s3", ScopePath: path, Status: status, ExpiresAt: end}
	}
	grants := []api.Grant{
		grantOf("grn-carol", carolWallet, bob, "/", "active", 9000),
		grantOf("grn-others", aliceWallet, carolWallet, "/", "active", 9000), // not to bob
		grantOf("grn-revoked", aliceWallet, bob, "reports", "revoked", 8000),
		grantOf("grn-narrow", aliceWallet, bob, "reports/2026", "active", 7000),
		grantOf("grn-short", aliceWallet, bob, "reports", "active", 1000),
		grantOf("grn-long", aliceWallet, bob, "reports", "active", 2000),
	}
	upper := "0x" + strings.ToUpper(aliceWallet[2:])
	for _, tc := range []struct {
		flags, tenant string
		named         string // "" where nothing is asked for
		given         bool
	}{
		{"--path reports --owner " + aliceWallet, aliceWallet, "grn-long", true},
		{"--path reports --owner " + upper, aliceWallet, "grn-long", true},
		{"--path reports/2026/q1 --owner " + aliceWallet, aliceWallet, "grn-narrow", true},
		{"--path reports --owner " + aliceWallet, carolWallet, "grn-long", false},
		{"--path reports --owner " + aliceWallet, upper, "grn-long", false},
		{"--path reports --owner " + aliceWallet, "", "grn-long", false},
		{"--path other --owner " + aliceWallet, carolWallet, "grn-revoked", false},
		{"--path reports --owner 0x3333333333333333333333333333333333333ccc", carolWallet, "", false},
		{"--path reports --owner " + bob, bob, "", false}, // no broker gives that beside carol's grant
		{"--path reports --service other --owner " + bob, bob, "", true},
		{"--path reports --service other --owner " + bob, carolWallet, "", false},
		{"--path reports --grant grn-short", aliceWallet, "grn-short", true},
		{"--path reports --grant grn-short", carolWallet, "grn-short", false},
		{"--path reports --grant grn-carol --owner " + aliceWallet, carolWallet, "", false},
		{"--path reports --grant grn-none", aliceWallet, "", false},
	} {
		for _, format := range []string{"json", "env"} {
			f := &falseBroker{grants: grants, tenant: tc.tenant}
			server := httptest.NewServer(f)
			args := append([]string{"creds", "--broker", server.URL, "--wallet", key, "--format", format}, strings.Fields(tc.flags)...)
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), args, nil, &stdout, &stderr)
			server.Close()
			printed := strings.Contains(stdout.String(), "ASIAGIVEN")
			if (code == exitOK) != tc.given || printed != tc.given || f.named != tc.named {
				t.Errorf("%s, answered with %q: status %d, printed: %v, named %q; want given: %v, named %q\n%s", tc.flags, tc.tenant, code, printed, f.named, tc.given, tc.named, &stderr)
			}
			if text := stdout.String(); !tc.given && format == "json" && text != "" {
				t.Errorf("%s: a refusal prints %q", tc.flags, text)
			}
		}
	}
}

// Whatever goes wrong, the eval of what is printed ends with status 1 in a real shell
// and leaves no credentials of earlier; in every other form a failure prints nothing.
func TestFailuresAreClosedForEval(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.key")
	for _, tc := range []struct {
		args   string
		closed bool
	}{
		{"creds --format env", true},
		{"creds --format=env --no-such-flag", true},
		{"creds --no-such-flag --format env", true},
		{"creds --format env --broker http://127.0.0.1:1 --wallet " + missing + " --path reports --grant grn-a", true},
		{"creds --format env positional", true},
		{"creds --format env -- true", true},
		{"creds --format json --format env", true},
		{"creds --format json", false},
		{"creds --format yaml", false},
		{"creds --path reports -- sh --format env", false},
		{"grant create --path env --format env", false},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(tc.args), nil, &stdout, &stderr); code == exitOK || stderr.Len() == 0 {
			t.Errorf("%s: status %d, said %q", tc.args, code, &stderr)
		}
		if !tc.closed {
			if stdout.Len() > 0 {
				t.Errorf("%s: printed %q", tc.args, &stdout)
			}
			continue
		}
		cmd := exec.Command("/bin/sh", "-c", `eval "$1"; echo "$?"; env`, "sh", stdout.String())
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		for _, name := range append([]string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION"}, rivals...) {
			cmd.Env = append(cmd.Env, name+"=stale")
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "1\n") || strings.Contains(string(out), "AWS_") || strings.Contains(string(out), "stale") {
			t.Errorf("%s: evaluated to %s (%v)", tc.args, out, err)
		}
	}
}

// What a grant that was revoked has left ends with the grant, or at AWS's longest
// after the last use; what is to be pasted is an address.
func TestWhatARevokedGrantHasLeft(t *testing.T) {
	used := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	last := used.Unix()
	for _, tc := range []struct {
		g    api.Grant
		want string
	}{
		{api.Grant{Wallet: aliceWallet, ExpiresAt: last + 90000}, "It was never used: no credentials are out under it.\n"},
		{api.Grant{Wallet: aliceWallet, ExpiresAt: last + 90000, LastUsedAt: &last},
			"Credentials that are out already work on: until their end, 2026-03-02 00:00:00 UTC at the latest.\n" +
				"To end them now is for the operator of the AWS side: agentkeys revoke --tenant " + aliceWallet + "\n"},
		{api.Grant{Wallet: "x; rm -rf ~", ExpiresAt: last + 60, LastUsedAt: &last},
			"Credentials that are out already work on: until their end, 2026-03-01 12:01:00 UTC at the latest.\n"},
	} {
		var b strings.Builder
		writeLeft(&b, tc.g)
		if b.String() != tc.want {
			t.Errorf("got %q, want %q", b.String(), tc.want)
		}
	}
}

// A reader that went away is told of to nobody; any other failure to write is.
func TestReaderThatWentAway(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
		said bool
	}{
		{fmt.Errorf("write |1: %w", syscall.EPIPE), exitReaderGone, false},
		{fmt.Errorf("write |1: %w", syscall.ENOSPC), exitBroken, true},
	} {
		var stderr bytes.Buffer
		f := httptest.NewServer(&falseBroker{grants: []api.Grant{{GrantID: "grn-a"}}})
		key := filepath.Join(t.TempDir(), "bob.key")
		w, err := client.NewWallet()
		if err == nil {
			err = client.WriteWalletFile(key, w)
		}
		if err != nil {
			t.Fatal(err)
		}
		code := run(t.Context(), []string{"grant", "list", "--broker", f.URL, "--wallet", key}, nil, brokenWriter{tc.err}, &stderr)
		f.Close()
		if code != tc.code || (stderr.Len() > 0) != tc.said {
			t.Errorf("%v: status %d, said %q", tc.err, code, &stderr)
		}
	}
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"serve", "--help"}, nil, brokenWriter{syscall.EPIPE}, &stderr); code != exitOK || stderr.Len() > 0 {
		t.Errorf("help: status %d, said %q", code, &stderr)
	}
}

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }
