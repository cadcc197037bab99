package federation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"agentkeys/policy"
)

// ask is one request that must be allowed, in all but the condition keys that its
// sender is free to choose.
type ask struct {
	request policy.Request // without its Context
	keys    *policy.Context
	names   map[string]string // the keys' names as they are written, by folded name
	layers  layers
	free    func(key string) bool // whether the sender chooses the key, by its folded name
}

// answer is what a search came to.
type answer struct {
	allowed   bool
	ambiguous string          // where the request is allowed under one reading of AWS alone, the open point
	decision  policy.Decision // of the first ask
	keys      *policy.Context // of the first ask
	context   map[string][]string
}

func (a answer) gotIn() bool { return a.allowed || a.ambiguous != "" }

// value is what a condition key may have in a request.
type value struct {
	absent bool
	list   bool
	vals   []string
}

func (v value) set(c *policy.Context, key string) {
	switch {
	case v.absent:
		c.Delete(key)
	case v.list:
		c.SetList(key, v.vals...)
	default:
		c.Set(key, v.vals[0])
	}
}

// search looks for values of the free keys under which every ask is allowed. It
// begins with the ordinary values and changes one key at a time, and only where a
// statement that stood in the way, or one that would have to allow, depends on
// it. As each step fixes a key for good, no search goes deeper than there are keys
// in the documents; and if any values would do, some path leads to them, because
// on it each step fixes one key as those values have it.
func (k *checker) search(asks ...*ask) answer {
	s := &searching{checker: k, asks: asks, domains: map[string][]value{}, seen: map[string]bool{}}
	for _, a := range asks {
		s.reduce(a)
	}
	s.step(map[string]value{})
	if s.found == nil {
		return answer{decision: s.first}
	}
	return *s.found
}

// maxSteps bounds one search. It is far beyond what documents within AWS' size
// limits need; where it is reached, the report says so.
const maxSteps = 20000

type searching struct {
	*checker
	asks    []*ask
	reduced []layers
	sets    []*policy.Set
	domains map[string][]value
	byKey   map[string][]*condition
	seen    map[string]bool
	steps   int
	first   policy.Decision // of the first step's refusal
	found   *answer
}

// reduce leaves out of an ask the statements that match it under no conditions.
func (s *searching) reduce(a *ask) {
	r := a.request
	r.Context = a.keys
	whole := a.layers.set()
	l := a.layers.keep(func(layer policy.Layer, p *part) bool {
		applies, _ := p.bare.Applies(&r, whole, layer)
		return applies
	})
	s.reduced = append(s.reduced, l)
	s.sets = append(s.sets, l.set())
}

// step tries one choice of values and, where it is refused, those that differ in
// one more key. It reports whether the search is over.
func (s *searching) step(chosen map[string]value) bool {
	id := describeChoice(chosen)
	if s.seen[id] {
		return false
	}
	s.seen[id] = true
	if s.steps++; s.steps > maxSteps {
		s.gaveUp(s.asks[0])
		return true
	}
	contexts := make([]*policy.Context, len(s.asks))
	refused, ambiguous := -1, ""
	var why, firstDecision policy.Decision
	for i, a := range s.asks {
		contexts[i] = s.context(i, chosen)
		r := a.request
		r.Context = contexts[i]
		d := policy.Evaluate(&r, s.sets[i])
		if i == 0 {
			firstDecision = d
		}
		if d.Allowed {
			continue
		}
		if refused < 0 {
			refused, why = i, d
			ambiguous = d.Ambiguous
		} else if d.Ambiguous == "" {
			ambiguous = ""
		}
	}
	if s.steps == 1 {
		s.first = why
	}
	if refused < 0 {
		s.found = &answer{allowed: true, decision: firstDecision, keys: contexts[0], context: s.witness(chosen, contexts[0])}
		return true
	}
	if ambiguous != "" && s.found == nil {
		s.found = &answer{ambiguous: ambiguous, decision: why, keys: contexts[0], context: s.witness(chosen, contexts[0])}
	}
	return s.repair(refused, why, chosen, contexts[refused])
}

// repair changes what a refusal rests on: a condition of the Deny, or one of a
// statement that would have allowed.
func (s *searching) repair(i int, d policy.Decision, chosen map[string]value, keys *policy.Context) bool {
	if d.Explicit {
		for _, c := range s.byName[d.Policy].conditions {
			if s.change(i, c, false, chosen, keys) {
				return true
			}
		}
		return false
	}
	done := false
	s.reduced[i].everyLayer(func(layer policy.Layer, p *part) {
		if done || !p.allows() || !rescues(layer, d.Layer) {
			return
		}
		for _, c := range p.conditions {
			if holds, _ := c.holds(keys); !holds {
				done = s.change(i, c, true, chosen, keys)
				return
			}
		}
	})
	return done
}

// rescues reports whether an Allow of a layer can undo a refusal for want of one.
func rescues(layer, refusedBy policy.Layer) bool {
	granting := func(l policy.Layer) bool { return l == policy.IdentityLayer || l == policy.ResourceLayer }
	return layer == refusedBy || granting(layer) && granting(refusedBy)
}

// change tries every value of a condition's key that makes it hold, or not hold.
func (s *searching) change(i int, c *condition, want bool, chosen map[string]value, keys *policy.Context) bool {
	if _, fixed := chosen[c.key]; fixed || !s.asks[i].free(c.key) {
		return false
	}
	for _, v := range s.domain(c.key) {
		trial := keys.Clone()
		v.set(trial, c.Key)
		holds, unsettled := c.holds(trial)
		if want && !holds && !unsettled || !want && (holds || unsettled) {
			continue
		}
		next := maps.Clone(chosen)
		next[c.key] = v
		if incoherent(next) {
			continue
		}
		if s.step(next) {
			return true
		}
	}
	return false
}

// vpcKeys are there only for a request through a VPC endpoint, which has no
// source address on the internet (IAM User Guide, global condition keys).
var vpcKeys = []string{"aws:sourcevpc", "aws:sourcevpce", "aws:vpcsourceip"}

// incoherent reports whether no request can have these values together.
func incoherent(chosen map[string]value) bool {
	address, ok := chosen["aws:sourceip"]
	return ok && !address.absent && throughVPC(chosen)
}

func throughVPC(chosen map[string]value) bool {
	return slices.ContainsFunc(vpcKeys, func(key string) bool {
		v, ok := chosen[key]
		return ok && !v.absent
	})
}

// context is the condition keys of one ask under a choice.
func (s *searching) context(i int, chosen map[string]value) *policy.Context {
	a := s.asks[i]
	keys := a.keys.Clone()
	for key := range s.conditions() {
		if !a.free(key) {
			continue
		}
		v, ok := chosen[key]
		if !ok {
			v = s.ordinary(key)
			if key == "aws:sourceip" && throughVPC(chosen) {
				v = value{absent: true}
			}
		}
		v.set(keys, key)
	}
	return keys
}

// conditions are the conditions that matter to the asks, by key.
func (s *searching) conditions() map[string][]*condition {
	if s.byKey != nil {
		return s.byKey
	}
	all := map[string][]*condition{}
	for i := range s.reduced {
		s.reduced[i].everyLayer(func(_ policy.Layer, p *part) {
			for _, c := range p.conditions {
				if !slices.Contains(all[c.key], c) {
					all[c.key] = append(all[c.key], c)
				}
			}
		})
	}
	s.byKey = all
	return all
}

// domain is the values that a free key is tried with.
func (s *searching) domain(key string) []value {
	if d, ok := s.domains[key]; ok {
		return d
	}
	d := s.valuesOf(key, s.conditions()[key], s.asks[0].keys)
	s.domains[key] = d
	return d
}

func describeChoice(chosen map[string]value) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(chosen)) {
		fmt.Fprintf(&b, "%q=%v%q;", key, chosen[key].absent, chosen[key].vals)
	}
	return b.String()
}

// witness is the condition keys worth showing: those that some statement tests.
func (s *searching) witness(chosen map[string]value, keys *policy.Context) map[string][]string {
	out := map[string][]string{}
	a := s.asks[0]
	for key, conditions := range s.conditions() {
		if vals, ok := keys.Values(key); ok {
			name := conditions[0].Key
			if n, ok := a.names[key]; ok {
				name = n
			}
			out[name] = vals
		}
	}
	for key, name := range a.names {
		if vals, ok := keys.Values(key); ok {
			out[name] = vals
		}
	}
	return out
}
