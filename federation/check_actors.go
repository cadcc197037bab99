package federation

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentkeys/policy"
)

// caller is somebody who makes requests: a session, a user, somebody of another
// account, or nobody that AWS knows.
type caller struct {
	name  string // for a report
	who   policy.Principal
	keys  *policy.Context   // what follows from who it is
	names map[string]string // the keys worth showing, by folded name
	own   layers            // its identity policies and boundary
	// tenant is the tag that the issuer vouched for; "" for everybody else.
	tenant string
	// passed are the tags that outlive a change of role, as the token marked them.
	passed map[string]string
	// loose marks a session that is to be had with a tag that does not outlive a
	// change of role, too.
	loose bool
	role  *Role
}

// foreign reports whether the actor is of another account, whose administrators
// choose its tags and whatever else they like.
func (a *caller) foreign(account string) bool {
	return a.who.Kind != policy.Anonymous && a.who.Account != account
}

// servicesOnly are keys that requests have only when an AWS service makes them.
var servicesOnly = []string{
	"aws:sourcearn", "aws:sourceaccount", "aws:sourceowner", "aws:sourceorgid", "aws:sourceorgpaths",
	"aws:principalservicename", "aws:principalservicenameslist", "aws:calledvia", "aws:calledviafirst", "aws:calledvialast",
}

// accessPointKeys are in requests that come by an access point.
var accessPointKeys = []string{"s3:dataaccesspointaccount", "s3:dataaccesspointarn", "s3:accesspointnetworkorigin"}

// ofThePrincipal are keys that follow from who asks.
var ofThePrincipal = []string{
	"aws:principalarn", "aws:principalaccount", "aws:principaltype", "aws:userid", "aws:username", "aws:federatedprovider",
	"aws:sourceidentity", "aws:multifactorauthpresent", "aws:multifactorauthage",
}

// ofWhatRuns are keys in the requests of code that a service runs with a role's
// credentials, by the service; they say which function or instance it is.
// Sources: Lambda Developer Guide, permissions-source-function-arn; Service
// Authorization Reference, Amazon EC2; IAM User Guide, global condition keys.
var ofWhatRuns = map[string]string{
	"lambda:sourcefunctionarn": "lambda.amazonaws.com", "ec2:sourceinstancearn": "ec2.amazonaws.com", "ec2:roledelivery": "ec2.amazonaws.com",
	"aws:ec2instancesourcevpc": "ec2.amazonaws.com", "aws:ec2instancesourceprivateipv4": "ec2.amazonaws.com",
}

// trustsService reports whether a role's trust policy lets a service in.
func (k *checker) trustsService(r *Role, name string) bool {
	return slices.ContainsFunc(k.split(r.Trust), func(p *part) bool {
		who := p.statement.Principal
		return p.allows() && who != nil && slices.ContainsFunc(who.Service, func(s string) bool {
			return s == name || s == name+".cn" || s == "*" // in China, EC2 has its own
		})
	})
}

// chooses reports whether the actor chooses the value of a key in a request for
// an action. What is set in its keys is as it is.
func (k *checker) chooses(a *caller, action, key string) bool {
	_, fixed := a.keys.Values(key)
	prefix, name, _ := strings.Cut(key, ":")
	switch {
	case fixed || slices.Contains(servicesOnly, key):
		return false
	case key == "aws:sourceidentity" && a.role != nil && a.role != k.data:
		return k.letsPass(a.role, "sts:SetSourceIdentity")
	case key == "aws:tokenissuetime":
		return a.who.Kind == policy.RoleSession
	case slices.Contains(ofThePrincipal, key), strings.HasPrefix(key, "aws:principaltag/"):
		mfa := strings.HasPrefix(name, "multifactorauth")
		return a.foreign(k.Config.Account) || mfa && a.who.Kind == policy.User
	case strings.HasPrefix(key, "aws:principalorg"):
		return a.who.Kind != policy.Anonymous
	case ofWhatRuns[key] != "":
		return a.role != nil && a.role != k.data && k.trustsService(a.role, ofWhatRuns[key])
	case prefix == "aws":
		return true
	case prefix == "s3":
		if a.who.Kind == policy.Anonymous && (name == "authtype" || name == "signatureversion") {
			return false
		}
		if slices.Contains(accessPointKeys, key) { // by an access point that another account made
			return strings.HasPrefix(action, "s3:")
		}
		return k.carries(action, key)
	case prefix == "sts", prefix == "iam":
		return strings.HasPrefix(action, prefix+":") || prefix == "iam" && strings.HasPrefix(action, "sts:")
	}
	return false // a claim of a token that the actor does not have
}

// carries reports whether requests for an S3 action have a condition key.
func (k *checker) carries(action, key string) bool {
	service, name, _ := strings.Cut(action, ":")
	if service != "s3" {
		return false
	}
	info, ok := k.actions[strings.ToLower(name)]
	if !ok {
		return false
	}
	return slices.ContainsFunc(info.ConditionKeys, func(template string) bool {
		template = foldKey(template)
		if i := strings.IndexAny(template, "<$"); i >= 0 {
			return len(key) > i && strings.HasPrefix(key, template[:i])
		}
		return template == key
	})
}

// policiesOf gathers the identity policies and the boundary of a user, group or role.
func (k *checker) policiesOf(e Entity, called string) layers {
	var l layers
	for _, d := range e.Inline {
		if !k.isBlock(d) {
			l.identity = append(l.identity, k.split(d)...)
		}
	}
	for _, arn := range e.Attached {
		l.identity = append(l.identity, k.managed(arn, called)...)
	}
	if e.Boundary != "" {
		l.bounded = true
		l.boundary = k.managed(e.Boundary, called)
	}
	return l
}

func (k *checker) managed(arn, called string) []*part {
	d, ok := k.Managed[arn]
	if !ok {
		if d, ok = published(arn); ok {
			k.advise("%s lacks the document of %s, of which AWS' published one was taken as far as it is about S3, STS and IAM", k.Source, arn)
			return k.split(d)
		}
		if strings.Contains(arn, ":iam::aws:policy/aws-service-role/") {
			k.skipServiceLinked()
			return nil
		}
		k.unread("managed policy "+arn, fmt.Errorf("managed policy %s of %s: want its document, got none", arn, called))
		return nil
	}
	return k.split(d)
}

// skipServiceLinked notes that the policy of a service-linked role is not there. IAM
// attaches such a policy to that role alone, which its service alone can use, so it
// lets in nobody that would be a finding.
// Source: IAM User Guide, using-service-linked-roles.
func (k *checker) skipServiceLinked() {
	const what = "policies of service-linked roles (not in " + fileIAM + ")"
	if !slices.Contains(k.report.NotLookedAt, what) {
		k.report.NotLookedAt = append(k.report.NotLookedAt, what)
	}
}

// newActor fills in the keys that every request of a principal has.
func (k *checker) newActor(name string, who policy.Principal) *caller {
	a := &caller{name: name, who: who, keys: policy.NewContext(), names: map[string]string{}}
	c := k.Config
	a.keys.Set("aws:RequestedRegion", c.Region)
	a.keys.Set("aws:ViaAWSService", "false")
	a.keys.Set("aws:PrincipalIsAWSService", "false")
	a.keys.Set("aws:ResourceAccount", c.Account)
	a.keys.Set("s3:ResourceAccount", c.Account)
	if who.Account != "" {
		a.keys.Set("aws:PrincipalAccount", who.Account)
	}
	return a
}

func (a *caller) show(key string) { a.names[foldKey(key)] = key }

// user is an IAM user of the account.
func (k *checker) user(u User) *caller {
	a := k.newActor("user "+u.Name, policy.Principal{Kind: policy.User, Account: k.Config.Account, ARN: u.ARN, ID: u.ID})
	a.keys.Set("aws:PrincipalArn", u.ARN)
	a.keys.Set("aws:PrincipalType", "User")
	a.keys.Set("aws:userid", u.ID)
	a.keys.Set("aws:username", u.Name)
	a.own = k.policiesOf(u.Entity, a.name)
	for _, name := range u.Groups {
		i := slices.IndexFunc(k.Groups, func(g Group) bool { return strings.EqualFold(g.Name, name) })
		if i < 0 {
			k.unread("group "+name, fmt.Errorf("group %s of user %s: want it in %s, got none", name, u.Name, fileIAM))
			continue
		}
		a.own.identity = append(a.own.identity, k.policiesOf(k.Groups[i].Entity, "group "+name).identity...)
	}
	k.tag(a, u.Tags, nil)
	return a
}

// temporary is a user with credentials that he got of STS (GetSessionToken, which
// nobody needs a permission for), where some policy tells those by the time that
// they were issued at.
func (k *checker) temporary(u User) []*caller {
	a := k.user(u)
	l := k.at(a)
	if len(conditionsOn(l.all(), "aws:tokenissuetime")) == 0 {
		return nil
	}
	a.name += " with temporary credentials"
	a.keys.Set("aws:TokenIssueTime", k.now.Format(time.RFC3339))
	return []*caller{a}
}

// federated are the sessions that users make of themselves with tags of their
// choice, where they may (STS, GetFederationToken). What such a session may do by
// the user's own policies is the user's to say, as is the tag.
func (k *checker) federated() []*caller {
	var all []*caller
	for _, u := range k.Users {
		a := k.user(u)
		arn := "arn:" + k.Config.Partition() + ":sts::" + k.Config.Account + ":federated-user/" + defaultSessionName
		l := k.at(a)
		for _, tags := range append([]map[string]string{{k.Config.TagKey: k.tenants[0]}}, k.askedTags(l.all())...) {
			may := true
			for _, action := range []string{"sts:GetFederationToken", "sts:TagSession"} {
				keys := a.keys.Clone()
				setRequestTags(keys, tags)
				l := a.own
				l.scp = k.scp
				may = may && k.search(&ask{
					request: policy.Request{Principal: a.who, Action: action, Resource: arn, ResourceAccount: k.Config.Account},
					keys:    keys, layers: l, free: func(key string) bool { return k.chooses(a, action, key) && !strings.HasPrefix(key, "aws:request") },
				}).gotIn()
			}
			if !may {
				continue
			}
			f := k.newActor("a session of user "+u.Name+" with a tag of its choice", policy.Principal{
				Kind: policy.FederatedUser, Account: k.Config.Account, ARN: arn, Issuer: u.ARN, ID: u.ID,
			})
			f.keys.Set("aws:PrincipalArn", arn)
			f.keys.Set("aws:PrincipalType", "FederatedUser")
			f.own = a.own
			k.tag(f, nil, tags)
			all = append(all, f)
		}
	}
	return all
}

// tag sets the principal tags: those of the entity, and over them those of the
// session, whatever their case (IAM User Guide, id_session-tags).
func (k *checker) tag(a *caller, entity, session map[string]string) {
	k.tagKeys(a.keys, entity, session)
	if _, tagged := a.keys.Values("aws:principaltag/" + foldKey(k.Config.TagKey)); tagged {
		a.show("aws:PrincipalTag/" + k.Config.TagKey)
	}
}

func (k *checker) tagKeys(keys *policy.Context, entity, session map[string]string) {
	for _, tags := range []map[string]string{entity, session} {
		for _, key := range slices.Sorted(maps.Keys(tags)) {
			keys.Set("aws:PrincipalTag/"+key, tags[key])
		}
	}
}

// session is a session of a role.
func (k *checker) session(r *Role, sessionName, called string, tags map[string]string) *caller {
	c := k.Config
	arn := "arn:" + c.Partition() + ":sts::" + c.Account + ":assumed-role/" + r.Name + "/" + sessionName
	id := r.ID + ":" + sessionName
	a := k.newActor(called, policy.Principal{
		Kind: policy.RoleSession, Account: c.Account, ARN: arn, Issuer: r.ARN, ID: r.ID, SessionID: id,
	})
	a.role = r
	a.keys.Set("aws:PrincipalArn", r.ARN)
	a.keys.Set("aws:PrincipalType", "AssumedRole")
	a.keys.Set("aws:userid", id)
	a.keys.Set("aws:MultiFactorAuthPresent", "false")
	a.own = k.roleLayers(r)
	k.tag(a, r.Tags, tags)
	return a
}

func (k *checker) roleLayers(r *Role) layers {
	if l, ok := k.ofRole[r]; ok {
		return l
	}
	l := k.policiesOf(r.Entity, "role "+r.Name)
	k.ofRole[r] = l
	return l
}

// byIssuer makes a session of a web identity: what the token said stays known.
func (k *checker) byIssuer(a *caller, t webToken) {
	id := k.Config.ProviderID()
	a.keys.Set("aws:FederatedProvider", k.Config.ProviderARN())
	a.keys.Set(id+":aud", t.audience)
	a.keys.Set(id+":sub", t.subject)
	a.passed = t.tags
}

// anonymousActor signs nothing.
func (k *checker) anonymousActor() *caller {
	a := k.newActor("anonymous", policy.Principal{Kind: policy.Anonymous})
	a.keys.Set("aws:PrincipalType", "Anonymous")
	return a
}

// strangerAccount is the number of an account that no document names.
func (k *checker) strangerAccount() string {
	named := k.accountsNamed()
	for n := 999999999999; ; n-- {
		if account := strconv.Itoa(n); account != k.Config.Account && !slices.Contains(named, account) {
			return account
		}
	}
}

// strangers are principals of other accounts: one of an account that no document
// names, and everybody whom the documents name. What their own account allows
// them is theirs to say, so it is taken to be everything.
func (k *checker) strangers() []*caller {
	account := k.strangerAccount()
	arns := []string{"arn:" + k.Config.Partition() + ":iam::" + account + ":role/stranger"}
	arns = append(arns, k.namesakes(account)...)
	for _, named := range k.accountsNamed() {
		arns = append(arns, "arn:"+k.Config.Partition()+":iam::"+named+":role/stranger")
		arns = append(arns, k.namesakes(named)...)
	}
	arns = append(arns, k.principalsNamed()...)
	var all []*caller
	for _, arn := range arns {
		if a := k.stranger(arn); a != nil && !slices.ContainsFunc(all, func(b *caller) bool { return b.name == a.name }) {
			all = append(all, a)
		}
	}
	for _, id := range k.canonicalUsers() {
		a := k.stranger(arns[0])
		a.name, a.who.CanonicalUser = "the account with canonical id "+id, id
		all = append(all, a)
	}
	return all
}

// canonicalUsers are the other accounts that the ACL or the bucket policy name by
// their canonical ids.
func (k *checker) canonicalUsers() []string {
	var ids []string
	for _, p := range slices.Concat(k.acl, k.resourceParts()) {
		for _, who := range []*policy.Principals{p.statement.Principal, p.statement.NotPrincipal} {
			if who == nil {
				continue
			}
			for _, id := range who.CanonicalUser {
				if (k.ACL == nil || id != k.ACL.Owner) && !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
		}
	}
	return ids
}

// stranger is somebody of another account by its ARN.
func (k *checker) stranger(arn string) *caller {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[4] == k.Config.Account || k.trusted("arn:"+parts[1]+":iam::"+parts[4]+":root") || k.trusted(arn) {
		return nil
	}
	account, kind, name := parts[4], parts[5], ""
	kind, name, _ = strings.Cut(kind, "/")
	who := policy.Principal{Kind: policy.RoleSession, Account: account, ID: "AROAFOREIGNFOREIGNXX"}
	typ := "AssumedRole"
	switch parts[2] + ":" + kind {
	case "iam:role":
		who.Issuer = arn
		who.ARN = "arn:" + parts[1] + ":sts::" + account + ":assumed-role/" + name[strings.LastIndex(name, "/")+1:] + "/session"
	case "sts:assumed-role":
		role, _, _ := strings.Cut(name, "/")
		who.ARN, who.Issuer = arn, "arn:"+parts[1]+":iam::"+account+":role/"+role
	case "iam:user":
		who = policy.Principal{Kind: policy.User, Account: account, ARN: arn, ID: "AIDAFOREIGNFOREIGNXX"}
		typ = "User"
	default:
		return nil
	}
	a := k.newActor("another account, "+arn, who)
	principal := who.Issuer
	if who.Kind == policy.User {
		principal = arn
	}
	a.keys.Set("aws:PrincipalArn", principal)
	a.show("aws:PrincipalAccount")
	a.keys.Set("aws:PrincipalType", typ)
	a.own = layers{identity: []*part{k.everything}}
	return a
}

// accountsNamed are the other accounts that a resource policy names as a whole or
// by a principal.
func (k *checker) accountsNamed() []string {
	var accounts []string
	add := func(account string) {
		if len(account) == 12 && accountForm.MatchString(account) && account != k.Config.Account && !slices.Contains(accounts, account) {
			accounts = append(accounts, account)
		}
	}
	for _, text := range k.principalTexts() {
		if parts := strings.SplitN(text, ":", 6); len(parts) == 6 {
			add(parts[4])
		} else {
			add(text)
		}
	}
	digits := policy.Alphabet{Min: 12, Max: 12, Allows: func(r rune) bool { return r >= '0' && r <= '9' }}
	addPattern := func(d *policy.Document, text string) { // one account that a pattern admits
		if text == "" || strings.Trim(text, "*?") == "" {
			return
		}
		globs := d.Globs(text, true, nil)
		for _, account := range k.distinguish("account", "", globs, digits) {
			if policy.Combinations(globs, account)[0] == "\x01" {
				add(account)
			}
		}
	}
	for _, c := range conditionsOn(k.resourceParts(), "aws:principalaccount") {
		for _, text := range c.Values {
			addPattern(c.part.document, text)
		}
	}
	for _, c := range k.onPrincipalARN() {
		for _, text := range c.Values {
			if parts := strings.SplitN(text, ":", 6); len(parts) == 6 {
				addPattern(c.part.document, parts[4])
			}
		}
	}
	return accounts
}

// principalsNamed are the principals of other accounts that resource policies name.
func (k *checker) principalsNamed() []string {
	return slices.DeleteFunc(k.principalTexts(), func(text string) bool {
		return !strings.HasPrefix(text, "arn:") || strings.HasSuffix(text, ":root")
	})
}

// namesakes are principals of another account whose names meet patterns for
// aws:PrincipalArn: whoever owns an account names his roles and users.
func (k *checker) namesakes(account string) []string {
	var globs []policy.Glob
	for _, c := range k.onPrincipalARN() {
		globs = append(globs, c.globs(nil)...)
	}
	if len(globs) == 0 {
		return nil
	}
	var arns []string
	allows := func(r rune) bool { return r == '/' || r < 128 && roleForm.MatchString(string(r)) }
	for _, kind := range []string{"role/", "user/"} {
		start := "arn:" + k.Config.Partition() + ":iam::" + account + ":" + kind
		limits := policy.Alphabet{Allows: allows, Min: len(start) + 1, Max: len(start) + 64}
		for _, arn := range k.distinguish("principal ARN", start, globs, limits, "stranger") {
			if path := arn[len(start):]; !strings.HasPrefix(path, "/") && !strings.HasSuffix(path, "/") {
				arns = append(arns, arn)
			}
		}
	}
	return arns
}

// onPrincipalARN are the conditions on aws:PrincipalArn that decide about
// principals of other accounts.
func (k *checker) onPrincipalARN() []*condition {
	list := conditionsOn(k.resourceParts(), "aws:principalarn")
	for _, level := range k.rcp {
		list = append(list, conditionsOn(level, "aws:principalarn")...)
	}
	return list
}

// principalTexts are the AWS principals that the resource policies name.
func (k *checker) principalTexts() []string {
	var texts []string
	for _, p := range k.resourceParts() {
		for _, who := range []*policy.Principals{p.statement.Principal, p.statement.NotPrincipal} {
			if who != nil {
				texts = append(texts, who.AWS...)
			}
		}
	}
	return texts
}

// resourceParts are the parts of every resource policy: of the bucket, the access
// points and the roles' trust.
func (k *checker) resourceParts() []*part {
	if k.ofResources == nil {
		k.ofResources = append(k.ofResources, k.split(k.Bucket)...)
		for i := range k.AccessPoints {
			k.ofResources = append(k.ofResources, k.split(k.AccessPoints[i].Policy)...)
		}
		for i := range k.Roles {
			k.ofResources = append(k.ofResources, k.split(k.Roles[i].Trust)...)
		}
	}
	return k.ofResources
}

// trusted reports whether an ARN is one of the administrators'.
func (k *checker) trusted(arn string) bool { return slices.Contains(k.Config.Administrators, arn) }

// isAdministrator reports whether an actor is trusted with everything.
func (k *checker) isAdministrator(a *caller) bool {
	return k.trusted(a.who.ARN) || a.who.Issuer != "" && k.trusted(a.who.Issuer)
}
