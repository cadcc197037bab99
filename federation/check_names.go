package federation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"agentkeys/policy"
)

// Who assumes a role chooses the session's name and, where the trust policy lets
// tags pass, its tags. Policies tell sessions apart by both, so of each the values
// that they tell apart are tried.

// sessionNames are those by which policies tell sessions of a role apart: in a
// principal's ARN, and in patterns for aws:userid, which may hold the session's
// own tags.
func (k *checker) sessionNames(r *Role, tags map[string]string) []string {
	id := fmt.Sprint(r.ARN, tags)
	names, known := k.named[id]
	if !known {
		names = k.findSessionNames(r, tags)
		k.named[id] = names
	}
	return names
}

func (k *checker) findSessionNames(r *Role, tags map[string]string) []string {
	var names []string
	add := func(name string) {
		if len(name) >= 2 && len(name) <= 64 && roleForm.MatchString(name) && name != defaultSessionName && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, text := range k.principalTexts() {
		if _, session, ok := strings.Cut(text, ":assumed-role/"+r.Name+"/"); ok {
			add(session)
		}
		if session, ok := strings.CutPrefix(text, r.ID+":"); ok {
			add(session)
		}
	}
	keys := policy.NewContext()
	k.tagKeys(keys, r.Tags, tags)
	l := k.roleLayers(r)
	var globs []policy.Glob
	for _, c := range slices.Concat(conditionsOn(l.all(), "aws:userid"), k.onUserID()) {
		globs = append(globs, c.globs(keys)...)
	}
	if len(globs) == 0 {
		return names
	}
	start := len(r.ID) + len(":")
	limits := policy.Alphabet{Allows: func(c rune) bool { return c < 128 && roleForm.MatchString(string(c)) }, Min: start + 2, Max: start + 64}
	for _, id := range k.distinguish("session name", r.ID+":", globs, limits, defaultSessionName) {
		add(id[start:])
	}
	return names
}

// onUserID are the conditions on aws:userid of policies that are nobody's own.
func (k *checker) onUserID() []*condition {
	if k.userID == nil {
		k.userID = append([]*condition{}, conditionsOn(k.resourceParts(), "aws:userid")...)
		for _, level := range slices.Concat(k.scp, k.rcp) {
			k.userID = append(k.userID, conditionsOn(level, "aws:userid")...)
		}
	}
	return k.userID
}

// letsPass reports whether a role's trust policy has an Allow of an action that
// goes with assuming it: sts:TagSession, sts:SetSourceIdentity.
func (k *checker) letsPass(r *Role, action string) bool {
	return slices.ContainsFunc(k.split(r.Trust), func(p *part) bool { return p.allows() && p.admits(action) })
}

// tagChoice is what one may pass on assuming a role.
type tagChoice struct {
	tags map[string]string
	// like are other tenants whose tag is as good: the trust policy does not tell
	// them from the one in tags.
	like []string
}

// tagChoices are the tags to try on a role: none, each tenant's, and the values of
// other tags that policies ask for.
func (k *checker) tagChoices(r *Role) []tagChoice {
	if choices, ok := k.choicesOf[r]; ok {
		return choices
	}
	choices := []tagChoice{{}}
	if k.letsPass(r, "sts:TagSession") {
		choices = append(choices, k.someTags(r)...)
	}
	k.choicesOf[r] = choices
	return choices
}

func (k *checker) someTags(r *Role) []tagChoice {
	var choices []tagChoice
	for _, class := range k.classes(r) {
		choices = append(choices, tagChoice{map[string]string{k.Config.TagKey: class[0]}, class[1:]})
	}
	l := k.roleLayers(r)
	seen := map[string]bool{}
	for _, tags := range k.askedTags(append(l.all(), k.resourceParts()...)) {
		if id := fmt.Sprint(tags); !seen[id] {
			seen[id] = true
			choices = append(choices, tagChoice{tags: tags})
		}
	}
	return choices
}

// askedTags are tags, other than the tenant's alone, that the conditions and
// variables of some parts ask a principal for: each value of each, and all that a
// part asks for, with a tenant's tag and without one.
func (k *checker) askedTags(parts []*part) []map[string]string {
	var list []map[string]string
	values := map[string][]string{}
	for _, key := range otherTags(parts, k.Config.TagKey) {
		folded := "aws:principaltag/" + foldKey(key)
		for _, v := range append(k.valuesOf(folded, conditionsOn(parts, folded), nil), value{vals: k.tenants[:1]}) {
			if !v.absent && len(v.vals) == 1 && isTagValue(v.vals[0]) {
				values[folded] = append(values[folded], v.vals[0])
				list = append(list, map[string]string{key: v.vals[0]})
			}
		}
	}
	for _, p := range parts {
		tags := map[string]string{}
		for _, c := range p.conditions {
			if _, tried := values[c.key]; tried {
				c.choose(tags, values[c.key])
			}
		}
		if len(tags) == 0 {
			continue
		}
		list = append(list, tags)
		for _, length := range []int{42, 64} {
			i := slices.IndexFunc(k.tenants, func(t string) bool { return len(t) == length })
			with := maps.Clone(tags)
			with[k.Config.TagKey] = k.tenants[i]
			list = append(list, with)
		}
	}
	return list
}

// choose adds a tag to those chosen, with the first value by which the condition
// holds.
func (c *condition) choose(tags map[string]string, values []string) {
	name := c.Key[len("aws:PrincipalTag/"):]
	for _, v := range values {
		keys := policy.NewContext()
		keys.Set(c.Key, v)
		if holds, _ := c.holds(keys); holds {
			tags[name] = v
			return
		}
	}
}

func isTagValue(text string) bool {
	a := tagAlphabet()
	return len(text) <= a.Max && !strings.ContainsFunc(text, func(r rune) bool { return !a.Allows(r) })
}

// otherTags are the keys, other than the tenant's, of the principal tags that
// conditions and policy variables speak of.
func otherTags(parts []*part, tenant string) []string {
	var keys []string
	add := func(key string) {
		name, ok := strings.CutPrefix(key, "aws:principaltag/")
		if ok && tagKeyForm.MatchString(name) && !strings.EqualFold(name, tenant) && !slices.Contains(keys, name) {
			keys = append(keys, name)
		}
	}
	for _, p := range parts {
		for _, key := range slices.Concat(p.keys(), p.variables()) {
			add(key)
		}
	}
	return keys
}
