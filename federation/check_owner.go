package federation

import (
	"fmt"
	"slices"
	"strings"

	"agentkeys/policy"
)

// ownerActions are what a tenant must be able to do at home.
var ownerActions = []string{"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"}

// owners looks whether tenants can use their own prefixes. A tenant whom somebody
// shut out by name is no fault of the set-up, so of each kind one tenant for whom
// everything works is enough. A kind that gets no session at all, where the other
// does, is not meant to: a deployment may have one kind alone. Of documents that could not
// be read nobody knows what they allow.
func (k *checker) owners(sessions []*caller) {
	if k.grantsUnread() {
		return
	}
	admitted := 0
	for _, kind := range []struct {
		name   string
		length int
	}{{"wallets", 42}, {"omni accounts", 64}} {
		of := slices.DeleteFunc(slices.Clone(sessions), func(s *caller) bool { return len(s.tenant) != kind.length })
		if len(of) == 0 {
			defer func() {
				if admitted > 0 {
					k.advise("%s get no session of the data role", kind.name)
				}
			}()
			continue
		}
		admitted++
		k.ownersOf(of)
	}
	if admitted == 0 {
		k.noSession()
	}
}

// grantsUnread reports whether a document that may grant tenants something could
// not be read: the bucket's policy, or one of the data role's.
func (k *checker) grantsUnread() bool {
	docs := append([]Document{k.Bucket, k.data.Trust}, k.data.Inline...)
	for _, arn := range k.data.Attached {
		if d, ok := k.Managed[arn]; ok {
			docs = append(docs, d)
		}
	}
	return slices.ContainsFunc(docs, func(d Document) bool { return d.Err != nil })
}

func (k *checker) ownersOf(sessions []*caller) {
	var fewest []missing
	for _, s := range sessions {
		lacks := k.lacks(s)
		if len(lacks) == 0 {
			return
		}
		if fewest == nil || len(lacks) < len(fewest) {
			fewest = lacks
		}
	}
	for _, m := range fewest {
		k.add(m.finding(k))
	}
}

// plainText is text that no policy could take for a pattern: what an owner does
// at home must not depend on the names it gives.
func plainText(longest int) policy.Alphabet {
	return policy.Alphabet{Max: longest, Allows: func(r rune) bool { return !strings.ContainsRune("*?$", r) }}
}

// missing is something that a tenant cannot do at home.
type missing struct {
	actor  *caller
	ask    *ask
	answer answer
}

// lacks lists what a tenant's session cannot do, whatever it chooses.
func (k *checker) lacks(s *caller) []missing {
	var list []missing
	d := k.directly(s)
	home := k.Config.TenantPrefix(s.tenant)
	for _, action := range ownerActions {
		if m, ok := k.ownerCan(s, d, action, home); !ok {
			list = append(list, m)
		}
	}
	return list
}

func (k *checker) ownerCan(s *caller, d *entrance, action, home string) (missing, bool) {
	var first missing
	try := func(asks []*ask) bool {
		ans := k.search(asks...)
		if first.ask == nil || ans.ambiguous != "" && first.answer.ambiguous == "" {
			first = missing{s, asks[0], ans}
		}
		return ans.allowed
	}
	parts := d.parts()
	if action == "s3:ListBucket" {
		for _, prefix := range k.distinguish("s3:prefix", home, prefixGlobs(s, parts), plainText(1024), "", "inbox/") {
			if try(k.asks(s, d, action, "", nil, (listingOf{prefix: &prefix}).keys(action))) {
				return missing{}, true
			}
			slash := "/"
			if try(k.asks(s, d, action, "", nil, (listingOf{prefix: &prefix, delimiter: &slash}).keys(action))) {
				return missing{}, true
			}
		}
		return first, false
	}
	plain := func(key string) bool { return !strings.ContainsAny(key[len(home):], "*?$") }
	for _, key := range k.objectsWithin(s, parts, d, home) {
		if !plain(key) {
			continue
		}
		if try(k.asks(s, d, action, key, nil, nil)) {
			return missing{}, true
		}
	}
	return first, false
}

func (m missing) finding(k *checker) Finding {
	f := Finding{
		Code:  OwnerLockedOut,
		Title: fmt.Sprintf("tenant %s is refused %s on its own prefix", m.actor.tenant, m.ask.request.Action),
		Witness: Witness{
			Principal: m.actor.name, Action: m.ask.request.Action, Resource: m.ask.request.Resource, Context: m.context(),
		},
		DecidedBy: []Statement{},
		Fix: fmt.Sprintf("Allow %s to the data role on %s/${aws:PrincipalTag/%s}/* (in the bucket policy, version 2012-10-17).",
			m.ask.request.Action, k.Config.Prefix, k.Config.TagKey),
	}
	if p := k.byName[m.answer.decision.Policy]; p != nil && m.answer.decision.Explicit {
		f.DecidedBy = append(f.DecidedBy, p.from)
		f.Fix = fmt.Sprintf("Let the Deny spare a tenant's own prefix: %s.", p.from)
	} else if layer := m.answer.decision.Layer; layer != "" {
		f.Title += ", as no " + layerWords[layer] + " allows it"
	}
	if m.answer.ambiguous != "" {
		f.Ambiguous = true
		f.Title += " under one reading of AWS, which leaves open " + m.answer.ambiguous
	}
	return f
}

// layerWords call the layers as the words of a report do.
var layerWords = map[policy.Layer]string{
	policy.IdentityLayer: "policy of the bucket or the role", policy.ResourceLayer: "bucket policy",
	policy.BoundaryLayer: "permissions boundary", policy.SessionLayer: "session policy",
	policy.ServiceControlLayer: "service control policy", policy.ResourceControlLayer: "resource control policy",
}

func (m missing) context() map[string][]string {
	out := map[string][]string{}
	for key, name := range m.ask.names {
		if v, ok := m.ask.keys.Values(key); ok {
			out[name] = v
		}
	}
	for _, name := range []string{"s3:prefix", "s3:delimiter"} {
		if v, ok := m.ask.keys.Values(name); ok {
			out[name] = v
		}
	}
	return out
}

// noSession says why no tenant gets a session at all.
func (k *checker) noSession() {
	t := k.token(k.tenants[0])
	f := Finding{
		Code: OwnerLockedOut, DecidedBy: []Statement{},
		Witness: Witness{Principal: "tenant " + k.tenants[0] + " with its own token", Action: "sts:AssumeRoleWithWebIdentity", Resource: k.data.ARN},
	}
	asks := k.webAsks(k.data, t, nil, "")
	f.Witness.Context = missing{ask: asks.call()}.context()
	switch {
	case !k.registered(t.provider, ""):
		f.Title = "no tenant gets a session: " + t.provider + " is not registered in the account"
		f.Fix = "Register the issuer as an OIDC provider of the account."
	case !k.registered(t.provider, t.audience):
		f.Title = fmt.Sprintf("no tenant gets a session: the provider does not list the client id %q", t.audience)
		f.Fix = "Add the audience to the provider's client ids."
	default:
		for _, a := range asks.strict[0] {
			ans := k.search(a)
			if ans.allowed {
				continue
			}
			action := a.request.Action
			f.Witness.Action = action
			f.Title = "no tenant gets a session: the trust policy does not allow " + strings.TrimPrefix(action, "sts:")
			f.Fix = fmt.Sprintf("Allow %s to %s in the trust policy of role %s.", action, t.provider, k.data.Name)
			if p := k.byName[ans.decision.Policy]; p != nil && ans.decision.Explicit {
				f.Title = "no tenant gets a session: the trust policy denies " + strings.TrimPrefix(action, "sts:")
				f.DecidedBy = append(f.DecidedBy, p.from)
			}
			f.Ambiguous = ans.ambiguous != ""
			break
		}
	}
	k.add(f)
}
