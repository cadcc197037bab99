package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"agentkeys/federation"
)

// demoOutcome is what the demo shows. Own and foreign are what reading an own and a foreign
// object came to; untagged is what STS said to a token without the tag.
type demoOutcome struct {
	verdict                         federation.Verdict
	session, own, foreign, untagged federation.Answer
}

// The eight combinations of the three faults, on the plain documents and on the
// hardened ones.
func TestDemoShowsTheTruth(t *testing.T) {
	const (
		allowed  = federation.Allowed
		denied   = federation.Denied
		notTried = federation.NotTried
		proven   = federation.Proven
		broken   = federation.Broken
	)
	type outcome = demoOutcome
	for _, tc := range []struct {
		faults          string
		plain, hardened outcome
	}{
		{"",
			outcome{proven, allowed, allowed, denied, denied},
			outcome{proven, allowed, allowed, denied, denied}},
		// The role refuses the token: nobody gets a session.
		{"tags-claim",
			outcome{broken, denied, notTried, notTried, denied},
			outcome{broken, denied, notTried, notTried, denied}},
		// Tagged tokens work as ever; an untagged one buys a session that reaches nothing.
		{"trust-policy",
			outcome{broken, allowed, allowed, denied, allowed},
			outcome{broken, allowed, allowed, denied, allowed}},
		// The old grant lets tenants read each other; the backstops contain it.
		{"inline-policy",
			outcome{broken, allowed, allowed, allowed, denied},
			outcome{proven, allowed, allowed, denied, denied}},
		// Untagged sessions reach nothing, not even their own prefix.
		{"tags-claim trust-policy",
			outcome{broken, allowed, denied, denied, allowed},
			outcome{broken, allowed, denied, denied, allowed}},
		{"tags-claim inline-policy",
			outcome{broken, denied, notTried, notTried, denied},
			outcome{broken, denied, notTried, notTried, denied}},
		{"trust-policy inline-policy",
			outcome{broken, allowed, allowed, allowed, allowed},
			outcome{broken, allowed, allowed, denied, allowed}},
		// The silent pass: own succeeds, and so does foreign.
		{"tags-claim trust-policy inline-policy",
			outcome{broken, allowed, allowed, allowed, allowed},
			outcome{broken, allowed, denied, denied, allowed}},
	} {
		for _, hardened := range []bool{false, true} {
			if tc.faults == "" && !hardened {
				continue // without faults the demo is always hardened
			}
			want, name := tc.plain, "plain "+tc.faults
			if hardened {
				want, name = tc.hardened, "hardened "+tc.faults
			}
			t.Run(name, func(t *testing.T) { checkDemo(t, strings.Fields(tc.faults), hardened, want) })
		}
	}
}

// checkDemo has the demo prove a set-up with faults, which its report must name.
func checkDemo(t *testing.T, broken []string, hardened bool, want demoOutcome) {
	t.Helper()
	faults, err := parseFaults(broken)
	if err != nil {
		t.Fatal(err)
	}
	r, err := prove(t.Context(), faults, hardened, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	g := r.AtAGlance
	if got := (demoOutcome{r.Verdict, g.Session, g.Own, g.Foreign, g.Untagged}); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	named := make([]federation.Fault, 0, len(r.Causes))
	for _, c := range r.Causes {
		named = append(named, c.Fault)
	}
	for _, f := range federation.Faults() {
		if slices.Contains(faults, f) != slices.Contains(named, f) {
			t.Errorf("the report names the faults %v; put back were %v", named, faults)
		}
	}
	if r.Naive == "" || r.Truth == "" {
		t.Error("the report lacks the naive conclusion or the truth")
	}
}
