package policy

// Evaluate decides a request over every policy that applies to it. It allocates
// only where an IgnoreCase operator meets a variable or text outside ASCII.
// Where the decision is a refusal that rests on a point AWS leaves unsettled,
// Decision.Ambiguous names the point; an allowed request never rests on one.
// Source: IAM User Guide, reference_policies_evaluation-logic.
func Evaluate(r *Request, s *Set) Decision {
	return decide(r, s, nil)
}

// visitor is told the outcome of every statement, in the order of evaluation.
type visitor func(layer Layer, p *Policy, statement int, o outcome)

// decide is the one path to a decision; Explain takes it too.
func decide(r *Request, s *Set, visit visitor) Decision {
	e := evaluation{r: r, s: s, visit: visit}
	e.run()
	if r.isGetCallerIdentity() {
		return Decision{Allowed: true, Statement: -1}
	}
	d := e.strict.decide(r, s, limitedGrant)
	if !d.Allowed && e.unsettled && e.lenient.decide(r, s, directGrant).Allowed {
		d.Ambiguous = e.allowWhy
		if d.Explicit {
			d.Ambiguous = e.denyWhy
		}
	}
	return d
}

// ref points to a statement.
type ref struct {
	layer     Layer
	policy    *Policy
	statement int
}

func (f ref) found() bool { return f.policy != nil }

// tally gathers, for one reading of the unsettled points, the first statement
// of each sort that matched.
type tally struct {
	deny     ref
	identity ref
	boundary ref
	session  ref
	grants   [grantCount]ref
	// controlled is set when a level of the service control policies has no
	// Allow for the request.
	controlled bool
}

// evaluation is the state of one decision. strict takes the unsettled points
// the way that lets less through, lenient the other way.
type evaluation struct {
	r       *Request
	s       *Set
	visit   visitor
	strict  tally
	lenient tally
	// unsettled says that the readings may differ; the other two are the first
	// points on which an Allow and a Deny rest.
	unsettled         bool
	allowWhy, denyWhy string
}

func (e *evaluation) run() {
	if p := &e.r.Principal; p.Kind != Anonymous && p.Kind != Service && !p.serviceLinked() {
		for _, level := range e.s.ServiceControl {
			strict, lenient := e.level(ServiceControlLayer, level)
			e.strict.controlled = e.strict.controlled || !strict
			e.lenient.controlled = e.lenient.controlled || !lenient
		}
	}
	for _, level := range e.s.ResourceControl {
		// AWS attaches RCPFullAWSAccess everywhere and nobody can detach it, so
		// resource control policies only deny.
		e.level(ResourceControlLayer, level)
	}
	e.level(ResourceLayer, e.s.Resource)
	e.level(IdentityLayer, e.s.Identity)
	e.level(BoundaryLayer, e.s.Boundary)
	e.level(SessionLayer, e.s.Session)
}

// level runs over the statements of one group of policies and reports whether
// an Allow matched, in the strict and in the lenient reading.
func (e *evaluation) level(layer Layer, policies []*Policy) (strict, lenient bool) {
	for _, p := range policies {
		for i := range p.statements {
			st := &p.statements[i]
			o := st.match(e.r, e.s, layer)
			if e.visit != nil {
				e.visit(layer, p, i, o)
			}
			if o.verdict == no {
				continue
			}
			at := ref{layer, p, i}
			if st.effect == Deny {
				e.deny(at, o)
				continue
			}
			lenient = true
			strict = strict || o.verdict == yes
			e.allow(at, o)
		}
	}
	return strict, lenient
}

// deny takes in a Deny that matched, or that may match.
func (e *evaluation) deny(at ref, o outcome) {
	first(&e.strict.deny, at)
	if o.verdict == yes {
		first(&e.lenient.deny, at)
		return
	}
	e.unsettled = true
	if e.denyWhy == "" {
		e.denyWhy = o.why
	}
}

// allow takes in an Allow that matched, or that may match.
func (e *evaluation) allow(at ref, o outcome) {
	e.lenient.allow(at, o.grant)
	if o.verdict == yes {
		e.strict.allow(at, o.grant)
	}
	if o.why == "" {
		return
	}
	e.unsettled = true
	if e.allowWhy == "" {
		e.allowWhy = o.why
	}
}

func first(f *ref, at ref) {
	if !f.found() {
		*f = at
	}
}

func (t *tally) allow(at ref, g grant) {
	switch at.layer {
	case ResourceLayer:
		first(&t.grants[g], at)
	case IdentityLayer:
		first(&t.identity, at)
	case BoundaryLayer:
		first(&t.boundary, at)
	case SessionLayer:
		first(&t.session, at)
	}
}

// decide combines what matched. everyoneAs is how a grant by NotPrincipal
// counts.
func (t *tally) decide(r *Request, s *Set, everyoneAs grant) Decision {
	if t.deny.found() {
		d := t.deny.decision(false)
		d.Explicit = true
		return d
	}
	if t.controlled {
		return refused(ServiceControlLayer)
	}
	first(&t.grants[everyoneAs], t.grants[everyone])
	p := &r.Principal
	switch {
	case p.Kind == Anonymous || p.Kind == Service || p.Kind == WebIdentity:
		return t.byResource()
	case p.Account != "" && p.Account == r.ResourceAccount:
		return t.sameAccount(r, s)
	default:
		return t.crossAccount(r, s)
	}
}

// byResource decides for a caller that has no policies of its own.
func (t *tally) byResource() Decision {
	for g := directGrant; g > noGrant; g-- {
		if t.grants[g].found() {
			return t.grants[g].decision(true)
		}
	}
	return refused(ResourceLayer)
}

// sameAccount takes the union of what the resource's policy grants and what the
// caller's policies grant. Only the latter, and a grant to the role, is limited
// by boundary and session policy.
func (t *tally) sameAccount(r *Request, s *Set) Decision {
	if f := t.grants[directGrant]; f.found() {
		if r.Principal.Kind != User || s.Session == nil || t.session.found() {
			return f.decision(true)
		}
		return refused(SessionLayer)
	}
	limit, limited := t.limit(r, s)
	if f := t.grants[limitedGrant]; f.found() {
		if limited {
			return refused(limit)
		}
		return f.decision(true)
	}
	if s.ResourceMustAllow && !t.grants[accountGrant].found() {
		return refused(ResourceLayer)
	}
	return t.byIdentity(r, s)
}

// crossAccount wants an Allow on both sides.
func (t *tally) crossAccount(r *Request, s *Set) Decision {
	d := t.byIdentity(r, s)
	if !d.Allowed {
		return d
	}
	return t.byResource()
}

// byIdentity decides by the caller's own policies.
func (t *tally) byIdentity(r *Request, s *Set) Decision {
	if r.Principal.Kind == Root { // nothing but control policies and denies limits root
		return Decision{Allowed: true, Layer: IdentityLayer, Statement: -1}
	}
	if !t.identity.found() {
		return refused(IdentityLayer)
	}
	if limit, limited := t.limit(r, s); limited {
		return refused(limit)
	}
	return t.identity.decision(true)
}

// limit returns the layer that keeps the caller's permissions down, if any does.
func (t *tally) limit(r *Request, s *Set) (Layer, bool) {
	switch {
	case s.Boundary != nil && r.Principal.Kind != Root && !t.boundary.found():
		return BoundaryLayer, true
	case s.Session != nil && !t.session.found():
		return SessionLayer, true
	}
	return "", false
}

func refused(layer Layer) Decision { return Decision{Layer: layer, Statement: -1} }

func (f ref) decision(allowed bool) Decision {
	return Decision{
		Allowed: allowed, Layer: f.layer, Policy: f.policy.name,
		Statement: f.statement, Sid: f.policy.statements[f.statement].sid,
	}
}
