package broker_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/identity"

	"github.com/google/go-cmp/cmp"
)

// behindProxy has a broker take the address of a client from X-Forwarded-For.
func behindProxy(c *broker.Config) {
	c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix("127.0.0.0/8"))
}

// asking sends a request in the name of a session, from an address.
func asking(t *testing.T, k *agentkeystest.Broker, session, from, method, path, body string) answer {
	t.Helper()
	return send(t, k, method, path, body, "Content-Type", jsonType, "Authorization", "Bearer "+session, "X-Forwarded-For", from)
}

// refusals is what the log says of refusals: how many records of their own there are of
// each action and reason, and how many more were counted. It covers one account, or all
// with "".
func refusals(t *testing.T, k *agentkeystest.Broker, account string) (own, counted map[string]int) {
	t.Helper()
	own, counted = map[string]int{}, map[string]int{}
	q := audit.Query{Outcome: audit.Refused, Limit: audit.MaxLimit}
	must(t, k.Store.View(t.Context(), func(tx *sql.Tx) error {
		for {
			found, err := audit.Find(t.Context(), tx, q)
			for _, r := range found {
				q.Before = r.Seq
				var action string
				var n int
				switch {
				case account != "" && r.OmniAccount != account:
				case r.Action != audit.ActionRefusalsSummarised:
					own[r.Action+" "+r.Reason]++
				default:
					if _, err := fmt.Sscanf(r.Detail, "action=%s count=%d ", &action, &n); err != nil {
						t.Errorf("a summary says %q: %v", r.Detail, err)
					}
					counted[action+" "+r.Reason] += n
				}
			}
			if err != nil || len(found) < q.Limit {
				return err
			}
		}
	}))
	return own, counted
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// A wallet costs nothing, so whoever signed in with one could fill the disk with what
// it is refused. Thousands of refusals of each kind leave a bounded number of records;
// none is missing from the numbers, the first of each kind is there in full, and nobody
// else's records, mints or credentials suffer.
func TestFloodOfOneAccountIsSummarised(t *testing.T) {
	const mallorys, alices = "203.0.113.7", "198.51.100.1"
	k, a := agentkeystest.NewWithAWS(t, behindProxy)
	mallory, alice := k.Party(t), k.Party(t)
	k.Grant(t, mallory, mallory, "own")
	used := k.NewCall(mallory, "own").Sign(t)
	if _, problem := k.Mint(t, used); problem != nil {
		t.Fatal(problem)
	}
	tampered := k.NewCall(mallory, "own").Sign(t)
	tampered.Intent.ScopePath = "own/more"
	stale := k.NewCall(mallory, "own")
	stale.IssuedAt.Time = stale.IssuedAt.Add(-time.Hour)
	stale.Sign(t)

	want := map[string]int{}
	for _, tc := range []struct {
		n                          int
		method, path, kind, status string
		body                       func() string
	}{
		{2000, "POST", api.PathMintOIDC, "mint.oidc_jwt bad_request", "400", func() string { return "[" }},
		{1000, "GET", api.PathGrantList + "?x=1", "grant.list unknown_field", "400", func() string { return "" }},
		{200, "POST", api.PathGrantRevoke, "grant.revoke grant_unknown", "404", func() string { return `{"grant_id":"grn-none"}` }},
		{200, "POST", api.PathGrantCreate, "grant.create grant_invalid", "400", func() string {
			return asJSON(t, api.GrantCreateRequest{DaemonAddress: mallory.Address(), Service: "s3", ScopePath: "a", MaxUses: 1, ExpiresAt: 1})
		}},
		{200, "GET", api.PathAuditEntries + "?account=" + alice.Session.OmniAccount, "audit.read auditor_required", "403", func() string { return "" }},
		{100, "POST", api.PathMintAWS, "mint.aws_credentials call_signature", "401", func() string { return asJSON(t, tampered.MintAWSRequest) }},
		{100, "POST", api.PathMintAWS, "mint.aws_credentials call_replayed", "401", func() string { return asJSON(t, used.MintAWSRequest) }},
		{100, "POST", api.PathMintAWS, "mint.aws_credentials call_expired", "401", func() string { return asJSON(t, stale.MintAWSRequest) }},
		{100, "POST", api.PathMintAWS, "mint.aws_credentials scope_exceeds_grant", "403", func() string { return asJSON(t, k.NewCall(mallory, "other").Sign(t).MintAWSRequest) }},
	} {
		for range tc.n {
			got := asking(t, k, mallory.Session.SessionJWT, mallorys, tc.method, tc.path, tc.body())
			if _, reason, _ := strings.Cut(tc.kind, " "); fmt.Sprint(got.StatusCode) != tc.status || got.json(t)["code"] != reason {
				t.Fatalf("%s: %d %s, want %s %s", tc.path, got.StatusCode, got.body, tc.status, reason)
			}
		}
		want[tc.kind] = tc.n
	}

	own, counted := refusals(t, k, mallory.Session.OmniAccount)
	if n, most := sum(own), 60+len(want); n != most || sum(counted) != 0 {
		t.Errorf("%d refusals left %d records and %d in summaries within the minute, want %d and none", sum(want), n, sum(counted), most)
	}
	for kind := range want {
		if own[kind] == 0 {
			t.Errorf("no %s is recorded in full: the others hide it", kind)
		}
	}
	checkUndisturbed(t, k, a, alice, alices)
	checkUndisturbed(t, k, a, alice, mallorys) // nor in the same network

	k.Clock.Move(time.Minute)
	must(t, k.Broker.Settle(t.Context()))
	own, counted = refusals(t, k, mallory.Session.OmniAccount)
	for kind, n := range counted {
		own[kind] += n
	}
	if diff := cmp.Diff(want, own); diff != "" {
		t.Errorf("what the log says of the attack: %s", diff)
	}
	page := entries(t, k, mallory, "?action="+audit.ActionRefusalsSummarised)
	if len(page.Entries) == 0 {
		t.Error("the account does not see its summaries")
	}
	for _, e := range page.Entries {
		if e.Source != mallorys || e.Wallet != tagOf(mallory) || e.IdentityType != "evm" || e.IdentityValue != tagOf(mallory) || !strings.HasPrefix(e.RequestID, "summary-") {
			t.Errorf("a summary is %+v, want it of the account and its network", e)
		}
	}
}

// checkUndisturbed has somebody do beside a flood what they may, and be refused what
// they may not: each of it has its record.
func checkUndisturbed(t *testing.T, k *agentkeystest.Broker, a *agentkeystest.AWS, p agentkeystest.Party, from string) {
	t.Helper()
	k.Grant(t, p, p, "hers")
	given := len(a.Given())
	for _, tc := range []struct{ method, path, body, want string }{
		{"POST", api.PathMintOIDC, "", "mint.oidc_jwt issued"},
		{"POST", api.PathMintOIDC, "[", "mint.oidc_jwt refused bad_request"},
		{"POST", api.PathMintAWS, asJSON(t, k.NewCall(p, "hers").Sign(t).MintAWSRequest), "mint.aws_credentials confirmed"},
		{"POST", api.PathMintAWS, asJSON(t, k.NewCall(p, "elsewhere").Sign(t).MintAWSRequest), "mint.aws_credentials refused scope_exceeds_grant"},
		{"GET", api.PathGrantList + "?x=1", "", "grant.list refused unknown_field"},
	} {
		got := asking(t, k, p.Session.SessionJWT, from, tc.method, tc.path, tc.body)
		r := records(t, k)[0]
		if said := strings.TrimSpace(r.Action + " " + r.Outcome + " " + r.Reason); said != tc.want || r.OmniAccount != p.Session.OmniAccount || r.Source != from {
			t.Errorf("from %s: answered %d, recorded %+v, want %s", from, got.StatusCode, r, tc.want)
		}
	}
	if n := len(a.Given()) - given; n != 1 {
		t.Errorf("STS gave %d credentials, want 1", n)
	}
}

// Many accounts of one network leave no more than it may, whoever they are, and the
// accounts of another network are recorded as ever.
func TestFloodOfOneNetworkIsSummarised(t *testing.T) {
	const accounts, each = 30, 40
	k := agentkeystest.New(t, behindProxy)
	sessions := make([]string, accounts+1)
	for i := range sessions {
		jwt, _, err := k.Sessions.Issue(asSubject(identity.Identity{Type: identity.Email, Value: fmt.Sprintf("u%d@example.org", i)}), k.Clock.Now())
		must(t, err)
		sessions[i] = jwt.Reveal()
	}
	for i := range accounts {
		for n := range each {
			from := fmt.Sprintf("2001:db8::%x", i*each+n) // the addresses of one network
			asking(t, k, sessions[i], from, "GET", api.PathGrantList+"?x=1", "").refused(t, 400, "unknown_field")
		}
	}
	own, _ := refusals(t, k, "")
	if n := sum(own); n != 600 {
		t.Errorf("%d refusals of one network left %d records within a minute, want 600", accounts*each, n)
	}
	asking(t, k, sessions[accounts], "2001:db8:0:1::1", "GET", api.PathGrantList+"?x=1", "").refused(t, 400, "unknown_field")
	if r := records(t, k)[0]; r.Source != "2001:db8:0:1::1" {
		t.Errorf("the refusal of another network is not recorded: the last is %+v", r)
	}
	must(t, k.Broker.Summarise(context.Background(), true))
	own, counted := refusals(t, k, "")
	if n := sum(own) + sum(counted); n != accounts*each+1 {
		t.Errorf("the log tells of %d refusals, want %d", n, accounts*each+1)
	}
}

// A refusal that is counted alone is not remembered either: nothing says what its
// request_id was decided for, so nothing was, and it may come again. It buys nothing
// that it did not before.
func TestCountedRefusalsAreNotRemembered(t *testing.T) {
	k, a := agentkeystest.NewWithAWS(t)
	p := k.Party(t)
	early := k.NewCall(p, "a").Sign(t)
	if _, problem := k.Mint(t, early); problem == nil || problem.Code != api.CodeGrantRequired {
		t.Fatalf("without a grant: %+v", problem)
	}
	for range 60 {
		if _, problem := k.Mint(t, k.NewCall(p, "a").Sign(t)); problem == nil || problem.Code != api.CodeGrantRequired {
			t.Fatalf("without a grant: %+v", problem)
		}
	}
	late, rows := k.NewCall(p, "a").Sign(t), remembered(t, k)
	for range 3 {
		if _, problem := k.Mint(t, late); problem == nil || problem.Code != api.CodeGrantRequired {
			t.Errorf("without a grant: %+v", problem)
		}
	}
	if n := remembered(t, k); n != rows || rows != 61 {
		t.Errorf("%d calls are remembered, and %d after others that were counted alone; want 61", rows, n)
	}
	k.Grant(t, p, p, "a")
	if _, problem := k.Mint(t, early); problem == nil || problem.Code != api.CodeCallReplayed {
		t.Errorf("a call that was recorded as refused comes again: %+v", problem)
	}
	for i := range 2 {
		if _, problem := k.Mint(t, late); (problem == nil) != (i == 0) {
			t.Errorf("time %d of the call that was counted, with a grant: %+v", i+1, problem)
		}
	}
	if n := len(a.Given()); n != 1 {
		t.Errorf("STS gave %d credentials, want 1", n)
	}
}

// remembered is how many calls there are rows of.
func remembered(t *testing.T, k *agentkeystest.Broker) (n int) {
	t.Helper()
	must(t, k.Store.View(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), "SELECT count(*) FROM mints").Scan(&n)
	}))
	return n
}

// Only refusals are counted: whoever is refused without end and gets tokens and
// credentials in between has a record of each of these.
func TestNoIssueIsSummarised(t *testing.T) {
	const asked = 150
	k, a := agentkeystest.NewWithAWS(t)
	p := k.Party(t)
	g := k.Grant(t, p, p, "a", func(r *api.GrantCreateRequest) { r.MaxUses = asked })
	jtis := map[string]bool{}
	for range asked {
		asking(t, k, p.Session.SessionJWT, "", "POST", api.PathMintOIDC, "[").refused(t, 400, "bad_request")
		jwt, err := k.Client.MintOIDC(t.Context(), p.Session.SessionJWT)
		must(t, err)
		jtis[claims(t, jwt.JWT)["jti"].(string)] = true
		if _, problem := k.Mint(t, k.NewCall(p, "a").Sign(t)); problem != nil {
			t.Fatal(problem)
		}
	}
	confirmed := map[string]bool{}
	for _, r := range records(t, k) {
		if r.Action == audit.ActionMintOIDC && r.Outcome == audit.Issued {
			delete(jtis, r.TokenID)
		}
		if r.Action == audit.ActionMintAWS && r.Outcome == audit.Confirmed && r.GrantID == g.GrantID {
			confirmed[r.CredentialID] = true
		}
	}
	if len(jtis) != 0 {
		t.Errorf("%d of %d tokens have no record", len(jtis), asked)
	}
	for _, id := range a.Given() {
		if !confirmed[id] {
			t.Errorf("the credentials %s have no record", id)
		}
	}
	if len(confirmed) != asked {
		t.Errorf("%d credentials are recorded, want %d", len(confirmed), asked)
	}
	if own, _ := refusals(t, k, p.Session.OmniAccount); sum(own) != 61 {
		t.Errorf("%d refusals are recorded, want 61 of %d", sum(own), asked)
	}
}
