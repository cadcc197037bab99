package federation

import (
	"slices"
	"strings"

	"agentkeys/policy"
)

// An explanation has to name every element of a statement that keeps a request
// out, not the first alone, and to know which of them rest on what only the
// request's sender knows. Both are found by evaluating statements cut down to the
// element in question; nothing here compares a condition by itself.

// unmet is an element of a statement that a request does not meet.
type unmet struct {
	element   string            // Principal, Action, Resource or Condition
	text      string            // what was wanted and got, as policy.Explain has it
	condition *policy.Condition // for Condition
	unknown   bool              // the condition is on a key that only the sender knows
}

// diagnosis is what one statement lacks.
type diagnosis struct {
	document  string
	index     int
	statement policy.Statement
	unmet     []unmet
}

func (d *diagnosis) at() *Statement {
	return &Statement{Document: d.document, Statement: d.index, Sid: d.statement.Sid}
}

// distance orders statements by how far they are from matching: one for somebody
// else is further than one with any number of conditions.
func (d *diagnosis) distance() int {
	n := 0
	for _, u := range d.unmet {
		n += map[string]int{"Principal": 1000, "Resource": 100, "Action": 10, "Condition": 11}[u.element]
	}
	return n
}

func (d *diagnosis) lacks(element string) *unmet {
	for i := range d.unmet {
		if d.unmet[i].element == element {
			return &d.unmet[i]
		}
	}
	return nil
}

// layerOf says where a document stands in the evaluation.
type layerOf int

const (
	asResource layerOf = iota
	asIdentity
)

// diagnoser evaluates parts of statements against one request.
type diagnoser struct {
	request *policy.Request
	layer   layerOf
	unknown func(key string) bool
}

// diagnose finds what each statement of one effect lacks, the nearest first.
func (g diagnoser) diagnose(d Document, effect policy.Effect) []diagnosis {
	if d.Policy == nil {
		return nil
	}
	var list []diagnosis
	for i, s := range d.Policy.Statements {
		if s.Effect == effect {
			list = append(list, diagnosis{d.Name, i, s, g.unmet(d.Policy.Version, s)})
		}
	}
	slices.SortStableFunc(list, func(a, b diagnosis) int { return a.distance() - b.distance() })
	return list
}

// unmet tries each element of a statement alone.
func (g diagnoser) unmet(version string, s policy.Statement) []unmet {
	var out []unmet
	try := func(element string, part policy.Statement, c *policy.Condition) {
		part.Effect = policy.Allow
		if text, ok := g.matches(version, part); !ok {
			out = append(out, unmet{element, text, c, c != nil && g.unknown(c.Key)})
		}
	}
	open := policy.Statement{Principal: g.self(), Action: []string{"*"}}
	if s.Resource != nil || s.NotResource != nil {
		open.Resource = []string{"*"}
	}
	if g.layer == asResource {
		part := open
		part.Principal, part.NotPrincipal = s.Principal, s.NotPrincipal
		try("Principal", part, nil)
	}
	part := open
	part.Action, part.NotAction = s.Action, s.NotAction
	try("Action", part, nil)
	if open.Resource != nil {
		part = open
		part.Resource, part.NotResource = s.Resource, s.NotResource
		try("Resource", part, nil)
	}
	for i := range s.Condition {
		part = open
		part.Condition = s.Condition[i : i+1]
		try("Condition", part, &s.Condition[i])
	}
	return out
}

// self is a Principal element that names the request's own caller.
func (g diagnoser) self() *policy.Principals {
	p := g.request.Principal
	switch {
	case g.layer == asIdentity:
		return nil
	case p.Kind == policy.WebIdentity:
		return &policy.Principals{Federated: []string{p.Provider}}
	}
	return &policy.Principals{AWS: []string{p.Issuer}}
}

func (g diagnoser) matches(version string, s policy.Statement) (failed string, ok bool) {
	p, err := policy.Compile("", &policy.Document{Version: version, Statements: []policy.Statement{s}})
	if err != nil {
		return err.Error(), false
	}
	set := &policy.Set{Resource: []*policy.Policy{p}, ResourceMustAllow: true}
	if g.layer == asIdentity {
		set = &policy.Set{Identity: []*policy.Policy{p}}
	}
	x := policy.Explain(g.request, set)
	return x.Statements[0].Failed, x.Statements[0].Matched
}

// senderKeys are condition keys that only the request's sender knows. Where a
// decision hangs on one of them, it cannot be told from the documents.
var senderKeys = []string{
	"aws:SourceIp", "aws:VpcSourceIp", "aws:SourceVpc", "aws:SourceVpce", "aws:SourceVpcArn", "aws:VpceAccount", "aws:VpceOrgID", "aws:VpceOrgPaths",
	"aws:UserAgent", "aws:Referer", "aws:CalledVia", "aws:CalledViaFirst", "aws:CalledViaLast",
	"s3:TlsVersion", "s3:signatureAge", "s3:authType", "s3:versionid", "s3:ExistingObjectTag/", "s3:RequestObjectTag/", "s3:RequestObjectTagKeys", "s3:x-amz-",
}

// senderOnly reports whether a key is known to the sender alone, and he has not
// told it.
func senderOnly(told map[string]string) func(string) bool {
	return func(key string) bool {
		for k := range told {
			if strings.EqualFold(k, key) {
				return false
			}
		}
		return slices.ContainsFunc(senderKeys, func(k string) bool {
			if strings.HasSuffix(k, "/") || strings.HasSuffix(k, "-") {
				return len(key) > len(k) && strings.EqualFold(key[:len(k)], k)
			}
			return strings.EqualFold(k, key)
		})
	}
}

// senderReadings are a document in the two ways in which its conditions on unknown keys
// can come out: the one that lets more through and the one that lets less. Where
// no statement has such a condition they are the same. A document of which nothing
// is left is nil.
func senderReadings(d *policy.Document, unknown func(string) bool) (more, less *policy.Document) {
	if d == nil {
		return nil, nil
	}
	read := func(generous bool) *policy.Document {
		out := &policy.Document{Version: d.Version, ID: d.ID}
		for _, s := range d.Statements {
			rest := slices.DeleteFunc(slices.Clone(s.Condition), func(c policy.Condition) bool { return unknown(c.Key) })
			holds := (s.Effect == policy.Allow) == generous
			if len(rest) < len(s.Condition) && !holds {
				s = neverMatches(s)
			}
			if len(rest) < len(s.Condition) && holds {
				s.Condition = rest
			}
			out.Statements = append(out.Statements, s)
		}
		return out
	}
	return read(true), read(false)
}

// neverMatches keeps a statement in its place, so that the others keep their
// numbers, with a condition that nothing meets.
func neverMatches(s policy.Statement) policy.Statement {
	s.Condition = []policy.Condition{{Operator: "Null", Key: "aws:EpochTime", Values: []string{"true"}}}
	return s
}
