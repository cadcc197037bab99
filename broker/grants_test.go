package broker_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/grant"
	"agentkeys/token"
)

func TestGrantCodesAreKnownToTheAPI(t *testing.T) {
	for _, code := range grant.Codes() {
		if kind := api.KindOf(api.Code(code)); kind.Status == 500 {
			t.Errorf("grant code %q has no row in the API's table", code)
		}
	}
}

func TestGrantCreateRecordsAndProves(t *testing.T) {
	k := agentkeystest.New(t)
	owner, daemon := k.Party(t), k.Party(t)
	g := k.Grant(t, owner, daemon, "a/b/", func(r *api.GrantCreateRequest) { r.Actions = []string{"get", "list"} })
	tenant, address := strings.ToLower(owner.Address()), strings.ToLower(daemon.Address())
	if g.Role != api.GrantRoleOwner || g.Status != "active" || g.Wallet != tenant || g.DaemonAddress != address || g.ScopePath != "a/b" ||
		strings.Join(g.Actions, " ") != "list get" || g.MaxUses != 100 || g.UsedCount != 0 || g.RevokedAt != nil || g.SessionName != address+"@"+g.GrantID {
		t.Errorf("grant: %+v", g)
	}
	r := records(t, k)[0]
	if r.Action != "grant.create" || r.Outcome != audit.Confirmed || r.GrantID != g.GrantID || r.Wallet != tenant || r.Agent != address || r.ScopePath != "a/b" {
		t.Errorf("record: %+v", r)
	}
	if _, err := k.Sessions.Verify(g.AuditProof, k.Clock.Now()); err == nil {
		t.Error("a grant's proof passes for a session token")
	}
	proof, err := jose.ParseSignedCompact(g.AuditProof, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := proof.Verify(k.SessionKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]any
	if err := json.Unmarshal(payload, &said); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"grant_id": g.GrantID, "tenant": tenant, "daemon_address": address, "scope_path": "a/b",
		"actions": "list,get", "max_uses": 100.0, "iss": k.Issuer, "expires_at": float64(g.ExpiresAt)} {
		if said[name] != want {
			t.Errorf("proof: %s is %v, want %v", name, said[name], want)
		}
	}
}

func TestGrantCreateRefuses(t *testing.T) {
	k := agentkeystest.New(t)
	owner := k.Party(t)
	hour := k.Clock.Now().Add(time.Hour).Unix()
	body := func(change string, value any) map[string]any {
		b := map[string]any{"daemon_address": owner.Address(), "service": "s3", "scope_path": "a", "expires_at": hour, "max_uses": 1}
		if value == nil {
			delete(b, change)
		} else if change != "" {
			b[change] = value
		}
		return b
	}
	for _, tc := range []struct {
		member string
		value  any
		code   api.Code
	}{
		{"daemon_address", "0x12", api.CodeGrantInvalid},
		{"daemon_address", strings.ToLower(owner.Address()[:41]) + "G", api.CodeGrantInvalid},
		{"service", "ec2", api.CodeGrantInvalid},
		{"service", "S3", api.CodeGrantInvalid},
		{"scope_path", "", api.CodeGrantInvalid},
		{"scope_path", "../x", api.CodeGrantInvalid},
		{"scope_path", "a/*", api.CodeGrantInvalid},
		{"scope_path", "/bots/" + strings.ToLower(owner.Address()), api.CodeGrantInvalid},
		{"scope_path", "a%2fb", api.CodeGrantInvalid},
		{"scope_path", "${aws:username}", api.CodeGrantInvalid},
		{"expires_at", k.Clock.Now().Unix(), api.CodeGrantInvalid},
		{"expires_at", k.Clock.Now().Add(91 * 24 * time.Hour).Unix(), api.CodeGrantInvalid},
		{"expires_at", int64(1) << 62, api.CodeGrantInvalid},
		{"max_uses", 0, api.CodeGrantInvalid},
		{"max_uses", -1, api.CodeGrantInvalid},
		{"actions", []string{"admin"}, api.CodeGrantInvalid},
		{"actions", []string{"get", "get"}, api.CodeGrantInvalid},
		{"max_use", 1, api.CodeUnknownField},
		{"max_uses", nil, api.CodeBadRequest},
		{"expires_at", nil, api.CodeBadRequest},
		{"scope_path", nil, api.CodeBadRequest},
	} {
		status, problem := k.Send(t, "POST", api.PathGrantCreate, owner.Session.SessionJWT, body(tc.member, tc.value), nil)
		if problem == nil || status != 400 || problem.Code != tc.code {
			t.Errorf("%s = %v: %d %+v, want %s", tc.member, tc.value, status, problem, tc.code)
		}
	}
	if status, problem := k.Send(t, "POST", api.PathGrantCreate, "", body("", 1), nil); status != 401 {
		t.Errorf("without a session: %d %+v", status, problem)
	}
	if got := listGrants(t, k, owner, ""); len(got.Grants) != 0 {
		t.Errorf("refused grants were kept: %+v", got)
	}
}

func listGrants(t *testing.T, k *agentkeystest.Broker, p agentkeystest.Party, query string) api.GrantListResponse {
	t.Helper()
	var page api.GrantListResponse
	if status, problem := k.Send(t, "GET", api.PathGrantList+query, p.Session.SessionJWT, nil, &page); problem != nil {
		t.Fatalf("listing: %d %+v", status, problem)
	}
	return page
}

// Both sides of a grant see it, with the link to what the daemon last did; nobody
// else does.
func TestGrantListForBothSides(t *testing.T) {
	k, _ := agentkeystest.NewWithAWS(t)
	owner, daemon, stranger := k.Party(t), k.Party(t), k.Party(t)
	g := k.Grant(t, owner, daemon, "a")
	self := k.Grant(t, owner, owner, "b")
	answer, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t))
	if problem != nil {
		t.Fatal(problem)
	}
	given, received := listGrants(t, k, owner, ""), listGrants(t, k, daemon, "")
	if len(given.Grants) != 2 || given.Grants[0].GrantID != self.GrantID || given.Grants[1].GrantID != g.GrantID {
		t.Fatalf("the owner sees %+v", given)
	}
	if len(received.Grants) != 1 || received.Grants[0].Role != api.GrantRoleDaemon {
		t.Fatalf("the daemon sees %+v", received)
	}
	for _, seen := range []api.Grant{given.Grants[1], received.Grants[0]} {
		if seen.UsedCount != 1 || seen.LastRecordID != answer.AuditRecordID || seen.LastUsedAt == nil || *seen.LastUsedAt != k.Clock.Now().Unix() ||
			seen.SessionName != strings.ToLower(daemon.Address())+"@"+g.GrantID {
			t.Errorf("link: %+v", seen)
		}
	}
	if got := listGrants(t, k, stranger, ""); len(got.Grants) != 0 {
		t.Errorf("a stranger sees %+v", got)
	}
	if got := listGrants(t, k, stranger, "?grant_id="+g.GrantID); len(got.Grants) != 0 {
		t.Errorf("a stranger who knows the id sees %+v", got)
	}
	if status, problem := k.Send(t, "GET", api.PathGrantList+"?cursor="+g.GrantID, stranger.Session.SessionJWT, nil, nil); status != 400 || problem.Code != api.CodeCursorInvalid {
		t.Errorf("a stranger's cursor: %d %+v", status, problem)
	}
}

func TestGrantListPages(t *testing.T) {
	k := agentkeystest.New(t)
	owner := k.Party(t)
	var want []string
	for i := range 7 {
		want = append([]string{k.Grant(t, owner, owner, fmt.Sprint("p", i)).GrantID}, want...)
	}
	var got []string
	for cursor := ""; ; {
		page := listGrants(t, k, owner, "?limit=3&cursor="+cursor)
		for _, g := range page.Grants {
			got = append(got, g.GrantID)
		}
		k.Grant(t, owner, owner, "meanwhile")
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("pages hold %v, want %v", got, want)
	}
	for _, query := range []string{"?limit=0", "?limit=1000", "?limit=x", "?limit=1&limit=2", "?page=2", "?grant_id=%zz", "?limit=1;cursor=grn-A"} {
		if status, problem := k.Send(t, "GET", api.PathGrantList+query, owner.Session.SessionJWT, nil, nil); status != 400 {
			t.Errorf("%s: %d %+v", query, status, problem)
		}
	}
}

func TestRevokeStopsTheNextMint(t *testing.T) {
	k, a := agentkeystest.NewWithAWS(t)
	owner, daemon, stranger := k.Party(t), k.Party(t), k.Party(t)
	g := k.Grant(t, owner, daemon, "a")
	if _, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t)); problem != nil {
		t.Fatal(problem)
	}
	texts := map[string]bool{}
	for name, p := range map[string]agentkeystest.Party{"a stranger": stranger, "the daemon": daemon} {
		status, problem := k.Send(t, "POST", api.PathGrantRevoke, p.Session.SessionJWT, api.GrantRevokeRequest{GrantID: g.GrantID}, nil)
		if status != 404 || problem.Code != api.CodeGrantUnknown {
			t.Errorf("%s revokes: %d %+v", name, status, problem)
		}
		texts[strings.ReplaceAll(problem.Detail, g.GrantID, "ID")] = true
	}
	_, problem := k.Send(t, "POST", api.PathGrantRevoke, owner.Session.SessionJWT, api.GrantRevokeRequest{GrantID: "grn-AAAAAAAAAAAAAAAA"}, nil)
	texts[strings.ReplaceAll(problem.Detail, "grn-AAAAAAAAAAAAAAAA", "ID")] = true
	if len(texts) != 1 {
		t.Errorf("another owner's grant can be told from one that is not there: %v", texts)
	}
	var first, again api.GrantRevokeResponse
	k.Send(t, "POST", api.PathGrantRevoke, owner.Session.SessionJWT, api.GrantRevokeRequest{GrantID: g.GrantID}, &first)
	k.Clock.Move(time.Minute)
	k.Send(t, "POST", api.PathGrantRevoke, owner.Session.SessionJWT, api.GrantRevokeRequest{GrantID: g.GrantID}, &again)
	if !first.Revoked || first != again || first.RevokedAt != k.Clock.Now().Add(-time.Minute).Unix() {
		t.Errorf("revoked: %+v, then %+v", first, again)
	}
	if _, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t)); problem == nil || problem.Code != api.CodeGrantRevoked || problem.Status != 403 {
		t.Errorf("mint after the revocation: %+v", problem)
	}
	if len(a.Asked()) != 1 {
		t.Errorf("STS was asked %d times, want once", len(a.Asked()))
	}
	if r := records(t, k)[0]; r.Outcome != audit.Refused || r.Reason != string(api.CodeGrantRevoked) {
		t.Errorf("record: %+v", r)
	}
	named := k.NewCall(daemon, "a")
	named.Intent.GrantID = g.GrantID
	if _, problem := k.Mint(t, named.Sign(t)); problem == nil || problem.Code != api.CodeGrantRevoked {
		t.Errorf("mint that names it: %+v", problem)
	}
	if r := records(t, k)[0]; r.GrantID != g.GrantID {
		t.Errorf("the record of the refusal names the grant %q, want %s", r.GrantID, g.GrantID)
	}
	log := k.Log.String()
	for _, want := range []string{`"grant":"` + g.GrantID, `"tenant":"` + strings.ToLower(owner.Address()), `"wallet":"` + strings.ToLower(daemon.Address()), `"credential":"ASIA`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	revocations := 0
	for _, r := range records(t, k) {
		if r.Action == audit.ActionGrantRevoke && r.Outcome == audit.Confirmed {
			revocations++
		}
	}
	if revocations != 1 {
		t.Errorf("%d records of one revocation", revocations)
	}
}

// In the migration window a wallet mints for its own prefix without a grant; the
// session policy is there all the same, and the record's grant is empty.
func TestMigrationWindow(t *testing.T) {
	k, a := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.GrantOptional = true })
	daemon := k.Party(t)
	answer, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t))
	if problem != nil {
		t.Fatal(problem)
	}
	if own := strings.ToLower(daemon.Address()); answer.Wallet != own || a.Asked()[0].Get("RoleSessionName") != own {
		t.Errorf("minted for %s as %s, want %s", answer.Wallet, a.Asked()[0].Get("RoleSessionName"), own)
	}
	if policy := a.Asked()[0].Get("Policy"); !strings.Contains(policy, strings.ToLower(daemon.Address())+"/a/*") {
		t.Errorf("session policy: %q", policy)
	}
	if r := records(t, k)[0]; r.Outcome != audit.Confirmed || r.GrantID != "" {
		t.Errorf("record: %+v", r)
	}
	c := k.NewCall(daemon, "a")
	c.Intent.GrantID = "grn-AAAAAAAAAAAAAAAA"
	if _, problem := k.Mint(t, c.Sign(t)); problem == nil || problem.Code != api.CodeGrantRequired {
		t.Errorf("a grant that is named and not there: %+v", problem)
	}
}

// Without a session policy STS is not asked: a session would have all that the role
// gives the tenant.
func TestNoSTSWithoutASessionPolicy(t *testing.T) {
	var target *grant.Target
	k, a := agentkeystest.NewWithAWS(t, func(c *broker.Config) { target = &c.AWS.Target })
	target.Prefix = strings.Repeat("p", 900) // no broker starts with it
	owner := k.Party(t)
	req := api.GrantCreateRequest{DaemonAddress: owner.Address(), Service: "s3", ScopePath: "a", ExpiresAt: k.Clock.Now().Add(time.Hour).Unix(), MaxUses: 1}
	if status, problem := k.Send(t, "POST", api.PathGrantCreate, owner.Session.SessionJWT, req, nil); status != 400 || problem.Code != api.CodeGrantInvalid {
		t.Errorf("a grant whose policy does not fit: %d %+v", status, problem)
	}
	if len(a.Asked()) != 0 {
		t.Error("STS was asked")
	}
}

func TestTargetsThatNoGrantCanHaveAreRefusedAtTheStart(t *testing.T) {
	var c broker.Config
	agentkeystest.NewWithAWS(t, func(taken *broker.Config) { c = *taken })
	for want, change := range map[string]func(*grant.Target){
		"partition: want one like aws, got \"*\"": func(target *grant.Target) { target.Partition = "*" },
		"bucket: want":                    func(target *grant.Target) { target.Bucket = "data*" },
		"prefix: want segments of":        func(target *grant.Target) { target.Prefix = "bots/${aws:username}" },
		"prefix: want segments that are":  func(target *grant.Target) { target.Prefix = "bots/.." },
		"want bucket and prefix that let": func(target *grant.Target) { target.Prefix = strings.Repeat("p", 900) },
	} {
		changed := *c.AWS
		change(&changed.Target)
		refused := c
		refused.AWS = &changed
		if _, err := broker.New(refused); err == nil || !strings.Contains(err.Error(), "making the broker: AWS: target of grants: "+want) {
			t.Errorf("got %v, want a refusal with %q", err, want)
		}
	}
}

func TestBrokerWithoutAWS(t *testing.T) {
	k := agentkeystest.New(t)
	p := k.Party(t)
	if _, problem := k.Mint(t, k.NewCall(p, "a").Sign(t)); problem == nil || problem.Code != api.CodeGrantRequired {
		t.Errorf("without a grant: %+v", problem)
	}
	k.Grant(t, p, p, "a")
	if _, problem := k.Mint(t, k.NewCall(p, "a").Sign(t)); problem == nil || problem.Code != api.CodeAWSNotConfigured || problem.Status != 503 {
		t.Errorf("mint: %+v", problem)
	}
}

// A token that is minted under a grant would make its bearer the owner; it never
// leaves the broker, in no answer, log or record.
func TestTheOwnersTokenStaysInside(t *testing.T) {
	var seen []string
	k, a := agentkeystest.NewWithAWS(t, func(c *broker.Config) {
		mint := c.AWS.Token
		c.AWS.Token = func(caller, tenant, id string, now time.Time) (token.Secret, token.WebIdentity, error) {
			jwt, minted, err := mint(caller, tenant, id, now)
			seen = append(seen, jwt.Reveal())
			return jwt, minted, err
		}
	})
	owner, daemon := k.Party(t), k.Party(t)
	k.Grant(t, owner, daemon, "a")
	answer, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t))
	if problem != nil || len(seen) != 1 {
		t.Fatal(problem, len(seen))
	}
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	everywhere := string(text) + k.Log.String() + fmt.Sprint(records(t, k))
	for _, secret := range []string{seen[0], signatureOf(seen[0])} {
		if strings.Contains(everywhere, secret) {
			t.Error("the owner's token got out")
		}
	}
	if strings.Contains(k.Log.String(), answer.SecretAccessKey) || strings.Contains(k.Log.String(), answer.SessionToken) {
		t.Error("the credentials are in the log")
	}
	if c := claims(t, a.Asked()[0].Get("WebIdentityToken")); c["sub"] != token.SubjectPrefix+strings.ToLower(daemon.Address()) || c[token.TagKey] != strings.ToLower(owner.Address()) {
		t.Errorf("the token says %v and %v", c["sub"], c[token.TagKey])
	}
}

// An owner who hears that a grant could not be recorded grants again. The first must
// not be there beside the second.
func TestGrantThatWasNotRecordedEverywhereIsNone(t *testing.T) {
	w := newWorld(t)
	w.broker.SetAnchorTimeout(100 * time.Millisecond)
	owner, daemon := w.k.Party(t), w.k.Party(t)
	req := api.GrantCreateRequest{DaemonAddress: daemon.Address(), Service: "s3", ScopePath: "a", ExpiresAt: w.now().Add(time.Hour).Unix(), MaxUses: 1}
	for name, f := range map[string]fault{"down": refused, "hung": hung} {
		w.places[0].set(f)
		if status, problem := w.k.Send(t, "POST", api.PathGrantCreate, owner.Session.SessionJWT, req, nil); status != 503 || problem.Code != api.CodeAuditUnavailable {
			t.Errorf("granting while an anchor is %s: %d %+v", name, status, problem)
		}
		w.mend(t)
		for _, g := range listGrants(t, w.k, owner, "").Grants {
			if g.Status == "active" {
				t.Errorf("an anchor was %s, and grant %s is %s", name, g.GrantID, g.Status)
			}
		}
		if answer, problem := w.k.Mint(t, w.k.NewCall(daemon, "a").Sign(t)); problem == nil || problem.Status != 403 {
			t.Errorf("an anchor was %s: the daemon acts for %q, %+v", name, tenantOf(answer), problem)
		}
	}
}

// Each grant is a row and a record for ever, and stands in its daemon's list too, so
// making them has the same bounds as minting.
func TestGrantsHaveABudget(t *testing.T) {
	k := agentkeystest.New(t, func(c *broker.Config) { c.Budgets.PerAccount, c.Budgets.PerNetwork = 3, 4 })
	owner, other, daemon := k.Party(t), k.Party(t), k.Party(t)
	create := func(p agentkeystest.Party) (*api.Problem, string) {
		req := api.GrantCreateRequest{DaemonAddress: daemon.Address(), Service: "s3", ScopePath: "a", ExpiresAt: k.Clock.Now().Add(time.Hour).Unix(), MaxUses: 1}
		problem, header := k.SendHeader(t, "POST", api.PathGrantCreate, p.Session.SessionJWT, req, new(api.Grant))
		return problem, header.Get("Retry-After")
	}
	for range 3 {
		if problem, _ := create(owner); problem != nil {
			t.Fatalf("within the budget: %+v", problem)
		}
	}
	spent := func(whose string, p agentkeystest.Party, wait string) {
		t.Helper()
		problem, retry := create(p)
		if problem == nil || problem.Status != 429 || problem.Code != api.CodeBudgetSpent || retry != wait || !strings.Contains(problem.Detail, whose) {
			t.Errorf("beyond the budget of the %s: %+v, Retry-After %q, want %q", whose, problem, retry, wait)
		}
	}
	spent("account", owner, "20")
	if problem, _ := create(other); problem != nil { // what the account asked too often took nothing from the network
		t.Errorf("another owner: %+v", problem)
	}
	spent("network", other, "15")
	if n := len(listGrants(t, k, daemon, "").Grants); n != 4 {
		t.Errorf("there are %d grants, want 4", n)
	}
	k.Clock.Move(20 * time.Second)
	if problem, _ := create(owner); problem != nil {
		t.Errorf("after Retry-After: %+v", problem)
	}
}
