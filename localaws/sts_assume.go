package localaws

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"agentkeys/policy"
)

type xmlAssumeRole struct {
	Credentials      xmlCredentials
	AssumedRoleUser  xmlAssumedRole
	PackedPolicySize int    `xml:",omitempty"`
	SourceIdentity   string `xml:",omitempty"`
}

// assumeRole gives a user or a role session a session of another role. The
// role's trust policy must allow it; the caller's own policies must too unless
// the trust policy names the caller itself.
func (c *call) assumeRole() (any, *apiError) {
	a, e := c.readAssumeRole()
	c.asked = a
	if e != nil {
		return nil, e
	}
	if e := c.authorizeAssumeRole(a); e != nil {
		return nil, e
	}
	if e := a.checkDuration(c.caller.session != nil); e != nil {
		return nil, e
	}
	if e := c.checkSessionPolicies(a); e != nil {
		return nil, e
	}
	size, e := a.checkPackedSize()
	if e != nil {
		return nil, e
	}
	credentials, who, e := c.issue(a)
	if e != nil {
		return nil, e
	}
	return xmlAssumeRole{Credentials: credentials, AssumedRoleUser: who, PackedPolicySize: size, SourceIdentity: a.session.SourceIdentity}, nil
}

// readAssumeRole reads the request and adds what a chained session inherits.
func (c *call) readAssumeRole() (*assumption, *apiError) {
	var v violations
	a, e := c.readAssumption(&v)
	if e != nil {
		return nil, e
	}
	if a.passed, e = c.params.tags("Tags"); e != nil {
		return nil, e
	}
	transitive, e := c.params.list("TransitiveTagKeys")
	if e != nil {
		return nil, e
	}
	v.text(c.params, "ExternalId", false, 2, 1224, externalPattern)
	v.text(c.params, "SourceIdentity", false, 2, 64, namePattern)
	for i, key := range transitive {
		v.value(key, fmt.Sprintf("transitiveTagKeys.%d.member", i+1), 1, 128, tagKeyPattern)
	}
	if e := v.refusal(); e != nil {
		return nil, e
	}
	if e := a.checkRoleARN(); e != nil {
		return nil, e
	}
	for name := range c.params {
		if strings.HasPrefix(name, "ProvidedContexts.member.") {
			return nil, refuse(http.StatusBadRequest, "ValidationError", "ProvidedContexts are not supported here.")
		}
	}
	if c.params["SerialNumber"] != "" || c.params["TokenCode"] != "" {
		return nil, refuse(http.StatusForbidden, "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.")
	}
	return a, c.setSessionTags(a, transitive)
}

// setSessionTags checks the passed tags and adds the inherited ones. A key that
// was inherited cannot be passed again, whatever its case or value.
func (c *call) setSessionTags(a *assumption, transitive []string) *apiError {
	if e := checkTags(a.passed, "tags"); e != nil {
		return e
	}
	if len(transitive) > maxTags {
		return violation(fmt.Sprintf("Value at 'transitiveTagKeys' failed to satisfy constraint: Member must have length less than or equal to %d", maxTags))
	}
	for i, key := range transitive {
		if !hasTag(a.passed, key) || containsFold(transitive[:i], key) {
			return refuse(http.StatusBadRequest, "InvalidParameterValue", "The transitive tag key %s must name one of the passed tags, once.", clip(key))
		}
	}
	a.session.Tags, a.session.Transitive = slices.Clone(a.passed), transitive
	a.session.SourceIdentity = c.params["SourceIdentity"]
	from := c.caller.session
	if from == nil {
		return nil
	}
	for _, t := range from.Tags {
		if !containsFold(from.Transitive, t.Key) {
			continue
		}
		if hasTag(a.passed, t.Key) {
			return refuse(http.StatusBadRequest, "InvalidParameterValue", "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
		}
		a.session.Tags = append(a.session.Tags, t)
		a.session.Transitive = append(a.session.Transitive, t.Key)
	}
	if len(a.session.Tags) > maxTags {
		return violation(fmt.Sprintf("Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to %d, inherited tags included", maxTags))
	}
	return nil
}

// authorizeAssumeRole asks for each action that the request needs. A role that
// is not there and one that does not trust the caller look the same.
func (c *call) authorizeAssumeRole(a *assumption) *apiError {
	who := c.caller.principal
	a.role = c.state.roleByARN(a.roleARN)
	if a.role == nil {
		return accessDenied(who, "sts:AssumeRole", clip(a.roleARN), policy.Decision{})
	}
	if from := c.caller.session; from != nil && from.SourceIdentity != "" {
		if a.session.SourceIdentity != "" && a.session.SourceIdentity != from.SourceIdentity {
			return accessDenied(who, "sts:SetSourceIdentity", a.roleARN, policy.Decision{})
		}
		a.session.SourceIdentity = from.SourceIdentity
	}
	if id := c.params["ExternalId"]; id != "" {
		a.firstKeys["sts:ExternalId"] = id
	}
	for _, action := range a.actions("sts:AssumeRole") {
		d, e := c.trusted(a, action, who, c.caller.policies, &c.caller.context)
		if e != nil {
			return e
		}
		if !d.Allowed {
			if d.Layer == policy.ResourceLayer { // a trust policy is not told about
				d = policy.Decision{}
			}
			return accessDenied(who, action, a.roleARN, d)
		}
	}
	return nil
}

func containsFold(keys []string, key string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) })
}
