package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// Explain decides as Evaluate does and says for every statement of the Set
// whether it matched and, where it did not, which element failed first.
func Explain(r *Request, s *Set) Explanation {
	var x Explanation
	x.Decision = decide(r, s, func(layer Layer, p *Policy, i int, o outcome) {
		st := &p.statements[i]
		result := StatementResult{
			Layer: layer, Policy: p.name, Statement: i, Sid: st.sid, Effect: st.effect,
			Matched: o.matched(st.effect),
		}
		if !result.Matched {
			result.Failed = describeFailure(&p.doc.Statements[i], st, o, r, layer)
		}
		if o.verdict != no {
			result.Ambiguous = o.why
		}
		x.Statements = append(x.Statements, result)
	})
	x.Text = x.text(r)
	return x
}

// layerNames is how AWS' own refusals call the layers.
var layerNames = map[Layer]string{
	IdentityLayer:        "identity-based policy",
	ResourceLayer:        "resource-based policy",
	BoundaryLayer:        "permissions boundary",
	SessionLayer:         "session policy",
	ServiceControlLayer:  "service control policy",
	ResourceControlLayer: "resource control policy",
}

func (x *Explanation) text(r *Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", x.headline(r))
	for i := range x.Statements {
		fmt.Fprintf(&b, "  %s\n", x.Statements[i].line())
	}
	return b.String()
}

// headline is the decision in one line.
func (x *Explanation) headline(r *Request) string {
	what := fmt.Sprintf("%s on %s for %s", printable(r.Action), strconv.Quote(r.Resource), r.Principal.describe())
	switch {
	case x.Allowed && x.Layer == "":
		return "allowed: " + what + ": any caller with credentials may"
	case x.Allowed && x.Statement < 0:
		return "allowed: " + what + ": the account's root user may"
	case x.Allowed:
		return "allowed: " + what + " by " + x.statement()
	case x.Explicit:
		return "refused: " + what + " with an explicit deny in " + x.statement() + x.ambiguity()
	default:
		return "refused: " + what + " because no " + layerNames[x.Layer] + " allows it" + x.ambiguity()
	}
}

func (x *Explanation) statement() string {
	return fmt.Sprintf("%s %s", layerNames[x.Layer], statementName(x.Policy, x.Statement, x.Sid))
}

func (x *Explanation) ambiguity() string {
	if x.Ambiguous == "" {
		return ""
	}
	return " (AWS leaves unsettled " + x.Ambiguous + ")"
}

// line is the result of a statement in one line.
func (s *StatementResult) line() string {
	what := s.Failed
	if s.Matched {
		what = "matched"
		if s.Ambiguous != "" {
			what += ", AWS leaves unsettled " + s.Ambiguous
		}
	}
	return fmt.Sprintf("%s %s, %s: %s", layerNames[s.Layer], statementName(s.Policy, s.Statement, s.Sid), s.Effect, what)
}

func statementName(policy string, statement int, sid string) string {
	name := fmt.Sprintf("%q statement %d", policy, statement)
	if sid != "" {
		name += " (" + printable(sid) + ")"
	}
	return name
}

// printable keeps text of a document or a request on its line.
func printable(s string) string {
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

// describe names the caller for a person.
func (p *Principal) describe() string {
	switch p.Kind {
	case Anonymous:
		return "an anonymous caller"
	case WebIdentity:
		return "a web identity of " + printable(p.Provider)
	case Service:
		return "the service " + printable(p.Service)
	default:
		return printable(p.ARN)
	}
}

// describeFailure names the first element that did not match, with what was
// wanted and what was there.
func describeFailure(doc *Statement, st *statement, o outcome, r *Request, layer Layer) string {
	var text string
	switch o.failed {
	case elementPrincipal:
		text = describePrincipal(doc, r, layer)
	case elementAction:
		text = describeList("Action", doc.Action, doc.NotAction, r.Action)
	case elementResource:
		text = describeResource(doc, st, r)
	case elementCondition:
		text = st.conditions[o.condition].describe(r.Context)
	}
	if o.verdict == maybe {
		text += "; AWS leaves unsettled " + o.why
	}
	return text
}

func describePrincipal(doc *Statement, r *Request, layer Layer) string {
	got := r.Principal.describe()
	switch {
	case doc.Principal == nil && doc.NotPrincipal == nil:
		return "Principal: got " + got + ", want one, but the statement names none"
	case layer != ResourceLayer && layer != ServiceControlLayer && layer != ResourceControlLayer:
		return "Principal: has no place in this kind of policy"
	case doc.Principal != nil:
		return "Principal: got " + got + ", want one of " + doc.Principal.describe()
	default:
		return "NotPrincipal: got " + got + ", want none of " + doc.NotPrincipal.describe()
	}
}

func (p *Principals) describe() string {
	if p.Any {
		return `"*"`
	}
	var list []string
	for _, m := range p.members() {
		for _, text := range m.list {
			list = append(list, m.name+" "+strconv.Quote(text))
		}
	}
	return "[" + strings.Join(list, ", ") + "]"
}

func describeList(element string, want, wantNot []string, got string) string {
	if want != nil {
		return fmt.Sprintf("%s: got %q, want one of %s", element, got, quoteList(want))
	}
	return fmt.Sprintf("Not%s: got %q, want none of %s", element, got, quoteList(wantNot))
}

func describeResource(doc *Statement, st *statement, r *Request) string {
	if doc.Resource == nil && doc.NotResource == nil {
		return fmt.Sprintf("Resource: got %q, but the statement names none", r.Resource)
	}
	var vars []variable
	for _, list := range [][]arnPattern{st.resource, st.notResource} {
		for i := range list {
			vars = append(vars, list[i].whole.vars...)
		}
	}
	return describeList("Resource", doc.Resource, doc.NotResource, r.Resource) + describeVariables(vars, r.Context)
}

// describe says what the condition wanted and what the request had.
func (c *condition) describe(ctx *Context) string {
	got, present := ctx.lookup(c.key)
	head := fmt.Sprintf("Condition %s %s: got ", c.operator, printable(c.name))
	switch {
	case !present:
		head += "no such key"
	case got.multi:
		head += "the list " + quoteList(got.list)
	default:
		head += strconv.Quote(got.single)
	}
	if c.op.family == null {
		return head + ", want " + c.describeNull()
	}
	if present && got.multi && c.op.quant == scalar {
		return head + ", want a single value"
	}
	want := ", want one of "
	if c.op.negated {
		want = ", want none of "
	}
	var vars []variable
	for i := range c.values {
		vars = append(vars, c.values[i].pattern.vars...)
		vars = append(vars, c.values[i].arn.whole.vars...)
	}
	return head + want + quoteList(c.texts) + describeVariables(vars, ctx)
}

func (c *condition) describeNull() string {
	if len(c.values) == 0 {
		return "true or false, but the list is empty"
	}
	if c.values[0].truth {
		return "the key absent"
	}
	return "the key present"
}

// describeVariables says what the policy variables stood for.
func describeVariables(vars []variable, ctx *Context) string {
	var b strings.Builder
	seen := make(map[string]bool)
	for _, v := range vars {
		if seen[v.key] {
			continue
		}
		seen[v.key] = true
		if b.Len() == 0 {
			b.WriteString(", where ")
		} else {
			b.WriteString(" and ")
		}
		switch got, present := ctx.lookup(v.key); {
		case !present:
			fmt.Fprintf(&b, "%s is absent", printable(v.name))
		case got.multi:
			fmt.Fprintf(&b, "%s is a list, which is never put in", printable(v.name))
		default:
			fmt.Fprintf(&b, "%s is %q", printable(v.name), got.single)
		}
	}
	return b.String()
}

func quoteList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
