package federation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"agentkeys/policy"
)

// What a web identity needs of a trust policy, each action for itself: tags need
// TagSession, and a source identity SetSourceIdentity.
const (
	actionAssume = "sts:AssumeRoleWithWebIdentity"
	actionTag    = "sts:TagSession"
	actionSource = "sts:SetSourceIdentity"
)

// trustSteps are the names of their steps.
var trustSteps = map[string]string{actionAssume: "trust-assume", actionTag: "trust-tag", actionSource: "trust-source"}

func notAuthorized(action string) *ToldError {
	return &ToldError{Status: http.StatusForbidden, Code: "AccessDenied", Message: "Not authorized to perform " + action}
}

// checkRole finds the role. One that is not there and one that does not trust the
// token are told apart by nobody outside.
func (e *explainer) checkRole() ExplainStep {
	s := stepPassed("role", "the role exists", "").compared(e.RoleARN, "")
	if e.Account == nil {
		return s.unknown("the account's roles were not looked at", "Give the documents in force (--from).")
	}
	if owner := accountOfARN(e.RoleARN); owner != e.Config.Account {
		return s.unknown("the documents are those of account "+e.Config.Account+", and the role is in "+strconv.Quote(owner), "")
	}
	var near string
	for i := range e.Account.Roles {
		r := &e.Account.Roles[i]
		if r.ARN == e.RoleARN {
			e.role = r
			s.Got = r.ARN
			return s
		}
		if strings.EqualFold(r.Name, roleNameIn(e.RoleARN)) {
			near = r.ARN
		}
	}
	fix := "Create the role, or correct its ARN; after creating it, wait some seconds."
	if near != "" {
		s.Got = near
		fix = "Use the role's ARN as it is, with its path and case: " + near + "."
	}
	return s.fails("the account has no role of this ARN; STS answers as if it did not trust the token", notAuthorized(actionAssume), fix)
}

// checkTrust asks the role's trust policy for one action.
func (e *explainer) checkTrust(action string) ExplainStep {
	s := stepPassed(trustSteps[action], "the trust policy allows "+action, "")
	if action == actionTag && e.tagFix != "" && !e.assumes() {
		// The untagged token is refused, and one as the fix has it needs TagSession.
		e.id.tags = append(e.id.tags, tokenTag{e.Config.TagKey, sampleTag})
		s = s.note("tried as if the tag were minted")
	}
	switch {
	case e.token == nil && e.Token != "":
		return e.noToken(s)
	case action == actionTag && len(e.id.tags) == 0:
		s.Why = "not needed: the token carries no tags"
		return s
	case action == actionSource && e.id.source == "":
		return ExplainStep{}
	case e.role == nil && e.Account != nil && accountOfARN(e.RoleARN) == e.Config.Account:
		return s.notReached("there is no role")
	case e.role == nil:
		return s.unknown("the role's trust policy is not known", "")
	case e.role.Trust.Err != nil:
		return s.unknown(oneLine(e.role.Trust.Err.Error()), "Correct the document.")
	}
	return e.askTrust(s, action)
}

func (e *explainer) askTrust(s ExplainStep, action string) ExplainStep {
	r := e.trustRequest(action)
	unknown := senderOnly(e.Context)
	more, less := senderReadings(e.role.Trust.Policy, unknown)
	generous, err := e.decideTrust(r, more)
	if err != nil {
		return s.unknown(oneLine(err.Error()), "Correct the document.")
	}
	strict, err := e.decideTrust(r, less)
	if err != nil {
		return s.unknown(oneLine(err.Error()), "Correct the document.")
	}
	if e.Account.Organization == nil || e.Account.Organization.Resource == nil {
		e.remarkOnce("Resource control policies were not looked at; one of them could refuse what the trust policy allows.")
	}
	d := diagnoser{request: r, layer: asResource, unknown: unknown}
	switch {
	case strict.Allowed:
		s.Why = "statement " + statementNumber(strict) + " allows it"
		s.At = explainDecidedBy(strict)
		return s
	case generous.Allowed:
		return s.unknown("it hangs on what only the request's sender knows: "+d.senderConditions(e.role.Trust), "Tell it with --context KEY=VALUE.")
	}
	return e.trustRefuses(s, action, d, generous)
}

func statementNumber(d policy.Decision) string {
	n := strconv.Itoa(d.Statement + 1)
	if d.Sid != "" {
		n += " (" + oneLine(d.Sid) + ")"
	}
	return n
}

func explainDecidedBy(d policy.Decision) *Statement {
	if d.Statement < 0 {
		return nil
	}
	return &Statement{Document: d.Policy, Statement: d.Statement, Sid: d.Sid}
}

// senderConditions names the conditions on keys that only the sender knows.
func (g diagnoser) senderConditions(d Document) string {
	var out []string
	for i, s := range d.Policy.Statements {
		for _, c := range s.Condition {
			if g.unknown(c.Key) {
				out = append(out, fmt.Sprintf("%s statement %d tests %s", d.Name, i+1, c.Key))
			}
		}
	}
	return strings.Join(out, "; ")
}

// decideTrust evaluates one reading of the trust policy, under the resource control
// policies that are known. Service control policies do not reach a caller who is
// no principal of the account yet.
func (e *explainer) decideTrust(r *policy.Request, d *policy.Document) (policy.Decision, error) {
	set := &policy.Set{ResourceMustAllow: true}
	p, err := explainCompile(Document{Name: e.role.Trust.Name, Policy: d})
	if err != nil {
		return policy.Decision{}, err
	}
	if p != nil {
		set.Resource = []*policy.Policy{p}
	}
	if o := e.Account.Organization; o != nil {
		if set.ResourceControl, err = explainLevels(o.Resource); err != nil {
			return policy.Decision{}, err
		}
	}
	return policy.Evaluate(r, set), nil
}

func explainLevels(levels []Level) ([][]*policy.Policy, error) {
	var out [][]*policy.Policy
	for _, l := range levels {
		list := []*policy.Policy{}
		for _, d := range l.Policies {
			p, err := explainCompile(d)
			if err != nil {
				return nil, err
			}
			if p != nil {
				list = append(list, p)
			}
		}
		out = append(out, list)
	}
	return out, nil
}

// trustRequest is what STS evaluates for one action. Each action has its own keys:
// TagSession knows nothing of the session's name, nor SetSourceIdentity of tags
// (Service Authorization Reference).
func (e *explainer) trustRequest(action string) *policy.Request {
	c := e.commonContext()
	account := accountOfARN(e.RoleARN)
	provider := "arn:" + e.Config.Partition() + ":iam::" + account + ":oidc-provider/" + providerKey(e.id.issuer)
	c.Set("aws:PrincipalAccount", account)
	c.Set("aws:PrincipalType", "User")
	c.Set("aws:userid", provider)
	c.Set("aws:ResourceAccount", account)
	e.setIssuerKeys(c)
	if action != actionSource {
		e.setTagKeys(c)
	}
	if action != actionTag && e.id.source != "" {
		c.Set("sts:SourceIdentity", e.id.source)
	}
	if action == actionAssume {
		c.Set("sts:RoleSessionName", e.SessionName)
		c.Set("sts:RoleAuthorizedByIdp", strconv.FormatBool(e.id.roleIsNamed))
	}
	if e.role != nil {
		for key, value := range e.role.Tags {
			c.Set("aws:ResourceTag/"+key, value)
			c.Set("iam:ResourceTag/"+key, value)
		}
	}
	return &policy.Request{
		Principal: policy.Principal{Kind: policy.WebIdentity, Account: account, Provider: provider},
		Action:    action, Resource: e.RoleARN, ResourceAccount: account, Context: c,
	}
}

// setIssuerKeys sets the keys that STS makes of claims, for the trust policy.
func (e *explainer) setIssuerKeys(c *policy.Context) {
	prefix := providerKey(e.id.issuer)
	c.Set(prefix+":aud", e.id.audience)
	if len(e.id.audiences) == 1 {
		c.Set(prefix+":oaud", e.id.audiences[0])
	} else {
		c.SetList(prefix+":oaud", e.id.audiences...)
	}
	c.Set(prefix+":sub", e.id.subject)
	if e.id.hasAMR {
		c.SetList(prefix+":amr", e.id.amr...)
	}
	if e.id.email != "" {
		c.Set(prefix+":email", e.id.email)
	}
}

func (e *explainer) setTagKeys(c *policy.Context) {
	var keys []string
	for _, t := range e.id.tags {
		c.Set("aws:RequestTag/"+t.Key, t.Value)
		keys = append(keys, t.Key)
	}
	if keys != nil {
		c.SetList("aws:TagKeys", keys...)
	}
	transitive := slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		return !slices.ContainsFunc(e.id.transitive, func(k string) bool { return strings.EqualFold(k, key) })
	})
	if len(transitive) > 0 {
		c.SetList("sts:TransitiveTagKeys", transitive...)
	}
}

// commonContext is what every request has, and what its sender told.
func (e *explainer) commonContext() *policy.Context {
	c := policy.NewContext()
	c.SetTime("aws:CurrentTime", e.Now)
	c.Set("aws:EpochTime", strconv.FormatInt(e.Now.Unix(), 10))
	c.Set("aws:SecureTransport", "true")
	c.Set("aws:RequestedRegion", e.Config.Region)
	c.Set("aws:ViaAWSService", "false")
	c.Set("aws:PrincipalIsAWSService", "false")
	for key, value := range e.Context {
		c.Set(key, value)
	}
	return c
}

func (e *explainer) remarkOnce(text string) {
	if !slices.Contains(e.out.Remarks, text) {
		e.remark("%s", text)
	}
}

// trustRefuses words why no statement lets the token in, and what to change.
func (e *explainer) trustRefuses(s ExplainStep, action string, g diagnoser, d policy.Decision) ExplainStep {
	told := notAuthorized(action)
	if d.Ambiguous != "" {
		s = s.note("AWS leaves unsettled %s; the strict reading was taken", d.Ambiguous)
	}
	if d.Explicit {
		s.At = explainDecidedBy(d)
		return s.fails(fmt.Sprintf("%s, statement %s, denies it: %s", d.Policy, statementNumber(d), denyRests(e.role.Trust, d)), told, e.denyFix(d))
	}
	list := g.diagnose(e.role.Trust, policy.Allow)
	if len(list) == 0 {
		return s.fails("the trust policy allows nothing", told, "Give it a statement that allows "+actionAssume+" and "+actionTag+" to the provider.")
	}
	near := list[0]
	s.At = near.at()
	s = s.fails(e.trustWhy(action, near), told, "")
	return e.trustFix(s, action, g, near)
}

// trustWhy names what the nearest statement lacks.
func (e *explainer) trustWhy(action string, near diagnosis) string {
	if near.lacks("Action") != nil && len(near.unmet) == 1 && action != actionAssume && e.assumes() {
		return "the trust policy allows AssumeRoleWithWebIdentity but not " + action
	}
	var lacks []string
	for _, u := range near.unmet {
		lacks = append(lacks, oneLine(u.text))
	}
	return fmt.Sprintf("no statement allows it; statement %d comes nearest: %s", near.index+1, strings.Join(lacks, "; "))
}

// assumes reports whether the step before found AssumeRoleWithWebIdentity allowed.
func (e *explainer) assumes() bool {
	s := e.out.step(trustSteps[actionAssume])
	return s != nil && s.Outcome == StepOK
}

// trustFix says how the nearest statement would have to read.
func (e *explainer) trustFix(s ExplainStep, action string, g diagnoser, near diagnosis) ExplainStep {
	statement := fmt.Sprintf("statement %d", near.index+1)
	var fixes []string
	for _, u := range near.unmet {
		switch u.element {
		case "Principal":
			fixes = append(fixes, fmt.Sprintf("name the provider in %s", statement))
			s.Line = fmt.Sprintf(`"Principal": {"Federated": %q}`, g.request.Principal.Provider)
		case "Action":
			fix, line := actionFix(near.statement, action, statement)
			fixes = append(fixes, fix)
			s.Line = line
		case "Condition":
			fix, line := e.conditionFix(action, *u.condition, statement)
			fixes = append(fixes, fix)
			if s.Line == "" {
				s.Line = line
			}
		}
	}
	s.Fix = capitalised(strings.Join(eachOnce(fixes), "; ")) + "."
	return s
}

// eachOnce drops what was said before.
func eachOnce(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func capitalised(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func actionFix(st policy.Statement, action, statement string) (fix, line string) {
	if st.NotAction != nil {
		return fmt.Sprintf("take %s out of NotAction in %s", action, statement), ""
	}
	actions := append(slices.Clone(st.Action), action)
	return fmt.Sprintf("add %s to %s", action, statement), `"Action": ` + jsonLine(actions)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func jsonLine(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}

func conditionLine(operator, key string, values ...string) string {
	var v any = values
	if len(values) == 1 {
		v = values[0]
	}
	return jsonLine(operator) + ": {" + jsonLine(key) + ": " + jsonLine(v) + "}"
}

// conditionFix says what to do about one condition that does not hold. What the
// token has is mended at the issuer where it is not what the configuration says,
// and what the policy has at the policy.
func (e *explainer) conditionFix(action string, c policy.Condition, statement string) (fix, line string) {
	prefix := providerKey(e.id.issuer)
	switch key := strings.ToLower(c.Key); {
	case key == "aws:requesttag/"+strings.ToLower(e.Config.TagKey):
		return e.tagConditionFix(action, c, statement)
	case strings.HasPrefix(key, "aws:requesttag/") && !e.otherAction(action, c.Key):
		return fmt.Sprintf("mint the tag that %s tests, %s, or let it test %s; the token has %s",
			statement, c.Key[len("aws:RequestTag/"):], e.Config.TagKey, orNone(showTags(e.id.tags, nil))), ""
	case strings.HasPrefix(key, "aws:principaltag/"):
		return fmt.Sprintf("test aws:RequestTag in %s: there is no PrincipalTag before there is a session", statement),
			conditionLine(c.Operator, "aws:RequestTag/"+c.Key[len("aws:PrincipalTag/"):], c.Values...)
	case e.otherAction(action, c.Key):
		return fmt.Sprintf("give %s a statement of its own without the test of %s, a key that it does not have", action, c.Key), ""
	case strings.EqualFold(c.Key, prefix+":aud"):
		return e.audienceFix(c, statement)
	case strings.EqualFold(c.Key, prefix+":sub"):
		return fmt.Sprintf("compare the token's sub %q with what %s wants, %s", e.id.subject, statement, quotedList(c.Values)), ""
	case strings.HasSuffix(key, ":aud"), strings.HasSuffix(key, ":sub"):
		claim := key[len(key)-4:]
		return fmt.Sprintf("name the issuer's own key in %s: %s is another issuer's, or written with its scheme", statement, c.Key),
			conditionLine(c.Operator, prefix+claim, c.Values...)
	case key == "aws:tagkeys":
		return fmt.Sprintf("let the token carry the tag keys alone that %s lists, %s, or list the others too", statement, quotedList(c.Values)), ""
	}
	return fmt.Sprintf("change the condition %s on %s in %s, or what the request has there", c.Operator, c.Key, statement), ""
}

// otherAction reports whether a key is one that AssumeRoleWithWebIdentity has and
// this action has not, so that a condition on it cannot hold in a common statement.
func (e *explainer) otherAction(action, key string) bool {
	if action == actionAssume {
		return false
	}
	lower := strings.ToLower(key)
	own := strings.HasPrefix(lower, "aws:requesttag/") || lower == "aws:tagkeys" || lower == "sts:transitivetagkeys"
	switch lower {
	case "sts:rolesessionname", "sts:roleauthorizedbyidp":
		return true
	case "sts:sourceidentity":
		return action == actionTag
	}
	return own && action == actionSource
}

func (e *explainer) audienceFix(c policy.Condition, statement string) (fix, line string) {
	if e.id.audience == e.Config.Audience {
		return fmt.Sprintf("let %s want the audience that the broker mints", statement), conditionLine("StringEquals", c.Key, e.Config.Audience)
	}
	return fmt.Sprintf("mint aud as %q; %s wants one of %s", e.Config.Audience, statement, quotedList(c.Values)), ""
}

func (e *explainer) tagConditionFix(action string, c policy.Condition, statement string) (fix, line string) {
	value, has := "", false
	for _, t := range e.id.tags {
		if strings.EqualFold(t.Key, e.Config.TagKey) {
			value, has = t.Value, true
		}
	}
	switch {
	case e.otherAction(action, c.Key):
		return fmt.Sprintf("give %s a statement of its own without the test of %s, a key that it does not have", action, c.Key), ""
	case !has && e.tagFix != "":
		return "mend the token, not the policy: " + e.tagWhy + "; " + e.tagFix, ""
	case strings.EqualFold(c.Operator, "Null") && slices.Contains(c.Values, "true"):
		return fmt.Sprintf(`turn the test in %s round: Null "true" lets in untagged tokens alone`, statement), conditionLine("Null", c.Key, "false")
	}
	return fmt.Sprintf("mint the tag in the shape that %s wants, %s; the token has %q", statement, quotedList(c.Values), value), ""
}

// denyRests says on what a Deny rests.
func denyRests(d Document, by policy.Decision) string {
	if by.Policy != d.Name || by.Statement < 0 || by.Statement >= len(d.Policy.Statements) {
		return "see the document"
	}
	var tests []string
	for _, c := range d.Policy.Statements[by.Statement].Condition {
		tests = append(tests, fmt.Sprintf("%s %s %s", c.Operator, c.Key, quotedList(c.Values)))
	}
	if len(tests) == 0 {
		return "it has no condition"
	}
	return "its conditions all hold: " + strings.Join(tests, " and ")
}

func (e *explainer) denyFix(d policy.Decision) string {
	if d.Policy != e.role.Trust.Name {
		return "Ask whoever keeps the organization's policies."
	}
	for _, c := range e.role.Trust.Policy.Statements[d.Statement].Condition {
		if strings.EqualFold(c.Key, "aws:RequestTag/"+e.Config.TagKey) {
			return fmt.Sprintf("Mint a tag that the Deny does not mean: it matches %s.", quotedList(c.Values))
		}
	}
	return fmt.Sprintf("Narrow or remove the Deny in statement %d.", d.Statement+1)
}
