package broker_test

import (
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

// Each budget by itself: what it counts together, and what it does not.
func TestBudgets(t *testing.T) {
	for name, tt := range map[string]struct {
		budgets broker.Budgets
		whose   string
		other   func(t *testing.T, k *agentkeystest.Broker, owner, daemon agentkeystest.Party) (agentkeystest.Party, string)
		shared  bool // whether the other call takes from the same budget
	}{
		"account": {broker.Budgets{PerAccount: 2, PerGrant: 100, PerNetwork: 100}, "account", anotherGrant, true},
		"account, another's": {broker.Budgets{PerAccount: 2, PerGrant: 100, PerNetwork: 100}, "account",
			func(t *testing.T, k *agentkeystest.Broker, owner, _ agentkeystest.Party) (agentkeystest.Party, string) {
				other := k.Party(t)
				k.Grant(t, owner, other, "a")
				return other, ""
			}, false},
		"grant": {broker.Budgets{PerAccount: 100, PerGrant: 2, PerNetwork: 100}, "grant", anotherGrant, false},
		"network": {broker.Budgets{PerAccount: 100, PerGrant: 100, PerNetwork: 2}, "network",
			func(t *testing.T, k *agentkeystest.Broker, owner, _ agentkeystest.Party) (agentkeystest.Party, string) {
				other := k.Party(t)
				k.Grant(t, owner, other, "a")
				return other, ""
			}, true},
	} {
		t.Run(name, func(t *testing.T) {
			k, a := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.Budgets = tt.budgets })
			owner, daemon := k.Party(t), k.Party(t)
			g := k.Grant(t, owner, daemon, "a")
			call := func(p agentkeystest.Party, id string) *agentkeystest.Call {
				c := k.NewCall(p, "a")
				c.Intent.GrantID, c.IdempotencyKey = id, c.RequestID
				return c.Sign(t)
			}
			other, otherGrant := tt.other(t, k, owner, daemon)
			for range 2 {
				if _, problem := k.Mint(t, call(daemon, g.GrantID)); problem != nil {
					t.Fatal(problem)
				}
			}
			late := call(daemon, g.GrantID)
			_, problem, header := k.MintHeader(t, late)
			if problem == nil || problem.Status != 429 || problem.Code != api.CodeBudgetSpent || header.Get("Retry-After") != "30" {
				t.Fatalf("the third: %+v, Retry-After %q; want 429 after 30 seconds", problem, header.Get("Retry-After"))
			}
			if r := records(t, k)[0]; r.Outcome != audit.Refused || r.Reason != string(api.CodeBudgetSpent) {
				t.Errorf("record: %+v", r)
			}
			if n := len(a.Given()); n != 2 {
				t.Errorf("STS gave %d credentials, want 2", n)
			}
			if _, problem := k.Mint(t, call(other, otherGrant)); (problem != nil) != tt.shared {
				t.Errorf("another call: %+v, want refused %t", problem, tt.shared)
			}
			k.Clock.Move(29 * time.Second)
			if _, problem := k.Mint(t, late); problem == nil || problem.Code != api.CodeBudgetSpent {
				t.Errorf("a second too early: %+v", problem)
			}
			k.Clock.Move(time.Second)
			if _, problem := k.Mint(t, late); problem != nil { // as it was signed: nothing of it was decided
				t.Errorf("when it says: %+v", problem)
			}
			if _, problem := k.Mint(t, call(daemon, g.GrantID)); problem == nil || problem.Code != api.CodeBudgetSpent {
				t.Errorf("the next at once: %+v", problem)
			}
			if _, problem := k.Mint(t, late); problem != nil { // a retry mints nothing
				t.Errorf("a retry on a spent budget: %+v", problem)
			}
		})
	}
}

func anotherGrant(t *testing.T, k *agentkeystest.Broker, owner, daemon agentkeystest.Party) (agentkeystest.Party, string) {
	return daemon, k.Grant(t, owner, daemon, "a").GrantID
}
