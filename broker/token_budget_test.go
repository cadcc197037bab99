package broker_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

// A session costs nothing and each token leaves a record, so an account and a network
// get so many a minute, and hear when there is the next one. The answers to whoever
// asks on are bounded as records too.
func TestTokenBudgets(t *testing.T) {
	for whose, tt := range map[string]struct {
		budgets broker.Budgets
		shared  bool // whether another account of the network has the same budget
	}{
		"account": {broker.Budgets{PerAccount: 2, PerGrant: 100, PerNetwork: 4}, false},
		"network": {broker.Budgets{PerAccount: 100, PerGrant: 100, PerNetwork: 2}, true},
	} {
		t.Run(whose, func(t *testing.T) {
			k, a := agentkeystest.NewWithAWS(t, behindProxy, func(c *broker.Config) { c.Budgets = tt.budgets })
			p, other := k.Party(t), k.Party(t)
			k.Grant(t, p, p, "a")
			ask := func(p agentkeystest.Party, from string) answer {
				return asking(t, k, p.Session.SessionJWT, from, "POST", api.PathMintOIDC, "")
			}
			const here, there = "192.0.2.1", "192.0.2.2"
			for range 2 {
				if got := ask(p, here); got.StatusCode != http.StatusOK {
					t.Fatalf("within the budget: %d %s", got.StatusCode, got.body)
				}
			}
			for range 500 {
				got := ask(p, here)
				got.refused(t, http.StatusTooManyRequests, "budget_spent")
				if got.Header.Get("Retry-After") != "30" || got.json(t)["detail"] != "the budget of this "+whose+", 2 a minute, is spent" {
					t.Fatalf("Retry-After %q, %s", got.Header.Get("Retry-After"), got.body)
				}
			}
			if own, _ := refusals(t, k, p.Session.OmniAccount); own["mint.oidc_jwt budget_spent"] != 61 {
				t.Errorf("500 refusals are recorded as %v, want 61 of them", own)
			}
			if n := gauge(t, k, "agentkeys_summarised_refusals_total"); n != 439 {
				t.Errorf("%v are counted, want 439", n)
			}
			for range 2 { // what the account asked too often took nothing from its network
				if got := ask(other, here); (got.StatusCode == http.StatusTooManyRequests) != tt.shared {
					t.Errorf("another account of the network: %d %s", got.StatusCode, got.body)
				}
			}
			for who, p := range map[string]agentkeystest.Party{"it": p, "the other": other} { // nor the other way round
				if got := ask(p, there); (got.StatusCode == http.StatusTooManyRequests) == tt.shared {
					t.Errorf("%s in another network: %d %s", who, got.StatusCode, got.body)
				}
			}
			for range 2 { // counted apart
				got := asking(t, k, p.Session.SessionJWT, here, "POST", api.PathMintAWS, asJSON(t, k.NewCall(p, "a").Sign(t).MintAWSRequest))
				if got.StatusCode != http.StatusOK {
					t.Errorf("AWS credentials beside spent tokens: %d %s", got.StatusCode, got.body)
				}
			}
			if n := len(a.Given()); n != 2 {
				t.Errorf("STS gave %d credentials, want 2", n)
			}
			k.Clock.Move(29 * time.Second)
			ask(p, here).refused(t, http.StatusTooManyRequests, "budget_spent")
			k.Clock.Move(time.Second)
			if got := ask(p, here); got.StatusCode != http.StatusOK {
				t.Errorf("when it says: %d %s", got.StatusCode, got.body)
			}
			ask(p, here).refused(t, http.StatusTooManyRequests, "budget_spent")
		})
	}
}

// With two budgets spent the wait is the longer one, whichever is looked at first.
func TestTheLongerWaitIsTold(t *testing.T) {
	for whose, budgets := range map[string]broker.Budgets{
		"account": {PerAccount: 2, PerGrant: 9, PerNetwork: 4}, "network": {PerAccount: 2, PerGrant: 9, PerNetwork: 1},
	} {
		k := agentkeystest.New(t, behindProxy, func(c *broker.Config) { c.Budgets = budgets })
		p, other := k.Party(t), k.Party(t)
		ask := func(p agentkeystest.Party, from string) answer {
			return asking(t, k, p.Session.SessionJWT, from, "POST", api.PathMintOIDC, "")
		}
		ask(p, "192.0.2.1")
		ask(p, "192.0.2.2")
		for range 4 {
			ask(other, "192.0.2.1")
			ask(other, "192.0.2.3")
		}
		got := ask(p, "192.0.2.1")
		got.refused(t, http.StatusTooManyRequests, "budget_spent")
		wait := map[string]string{"account": "30", "network": "60"}[whose]
		size := map[string]string{"account": "2", "network": "1"}[whose]
		if got.Header.Get("Retry-After") != wait || got.json(t)["detail"] != "the budget of this "+whose+", "+size+" a minute, is spent" {
			t.Errorf("Retry-After %q, want %s; %s", got.Header.Get("Retry-After"), wait, got.body)
		}
	}
}

// The client of ours hears how long to wait.
func TestClientHearsOfASpentTokenBudget(t *testing.T) {
	k := agentkeystest.New(t, func(c *broker.Config) { c.Budgets.PerAccount = 1 })
	_, session := k.SignIn(t)
	_, err := k.Client.MintOIDC(t.Context(), session.SessionJWT)
	must(t, err)
	_, err = k.Client.MintOIDC(t.Context(), session.SessionJWT)
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Code != api.CodeBudgetSpent || refused.Status != 429 || refused.RetryAfter != time.Minute {
		t.Errorf("got %v, want budget_spent for a minute", err)
	}
}

// What is refused before a token would be made takes none.
func TestRefusedTokensTakeNothing(t *testing.T) {
	k := agentkeystest.New(t, func(c *broker.Config) { c.Budgets.PerAccount, c.Budgets.PerNetwork = 1, 1 })
	_, session := k.SignIn(t)
	for range 5 {
		send(t, k, "POST", api.PathMintOIDC, "").refused(t, 401, "session_required")
		asking(t, k, session.SessionJWT, "", "POST", api.PathMintOIDC, "[").refused(t, 400, "bad_request")
	}
	if _, err := k.Client.MintOIDC(t.Context(), session.SessionJWT); err != nil {
		t.Error(err)
	}
}

// Credentials that are given again leave a record each time, of one mint, one use and
// one call of STS. So how often is bounded, and a refusal of it undoes nothing.
func TestReplaysHaveABudget(t *testing.T) {
	for whose, budgets := range map[string]broker.Budgets{
		"account": {PerAccount: 2, PerGrant: 100, PerNetwork: 100}, "network": {PerAccount: 100, PerGrant: 100, PerNetwork: 2},
	} {
		t.Run(whose, func(t *testing.T) {
			k, a := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.Budgets = budgets })
			p := k.Party(t)
			k.Grant(t, p, p, "a")
			c := k.NewCall(p, "a")
			c.IdempotencyKey = c.RequestID
			c.Sign(t)
			first, problem := k.Mint(t, c)
			if problem != nil {
				t.Fatal(problem)
			}
			again := func() *api.Problem {
				answer, problem, header := k.MintHeader(t, c)
				switch {
				case problem == nil && (answer.AccessKeyID != first.AccessKeyID || header.Get("X-Idempotency") != "hit"):
					t.Errorf("given again: %s, %s", answer.AccessKeyID, header.Get("X-Idempotency"))
				case problem != nil && (problem.Status != 429 || problem.Code != api.CodeBudgetSpent || header.Get("Retry-After") != "30"):
					t.Errorf("refused: %+v, Retry-After %q", problem, header.Get("Retry-After"))
				}
				return problem
			}
			for i := range 200 {
				if problem := again(); (problem == nil) != (i < 2) {
					t.Fatalf("time %d: %+v", i+1, problem)
				}
			}
			replayed, refused := 0, 0
			for _, r := range records(t, k) {
				switch {
				case r.Outcome == audit.Replayed && r.CredentialID == first.AccessKeyID:
					replayed++
				case r.Outcome == audit.Refused && r.Reason == string(api.CodeBudgetSpent):
					refused++
				}
			}
			if replayed != 2 || refused != 61 {
				t.Errorf("%d replays and %d refusals are recorded, want 2 and 61", replayed, refused)
			}
			if _, problem := k.Mint(t, k.NewCall(p, "a").Sign(t)); problem != nil { // counted apart
				t.Errorf("a mint beside spent replays: %+v", problem)
			}
			k.Clock.Move(30 * time.Second)
			if problem := again(); problem != nil {
				t.Errorf("when it says: %+v", problem)
			}
			if n := len(a.Given()); n != 2 {
				t.Errorf("STS gave %d credentials, want 2", n)
			}
		})
	}
}
