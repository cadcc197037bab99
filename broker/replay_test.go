package broker_test

import (
	"strings"
	"testing"
	"time"

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

// RFC 6750, section 3.1: a client that hears invalid_token throws its token away. It
// hears that where the session was refused, and not where the session was good and
// the call's own signature was not.
func TestChallengeBlamesTheSessionOnlyWhereItWasRefused(t *testing.T) {
	k, _ := agentkeystest.NewWithAWS(t)
	p := k.Party(t)
	k.Grant(t, p, p, "a")
	forged := k.NewCall(p, "a").Sign(t)
	forged.Intent.AgentID = "another"
	stale := k.NewCall(p, "a")
	stale.IssuedAt.Time = stale.IssuedAt.Add(-time.Hour)
	used := k.NewCall(p, "a").Sign(t)
	if _, problem := k.Mint(t, used); problem != nil {
		t.Fatal(problem)
	}
	none, other := k.NewCall(p, "a"), k.NewCall(p, "a")
	none.Session = ""
	other.Session = k.Grant(t, p, p, "b").AuditProof
	for _, tc := range []struct {
		call *agentkeystest.Call
		code api.Code
		word string
	}{
		{forged, api.CodeCallSignature, "invalid_request"},
		{stale.Sign(t), api.CodeCallExpired, "invalid_request"},
		{used, api.CodeCallReplayed, "invalid_request"},
		{none.Sign(t), api.CodeSessionRequired, "invalid_request"},
		{other.Sign(t), api.CodeWrongTokenType, "invalid_token"},
	} {
		_, problem, header := k.MintHeader(t, tc.call)
		if problem == nil || problem.Status != 401 || problem.Code != tc.code {
			t.Errorf("want %s, got %+v", tc.code, problem)
		}
		if got := header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer realm="agentkeys", error="`+tc.word+`", error_description="`) {
			t.Errorf("%s: %s, want the word %s", tc.code, got, tc.word)
		}
	}
}
