package broker_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/identity"
	"agentkeys/token"

	"github.com/google/go-cmp/cmp"
)

// recorded is what the newest records say, oldest first: action, outcome and reason.
func recorded(t *testing.T, k *agentkeystest.Broker, newest int) (found []string) {
	t.Helper()
	for _, r := range slices.Backward(records(t, k)[:newest]) {
		found = append(found, strings.TrimSpace(r.Action+" "+r.Outcome+" "+r.Reason))
	}
	return found
}

// needsSession are the requests that a session is needed for.
var needsSession = []struct{ method, path, body, action string }{
	{"POST", api.PathMintOIDC, "", audit.ActionMintOIDC},
	{"POST", api.PathMintAWS, "{}", audit.ActionMintAWS},
	{"POST", api.PathGrantCreate, "{}", audit.ActionGrantCreate},
	{"GET", api.PathGrantList, "", audit.ActionGrantList},
	{"POST", api.PathGrantRevoke, "{}", audit.ActionGrantRevoke},
	{"GET", api.PathAuditEntries, "", audit.ActionRead},
}

// Whoever comes without a good session is recorded, at every endpoint that needs one,
// and whoever comes with one and asks for nonsense by name.
func TestEveryRefusedSessionIsRecorded(t *testing.T) {
	k := agentkeystest.New(t)
	_, session := k.SignIn(t)
	if len(needsSession)+11 != len(broker.Routes()) { // health, ready, two documents, two of the issuer, two of sign-in, three of the log for everybody
		t.Errorf("there are %d routes: is %s among those that need a session?", len(broker.Routes()), broker.Routes())
	}
	for _, tc := range needsSession {
		send(t, k, tc.method, tc.path, tc.body, "Content-Type", jsonType).refused(t, 401, "session_required")
		send(t, k, tc.method, tc.path, tc.body, "Content-Type", jsonType, "Authorization", "Bearer rubbish").refused(t, 401, "malformed_token")
		want := []string{tc.action + " refused session_required", tc.action + " refused malformed_token"}
		if diff := cmp.Diff(want, recorded(t, k, 2)); diff != "" {
			t.Errorf("%s: %s", tc.path, diff)
		}
		if r := records(t, k)[0]; r.OmniAccount != "" || r.IdentityValue != "" || r.Source != "127.0.0.1" || r.RequestID == "" {
			t.Errorf("%s: recorded %+v", tc.path, r)
		}
		a := send(t, k, tc.method, tc.path+"?nonsense=1", "[", "Content-Type", jsonType, "Authorization", "Bearer "+session.SessionJWT)
		if a.StatusCode != 400 {
			t.Errorf("%s: nonsense is answered %d %s", tc.path, a.StatusCode, a.body)
		}
		if r := records(t, k)[0]; r.Action != tc.action || r.Outcome != audit.Refused || r.OmniAccount != session.OmniAccount {
			t.Errorf("%s: recorded %+v, want a refusal of %s", tc.path, r, session.OmniAccount)
		}
	}
}

// A sign-in leaves a record when it is started and one when it ends, which name the
// same challenge. What is claimed is not taken for what is proven.
func TestSignInsAreRecorded(t *testing.T) {
	k := agentkeystest.New(t)
	w, _ := k.SignIn(t)
	started, verified := records(t, k)[1], records(t, k)[0]
	if diff := cmp.Diff([]string{"auth.wallet.start issued", "auth.wallet.verify signed_in"}, recorded(t, k, 2)); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(started.Detail, "challenge=siwe-") || started.Detail != verified.Detail {
		t.Errorf("the challenges of one sign-in are %q and %q", started.Detail, verified.Detail)
	}
	if started.Agent != strings.ToLower(w.Address()) || started.OmniAccount != "" || started.Wallet != "" || started.IdentityValue != "" {
		t.Errorf("a sign-in that is started is recorded as %+v, want the address as a claim alone", started)
	}
	for _, tc := range []struct{ path, body, want string }{
		{api.PathWalletStart, `{"address":"0x12","chain_id":1}`, "auth.wallet.start refused address_malformed"},
		{api.PathWalletStart, `{"address":"` + w.Address() + `","chain_id":7}`, "auth.wallet.start refused chain_not_allowed"},
		{api.PathWalletStart, `[`, "auth.wallet.start refused bad_request"},
		{api.PathWalletVerify, `{"request_id":"x","signature":"y"}`, "auth.wallet.verify refused request_unknown"},
		{api.PathWalletVerify, `{"request_id":"` + strings.TrimPrefix(started.Detail, "challenge=") + `","signature":"y"}`, "auth.wallet.verify refused request_used"},
		{api.PathWalletVerify, `{}`, "auth.wallet.verify refused bad_request"},
	} {
		before := len(records(t, k))
		send(t, k, "POST", tc.path, tc.body, "Content-Type", jsonType)
		if diff := cmp.Diff([]string{tc.want}, recorded(t, k, len(records(t, k))-before)); diff != "" {
			t.Error(diff)
		}
	}
	for _, path := range []string{api.PathWalletStart, api.PathWalletVerify, api.PathGrantCreate, api.PathGrantRevoke, api.PathMintOIDC, api.PathMintAWS} {
		send(t, k, "POST", path, "{}", "Content-Type", jsonType, "Sec-Fetch-Site", "cross-site").refused(t, 403, "cross_origin")
		if r := records(t, k)[0]; r.Reason != "cross_origin" {
			t.Errorf("%s: the refusal of another origin is not recorded", path)
		}
	}
}

// What a sign-in hands out waits for its record.
func TestNoChallengeWithoutItsRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k := agentkeystest.NewAt(t, path)
	execDirectly(t, path)("CREATE TRIGGER full BEFORE INSERT ON audit_records BEGIN SELECT RAISE(ABORT, 'full'); END")
	var tried atomic.Int32
	k.Broker.WrapTransactions(func(transact broker.Transact) broker.Transact {
		return func(ctx context.Context, fn func(*sql.Tx) error) error {
			tried.Add(1)
			return transact(ctx, fn)
		}
	})
	body := `{"address":"` + newWallet(t).Address() + `","chain_id":1}`
	a := send(t, k, "POST", api.PathWalletStart, body, "Content-Type", jsonType)
	a.refused(t, 503, "audit_unavailable")
	if strings.Contains(string(a.body), "siwe") {
		t.Errorf("the answer holds a challenge: %s", a.body)
	}
	if n := tried.Load(); n != 1 {
		t.Errorf("%d transactions for a challenge that could not be recorded, want no second one for the refusal", n)
	}
	send(t, k, "GET", api.PathGrantList, "").refused(t, 503, "audit_unavailable") // nor does a refusal go without
}

// Somebody who asks without end and proves nothing leaves a bounded number of records,
// and none of what was asked is missing from their numbers.
func TestRefusalsOfOneNetworkAreSummarised(t *testing.T) {
	const asked = 500
	k := agentkeystest.New(t, func(c *broker.Config) {
		c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix("127.0.0.0/8"))
	})
	w, session := k.SignIn(t)
	first := len(records(t, k))
	for i := range asked {
		from := fmt.Sprintf("2001:db8::%x", i) // the addresses of one network
		send(t, k, "POST", api.PathMintOIDC, "", "X-Forwarded-For", from, "Authorization", "Bearer rubbish").refused(t, 401, "malformed_token")
		send(t, k, "GET", api.PathGrantList, "", "X-Forwarded-For", from).refused(t, 401, "session_required")
	}
	send(t, k, "POST", api.PathWalletVerify, `{"request_id":"x","signature":"y"}`, "Content-Type", jsonType, "X-Forwarded-For", "2001:db8::2").refused(t, 401, "request_unknown")
	if n := len(records(t, k)) - first; n != 60 {
		t.Errorf("%d refusals of one network left %d records within a minute, want 60", 2*asked, n)
	}
	if n := gauge(t, k, "agentkeys_summarised_refusals_total"); n != 2*asked-60+1 {
		t.Errorf("%v refusals are counted as without a record, want %d", n, 2*asked-60+1)
	}
	own := len(records(t, k))
	send(t, k, "GET", api.PathGrantList+"?x=1", "", "X-Forwarded-For", "2001:db8::1", "Authorization", "Bearer "+session.SessionJWT)
	send(t, k, "GET", api.PathGrantList, "", "X-Forwarded-For", "2001:db8:0:1::1")
	for _, r := range records(t, k)[:len(records(t, k))-own] {
		if r.Action != audit.ActionGrantList {
			t.Errorf("recorded %+v", r)
		}
	}
	if n := len(records(t, k)) - own; n != 2 {
		t.Errorf("%d records of a proven identity and of another network, want 2", n)
	}

	settle := func() {
		if err := k.Broker.Settle(t.Context()); err != nil {
			t.Error(err)
		}
	}
	settle()
	if n := len(records(t, k)) - own; n != 2 {
		t.Errorf("%d records before the minute is over, want 2", n)
	}
	since := k.Clock.Now()
	k.Clock.Move(time.Minute)
	settle()
	settle()
	want := map[string]string{}
	for _, k := range []string{audit.ActionMintOIDC + " malformed_token", audit.ActionGrantList + " session_required"} {
		action, reason, _ := strings.Cut(k, " ")
		want[reason] = fmt.Sprintf("action=%s count=%d since=%s", action, asked-30, since.UTC().Format(time.RFC3339))
	}
	want["request_unknown"] = fmt.Sprintf("action=%s count=1 since=%s", audit.ActionSignInVerify, since.UTC().Format(time.RFC3339))
	got := map[string]string{}
	for _, r := range records(t, k)[:len(records(t, k))-own-2] {
		got[r.Reason] = r.Detail
		if r.Action != audit.ActionRefusalsSummarised || r.Outcome != audit.Refused || r.Source != "2001:db8::/64" || !strings.HasPrefix(r.RequestID, "summary-") {
			t.Errorf("the summary is %+v", r)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := k.Client.SignIn(t.Context(), w, 1); err != nil {
		t.Errorf("signing in beside it: %v", err)
	}
}

// What could not be recorded is counted on, and what is left at the end is recorded.
func TestSummariesAreNotLostWithAFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k := agentkeystest.NewAt(t, path)
	ask := func(n int) {
		for range n {
			send(t, k, "GET", api.PathGrantList, "")
		}
	}
	ask(70)
	k.Clock.Move(2 * time.Minute)
	direct := execDirectly(t, path)
	direct("CREATE TRIGGER full BEFORE INSERT ON audit_records BEGIN SELECT RAISE(ABORT, 'full'); END")
	if err := k.Broker.Settle(t.Context()); err == nil {
		t.Error("Settle returned nil while nothing could be recorded")
	}
	direct("DROP TRIGGER full")
	ask(61)
	if err := k.Broker.Summarise(context.Background(), true); err != nil {
		t.Error(err)
	}
	if r := records(t, k)[0]; r.Action != audit.ActionRefusalsSummarised || !strings.Contains(r.Detail, " count=11 ") {
		t.Errorf("the newest record is %+v, want a summary of 11", r)
	}
	if err := k.Broker.Summarise(context.Background(), true); err != nil {
		t.Error(err)
	}
	if r := records(t, k)[1]; r.Action == audit.ActionRefusalsSummarised {
		t.Error("they were recorded twice")
	}
}

// A network cannot start sign-ins without end either: each leaves two rows.
func TestStartedSignInsAreBounded(t *testing.T) {
	k := agentkeystest.New(t, func(c *broker.Config) { c.Budgets.PerNetwork = 1 })
	body := `{"address":"` + newWallet(t).Address() + `","chain_id":1}`
	for range 60 {
		if a := send(t, k, "POST", api.PathWalletStart, body, "Content-Type", jsonType); a.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	a := send(t, k, "POST", api.PathWalletStart, body, "Content-Type", jsonType)
	a.refused(t, 429, "budget_spent")
	if a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q, want 1", a.Header.Get("Retry-After"))
	}
	if r := records(t, k)[0]; r.Action != audit.ActionSignInStart || r.Reason != "budget_spent" {
		t.Errorf("recorded %+v", r)
	}
	k.Clock.Move(time.Second)
	if a := send(t, k, "POST", api.PathWalletStart, body, "Content-Type", jsonType); a.StatusCode != http.StatusOK {
		t.Errorf("a second later: %d %s", a.StatusCode, a.body)
	}
}

// An e-mail address is in no record, no log line and no metric, whatever its owner
// asks for and is refused.
func TestNoEMailAddressInClear(t *testing.T) {
	const address = "ada.lovelace@example.org"
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k := agentkeystest.NewAt(t, path)
	ada := identity.Identity{Type: identity.Email, Value: address}
	jwt, _, err := k.Sessions.Issue(token.Subject{
		IdentityType: string(ada.Type), IdentityValue: ada.Value, OmniAccount: ada.OmniAccount()}, k.Clock.Now())
	must(t, err)
	bearer := []string{"Content-Type", jsonType, "Authorization", "Bearer " + jwt.Reveal()}
	bodies := map[string][]string{
		api.PathMintOIDC: {"", "["},
		api.PathMintAWS: {"{}", fmt.Sprintf(`{"request_id":"a","issued_at":%q,"intent":{"agent_id":"a","service":"s3","scope_path":"a"},"auth":{"address":%q,"signature":"0x%s"}}`,
			k.Clock.Now().UTC().Format(time.RFC3339), newWallet(t).Address(), strings.Repeat("1b", 65))},
		api.PathGrantCreate: {"{}", fmt.Sprintf(`{"daemon_address":%q,"service":"s3","scope_path":"a","actions":["get"],"expires_at":%d,"max_uses":5}`,
			newWallet(t).Address(), k.Clock.Now().Add(time.Hour).Unix())},
		api.PathGrantList:   {""},
		api.PathGrantRevoke: {`{"grant_id":"grn-x"}`},
	}
	for _, tc := range needsSession {
		for _, body := range bodies[tc.path] {
			before := len(records(t, k))
			a := send(t, k, tc.method, tc.path, body, bearer...)
			for _, r := range records(t, k)[:len(records(t, k))-before] {
				if r.IdentityType != "email" || r.IdentityValue != k.AuditKey.Pseudonym(address) || r.OmniAccount != ada.OmniAccount() {
					t.Errorf("%s: answered %d, recorded %+v", tc.path, a.StatusCode, r)
				}
			}
			if len(records(t, k)) == before && tc.path != api.PathGrantList {
				t.Errorf("%s: answered %d %s, and nothing is recorded", tc.path, a.StatusCode, a.body)
			}
		}
	}
	issued := 0
	for _, r := range records(t, k) {
		if r.Outcome == audit.Issued || r.Outcome == audit.Confirmed {
			issued++
		}
	}
	if issued < 2 {
		t.Errorf("%d of her requests did what they are for, want a mint and a grant", issued)
	}
	metrics, err := k.Broker.Registry().Gather()
	must(t, err)
	must(t, k.Store.Close())
	files, err := filepath.Glob(path + "*")
	must(t, err)
	seen := map[string]string{"the log": k.Log.String(), "the metrics": fmt.Sprint(metrics)}
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(t, err)
		seen[file] = string(data)
	}
	for name, text := range seen {
		if strings.Contains(strings.ToLower(text), address) {
			t.Errorf("%s has the address in clear", name)
		}
	}
	if !strings.Contains(seen[path], k.AuditKey.Pseudonym(address)) {
		t.Error("the database has no pseudonym: what was looked at?")
	}
}
