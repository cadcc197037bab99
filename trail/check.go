package trail

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// checkRefused looks for who is accountable for the calls that STS refused.
func (m *match) checkRefused() {
	for n := range m.trail.Kept {
		e := &m.trail.Kept[n]
		if e.Assumed == nil || e.ErrorCode == "" || !m.window.has(e.Time) {
			continue
		}
		m.report.Counts.Refused++
		if m.settleProof(e) {
			m.report.Counts.ProofRefused++
			continue
		}
		if e.Name == webIdentity && (m.Provider == "" || e.Assumed.Provider == m.Provider) {
			m.checkAttempt(e)
		}
	}
}

// checkAttempt holds a refused call against the records. A call that was repeated
// until it succeeded is refused in the trail and confirmed in the records.
func (m *match) checkAttempt(e *Event) {
	var denied *issue
	for _, i := range m.byName[e.Assumed.SessionName] {
		switch {
		case !i.near(e.Time):
		case i.record.CredentialID == "" || len(i.sessions) > 0:
			return
		default:
			denied = i
		}
	}
	switch {
	case denied != nil:
		denied.refused = true
		m.find(RefusedAtSTS, e, denied, Finding{AccessKeyID: denied.record.CredentialID, SessionName: e.Assumed.SessionName,
			Expected: "a session, as the record says " + denied.record.Outcome, Found: "STS refused it: " + e.ErrorCode})
	case m.tokenOf(e) == nil:
		m.find(Attempt, e, nil, Finding{
			Expected: "a record of a mint by this session name at this time, or of a token for " + cmp.Or(e.Assumed.Subject, "its subject"),
			Found:    "a call that STS refused, and no record accounts for: " + e.ErrorCode})
	}
}

// use is what one set of credentials was used for in the window.
type use struct {
	first, last *Event
	count       int
}

// checkUses looks for who was given the credentials that were used. One finding
// tells of all uses of the same.
func (m *match) checkUses() {
	uses := map[string]*use{}
	var order []string
	for n := range m.trail.Kept {
		e := &m.trail.Kept[n]
		if !m.uses(e) || !m.window.has(e.Time) {
			continue
		}
		m.report.Counts.Uses++
		key := cmp.Or(e.Caller.AccessKeyID, e.Caller.ARN)
		if uses[key] == nil {
			uses[key] = &use{first: e}
			order = append(order, key)
		}
		uses[key].count++
		uses[key].last = e
	}
	m.report.Counts.UsedKeys = len(uses)
	for _, key := range order {
		m.checkUse(uses[key])
	}
	if n := m.report.Counts.UnplacedKeys; n > 0 {
		m.why("%d of the sessions that were used began before the files do, and no record has their access key ids: give the files of the %v before as well", n, MaxSession)
	}
}

func (m *match) checkUse(u *use) {
	e := u.first
	f := Finding{AccessKeyID: e.Caller.AccessKeyID, SessionName: sessionNameOf(e.Caller.ARN), Uses: u.count}
	s, made := m.session[f.AccessKeyID]
	i := s.issue
	if !made {
		i = m.byKey[f.AccessKeyID]
	}
	if f.AccessKeyID == "" {
		s, i, made = m.placeByName(e, f.SessionName)
	}
	switch {
	case i != nil && i.released():
	case i != nil:
		f.Expected = fmt.Sprintf("no use: the record says %s, and the credentials were released to nobody", i.record.Outcome)
		f.Found = usesOf(u)
		m.find(UnreleasedUsed, e, i, f)
	case s.proof != nil:
		m.useOfProof(u, s.proof, f)
	case made:
		f.Expected, f.Found = "credentials that a record issued", usesOf(u)+", of the session that event "+s.event.ID+" made"
		m.find(ForeignUse, e, nil, f)
	case e.Caller.Created.IsZero() || e.Caller.Created.Before(m.begin()):
		m.report.Counts.UnplacedKeys++
	default:
		f.Expected, f.Found = "credentials that a record issued, and the event that made their session at "+stamp(e.Caller.Created), usesOf(u)
		m.find(ForeignUse, e, nil, f)
	}
}

func usesOf(u *use) string {
	if u.count == 1 {
		return "used once, by " + u.first.Name
	}
	return fmt.Sprintf("used %s, first by %s", count(u.count, "time"), u.first.Name)
}

// begin is the time from which on sessions that were made are in the files.
func (m *match) begin() time.Time {
	if !m.Since.IsZero() && m.Since.Before(m.trail.First) {
		return m.Since
	}
	return m.trail.First
}

// placeByName finds the session of a use whose record does not show the access key
// id, which CloudTrail may leave out, by name and time of the session.
func (m *match) placeByName(e *Event, name string) (session, *issue, bool) {
	for _, s := range m.session {
		if s.event.Assumed.SessionName == name && s.event.Time.Equal(e.Caller.Created) {
			return s, s.issue, true
		}
	}
	for _, i := range m.byName[name] {
		if i.near(e.Caller.Created) {
			return session{}, i, false
		}
	}
	return session{}, nil, false
}

// sessionNameOf is the name at the end of a session's ARN.
func sessionNameOf(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

// checkRecords looks for the sessions of the records that name credentials.
func (m *match) checkRecords() {
	for _, i := range m.issues {
		if !m.concerns(i) {
			continue
		}
		if i.token {
			m.report.Counts.Tokens++
			continue
		}
		m.report.Counts.Records++
		switch {
		case i.record.CredentialID == "" || len(i.sessions) > 0 || i.refused:
		case !i.at.Before(m.window.Settled):
			m.report.Counts.Pending++
		default:
			m.find(Missing, nil, i, Finding{AccessKeyID: i.record.CredentialID, SessionName: m.SessionName(i.record.Wallet, i.record.GrantID),
				Expected: "an event that made these credentials at about " + stamp(i.at) + ", as the record says " + i.record.Outcome,
				Found:    "none in the files"})
		}
	}
}

// concerns says whether a record is of the window: made in it, or of a session that
// was. An event's time is cut to the second, so the record that the first event of
// the files belongs to may be earlier than they are.
func (m *match) concerns(i *issue) bool {
	return m.window.has(i.at) || slices.ContainsFunc(i.sessions, func(e *Event) bool { return m.window.has(e.Time) })
}

// checkAltered notes events that say one thing here and another there.
func (m *match) checkAltered() {
	for n := range m.trail.Altered {
		e := &m.trail.Altered[n]
		m.find(Duplicate, e, nil, Finding{Expected: "one event with this ID", Found: "another event with the ID of one that came before"})
	}
}
