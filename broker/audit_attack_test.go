package broker_test

import (
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/identity"
)

// A cursor is a place and no key: whatever it is turned into, it shows nobody another's
// records.
func TestCursorsOpenNothing(t *testing.T) {
	auditor, change := withAuditor(t)
	k := agentkeystest.New(t, change)
	victim, thief, auditing := k.Party(t), k.Party(t), signIn(t, k, auditor)
	for range 5 {
		entries(t, k, victim, "")
		entries(t, k, thief, "")
	}
	stolen := entries(t, k, victim, "?limit=2").Cursor
	own := entries(t, k, thief, "?limit=2").Cursor
	all := entries(t, k, auditing, "?limit=2").Cursor
	if stolen == "" || own == "" || all == "" || strings.Contains(own, victim.Session.OmniAccount) {
		t.Fatalf("cursors %q, %q, %q", stolen, own, all)
	}
	turned := func(change func([]byte)) string {
		b, err := base64.RawURLEncoding.DecodeString(own)
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for name, cursor := range map[string]string{
		"another's": stolen, "an auditor's": all, "another version": turned(func(b []byte) { b[0]++ }), "another mark": turned(func(b []byte) { b[16] ^= 1 }),
		"nowhere": turned(func(b []byte) { clear(b[1:9]) }), "behind everything": turned(func(b []byte) { binary.BigEndian.PutUint64(b[1:], 1<<63) }),
		"short": own[:20], "long": own + "AA", "spare bits": own[:22] + string(own[22]+1), "text": "1", "record": records(t, k)[0].ID,
	} {
		a := readAudit(t, k, thief, query("limit", "2", "cursor", cursor))
		a.refused(t, 400, "cursor_invalid")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	for _, q := range []string{"&order=asc", "&action=audit.read", "&since=1", "&tenant=" + tagOf(thief)} {
		readAudit(t, k, thief, "?limit=2&cursor="+own+q).refused(t, 400, "cursor_invalid")
	}
	last := uint64(len(records(t, k)))
	for place := range last + 2 {
		cursor := turned(func(b []byte) { binary.BigEndian.PutUint64(b[1:], place+1) })
		for _, e := range entries(t, k, thief, query("limit", "1000", "cursor", cursor)).Entries {
			if e.OmniAccount != thief.Session.OmniAccount || uint64(e.Place) >= place+1 {
				t.Errorf("at place %d the thief is shown %+v", place+1, e)
			}
		}
	}
	if page := entries(t, k, thief, query("cursor", turned(func(b []byte) { binary.BigEndian.PutUint64(b[1:], 1<<63-1) }))); len(page.Entries) == 0 {
		t.Error("from far behind there is nothing")
	}
}

// What a filter holds is compared, or refused; it is never read as anything else.
func TestFiltersAreNoStatements(t *testing.T) {
	k := agentkeystest.New(t)
	p, other := k.Party(t), k.Party(t)
	for _, q := range []string{
		query("action", "' OR 1=1 --"), query("action", "a' UNION SELECT * FROM accounts --"), query("outcome", "signed_in\x00"), query("grant_id", "grn-1'"), query("grant_id", "%"),
		query("account", "' OR ''='"), query("account", strings.ToUpper(p.Session.OmniAccount)), query("tenant", tagOf(p)+" "), query("tenant", "0xA"), query("tenant", "${jndi}"),
		query("order", "asc; DROP TABLE audit_records"), query("order", "ASC"), query("order", "up"), query("limit", "0"), query("limit", "1001"), query("limit", "-1"), query("limit", "1e3"), query("limit", "99999999999999999999"),
		query("limit", "0x10"), query("limit", "010"), query("limit", "१"), query("since", "-1"), query("since", "253402300800"), query("since", "2026-01-01"), query("since", "1.5"), query("until", "9223372036854775808"),
		query("since", "5", "until", "5"), query("since", "6", "until", "5"), query("action", ""), query("cursor", ""), "?action", "?limit=5&limit=5", "?limit=5&limit=6", "?action=a&action=b",
		query("action", "mint\noutcome=confirmed"), query("action", "mint\u202eoidc"), query("outcome", "сonfirmed"), query("outcome", "confirmd"), query("action", strings.Repeat("a", 65)), query("tenant", strings.Repeat("a", 129)),
		"?%", "?a%", "?limit=%zz", "?limit=5;order=asc", "?limit=5%26order=asc",
	} {
		a := readAudit(t, k, p, q)
		a.refused(t, 400, "bad_request")
		if t.Failed() {
			t.Fatalf("%s: %s", q, a.body)
		}
	}
	for _, q := range []string{"?acount=" + other.Session.OmniAccount, "?Action=a", "?ACTION=a", "?action[]=a", "?omni_account=a", "?=1", "?scope=all", "?role=auditor", "?limit=5&x"} {
		readAudit(t, k, p, q).refused(t, 400, "unknown_field")
	}
	for _, q := range []string{"?account=" + other.Session.OmniAccount, "?tenant=" + tagOf(other), "?tenant=" + other.Session.OmniAccount, "?account=" + p.Session.OmniAccount + "&tenant=" + tagOf(other),
		"?account=" + strings.Repeat("0", 64), "?tenant=0", "?tenant=" + p.Session.OmniAccount} {
		a := readAudit(t, k, p, q)
		a.refused(t, 403, "auditor_required")
		if strings.Contains(string(a.body), tagOf(other)) {
			t.Errorf("the refusal echoes whom it is about: %s", a.body)
		}
	}
	for _, r := range records(t, k) {
		if strings.ContainsAny(r.Detail+r.ScopePath+r.Tenant, "'\n;%") || r.Action != audit.ActionRead && r.Action != audit.ActionSignInStart && r.Action != audit.ActionSignInVerify || r.Tenant != "" {
			t.Errorf("recorded %+v", r)
		}
	}
	if page := entries(t, k, p, "?limit=1000&account="+p.Session.OmniAccount); len(page.Entries) < 50 {
		t.Errorf("one's own account as a filter: %d entries", len(page.Entries))
	}
}

// A tenant that is spelt like another's account, and an account like another's tenant,
// bring nobody together: each is compared in its own column, and a tenant with an
// account's spelling is that account's.
func TestTenantsAndAccountsDoNotMeet(t *testing.T) {
	k := agentkeystest.New(t)
	wallet := k.Party(t)
	mail := identity.Identity{Type: identity.Email, Value: "alice@example.com"}
	jwt, _, err := k.Sessions.Issue(asSubject(mail), k.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	alice := agentkeystest.Party{Session: api.Session{SessionJWT: jwt.Reveal()}}
	for _, r := range []audit.Record{
		{OmniAccount: tagOf(wallet)},     // an account spelt like the wallet
		{Wallet: tagOf(wallet)},          // the wallet where it proves nothing
		{OmniAccount: "", Tenant: ""},    // nobody's
		{Tenant: tagOf(wallet) + "0"},    // a longer one
		{Tenant: tagOf(wallet)[:41]},     // a shorter one
		{IdentityValue: mail.Value},      // a failed sign-in, say
		{Agent: mail.OmniAccount()},      // what an agent calls itself
		{GrantID: mail.OmniAccount()},    // likewise
		{ScopePath: "/" + tagOf(wallet)}, // and where it wants to
	} {
		r.Time, r.Action, r.Outcome, r.RequestID = k.Clock.Now(), "mint.aws_credentials", audit.Refused, "r"
		err := k.Store.Update(t.Context(), func(tx *sql.Tx) error { return audit.Append(t.Context(), tx, &r) })
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []agentkeystest.Party{wallet, alice} {
		if page := entries(t, k, p, "?action=mint.aws_credentials"); len(page.Entries) != 0 {
			t.Errorf("shown %+v", page.Entries)
		}
	}
	// Without a wallet the tenant is the account.
	appendEntry(t, k, "of an agent", mail.OmniAccount())
	page := entries(t, k, alice, "?action=mint.oidc_jwt&tenant="+mail.OmniAccount())
	if len(page.Entries) != 1 || page.Entries[0].Shown != api.ShownInPart || page.Entries[0].OmniAccount != "" {
		t.Errorf("in the prefix of one without a wallet: %+v", page.Entries)
	}
}

// Erasing a person takes their records out of their own sight too; the auditor sees
// that there was one, and the line still has the leaf.
func TestErasedEntries(t *testing.T) {
	auditor, change := withAuditor(t)
	k := agentkeystest.New(t, change)
	p, auditing := k.Party(t), signIn(t, k, auditor)
	before := entries(t, k, auditing, "?order=asc&action="+audit.ActionSignInVerify).Entries[0]
	err := k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		e, err := audit.ByID(t.Context(), tx, before.ID)
		if err != nil {
			return err
		}
		digest := e.Digest()
		_, err = tx.ExecContext(t.Context(), `UPDATE audit_records SET person = $1, salt = x'', identity_type = '', identity_value = '', omni_account = '', wallet = '',
			source = '', tenant = '', agent = '', scope_path = '' WHERE id = $2`, digest[:], before.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if page := entries(t, k, p, ""); len(page.Entries) != 0 {
		t.Errorf("shown to the one who was erased: %+v", page.Entries)
	}
	e := entries(t, k, auditing, "?order=asc&action="+audit.ActionSignInVerify).Entries[0]
	if e.ID != before.ID || e.Shown != api.ShownErased || e.Hash != before.Hash || e.Wallet != "" || strings.Contains(e.Line, "salt") {
		t.Errorf("shown to the auditor: %+v", e)
	}
	k.Head(t)
	if proof, err := k.Client.AuditProof(t.Context(), e.ID); err != nil || proof.LeafHash != e.Hash {
		t.Errorf("proof %+v, %v", proof, err)
	}
}

// Who reads is recorded by the address that the connection has, and by a proxy's word
// only where the proxy is trusted; and a budget cannot be stretched by claiming others.
func TestReadersDoNotChooseTheirAddress(t *testing.T) {
	k := agentkeystest.New(t, func(c *broker.Config) { c.Budgets = broker.Budgets{PerAccount: 99, PerGrant: 99, PerNetwork: 3} })
	for i := range 5 {
		a := send(t, k, "GET", api.PathAuditEntries, "", "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i), "Forwarded", "for=198.51.100.1", "X-Real-Ip", "198.51.100.2")
		if want := map[bool]int{true: 401, false: 429}[i < 3]; a.StatusCode != want {
			t.Errorf("request %d: %d, want %d", i, a.StatusCode, want)
		}
	}
	for _, r := range records(t, k) {
		if r.Source != "127.0.0.1" {
			t.Errorf("recorded from %q", r.Source)
		}
	}
	behind := agentkeystest.New(t, func(c *broker.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	send(t, behind, "GET", api.PathAuditEntries, "", "X-Forwarded-For", "203.0.113.9")
	if r := records(t, behind)[0]; r.Source != "203.0.113.9" {
		t.Errorf("behind a trusted proxy: recorded from %q", r.Source)
	}
}

// What a reader sends does not get into the log of the broker but as it is quoted, and
// the session not at all.
func TestReadersWriteNoLogLines(t *testing.T) {
	k := agentkeystest.New(t)
	p := k.Party(t)
	forged := "\n" + `{"msg":"request","status":200}`
	readAudit(t, k, p, query("action", forged))
	send(t, k, "GET", api.PathAuditProof+url.PathEscape(forged), "")
	for line := range strings.Lines(k.Log.String()) {
		if strings.HasPrefix(line, `{"msg"`) {
			t.Errorf("a forged line: %s", line)
		}
		if strings.Contains(line, signatureOf(p.Session.SessionJWT)) {
			t.Errorf("the session is in the log: %s", line)
		}
	}
}
