package federation

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"agentkeys/policy"
)

// The limits of a call, from the models of the STS API.
const (
	minSessionSeconds   = 900
	maxSessionSeconds   = 43200
	usualSessionSeconds = 3600 // where no duration is asked for, and a role's maximum at the least
	maxSessionPolicies  = 10
	maxSessionPolicy    = 2048 // characters
	maxWebToken         = 20000
)

var (
	sessionNameForm = regexp.MustCompile(`^[\w+=,.@-]*$`)
	documentForm    = regexp.MustCompile(`^[\t\n\r\x{20}-\x{ff}]+$`)
	roleARNForm     = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::([0-9]{12}):role/(.+)$`)
)

// constraints collects what is wrong with a call's parameters, in AWS's words.
type constraints []string

func (c *constraints) add(value, member, constraint string) {
	*c = append(*c, fmt.Sprintf("Value '%s' at '%s' failed to satisfy constraint: %s", clip(value, 80), member, constraint))
}

func (c *constraints) text(value, shown, member string, least, most int) {
	if n := utf8.RuneCountInString(value); n < least {
		c.add(shown, member, fmt.Sprintf("Member must have length greater than or equal to %d", least))
	} else if n > most {
		c.add(shown, member, fmt.Sprintf("Member must have length less than or equal to %d", most))
	}
}

func (c *constraints) pattern(value, member string, form *regexp.Regexp, source string) {
	if !form.MatchString(value) {
		c.add(value, member, "Member must satisfy regular expression pattern: "+source)
	}
}

func (c constraints) told() *ToldError {
	errors := "error"
	if len(c) != 1 {
		errors = "errors"
	}
	return &ToldError{Status: http.StatusBadRequest, Code: "ValidationError",
		Message: fmt.Sprintf("%d validation %s detected: %s", len(c), errors, strings.Join(c, "; "))}
}

// checkParameters holds the call's parameters to the API's constraints. They come
// before anything else: a call that breaks them says nothing of the token.
func (e *explainer) checkParameters() ExplainStep {
	s := stepPassed("parameters", "the parameters keep to the API's limits", "")
	s.Got = fmt.Sprintf("role %s, session %s, %d s", e.RoleARN, e.SessionName, e.seconds())
	var c constraints
	c.text(e.RoleARN, e.RoleARN, "roleArn", 20, 2048)
	c.text(e.SessionName, e.SessionName, "roleSessionName", 2, 64)
	c.pattern(e.SessionName, "roleSessionName", sessionNameForm, `[\w+=,.@-]*`)
	if e.SessionPolicy != "" {
		c.text(e.SessionPolicy, e.SessionPolicy, "policy", 1, maxSessionPolicy)
		c.pattern(e.SessionPolicy, "policy", documentForm, `[\u0009\u000A\u000D\u0020-\u00FF]+`)
	}
	if e.seconds() < minSessionSeconds {
		c.add(fmt.Sprint(e.Duration), "durationSeconds", fmt.Sprintf("Member must have value greater than or equal to %d", minSessionSeconds))
	} else if e.seconds() > maxSessionSeconds {
		c.add(fmt.Sprint(e.Duration), "durationSeconds", fmt.Sprintf("Member must have value less than or equal to %d", maxSessionSeconds))
	}
	if n := len(e.PolicyARNs); n > maxSessionPolicies {
		c.add(fmt.Sprint(n), "policyArns", fmt.Sprintf("Member must have length less than or equal to %d", maxSessionPolicies))
	}
	for i, arn := range e.PolicyARNs {
		c.text(arn, arn, fmt.Sprintf("policyArns.%d.member.arn", i+1), 20, 2048)
	}
	if e.Token != "" {
		c.text(e.Token, "***", "webIdentityToken", 4, maxWebToken) // a secret is not echoed
	}
	if len(c) > 0 {
		return s.fails("a parameter is out of its limits: "+c[0], c.told(), "Keep to the constraint that the message names.")
	}
	return e.checkRoleARN(s)
}

// checkRoleARN refuses what is no role's ARN.
func (e *explainer) checkRoleARN(s ExplainStep) ExplainStep {
	told := &ToldError{Status: http.StatusBadRequest, Code: "ValidationError", Message: clip(e.RoleARN, 512) + " is invalid"}
	m := roleARNForm.FindStringSubmatch(e.RoleARN)
	want := "arn:" + e.Config.Partition() + ":iam::<account>:role/<name>"
	switch {
	case m == nil:
		return s.compared(want, e.RoleARN).fails("that is no role's ARN", told, "Give the role's ARN: "+e.Config.RoleARN()+".")
	case m[1] != e.Config.Partition():
		return s.compared(want, e.RoleARN).fails(fmt.Sprintf("the role's ARN is of partition %s, and region %s is in %s", m[1], e.Config.Region, e.Config.Partition()),
			told.inOtherWords(), "Call STS in a region of the role's partition, or correct the ARN.")
	}
	return s
}

func (e *explainer) seconds() int {
	if e.Duration == 0 {
		return usualSessionSeconds
	}
	return e.Duration
}

// checkDuration holds the session to the role's maximum, which the listing of an
// account's details does not tell.
func (e *explainer) checkDuration() ExplainStep {
	s := stepPassed("duration", "the session is no longer than the role allows", "")
	longest := e.MaxSession
	if longest == 0 && e.role != nil {
		longest = e.role.MaxSession
	}
	s.Got = fmt.Sprintf("%d s", e.seconds())
	switch {
	case longest == 0 && e.seconds() <= usualSessionSeconds:
		s.Want = fmt.Sprintf("at most the role's MaxSessionDuration, which is %d s at the least", usualSessionSeconds)
		return s
	case longest == 0:
		s.Want = "at most the role's MaxSessionDuration"
		return s.unknown("the role's MaxSessionDuration is not known: aws iam get-account-authorization-details does not give it",
			"Look with aws iam get-role, and give it as --max-session.")
	}
	s.Want = fmt.Sprintf("at most %d s", longest)
	if e.seconds() <= longest {
		return s
	}
	return s.fails("the session that is asked for is longer than the role allows",
		&ToldError{Status: http.StatusBadRequest, Code: "ValidationError", Message: "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		fmt.Sprintf("Ask for %d seconds at most, or raise the role's maximum: aws iam update-role --role-name %s --max-session-duration %d.",
			longest, shellWord(roleNameIn(e.RoleARN)), e.seconds()))
}

func roleNameIn(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// checkSessionPolicy reads the session policies.
func (e *explainer) checkSessionPolicy() ExplainStep {
	s := stepPassed("session-policy", "the session policies can be read", "none is passed")
	malformed := func(format string, args ...any) *ToldError {
		told := &ToldError{Status: http.StatusBadRequest, Code: "MalformedPolicyDocument", Message: fmt.Sprintf(format, args...)}
		return told.inOtherWords()
	}
	if e.SessionPolicy != "" {
		s.Why = ""
		if _, err := compileSessionPolicy(e.SessionPolicy); err != nil {
			return s.fails("the session policy: "+oneLine(err.Error()), malformed("%s", err), "Correct the session policy.")
		}
	}
	for _, arn := range e.PolicyARNs {
		s.Why = ""
		known, looked := e.managed(arn)
		switch {
		case known:
		case !looked:
			return s.unknown("whether there is a policy "+arn+" was not looked at", "")
		default:
			return s.fails("there is no policy "+arn, malformed("The policy %s does not exist or is not attachable.", arn),
				"Name a managed policy of the role's account, or one of AWS's.")
		}
	}
	return s
}

// managed reports whether there is a managed policy; the listing of an account has
// all of the account's own, and of AWS's those that are attached.
func (e *explainer) managed(arn string) (known, looked bool) {
	if e.Account == nil {
		return false, false
	}
	if _, ok := e.Account.Managed[arn]; ok {
		return true, true
	}
	return false, accountOfARN(arn) != "aws"
}

func compileSessionPolicy(text string) (*policy.Policy, error) {
	d, err := policy.Parse([]byte(text))
	if err == nil {
		err = d.Validate(policy.SessionPolicy)
	}
	if err != nil {
		return nil, err
	}
	return policy.Compile("session policy", d)
}

// The packed size of a session, which AWS limits and does not document. Recordings
// have 24 to 26 percent for a bare web identity and 34 with 300 more characters;
// this follows them, as the local AWS does.
const (
	packedBytes = 4096
	packedBare  = 730
)

func (e *explainer) packedSize() int {
	n := packedBare + len(e.id.subject) + len(e.id.audience) + len(e.SessionPolicy)
	for _, list := range [][]string{e.id.amr, e.PolicyARNs} {
		for _, text := range list {
			n += len(text)
		}
	}
	for _, t := range e.id.tags {
		n += len(t.Key) + len(t.Value)
	}
	return (n*4/3*100 + packedBytes - 1) / packedBytes
}

// checkPackedSize estimates how full the session is.
func (e *explainer) checkPackedSize() ExplainStep {
	s := stepPassed("packed-size", "policies, tags and claims fit into a session", "")
	if e.token == nil && e.Token != "" {
		return e.noToken(s)
	}
	size := e.packedSize()
	s = s.compared("at most 100 %", fmt.Sprintf("about %d %%", size))
	if size > 80 {
		s = s.note("this is an estimate: AWS's packing is not public")
	}
	if size <= 100 {
		return s
	}
	return s.fails("policies, tags and claims take too much of the session token",
		&ToldError{Status: http.StatusBadRequest, Code: "PackedPolicyTooLarge", Message: fmt.Sprintf("Packed policy consumes %d%% of allotted space, please use smaller policy.", size)},
		"Shorten the session policy, the tags or the token's sub.")
}
