package localaws

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"agentkeys/policy"
)

// stsOperations are the calls of STS that there are.
var stsOperations = map[string]operation{
	"AssumeRole":                {free: true, run: (*call).assumeRole},
	"AssumeRoleWithWebIdentity": {unsigned: true, run: (*call).assumeRoleWithWebIdentity},
	"GetCallerIdentity":         {free: true, run: (*call).getCallerIdentity},
	"GetFederationToken":        {free: true, run: (*call).userSession},
	"GetSessionToken":           {free: true, run: (*call).userSession},
}

// Limits of sessions.
const (
	minSessionSeconds   = 900
	maxSessionSeconds   = 43200
	maxChainedSeconds   = 3600
	maxSessionPolicies  = 10
	maxInlinePolicy     = 2048 // characters
	maxTags             = 50
	sessionTokenAllowed = 4096 // bytes, what PackedPolicySize is a percentage of
)

type xmlCredentials struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

type xmlAssumedRole struct {
	AssumedRoleID string `xml:"AssumedRoleId"`
	Arn           string
}

type xmlCallerIdentity struct {
	Arn     string
	UserID  string `xml:"UserId"`
	Account string
}

// getCallerIdentity needs no permission, not even in spite of a deny.
func (c *call) getCallerIdentity() (any, *apiError) {
	return xmlCallerIdentity{Arn: c.caller.principal.ARN, UserID: c.caller.userID, Account: c.caller.principal.Account}, nil
}

// userSession answers the calls that make a session of a user, which is not
// done here. To session credentials they are refused by STS itself.
func (c *call) userSession() (any, *apiError) {
	if c.caller.session != nil {
		return nil, refuse(http.StatusForbidden, "AccessDenied", "Cannot call %s with session credentials", c.action)
	}
	return nil, noSuchOperation(c.action, stsVersion)
}

// assumption is what every way to assume a role has in common: what was asked
// for and, as it is found out, what the session will hold.
type assumption struct {
	roleARN  string
	name     string
	duration int // seconds
	role     *role
	session  session
	passed   []tag // of this request; session.Tags has the inherited ones too
	sources  int   // bytes besides policies and tags that count for the packed size
	// firstKeys are the condition keys of the assuming action alone, such as sts:ExternalId.
	firstKeys map[string]string
}

// readAssumption reads the parameters that both AssumeRole calls share.
func (c *call) readAssumption(v *violations) (*assumption, *apiError) {
	p := c.params
	a := &assumption{roleARN: p["RoleArn"], name: p["RoleSessionName"], firstKeys: map[string]string{}}
	var e *apiError
	if a.duration, e = p.integer("DurationSeconds", 3600); e != nil {
		return nil, e
	}
	if a.session.PolicyARNs, e = p.policyARNs(); e != nil {
		return nil, e
	}
	v.text(p, "RoleArn", true, 20, 2048, nil)
	v.text(p, "RoleSessionName", true, 2, 64, namePattern)
	v.text(p, "Policy", false, 1, maxInlinePolicy, documentPattern)
	v.number(a.duration, "durationSeconds", minSessionSeconds, maxSessionSeconds)
	if n := len(a.session.PolicyARNs); n > maxSessionPolicies {
		v.add(fmt.Sprint(n), "policyArns", fmt.Sprintf("Member must have length less than or equal to %d", maxSessionPolicies))
	}
	for i, arn := range a.session.PolicyARNs {
		v.value(arn, fmt.Sprintf("policyArns.%d.member.arn", i+1), 20, 2048, nil)
	}
	a.session.Name, a.session.Policy = a.name, p["Policy"]
	return a, nil
}

// checkRoleARN refuses what is no role's ARN, once the plain constraints hold.
func (a *assumption) checkRoleARN() *apiError {
	name, ok := strings.CutPrefix(a.roleARN, "arn:aws:iam::"+accountOf(a.roleARN)+":role/")
	if !ok || name == "" || !isAccountID(accountOf(a.roleARN)) {
		return refuse(http.StatusBadRequest, "ValidationError", "%s is invalid", clip(a.roleARN))
	}
	return nil
}

func (p params) policyARNs() ([]string, *apiError) {
	indexes, e := p.indexes("PolicyArns", ".")
	if e != nil {
		return nil, e
	}
	var arns []string
	for _, n := range indexes {
		arn, ok := p[fmt.Sprintf("PolicyArns.member.%d.arn", n)]
		if !ok {
			return nil, violation(fmt.Sprintf("Value null at 'policyArns.%d.member.arn' failed to satisfy constraint: Member must not be null", n))
		}
		arns = append(arns, arn)
	}
	return arns, nil
}

// trusted evaluates one action of the assumption over the role's whole trust
// policy, together with what the caller's own policies say of it.
func (c *call) trusted(a *assumption, action string, who policy.Principal, own policy.Set, base *policy.Context) (policy.Decision, *apiError) {
	trust, err := c.state.compile("role "+a.role.Name+", trust policy", a.role.Trust)
	if err != nil {
		return policy.Decision{}, c.server.fault("trust policy of role "+a.role.Name, err)
	}
	own.Resource, own.ResourceMustAllow = []*policy.Policy{trust}, true
	return policy.Evaluate(&policy.Request{Principal: who, Action: action, Resource: a.roleARN,
		ResourceAccount: c.state.Account, Context: a.trustContext(base, action)}, &own), nil
}

// actions are what must be allowed, each for itself: tags need TagSession, and
// a source identity SetSourceIdentity, whether passed now or inherited.
func (a *assumption) actions(first string) []string {
	actions := []string{first}
	if len(a.session.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if a.session.SourceIdentity != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	return actions
}

// trustContext adds to base the keys that a trust policy may test for one
// action. Each action has its own: TagSession knows nothing of the session's
// name, nor SetSourceIdentity of tags. Inherited tags are not part of the
// request; they stand in for the role's own tags instead.
// Source: Service Authorization Reference, AWS STS.
func (a *assumption) trustContext(base *policy.Context, action string) *policy.Context {
	c := base.Clone()
	if action != "sts:SetSourceIdentity" {
		a.setTagContext(c)
	}
	if action != "sts:TagSession" && a.session.SourceIdentity != "" {
		c.Set("sts:SourceIdentity", a.session.SourceIdentity)
	}
	if action == "sts:AssumeRole" || action == "sts:AssumeRoleWithWebIdentity" {
		c.Set("sts:RoleSessionName", a.name)
		for key, value := range a.firstKeys {
			c.Set(key, value)
		}
	}
	inherited := slices.DeleteFunc(slices.Clone(a.session.Tags), func(t tag) bool { return hasTag(a.passed, t.Key) })
	tags := mergeTags(a.role.Tags, inherited)
	setTags(c, "aws:ResourceTag/", tags)
	setTags(c, "iam:ResourceTag/", tags)
	c.Set("aws:ResourceAccount", accountOf(a.roleARN))
	return c
}

func (a *assumption) setTagContext(c *policy.Context) {
	var keys, transitive []string
	for _, t := range a.passed {
		keys = append(keys, t.Key)
		if containsFold(a.session.Transitive, t.Key) {
			transitive = append(transitive, t.Key)
		}
	}
	setTags(c, "aws:RequestTag/", a.passed)
	if keys != nil {
		c.SetList("aws:TagKeys", keys...)
	}
	if transitive != nil {
		c.SetList("sts:TransitiveTagKeys", transitive...)
	}
}

// checkDuration holds the session to the role's maximum, and a chained one to
// an hour.
func (a *assumption) checkDuration(chained bool) *apiError {
	if chained && a.duration > maxChainedSeconds {
		return refuse(http.StatusBadRequest, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	if a.duration > a.role.MaxSession {
		return refuse(http.StatusBadRequest, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return nil
}

// checkSessionPolicies refuses session policies that do not parse or do not exist.
func (c *call) checkSessionPolicies(a *assumption) *apiError {
	if a.session.Policy != "" {
		if e := checkDocument(a.session.Policy, policy.SessionPolicy); e != nil {
			return e
		}
	}
	for _, arn := range a.session.PolicyARNs {
		if _, ok := c.state.policyText(arn); !ok {
			return malformedDocument("The policy %s does not exist or is not attachable.", clip(arn))
		}
	}
	return nil
}

// packedSize estimates the share of a session token that policies, tags and
// claims take, in percent. AWS's packing is not public; this follows recorded
// sizes of it: 24 to 26 for a bare web identity, 34 with 300 more characters.
func (a *assumption) packedSize() int {
	n := a.sources + len(a.session.Policy)
	for _, t := range a.session.Tags {
		n += len(t.Key) + len(t.Value)
	}
	for _, arn := range a.session.PolicyARNs {
		n += len(arn)
	}
	return (n*4/3*100 + sessionTokenAllowed - 1) / sessionTokenAllowed
}

func (a *assumption) checkPackedSize() (int, *apiError) {
	size := a.packedSize()
	if size > 100 {
		return 0, refuse(http.StatusBadRequest, "PackedPolicyTooLarge", "Packed policy consumes %d%% of allotted space, please use smaller policy.", size)
	}
	return size, nil
}

// issue makes the session's credentials.
func (c *call) issue(a *assumption) (xmlCredentials, xmlAssumedRole, *apiError) {
	id, v := newAccessKeyID("ASIA"), a.session
	v.Secret, v.RoleID, v.Issued = newSecret(), a.role.ID, c.now.Unix()
	v.Expires = v.Issued + int64(a.duration)
	token, err := c.server.sealer.seal(id, &v)
	if err != nil {
		return xmlCredentials{}, xmlAssumedRole{}, c.server.fault("sealing a session", err)
	}
	return xmlCredentials{AccessKeyID: id, SecretAccessKey: v.Secret, SessionToken: token, Expiration: timestamp(v.expires())},
		xmlAssumedRole{AssumedRoleID: a.role.ID + ":" + a.name, Arn: c.state.sessionARN(a.role, a.name)}, nil
}

// checkTags holds session and resource tags to their limits. code is the error's,
// member how the list is called in messages.
func checkTags(tags []tag, member string) *apiError {
	if len(tags) > maxTags {
		return violation(fmt.Sprintf("Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", member, maxTags))
	}
	var v violations
	for i, t := range tags {
		v.value(t.Key, fmt.Sprintf("%s.%d.member.key", member, i+1), 1, 128, tagKeyPattern)
		v.value(t.Value, fmt.Sprintf("%s.%d.member.value", member, i+1), 0, 256, tagValuePattern)
	}
	if e := v.refusal(); e != nil {
		return e
	}
	for i, t := range tags {
		if reservedTag(t) {
			return refuse(http.StatusBadRequest, "InvalidInput", "%s and values cannot start with the prefix aws:, which is reserved. Got %s.", "Tag keys", clip(t.Key))
		}
		if hasTag(tags[:i], t.Key) {
			return refuse(http.StatusBadRequest, "InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
	}
	return nil
}

func reservedTag(t tag) bool {
	return strings.HasPrefix(strings.ToLower(t.Key), "aws:") || strings.HasPrefix(strings.ToLower(t.Value), "aws:")
}

// validTag is checkTags for one tag of a token, where the message is another.
func validTag(t tag) bool {
	n := utf8.RuneCountInString(t.Key)
	return n >= 1 && n <= 128 && utf8.RuneCountInString(t.Value) <= 256 && !reservedTag(t) &&
		tagKeyPattern.re.MatchString(t.Key) && tagValuePattern.re.MatchString(t.Value)
}

// timestamp is a time as STS and IAM print it.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func accountOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

func timeOf(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
