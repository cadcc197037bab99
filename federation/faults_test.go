package federation

import (
	"slices"
	"strings"
	"testing"
)

// outcome is what one combination of faults must show.
type outcome struct {
	faults  string // with spaces between
	glance  Glance
	verdict Verdict
	causes  string // "+" before a cause that is contained
	naive   string // part of the naive conclusion
	truth   string // part of the truth
}

// TestFaultsOnPlainDocuments holds all eight outcomes of the story: tag-scoped
// allows only, nothing behind them.
func TestFaultsOnPlainDocuments(t *testing.T) {
	testFaults(t, Plain, []outcome{
		{"", Glance{Allowed, Allowed, Denied, Denied}, Proven, "", "isolated", "They are"},
		{"tags-claim", Glance{Denied, NotTried, NotTried, Denied}, Broken, "tags-claim",
			"loosen", "refuses the tenants' own tokens"},
		{"trust-policy", Glance{Allowed, Allowed, Denied, Allowed}, Broken, "trust-policy",
			"isolated", "A token without the tag buys a session of the role; it read none"},
		{"inline-policy", Glance{Allowed, Allowed, Allowed, Denied}, Broken, "inline-policy",
			"isolated", "the tenants are not kept apart"},
		{"tags-claim trust-policy", Glance{Allowed, Denied, Denied, Allowed}, Broken, "tags-claim trust-policy",
			"grant it the bucket", "the stranger's refusal proves nothing"},
		{"tags-claim inline-policy", Glance{Denied, NotTried, NotTried, Denied}, Broken, "tags-claim inline-policy",
			"loosen", "refuses the tenants' own tokens"},
		{"trust-policy inline-policy", Glance{Allowed, Allowed, Allowed, Allowed}, Broken, "trust-policy inline-policy",
			"isolated", "that session reads the tenants' objects"},
		{"tags-claim trust-policy inline-policy", Glance{Allowed, Allowed, Allowed, Allowed}, Broken,
			"tags-claim trust-policy inline-policy", "isolated", "the tenants are not kept apart"},
	})
}

// TestFaultsOnHardenedDocuments shows what the backstops contain, the inline
// grant, and what not: the entry by an untagged token, and owners locked out.
func TestFaultsOnHardenedDocuments(t *testing.T) {
	testFaults(t, Hardened, []outcome{
		{"", Glance{Allowed, Allowed, Denied, Denied}, Proven, "", "isolated", "They are"},
		{"tags-claim", Glance{Denied, NotTried, NotTried, Denied}, Broken, "tags-claim",
			"loosen", "refuses the tenants' own tokens"},
		{"trust-policy", Glance{Allowed, Allowed, Denied, Allowed}, Broken, "trust-policy",
			"isolated", "A token without the tag buys a session of the role; it read none"},
		{"inline-policy", Glance{Allowed, Allowed, Denied, Denied}, Proven, "+inline-policy", "isolated", "They are"},
		{"tags-claim trust-policy", Glance{Allowed, Denied, Denied, Allowed}, Broken, "tags-claim trust-policy",
			"grant it the bucket", "the stranger's refusal proves nothing"},
		{"tags-claim inline-policy", Glance{Denied, NotTried, NotTried, Denied}, Broken, "tags-claim +inline-policy",
			"loosen", "refuses the tenants' own tokens"},
		{"trust-policy inline-policy", Glance{Allowed, Allowed, Denied, Allowed}, Broken, "trust-policy +inline-policy",
			"isolated", "it read none"},
		{"tags-claim trust-policy inline-policy", Glance{Allowed, Denied, Denied, Allowed}, Broken,
			"tags-claim trust-policy +inline-policy", "grant it the bucket", "the stranger's refusal proves nothing"},
	})
}

func testFaults(t *testing.T, form Form, outcomes []outcome) {
	if len(outcomes) != 8 {
		t.Fatalf("%d outcomes, want 8", len(outcomes))
	}
	for _, want := range outcomes {
		t.Run(strings.ReplaceAll("none "+want.faults, " ", "+"), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			var faults []Fault
			for _, name := range strings.Fields(want.faults) {
				faults = append(faults, Fault(name))
			}
			d, inline, err := Break(a.config, render(t, a.config, form), faults...)
			if err != nil {
				t.Fatal(err)
			}
			a.setUp(t, d, inline)
			p := a.proof(t)
			p.InForce = &InForce{Documents: d, Inline: inline}
			if slices.Contains(faults, FaultTagsClaim) {
				for i := range p.Tenants {
					p.Tenants[i].Token = a.issuer.minter(t, p.Tenants[i].Tag, withoutTags)
				}
			}
			r := prove(t, p)
			if r.AtAGlance != want.glance || r.Verdict != want.verdict {
				t.Errorf("%s %+v, want %s %+v", r.Verdict, r.AtAGlance, want.verdict, want.glance)
			}
			if got := causeNames(r); got != want.causes {
				t.Errorf("causes %q, want %q: %+v", got, want.causes, r.Causes)
			}
			if !strings.Contains(r.Naive, want.naive) || !strings.Contains(r.Truth, want.truth) {
				t.Errorf("naive %q, want …%s…; truth %q, want …%s…", r.Naive, want.naive, r.Truth, want.truth)
			}
			if c := find(t, r, "control.untagged_token", untagged); want.glance.Session == Denied && c.Result != NotShown {
				t.Errorf("the control is %s, want %s where the role gives nobody a session", c.Result, NotShown)
			}
			checkLayout(t, r)
			if left := a.objects(t); len(left) > 0 || len(r.Leftovers) > 0 {
				t.Errorf("left behind: %q, reported: %q", left, r.Leftovers)
			}
		})
	}
}

func causeNames(r *Report) string {
	var names []string
	for _, c := range r.Causes {
		name := string(c.Fault)
		if c.Contained {
			name = "+" + name
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}
