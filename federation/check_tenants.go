package federation

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"agentkeys/policy"
)

// The tenants that stand for any: two wallets and two omni accounts that no
// document is likely to name. They are told apart by every digit.
var genericTenants = []string{
	"0xa11cea11cea11cea11cea11cea11cea11cea11ce", "0xb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb",
	"a11ce0a11ce0a11ce0a11ce0a11ce0a11ce0a11ce0a11ce0a11ce0a11ce0a11c", "b0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb",
}

// maxTenants bounds how many tenants are looked at.
const maxTenants = 100

var hexDigit = func(r rune) bool { return r >= '0' && r <= '9' || r >= 'a' && r <= 'f' }

var literalTenant = regexp.MustCompile(`0x[0-9a-f]{40}|[0-9a-f]{64}`)

// findTenants are the generic tenants, and two for every combination of lists that
// documents tell tenants apart by: in the place of a tenant in a resource or a
// listing's prefix, in a test of the tag, in a test of the subject. Which pattern
// of a list a tenant meets decides nothing.
func (k *checker) findTenants() []string {
	lists := k.tenantLists()
	globs := lists.globs
	tenants := slices.Clone(genericTenants)
	count := map[string]int{}
	for _, met := range lists.met(tenants...) {
		count[met]++
	}
	add := func(t, met string) {
		switch {
		case slices.Contains(tenants, t) || count[met] >= 2:
		case len(tenants) >= maxTenants:
			k.incomplete("tenants")
		default:
			count[met]++
			tenants = append(tenants, t)
		}
	}
	for _, kind := range []struct {
		start  string
		length int
	}{{"0x", 42}, {"", 64}} {
		limits := policy.Alphabet{Allows: hexDigit, Fill: "d5e8", Min: kind.length, Max: kind.length}
		var known []string
		for _, t := range genericTenants {
			if len(t) == kind.length {
				known = append(known, strings.TrimPrefix(t, kind.start))
			}
		}
		texts := k.distinguish("tenant", kind.start, globs, limits, known...)
		met := lists.met(texts...)
		for i, t := range texts {
			add(t, met[i])
		}
		for i, t := range texts {
			if count[met[i]] >= 2 {
				continue
			}
			if twin, ok := twinOf(t, globs); ok {
				add(twin, met[i])
			}
		}
	}
	return tenants
}

// twinOf is another tenant that the same patterns match, so that two tenants of
// one kind are there to be told apart.
func twinOf(t string, globs []policy.Glob) (string, bool) {
	texts := []string{t}
	for i := len(t) - 1; i >= 2; i-- {
		for _, digit := range "9c37" {
			if twin := t[:i] + string(digit) + t[i+1:]; twin != t {
				texts = append(texts, twin)
			}
		}
	}
	alike := policy.Combinations(globs, texts...)
	for i, twin := range texts[1:] {
		if alike[i+1] == alike[0] {
			return twin, true
		}
	}
	return "", false
}

// tenantLists are the patterns that stand where a tenant's tag does, and the lists
// that they stand in: the resources of a statement, the values of a condition.
type tenantLists struct {
	globs []policy.Glob
	lists [][]int // indexes of globs
	byID  map[string]int
}

func (l *tenantLists) begin() { l.lists = append(l.lists, nil) }

// add takes a pattern into the last list.
func (l *tenantLists) add(d *policy.Document, text string, wild bool) {
	if text == "" || text == "*" || strings.Contains(text, "${") {
		return
	}
	for _, g := range d.Globs(text, wild, nil) {
		id := fmt.Sprintf("%t %s", wild, text)
		if _, known := l.byID[id]; !known {
			l.byID[id] = len(l.globs)
			l.globs = append(l.globs, g)
		}
		last := &l.lists[len(l.lists)-1]
		*last = append(*last, l.byID[id])
	}
}

// met has a byte for each list: whether one of its patterns matches the tenant.
func (l *tenantLists) met(tenants ...string) []string {
	out := make([]string, len(tenants))
	for n, matches := range policy.Combinations(l.globs, tenants...) {
		met := make([]byte, len(l.lists))
		for i, list := range l.lists {
			for _, glob := range list {
				met[i] |= matches[glob]
			}
		}
		out[n] = string(met)
	}
	return out
}

func (k *checker) tenantLists() *tenantLists {
	l := &tenantLists{byID: map[string]int{}}
	home := k.Config.Prefix + "/"
	plain := &policy.Document{Version: "2012-10-17"}
	for _, p := range k.allParts() {
		for _, list := range [][]string{p.statement.Resource, p.statement.NotResource} {
			l.begin()
			for _, text := range list {
				if _, rest, ok := strings.Cut(text, "/"+home); ok {
					l.add(p.document, firstSegment(rest), true)
				}
				for _, t := range literalTenant.FindAllString(text, -1) {
					l.add(plain, t, false)
				}
			}
		}
		for _, c := range p.conditions {
			l.begin()
			k.addTenants(l, c)
			for _, text := range c.Values {
				for _, t := range literalTenant.FindAllString(text, -1) {
					l.add(plain, t, false)
				}
			}
		}
	}
	for _, t := range k.namesOfEntities() {
		l.begin()
		l.add(plain, t, false)
	}
	return l
}

// addTenants takes in the patterns of a condition.
func (k *checker) addTenants(l *tenantLists, c *condition) {
	subject, home, tag := strings.TrimSuffix(SubjectPattern, "*"), k.Config.Prefix+"/", foldKey(k.Config.TagKey)
	wild := strings.Contains(c.Operator, "Like")
	for _, text := range c.Values {
		if strings.Contains(c.Operator, "IgnoreCase") {
			text = strings.ToLower(text)
		}
		switch {
		case c.key == "s3:prefix" && strings.HasPrefix(text, home):
			l.add(c.part.document, firstSegment(text[len(home):]), wild)
		case c.key == "aws:principaltag/"+tag, c.key == "aws:requesttag/"+tag:
			l.add(c.part.document, text, wild)
		case strings.HasSuffix(c.key, ":sub") && strings.HasPrefix(text, subject):
			l.add(c.part.document, text[len(subject):], wild)
		}
	}
}

// namesOfEntities are the tenants that users and roles carry as tags or are called
// after: policy variables may put either in a tenant's place.
func (k *checker) namesOfEntities() []string {
	var list []string
	add := func(e Entity) {
		for _, text := range append(slices.Collect(maps.Values(e.Tags)), e.Name) {
			list = append(list, literalTenant.FindAllString(text, -1)...)
		}
	}
	for _, r := range k.Roles {
		add(r.Entity)
	}
	for _, u := range k.Users {
		add(u.Entity)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// classes are the tenants in groups that a role's trust policy does not tell
// apart.
func (k *checker) classes(r *Role) [][]string {
	if classes, ok := k.classed[r]; ok {
		return classes
	}
	var classes [][]string
	index := map[string]int{}
	for _, tenant := range k.tenants {
		t := k.token(tenant)
		keys := policy.NewContext()
		keys.Set(t.id+":aud", t.audience)
		keys.Set(t.id+":sub", t.subject)
		setRequestTags(keys, t.tags)
		var alike []byte
		for _, p := range k.split(r.Trust) {
			for _, c := range p.conditions {
				holds, unsettled := c.holds(keys)
				alike = fmt.Appendf(alike, "%t%t ", holds, unsettled)
			}
		}
		i, known := index[string(alike)]
		if !known {
			i = len(classes)
			index[string(alike)] = i
			classes = append(classes, nil)
		}
		classes[i] = append(classes[i], tenant)
	}
	k.classed[r] = classes
	return classes
}

func firstSegment(text string) string {
	segment, _, _ := strings.Cut(text, "/")
	return segment
}

// allParts are the parts of every document that decides about the bucket: that
// of the data role, of everybody else, of the resources and of the organization.
func (k *checker) allParts() []*part {
	parts := slices.Concat(k.resourceParts(), k.acl)
	for i := range k.Roles {
		l := k.roleLayers(&k.Roles[i])
		parts = append(parts, l.all()...)
	}
	for _, u := range k.Users {
		l := k.policiesOf(u.Entity, "user "+u.Name)
		parts = append(parts, l.all()...)
	}
	for _, g := range k.Groups {
		l := k.policiesOf(g.Entity, "group "+g.Name)
		parts = append(parts, l.all()...)
	}
	for _, level := range slices.Concat(k.scp, k.rcp) {
		parts = append(parts, level...)
	}
	return parts
}
