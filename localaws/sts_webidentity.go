package localaws

import (
	"net/http"
	"slices"
	"strconv"

	"agentkeys/policy"
)

type xmlWebIdentity struct {
	SubjectFromWebIdentityToken string
	Audience                    string
	AssumedRoleUser             xmlAssumedRole
	Credentials                 xmlCredentials
	Provider                    string
	PackedPolicySize            int
	SourceIdentity              string `xml:",omitempty"`
}

// bareWebIdentity is what a web identity session takes of a session token
// before policies, tags and claims, in bytes; see packedSize.
const bareWebIdentity = 730

// assumeRoleWithWebIdentity exchanges a web identity token for a session. The
// call is unsigned: the token is all the proof there is. The checks run in the
// order in which AWS makes them, which decides what a caller is told.
func (c *call) assumeRoleWithWebIdentity() (any, *apiError) {
	a, e := c.readWebIdentity()
	if e != nil {
		return nil, e
	}
	token, e := parseToken(c.params["WebIdentityToken"])
	if e != nil {
		return nil, e
	}
	p, id, e := c.identify(a, token)
	if e != nil {
		return nil, e
	}
	c.asked, c.proven = a, id
	if e := a.setClaims(token.claims, id); e != nil {
		return nil, e
	}
	if e := c.authorizeWebIdentity(a, p, id); e != nil {
		return nil, e
	}
	if e := a.checkDuration(false); e != nil {
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
	return xmlWebIdentity{SubjectFromWebIdentityToken: id.subject, Audience: id.audience, AssumedRoleUser: who, Credentials: credentials,
		Provider: c.state.providerARN(p), PackedPolicySize: size, SourceIdentity: a.session.SourceIdentity}, nil
}

func (c *call) readWebIdentity() (*assumption, *apiError) {
	var v violations
	a, e := c.readAssumption(&v)
	if e != nil {
		return nil, e
	}
	v.text(c.params, "WebIdentityToken", true, 4, 20000, nil)
	v.text(c.params, "ProviderId", false, 4, 2048, nil)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	if e := a.checkRoleARN(); e != nil {
		return nil, e
	}
	if _, ok := c.params["ProviderId"]; ok { // of Login with Amazon and Facebook's opaque tokens
		return nil, invalidIdentityToken("ProviderId must not be passed with an OpenID Connect token.")
	}
	return a, nil
}

// identify finds the provider in the role's account and checks the token
// against it: claims and times, audience, and last the signature.
func (c *call) identify(a *assumption, token *webToken) (*provider, *webIdentity, *apiError) {
	iss, e := token.claims.issuer()
	if e != nil {
		return nil, nil, e
	}
	p := c.state.Providers[providerName(iss)]
	if p == nil || p.URL != iss || accountOf(a.roleARN) != c.state.Account {
		return nil, nil, invalidIdentityToken("No OpenIDConnect provider found in your account for " + clip(iss))
	}
	id, e := token.claims.identity(c.now)
	if e != nil {
		return nil, nil, e
	}
	if !slices.Contains(p.ClientIDs, id.audience) {
		return nil, nil, invalidIdentityToken("The web identity token provided could not be validated: Incorrect token audience")
	}
	key, err := c.server.issuers.key(c.request.Context(), p.URL, token, c.now)
	if err != nil {
		c.server.config.Log.Warn("localaws: no verification key", "issuer", p.URL, "error", err)
		return nil, nil, invalidIdentityToken("Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	if !token.verify(key) {
		return nil, nil, invalidIdentityToken("The web identity token provided could not be validated: its signature does not verify")
	}
	return p, id, nil
}

// setClaims takes over from the verified token what the session will carry.
func (a *assumption) setClaims(t claims, id *webIdentity) *apiError {
	tags, transitive, e := t.sessionTags()
	if e != nil {
		return e
	}
	source, e := t.sourceIdentity()
	if e != nil {
		return e
	}
	listed, e := t.allowsRole(a.roleARN)
	if e != nil {
		return e
	}
	a.passed = tags
	a.session.Tags, a.session.Transitive, a.session.SourceIdentity = tags, transitive, source
	a.session.Issuer, a.session.Audience, a.session.Subject, a.session.AMR = providerName(id.issuer), id.audience, id.subject, id.amr
	a.firstKeys["sts:RoleAuthorizedByIdp"] = strconv.FormatBool(listed)
	a.sources = bareWebIdentity + len(id.subject) + len(id.audience)
	for _, method := range id.amr {
		a.sources += len(method)
	}
	return nil
}

// authorizeWebIdentity asks the trust policy for each action by itself. A role
// that is not there and one that does not trust the token look the same.
func (c *call) authorizeWebIdentity(a *assumption, p *provider, id *webIdentity) *apiError {
	a.role = c.state.roleByARN(a.roleARN)
	if a.role == nil {
		return notAuthorized("sts:AssumeRoleWithWebIdentity")
	}
	arn := c.state.providerARN(p)
	var context policy.Context
	c.server.setRequestContext(&context, c.request)
	context.Set("aws:PrincipalAccount", c.state.Account)
	context.Set("aws:PrincipalType", "User")
	context.Set("aws:userid", arn)
	prefix := providerName(p.URL)
	context.Set(prefix+":aud", id.audience)
	if len(id.audiences) == 1 {
		context.Set(prefix+":oaud", id.audiences[0])
	} else {
		context.SetList(prefix+":oaud", id.audiences...)
	}
	context.Set(prefix+":sub", id.subject)
	if id.amr != nil {
		context.SetList(prefix+":amr", id.amr...)
	}
	if id.email != "" {
		context.Set(prefix+":email", id.email)
	}
	who := policy.Principal{Kind: policy.WebIdentity, Account: c.state.Account, Provider: arn}
	for _, action := range a.actions("sts:AssumeRoleWithWebIdentity") {
		d, e := c.trusted(a, action, who, policy.Set{}, &context)
		if e != nil {
			return e
		}
		if !d.Allowed {
			return notAuthorized(action)
		}
	}
	return nil
}

func notAuthorized(action string) *apiError {
	return refuse(http.StatusForbidden, "AccessDenied", "Not authorized to perform %s", action)
}
