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
// what STS answered to a call, what that means, what to do, and which command says
// more. It reads the token's claims for that, and shows nothing of the token. It asks
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
	rest := ". " + part(a, meaning, maxRefusalPart) + " What to do: " + part(a, fix, maxRefusalPart) +
		` Next: "agentkeys federation explain --token FILE --error -", with this error on standard input.`
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
	const next = ` What to do: Check the endpoint and the network, and try again. Next: "agentkeys federation explain --token FILE" says what STS makes of a token.`
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
