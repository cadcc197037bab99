package broker_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/broker"
	"agentkeys/client"
	"agentkeys/identity"
	"agentkeys/token"
)

// withAuditor makes a wallet, and the change that makes it an auditor's.
func withAuditor(t *testing.T) (*client.Wallet, func(*broker.Config)) {
	t.Helper()
	w := newWallet(t)
	return w, func(c *broker.Config) {
		c.Auditors = []identity.Identity{{Type: identity.EVM, Value: strings.ToLower(w.Address())}}
	}
}

func signIn(t *testing.T, k *agentkeystest.Broker, w *client.Wallet) agentkeystest.Party {
	t.Helper()
	session, err := k.Client.SignIn(t.Context(), w, 1)
	if err != nil {
		t.Fatal(err)
	}
	return agentkeystest.Party{Wallet: w, Session: session}
}

// entries reads a page over HTTP, past the client.
func entries(t *testing.T, k *agentkeystest.Broker, p agentkeystest.Party, query string) (page api.AuditEntries) {
	t.Helper()
	a := readAudit(t, k, p, query)
	if a.StatusCode != 200 {
		t.Fatalf("%s: %d %s", query, a.StatusCode, a.body)
	}
	if err := json.Unmarshal(a.body, &page); err != nil {
		t.Fatal(err)
	}
	return page
}

func readAudit(t *testing.T, k *agentkeystest.Broker, p agentkeystest.Party, query string) answer {
	t.Helper()
	return send(t, k, "GET", api.PathAuditEntries+query, "", "Authorization", "Bearer "+p.Session.SessionJWT)
}

// tagOf is the tenant tag of a party.
func tagOf(p agentkeystest.Party) string { return strings.ToLower(p.Address()) }

// count is how many entries there are of an action.
func count(page api.AuditEntries, action string) (n int) {
	for _, e := range page.Entries {
		if e.Action == action {
			n++
		}
	}
	return n
}

func query(pairs ...string) string {
	v := make(url.Values)
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return "?" + v.Encode()
}

// asSubject is an identity as a session has it.
func asSubject(id identity.Identity) token.Subject {
	return token.Subject{IdentityType: string(id.Type), IdentityValue: id.Value, OmniAccount: id.OmniAccount(), Wallet: id.Wallet()}
}
