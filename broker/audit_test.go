package broker_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/client"
	"agentkeys/identity"
	"agentkeys/token"
)

// An owner sees what they did and what agents did in their prefix, a daemon what it
// did, a stranger neither, and an auditor all.
func TestAuditEntriesAreShownToWhomTheyConcern(t *testing.T) {
	auditor, change := withAuditor(t)
	k, _ := agentkeystest.NewWithAWS(t, change)
	owner, daemon, stranger, auditing := k.Party(t), k.Party(t), k.Party(t), signIn(t, k, auditor)
	g := k.Grant(t, owner, daemon, "a")
	if _, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t)); problem != nil {
		t.Fatal(problem)
	}
	for _, tc := range []struct {
		who            agentkeystest.Party
		scope          string
		signIns, mints int
		grants         int
	}{
		{owner, api.AuditScopeOwn, 1, 2, 1}, {daemon, api.AuditScopeOwn, 1, 2, 0}, {stranger, api.AuditScopeOwn, 1, 0, 0}, {auditing, api.AuditScopeAll, 4, 2, 1},
	} {
		page := entries(t, k, tc.who, "?limit=1000")
		if page.Scope != tc.scope || page.More || page.Cursor != "" || count(page, "auth.wallet.verify") != tc.signIns ||
			count(page, "mint.aws_credentials") != tc.mints || count(page, "grant.create") != tc.grants {
			t.Errorf("%s: %+v; want %+v", tagOf(tc.who), page, tc)
		}
	}
	for _, e := range entries(t, k, owner, "").Entries {
		switch e.Action {
		case "mint.aws_credentials":
			if e.Shown != api.ShownInPart || e.Wallet != tagOf(daemon) || e.Agent != "test-agent" || e.GrantID != g.GrantID || e.Tenant != tagOf(owner) ||
				e.ScopePath != "a" || e.Status != "confirmed" || e.CredentialID == "" && e.Outcome == "confirmed" {
				t.Errorf("a mint in the owner's prefix: %+v", e)
			}
			if e.OmniAccount+e.IdentityType+e.IdentityValue+e.Source != "" || strings.Contains(e.Line, `"person":{`) || strings.Contains(e.Line, `"salt"`) {
				t.Errorf("the owner is told who the agent is and where from: %+v", e)
			}
		default:
			if e.Shown != api.ShownFull || e.OmniAccount != owner.Session.OmniAccount || e.Source != "127.0.0.1" {
				t.Errorf("the owner's own: %+v", e)
			}
		}
	}
	for _, e := range entries(t, k, auditing, "").Entries {
		if e.Shown != api.ShownFull || e.Source == "" {
			t.Errorf("for an auditor: %+v", e)
		}
	}
}

// Each line is one of an export: its leaf has the hash, and what is shown is what the
// line says.
func TestAuditLinesHoldTheirEntries(t *testing.T) {
	k, _ := agentkeystest.NewWithAWS(t)
	owner, daemon := k.Party(t), k.Party(t)
	k.Grant(t, owner, daemon, "a")
	if _, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t)); problem != nil {
		t.Fatal(problem)
	}
	seen := map[string]int{}
	for _, who := range []agentkeystest.Party{owner, daemon} {
		for _, e := range entries(t, k, who, "").Entries {
			seen[e.Shown]++
			line, err := audit.ParseLine([]byte(e.Line))
			if err == nil {
				err = line.Check()
			}
			var entry audit.Entry
			if err == nil {
				entry, err = line.Entry()
			}
			if err != nil {
				t.Fatalf("%s: %v", e.Line, err)
			}
			if line.Hash.String() != e.Hash || entry.ID != e.ID || entry.Seq != e.Place || entry.Action != e.Action || entry.Outcome != e.Outcome ||
				entry.Time.Unix() != e.Time || entry.GrantID != e.GrantID || entry.RequestID != e.RequestID || entry.CredentialID != e.CredentialID ||
				entry.Reason != e.Reason || entry.Detail != e.Detail || entry.Settles != e.Settles || entry.TokenID != e.TokenID || entry.KeyID != e.KeyID {
				t.Errorf("shown %+v, the line says %+v", e, entry)
			}
			if e.Shown == api.ShownFull && (len(line.Salt) == 0 || entry.Wallet != e.Wallet || entry.Source != e.Source || entry.OmniAccount != e.OmniAccount ||
				entry.Tenant != e.Tenant || entry.Agent != e.Agent || entry.ScopePath != e.ScopePath || entry.IdentityValue != e.IdentityValue) {
				t.Errorf("shown %+v, the line says %+v", e, entry)
			}
		}
	}
	if seen[api.ShownFull] < 4 || seen[api.ShownInPart] != 2 {
		t.Errorf("shown: %v", seen)
	}
}

// Reading is recorded before it is answered, whatever the answer.
func TestAuditReadsAreRecorded(t *testing.T) {
	auditor, change := withAuditor(t)
	k := agentkeystest.New(t, change)
	p, other, auditing := k.Party(t), k.Party(t), signIn(t, k, auditor)
	ended := k.Party(t)
	ended.Session.SessionJWT = "rubbish"
	for _, tc := range []struct {
		name    string
		who     agentkeystest.Party
		query   string
		status  int
		outcome string
		reason  string
		detail  string
		tenant  string
		scope   string
	}{
		{"own", p, "", 200, "confirmed", "", "own, 1 shown", "", ""},
		{"filtered", p, "?action=grant.create&outcome=confirmed&since=5&order=asc&grant_id=grn-1", 200, "confirmed", "",
			"own, 0 shown: action=grant.create outcome=confirmed grant_id=grn-1 since=5 order=asc", "", ""},
		{"own tenant", p, "?tenant=" + tagOf(p), 200, "confirmed", "", "own, 0 shown", "", "tenant=" + tagOf(p)},
		{"another's", p, "?tenant=" + tagOf(other), 403, "refused", "auditor_required", "", "", "tenant=" + tagOf(other)},
		{"no filter", p, "?limits=5", 400, "refused", "unknown_field", "", "", ""},
		{"no session", ended, "", 401, "refused", "malformed_token", "", "", ""},
		{"auditor", auditing, "?tenant=" + tagOf(p), 200, "confirmed", "", "all, 0 shown", tagOf(p), "tenant=" + tagOf(p)},
		{"auditor, by account", auditing, "?account=" + p.Session.OmniAccount, 200, "confirmed", "", "all, 6 shown", p.Session.OmniAccount, "account=" + p.Session.OmniAccount},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := len(records(t, k))
			if a := readAudit(t, k, tc.who, tc.query); a.StatusCode != tc.status {
				t.Fatalf("%d %s", a.StatusCode, a.body)
			}
			all := records(t, k)
			r := all[0]
			if len(all) != before+1 || r.Action != "audit.read" || r.Outcome != tc.outcome || r.Reason != tc.reason || r.Detail != tc.detail || r.Tenant != tc.tenant ||
				r.Source != "127.0.0.1" || r.ScopePath != tc.scope {
				t.Errorf("%d records, the newest %+v", len(all)-before, r)
			}
			if wantAccount := tc.status != 401; wantAccount != (r.OmniAccount == tc.who.Session.OmniAccount) {
				t.Errorf("recorded for the account %q", r.OmniAccount)
			}
		})
	}
	// Who was read about sees that they were, and by whom.
	var readers []string
	for _, e := range entries(t, k, p, "?action=audit.read").Entries {
		if e.OmniAccount != p.Session.OmniAccount {
			readers = append(readers, e.Wallet)
		}
	}
	if !slices.Equal(readers, []string{tagOf(auditing), tagOf(auditing)}) {
		t.Errorf("readers %v, want the auditor twice", readers)
	}
	if page := entries(t, k, other, "?action=audit.read"); len(page.Entries) != 0 {
		t.Errorf("a stranger put records into another's view: %+v", page)
	}
	if a := send(t, k, "HEAD", api.PathAuditEntries, "", "Authorization", "Bearer "+p.Session.SessionJWT); a.StatusCode != 200 || len(a.body) != 0 {
		t.Errorf("HEAD: %d %q", a.StatusCode, a.body)
	}
	if r := records(t, k)[0]; r.Action != "audit.read" || r.OmniAccount != p.Session.OmniAccount {
		t.Errorf("HEAD left %+v", r)
	}
}

func TestNoEntriesWithoutTheirRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k := agentkeystest.NewAt(t, path)
	p := k.Party(t)
	direct := execDirectly(t, path)
	direct("CREATE TRIGGER full BEFORE INSERT ON audit_records BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
	for _, query := range []string{"", "?tenant=" + tagOf(p) + "0", "?nothing=1"} {
		a := readAudit(t, k, p, query)
		a.refused(t, 503, "audit_unavailable")
		if strings.Contains(string(a.body), tagOf(p)) {
			t.Errorf("the answer tells of records: %s", a.body)
		}
	}
	direct("DROP TRIGGER full")
	if page := entries(t, k, p, ""); len(page.Entries) != 1 {
		t.Errorf("afterwards: %+v", page)
	}
}

// An auditor is one for as long as the broker is told so and the session holds.
func TestAuditorsAreCheckedAtEachRequest(t *testing.T) {
	auditor, change := withAuditor(t)
	var taken broker.Config
	k := agentkeystest.New(t, change, func(c *broker.Config) { taken = *c })
	other := k.Party(t)
	p := signIn(t, k, auditor)
	query := "?account=" + other.Session.OmniAccount
	page := entries(t, k, p, query+"&limit=1&order=asc")
	if page.Scope != api.AuditScopeAll || len(page.Entries) != 1 {
		t.Fatalf("the auditor's: %+v", page)
	}
	plain := agentkeystest.New(t) // which names no auditors
	dismissed := signIn(t, plain, auditor)
	readAudit(t, plain, dismissed, query).refused(t, 403, "auditor_required")
	if got := entries(t, plain, dismissed, "?limit=1000"); got.Scope != api.AuditScopeOwn || count(got, "auth.wallet.verify") != 1 {
		t.Errorf("dismissed: %+v", got)
	}
	readAudit(t, plain, dismissed, "?limit=1&order=asc&cursor="+page.Cursor).refused(t, 400, "cursor_invalid")
	readAudit(t, plain, p, "").refused(t, 401, "unknown_key") // the session of the other broker
	k.Clock.Move(6 * time.Hour)
	readAudit(t, k, p, query).refused(t, 401, "token_expired")
	for _, id := range []identity.Identity{{}, {Type: "evm", Value: "0xDE709F2102306220921060314715629080E2FB77"}, {Type: identity.Email, Value: "Alice@example.com"}} {
		taken.Auditors = []identity.Identity{id}
		if _, err := broker.New(taken); err == nil || !strings.Contains(err.Error(), "auditors") {
			t.Errorf("auditor %+v: %v", id, err)
		}
	}
}

// A session token of another kind than the broker's, and one that was tampered with,
// read nothing.
func TestAuditTakesSessionsAlone(t *testing.T) {
	auditor, change := withAuditor(t)
	k := agentkeystest.New(t, change)
	p, a := k.Party(t), signIn(t, k, auditor)
	minted, err := k.Client.MintOIDC(t.Context(), a.Session.SessionJWT)
	if err != nil {
		t.Fatal(err)
	}
	parts, stolen := strings.Split(p.Session.SessionJWT, "."), strings.Split(a.Session.SessionJWT, ".")
	for name, jwt := range map[string]string{"web identity token": minted.JWT, "the auditor's claims, another signature": parts[0] + "." + stolen[1] + "." + parts[2],
		"unsigned": stolen[0] + "." + stolen[1] + "."} {
		p.Session.SessionJWT = jwt
		if got := readAudit(t, k, p, ""); got.StatusCode != 401 {
			t.Errorf("%s: %d %s", name, got.StatusCode, got.body)
		}
	}
	if got := send(t, k, "GET", api.PathAuditEntries, "", "Authorization", "Bearer "+a.Session.SessionJWT, "Authorization", "Bearer "+a.Session.SessionJWT); got.StatusCode != 401 {
		t.Errorf("two headers: %d", got.StatusCode)
	}
}

// Readers page through the log in both directions while 64 writers append to it. What
// was there when they began comes once each and in order, and nobody reads another's.
func TestPagingWhileWritersAppend(t *testing.T) {
	auditor, change := withAuditor(t)
	k := agentkeystest.New(t, change, func(c *broker.Config) { c.Budgets = broker.Budgets{PerAccount: 1e6, PerGrant: 1e6, PerNetwork: 1e6} })
	auditing := signIn(t, k, auditor)
	owner := k.Party(t)
	for range 150 {
		appendEntry(t, k, owner.Session.OmniAccount, "")
		appendEntry(t, k, "of somebody", tagOf(owner))
		appendEntry(t, k, "of somebody", "0xother")
	}
	began := int64(len(records(t, k)))
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 64 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					appendEntry(t, k, []string{owner.Session.OmniAccount, "of somebody"}[n%2], []string{"", tagOf(owner), "0xother"}[(n+i)%3])
				}
			}
		})
	}
	var readers sync.WaitGroup
	for _, tc := range []struct {
		who   agentkeystest.Party
		want  int64
		q     client.AuditQuery
		order int64
	}{
		{auditing, began, client.AuditQuery{Limit: 40}, -1}, {auditing, began, client.AuditQuery{Limit: 90, Ascending: true}, 1},
		{owner, 301, client.AuditQuery{Limit: 40}, -1}, {owner, 301, client.AuditQuery{Limit: 90, Ascending: true}, 1},
	} {
		readers.Go(func() {
			var last, got int64
			cursor := ""
			for {
				page, err := k.Client.AuditEntries(t.Context(), tc.who.Session.SessionJWT, tc.q, cursor)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range page.Entries {
					if last != 0 && (e.Place-last)*tc.order <= 0 {
						t.Errorf("place %d comes behind %d", e.Place, last)
					}
					if tc.who.Wallet == owner.Wallet && e.OmniAccount != owner.Session.OmniAccount && e.Tenant != tagOf(owner) {
						t.Errorf("the owner is shown %+v", e)
					}
					last = e.Place
					if e.Place <= began {
						got++
					}
				}
				if cursor = page.Cursor; !page.More || tc.order > 0 && last > began {
					break
				}
			}
			if got != tc.want {
				t.Errorf("%+v: %d of the entries that were there, want %d", tc.q, got, tc.want)
			}
		})
	}
	readers.Wait()
	close(stop)
	writers.Wait()
	if n := int64(len(records(t, k))); n == began {
		t.Error("no writer appended")
	}
}

func appendEntry(t *testing.T, k *agentkeystest.Broker, account, tenant string) {
	err := k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		return audit.Append(t.Context(), tx, &audit.Record{Time: k.Clock.Now(), Action: "mint.oidc_jwt", Outcome: audit.Issued, RequestID: "r", OmniAccount: account, Tenant: tenant})
	})
	if err != nil {
		t.Error(err)
	}
}

// Records that fill a page before it has as many as were asked for begin the next.
func TestAuditPagesAreBoundedInBytes(t *testing.T) {
	k := agentkeystest.New(t)
	p := k.Party(t)
	err := k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		for range 999 {
			r := audit.Record{Time: k.Clock.Now(), Action: "mint.oidc_jwt", Outcome: audit.Issued, RequestID: strings.Repeat("r", 128), OmniAccount: p.Session.OmniAccount,
				Detail: strings.Repeat(`"`, 512), IdentityValue: strings.Repeat("<", 320), ScopePath: strings.Repeat(`\`, 256), Reason: strings.Repeat("&", 256)}
			if err := audit.Append(t.Context(), tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a := readAudit(t, k, p, "?limit=1000")
	var page api.AuditEntries
	if err := json.Unmarshal(a.body, &page); err != nil {
		t.Fatal(err)
	}
	if len(a.body) > 16<<20 || len(page.Entries) < 100 || len(page.Entries) > 900 || !page.More {
		t.Errorf("%d bytes, %d entries, more %v", len(a.body), len(page.Entries), page.More)
	}
	n := 0
	for _, err := range k.Client.AuditAll(t.Context(), p.Session.SessionJWT, client.AuditQuery{Limit: 1000, Action: "mint.oidc_jwt"}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 999 {
		t.Errorf("%d entries in all, want 999", n)
	}
}

// A spent budget bounds the records that readers add, those of callers without a
// session among them.
func TestAuditBudgets(t *testing.T) {
	for name, b := range map[string]broker.Budgets{"account": {PerAccount: 2, PerGrant: 9, PerNetwork: 99}, "network": {PerAccount: 99, PerGrant: 9, PerNetwork: 2}} {
		t.Run(name, func(t *testing.T) {
			k := agentkeystest.New(t, func(c *broker.Config) { c.Budgets = b })
			p := k.Party(t)
			for range 2 {
				entries(t, k, p, "")
			}
			before := len(records(t, k))
			for range 3 {
				a := readAudit(t, k, p, "")
				a.refused(t, 429, "budget_spent")
				if a.Header.Get("Retry-After") != "30" {
					t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
				}
			}
			if n := len(records(t, k)) - before; n != 0 {
				t.Errorf("a spent budget let %d records be added", n)
			}
			other := k.Party(t)
			if a := readAudit(t, k, other, ""); (a.StatusCode == 200) != (name == "account") {
				t.Errorf("another account of the network: %d", a.StatusCode)
			}
			if _, err := k.Client.MintOIDC(t.Context(), p.Session.SessionJWT); err != nil {
				t.Errorf("reading took from the budget of mints: %v", err)
			}
		})
	}
	k := agentkeystest.New(t, func(c *broker.Config) { c.Budgets = broker.Budgets{PerAccount: 99, PerGrant: 99, PerNetwork: 3} })
	before := len(records(t, k))
	for range 10 {
		send(t, k, "GET", api.PathAuditEntries, "")
	}
	if n := len(records(t, k)) - before; n != 3 {
		t.Errorf("without a session %d records were added, want 3", n)
	}
	for i := range 4 {
		_, err := k.Client.AuditProof(t.Context(), "01ARZ3NDEKTSV4RRFFQ69G5FAV")
		var e *api.Error
		if want := map[bool]int{true: 404, false: 429}[i < 3]; !errors.As(err, &e) || e.Status != want {
			t.Errorf("proof %d: %v, want %d", i, err, want)
		}
	}
}

// Nothing that a session claims beside its identity makes an auditor.
func TestAuditScopeIsTheSessionsIdentity(t *testing.T) {
	auditor, change := withAuditor(t)
	k := agentkeystest.New(t, change)
	signIn(t, k, auditor)
	_, s, err := k.Sessions.Issue(token.Subject{IdentityType: "email", IdentityValue: "0x1@example.com", OmniAccount: "aa", Wallet: strings.ToLower(auditor.Address())}, k.Clock.Now())
	if err == nil {
		t.Errorf("a session was made of an identity with another's wallet: %+v", s)
	}
	mail := identity.Identity{Type: identity.Email, Value: strings.ToLower(auditor.Address())}
	jwt, _, err := k.Sessions.Issue(asSubject(mail), k.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	page := entries(t, k, agentkeystest.Party{Session: api.Session{SessionJWT: jwt.Reveal()}}, "")
	if page.Scope != api.AuditScopeOwn || len(page.Entries) != 0 {
		t.Errorf("an identity of another type with the auditor's value: %+v", page)
	}
}

func TestAuditClientHearsRefusals(t *testing.T) {
	k := agentkeystest.New(t)
	_, err := k.Client.AuditEntries(t.Context(), "", client.AuditQuery{}, "")
	wantCode(t, err, api.CodeSessionRequired)
	p := k.Party(t)
	_, err = k.Client.AuditEntries(t.Context(), p.Session.SessionJWT, client.AuditQuery{Account: strings.Repeat("a", 64)}, "")
	wantCode(t, err, api.CodeAuditorRequired)
	for _, err := range k.Client.AuditAll(t.Context(), p.Session.SessionJWT, client.AuditQuery{Outcome: "A B"}) {
		wantCode(t, err, api.CodeBadRequest)
	}
}

// A follower asks again with the cursor of the last page, and gets what was appended
// since: once, and in order.
func TestFollowingTheLogOverHTTP(t *testing.T) {
	k := agentkeystest.New(t)
	p := k.Party(t)
	q := client.AuditQuery{Ascending: true, Action: "mint.oidc_jwt", Limit: 2}
	var got []string
	cursor := ""
	for minted := range 4 {
		for more := true; more; {
			page, err := k.Client.AuditEntries(t.Context(), p.Session.SessionJWT, q, cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				got = append(got, e.TokenID)
			}
			if page.Cursor == "" {
				t.Fatalf("after %d mints there is no cursor to follow with: %+v", minted, page)
			}
			cursor, more = page.Cursor, page.More
		}
		for range minted {
			if _, err := k.Client.MintOIDC(t.Context(), p.Session.SessionJWT); err != nil {
				t.Fatal(err)
			}
		}
	}
	var want []string
	all := records(t, k)
	slices.Reverse(all)
	for _, r := range all {
		if r.Action == "mint.oidc_jwt" {
			want = append(want, r.TokenID)
		}
	}
	if want = want[:3]; !slices.Equal(got, want) { // the last three come with the next page
		t.Errorf("followed %v, want %v", got, want)
	}
}
