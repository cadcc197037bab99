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
