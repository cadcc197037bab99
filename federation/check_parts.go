package federation

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"agentkeys/policy"
)

// part is one statement of a document in force, made to decide alone. Statements
// of one layer add up, so a document decides as its parts do together; and a
// grant that is looked at alone cannot be hidden by another one.
type part struct {
	from       Statement
	statement  policy.Statement
	document   *policy.Document // that it is of
	policy     *policy.Policy   // the statement
	bare       *policy.Policy   // the statement without its conditions
	conditions []*condition
	admitted   map[string]bool // what admits found out, by action
	// given marks a grant that stands for what somebody else's account allows its
	// own: it is assumed, not found.
	given bool
}

// condition is one condition of a part.
type condition struct {
	policy.Condition
	key  string // folded
	part *part
	test *policy.Policy // allows where the condition holds
}

func foldKey(key string) string { return strings.ToLower(key) }

// split takes a document apart. A document that cannot be read has no parts; the
// report says that it is unread.
func (k *checker) split(d Document) []*part {
	if d.Err != nil {
		k.unread(d.Name, d.Err)
		return nil
	}
	if d.Policy == nil {
		return nil
	}
	if parts, ok := k.parts[d.Policy]; ok {
		return parts
	}
	var parts []*part
	for i, s := range d.Policy.Statements {
		p, err := newPart(d.Name, len(k.byName), i, s, d.Policy)
		if err != nil {
			k.unread(d.Name, err)
			continue
		}
		k.byName[p.policy.Name()] = p
		parts = append(parts, p)
	}
	k.parts[d.Policy] = parts
	return parts
}

// newPart makes a part of a statement. Documents may have a name in common, so it
// is the serial number that tells the parts' policies apart.
func newPart(name string, serial, index int, s policy.Statement, d *policy.Document) (*part, error) {
	p := &part{from: Statement{Document: name, Statement: index, Sid: s.Sid}, statement: s, document: d, admitted: map[string]bool{}}
	alone := func(s policy.Statement, suffix string) (*policy.Policy, error) {
		return policy.Compile(fmt.Sprintf("%s#%d/%d%s", name, serial, index, suffix), &policy.Document{Version: d.Version, Statements: []policy.Statement{s}})
	}
	var err error
	if p.policy, err = alone(s, ""); err != nil {
		return nil, err
	}
	bare := s
	bare.Condition = nil
	if p.bare, err = alone(bare, " bare"); err != nil {
		return nil, err
	}
	for i, c := range s.Condition {
		test := policy.Statement{Effect: policy.Allow, Action: []string{"*"}, Resource: []string{"*"}, Condition: []policy.Condition{c}}
		compiled, err := alone(test, fmt.Sprintf(" condition %d", i))
		if err != nil {
			return nil, err
		}
		p.conditions = append(p.conditions, &condition{Condition: c, key: foldKey(c.Key), part: p, test: compiled})
	}
	return p, nil
}

// holds reports whether the condition holds under a context; unsettled where AWS
// leaves that open.
func (c *condition) holds(keys *policy.Context) (holds, unsettled bool) {
	r := policy.Request{Principal: policy.Principal{Kind: policy.User}, Action: "s3:GetObject", Resource: "arn:aws:s3:::b/k", Context: keys}
	applies, unsettled := c.test.Applies(&r, &policy.Set{}, policy.IdentityLayer)
	return applies && !unsettled, unsettled
}

// keys are the keys of the part's conditions.
func (p *part) keys() []string {
	var keys []string
	for _, c := range p.conditions {
		keys = append(keys, c.key)
	}
	return keys
}

var variableKey = regexp.MustCompile(`\$\{([^},]+)`)

// variables are the keys that the part's policy variables stand for.
func (p *part) variables() []string {
	texts := slices.Concat(p.statement.Resource, p.statement.NotResource)
	for _, c := range p.conditions {
		texts = append(texts, c.Values...)
	}
	var keys []string
	for _, text := range texts {
		for _, m := range variableKey.FindAllStringSubmatch(text, -1) {
			keys = append(keys, foldKey(m[1]))
		}
	}
	return keys
}

// admits reports whether the statement's Action or NotAction takes an action in.
func (p *part) admits(action string) bool {
	if admitted, ok := p.admitted[action]; ok {
		return admitted
	}
	list, not := p.statement.Action, false
	if p.statement.NotAction != nil {
		list, not = p.statement.NotAction, true
	}
	matches := slices.ContainsFunc(list, func(text string) bool {
		end := strings.IndexAny(text, "*?")
		if end < 0 {
			return strings.EqualFold(text, action)
		}
		if end > len(action) || !strings.EqualFold(text[:end], action[:end]) {
			return false
		}
		globs := p.document.Globs(strings.ToLower(text), true, nil)
		return len(globs) == 1 && globs[0].Matches(strings.ToLower(action))
	})
	p.admitted[action] = matches != not
	return matches != not
}

// allows reports whether the part is an Allow.
func (p *part) allows() bool { return p.statement.Effect == policy.Allow }

// layers are the parts of every policy that applies to a request.
type layers struct {
	identity []*part
	boundary []*part
	bounded  bool // there is a boundary, with whatever parts
	resource []*part
	scp, rcp [][]*part
	// mustAllow: a trust policy has to allow by itself.
	mustAllow bool
}

// everyLayer visits all parts with their layer.
func (l *layers) everyLayer(visit func(policy.Layer, *part)) {
	for _, group := range []struct {
		layer policy.Layer
		parts []*part
	}{{policy.IdentityLayer, l.identity}, {policy.BoundaryLayer, l.boundary}, {policy.ResourceLayer, l.resource}} {
		for _, p := range group.parts {
			visit(group.layer, p)
		}
	}
	for _, level := range l.scp {
		for _, p := range level {
			visit(policy.ServiceControlLayer, p)
		}
	}
	for _, level := range l.rcp {
		for _, p := range level {
			visit(policy.ResourceControlLayer, p)
		}
	}
}

// keep returns the layers with those parts alone that wanted names.
func (l *layers) keep(wanted func(policy.Layer, *part) bool) layers {
	filter := func(layer policy.Layer, parts []*part) []*part {
		var kept []*part
		for _, p := range parts {
			if wanted(layer, p) {
				kept = append(kept, p)
			}
		}
		return kept
	}
	out := layers{bounded: l.bounded, mustAllow: l.mustAllow}
	out.identity = filter(policy.IdentityLayer, l.identity)
	out.boundary = filter(policy.BoundaryLayer, l.boundary)
	out.resource = filter(policy.ResourceLayer, l.resource)
	for _, level := range l.scp {
		out.scp = append(out.scp, filter(policy.ServiceControlLayer, level))
	}
	for _, level := range l.rcp {
		out.rcp = append(out.rcp, filter(policy.ResourceControlLayer, level))
	}
	return out
}

// only returns the layers with one grant and every limit: of what identity and
// resource policies allow, that part alone is left; of what a trust policy allows,
// whatever the caller's own policies do. A nil part keeps all.
func (l *layers) only(grant *part) layers {
	if grant == nil {
		return *l
	}
	return l.keep(func(layer policy.Layer, p *part) bool {
		granting := layer == policy.ResourceLayer || layer == policy.IdentityLayer && !l.mustAllow
		return !granting || !p.allows() || p == grant || p.given
	})
}

// all are the parts of every layer.
func (l *layers) all() []*part {
	var parts []*part
	l.everyLayer(func(_ policy.Layer, p *part) { parts = append(parts, p) })
	return parts
}

// grants are the parts that can let somebody in.
func (l *layers) grants() []*part {
	var parts []*part
	l.everyLayer(func(layer policy.Layer, p *part) {
		if p.allows() && !p.given && (layer == policy.IdentityLayer || layer == policy.ResourceLayer) {
			parts = append(parts, p)
		}
	})
	return parts
}

func compiled(parts []*part) []*policy.Policy {
	var out []*policy.Policy
	for _, p := range parts {
		out = append(out, p.policy)
	}
	return out
}

// set is the layers as Evaluate takes them.
func (l *layers) set() *policy.Set {
	s := &policy.Set{Identity: compiled(l.identity), Resource: compiled(l.resource), ResourceMustAllow: l.mustAllow}
	if l.bounded {
		s.Boundary = append([]*policy.Policy{}, compiled(l.boundary)...)
	}
	for _, level := range l.scp {
		s.ServiceControl = append(s.ServiceControl, compiled(level))
	}
	for _, level := range l.rcp {
		s.ResourceControl = append(s.ResourceControl, compiled(level))
	}
	return s
}
