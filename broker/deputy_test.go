package broker_test

import (
	"strings"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/broker"
)

// Anybody may grant to any daemon. A daemon that names no grant must not come to act
// for a stranger who waits until its owner's grants have ended, or for a call that
// they do not reach: what it writes would lie in the stranger's prefix.
func TestStrangersGrantTakesNoUnnamedCall(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *agentkeystest.Broker, agentkeystest.Party, api.Grant){
		"revoked": func(t *testing.T, k *agentkeystest.Broker, owner agentkeystest.Party, g api.Grant) {
			if status, problem := k.Send(t, "POST", api.PathGrantRevoke, owner.Session.SessionJWT, api.GrantRevokeRequest{GrantID: g.GrantID}, new(api.GrantRevokeResponse)); problem != nil {
				t.Fatalf("revoking: %d %+v", status, problem)
			}
		},
		"expired": func(_ *testing.T, k *agentkeystest.Broker, _ agentkeystest.Party, _ api.Grant) {
			k.Clock.Move(2 * time.Hour)
		},
		"used up": func(*testing.T, *agentkeystest.Broker, agentkeystest.Party, api.Grant) {},
	} {
		t.Run(name, func(t *testing.T) {
			k, a := agentkeystest.NewWithAWS(t)
			owner, daemon, stranger := k.Party(t), k.Party(t), k.Party(t)
			g := k.Grant(t, owner, daemon, "reports", func(r *api.GrantCreateRequest) { r.MaxUses = 1 })
			if answer, problem := k.Mint(t, k.NewCall(daemon, "reports").Sign(t)); problem != nil || answer.Wallet != strings.ToLower(owner.Address()) {
				t.Fatalf("the daemon's first mint acts for %q, %+v", tenantOf(answer), problem)
			}
			end(t, k, owner, g)
			trap := k.Grant(t, stranger, daemon, "/", func(r *api.GrantCreateRequest) { r.ExpiresAt = k.Clock.Now().Add(24 * time.Hour).Unix() })
			for _, path := range []string{"reports", "elsewhere"} {
				if answer, problem := k.Mint(t, k.NewCall(daemon, path).Sign(t)); problem == nil || problem.Code != api.CodeGrantAmbiguous || problem.Status != 403 {
					t.Errorf("%s: an unnamed call acts for %q, %+v", path, tenantOf(answer), problem)
				}
			}
			if n := len(a.Asked()); n != 1 {
				t.Errorf("STS was asked %d times, want once", n)
			}
			c := k.NewCall(daemon, "reports") // who names the stranger's means it
			c.Intent.GrantID = trap.GrantID
			if answer, problem := k.Mint(t, c.Sign(t)); problem != nil || answer.Wallet != strings.ToLower(stranger.Address()) {
				t.Errorf("named, it acts for %q, %+v", tenantOf(answer), problem)
			}
		})
	}
}

// In the migration window a wallet reaches its own prefix without any grant, so every
// other owner's grant is one of two that fit.
func TestStrangersGrantTakesNoCallOfTheMigrationWindow(t *testing.T) {
	k, a := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.GrantOptional = true })
	daemon, stranger := k.Party(t), k.Party(t)
	trap := k.Grant(t, stranger, daemon, "/")
	if answer, problem := k.Mint(t, k.NewCall(daemon, "a").Sign(t)); problem == nil || problem.Code != api.CodeGrantAmbiguous {
		t.Errorf("an unnamed call beside a stranger's grant acts for %q, %+v", tenantOf(answer), problem)
	}
	if len(a.Asked()) != 0 {
		t.Error("STS was asked")
	}
	c := k.NewCall(daemon, "a")
	c.Intent.GrantID = trap.GrantID
	if answer, problem := k.Mint(t, c.Sign(t)); problem != nil || answer.Wallet != strings.ToLower(stranger.Address()) {
		t.Errorf("named, it acts for %q, %+v", tenantOf(answer), problem)
	}
	own := k.Party(t)
	g := k.Grant(t, own, own, "a")
	if answer, problem := k.Mint(t, k.NewCall(own, "a").Sign(t)); problem != nil || answer.Wallet != g.Wallet {
		t.Errorf("under a grant to the own wallet it acts for %q, %+v", tenantOf(answer), problem)
	}
}

func tenantOf(answer *api.MintAWSResponse) string {
	if answer == nil {
		return ""
	}
	return answer.Wallet
}
