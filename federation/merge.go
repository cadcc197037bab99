package federation

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"agentkeys/policy"
)

// Unknown is a statement in force that is not ours and that a plan will neither
// drop nor keep without being told.
type Unknown struct {
	Document  string // "trust policy of role agentkeys-data-role"
	Index     int    // of the statement, from 0
	Statement policy.Statement
	Why       string // what is the matter with it: "admits sessions …"
	Keepable  bool   // PlanOptions.KeepUnknown keeps it
}

func (u Unknown) Error() string {
	return fmt.Sprintf("%s: %s is not ours: it %s", u.Document, nameStatement(u.Index, u.Statement), u.Why)
}

// UnknownStatements is the error of MakePlan where statements in force stop it.
// Each has a line.
type UnknownStatements []Unknown

func (l UnknownStatements) Error() string {
	var lines []string
	for _, u := range l {
		lines = append(lines, u.Error())
	}
	return strings.Join(lines, "\n")
}

// nameStatement tells a reader which statement of a document is meant.
func nameStatement(index int, s policy.Statement) string {
	name := fmt.Sprintf("Sid %q", s.Sid)
	if s.Sid == "" {
		name = "without a Sid"
	}
	return escaped(fmt.Sprintf("statement %d (%s: %s)", index+1, name, gist(s)))
}

// gist is what a statement is about, in a few words.
func gist(s policy.Statement) string {
	some := func(list []string) string {
		if len(list) > 2 {
			return fmt.Sprintf("%s and %d more", list[0], len(list)-1)
		}
		return strings.Join(list, " and ")
	}
	text := string(s.Effect) + " " + some(s.Action)
	if s.Action == nil {
		text = string(s.Effect) + " all but " + some(s.NotAction)
	}
	switch {
	case s.Principal != nil && s.Principal.Any:
		text += " for everybody"
	case s.Principal != nil:
		text += " for " + some(slices.Concat(s.Principal.AWS, s.Principal.Federated, s.Principal.Service, s.Principal.CanonicalUser))
	case s.NotPrincipal != nil:
		text += " for all but some"
	}
	return text
}

// fate is what becomes of a statement in force that is not ours: it is kept, or it
// stops the plan for the reason why.
type fate struct {
	keep     bool
	keepable bool // it stops the plan, and KeepUnknown keeps it
	why      string
	// refused is what AWS would have against taking the statement back, which
	// matters only where the document is written.
	refused string
}

// merge is the document that takes the place of current: what is ours in it
// replaced by want, statement by statement and where it stands, and what is not
// ours as the judge has it.
func (p *planner) merge(what string, current, want *policy.Document, judge func(policy.Statement) fate) *policy.Document {
	if current == nil {
		return want
	}
	m := merger{planner: p, what: what, current: current, want: want, judge: judge}
	m.run()
	if len(m.unknown) == 0 && !same(current, m.merged) {
		m.writing = true
		m.run()
	}
	p.unknown = append(p.unknown, m.unknown...)
	if len(m.kept) > 0 {
		p.plan.Kept = append(p.plan.Kept, fmt.Sprintf("%s not ours in the %s: %s",
			count(len(m.kept), "statement"), what, strings.Join(m.kept, ", ")))
	}
	return m.merged
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// merger is one merge.
type merger struct {
	*planner
	what          string
	current, want *policy.Document
	judge         func(policy.Statement) fate
	writing       bool // the document is going to be written

	merged  *policy.Document
	kept    []string
	unknown UnknownStatements
}

func (m *merger) run() {
	m.merged, m.kept, m.unknown = &policy.Document{Version: m.want.Version, ID: m.current.ID}, nil, nil
	rest := slices.Clone(m.want.Statements)
	for i, s := range m.current.Statements {
		if m.isOurs(s) {
			n := slices.IndexFunc(rest, func(w policy.Statement) bool { return saysTheSame(s, w) || s.Sid != "" && s.Sid == w.Sid })
			if n >= 0 { // otherwise it is of another form, or was there twice
				m.merged.Statements = append(m.merged.Statements, rest[n])
				rest = slices.Delete(rest, n, n+1)
			}
			continue
		}
		f := m.fateOf(s)
		switch {
		case f.keep, f.keepable && m.options.KeepUnknown:
			m.merged.Statements = append(m.merged.Statements, s)
			m.kept = append(m.kept, nameStatement(i, s))
		case !m.options.DropUnknown:
			m.unknown = append(m.unknown, Unknown{Document: m.what, Index: i, Statement: s, Why: f.why, Keepable: f.keepable})
		}
	}
	m.merged.Statements = append(m.merged.Statements, rest...)
}

func (m *merger) fateOf(s policy.Statement) fate {
	if m.options.setUp {
		return fate{why: "would be lost; move it elsewhere or remove it first"}
	}
	if m.hasOurSid(s) {
		return fate{why: fmt.Sprintf("has a Sid of ours but is for %s, so that another federation may live here", m.otherRole(s))}
	}
	f := m.judge(s)
	if m.writing {
		if why := cmp.Or(f.refused, notTakenBack(m.current.Version, s)); why != "" {
			return fate{why: why}
		}
	}
	return f
}

// isOurs reports whether nothing of somebody else's is lost with a statement: it
// has a Sid of ours and is not for another role, or a planned statement says the
// same.
func (m *merger) isOurs(s policy.Statement) bool {
	return m.hasOurSid(s) && m.otherRole(s) == "" ||
		slices.ContainsFunc(m.want.Statements, func(w policy.Statement) bool { return saysTheSame(s, w) })
}

func (m *merger) hasOurSid(s policy.Statement) bool {
	return slices.Contains(ourSids, s.Sid) ||
		s.Sid != "" && slices.ContainsFunc(m.want.Statements, func(w policy.Statement) bool { return s.Sid == w.Sid })
}

// ourSids are the Sids that Render writes.
var ourSids = []string{
	sidTenantSession, sidNoSlashInTag,
	sidTenantList, sidTenantObjects, sidDenyUntagged, sidDenyObjects, sidDenyListing, sidDenyUploads,
}

// saysTheSame compares two statements apart from their Sids.
func saysTheSame(a, b policy.Statement) bool {
	a.Sid, b.Sid = "", ""
	return reflect.DeepEqual(orderedStatement(a), orderedStatement(b))
}

// judgeTrust stops at every Allow that is not ours: it lets somebody in whose tag
// the issuer does not vouch for. A Deny can only narrow.
func (p *planner) judgeTrust(s policy.Statement) fate {
	if s.Effect == policy.Deny {
		return fate{keep: true}
	}
	return fate{why: "admits sessions of the data role in ways that are not planned"}
}

// judgeIdentity keeps what is left of a policy after S3 was taken out.
func judgeIdentity(policy.Statement) fate { return fate{keep: true} }

// judgeBucket keeps what others have in the bucket policy, such as leave for a mail
// service to write. It stops at what looks like an earlier hand's version of ours.
func (p *planner) judgeBucket(s policy.Statement) fate {
	f := fate{keep: true}
	if s.Effect == policy.Allow && p.namesRole(s) {
		f = fate{why: "grants the data role more than is planned", keepable: true}
	}
	if p.want.PublicAccess.BlockPublicPolicy && document(s).Public() {
		f.refused = "is public, so that S3 would refuse the policy under BlockPublicPolicy"
	}
	return f
}

// namesRole reports whether a statement is for the data role: for its ARN, for one
// of its sessions, or for everybody who has its ARN.
func (p *planner) namesRole(s policy.Statement) bool {
	session := p.sessionARN("")
	return slices.ContainsFunc(arnsOf(s), func(arn string) bool {
		return arn == p.RoleARN() || strings.HasPrefix(arn, session)
	})
}

// otherRole is the ARN of a role that a statement is for and that is not the data
// role, or "".
func (p *planner) otherRole(s policy.Statement) string {
	for _, arn := range arnsOf(s) {
		if strings.Contains(arn, ":role/") && arn != p.RoleARN() {
			return arn
		}
	}
	return ""
}

// arnsOf are the principals that a statement names as such or by condition.
func arnsOf(s policy.Statement) []string {
	var arns []string
	if s.Principal != nil {
		arns = slices.Clone(s.Principal.AWS)
	}
	for _, c := range s.Condition {
		if strings.EqualFold(c.Key, "aws:PrincipalArn") {
			arns = append(arns, c.Values...)
		}
	}
	return arns
}

// uniqueID is how AWS shows a user or a role that was named in a document and is
// gone (User Guide, reference_policies_elements_principal).
var uniqueID = regexp.MustCompile(`^A(?:RO|ID)A[A-Z0-9]{12,}$`)

// notTakenBack says why AWS would refuse a kept statement, or read it otherwise, in
// a document that is written anew; "" where neither is so. Version is that of the
// document it is in.
func notTakenBack(version string, s policy.Statement) string {
	for _, who := range []*policy.Principals{s.Principal, s.NotPrincipal} {
		if who == nil {
			continue
		}
		if i := slices.IndexFunc(who.AWS, uniqueID.MatchString); i >= 0 {
			return fmt.Sprintf("names %s, a user or role that is gone, so that AWS would refuse the document", who.AWS[i])
		}
	}
	if version != variablesVersion && mentionsVariable(s) {
		return fmt.Sprintf("says ${…}, which is text in a document of version %q and a variable in one of version %q, as ours is", version, variablesVersion)
	}
	return ""
}

func mentionsVariable(s policy.Statement) bool {
	lists := [][]string{s.Resource, s.NotResource}
	for _, c := range s.Condition {
		lists = append(lists, c.Values)
	}
	return slices.ContainsFunc(slices.Concat(lists...), func(text string) bool { return strings.Contains(text, "${") })
}
