package federation

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentkeys/policy"
)

// Check searches an account for requests that get through and must not, and for
// owners that are kept out. The property that decides is this, for any two
// tenants: nobody but a tenant's own tagged sessions of the data role reads,
// changes or lists what is the tenant's; no session of that role is to be had
// without a tag that the issuer vouched for; no tenant session can change what
// holds it, or become another role that reaches tenants' objects; and an owner
// can list, get, put and delete at home.
//
// It evaluates requests over the documents in force; it does not look for bad
// patterns. Each grant, that is each Allow of an identity or resource policy, is
// tried alone with every limit in place, so that no grant hides another. What is
// tried grows with the documents and not with the product of everything: for
// each principal and each of its grants, the actions that the grant admits; for
// each action, one resource for every combination of resource patterns that some
// resource below the prefix matches (policy.Distinguish); and for each of these,
// values of condition keys that are changed only where a statement stands in the
// way or would have to allow, one key at a time (search). Tenants are two of each
// kind, and two for every combination of lists that tell tenants apart; sessions
// are tried under every name and with every tag that policies tell apart.
//
// The error says why it could not look at all. Check may be called concurrently.
func Check(a *Account) (*CheckReport, error) { return checkAt(a, time.Now()) }

func checkAt(a *Account, now time.Time) (*CheckReport, error) {
	if err := a.Config.Validate(); err != nil {
		return nil, err
	}
	k, err := newChecker(a, now)
	if err != nil {
		return nil, err
	}
	k.run()
	return k.conclude(), nil
}

// checker is one check under way.
type checker struct {
	*Account
	goals
	now     time.Time
	actions map[string]policy.ActionInfo // S3's, by folded name

	parts       map[*policy.Document][]*part
	byName      map[string]*part // by the name of the part's policy
	ofRole      map[*Role]layers
	ofResources []*part
	everything  *part // allows everything
	bucket      []*part
	acl         []*part
	scp, rcp    [][]*part
	public      bool // the bucket policy is public, and public access is restricted

	data      *Role
	tenants   []string
	users     []*caller
	outsiders []*caller             // of other accounts
	assumed   map[*Role]*assumable  // by role, other than the data role
	classed   map[*Role][][]string  // what classes found out
	choicesOf map[*Role][]tagChoice // what tagChoices found out
	named     map[string][]string   // what sessionNames found out, by role and tags
	userID    []*condition          // on aws:userid, of policies that are nobody's own
	iamOf     map[string][2]string  // what of IAM an actor may change, by its name

	report     *CheckReport
	found      map[string]int   // findings by code and deciding statement: an index, from 1
	sharers    map[int][]string // users and roles that the statement of a finding lets in, by its index
	remarks    []*remark
	advised    map[string]bool
	unfinished map[string]bool
}

func newChecker(a *Account, now time.Time) (*checker, error) {
	k := &checker{
		Account: a, now: now.UTC().Truncate(time.Second), goals: newGoals(policy.Actions("s3")),
		actions: map[string]policy.ActionInfo{}, parts: map[*policy.Document][]*part{}, byName: map[string]*part{},
		ofRole: map[*Role]layers{}, classed: map[*Role][][]string{}, choicesOf: map[*Role][]tagChoice{}, named: map[string][]string{},
		assumed: map[*Role]*assumable{}, iamOf: map[string][2]string{},
		found: map[string]int{}, sharers: map[int][]string{}, advised: map[string]bool{}, unfinished: map[string]bool{},
		report: &CheckReport{Target: a.Source, Findings: []Finding{}, Advice: []string{}, NotLookedAt: []string{}},
	}
	for _, info := range policy.Actions("s3") {
		k.actions[strings.ToLower(info.Name)] = info
	}
	for i := range a.Roles {
		if a.Roles[i].Name == a.Config.Role {
			k.data = &a.Roles[i]
		}
	}
	if k.data != nil && accountOfARN(k.data.ARN) != a.Config.Account {
		return nil, fmt.Errorf("checking %s: the configuration is for account %s, the role %s is of account %s", a.Source, a.Config.Account, a.Config.Role, accountOfARN(k.data.ARN))
	}
	if k.data == nil {
		return nil, fmt.Errorf("checking %s: want the data role %q, got none of that name among %s", a.Source, a.Config.Role, count(len(a.Roles), "role"))
	}
	all := policy.Statement{Effect: policy.Allow, Action: []string{"*"}, Resource: []string{"*"}}
	var err error
	if k.everything, err = newPart("the other account's own policies", 0, 0, all, &policy.Document{Version: "2012-10-17"}); err != nil {
		return nil, err
	}
	k.everything.given = true
	k.byName[k.everything.policy.Name()] = k.everything
	k.bucket = k.split(a.Bucket)
	k.acl = k.split(k.aclDocument())
	for _, p := range k.acl { // by the place of the grant
		p.from.Statement, _ = strconv.Atoi(strings.TrimPrefix(p.from.Sid, aclSid))
		p.from.Sid = ""
	}
	if o := a.Organization; o != nil {
		k.scp, k.rcp = k.levels(o.Service), k.levels(o.Resource)
	}
	block := a.PublicAccess
	k.public = block != nil && block.RestrictPublicBuckets && a.Bucket.Policy != nil && a.Bucket.Policy.Public()
	return k, nil
}

func (k *checker) levels(list []Level) [][]*part {
	var out [][]*part
	for _, l := range list {
		var parts []*part
		for _, d := range l.Policies {
			parts = append(parts, k.split(d)...)
		}
		out = append(out, parts)
	}
	return out
}

// at are the layers that decide an actor's request to the bucket. Where public
// access is restricted, a public policy grants nothing beyond the account.
func (k *checker) at(a *caller) layers {
	l := a.own
	l.rcp = k.rcp
	outside := a.who.Account != k.Config.Account
	if !outside {
		l.scp = k.scp
	}
	for _, p := range k.bucket {
		if !outside || !k.public || !p.allows() {
			l.resource = append(l.resource, p)
		}
	}
	l.resource = append(l.resource[:len(l.resource):len(l.resource)], k.acl...)
	return l
}

// run looks at everybody in turn. The order is that in which a finding takes its
// witness: what a tenant's own session can do is the plainest to see.
func (k *checker) run() {
	k.tenants = k.findTenants()
	k.users = nil
	for _, u := range k.Users {
		k.users = append(k.users, k.user(u))
		k.users = append(k.users, k.temporary(u)...)
	}
	k.users = append(k.users, k.federated()...)
	k.outsiders = k.strangers()
	sessions := k.entry()
	for _, s := range sessions {
		k.reach(s, k.others(s), k.reportWay)
	}
	for _, s := range sessions {
		k.cage(s)
	}
	k.assumeRoles(sessions)
	k.entryByCallers(sessions)
	k.otherRoles(sessions)
	for _, u := range k.users {
		k.insider(u)
	}
	for _, s := range k.outsiders {
		k.reach(s, k.tenants, k.reportWay)
		k.cage(s)
	}
	k.unknownAdministrators()
	nobody := k.anonymousActor()
	k.reach(nobody, k.tenants, k.reportWay)
	k.cage(nobody)
	k.owners(sessions)
	k.serviceAdvice()
	k.revocations()
}

// unknownAdministrators speaks of administrators whom the account does not have: a
// misspelt one trusts nobody.
func (k *checker) unknownAdministrators() {
	for _, arn := range k.Config.Administrators {
		known := accountOfARN(arn) != k.Config.Account || strings.HasSuffix(arn, ":root") || strings.Contains(arn, ":assumed-role/")
		for _, u := range k.Users {
			known = known || u.ARN == arn
		}
		for _, r := range k.Roles {
			known = known || r.ARN == arn
		}
		if !known {
			k.advise("administrators lists %s, which is no user or role of the account", arn)
		}
	}
}

// insider looks at a user, or a session of another role, of the account.
func (k *checker) insider(a *caller) {
	if a.tenant != "" { // a tenant's token is nobody's who is trusted, whatever role it buys
		k.reach(a, k.others(a), k.reportWay)
		k.cage(a)
		return
	}
	if k.isAdministrator(a) {
		return
	}
	if k.administratesInEffect(a) {
		return
	}
	k.reach(a, k.others(a), k.reportWay)
	if action, ok := k.changesBucket(a); ok {
		k.adviseBucketAdministrator(k.inEffect(a), action)
	}
}

func (k *checker) inEffect(a *caller) string {
	if a.role != nil {
		return "role " + a.role.Name
	}
	for _, arn := range []string{a.who.ARN, a.who.Issuer} {
		if _, name, ok := strings.Cut(arn, ":user/"); ok && a.who.Account == k.Config.Account {
			return "user " + name[strings.LastIndex(name, "/")+1:]
		}
	}
	return a.name
}

// administratesInEffect reports whether an actor may change IAM itself, and says so
// once for each user and role.
func (k *checker) administratesInEffect(a *caller) bool {
	action, resource, ok := k.changesIAM(a)
	if who := k.inEffect(a); ok && !k.advised[who] {
		k.advised[who] = true
		k.adviseAdministrator(who, action, resource)
	}
	return ok
}

// others are the tenants that are not an actor's own.
func (k *checker) others(a *caller) []string {
	return slices.DeleteFunc(slices.Clone(k.tenants), func(t string) bool { return t == a.tenant })
}

// add takes a finding, once for each code and deciding statement. One that rests
// on no open point takes the place of one that does. It returns the finding's index,
// from 1.
func (k *checker) add(f Finding) int {
	key := string(f.Code)
	for _, s := range f.DecidedBy[:min(1, len(f.DecidedBy))] {
		key += fmt.Sprintf("|%s|%d", s.Document, s.Statement)
	}
	if f.Code == OwnerLockedOut {
		key += f.Witness.Action
	}
	i := k.found[key]
	if i > 0 && (f.Ambiguous || !k.report.Findings[i-1].Ambiguous) {
		return i
	}
	if f.DecidedBy == nil {
		f.DecidedBy = []Statement{}
	}
	if f.Witness.Context == nil {
		f.Witness.Context = map[string][]string{}
	}
	if i > 0 {
		k.report.Findings[i-1] = f
		return i
	}
	k.report.Findings = append(k.report.Findings, f)
	k.found[key] = len(k.report.Findings)
	return k.found[key]
}

// has reports whether a way in by a statement was found that rests on no open
// point.
func (k *checker) has(code Code, p *part) bool {
	i := k.foundBy(code, p)
	return i > 0 && !k.report.Findings[i-1].Ambiguous
}

// foundBy is the index, from 1, of the finding that a statement decides, or 0.
func (k *checker) foundBy(code Code, p *part) int {
	return k.found[fmt.Sprintf("%s|%s|%d", code, p.from.Document, p.from.Statement)]
}

func (k *checker) advise(format string, args ...any) {
	text := oneLine(fmt.Sprintf(format, args...))
	if !k.advised[text] {
		k.advised[text] = true
		k.report.Advice = append(k.report.Advice, text)
	}
}

// unread notes a document that could not be read.
func (k *checker) unread(name string, err error) {
	text := oneLine(err.Error())
	if !strings.Contains(text, name) {
		text = name + ": " + text
	}
	if !slices.Contains(k.report.Unread, text) {
		k.report.Unread = append(k.report.Unread, text)
	}
}

// incomplete notes that the search for something was cut short.
func (k *checker) incomplete(what string) {
	if !k.unfinished[what] {
		k.unfinished[what] = true
		k.report.Unread = append(k.report.Unread, what+": the documents tell more values apart than were tried")
	}
}

func (k *checker) gaveUp(a *ask) {
	k.incomplete("requests for " + a.request.Action + " by " + a.request.Principal.ARN)
}

// conclude puts the report in order.
func (k *checker) conclude() *CheckReport {
	r := k.report
	k.nameSharers()
	order := Codes()
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Code), slices.Index(order, b.Code))
	})
	for _, m := range k.remarks {
		r.Advice = append(r.Advice, printable(m.String())) // whole, however many it names
	}
	r.Advice = append(r.Advice, k.Remarks...)
	r.NotLookedAt = append(r.NotLookedAt, k.NotLookedAt...)
	r.NotLookedAt = append(r.NotLookedAt, neverLookedAt...)
	return r
}

// neverLookedAt is what no export of an account shows.
var neverLookedAt = []string{
	"VPC endpoint policies", "S3 Access Grants", "S3 Object Lambda and multi-region access points", "KMS key policies", "ACLs of single objects", "the account's own public access block",
	"what AWS services do with a role that is passed to them", "AWS accounts of others: what they allow their own is taken to be everything",
}
