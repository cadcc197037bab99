package federation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"agentkeys/policy"
)

// webToken is what a web identity token says, as far as STS and policies go by it.
type webToken struct {
	provider          string // ARN, or the name of a provider that AWS has built in
	id                string // what its condition keys begin with
	audience, subject string
	tags              map[string]string
	// more says that the bearer has got other tags besides, of any value.
	more bool
	// passing marks a token whose tags do not outlive a change of role: it says
	// nothing of transitive tags.
	passing bool
}

// token is one as our issuer mints it for a tenant.
func (k *checker) token(tenant string) webToken {
	c := k.Config
	return webToken{
		provider: c.ProviderARN(), id: c.ProviderID(), audience: c.Audience,
		subject: strings.TrimSuffix(SubjectPattern, "*") + tenant, tags: map[string]string{c.TagKey: tenant},
	}
}

// ours reports whether the token is of our issuer, whose tokens have the claims
// above and no others.
func (k *checker) ours(t webToken) bool { return t.provider == k.Config.ProviderARN() }

// registered reports whether STS takes a token of the provider for that audience
// at all. What nobody looked at is taken to be so.
func (k *checker) registered(provider, audience string) bool {
	if !strings.HasPrefix(provider, "arn:") || !strings.Contains(provider, ":oidc-provider/") {
		return true
	}
	if parts := strings.SplitN(provider, ":", 6); parts[4] != k.Config.Account {
		return false // STS looks the provider up in the role's account
	}
	if k.Providers == nil {
		return true
	}
	for _, p := range k.Providers {
		if p.ARN == provider {
			return audience == "" || slices.Contains(p.ClientIDs, audience)
		}
	}
	return false
}

// dropRequestTags takes the keys of a request that passes tags away.
func dropRequestTags(keys *policy.Context) {
	names, _ := keys.Values("aws:tagkeys")
	for _, name := range names {
		keys.Delete("aws:RequestTag/" + name)
	}
	keys.Delete("aws:TagKeys")
	keys.Delete("sts:TransitiveTagKeys")
}

// setRequestTags sets the keys of a request that passes tags.
func setRequestTags(keys *policy.Context, tags map[string]string) {
	if len(tags) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(tags))
	for _, name := range names {
		keys.Set("aws:RequestTag/"+name, tags[name])
	}
	keys.SetList("aws:TagKeys", names...)
}

// roleKeys sets the keys that the role itself gives a request to assume it.
func roleKeys(keys *policy.Context, r *Role) {
	for _, prefix := range []string{"aws:ResourceTag/", "iam:ResourceTag/"} {
		for _, name := range slices.Sorted(maps.Keys(r.Tags)) {
			keys.Set(prefix+name, r.Tags[name])
		}
	}
}

// showTag names the keys of a token that a witness shows.
func (k *checker) showToken(t webToken) map[string]string {
	names := map[string]string{}
	for _, key := range []string{"aws:RequestTag/" + k.Config.TagKey, t.id + ":aud", t.id + ":sub"} {
		names[foldKey(key)] = key
	}
	return names
}

// webAsks are what the trust policy must allow for a token: the call, and the
// tags if it carries any. Only the grant of the call is looked at alone.
func (k *checker) webAsks(r *Role, t webToken, grant *part, sessionName string) assuming {
	keys := policy.NewContext()
	keys.Set("aws:RequestedRegion", k.Config.Region)
	keys.Set("aws:PrincipalAccount", k.Config.Account)
	keys.Set("aws:PrincipalType", "User")
	keys.Set("aws:userid", t.provider)
	keys.Set("aws:ResourceAccount", k.Config.Account)
	keys.Set("aws:ViaAWSService", "false")
	keys.Set("aws:PrincipalIsAWSService", "false")
	call := "sts:AssumeRoleWithWebIdentity"
	if strings.Contains(t.provider, ":saml-provider/") {
		call = "sts:AssumeRoleWithSAML"
	}
	if k.ours(t) {
		keys.Set(t.id+":aud", t.audience)
		keys.Set(t.id+":oaud", t.audience)
		keys.Set(t.id+":sub", t.subject)
	}
	setRequestTags(keys, t.tags)
	if len(t.tags) > 0 && !t.passing {
		keys.SetList("sts:TransitiveTagKeys", slices.Sorted(maps.Keys(t.tags))...)
	}
	roleKeys(keys, r)
	if sessionName != "" {
		keys.Set("sts:RoleSessionName", sessionName)
	}
	who := policy.Principal{Kind: policy.WebIdentity, Account: k.Config.Account, Provider: t.provider}
	return k.assumeAsks(r, who, keys, layers{}, call, len(t.tags) > 0, grant, func(key string) bool {
		prefix := key[:strings.LastIndex(key, ":")]
		if prefix == "saml" || prefix == foldKey(t.id) {
			return !k.ours(t)
		}
		own := strings.HasPrefix(key, "aws:principal") && !strings.HasPrefix(key, "aws:principalorg")
		return prefix == "aws" && !own && !slices.Contains(ofThePrincipal, key)
	}, k.showToken(t), t.more || !k.ours(t))
}

// assuming are the requests that one call to assume a role comes down to, under
// the two readings of AWS.
type assuming struct {
	strict [][]*ask // each a way to do it: with a source identity or without
	// lenient has the passing of tags, and of a source identity, evaluated with the
	// keys of the call. The Service Authorization Reference lists none of them for
	// TagSession, nor tags for SetSourceIdentity, but it lacks the claims of OIDC
	// tokens as well, which are known to be there.
	lenient [][]*ask
}

func (a assuming) call() *ask { return a.strict[0][0] }

// openTagKeys is the point on which the readings of assuming differ.
const openTagKeys = "whether sts:TagSession and sts:SetSourceIdentity are evaluated with the condition keys of the call that they come with"

// tryAssuming searches both readings.
func (k *checker) tryAssuming(a assuming) answer {
	var first answer
	for i, asks := range a.strict {
		ans := k.search(asks...)
		if ans.allowed {
			return ans
		}
		if i == 0 || ans.gotIn() && !first.gotIn() {
			first = ans
		}
	}
	for _, asks := range a.lenient {
		if ans := k.search(asks...); ans.allowed {
			ans.allowed, ans.ambiguous = false, openTagKeys
			return ans
		}
	}
	return first
}

// assumeAsks are the call that assumes a role and, where tags are passed, their
// passing. Each action is evaluated over the whole trust policy. A caller who
// chooses may add tags and a source identity; the tenant's tag is as it is.
func (k *checker) assumeAsks(r *Role, who policy.Principal, keys *policy.Context, own layers, call string, tagged bool,
	grant *part, free func(string) bool, names map[string]string, chooses bool,
) assuming {
	own.resource, own.mustAllow, own.rcp = k.split(r.Trust), true, k.rcp
	one := func(action string, l layers, strict, sourced bool) *ask {
		keys := keys
		tagged := tagged
		if strict && action != call {
			keys = keys.Clone()
			keys.Delete("sts:RoleSessionName")
		}
		if strict && action == "sts:SetSourceIdentity" {
			tagged = false
			dropRequestTags(keys)
		}
		return &ask{
			request: policy.Request{Principal: who, Action: action, Resource: r.ARN, ResourceAccount: k.Config.Account},
			keys:    keys, names: names, layers: l, addsTags: chooses && tagged,
			free: func(key string) bool {
				if _, set := keys.Values(key); set {
					return false
				}
				switch {
				case strings.HasPrefix(key, "aws:requesttag/"):
					return chooses && tagged && key != "aws:requesttag/"+foldKey(k.Config.TagKey)
				case key == "sts:transitivetagkeys":
					return chooses && tagged
				case key == "sts:sourceidentity" && !sourced:
					return false
				case key == "aws:tagkeys", slices.Contains(servicesOnly, key),
					strings.HasPrefix(key, "aws:resourcetag/"), strings.HasPrefix(key, "iam:resourcetag/"):
					return false
				case strings.HasPrefix(key, "sts:"):
					return !strict || action == call || action == "sts:SetSourceIdentity" && key == "sts:sourceidentity"
				}
				return free(key)
			},
		}
	}
	reading := func(strict, sourced bool) []*ask {
		list := []*ask{one(call, own.only(grant), true, sourced)}
		if sourced {
			list = append(list, one("sts:SetSourceIdentity", own, strict, true))
		}
		if tagged {
			list = append(list, one("sts:TagSession", own, strict, sourced))
		}
		return list
	}
	sourced := chooses && k.letsPass(r, "sts:SetSourceIdentity")
	a := assuming{strict: [][]*ask{reading(true, false)}}
	if sourced {
		a.strict = append(a.strict, reading(true, true))
	}
	if tagged || sourced {
		a.lenient = [][]*ask{reading(false, sourced)}
	}
	return a
}

// trustGrants are the Allows of a role's trust policy.
func (k *checker) trustGrants(r *Role) []*part {
	return slices.DeleteFunc(slices.Clone(k.split(r.Trust)), func(p *part) bool { return !p.allows() })
}

// assume asks for a session by a token, over the whole trust policy.
func (k *checker) assume(r *Role, t webToken, sessionName string) answer {
	if !k.registered(t.provider, t.audience) {
		return answer{}
	}
	return k.tryAssuming(k.webAsks(r, t, nil, sessionName))
}

const defaultSessionName = "agent"

// sessionNameOf is the session's name that a search came to.
func sessionNameOf(a answer) string {
	if a.keys != nil {
		if v, ok := a.keys.Values("sts:RoleSessionName"); ok && len(v) == 1 && v[0] != "" {
			return v[0]
		}
	}
	return defaultSessionName
}

// entry looks for tokens that buy a session of the data role and must not, and
// returns the sessions that are to be had by tokens: those of each tenant, and
// those without a tenant's tag, whose reach is somebody's too.
func (k *checker) entry() []*caller {
	sessions := k.tenantSessions()
	sessions = append(sessions, k.untagged()...)
	sessions = append(sessions, k.illShaped()...)
	k.wrongAudience()
	k.wrongSubject()
	k.wrongIssuer()
	return sessions
}

// tenantSessions are the sessions that tenants get for their own tokens. The
// caller chooses the session's name, so names that documents mention are tried
// as well.
func (k *checker) tenantSessions() []*caller {
	var sessions []*caller
	for _, tenant := range k.tenants {
		t := k.token(tenant)
		for _, name := range append([]string{""}, k.sessionNames(k.data, t.tags)...) {
			ans := k.assume(k.data, t, name)
			if !ans.gotIn() {
				continue
			}
			called := fmt.Sprintf("the session of tenant %s in role %s", tenant, k.data.Name)
			if name != "" {
				called += ", named " + name
			}
			a := k.session(k.data, sessionNameOf(ans), called, t.tags)
			a.tenant = tenant
			k.byIssuer(a, t)
			a.loose = k.losesTag(k.data, t, name)
			sessions = append(sessions, a)
		}
	}
	return sessions
}

// losesTag reports whether a session is to be had as well by a token that does
// not mark its tag as transitive. Ours do; the claim is optional.
func (k *checker) losesTag(r *Role, t webToken, sessionName string) bool {
	t.passing = true
	return k.assume(r, t, sessionName).gotIn()
}

// admit tries a token against each grant of the data role's trust policy, and
// makes a finding of each that lets it in.
func (k *checker) admit(code Code, t webToken, title, fix string) []*caller {
	var sessions []*caller
	if !k.registered(t.provider, t.audience) {
		return nil
	}
	for _, grant := range k.trustGrants(k.data) {
		asks := k.webAsks(k.data, t, grant, "")
		ans := k.tryAssuming(asks)
		if !ans.gotIn() {
			continue
		}
		k.add(k.entryFinding(code, grant, asks.call(), ans, "the bearer of a web identity token", title, fix))
		if len(sessions) > 0 {
			continue
		}
		for _, name := range append([]string{""}, k.sessionNames(k.data, t.tags)...) {
			ans := k.assume(k.data, t, name)
			if !ans.gotIn() {
				continue
			}
			a := k.session(k.data, sessionNameOf(ans), fmt.Sprintf("a session of role %s %s", k.data.Name, sessionWords(code)), t.tags)
			k.byIssuer(a, t)
			sessions = append(sessions, a)
		}
	}
	return sessions
}

func sessionWords(code Code) string {
	if code == UntaggedSession {
		return "without a tenant tag"
	}
	return "with an ill-shaped tag"
}

func (k *checker) entryFinding(code Code, grant *part, a *ask, ans answer, who, title, fix string) Finding {
	f := Finding{
		Code: code, Title: title, Ambiguous: !ans.allowed,
		Witness:   Witness{Principal: who, Action: a.request.Action, Resource: a.request.Resource, Context: ans.context},
		DecidedBy: []Statement{grant.from}, Fix: fix,
	}
	if f.Ambiguous {
		f.Title += " under one reading of AWS, which leaves open " + ans.ambiguous
	}
	return f
}

// untagged tries tokens without a tenant tag: without any, and with another one.
func (k *checker) untagged() []*caller {
	fix := fmt.Sprintf(`Add {"Null": {"aws:RequestTag/%s": "false"}} to the statement; negated, IfExists and ForAllValues tests hold for a tag that is not there.`, k.Config.TagKey)
	var sessions []*caller
	for _, tags := range append([]map[string]string{nil}, k.otherTagsNamed()...) {
		title := "a token without tags buys a session of the data role"
		if tags != nil {
			title = "a token whose tags lack the tenant's buys a session of the data role"
		}
		var some []*caller
		for _, class := range k.classes(k.data) {
			t := k.token(class[0])
			t.tags, t.more = tags, true
			if got := k.admit(UntaggedSession, t, title, fix); some == nil {
				some = got
			}
		}
		sessions = append(sessions, some...)
	}
	return sessions
}

// otherTagsNamed are tags other than the tenant's: one that no document speaks of,
// and those of which the trust policy does, with the values that it tells apart.
func (k *checker) otherTagsNamed() []map[string]string {
	other := "team"
	if strings.EqualFold(other, k.Config.TagKey) {
		other = "squad"
	}
	list := []map[string]string{{other: "other"}}
	for _, key := range k.tagKeysNamed() {
		folded := "aws:requesttag/" + foldKey(key)
		for _, v := range k.valuesOf(folded, conditionsOn(k.split(k.data.Trust), folded), nil) {
			if !v.absent && isTagValue(v.vals[0]) {
				list = append(list, map[string]string{key: v.vals[0]})
			}
		}
	}
	return list
}

// tagKeysNamed are other tag keys that the trust policy speaks of.
func (k *checker) tagKeysNamed() []string {
	var keys []string
	add := func(key string) {
		if tagKeyForm.MatchString(key) && !strings.EqualFold(key, k.Config.TagKey) && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	for _, p := range k.split(k.data.Trust) {
		for _, c := range p.conditions {
			if name, ok := strings.CutPrefix(c.key, "aws:requesttag/"); ok {
				add(name)
			}
			if c.key == "aws:tagkeys" {
				for _, text := range c.Values {
					add(text)
				}
			}
		}
	}
	return keys
}

// tagAlphabet is what a session tag's value may be made of, kept to ASCII.
// Source: IAM User Guide, id_tags.
func tagAlphabet() policy.Alphabet {
	return policy.Alphabet{Max: 256, Allows: func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(" _.:/=+-@", r)
	}}
}

// shapeGlobs are the shapes of a tenant tag, and of what must not be in one.
func shapeGlobs() []policy.Glob {
	d := &policy.Document{Version: "2012-10-17"}
	var globs []policy.Glob
	for _, text := range append(tagShapes(), "*/*") {
		globs = append(globs, d.Globs(text, true, nil)...)
	}
	return globs
}

// wellShaped reports whether a tag's value is of a tenant's shape, as a trust
// policy can tell: a wallet's or an omni account's length, and no slash.
func wellShaped(tag string) bool {
	g := shapeGlobs()
	return (g[0].Matches(tag) || g[1].Matches(tag)) && !g[2].Matches(tag)
}

// illShaped tries tags that are empty, of another length, or have a slash inside.
// The reach of one that begins with a tenant's own folder is that folder's by its
// making; the reach of all others is looked at.
func (k *checker) illShaped() []*caller {
	var sessions []*caller
	victim := k.tenants[len(k.tenants)-1]
	prefer := []string{"", "0x", "someone", victim + "/inbox/" + strings.Repeat("a", max(0, 64-len(victim)-len("/inbox/"))), "0x/" + strings.Repeat("a", 39)}
	key := "aws:requesttag/" + foldKey(k.Config.TagKey)
	for _, subjectOf := range []func(string) string{
		func(string) string { return k.token(k.tenants[0]).subject },
		func(tag string) string { return k.token(tag).subject },
	} {
		globs := shapeGlobs()
		for _, c := range conditionsOn(k.split(k.data.Trust), key) {
			globs = append(globs, c.globs(nil)...)
		}
		for _, c := range conditionsOn(k.split(k.data.Trust), foldKey(k.Config.ProviderID()+":sub")) {
			for _, text := range c.Values { // a subject may be pinned to the tag
				if rest, ok := strings.CutPrefix(text, strings.TrimSuffix(SubjectPattern, "*")); ok {
					globs = append(globs, c.part.document.Globs(rest, strings.Contains(c.Operator, "Like"), nil)...)
				}
			}
		}
		for _, tag := range k.distinguish("tag value", "", globs, tagAlphabet(), prefer...) {
			if wellShaped(tag) {
				continue
			}
			t := k.token(tag)
			t.subject = subjectOf(tag)
			got := k.admit(IllShapedTag, t, fmt.Sprintf("a token whose tag is %q buys a session of the data role", tag),
				fmt.Sprintf(`Add {"StringLike": {"aws:RequestTag/%s": ["0x" and 40 "?", 64 "?"]}} to the statement, and deny "*/*".`, k.Config.TagKey))
			if !strings.Contains(tag, "/") {
				sessions = append(sessions, got...)
			}
		}
	}
	return sessions
}

func (k *checker) wrongAudience() {
	for _, class := range k.classes(k.data) {
		t := k.token(class[0])
		for _, audience := range k.audiences(k.data) {
			if audience == k.Config.Audience {
				continue
			}
			t.audience = audience
			k.admit(WrongAudience, t, fmt.Sprintf("a token for the audience %q buys a session of the data role", audience),
				fmt.Sprintf(`Test {"StringEquals": {"%s:aud": %q}} in the statement.`, t.id, k.Config.Audience))
		}
	}
}

// audiences are those for which our issuer's tokens may be: its client ids or,
// where nobody looked at them, what a role's trust policy tells apart.
func (k *checker) audiences(r *Role) []string {
	if k.Providers == nil {
		return k.claimValues(r, k.tenants[0], "aud", "another-client")
	}
	for _, p := range k.Providers {
		if p.ARN == k.Config.ProviderARN() {
			return p.ClientIDs
		}
	}
	return nil
}

func (k *checker) wrongSubject() {
	for _, class := range k.classes(k.data) {
		t := k.token(class[0])
		for _, subject := range k.wrongSubjects(k.data, class[0]) {
			t.subject = subject
			k.admit(WrongSubject, t, fmt.Sprintf("a token with the subject %q buys a session of the data role", subject),
				fmt.Sprintf(`Test {"StringLike": {"%s:sub": %q}} in the statement.`, t.id, SubjectPattern))
		}
	}
}

// wrongSubjects are those, of our issuer's tokens, that are no agent's.
func (k *checker) wrongSubjects(r *Role, tenant string) []string {
	return slices.DeleteFunc(k.claimValues(r, tenant, "sub", "agentkeys:service:indexer", "anonymous", ""), func(subject string) bool {
		return strings.HasPrefix(subject, strings.TrimSuffix(SubjectPattern, "*"))
	})
}

// claimValues are the values of a claim that a trust policy tells apart in a token
// with a tenant's tag.
func (k *checker) claimValues(r *Role, tenant, claim string, prefer ...string) []string {
	keys := policy.NewContext()
	setRequestTags(keys, k.token(tenant).tags)
	globs := (&policy.Document{Version: "2012-10-17"}).Globs(SubjectPattern, true, nil)
	for _, c := range conditionsOn(k.split(r.Trust), foldKey(k.Config.ProviderID()+":"+claim)) {
		globs = append(globs, c.globs(keys)...)
	}
	return k.distinguish("claim "+claim, "", globs, policy.Alphabet{Max: 255}, prefer...)
}

// builtIn are the identity providers that AWS knows without any being registered.
var builtIn = []string{"accounts.google.com", "graph.facebook.com", "www.amazon.com", "cognito-identity.amazonaws.com"}

// wrongIssuer tries tokens of every other identity provider that the trust policy
// names or, where it names all, that the account has.
func (k *checker) wrongIssuer() {
	var others []string
	add := func(name string) {
		if name != "*" && name != k.Config.ProviderARN() && !slices.Contains(others, name) {
			others = append(others, name)
		}
	}
	for _, p := range k.split(k.data.Trust) {
		for _, who := range []*policy.Principals{p.statement.Principal, p.statement.NotPrincipal} {
			if who != nil {
				for _, name := range who.Federated {
					add(name)
				}
			}
		}
	}
	for _, p := range k.Providers {
		add(p.ARN)
	}
	for _, name := range builtIn {
		add(name)
	}
	for _, name := range others {
		if !k.registered(name, "") {
			continue
		}
		id := name
		if _, rest, ok := strings.Cut(name, ":oidc-provider/"); ok {
			id = rest
		}
		k.admitOther(webToken{provider: name, id: id})
		for _, class := range k.classes(k.data) {
			k.admitOther(webToken{provider: name, id: id, tags: map[string]string{k.Config.TagKey: class[0]}})
		}
	}
}

// admitOther is admit for a token of another issuer.
func (k *checker) admitOther(t webToken) {
	for _, grant := range k.trustGrants(k.data) {
		asks := k.webAsks(k.data, t, grant, "")
		if ans := k.tryAssuming(asks); ans.gotIn() {
			k.add(k.entryFinding(WrongIssuer, grant, asks.call(), ans, "somebody with a token of "+t.provider,
				"a token of another issuer, "+t.provider+", buys a session of the data role",
				fmt.Sprintf("Name %s as the one Federated principal of the statement.", k.Config.ProviderARN())))
		}
	}
}
