package broker_test

import (
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
)

// The broker knows a named grant from the calls before. That it has ended since stops
// the next call all the same, before STS, with a record that says so.
func TestKnownGrantThatEndedStopsTheNextCall(t *testing.T) {
	for code, end := range map[api.Code]func(*testing.T, *agentkeystest.Broker, agentkeystest.Party, api.Grant){
		api.CodeGrantRevoked: func(t *testing.T, k *agentkeystest.Broker, owner agentkeystest.Party, g api.Grant) {
			if _, problem := k.Send(t, "POST", api.PathGrantRevoke, owner.Session.SessionJWT, api.GrantRevokeRequest{GrantID: g.GrantID}, new(api.GrantRevokeResponse)); problem != nil {
				t.Fatalf("revoking: %+v", problem)
			}
		},
		api.CodeGrantExpired: func(_ *testing.T, k *agentkeystest.Broker, _ agentkeystest.Party, _ api.Grant) {
			k.Clock.Move(time.Minute)
		},
		api.CodeGrantExhausted: func(*testing.T, *agentkeystest.Broker, agentkeystest.Party, api.Grant) {},
	} {
		t.Run(string(code), func(t *testing.T) {
			k, a := agentkeystest.NewWithAWS(t)
			owner, daemon := k.Party(t), k.Party(t)
			g := k.Grant(t, owner, daemon, "reports", func(r *api.GrantCreateRequest) {
				r.MaxUses, r.ExpiresAt = 2, k.Clock.Now().Add(time.Minute).Unix()
				if code == api.CodeGrantRevoked {
					r.MaxUses = 5
				}
			})
			call := func() *agentkeystest.Call {
				c := k.NewCall(daemon, "reports")
				c.Intent.GrantID, c.IdempotencyKey = g.GrantID, c.RequestID
				return c.Sign(t)
			}
			for range 2 {
				if _, problem := k.Mint(t, call()); problem != nil {
					t.Fatalf("minting: %+v", problem)
				}
			}
			end(t, k, owner, g)
			late := call()
			for range 2 { // a retry hears the same
				if _, problem := k.Mint(t, late); problem == nil || problem.Code != code {
					t.Errorf("got %+v, want %s", problem, code)
				}
			}
			if n := len(a.Asked()); n != 2 {
				t.Errorf("STS was asked %d times, want 2", n)
			}
			for _, r := range records(t, k) {
				if r.Action == audit.ActionMintAWS && r.Settles == "" && r.Outcome == audit.Refused && r.Reason == string(code) && r.GrantID == g.GrantID {
					return
				}
			}
			t.Errorf("no record of a refusal for %s", code)
		})
	}
}
