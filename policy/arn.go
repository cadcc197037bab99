package policy

import (
	"fmt"
	"strings"
)

// arnParts is how many parts an ARN has: arn, partition, service, region,
// account and resource. The last one may hold colons.
const arnParts = 6

// splitARN splits an ARN into its six parts.
func splitARN(s string) (parts [arnParts]string, ok bool) {
	if !strings.HasPrefix(s, "arn:") {
		return parts, false
	}
	for i := range arnParts - 1 {
		head, rest, found := strings.Cut(s, ":")
		if !found {
			return parts, false
		}
		parts[i], s = head, rest
	}
	parts[arnParts-1] = s
	return parts, true
}

// arnPattern matches ARNs part by part, so that a wildcard or the value of a
// variable in one part never reaches into the next.
type arnPattern struct {
	text string
	// whole matches the ARN at once where the first five parts are literal,
	// which pins the colons, and where there are fewer than six parts.
	whole pattern
	parts []pattern
	any   bool // "*" alone
	short bool // fewer than six parts: what AWS makes of it is not settled
}

// whyShortARN names the point that arnPattern.short leaves open.
const whyShortARN = "what a pattern with fewer than six ARN parts matches"

func parseARNPattern(text string, vars bool) (arnPattern, error) {
	parts, variables, err := scanPattern(text, true, vars)
	if err != nil {
		return arnPattern{}, err
	}
	a := arnPattern{text: text, any: text == "*", whole: newPattern(text, parts, variables)}
	split := splitParts(parts)
	if len(split) < arnParts {
		a.short = true
		return a, nil
	}
	literal := true
	for _, seg := range split[:arnParts-1] {
		literal = literal && (len(seg) == 0 || len(seg) == 1 && seg[0].kind == partLiteral)
	}
	if literal {
		return a, nil
	}
	for _, seg := range split {
		a.parts = append(a.parts, partPattern(seg, variables))
	}
	return a, nil
}

// partPattern makes the pattern of one ARN part, with the variables that it uses.
func partPattern(seg []part, variables []variable) pattern {
	var own []variable
	renumbered := make([]part, len(seg))
	for i, t := range seg {
		if t.kind == partVariable {
			own = append(own, variables[t.v])
			t.v = len(own) - 1
		}
		renumbered[i] = t
	}
	return newPattern("", renumbered, own)
}

// splitParts splits a scanned pattern at its literal colons into at most six.
func splitParts(parts []part) [][]part {
	split := [][]part{nil}
	for _, t := range parts {
		for t.kind == partLiteral && len(split) < arnParts {
			head, rest, found := strings.Cut(t.lit, ":")
			if !found {
				break
			}
			last := len(split) - 1
			if head != "" {
				split[last] = append(split[last], part{kind: partLiteral, lit: head})
			}
			split = append(split, nil)
			t.lit = rest
		}
		if t.kind != partLiteral || t.lit != "" {
			last := len(split) - 1
			split[last] = append(split[last], t)
		}
	}
	return split
}

// match matches an ARN that splitARN accepts.
func (a *arnPattern) match(arn string, c *Context) verdict {
	if len(a.parts) == 0 {
		v := a.whole.match(arn, c)
		if a.short {
			if !strings.HasSuffix(a.text, "*") {
				return no
			}
			v = min(v, maybe)
		}
		return v
	}
	split, ok := splitARN(arn)
	if !ok {
		return no
	}
	v := yes
	for i := range a.parts {
		v = min(v, a.parts[i].match(split[i], c))
		if v == no {
			break
		}
	}
	return v
}

// why names the point that a verdict of maybe rests on.
func (a *arnPattern) why() string {
	if a.short {
		return whyShortARN
	}
	return whyEmptyDefault
}

// matchResource matches the resource of a request, which is an ARN or, for an
// action that has no resource, "*".
func (a *arnPattern) matchResource(resource string, c *Context) verdict {
	if a.any {
		return yes
	}
	if resource == "*" {
		return verdictOf(!a.short && strings.HasSuffix(a.text, ":*"))
	}
	return a.match(resource, c)
}

// checkResource refuses a Resource that AWS does not take: one that is neither
// "*" nor an ARN, or that has a wildcard in the service.
func (a *arnPattern) checkResource() error {
	if a.any {
		return nil
	}
	if !strings.HasPrefix(a.text, "arn:") {
		return fmt.Errorf(`resource %q: want an ARN or "*"`, clip(a.text))
	}
	if a.short && !strings.HasSuffix(a.text, "*") {
		return fmt.Errorf("resource %q: want the six parts of an ARN", clip(a.text))
	}
	if len(a.parts) > 0 && !a.parts[2].plain {
		return fmt.Errorf("resource %q: want no wildcard and no variable in the service", clip(a.text))
	}
	return nil
}
