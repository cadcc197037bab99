package federation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"agentkeys/policy"
)

// assumable is what is known of who can assume a role.
type assumable struct {
	sessions []*caller       // that somebody can have with credentials of AWS or of another issuer
	known    map[string]bool // those sessions, by name and tags
	tokens   []*caller       // sessions by our issuer's tokens
}

// callAsks are what must be allowed for an actor to assume a role with the tags
// that it passes.
func (k *checker) callAsks(a *caller, r *Role, tags map[string]string, name string, grant *part) assuming {
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
	if name != "" {
		keys.Set("sts:RoleSessionName", name)
	}
	names := map[string]string{}
	for key := range tags {
		names[foldKey("aws:RequestTag/"+key)] = "aws:RequestTag/" + key
	}
	return k.assumeAsks(r, a.who, keys, own, "sts:AssumeRole", len(tags)+len(inherited) > 0, grant,
		func(key string) bool { return k.chooses(a, "sts:AssumeRole", key) }, names, true)
}

// canAssume tries to assume a role by a session's name, or by any where that is "".
// A tag that came along from an earlier role cannot be passed again.
func (k *checker) canAssume(a *caller, r *Role, tags map[string]string, name string) (answer, bool) {
	if !k.namesAWS(r) {
		return answer{}, false
	}
	for _, a := range a.variants() {
		if a.brings(tags) {
			continue
		}
		if ans := k.tryAssuming(k.callAsks(a, r, tags, name, nil)); ans.gotIn() {
			return ans, true
		}
	}
	return answer{}, false
}

// brings reports whether one of the tags came along from an earlier role.
func (a *caller) brings(tags map[string]string) bool {
	for key := range tags {
		for along := range a.passed {
			if strings.EqualFold(key, along) {
				return true
			}
		}
	}
	return false
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

// assumeRoles finds out, round by round, which sessions of other roles somebody can
// have: a session may assume other roles.
func (k *checker) assumeRoles(sessions []*caller) {
	callers := append(append(slices.Clone(k.users), k.outsiders...), sessions...)
	for i := range k.Roles {
		if r := &k.Roles[i]; r != k.data {
			known := &assumable{known: map[string]bool{}}
			k.assumed[r] = known
			k.byService(r)
			k.byToken(r)
			callers = append(append(callers, known.sessions...), known.tokens...)
		}
	}
	for len(callers) > 0 {
		var next []*caller
		for i := range k.Roles {
			r := &k.Roles[i]
			known := k.assumed[r]
			if known == nil || !k.namesAWS(r) {
				continue
			}
			before := len(known.sessions)
			for _, c := range callers {
				k.byCaller(c, r)
			}
			next = append(next, known.sessions[before:]...)
		}
		callers = next
	}
}

// hold keeps a session of a role that somebody can have.
func (k *checker) hold(r *Role, name string, choice tagChoice) {
	known := k.assumed[r]
	for _, tenant := range append([]string{""}, choice.like...) {
		tags := choice.tags
		if tenant != "" {
			tags = map[string]string{k.Config.TagKey: tenant}
		}
		called := "a session of role " + r.Name
		if len(tags) > 0 {
			called += " whose caller chose the tag"
		}
		if name != defaultSessionName {
			called += ", named " + name
		}
		if id := fmt.Sprint(name, tags); !known.known[id] {
			known.known[id] = true
			known.sessions = append(known.sessions, k.session(r, name, called, tags))
		}
	}
}

// byCaller tries a role with credentials of AWS. What tags administrators choose
// is theirs to answer for.
func (k *checker) byCaller(c *caller, r *Role) {
	if c.role == r {
		return
	}
	known := k.assumed[r]
	for _, choice := range k.tagChoices(r) {
		if choice.tags != nil && k.isAdministrator(c) {
			continue
		}
		for _, name := range append([]string{""}, k.sessionNames(r, choice.tags)...) {
			if known.known[fmt.Sprint(cmp.Or(name, defaultSessionName), choice.tags)] {
				continue
			}
			if ans, ok := k.canAssume(c, r, choice.tags, name); ok {
				k.hold(r, sessionNameOf(ans), choice)
			}
		}
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
			call := k.callAsks(a, r, nil, "", nil).call()
			call.free = func(key string) bool { _, set := a.keys.Values(key); return !set }
			if k.search(call).gotIn() {
				k.hold(r, defaultSessionName, tagChoice{})
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
	for _, t := range k.oddTokens(r) {
		if ans := k.assume(r, t, ""); ans.gotIn() {
			a := k.session(r, sessionNameOf(ans), "a session of role "+r.Name+" by a token without a tenant's tag", t.tags)
			k.byIssuer(a, t)
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

// oddTokens are tokens of our issuer that are no tenant's: without a tenant's tag,
// for a service, for another audience.
func (k *checker) oddTokens(r *Role) []webToken {
	plain := k.token(k.tenants[0])
	plain.tags = nil
	if len(k.split(r.Trust)) == 0 || !k.namesProvider(r) {
		return nil
	}
	list := []webToken{plain}
	for _, tag := range []string{"", "0x"} {
		t := plain
		t.tags = map[string]string{k.Config.TagKey: tag}
		list = append(list, t)
	}
	subjects := append([]string{plain.subject}, k.wrongSubjects(r, k.tenants[0])...)
	for _, audience := range append([]string{plain.audience}, k.audiences(r)...) {
		for _, subject := range subjects {
			t := plain
			if t.audience, t.subject = audience, subject; audience != plain.audience || subject != plain.subject {
				list = append(list, t)
			}
		}
	}
	return list
}

// namesProvider reports whether a trust policy lets tokens of our issuer in.
func (k *checker) namesProvider(r *Role) bool {
	return slices.ContainsFunc(k.split(r.Trust), func(p *part) bool {
		who := p.statement.Principal
		return p.allows() && (who == nil || who.Any || slices.Contains(who.Federated, k.Config.ProviderARN()) || slices.Contains(who.Federated, "*"))
	})
}

func (k *checker) byOtherToken(r *Role, provider string) {
	id := provider
	if _, rest, ok := strings.Cut(provider, ":oidc-provider/"); ok {
		id = rest
	}
	for _, choice := range k.tagChoices(r) {
		t := webToken{provider: provider, id: id, tags: choice.tags}
		for _, name := range append([]string{""}, k.sessionNames(r, choice.tags)...) {
			if ans := k.tryAssuming(k.webAsks(r, t, nil, name)); ans.gotIn() {
				k.hold(r, sessionNameOf(ans), choice)
			}
		}
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
			for _, a := range known.sessions {
				k.adviseServiceLinked(a)
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
	return slices.Concat(known.sessions, known.tokens)
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
			for _, tags := range k.choices(from, s, r) {
				for _, name := range append([]string{""}, k.sessionNames(r, tags)...) {
					next, ok := k.goOn(s, from, r, tags, name)
					if id := fmt.Sprint(r.ARN, name, next.passed, tags); ok && !seen[id] {
						seen[id] = true
						queue = append(queue, next)
					}
				}
			}
		}
	}
}

// choices are the tags that a session may pass on its way to a role: none, those
// of victims, and others that policies ask for.
func (k *checker) choices(from, s *caller, r *Role) []map[string]string {
	var list []map[string]string
	for _, choice := range k.tagChoices(r) {
		if choice.tags[k.Config.TagKey] == s.tenant && len(choice.like) > 0 {
			choice.tags = map[string]string{k.Config.TagKey: choice.like[0]}
		}
		if !from.brings(choice.tags) {
			list = append(list, choice.tags)
		}
	}
	return list
}

// goOn assumes a role from a session and looks at what that role reaches.
func (k *checker) goOn(s, from *caller, r *Role, tags map[string]string, name string) (*caller, bool) {
	called := s.name + ", gone on to role " + r.Name
	all := maps.Clone(from.passed)
	if tags != nil {
		called += " with a tag of its choice"
		all = maps.Clone(tags)
		maps.Copy(all, from.passed)
	}
	next := k.session(r, cmp.Or(name, defaultSessionName), called, all)
	next.passed, next.tenant = from.passed, s.tenant
	if _, chosen := tags[k.Config.TagKey]; chosen {
		next.tenant = ""
	}
	came := false
	for _, grant := range k.trustGrants(r) {
		asks := k.callAsks(from, r, tags, name, grant)
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
		if c.role != k.data && k.administratesInEffect(c) {
			continue
		}
		k.entryBy(c)
	}
}

func (k *checker) entryBy(c *caller) {
	for _, c := range c.variants() {
		if len(c.passed) > 0 { // a tag that came along stays, and is the tenant's own
			continue
		}
		for _, grant := range k.trustGrants(k.data) {
			for _, class := range k.classes(k.data) {
				victim := class[0]
				if victim == c.tenant && len(class) > 1 {
					victim = class[1]
				}
				if victim == c.tenant {
					continue
				}
				k.entryByGrant(c, grant, TagChosenByCaller, map[string]string{k.Config.TagKey: victim},
					"assumes the data role with a tenant tag of its own choice", "Take the statement out: only the issuer's tokens may bring a tag.")
			}
			k.entryByGrant(c, grant, UntaggedSession, nil,
				"assumes the data role without a tenant tag", "Take the statement out: only the issuer's tokens may buy a session of this role.")
		}
	}
}

func (k *checker) entryByGrant(c *caller, grant *part, code Code, tags map[string]string, title, fix string) {
	asks := k.callAsks(c, k.data, tags, "", grant)
	if ans := k.tryAssuming(asks); ans.gotIn() {
		k.add(k.entryFinding(code, grant, asks.call(), ans, c.name, c.name+" "+title, fix))
	}
}
