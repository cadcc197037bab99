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
	// addsTags says that the sender may pass tags besides those in keys.
	addsTags bool
	free     func(key string) bool // whether the sender chooses the key, by its folded name
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
//
// A step that fails says on which of the fixed keys its failure rests. Where a key
// is not among them its other values would fail alike and are not tried, so that
// keys which have nothing to do with each other cost their sum and not their
// product.
func (k *checker) search(asks ...*ask) answer {
	s := &searching{checker: k, asks: asks, domains: map[string][]value{}, failed: map[string]blame{}}
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
	failed  map[string]blame // choices that were tried
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

// blame is the fixed keys that a failure rests on.
type blame map[string]bool

func (b blame) add(keys ...string) {
	for _, key := range keys {
		b[key] = true
	}
}

// everything blames all that is fixed.
func blameAll(chosen map[string]value) blame {
	return blameOf(chosen, slices.Collect(maps.Keys(chosen)))
}

// blameOf blames those of the keys that are fixed.
func blameOf(chosen map[string]value, keys []string) blame {
	b := blame{}
	for _, key := range keys {
		if _, fixed := chosen[key]; fixed {
			b.add(key)
		}
	}
	return b
}

// step tries one choice of values and, where it is refused, those that differ in
// one more key. It reports whether the search is over and, if not, why it failed.
func (s *searching) step(chosen map[string]value) (bool, blame) {
	id := describeChoice(chosen)
	if b, tried := s.failed[id]; tried {
		return false, b
	}
	if s.steps++; s.steps > maxSteps {
		s.gaveUp(s.asks[0])
		return true, nil
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
		return true, nil
	}
	if ambiguous != "" && s.found == nil {
		s.found = &answer{ambiguous: ambiguous, decision: why, keys: contexts[0], context: s.witness(chosen, contexts[0])}
	}
	over, b := s.repair(refused, why, chosen, contexts[refused])
	s.failed[id] = b
	return over, b
}

// repair changes what a refusal rests on: a condition of the Deny, or one of a
// statement that would have allowed.
func (s *searching) repair(i int, d policy.Decision, chosen map[string]value, keys *policy.Context) (bool, blame) {
	if d.Explicit {
		return s.disarm(i, s.byName[d.Policy], d, chosen, keys)
	}
	over, all := false, blame{}
	s.reduced[i].everyLayer(func(layer policy.Layer, p *part) {
		if over || !p.allows() || !rescues(layer, d.Layer) {
			return
		}
		for _, c := range p.conditions {
			holds, unsettled := c.holds(keys)
			if holds {
				continue
			}
			if unsettled {
				maps.Copy(all, blameAll(chosen))
			}
			var b blame
			over, b, _ = s.change(i, c, true, chosen, keys)
			maps.Copy(all, b)
			maps.Copy(all, blameOf(chosen, append(p.variables(), c.key)))
			return
		}
		maps.Copy(all, blameAll(chosen)) // it matches, and what else stands in the way is not looked at
	})
	return over, all
}

// disarm changes a condition of a Deny that fires.
func (s *searching) disarm(i int, p *part, d policy.Decision, chosen map[string]value, keys *policy.Context) (bool, blame) {
	r := s.asks[i].request
	r.Context = keys
	all := blameOf(chosen, append(p.variables(), p.keys()...))
	if _, unsettled := p.policy.Applies(&r, s.sets[i], d.Layer); unsettled {
		all = blameAll(chosen) // under the other reading, something else may stand in the way
	}
	for _, c := range p.conditions {
		over, b, vain := s.change(i, c, false, chosen, keys)
		if over || vain {
			return over, b
		}
		maps.Copy(all, b)
	}
	return false, all
}

// rescues reports whether an Allow of a layer can undo a refusal for want of one.
func rescues(layer, refusedBy policy.Layer) bool {
	granting := func(l policy.Layer) bool { return l == policy.IdentityLayer || l == policy.ResourceLayer }
	return layer == refusedBy || granting(layer) && granting(refusedBy)
}

// change tries every value of a condition's key that makes it hold, or not hold.
// Besides the blame for its failure it reports whether that has nothing to do with
// the key, so that no value of any key but those blamed would help.
func (s *searching) change(i int, c *condition, want bool, chosen map[string]value, keys *policy.Context) (over bool, b blame, vain bool) {
	b = blame{}
	if _, fixed := chosen[c.key]; fixed || !s.asks[i].free(c.key) {
		return false, b, false
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
			maps.Copy(b, blameOf(chosen, append(vpcKeys, "aws:sourceip")))
			continue
		}
		over, failure := s.step(next)
		if over {
			return true, nil, false
		}
		if !failure[c.key] && !(c.key == "aws:sourceip" || slices.Contains(vpcKeys, c.key)) {
			return false, failure, true
		}
		maps.Copy(b, failure)
		delete(b, c.key)
	}
	return false, b, false
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
	if a.addsTags {
		s.listTags(keys)
	}
	return keys
}

// listTags adds the tags that the sender chose to aws:TagKeys.
func (s *searching) listTags(keys *policy.Context) {
	list, _ := keys.Values("aws:tagkeys")
	for key, conditions := range s.conditions() {
		name, ok := strings.CutPrefix(key, "aws:requesttag/")
		if _, set := keys.Values(key); !ok || !set || slices.ContainsFunc(list, func(tag string) bool { return foldKey(tag) == name }) {
			continue
		}
		list = append(slices.Clone(list), conditions[0].Key[len("aws:requesttag/"):])
	}
	if len(list) > 0 {
		slices.Sort(list)
		keys.SetList("aws:TagKeys", list...)
	}
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
