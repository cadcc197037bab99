package broker_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

var errUndone = errors.New("undone")

// twice runs each function twice, as the store does where another update fails that
// shares the commit: nothing is kept of the first time. What another has done is done
// before one of the times.
func twice(first, second func(*sql.Tx) error) func(broker.Transact) broker.Transact {
	return func(transact broker.Transact) broker.Transact {
		return func(ctx context.Context, fn func(*sql.Tx) error) error {
			err := transact(ctx, func(tx *sql.Tx) error {
				return errors.Join(first(tx), fn(tx), errUndone)
			})
			if !errors.Is(err, errUndone) {
				return err
			}
			return transact(ctx, func(tx *sql.Tx) error {
				if err := second(tx); err != nil {
					return err
				}
				return fn(tx)
			})
		}
	}
}

func nothing(*sql.Tx) error { return nil }

func revoke(tx *sql.Tx) error {
	_, err := tx.Exec("UPDATE grants SET revoked_at = 1, standing = 0")
	return err
}

// Whatever a call does, it leaves the same records and takes the same from the budgets,
// whether its transactions ran once or twice.
func TestTransactionsMayRunTwice(t *testing.T) {
	const budget = 3
	scenario := func(wrap func(broker.Transact) broker.Transact) (said, done []string, summarised float64) {
		k, _ := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.Budgets.PerAccount = budget })
		k.Broker.WrapTransactions(wrap)
		say := func(problem *api.Problem) {
			code := "ok"
			if problem != nil {
				code = string(problem.Code)
			}
			said = append(said, code)
		}
		mint := func(c *agentkeystest.Call) {
			_, problem := k.Mint(t, c)
			say(problem)
		}
		owner, daemon := k.Party(t), k.Party(t)
		g := k.Grant(t, owner, daemon, "reports", func(r *api.GrantCreateRequest) { r.MaxUses = budget })
		call := k.NewCall(daemon, "reports")
		call.IdempotencyKey = "key"
		call.Sign(t)
		for range 2 + budget { // the first, and again until the budget of that is spent
			mint(call)
		}
		mint(k.NewCall(daemon, "elsewhere").Sign(t))
		for range 2 {
			mint(k.NewCall(daemon, "reports").Sign(t))
		}
		for range 80 { // more than have a record of their own
			mint(k.NewCall(daemon, "reports").Sign(t))
		}
		for range 2 {
			_, problem := k.Send(t, "POST", api.PathGrantRevoke, owner.Session.SessionJWT, api.GrantRevokeRequest{GrantID: g.GrantID}, new(api.GrantRevokeResponse))
			say(problem)
		}
		all := records(t, k)
		byID := make(map[string]audit.Record)
		for _, r := range all {
			byID[r.ID] = r
		}
		for _, r := range slices.Backward(all) {
			settles := byID[r.Settles].Outcome
			whose := ""
			for name, has := range map[string]bool{"tenant": r.Tenant != "", "grant": r.GrantID != "", "token": r.TokenID != "", "credential": r.CredentialID != "", "identity": r.OmniAccount != ""} {
				if has {
					whose += name[:1]
				}
			}
			done = append(done, r.Action+" "+r.Outcome+" "+r.Reason+" "+settles+" "+sorted(whose))
		}
		return said, done, gauge(t, k, "agentkeys_summarised_refusals_total")
	}
	saidOnce, doneOnce, countedOnce := scenario(func(transact broker.Transact) broker.Transact { return transact })
	saidTwice, doneTwice, countedTwice := scenario(twice(nothing, nothing))
	if diff := cmp.Diff(saidOnce, saidTwice); diff != "" {
		t.Errorf("answers: %s", diff)
	}
	if diff := cmp.Diff(doneOnce, doneTwice); diff != "" {
		t.Errorf("records: %s", diff)
	}
	if countedOnce == 0 || countedOnce != countedTwice {
		t.Errorf("%v refusals were counted, and %v where transactions run twice", countedOnce, countedTwice)
	}
}

func sorted(letters string) string {
	all := []byte(letters)
	slices.Sort(all)
	return string(all)
}

// The second time may find something else than the first. What counts is the second.
func TestSecondRunOfATransactionDecides(t *testing.T) {
	for name, tc := range map[string]struct {
		first, second func(*sql.Tx) error
		want          []string
	}{
		"granted after all": {revoke, nothing, []string{"aws pending ", "aws confirmed "}},
		"refused after all": {nothing, revoke, []string{"aws refused grant_revoked"}},
	} {
		t.Run(name, func(t *testing.T) {
			k, a := agentkeystest.NewWithAWS(t)
			owner, daemon := k.Party(t), k.Party(t)
			g := k.Grant(t, owner, daemon, "reports")
			before := len(records(t, k))
			k.Broker.WrapTransactions(twice(tc.first, tc.second))
			answer, problem := k.Mint(t, k.NewCall(daemon, "reports").Sign(t))
			var got []string
			all := records(t, k)
			for _, r := range slices.Backward(all[:len(all)-before]) {
				got = append(got, "aws "+r.Outcome+" "+r.Reason)
				grant, token := g.GrantID, r.TokenID != ""
				if r.Outcome == audit.Refused { // no grant was found
					grant, token = "", r.TokenID == ""
				}
				if r.GrantID != grant || !token {
					t.Errorf("record %s names the grant %q, want %q; its token is %q", r.Outcome, r.GrantID, grant, r.TokenID)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if (answer != nil) != (problem == nil) || (problem == nil) != (len(tc.want) == 2) || len(a.Asked()) != len(tc.want)-1 {
				t.Errorf("answered %v, %+v, and AWS was asked %d times", answer, problem, len(a.Asked()))
			}
		})
	}
}

// A record tells what the second time found, and nothing of the first.
func TestSecondRunOfASignIn(t *testing.T) {
	use := func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE wallet_challenges SET used_at = 1")
		return err
	}
	for name, tc := range map[string]struct {
		first, second func(*sql.Tx) error
		outcome       string
		reason        string
	}{
		"signed in after all": {use, nothing, audit.SignedIn, ""},
		"refused after all":   {nothing, use, audit.Refused, "request_used"},
	} {
		t.Run(name, func(t *testing.T) {
			k := agentkeystest.New(t)
			w := newWallet(t)
			var start api.WalletStartResponse
			if _, problem := k.Send(t, "POST", api.PathWalletStart, "", api.WalletStartRequest{Address: w.Address(), ChainID: 1}, &start); problem != nil {
				t.Fatal(problem)
			}
			k.Broker.WrapTransactions(twice(tc.first, tc.second))
			req := api.WalletVerifyRequest{RequestID: start.RequestID, Signature: w.SignMessage(start.SIWEMessage)}
			_, problem := k.Send(t, "POST", api.PathWalletVerify, "", req, new(api.Session))
			r := records(t, k)[0]
			if r.Outcome != tc.outcome || r.Reason != tc.reason || (r.OmniAccount != "") != (tc.reason == "") || (problem == nil) != (tc.reason == "") {
				t.Errorf("recorded %+v, and answered %+v", r, problem)
			}
		})
	}
}

// Nobody waits for a record that was written the first time alone.
func TestSecondRunWritesNoRecord(t *testing.T) {
	w := newWorld(t)
	owner := w.k.Party(t)
	g := w.k.Grant(t, owner, owner, "reports")
	w.k.Broker.WrapTransactions(twice(nothing, revoke))
	var answer api.GrantRevokeResponse
	if status, problem := w.k.Send(t, "POST", api.PathGrantRevoke, owner.Session.SessionJWT, api.GrantRevokeRequest{GrantID: g.GrantID}, &answer); problem != nil || !answer.Revoked {
		t.Errorf("revoking what another revoked meanwhile: %d %+v, %+v", status, problem, answer)
	}
}

// brokenWriter fails where the answer is written.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (w brokenWriter) Write(p []byte) (int, error) {
	if w.Code == http.StatusOK {
		panic("the answer could not be written")
	}
	return w.ResponseRecorder.Write(p)
}

// What goes wrong once an identity is proven has a record that names it.
func TestFailureBehindASignInNamesWhoSignedIn(t *testing.T) {
	k := agentkeystest.New(t)
	w := newWallet(t)
	var start api.WalletStartResponse
	if _, problem := k.Send(t, "POST", api.PathWalletStart, "", api.WalletStartRequest{Address: w.Address(), ChainID: 1}, &start); problem != nil {
		t.Fatal(problem)
	}
	body, err := json.Marshal(api.WalletVerifyRequest{RequestID: start.RequestID, Signature: w.SignMessage(start.SIWEMessage)})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", api.PathWalletVerify, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	k.Broker.ServeHTTP(brokenWriter{httptest.NewRecorder()}, r)
	all := records(t, k)
	if got := all[0]; got.Outcome != audit.Refused || got.Reason != string(api.CodeInternal) {
		t.Fatalf("recorded %+v, want that it failed", got)
	}
	if signedIn := all[1]; all[0].OmniAccount == "" || all[0].OmniAccount != signedIn.OmniAccount || all[0].Wallet != signedIn.Wallet {
		t.Errorf("recorded that %q (%q) failed, want %q", all[0].OmniAccount, all[0].Wallet, signedIn.OmniAccount)
	}
}
