package localaws

import (
	"encoding/json"
	"strings"
	"time"
)

// trailEvent is what CloudTrail keeps of a call of STS or IAM, or nil. Calls whose
// caller could not be verified are not in it: neither a bad signature nor a web
// identity token of no provider of the account, which is not "sufficiently valid to
// be trusted as a legitimate request". Of IAM's calls responseElements is null here,
// also where AWS has it.
// Source: "Logging IAM and AWS STS API calls with AWS CloudTrail", IAM User Guide.
func (c *call) trailEvent(requestID string, result any, refused *apiError) *trailEvent {
	if c.caller == nil && c.proven == nil {
		return nil
	}
	if c.namespace == iamNamespace {
		e := c.server.newTrailEvent("iam.amazonaws.com", c.action, c.request, c.now, requestID)
		e.UserIdentity = c.server.trailCaller(c.caller, c.sig.accessKeyID)
		e.RequestParameters = c.params.inTrail()
		e.ReadOnly = strings.HasPrefix(c.action, "Get") || strings.HasPrefix(c.action, "List")
		e.refused(refused)
		return e
	}
	e := c.server.newTrailEvent("sts.amazonaws.com", c.action, c.request, c.now, requestID)
	e.ReadOnly = true
	e.AdditionalEventData = map[string]any{"RequestDetails": map[string]string{"awsServingRegion": c.server.config.Region, "endpointType": "regional"}}
	if c.caller != nil {
		e.UserIdentity = c.server.trailCaller(c.caller, c.sig.accessKeyID)
	} else {
		e.UserIdentity = c.trailWebIdentity()
	}
	if c.asked != nil {
		c.asked.inTrail(e, c.params)
	}
	if e.refused(refused); refused == nil {
		e.ResponseElements = responseInTrail(result)
	}
	return e
}

// trailWebIdentity is the userIdentity of a verified web identity token.
func (c *call) trailWebIdentity() trailIdentity {
	arn := oidcProviderARN(c.server.config.Account, providerName(c.proven.issuer))
	return trailIdentity{Type: "WebIdentityUser", PrincipalID: arn + ":" + c.proven.audience + ":" + c.proven.subject,
		UserName: c.proven.subject, IdentityProvider: arn}
}

// refused notes an error. A role that refuses a web identity is not spoken of, and
// then no more of the request is kept than which session of which role it was for.
func (e *trailEvent) refused(refused *apiError) {
	if refused == nil {
		return
	}
	e.ErrorCode, e.ErrorMessage = refused.Code, refused.Message
	if e.UserIdentity.Type != "WebIdentityUser" {
		return
	}
	if refused.Code == "AccessDenied" {
		e.ErrorMessage = "An unknown error occurred"
	}
	for name := range e.RequestParameters {
		if name != "roleArn" && name != "roleSessionName" {
			delete(e.RequestParameters, name)
		}
	}
}

// inTrail notes what was asked of a call that assumes a role.
func (a *assumption) inTrail(e *trailEvent, p params) {
	asked := map[string]any{"roleArn": a.roleARN, "roleSessionName": a.name}
	if p["DurationSeconds"] != "" {
		asked["durationSeconds"] = a.duration
	}
	if id := p["ExternalId"]; id != "" {
		asked["externalId"] = id
	}
	if a.session.SourceIdentity != "" {
		asked["sourceIdentity"] = a.session.SourceIdentity
	}
	if len(a.passed) > 0 {
		tags := map[string]string{}
		for _, t := range a.passed {
			tags[t.Key] = t.Value
		}
		asked["principalTags"] = tags
	}
	if len(a.session.Transitive) > 0 {
		asked["transitiveTagKeys"] = a.session.Transitive
	}
	e.RequestParameters = asked
	e.Resources = []trailResource{{AccountID: accountOf(a.roleARN), Type: "AWS::IAM::Role", ARN: a.roleARN}}
}

// responseInTrail is the answer without its secrets. AssumeRole and its like are
// logged with their response although they are read-only.
func responseInTrail(result any) map[string]any {
	switch r := result.(type) {
	case xmlWebIdentity:
		m := sessionInTrail(r.Credentials, r.AssumedRoleUser, r.SourceIdentity)
		m["subjectFromWebIdentityToken"], m["provider"], m["audience"] = r.SubjectFromWebIdentityToken, r.Provider, r.Audience
		return m
	case xmlAssumeRole:
		return sessionInTrail(r.Credentials, r.AssumedRoleUser, r.SourceIdentity)
	}
	return nil
}

func sessionInTrail(c xmlCredentials, who xmlAssumedRole, sourceIdentity string) map[string]any {
	m := map[string]any{
		"credentials":     map[string]string{"accessKeyId": c.AccessKeyID, "sessionToken": hiddenInTrail, "expiration": trailDate(c.Expiration)},
		"assumedRoleUser": map[string]string{"assumedRoleId": who.AssumedRoleID, "arn": who.Arn},
	}
	if sourceIdentity != "" {
		m["sourceIdentity"] = sourceIdentity
	}
	return m
}

// trailDate is a time as CloudTrail has it inside of a response.
func trailDate(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil { // our own timestamp always parses
		return text
	}
	return t.Format("Jan 2, 2006, 3:04:05 PM")
}

// inTrail is the parameters of a call of IAM as CloudTrail has them: names begin in
// lower case, and lists are lists.
func (p params) inTrail() map[string]any {
	m := map[string]any{}
	for _, name := range sortedKeys(p) {
		list, rest, isList := strings.Cut(name, ".member.")
		switch {
		case name == "Action" || name == "Version":
		case !isList:
			m[lowerFirst(name)] = p[name]
		default:
			m[lowerFirst(list)] = addMember(m[lowerFirst(list)], rest, p[name])
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// addMember puts one parameter NAME.member.N, or .N.FIELD, into its list. Sorted by
// name, the fields of a member come one after the other.
func addMember(list any, rest, value string) any {
	index, field, fields := strings.Cut(rest, ".")
	if !fields {
		values, _ := list.([]string)
		return append(values, value)
	}
	members, _ := list.([]trailMember)
	if n := len(members); n == 0 || members[n-1].index != index {
		members = append(members, trailMember{index, map[string]string{}})
	}
	members[len(members)-1].fields[lowerFirst(field)] = value
	return members
}

// trailMember is one member of a list of structures.
type trailMember struct {
	index  string
	fields map[string]string
}

// MarshalJSON writes the fields alone.
func (m trailMember) MarshalJSON() ([]byte, error) { return json.Marshal(m.fields) }

func lowerFirst(name string) string {
	if name == "" {
		return ""
	}
	return strings.ToLower(name[:1]) + name[1:]
}
