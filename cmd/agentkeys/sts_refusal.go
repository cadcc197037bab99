package main

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"agentkeys/broker"
	"agentkeys/federation"
)

// The longest explanation, and the most of it that goes to one part, in characters.
const (
	maxRefusal     = 600
	maxRefusalPart = 150
	maxRefusalCode = 64
)

// explainRefusal says in a few sentences on one line, 600 characters at the most,
// what STS answered to a call, what that means, and what to tell the operator: whom it
// reaches is an agent, who can do nothing with it. So it names what to mend, the
// variables that the broker asked by, and the command that says more. It reads the token's claims for that, and shows nothing of the token. It asks
// nobody: what only the documents in force would tell is left to the command.
func explainRefusal(c federation.Config, a broker.AssumeRole, e *broker.STSError, now time.Time) string {
	if e.Code == "" {
		return unanswered(part(a, e.Fault, maxRefusalPart), e.Unknown)
	}
	code, message := part(a, e.Code, maxRefusalCode), part(a, e.Message, maxRefusal)
	x := federation.Explain(federation.ExplainInput{
		Config: c, Token: a.Token.Reveal(), Now: now, RoleARN: a.RoleARN, SessionName: a.SessionName,
		Duration: int(a.Duration / time.Second), SessionPolicy: a.Policy,
		Error: "An error occurred (" + code + ") when calling the AssumeRoleWithWebIdentity operation: " + message,
	})
	meaning, why, fix := reading(x.Error)
	rest := ". " + part(a, meaning, maxRefusalPart) + tellOperator + part(a, fix, maxRefusalPart) + asked(code, message) +
		` "agentkeys federation explain --token FILE --error -" reads this error.`
	said := "STS said " + code
	if message != "" {
		said += ": " // which counts
		said += strings.TrimRight(clipped(message, min(maxRefusalPart, maxRefusal-length(said+rest))), ".")
	}
	if here := ". Here: " + line(a, why); why != "" && length(said+here+rest) <= maxRefusal {
		said += here
	}
	return said + rest
}

const tellOperator = " Tell the operator: "

// askedBy are the broker's variables that a call of STS is made of, by the refusals
// that they may be the cause of. The first row that fits counts; a message is
// compared in lower case.
var askedBy = []struct{ code, message, variables string }{
	{"InvalidIdentityToken", "no openidconnect provider", "BROKER_ISSUER and BROKER_AWS_ACCOUNT"},
	{"InvalidIdentityToken", "verification key", "BROKER_ISSUER"},
	{"InvalidIdentityToken", "audience", "BROKER_OIDC_AUDIENCE"},
	{"IDPCommunicationError", "", "BROKER_ISSUER"},
	{"AccessDenied", "sts:assumerolewithwebidentity", "BROKER_AWS_ACCOUNT and BROKER_AWS_ROLE"},
	{"RegionDisabledException", "", "BROKER_AWS_REGION"},
	{"ValidationError", "maxsessionduration", "BROKER_AWS_SESSION_SECONDS"},
	{"ValidationError", "session limit", "BROKER_AWS_SESSION_SECONDS"},
	{"ValidationError", "", "BROKER_AWS_ACCOUNT and BROKER_AWS_ROLE"},
	{"InvalidAction", "", "BROKER_AWS_STS_ENDPOINT"},
}

// asked names the variables to look at, and is "" where none is the likely cause.
func asked(code, message string) string {
	for _, row := range askedBy {
		if row.code == code && strings.Contains(strings.ToLower(message), row.message) {
			return " See " + row.variables + " too."
		}
	}
	return ""
}

// reading takes from the reading of an error what it means, what it comes from where
// the token shows that, and the fix of the likeliest cause that the token does not
// rule out.
func reading(r *federation.ErrorReading) (meaning, why, fix string) {
	if !r.Known {
		return "This error is not on record here.", "", "Look the code up at AWS, among the errors of AssumeRoleWithWebIdentity."
	}
	likeliest := r.Causes[0]
	for _, c := range slices.Backward(r.Causes) {
		if c.Verdict == "" {
			likeliest = c
		}
	}
	for _, c := range r.Causes {
		if c.Verdict == federation.CauseIsThis {
			return r.Meaning, c.Why, c.Fix
		}
	}
	return r.Meaning, "", likeliest.Fix
}

// unanswered is for a call to which STS said nothing.
func unanswered(fault string, unknown bool) string {
	const next = " Try again; if it stays so:" + tellOperator + "See to the network, and to BROKER_AWS_REGION and BROKER_AWS_STS_ENDPOINT." +
		` "agentkeys federation explain --token FILE" says what STS makes of a token.`
	if unknown {
		return "STS gave nothing that can be used: " + fault + ". It may have issued credentials all the same; nobody has them, and they end by themselves." + next
	}
	return "STS was not reached: " + fault + ". It issued nothing." + next
}

// part is a part of the explanation: without the token, and no longer than most.
func part(a broker.AssumeRole, text string, most int) string { return clipped(line(a, text), most) }

// line is text without the token, on one line of printable characters.
func line(a broker.AssumeRole, text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, a.Token.Redact(text))
	return strings.Join(strings.Fields(text), " ")
}

func clipped(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

func length(text string) int { return len([]rune(text)) }
