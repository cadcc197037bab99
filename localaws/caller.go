package localaws

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"agentkeys/policy"
)

// caller is who makes a request, with every policy of theirs that applies and
// the condition keys that follow from who they are and how they called.
type caller struct {
	principal policy.Principal
	policies  policy.Set // Identity, Boundary and Session; the resource side is the service's to add
	context   policy.Context
	userID    string   // aws:userid
	user      *user    // nil for a session
	session   *session // nil for a user
}

// callerFor builds the caller of a verified request from the IAM state as it
// is at this moment, so that a change of policy acts at once.
func (s *Server) callerFor(sig signature, r *http.Request) (*caller, *apiError) {
	return s.callerIn(s.state.snapshot(), sig, r)
}

func (s *Server) callerIn(st *snapshot, sig signature, r *http.Request) (*caller, *apiError) {
	c := new(caller)
	s.setRequestContext(&c.context, r)
	if sig.anonymous {
		return c, nil
	}
	if key := st.Keys[sig.accessKeyID]; key != nil {
		u := st.userByID(key.UserID)
		if u == nil || !key.Active {
			return nil, unknownAccessKey()
		}
		return c, s.fillUser(st, c, u)
	}
	v, ok := s.sealer.open(sig.accessKeyID, sessionTokenOf(r))
	if !ok {
		return nil, unknownAccessKey()
	}
	if !s.now().Before(v.expires()) {
		return nil, expiredSession()
	}
	r2 := st.roleByID(v.RoleID)
	if r2 == nil { // a role deleted since takes its sessions with it
		return nil, unknownAccessKey()
	}
	return c, s.fillSession(st, c, r2, v)
}

func unknownAccessKey() *apiError {
	return refuse(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
}

func expiredSession() *apiError {
	return refuse(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired")
}

// sessionTokenOf is the session token as it came, in a header or, presigned, in the query.
func sessionTokenOf(r *http.Request) string {
	if token := r.Header.Get("X-Amz-Security-Token"); token != "" {
		return token
	}
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return ""
	}
	for _, p := range query {
		if p.name == "X-Amz-Security-Token" {
			return p.value
		}
	}
	return ""
}

// setRequestContext sets the global keys that depend on the request alone.
func (s *Server) setRequestContext(c *policy.Context, r *http.Request) {
	now := s.now()
	c.SetTime("aws:CurrentTime", now)
	c.Set("aws:EpochTime", strconv.FormatInt(now.Unix(), 10))
	c.Set("aws:SecureTransport", strconv.FormatBool(r.TLS != nil))
	c.Set("aws:RequestedRegion", s.config.Region)
	c.Set("aws:ViaAWSService", "false")
	c.Set("aws:PrincipalIsAWSService", "false")
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		c.Set("aws:SourceIp", host)
	}
	if agent := r.UserAgent(); agent != "" {
		c.Set("aws:UserAgent", agent)
	}
	if referer := r.Referer(); referer != "" {
		c.Set("aws:Referer", referer)
	}
}

func (s *Server) fillUser(st *snapshot, c *caller, u *user) *apiError {
	c.user, c.userID = u, u.ID
	c.principal = policy.Principal{Kind: policy.User, Account: st.Account, ARN: st.userARN(u), ID: u.ID}
	c.context.Set("aws:PrincipalArn", c.principal.ARN)
	c.context.Set("aws:PrincipalAccount", st.Account)
	c.context.Set("aws:PrincipalType", "User")
	c.context.Set("aws:userid", u.ID)
	c.context.Set("aws:username", u.Name)
	setTags(&c.context, "aws:PrincipalTag/", u.Tags)
	identity, err := st.policiesOf(&u.entity, "user "+u.Name)
	for _, g := range st.groupsOf(u) {
		if err == nil {
			var more []*policy.Policy
			more, err = st.policiesOf(&g.entity, "group "+g.Name)
			identity = append(identity, more...)
		}
	}
	c.policies.Identity = identity
	if err == nil {
		c.policies.Boundary, err = st.boundaryOf(&u.entity)
	}
	return s.fault("policies of user "+u.Name, err)
}

func (s *Server) fillSession(st *snapshot, c *caller, r *role, v *session) *apiError {
	c.session, c.userID = v, r.ID+":"+v.Name
	c.principal = policy.Principal{Kind: policy.RoleSession, Account: st.Account, ARN: st.sessionARN(r, v.Name),
		Issuer: st.roleARN(r), ID: r.ID, SessionID: c.userID}
	c.context.Set("aws:PrincipalArn", c.principal.Issuer)
	c.context.Set("aws:PrincipalAccount", st.Account)
	c.context.Set("aws:PrincipalType", "AssumedRole")
	c.context.Set("aws:userid", c.userID)
	c.context.SetTime("aws:TokenIssueTime", timeOf(v.Issued))
	c.context.Set("aws:MultiFactorAuthPresent", "false")
	if v.SourceIdentity != "" {
		c.context.Set("aws:SourceIdentity", v.SourceIdentity)
	}
	if v.Issuer != "" {
		c.context.Set("aws:FederatedProvider", st.arn("oidc-provider", "/", v.Issuer))
		c.context.Set(v.Issuer+":aud", v.Audience)
		c.context.Set(v.Issuer+":sub", v.Subject)
		if v.AMR != nil {
			c.context.SetList(v.Issuer+":amr", v.AMR...)
		}
	}
	setTags(&c.context, "aws:PrincipalTag/", mergeTags(r.Tags, v.Tags))
	return s.fillSessionPolicies(st, c, r, v)
}

func (s *Server) fillSessionPolicies(st *snapshot, c *caller, r *role, v *session) *apiError {
	var err error
	if c.policies.Identity, err = st.policiesOf(&r.entity, "role "+r.Name); err != nil {
		return s.fault("policies of role "+r.Name, err)
	}
	if c.policies.Boundary, err = st.boundaryOf(&r.entity); err != nil {
		return s.fault("boundary of role "+r.Name, err)
	}
	if !v.restricted() {
		return nil
	}
	if c.policies.Session, err = st.managedPolicies(v.PolicyARNs); err != nil {
		return s.fault("session policies", err)
	}
	if v.Policy != "" {
		// Not kept with the snapshot: a caller could fill memory with these.
		p, err := compileOnce("session policy", v.Policy)
		if err != nil {
			return s.fault("session policy", err)
		}
		c.policies.Session = append(c.policies.Session, p)
	}
	return nil
}

func compileOnce(name, text string) (*policy.Policy, error) {
	d, err := policy.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	return policy.Compile(name, d)
}

// fault logs an error of our own and words it for the caller; nil for nil.
func (s *Server) fault(what string, err error) *apiError {
	if err == nil {
		return nil
	}
	s.config.Log.Error("localaws: "+what, "error", err)
	return internalFailure()
}

func setTags(c *policy.Context, prefix string, tags []tag) {
	for _, t := range tags {
		c.Set(prefix+t.Key, t.Value)
	}
}

// mergeTags lays over the base tags those that win; keys that differ by case
// alone are one key.
func mergeTags(base, over []tag) []tag {
	merged := append([]tag(nil), over...)
	for _, t := range base {
		if !hasTag(over, t.Key) {
			merged = append(merged, t)
		}
	}
	return merged
}

func hasTag(tags []tag, key string) bool {
	for _, t := range tags {
		if strings.EqualFold(t.Key, key) {
			return true
		}
	}
	return false
}

// lookupKey finds the secret behind an access key id. Session credentials need
// their session token as well, and a role that still exists.
func (s *Server) lookupKey(accessKeyID, sessionToken string) (signingKey, *apiError) {
	st := s.state.snapshot()
	if key := st.Keys[accessKeyID]; key != nil {
		if !key.Active {
			return signingKey{}, unknownAccessKey()
		}
		return signingKey{secret: key.Secret}, nil
	}
	v, ok := s.sealer.open(accessKeyID, sessionToken)
	if !ok || st.roleByID(v.RoleID) == nil {
		return signingKey{}, unknownAccessKey()
	}
	return signingKey{secret: v.Secret, token: sessionToken, expires: v.expires()}, nil
}

// principalID maps a user or role ARN in a policy to its unique id, and the ARN
// of a role session to the role's unique id and the session's name. An
// account's root and its twelve digits stand for themselves. Principals of
// other accounts are not known here, apart from the account as a whole.
func (s *Server) principalID(arn string) (id string, ok bool) {
	return s.state.snapshot().principalID(arn)
}

// principalARN maps a unique id back to its ARN as it is now; what is no
// unique id stands for itself. A unique id whose principal is gone is not ok.
func (s *Server) principalARN(id string) (arn string, ok bool) {
	return s.state.snapshot().principalARN(id)
}

func (s *state) principalID(arn string) (string, bool) {
	if isAccountID(arn) {
		return arn, true
	}
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[1] != "aws" || parts[3] != "" || !isAccountID(parts[4]) {
		_, known := s.principalARN(arn)
		return arn, known && isUniqueID(arn)
	}
	kind, rest, _ := strings.Cut(parts[5], "/")
	switch {
	case parts[2] == "iam" && parts[5] == "root":
		return arn, true
	case parts[4] != s.Account:
		return "", false
	case parts[2] == "iam" && kind == "role":
		if r := s.roleByARN(arn); r != nil {
			return r.ID, true
		}
	case parts[2] == "iam" && kind == "user":
		if u := s.userByARN(arn); u != nil {
			return u.ID, true
		}
	case parts[2] == "sts" && kind == "assumed-role":
		roleName, sessionName, ok := strings.Cut(rest, "/")
		if r := s.Roles[strings.ToLower(roleName)]; ok && r != nil && s.sessionARN(r, sessionName) == arn && isSessionName(sessionName) {
			return r.ID + ":" + sessionName, true
		}
	}
	return "", false
}

func (s *state) principalARN(id string) (string, bool) {
	if roleID, sessionName, ok := strings.Cut(id, ":"); ok && isUniqueID(roleID) {
		if r := s.roleByID(roleID); r != nil {
			return s.sessionARN(r, sessionName), true
		}
		return "", false
	}
	if !isUniqueID(id) {
		return id, true
	}
	if r := s.roleByID(id); r != nil {
		return s.roleARN(r), true
	}
	if u := s.userByID(id); u != nil {
		return s.userARN(u), true
	}
	return "", false
}

// isUniqueID tells a role's or user's unique id by its shape.
func isUniqueID(id string) bool {
	if len(id) != 21 || !strings.HasPrefix(id, "AROA") && !strings.HasPrefix(id, "AIDA") {
		return false
	}
	return strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

func isAccountID(id string) bool {
	return len(id) == 12 && strings.Trim(id, "0123456789") == ""
}

func isSessionName(name string) bool {
	return len(name) >= 2 && len(name) <= 64 && namePattern.re.MatchString(name)
}
