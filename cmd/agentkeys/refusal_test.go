package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"agentkeys/agentkeystest"
	"agentkeys/broker"
	"agentkeys/client"
)

// Who is over a budget hears how large it is and how long to wait: the header that the
// broker says it in is not to be seen on a command line.
func TestOverBudgetHearsHowLong(t *testing.T) {
	k, _ := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.Budgets = broker.Budgets{PerAccount: 1, PerGrant: 1, PerNetwork: 100} })
	p := k.Party(t)
	g := k.Grant(t, p, p, "reports")
	key := filepath.Join(t.TempDir(), "alice.key")
	if err := client.WriteWalletFile(key, p.Wallet); err != nil {
		t.Fatal(err)
	}
	at := " --broker " + k.Issuer + " --wallet " + key
	for _, args := range []string{"mint" + at, "creds" + at + " --path reports --grant " + g.GrantID} {
		var stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), nil, new(bytes.Buffer), &stderr); code != exitOK {
			t.Fatalf("%.10s: status %d, said %q", args, code, &stderr)
		}
		var stdout bytes.Buffer
		code := run(t.Context(), strings.Fields(args), nil, &stdout, &stderr)
		said := stderr.String()
		if code != exitBroken || stdout.Len() > 0 || !strings.Contains(said, ", 1 a minute, is spent\n") ||
			!strings.Contains(said, "hint: Wait 1m0s; keep credentials until they end.\n") || strings.Contains(said, "Retry-After") {
			t.Errorf("%.10s: status %d, printed %d bytes, said %q", args, code, stdout.Len(), said)
		}
	}
}

// Whatever was written wrong is named as it was written, with what to write.
func TestWrongUseIsNamed(t *testing.T) {
	k := agentkeystest.New(t)
	p := k.Party(t)
	dir := t.TempDir()
	key := filepath.Join(dir, "alice.key")
	if err := client.WriteWalletFile(key, p.Wallet); err != nil {
		t.Fatal(err)
	}
	g := k.Grant(t, p, p, "reports")
	at := func(broker, wallet string, more ...string) []string {
		return append([]string{"--broker", broker, "--wallet", wallet}, more...)
	}
	create := func(path string) []string {
		return append([]string{"grant", "create"}, at(k.Issuer, key, "--daemon", p.Address(), "--actions", "get", "--expires", "1h", "--uses", "1", "--path", path)...)
	}
	creds := func(more ...string) []string {
		return append([]string{"creds"}, at(k.Issuer, key, append([]string{"--grant", g.GrantID}, more...)...)...)
	}
	list := func(broker, wallet string) []string { return append([]string{"grant", "list"}, at(broker, wallet)...) }
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{append([]string{"grant", "show"}, at(k.Issuer, key)...), exitUsage, "error: want the id of a grant, got none\n"},
		{append([]string{"grant", "show"}, at(k.Issuer, key, "")...), exitUsage, "error: want the id of a grant, got \"\"\n"},
		{append([]string{"grant", "revoke"}, at(k.Issuer, key, "")...), exitUsage, "error: want the id of a grant, got \"\"\n"},
		{append([]string{"grant", "revoke"}, at(k.Issuer, key, g.GrantID, "b")...), exitUsage, "error: want the id of one grant, got \"" + g.GrantID + "\" and then \"b\"\n"},
		{create("//"), exitUsage, "hint: --path: want one below the owner's prefix such as reports/2026, or \"/\" for all of it\n"},
		{create("/*"), exitUsage, "hint: --path: leave the wildcard out: a path covers all that lies beneath it\n"},
		{create("/reports/"), exitUsage, "hint: --path: leave the leading slash out: \"reports/\"\n"},
		{creds("--path", "reports", "--agent", "\xff"), exitUsage, "error: --agent: want UTF-8, got \"\\xff\"\n"},
		{creds("--path", "reports/\xff"), exitUsage, "error: --path: want UTF-8, got \"reports/\\xff\"\n"},
		{create("reports/\xff"), exitUsage, "error: --path: want UTF-8, got \"reports/\\xff\"\n"},
		{list(k.Issuer+"/v1", key), exitUsage, "error: making a client: want the broker's issuer URL, a host and nothing behind it, got \"" + k.Issuer + "/v1\"\n"},
		{list(strings.Replace(k.Issuer, "://", "://user:hunter2@", 1), key), exitUsage, "a host and nothing behind it, got \"http://user:xxxxx@"},
		{list(strings.Replace(k.Issuer, "http:", "https:", 1), key), exitBroken, "hint: see that the broker runs, and that --broker is its issuer URL\n"},
		{list(k.Issuer, dir), exitBroken, "error: reading the wallet key " + dir + ": want a file, got a folder\n"},
		{list(k.Issuer, "/dev/null"), exitBroken, "error: reading the wallet key /dev/null: want a file, got a device\n"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), tc.args, nil, &stdout, &stderr)
		if said := stderr.String(); code != tc.code || stdout.Len() > 0 || !strings.Contains(said, tc.says) || strings.Contains(said, "hunter2") {
			t.Errorf("%q: status %d, want %d; said %q, want %q", tc.args, code, tc.code, said, tc.says)
		}
	}
	page, err := k.Client.GrantList(t.Context(), p.Session.SessionJWT, "", 0)
	if err != nil || len(page.Grants) != 1 || page.Grants[0].UsedCount != 0 || page.Grants[0].RevokedAt != nil {
		t.Errorf("grants %+v (%v), want the one there was, neither used nor revoked", page.Grants, err)
	}
}
