package federation

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// ErrorReading is what a refusal says, and what it can come from.
type ErrorReading struct {
	Code      string `json:"code,omitempty"`
	Message   string `json:"message,omitempty"`
	Operation string `json:"operation,omitempty"`
	// Known says that the error is one that is on record; Explained that its cause
	// is found, or that the documents were not asked and it has a meaning.
	Known     bool   `json:"known"`
	Explained bool   `json:"explained"`
	Meaning   string `json:"meaning,omitempty"`
	// Causes are what it can come from, the likeliest first.
	Causes []ErrorCause `json:"causes,omitempty"`
	// Conclusion is what the token and the documents say of it.
	Conclusion string `json:"conclusion,omitempty"`
}

// ErrorCause is one thing that an error can come from.
type ErrorCause struct {
	Why string `json:"why"`
	Fix string `json:"fix"`
	// Verdict is what the token and the documents say of this cause: "it is this",
	// "ruled out", or "" where they do not tell.
	Verdict string `json:"verdict,omitempty"`
	Step    string `json:"step,omitempty"` // the step that tests it
}

// The verdicts of a cause.
const (
	CauseIsThis   = "it is this"
	CauseRuledOut = "ruled out"
)

// The forms in which clients print an error.
var (
	errorOfCLI  = regexp.MustCompile(`An error occurred \(([A-Za-z0-9.]+)\) when calling the (\w+) operation(?: \([^)]*\))?:\s*([^\n]*)`)
	errorOfGo   = regexp.MustCompile(`operation error [A-Za-z0-9 ]+: (\w+), ([^\n]*)`)
	partOfGo    = regexp.MustCompile(`(?:^|, )(?:api error )?([A-Z][A-Za-z0-9]+): `)
	errorOfXML  = regexp.MustCompile(`(?s)<Code>\s*([A-Za-z0-9.]+)\s*</Code>(?:.*?<Message>(.*?)</Message>)?`)
	errorOfJava = regexp.MustCompile(`(?s)^(?:.*Exception: )?(.*?) \(Service: [^;,)]*[;,] Status Code: \d+[;,].*?Error Code: (\w+)`)
	errorPlain  = regexp.MustCompile(`(?m)(?:^|[\s:])([A-Z][A-Za-z0-9]{3,}): +([^\n]+)`)
)

// tokenInText is a token, which must not be repeated even where somebody put it
// into an error's text.
var tokenInText = regexp.MustCompile(`eyJ[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]*)*`)

// readErrorText finds code, operation and message in what a client printed.
func readErrorText(text string) (code, operation, message string) {
	text = tokenInText.ReplaceAllString(strings.TrimSpace(text), "[token]")
	if m := errorOfCLI.FindStringSubmatch(text); m != nil {
		return m[1], m[2], strings.TrimSpace(m[3])
	}
	if code, operation, message, ok := readGoError(text); ok {
		return code, operation, message
	}
	if m := errorOfXML.FindStringSubmatch(text); m != nil {
		return m[1], "", plainXML.Replace(strings.TrimSpace(m[2]))
	}
	if m := errorOfJava.FindStringSubmatch(text); m != nil {
		return m[2], "", strings.TrimSpace(m[1])
	}
	var object struct {
		Code, Message string
		Error         struct{ Code, Message string }
	}
	if json.Unmarshal([]byte(text), &object) == nil {
		if object.Code == "" {
			object.Code, object.Message = object.Error.Code, object.Error.Message
		}
		if object.Code != "" {
			return object.Code, "", object.Message
		}
	}
	return readPlainError(text)
}

// readGoError takes an error of the Go SDK, which puts its identifiers before the
// code.
func readGoError(text string) (code, operation, message string, ok bool) {
	m := errorOfGo.FindStringSubmatch(text)
	if m == nil {
		return "", "", "", false
	}
	for _, at := range partOfGo.FindAllStringSubmatchIndex(m[2], -1) {
		if name := m[2][at[2]:at[3]]; name != "RequestID" && name != "HostID" {
			return name, m[1], m[2][at[1]:], true
		}
	}
	return "", "", "", false
}

var plainXML = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'", "&#39;", "'", "&#34;", `"`, "&amp;", "&")

// readPlainError takes "Code: message", the code alone, or the message alone.
func readPlainError(text string) (code, operation, message string) {
	for _, m := range errorPlain.FindAllStringSubmatch(text, -1) {
		if knownCode(canonicalCode(m[1])) {
			return m[1], "", strings.TrimSpace(m[2])
		}
	}
	if knownCode(canonicalCode(text)) {
		return text, "", ""
	}
	return "", "", text
}

// canonicalCode undoes what SDKs add to a code: JavaScript and Java name the class.
func canonicalCode(code string) string {
	if knownCode(code) {
		return code
	}
	short := strings.TrimSuffix(code, "Exception")
	if knownCode(short) {
		return short
	}
	return code
}

func knownCode(code string) bool {
	for _, k := range errorKinds {
		if k.code == code {
			return true
		}
	}
	return false
}

// findErrorKind finds the row of an error; where only a message is at hand, the
// first row that it fits.
func findErrorKind(code, message string) *errorKind {
	for i := range errorKinds {
		k := &errorKinds[i]
		if code != "" && k.code != code || code == "" && k.message == nil {
			continue
		}
		if k.message.in(message) {
			return k
		}
	}
	return nil
}

// readError reads the caller's error and holds its causes against the steps.
func (e *explainer) readError() {
	code, operation, message := readErrorText(e.Error)
	r := &ErrorReading{Code: oneLine(canonicalCode(code)), Operation: operation, Message: oneLine(message)}
	e.out.Error = r
	k := findErrorKind(canonicalCode(code), message)
	if k == nil {
		r.Conclusion = "This error is not on record here; nothing is guessed about it."
		return
	}
	if r.Code == "" {
		r.Code = k.code
	}
	r.Known, r.Meaning = true, k.meaning
	e.ownRequest(message)
	for _, c := range k.causes {
		weighed := e.weigh(c)
		same := func(have ErrorCause) bool { return have.Verdict == CauseIsThis && have.Step == weighed.Step }
		if !slices.ContainsFunc(r.Causes, same) {
			r.Causes = append(r.Causes, weighed)
		}
	}
	e.concludeError(r, k)
}

var deniedRequest = regexp.MustCompile(`is not authorized to perform: (s3:\w+) on resource: "(arn:[^"]+)"`)

// ownRequest takes the request of an S3 refusal from its message, which names action
// and resource, where nobody named it otherwise.
func (e *explainer) ownRequest(message string) {
	m := deniedRequest.FindStringSubmatch(message)
	if m == nil || len(e.Requests) > 0 || len(e.out.Steps) == 0 {
		return
	}
	e.out.Requests = append(e.out.Requests, e.request(S3Request{Action: m[1], Resource: m[2]}))
}

// weigh holds one cause against the step that tests it.
func (e *explainer) weigh(c errorCause) ErrorCause {
	out := ErrorCause{Why: c.why, Fix: c.fix, Step: c.step}
	s := e.stepOf(c.step)
	switch {
	case s == nil:
		return out
	case s.Outcome == StepFails:
		out.Verdict, out.Why, out.Fix = CauseIsThis, s.Why, s.Fix
		if c.step == stepRequest {
			out.Why = s.Title + ": " + s.Why
		}
	case s.Outcome == StepOK:
		out.Verdict = CauseRuledOut
	}
	return out
}

// stepRequest stands for the session's requests among the causes' steps.
const stepRequest = "request"

func (e *explainer) stepOf(name string) *ExplainStep {
	if name != stepRequest {
		return e.out.step(name)
	}
	for i := range e.out.Requests {
		if e.out.Requests[i].Outcome == StepFails {
			return &e.out.Requests[i]
		}
	}
	if len(e.out.Requests) > 0 {
		return &e.out.Requests[0]
	}
	return nil
}

// concludeError says which cause it is, as far as the token and the documents tell.
func (e *explainer) concludeError(r *ErrorReading, k *errorKind) {
	if len(e.out.Steps) == 0 {
		r.Explained = true
		r.Conclusion = "Give the token and the documents in force to learn which of them it is."
		return
	}
	for _, c := range r.Causes {
		if c.Verdict != CauseIsThis {
			continue
		}
		r.Explained = true
		r.Conclusion = "It is this: " + c.Why + "."
		if first := e.out.First(); first != nil && first.Name != c.Step && k.sts {
			r.Conclusion += " Another check fails before it now, " + first.Name + ", so the call as it stands would get another error."
		}
		return
	}
	first := e.out.First()
	switch {
	case first != nil && k.sts:
		r.Conclusion = "The token and the documents as they are now do not lead to this error but to another: " + first.Told.Code + ", at " + first.Name + ". The token or the documents have changed since, or they are others."
	case k.later != "":
		r.Conclusion = "Nothing that was looked at leads to this error now. " + k.later
	default:
		r.Conclusion = "Nothing that was looked at leads to this error now; what was not looked at may."
	}
}
