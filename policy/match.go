package policy

import "strings"

// element is a part of a statement that may fail to match.
type element uint8

const (
	elementNone element = iota
	elementPrincipal
	elementAction
	elementResource
	elementCondition
)

// outcome is what became of one statement. It holds no text, so that deciding
// costs nothing that only an explanation needs.
type outcome struct {
	verdict   verdict
	grant     grant   // for a resource policy's Allow
	failed    element // the first that did not match, or the one that is unsettled
	condition int     // index, for elementCondition
	why       string  // the unsettled point, for a verdict of maybe or a grant of everyone
}

// matched reports what the strict reading makes of the outcome.
func (o *outcome) matched(effect Effect) bool {
	return o.verdict == yes || o.verdict == maybe && effect == Deny
}

// merge takes the verdict of one more element into account and reports whether
// the statement can still match.
func (o *outcome) merge(v verdict, at element, condition int, why string) bool {
	if v < o.verdict {
		*o = outcome{verdict: v, grant: o.grant, failed: at, condition: condition, why: why}
		if v == no {
			o.why = ""
		}
	}
	return o.verdict != no
}

// match holds the statement against a request: principal, action, resource and
// conditions, in that order, up to the first that fails.
func (st *statement) match(r *Request, s *Set, layer Layer) outcome {
	o := outcome{verdict: yes}
	v, g, why := st.matchPrincipals(r, s, layer)
	o.grant = g
	if v == yes {
		o.why = why
	}
	if !o.merge(v, elementPrincipal, 0, why) {
		return o
	}
	if !o.merge(verdictOf(st.matchAction(r.Action)), elementAction, 0, "") {
		return o
	}
	v, why = st.matchResources(r, s, layer)
	if !o.merge(v, elementResource, 0, why) {
		return o
	}
	for i := range st.conditions {
		v, why = st.conditions[i].match(r.Context)
		if !o.merge(v, elementCondition, i, why) {
			return o
		}
	}
	return o
}

// matchPrincipals decides Principal and NotPrincipal. A resource policy's Allow
// must name somebody; in a policy of the caller neither element has a place, so
// an Allow with one of them matches nobody and a Deny matches everybody.
func (st *statement) matchPrincipals(r *Request, s *Set, layer Layer) (verdict, grant, string) {
	absent := st.principal == nil && st.notPrincipal == nil
	switch layer {
	case ResourceLayer:
		if absent {
			return verdictOf(st.effect == Deny), noGrant, ""
		}
	case ServiceControlLayer, ResourceControlLayer:
		if absent {
			return yes, noGrant, ""
		}
	default:
		return verdictOf(absent || st.effect == Deny), noGrant, ""
	}
	if st.principal != nil {
		return matchPrincipal(st.principal, &r.Principal, st.effect)
	}
	if st.effect == Deny && s.Boundary != nil { // always denies a caller with a boundary
		return yes, noGrant, ""
	}
	return matchNotPrincipal(st.notPrincipal, &r.Principal, st.effect)
}

func (st *statement) matchAction(action string) bool {
	for _, p := range st.action {
		if matchFold(p, action) {
			return true
		}
	}
	if st.notAction == nil {
		return false
	}
	for _, p := range st.notAction {
		if matchFold(p, action) {
			return false
		}
	}
	return true
}

// whyNotResource names the point that an unresolved variable in NotResource
// leaves open: AWS says of the element that it "will not match any resource".
const whyNotResource = "what NotResource means with a policy variable that has no value"

// matchResources decides Resource and NotResource. Only a trust policy has
// neither; elsewhere an Allow without them matches nothing and a Deny all.
func (st *statement) matchResources(r *Request, s *Set, layer Layer) (verdict, string) {
	switch {
	case st.resource != nil:
		return st.matchResource(st.resource, r)
	case st.notResource == nil:
		return verdictOf(st.effect == Deny || layer == ResourceLayer && s.ResourceMustAllow), ""
	}
	v, why := st.matchResource(st.notResource, r)
	if v == no {
		for i := range st.notResource {
			if st.notResource[i].whole.unresolvedIn(r.Context) {
				return maybe, whyNotResource
			}
		}
	}
	return v.not(), why
}

func (st *statement) matchResource(list []arnPattern, r *Request) (v verdict, why string) {
	for i := range list {
		if one := list[i].matchResource(r.Resource, r.Context); one > v {
			if v, why = one, list[i].why(); v == yes {
				return v, ""
			}
		}
	}
	return v, why
}

// isGetCallerIdentity reports whether the request is the one call that no
// policy can refuse to a caller with credentials.
func (r *Request) isGetCallerIdentity() bool {
	return r.Principal.inAccount() && strings.EqualFold(r.Action, "sts:GetCallerIdentity")
}
