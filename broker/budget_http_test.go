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

// A call that one budget refuses takes from none: an agent that asks without end under
// a grant that is spent keeps neither its own other grants nor its network from theirs.
func TestWhatOneBudgetRefusesTakesFromNone(t *testing.T) {
	k, _ := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.Budgets = broker.Budgets{PerAccount: 3, PerGrant: 1, PerNetwork: 3} })
	owner, daemon, other := k.Party(t), k.Party(t), k.Party(t)
	spent, fresh := k.Grant(t, owner, daemon, "a").GrantID, k.Grant(t, owner, daemon, "a").GrantID
	k.Grant(t, owner, other, "a")
	mint := func(p agentkeystest.Party, id string) (*api.Problem, string) {
		c := k.NewCall(p, "a")
		c.Intent.GrantID = id
		_, problem, header := k.MintHeader(t, c.Sign(t))
		return problem, header.Get("Retry-After")
	}
	if problem, _ := mint(daemon, spent); problem != nil {
		t.Fatal(problem)
	}
	for range 20 {
		if problem, wait := mint(daemon, spent); problem == nil || problem.Detail != "the budget of this grant, 1 a minute, is spent" || wait != "60" {
			t.Fatalf("under the grant that is spent: %+v, Retry-After %q", problem, wait)
		}
	}
	if problem, _ := mint(daemon, fresh); problem != nil {
		t.Errorf("under the other grant: %+v", problem)
	}
	if problem, _ := mint(other, ""); problem != nil {
		t.Errorf("another account of the network: %+v", problem)
	}
	if problem, wait := mint(daemon, spent); problem == nil || wait != "60" { // that of the network takes 20
		t.Errorf("with two budgets spent: %+v, Retry-After %q, want the longer one", problem, wait)
	}
	if problem, wait := mint(other, ""); problem == nil || wait != "60" {
		t.Errorf("the other account again: %+v, Retry-After %q", problem, wait)
	}
}
