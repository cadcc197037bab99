package federation

import (
	"fmt"
	"slices"
	"strings"

	"agentkeys/policy"
)

// assumable is what is known of who can assume a role.
type assumable struct {
	plain  bool      // by somebody, without a tag of his choice
	chosen bool      // by somebody who chooses the tenant tag himself
	how    string    // who
	tokens []*caller // sessions by our issuer's tokens
	asked  bool      // its sessions were asked whom they can assume
}

// callAsks are what must be allowed for an actor to assume a role with the tags
// that it passes.
func (k *checker) callAsks(a *caller, r *Role, tags map[string]string, grant *part) assuming {
	keys := a.keys.Clone()
	keys.Delete("s3:ResourceAccount")
	setRequestTags(keys, tags)
	inherited := map[string]string{}
	for key, v := range a.passed {
		inherited[key] = v
	}
	roleKeys(keys, r)
	for key, v := range inherited { // stand in for the role's own tags in its trust policy
		keys.Set("aws:ResourceTag/"+key, v)
		keys.Set("iam:ResourceTag/"+key, v)
	}
	own := a.own
	if a.who.Account == k.Config.Account {
		own.scp = k.scp
	}
	names := map[string]string{}
	for key := range tags {
		names[foldKey("aws:RequestTag/"+key)] = "aws:RequestTag/" + key
	}
	return k.assumeAsks(r, a.who, keys, own, "sts:AssumeRole", len(tags)+len(inherited) > 0, grant,
		func(key string) bool { return k.chooses(a, "sts:AssumeRole", key) }, names)
}

// canAssume reports whether an actor can assume a role. A tag that came along
// from an earlier role cannot be passed again.
func (k *checker) canAssume(a *caller, r *Role, tags map[string]string) bool {
	if !k.namesAWS(r) {
		return false
	}
	return slices.ContainsFunc(a.variants(), func(a *caller) bool {
		return (len(tags) == 0 || len(a.passed) == 0) && k.tryAssuming(k.callAsks(a, r, tags, nil)).gotIn()
	})
}

// variants are the actor as it is and, where its token may as well have left the
// tag behind, without one that comes along.
func (a *caller) variants() []*caller {
	if !a.loose || len(a.passed) == 0 {
		return []*caller{a}
	}
	b := *a
	b.passed = nil
	return []*caller{a, &b}
}

// namesAWS reports whether a trust policy speaks of AWS principals at all.
func (k *checker) namesAWS(r *Role) bool {
	return slices.ContainsFunc(k.split(r.Trust), func(p *part) bool {
		who := p.statement.Principal
		return p.allows() && (who == nil || who.Any || len(who.AWS) > 0)
	})
}

// assumeRoles finds out, round by round, which other roles somebody can assume:
// a role that can be assumed may assume others.
func (k *checker) assumeRoles(sessions []*caller) {
	for i := range k.Roles {
		if r := &k.Roles[i]; r != k.data {
			k.assumed[r] = &assumable{}
			k.byService(r)
			k.byToken(r)
		}
	}
	callers := append(append(slices.Clone(k.users), k.outsiders...), sessions...)
	for len(callers) > 0 {
		var next []*caller
		for i := range k.Roles {
			r := &k.Roles[i]
			known := k.assumed[r]
			if known == nil {
				continue
			}
			before := known.plain
			for _, c := range callers {
				k.byCaller(c, r)
			}
			if known.plain && (!before || !known.asked) {
				known.asked = true
				next = append(next, k.plainSession(r))
			}
		}
		callers = next
	}
}

func (k *checker) plainSession(r *Role) *caller {
	return k.session(r, defaultSessionName, "a session of role "+r.Name, nil)
}

func (k *checker) byCaller(c *caller, r *Role) {
	known := k.assumed[r]
	if c.role == r {
		return
	}
	if !known.plain && k.canAssume(c, r, nil) {
		known.plain, known.how = true, c.name
	}
	if !known.chosen && !k.isAdministrator(c) && k.canAssume(c, r, map[string]string{k.Config.TagKey: k.tenants[0]}) {
		known.chosen = true
	}
}

// byService looks for a service that the role trusts.
func (k *checker) byService(r *Role) {
	for _, p := range k.split(r.Trust) {
		who := p.statement.Principal
		if !p.allows() || who == nil {
			continue
		}
		for _, name := range who.Service {
			a := k.newActor("the service "+name, policy.Principal{Kind: policy.Service, Service: name})
			a.keys.Set("aws:PrincipalIsAWSService", "true")
			call := k.callAsks(a, r, nil, nil).call()
			call.free = func(key string) bool { _, set := a.keys.Values(key); return !set }
			if k.search(call).gotIn() {
				k.assumed[r].plain, k.assumed[r].how = true, a.name
			}
		}
	}
}

// byToken looks for tokens that the role takes: our issuer's, with and without a
// tag, and those of other issuers.
func (k *checker) byToken(r *Role) {
	known := k.assumed[r]
	for _, tenant := range k.tenants {
		t := k.token(tenant)
		if ans := k.assume(r, t, ""); ans.gotIn() {
			a := k.session(r, sessionNameOf(ans), fmt.Sprintf("the session of tenant %s in role %s", tenant, r.Name), t.tags)
			a.tenant = tenant
			k.byIssuer(a, t)
			a.loose = k.losesTag(r, t, "")
			known.tokens = append(known.tokens, a)
		}
	}
	ill := k.token(k.tenants[0])
	for _, tags := range []map[string]string{nil, {k.Config.TagKey: ""}, {k.Config.TagKey: "0x"}} {
		ill.tags = tags
		if ans := k.assume(r, ill, ""); ans.gotIn() {
			a := k.session(r, sessionNameOf(ans), "a session of role "+r.Name+" by a token without a tenant's tag", tags)
			k.byIssuer(a, ill)
			known.tokens = append(known.tokens, a)
		}
	}
	for _, p := range k.split(r.Trust) {
		if who := p.statement.Principal; p.allows() && who != nil {
			for _, name := range who.Federated {
				if name == k.Config.ProviderARN() || !k.registered(name, "") {
					continue
				}
				k.byOtherToken(r, name)
			}
		}
	}
}

func (k *checker) byOtherToken(r *Role, provider string) {
	id := provider
	if _, rest, ok := strings.Cut(provider, ":oidc-provider/"); ok {
		id = rest
	}
	known := k.assumed[r]
	if k.tryAssuming(k.webAsks(r, webToken{provider: provider, id: id}, nil, "")).gotIn() {
		known.plain, known.how = true, "a token of "+provider
	}
	tagged := webToken{provider: provider, id: id, tags: map[string]string{k.Config.TagKey: k.tenants[0]}}
	if k.tryAssuming(k.webAsks(r, tagged, nil, "")).gotIn() {
		known.chosen = true
	}
}

// otherRoles looks at the sessions of every other role that somebody can assume,
// and at the roles that a tenant's session can come to by assuming one after
// another.
func (k *checker) otherRoles(sessions []*caller) {
	for i := range k.Roles {
		r := &k.Roles[i]
		known := k.assumed[r]
		switch {
		case known == nil:
		case k.serviceLinked(r):
			if known.plain && k.reachesAnybody(k.plainSession(r), k.tenants) {
				k.advise("role %s belongs to an AWS service, which reads or lists tenants' objects with it", r.Name)
			}
		default:
			for _, a := range k.sessionsOf(r) {
				if k.isAdministrator(a) && a.tenant == "" {
					continue
				}
				k.insider(a)
			}
		}
	}
	for _, s := range sessions {
		k.chain(s)
	}
}

// sessionsOf are the sessions of another role that somebody can have.
func (k *checker) sessionsOf(r *Role) []*caller {
	known := k.assumed[r]
	list := slices.Clone(known.tokens)
	if known.plain {
		list = append([]*caller{k.plainSession(r)}, list...)
	}
	if known.chosen {
		for _, tenant := range k.tenants {
			a := k.session(r, defaultSessionName, fmt.Sprintf("a session of role %s whose caller chose the tag", r.Name), map[string]string{k.Config.TagKey: tenant})
			list = append(list, a)
		}
	}
	return list
}

// serviceLinked reports whether a role is one that AWS makes for a service and
// that the service alone can use.
func (k *checker) serviceLinked(r *Role) bool {
	return strings.Contains(r.ARN, ":role/aws-service-role/")
}

// reachesAnybody reports whether an actor gets at anything of the victims'.
func (k *checker) reachesAnybody(a *caller, victims []string) bool {
	if _, _, admin := k.changesIAM(a); admin {
		return true
	}
	found := map[string]int{}
	found, k.found = k.found, found // what was found of somebody else says nothing here
	defer func() { k.found = found }()
	reached := false
	k.reach(a, victims, func(way) bool { reached = true; return true })
	return reached
}

// chain follows a session of the data role through the roles that it can assume.
// The tags of its token come along, if the token marked them so; where it did
// not, the session may pass tags of its own choice.
func (k *checker) chain(s *caller) {
	seen := map[string]bool{}
	queue := s.variants()
	for len(queue) > 0 {
		from := queue[0]
		queue = queue[1:]
		for i := range k.Roles {
			r := &k.Roles[i]
			if r == k.data || !k.namesAWS(r) {
				continue
			}
			for _, tags := range k.choices(from, s) {
				next, ok := k.goOn(s, from, r, tags)
				if id := fmt.Sprint(r.ARN, next.passed, tags); ok && !seen[id] {
					seen[id] = true
					queue = append(queue, next)
				}
			}
		}
	}
}

// choices are the tags that a session may pass on its way: none, or a victim's.
func (k *checker) choices(from, s *caller) []map[string]string {
	if len(from.passed) > 0 {
		return []map[string]string{nil}
	}
	return []map[string]string{nil, {k.Config.TagKey: k.others(s)[0]}}
}

// goOn assumes a role from a session and looks at what that role reaches.
func (k *checker) goOn(s, from *caller, r *Role, tags map[string]string) (*caller, bool) {
	next := k.session(r, defaultSessionName, s.name+", gone on to role "+r.Name, from.passed)
	next.passed, next.tenant = from.passed, s.tenant
	if tags != nil {
		next = k.session(r, defaultSessionName, next.name+" with a tag of its choice", tags)
	}
	came := false
	for _, grant := range k.trustGrants(r) {
		asks := k.callAsks(from, r, tags, grant)
		ans := k.tryAssuming(asks)
		if !ans.gotIn() {
			continue
		}
		came = true
		if k.reachesAnybody(next, k.others(s)) {
			k.addChain(from, r, grant, asks.call(), ans)
		}
	}
	return next, came
}

func (k *checker) addChain(from *caller, r *Role, grant *part, a *ask, ans answer) {
	f := k.entryFinding(ReachesOtherRole, grant, a, ans, from.name, from.name+" can assume role "+r.Name+", which reaches tenants' objects",
		fmt.Sprintf("Take sts:AssumeRole on %s from the data role, and the data role out of that role's trust policy.", r.ARN))
	if p := k.byName[ans.decision.Policy]; p != nil && p != grant {
		f.DecidedBy = append(f.DecidedBy, p.from)
	}
	k.add(f)
}

// entryByCallers tries to assume the data role with credentials of AWS: without
// a tag, and with one that the caller chooses.
func (k *checker) entryByCallers(sessions []*caller) {
	callers := append(slices.Clone(k.users), k.outsiders...)
	for i := range k.Roles {
		if r := &k.Roles[i]; r != k.data {
			callers = append(callers, k.sessionsOf(r)...)
		}
	}
	callers = append(callers, sessions...)
	if !k.namesAWS(k.data) {
		return
	}
	for _, c := range callers {
		if k.isAdministrator(c) {
			continue
		}
		if action, resource, ok := k.changesIAM(c); ok && c.role != k.data {
			k.advise("%s may change IAM itself (%s on %s), so it is an administrator in effect; list it under administrators, or take that right away",
				k.inEffect(c), action, resource)
			continue
		}
		k.entryBy(c)
	}
}

func (k *checker) entryBy(c *caller) {
	victim := k.tenants[0]
	if c.tenant == victim {
		victim = k.tenants[1]
	}
	for _, c := range c.variants() {
		if len(c.passed) > 0 { // a tag that came along stays, and is the tenant's own
			continue
		}
		for _, grant := range k.trustGrants(k.data) {
			k.entryByGrant(c, grant, TagChosenByCaller, map[string]string{k.Config.TagKey: victim},
				"assumes the data role with a tenant tag of its own choice", "Take the statement out: only the issuer's tokens may bring a tag.")
			k.entryByGrant(c, grant, UntaggedSession, nil,
				"assumes the data role without a tenant tag", "Take the statement out: only the issuer's tokens may buy a session of this role.")
		}
	}
}

func (k *checker) entryByGrant(c *caller, grant *part, code Code, tags map[string]string, title, fix string) {
	asks := k.callAsks(c, k.data, tags, grant)
	if ans := k.tryAssuming(asks); ans.gotIn() {
		k.add(k.entryFinding(code, grant, asks.call(), ans, c.name, c.name+" "+title, fix))
	}
}
