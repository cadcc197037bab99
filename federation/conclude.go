package federation

import (
	"fmt"
	"slices"
	"strings"
)

// indispensable are the probes without which, for each tenant, nothing is proven,
// whatever the others came to.
var indispensable = []string{
	"session", "own.list", "own.get", "own.put", "own.delete", "control.list_all",
	"foreign.list", "foreign.get", "foreign.put", "foreign.delete", "foreign.delete_version",
}

// conclude turns the probes into the verdict and its reasons.
func (v *prover) conclude() {
	r := v.report
	r.FinishedAt = v.Now().UTC()
	for _, p := range r.Probes {
		if p.Result == NotShown {
			r.addGap(p)
		}
	}
	r.Broken = broken(r.Probes)
	r.Verdict = verdict(r.Probes, r.Tenants)
	r.AtAGlance = Glance{
		Session: r.glance("session"), Own: r.glance("own.get"),
		Foreign: r.glance("foreign.get"), Untagged: r.glance("control.untagged_token"),
	}
	r.Naive = naive(r.AtAGlance)
	r.Truth = r.truth()
	v.documentCauses()
	v.observedCauses()
}

// broken lists what must not be, the worst first.
func broken(probes []*Probe) []string {
	all := []string{}
	for _, group := range []string{"session", "foreign", "anonymous", "control", "own", "seed", "near"} {
		for _, p := range probes {
			if p.Group == group && p.Result == Contrary {
				all = append(all, strings.TrimSpace(p.Sentence+" "+p.Do))
			}
		}
	}
	return all
}

// verdict is BROKEN as soon as one probe came out against expectation, PROVEN only
// when every probe came out as expected and none of those that matter is missing.
func verdict(probes []*Probe, tenants []TenantReport) Verdict {
	result := Proven
	shown := map[string]bool{}
	for _, p := range probes {
		switch p.Result {
		case Contrary:
			return Broken
		case AsExpected:
			shown[p.ID+" "+p.Actor] = true
		default:
			result = Inconclusive
		}
	}
	for _, t := range tenants {
		for _, id := range indispensable {
			if !shown[id+" "+t.Name] {
				return Inconclusive
			}
		}
	}
	if len(tenants) != 2 || !shown["control.untagged_token "+untagged] {
		return Inconclusive
	}
	return result
}

// addGap puts probes with one reason into one gap.
func (r *Report) addGap(p *Probe) {
	why := p.weak
	if why == "" || p.Actual == Unclear || p.Actual == NotTried {
		why = reply{code: p.Code, status: p.HTTPStatus, message: p.Message}.text()
	}
	name := p.ID + " (" + p.Actor + ")"
	for i := range r.Unobserved {
		if g := &r.Unobserved[i]; g.Why == why && g.Do == p.Do {
			g.Probes = append(g.Probes, name)
			return
		}
	}
	r.Unobserved = append(r.Unobserved, Gap{Probes: []string{name}, Why: why, Do: p.Do})
}

// glance is the answer that all probes of that id had, or the one that matters
// most where they differ.
func (r *Report) glance(id string) Answer {
	var got []Answer
	for _, p := range r.Probes {
		if p.ID == id {
			got = append(got, p.Actual)
		}
	}
	bad := Denied // a probe of what must be allowed
	if id == "foreign.get" || id == "control.untagged_token" {
		bad = Allowed
	}
	for _, a := range []Answer{bad, Unclear, NotTried, Held, Allowed, Denied} {
		if slices.Contains(got, a) {
			return a
		}
	}
	return NotTried
}

// naive is what somebody concludes who looks at "own prefix" alone. Each wrong
// conclusion leads to the next fault.
func naive(g Glance) string {
	switch {
	case g.Session == Denied:
		return "No session, so the trust policy must be too strict: loosen its condition."
	case g.Own == Allowed:
		return "Own prefix: success. The tenants are isolated."
	case g.Own == Denied:
		return "Own prefix: AccessDenied, so the role lacks a permission: grant it the bucket."
	}
	return "The run failed; try again until it is green."
}

// truth says in one or two sentences what the probes show.
func (r *Report) truth() string {
	g := r.AtAGlance
	switch r.Verdict {
	case Proven:
		refused := 0
		for _, p := range r.Probes {
			if p.Expected != Allowed {
				refused++
			}
		}
		return fmt.Sprintf("They are, within what was tried: each tenant reached its own prefix, and %d attempts on what is not its own were refused, each with its controls.", refused)
	case Inconclusive:
		if missing := r.count(NotShown); missing == 1 && g.Untagged == NotTried {
			return "All else came out as it must, but whether the role refuses a token without the tag was not tried."
		}
		return fmt.Sprintf("Nobody knows: no way in was seen, but %d of %s could not be observed.", r.count(NotShown), count(len(r.Probes), "probe"))
	}
	var said []string
	switch {
	case g.Session == Denied:
		said = append(said, "The role refuses the tenants' own tokens, so nothing is known of the bucket.")
	case g.Own == Allowed && g.Foreign == Allowed:
		said = append(said, "Own and foreign prefix can be read alike: the tenants are not kept apart.")
	case g.Own == Denied && g.Foreign == Denied:
		said = append(said, "The owner is refused as well as the stranger: the sessions reach nothing, and the stranger's refusal proves nothing.")
	case g.Own == Denied:
		said = append(said, "An owner is kept out of its own prefix.")
	case g.Foreign == Allowed:
		said = append(said, "A stranger can read what is not its own.")
	}
	if g.Untagged == Allowed {
		said = append(said, r.untaggedTruth())
	}
	if len(said) == 0 {
		said = r.Broken[:1]
	}
	return strings.Join(said, " ")
}

// untaggedTruth says what a token without the tag is good for.
func (r *Report) untaggedTruth() string {
	const bought = "A token without the tag buys a session of the role"
	refused := 0
	for _, p := range r.Probes {
		if !strings.HasPrefix(p.ID, "control.untagged_get.") {
			continue
		}
		switch p.Actual {
		case Allowed:
			return bought + ", and that session reads the tenants' objects."
		case Denied:
			refused++
		}
	}
	if refused == len(r.Tenants) {
		return bought + "; it read none of the tenants' objects."
	}
	return bought + "."
}

func (r *Report) count(result Result) int {
	n := 0
	for _, p := range r.Probes {
		if p.Result == result {
			n++
		}
	}
	return n
}
