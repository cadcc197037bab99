package federation

import (
	"fmt"
	"slices"
	"strings"

	"agentkeys/policy"
)

// takeAway is what to change about a grant to users and roles of the account that
// are no part of the set-up.
func takeAway(document string, who ...string) string {
	names := strings.Join(who, ", ")
	ours := !ownedByAWS(document)
	switch {
	case len(who) == 1 && ours:
		return fmt.Sprintf("Take it out of %s, or list %s under administrators if it is to be trusted with every tenant.", document, names)
	case len(who) == 1:
		return fmt.Sprintf("Take %s away from %s, or list that one under administrators if it is to be trusted with every tenant.", document, names)
	case ours:
		return fmt.Sprintf("Take it out of %s, or list under administrators which of these are to be trusted with every tenant: %s.", document, names)
	}
	return fmt.Sprintf("Take %s away from these, or list under administrators which of them are to be trusted with every tenant: %s.", document, names)
}

// ownedByAWS reports whether nobody but AWS can change a document.
func ownedByAWS(document string) bool { return strings.Contains(document, ":iam::aws:policy/") }

// mayBeListed reports whether an actor is a user, or a session of a role, that could
// be listed under administrators.
func (k *checker) mayBeListed(a *caller) bool {
	return a.who.Kind != policy.Anonymous && a.role != k.data && a.tenant == "" && a.who.Account == k.Config.Account
}

// nameSharers tells of everybody whom a finding's statement lets in besides its
// witness, so that the next does not come to light only when the first is dealt with.
func (k *checker) nameSharers() {
	for i, who := range k.sharers {
		f := &k.report.Findings[i-1]
		if len(who) < 2 || len(f.DecidedBy) == 0 {
			continue
		}
		document := f.DecidedBy[0].Document
		if !slices.ContainsFunc(who, func(name string) bool { return f.Fix == takeAway(document, name) }) {
			continue // its witness is to be shut out whoever he is
		}
		f.Title += "; " + others(len(who)-1) + " by the same statement"
		f.Fix = takeAway(document, who...)
	}
}

func others(n int) string {
	if n == 1 {
		return "so does one other"
	}
	return fmt.Sprintf("so do %d others", n)
}
