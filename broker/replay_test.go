package broker_test

import (
	"testing"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/broker"
)

// A call is remembered for as long as its signature may be fresh to any request, also
// to one that began while the clock said less: it may be late by ClockLeeway, whether
// the clock was set back or the body came slowly.
func TestCallIsRememberedUntilItsSignatureIsStaleToEverybody(t *testing.T) {
	k, a := agentkeystest.NewWithAWS(t, func(c *broker.Config) { c.CallSkew = broker.MaxCallSkew })
	p := k.Party(t)
	k.Grant(t, p, p, "a")
	c := k.NewCall(p, "a")
	c.IssuedAt = api.Timestamp{Time: k.Clock.Now().Add(broker.MaxCallSkew)} // as far in the future as is taken
	c.Sign(t)
	if _, problem := k.Mint(t, c); problem != nil {
		t.Fatalf("the call: %+v", problem)
	}
	k.Clock.Move(broker.KeepAnswers)
	if err := k.Broker.Settle(t.Context()); err != nil { // forgets it
		t.Fatal(err)
	}
	k.Clock.Move(-broker.ClockLeeway)
	if answer, problem := k.Mint(t, c); problem == nil || problem.Status != 401 {
		t.Errorf("the same call again acts for %q, %+v", tenantOf(answer), problem)
	}
	if n := len(a.Asked()); n != 1 {
		t.Errorf("STS was asked %d times for one signed call", n)
	}
}
