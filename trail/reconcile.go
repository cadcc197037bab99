package trail

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"agentkeys/audit"
)

// MaxSession is the longest that a session lives, whatever the role allows now: uses
// are of credentials from so long ago at the most. Source: AssumeRoleWithWebIdentity
// in the AWS STS API Reference, DurationSeconds.
const MaxSession = 12 * time.Hour

const (
	// near is how far the time of an event may be from that of the record, where a
	// name and the time are all there is: what a mint may take, and clocks that differ.
	near = 2 * time.Minute
	// leeway is how long after its end STS takes a token.
	leeway = 5 * time.Minute
)

// A Scope says what is compared.
type Scope struct {
	Role     string // ARN of the data role
	Provider string // ARN of the broker's OIDC provider; "" takes every provider for it
	TagKey   string // session tag that isolates
	// SubjectPrefix and SessionName are how the broker makes a token's sub and a session's name.
	SubjectPrefix string
	SessionName   func(caller, grantID string) string
	TokenLife     time.Duration // of the tokens that the broker gives out
	Since, Until  time.Time     // bounds of the window; zero takes what the files cover
	Late          time.Duration // how late CloudTrail may deliver
	Proofs        []Proof       // whose sessions are told apart
}

// Keep says which events Reconcile needs.
func (s Scope) Keep(e *Event) bool {
	if a := e.Assumed; a != nil && (a.Role == s.Role || s.Provider != "" && a.Provider == s.Provider) {
		return true
	}
	return s.uses(e)
}

// uses says whether an event was made with credentials of the data role.
func (s Scope) uses(e *Event) bool {
	if e.Caller.Type != "AssumedRole" {
		return false
	}
	if e.Caller.Role != "" {
		return e.Caller.Role == s.Role
	}
	return strings.Contains(e.Caller.ARN, ":assumed-role/"+s.Role[strings.LastIndex(s.Role, "/")+1:]+"/")
}

// Window is the time that the files of a trail cover, within the bounds of s.
func (s Scope) Window(t *Trail) Window {
	evidence := t.Last.Add(time.Second) // an event's time is cut to the second
	if t.Delivered.After(evidence) {
		evidence = t.Delivered
	}
	w := Window{From: t.First, To: evidence, Settled: evidence.Add(-s.Late)}
	if !s.Since.IsZero() {
		w.From = s.Since
	}
	if !s.Until.IsZero() {
		w.To = s.Until
	}
	if w.Settled.After(w.To) {
		w.Settled = w.To
	}
	return w
}

// RecordsFrom is from when on Reconcile needs records: those of sessions that could
// still be used in the window.
func (s Scope) RecordsFrom(t *Trail) time.Time {
	return s.Window(t).From.Add(-MaxSession - s.TokenLife - leeway)
}

func (w Window) has(t time.Time) bool { return !t.Before(w.From) && t.Before(w.To) }

// Reconcile compares a trail, read with s.Keep, with the records of both actions
// from s.RecordsFrom on. Records of other actions are left alone.
func Reconcile(s Scope, t *Trail, records []audit.Record) *Report {
	m := newMatch(s, t, records)
	switch {
	case t.Events == 0:
		m.why("the files hold no events")
		return m.conclude()
	case t.Last.Before(m.window.From) || !t.First.Before(m.window.To):
		m.why("the files hold no events of the window: they are from %s to %s", stamp(t.First), stamp(t.Last))
		return m.conclude()
	}
	m.matchSessions()
	m.checkRefused()
	m.checkUses()
	m.checkRecords()
	m.checkProofs()
	m.checkAltered()
	return m.conclude()
}

// match is one comparison under way.
type match struct {
	Scope
	trail   *Trail
	window  Window
	report  *Report
	issues  []*issue
	byKey   map[string]*issue
	byJTI   map[string]*issue
	byName  map[string][]*issue   // by session name: credentials
	bySub   map[string][]*issue   // by subject: tokens
	session map[string]session    // by access key id
	proofs  map[string]*proofCall // by request id
}

// session is one that was made in the trail, and what accounts for it; nil if
// nothing does.
type session struct {
	event *Event
	issue *issue
	proof *proofCall
}

func newMatch(s Scope, t *Trail, records []audit.Record) *match {
	m := &match{Scope: s, trail: t, window: s.Window(t), session: map[string]session{},
		byKey: map[string]*issue{}, byJTI: map[string]*issue{}, byName: map[string][]*issue{}, bySub: map[string][]*issue{}}
	m.report = &Report{Role: s.Role, Provider: s.Provider, Window: m.window, Findings: []Finding{},
		Counts: Counts{Files: t.Files, Events: t.Events, DataEvents: t.Data, Repeated: t.Again}}
	slices.SortStableFunc(t.Kept, func(a, b Event) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	m.proofs = proofCalls(s.Proofs)
	m.report.Counts.ProofReports = len(s.Proofs)
	m.issues = issuesOf(records)
	for _, i := range m.issues {
		m.index(i)
	}
	if t.Events > 0 && t.Data == 0 {
		m.report.Notes = append(m.report.Notes, "the files hold no data events: what was done with objects in S3 is not in them")
	}
	return m
}

func (m *match) index(i *issue) {
	if i.record.TokenID != "" {
		m.byJTI[i.record.TokenID] = i
	}
	if i.token {
		m.bySub[m.subject(i)] = append(m.bySub[m.subject(i)], i)
		return
	}
	name := m.SessionName(i.record.Wallet, i.record.GrantID)
	m.byName[name] = append(m.byName[name], i)
	if i.record.CredentialID != "" {
		m.byKey[i.record.CredentialID] = i
	}
}

// matchSessions finds the record of each session that was made: by what is certain
// first, so that a guess by name takes no record from a session that has its own.
func (m *match) matchSessions() {
	var open []*Event
	for n := range m.trail.Kept {
		e := &m.trail.Kept[n]
		switch {
		case e.Assumed == nil || e.ErrorCode != "":
		case e.Name != webIdentity || m.Provider != "" && e.Assumed.Provider != m.Provider:
			m.outside(e)
		default:
			open = append(open, e)
		}
	}
	c := &m.report.Counts
	for _, by := range []struct {
		settle func(*Event) bool
		count  *int
	}{
		{m.by(func(e *Event) *issue { return m.byKey[e.Assumed.AccessKeyID] }), &c.ByKey},
		{m.by(func(e *Event) *issue { return m.byJTI[e.Assumed.SourceIdentity] }), &c.BySource},
		{m.by(m.unreleasedNear), &c.ByName},
		{m.settleProof, &c.ByProof},
		{m.by(m.tokenOf), &c.ByToken},
	} {
		open = slices.DeleteFunc(open, func(e *Event) bool {
			if !by.settle(e) {
				return false
			}
			if m.window.has(e.Time) {
				*by.count++
				c.Sessions++
			}
			return true
		})
	}
	for _, e := range open {
		if m.window.has(e.Time) {
			c.Sessions++
		}
		m.unmatched(e)
	}
}

// by settles the sessions that a record is found for.
func (m *match) by(find func(*Event) *issue) func(*Event) bool {
	return func(e *Event) bool {
		i := find(e)
		if i != nil {
			m.settle(e, i)
		}
		return i != nil
	}
}

// outside notes a session of the data role that the broker cannot have made.
func (m *match) outside(e *Event) {
	m.session[e.Assumed.AccessKeyID] = session{event: e}
	if m.window.has(e.Time) {
		m.report.Counts.Sessions++
	}
	m.find(Outside, e, nil, Finding{Expected: "the data role assumed by AssumeRoleWithWebIdentity with a token of " + cmp.Or(m.Provider, "the broker"),
		Found: e.Name + " by " + cmp.Or(e.Caller.ARN, e.Assumed.Provider, e.Caller.Type)})
}

// settle notes that a record accounts for a session, and holds the one against the
// other.
func (m *match) settle(e *Event, i *issue) {
	i.sessions = append(i.sessions, e)
	if len(i.sessions) > 1 && !i.token {
		m.session[e.Assumed.AccessKeyID] = session{event: e}
		m.find(Duplicate, e, i, Finding{Expected: "one session for one record", Found: "a further session by the token of that mint"})
		return
	}
	m.session[e.Assumed.AccessKeyID] = session{event: e, issue: i}
	if i.record.Outcome == audit.Failed {
		m.find(Unrecorded, e, i, Finding{Expected: "no session, as the record says failed: " + i.record.Reason, Found: "a session"})
	}
	name := e.Assumed.SessionName // of a token's session its bearer's choice
	if !i.token {
		name = m.SessionName(i.record.Wallet, i.record.GrantID)
	}
	m.compare(e, i, Finding{}, m.subject(i), i.tenant(), name)
}

// compare holds a session against what it should be.
func (m *match) compare(e *Event, i *issue, f Finding, subject, tag, name string) {
	var want, got []string
	differ := func(what, wanted, found string) {
		if wanted != found {
			want, got = append(want, what+" "+cmp.Or(wanted, "none")), append(got, what+" "+cmp.Or(found, "none"))
		}
	}
	differ("role", m.Role, e.Assumed.Role)
	differ("subject", subject, e.Assumed.Subject)
	differ("tag "+m.TagKey, tag, e.Assumed.Tags[m.TagKey])
	differ("session name", name, e.Assumed.SessionName)
	if want != nil {
		f.Expected, f.Found = strings.Join(want, ", "), strings.Join(got, ", ")
		m.find(Mismatch, e, i, f)
	}
}

// unmatched notes a session that nothing accounts for.
func (m *match) unmatched(e *Event) {
	m.session[e.Assumed.AccessKeyID] = session{event: e}
	for _, i := range m.byName[e.Assumed.SessionName] {
		if len(i.sessions) > 0 && i.near(e.Time) {
			m.find(Duplicate, e, i, Finding{Expected: "one session for one record", Found: "a further session of that name at that time"})
			return
		}
	}
	m.find(Unrecorded, e, nil, Finding{
		Expected: "a record with this access key id, or of a mint by this session name at this time, or of a token for " + cmp.Or(e.Assumed.Subject, "its subject"),
		Found:    "a session of " + e.Assumed.Role + " that no record accounts for"})
}

// unreleasedNear is the mint of that session name, closest in time, whose record has
// no access key id, since the broker never saw one.
func (m *match) unreleasedNear(e *Event) (found *issue) {
	for _, i := range m.byName[e.Assumed.SessionName] {
		if i.record.CredentialID != "" || i.released() || len(i.sessions) > 0 || !i.near(e.Time) {
			continue
		}
		if found == nil || i.at.Sub(e.Time).Abs() < found.at.Sub(e.Time).Abs() {
			found = i
		}
	}
	return found
}

// tokenOf is the record of a token for the session's subject that lived at the time.
func (m *match) tokenOf(e *Event) (found *issue) {
	for _, i := range m.bySub[e.Assumed.Subject] {
		if age := e.Time.Sub(i.at); age >= -leeway && age <= m.TokenLife+leeway {
			found = i
		}
	}
	return found
}

// find adds a finding about an event of the window.
func (m *match) find(code Code, e *Event, i *issue, f Finding) {
	if e != nil {
		if !m.window.has(e.Time) {
			return
		}
		f.Event = &EventRef{ID: e.ID, Name: e.Name, Time: e.Time, File: e.File}
		if a := e.Assumed; a != nil && f.AccessKeyID == "" {
			f.AccessKeyID, f.SessionName = a.AccessKeyID, a.SessionName
		}
	}
	if i != nil {
		f.Record = i.record.ID
	}
	f.Code, f.Severity = code, code.Severity()
	m.report.Findings = append(m.report.Findings, f)
}

func (m *match) why(format string, args ...any) {
	m.report.Why = append(m.report.Why, fmt.Sprintf(format, args...))
}

func (m *match) conclude() *Report {
	r := m.report
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(Codes(), a.Code), slices.Index(Codes(), b.Code))
	})
	switch {
	case len(r.Findings) > 0:
		r.Verdict = Findings
	case len(r.Why) > 0:
		r.Verdict = Inconclusive
	default:
		r.Verdict = Clean
	}
	return r
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
