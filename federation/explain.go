package federation

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"agentkeys/policy"
)

// ExplainInput is what is known of a call of AssumeRoleWithWebIdentity. Only Config
// and Now are required; what is missing makes the steps that need it unknown.
type ExplainInput struct {
	Config  Config
	Account *Account // the documents in force; nil where they are not known
	// Token is the web identity token as it was sent. Without one, the steps that
	// are about the documents are tried with a token as the configuration has it.
	Token  string
	Issuer *IssuerDocuments // what the issuer publishes; nil where nobody looked
	Now    time.Time

	RoleARN       string // "" for the configuration's role
	SessionName   string // "" for "agentkeys"
	Duration      int    // seconds; 0 where none is asked for, which means an hour
	SessionPolicy string // "" for none
	PolicyARNs    []string
	MaxSession    int // the role's MaxSessionDuration in seconds, where the account does not say; 0: not known

	// Context are condition keys of the request that its sender knows, such as
	// aws:SourceIp.
	Context map[string]string
	// Requests are made with the session, if there is one.
	Requests []S3Request
	// Error is what the caller was told, as a client printed it.
	Error string
}

// S3Request is a request to S3 by the session.
type S3Request struct {
	Action   string            // s3:GetObject
	Resource string            // ARN
	Context  map[string]string // condition keys that it sets, such as s3:prefix
}

// StepOutcome is what one check comes to.
type StepOutcome string

// The outcomes.
const (
	StepOK         StepOutcome = "ok"
	StepFails      StepOutcome = "fails"
	StepUnknown    StepOutcome = "unknown"     // what it needs is not known
	StepNotReached StepOutcome = "not reached" // an earlier failure leaves nothing to check
)

// ExplainStep is one check of STS, or one decision of S3.
type ExplainStep struct {
	Name    string      `json:"name"` // stable
	Title   string      `json:"title"`
	Outcome StepOutcome `json:"outcome"`
	Want    string      `json:"want,omitempty"` // what was compared
	Got     string      `json:"got,omitempty"`
	Why     string      `json:"why,omitempty"`
	Told    *ToldError  `json:"told,omitempty"` // what the caller sees, where it fails
	Fix     string      `json:"fix,omitempty"`
	Line    string      `json:"line,omitempty"` // the element as it should read
	At      *Statement  `json:"at,omitempty"`   // the statement to change, or that decides
	Notes   []string    `json:"notes,omitempty"`
}

// ToldError is an error as AWS words it.
type ToldError struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
	// Guessed says that the code is certain and AWS's wording is not on record.
	Guessed bool `json:"wording_not_recorded,omitempty"`
}

// ExplainVerdict is what STS makes of the call.
type ExplainVerdict string

// The verdicts.
const (
	GivesCredentials ExplainVerdict = "credentials"
	RefusesCall      ExplainVerdict = "refused"
	CannotTell       ExplainVerdict = "unknown"
)

// Explanation says in the order of STS what it checks and what fails. Its JSON
// form is stable.
type Explanation struct {
	Target   string         `json:"target,omitempty"` // where the documents come from
	At       time.Time      `json:"at"`
	Role     string         `json:"role"`
	Session  string         `json:"session"`
	Verdict  ExplainVerdict `json:"verdict"`
	FailsAt  string         `json:"fails_at,omitempty"` // name of the first step that fails
	Steps    []ExplainStep  `json:"steps"`
	Requests []ExplainStep  `json:"requests,omitempty"`
	Error    *ErrorReading  `json:"error,omitempty"`
	Remarks  []string       `json:"remarks,omitempty"`
}

// Explain says what STS checks of a call, in its order (semantics of the local AWS,
// which follow recordings of AWS), and where it fails. The steps after a failure
// are tried as well, as far as they can be, so that a second failure does not hide
// behind the first. It reads no clock, no file and no network.
func Explain(in ExplainInput) *Explanation {
	if in.Account != nil && in.Config.Issuer == "" {
		in.Config = in.Account.Config
	}
	if in.RoleARN == "" {
		in.RoleARN = in.Config.RoleARN()
	}
	if in.SessionName == "" {
		in.SessionName = "agentkeys"
	}
	e := &explainer{ExplainInput: in, out: &Explanation{At: in.Now, Role: in.RoleARN, Session: in.SessionName, Steps: []ExplainStep{}}}
	if in.Account != nil {
		e.out.Target = in.Account.Source
	}
	if in.Token != "" || in.Account != nil {
		e.steps()
		e.conclude()
		e.requests()
	}
	if in.Error != "" {
		e.readError()
	}
	return e.out
}

// explainer is one run of Explain.
type explainer struct {
	ExplainInput
	out *Explanation

	token    *WebToken // nil where none was given, or none could be read
	id       tokenIdentity
	provider *Provider
	role     *Role
	tagWhy   string // why AWS reads no tag from the token, and
	tagFix   string // what to do about it; "" where it reads one
}

// tokenIdentity is what STS takes from a token. Where the token cannot be read at
// some point, it has what the configuration would put there, so that the steps
// behind can be tried.
type tokenIdentity struct {
	issuer      string
	subject     string
	audience    string   // azp where there is one, else the one audience
	audiences   []string // the aud claim
	amr         []string
	hasAMR      bool
	email       string
	tags        []tokenTag
	transitive  []string
	source      string
	roleIsNamed bool
}

func (e *explainer) steps() {
	for _, check := range []func() ExplainStep{
		e.checkParameters, e.checkToken, e.checkProvider, e.checkClaims, e.checkTimes, e.checkMethods, e.checkAudience,
		e.checkDiscovery, e.checkKey, e.checkSignature, e.checkTags, e.checkSourceIdentity, e.checkRolesClaim,
		e.checkRole,
	} {
		e.add(check())
	}
	for _, action := range []string{actionAssume, actionTag, actionSource} {
		e.add(e.checkTrust(action))
	}
	for _, check := range []func() ExplainStep{e.checkDuration, e.checkSessionPolicy, e.checkPackedSize} {
		e.add(check())
	}
}

// add takes a step into the explanation; one without a name has nothing to say.
func (e *explainer) add(s ExplainStep) {
	if s.Name != "" {
		e.out.Steps = append(e.out.Steps, s)
	}
}

// conclude finds the first failure. An unknown step before it does not change that
// the call is refused, only by what.
func (e *explainer) conclude() {
	e.out.Verdict = GivesCredentials
	for _, s := range e.out.Steps {
		switch {
		case s.Outcome == StepFails:
			e.out.Verdict, e.out.FailsAt = RefusesCall, s.Name
			return
		case s.Outcome != StepOK:
			e.out.Verdict = CannotTell
		}
	}
}

// First is the first step that fails, or nil.
func (x *Explanation) First() *ExplainStep {
	for i := range x.Steps {
		if x.Steps[i].Outcome == StepFails {
			return &x.Steps[i]
		}
	}
	return nil
}

// step finds a step by its name.
func (x *Explanation) step(name string) *ExplainStep {
	for _, list := range [][]ExplainStep{x.Steps, x.Requests} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// ExitStatus is the process status that stands for the explanation: 0 where all
// checks pass, 1 where something fails, 3 where it could not be told.
func (x *Explanation) ExitStatus() int {
	status := 0
	if len(x.Steps) > 0 && x.Verdict == CannotTell || x.Error != nil && !x.Error.Explained {
		status = 3
	}
	for _, s := range x.Requests {
		if s.Outcome == StepUnknown {
			status = 3
		}
	}
	failed := x.Verdict == RefusesCall || x.Error != nil && x.Error.Explained
	for _, s := range x.Requests {
		failed = failed || s.Outcome == StepFails
	}
	if failed {
		return 1
	}
	return status
}

// The makers of steps.

func stepPassed(name, title, why string) ExplainStep {
	return ExplainStep{Name: name, Title: title, Outcome: StepOK, Why: why}
}

func (s ExplainStep) fails(why string, told *ToldError, fix string) ExplainStep {
	s.Outcome, s.Why, s.Told, s.Fix = StepFails, why, told, fix
	return s
}

func (s ExplainStep) unknown(why, fix string) ExplainStep {
	s.Outcome, s.Why, s.Fix = StepUnknown, why, fix
	return s
}

func (s ExplainStep) notReached(why string) ExplainStep {
	s.Outcome, s.Why = StepNotReached, why
	return s
}

// compared sets both sides of a comparison.
func (s ExplainStep) compared(want, got string) ExplainStep {
	s.Want, s.Got = want, got
	return s
}

func (s ExplainStep) note(format string, args ...any) ExplainStep {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
	return s
}

func invalidToken(format string, args ...any) *ToldError {
	return &ToldError{Status: http.StatusBadRequest, Code: "InvalidIdentityToken", Message: fmt.Sprintf(format, args...)}
}

// inOtherWords marks an error whose wording at AWS is not on record.
func (t *ToldError) inOtherWords() *ToldError {
	t.Guessed = true
	return t
}

// noToken is the answer of the steps that are about a token where there is none to
// be read.
func (e *explainer) noToken(s ExplainStep) ExplainStep {
	if e.Token == "" {
		return s.unknown("no token was given", "")
	}
	return s.notReached("the token cannot be read")
}

// sampleTag stands for a tenant where the token does not say which.
const sampleTag = "0x0000000000000000000000000000000000000000"

// assume fills in what the configuration would put into a token.
func (e *explainer) assume() {
	e.id = tokenIdentity{
		issuer: e.Config.Issuer, audience: e.Config.Audience, audiences: []string{e.Config.Audience},
		subject: strings.TrimSuffix(SubjectPattern, "*") + sampleTag,
		tags:    []tokenTag{{e.Config.TagKey, sampleTag}}, transitive: []string{e.Config.TagKey},
	}
}

// remark adds an oddity that fails nothing.
func (e *explainer) remark(format string, args ...any) {
	e.out.Remarks = append(e.out.Remarks, fmt.Sprintf(format, args...))
}

// providerKey is the beginning of the issuer's condition keys.
func providerKey(issuer string) string {
	_, id, _ := strings.Cut(issuer, "://")
	return id
}

func accountOfARN(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// explainCompile compiles what is readable of a document; a document that is not
// there is nil.
func explainCompile(d Document) (*policy.Policy, error) {
	switch {
	case d.Err != nil:
		return nil, d.Err
	case d.Policy == nil:
		return nil, nil
	}
	return policy.Compile(d.Name, d.Policy)
}
