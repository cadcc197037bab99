package trail

import (
	"cmp"
	"slices"
	"time"

	"agentkeys/audit"
)

// issue is what the records say of one mint: of AWS credentials, or of a token that
// its bearer exchanges.
type issue struct {
	record   audit.Record // the outcome; the intent, where there is no outcome
	at       time.Time    // when it was asked for
	token    bool
	sessions []*Event // that it accounts for
	refused  bool     // the trail has it refused, where the record has credentials
}

// issuesOf puts intents and their outcomes together, in the order of time. Refusals
// and replays make no session.
func issuesOf(records []audit.Record) []*issue {
	settled := map[string]string{} // what a record settles, where it settles any
	for _, r := range records {
		if r.Settles != "" {
			settled[r.ID] = r.Settles
		}
	}
	byIntent := map[string]*issue{}
	var all []*issue
	for _, r := range records {
		switch {
		case r.Action == audit.ActionMintOIDC && r.Outcome == audit.Issued:
			all = append(all, &issue{record: r, at: r.Time, token: true})
		case r.Action == audit.ActionMintAWS && (r.Outcome == audit.Pending || r.Settles != ""):
			intent := r.ID // or, by way of an outcome that was taken back, the one before it
			for range 2 {
				intent = cmp.Or(settled[intent], intent)
			}
			i := byIntent[intent]
			if i == nil {
				i = &issue{at: r.Time}
				byIntent[intent] = i
				all = append(all, i)
			}
			i.add(r)
		}
	}
	slices.SortStableFunc(all, func(a, b *issue) int { return a.at.Compare(b.at) })
	return all
}

// add takes a record of the mint in. Of two outcomes, as of credentials that were taken
// back since an anchor did not have their record, the one that released nothing counts:
// what is used under it is then a finding.
func (i *issue) add(r audit.Record) {
	if r.Outcome == audit.Pending {
		i.at = r.Time
	}
	if i.record.ID == "" || i.record.Outcome == audit.Pending || r.Outcome != audit.Pending && r.Outcome != audit.Confirmed {
		key := cmp.Or(r.CredentialID, i.record.CredentialID)
		i.record = r
		i.record.CredentialID = key
	}
}

// released says whether somebody was given what was minted.
func (i *issue) released() bool { return i.token || i.record.Outcome == audit.Confirmed }

// tenant is the tag of its sessions.
func (i *issue) tenant() string {
	if i.token {
		return cmp.Or(i.record.Wallet, i.record.OmniAccount)
	}
	return i.record.Tenant
}

func (i *issue) near(t time.Time) bool { return t.Sub(i.at).Abs() <= near }

// subject is the sub of its token.
func (m *match) subject(i *issue) string {
	return m.SubjectPrefix + cmp.Or(i.record.Wallet, i.record.OmniAccount)
}
