package federation

import (
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
const maxTenants = 24

var hexDigit = func(r rune) bool { return r >= '0' && r <= '9' || r >= 'a' && r <= 'f' }

var literalTenant = regexp.MustCompile(`0x[0-9a-f]{40}|[0-9a-f]{64}`)

// findTenants are the generic tenants, and one or two for every combination of
// patterns that documents tell tenants apart by: in the place of a tenant in a
// resource or a listing's prefix, in a test of the tag, in a test of the subject.
func (k *checker) findTenants() []string {
	globs := k.tenantGlobs()
	tenants := slices.Clone(genericTenants)
	add := func(t string) {
		if !slices.Contains(tenants, t) && (len(tenants) < maxTenants) {
			tenants = append(tenants, t)
		} else if !slices.Contains(tenants, t) {
			k.incomplete("tenants")
		}
	}
	for _, kind := range []struct {
		start  string
		length int
	}{{"0x", 42}, {"", 64}} {
		limits := policy.Alphabet{Allows: hexDigit, Fill: "d5e8", Min: kind.length, Max: kind.length}
		var known []string
		for _, t := range tenants {
			if len(t) == kind.length {
				known = append(known, strings.TrimPrefix(t, kind.start))
			}
		}
		for _, t := range k.distinguish("tenant", kind.start, globs, limits, known...) {
			add(t)
			if twin, ok := twinOf(t, globs); ok {
				add(twin)
			}
		}
	}
	return tenants
}

// twinOf is another tenant that the same patterns match, so that two tenants of
// one kind are there to be told apart.
func twinOf(t string, globs []policy.Glob) (string, bool) {
	for i := len(t) - 1; i >= 2; i-- {
		for _, digit := range "9c37" {
			twin := t[:i] + string(digit) + t[i+1:]
			if c := policy.Combinations(globs, t, twin); twin != t && c[0] == c[1] {
				return twin, true
			}
		}
	}
	return "", false
}

// tenantGlobs are the patterns that stand where a tenant's tag does.
func (k *checker) tenantGlobs() []policy.Glob {
	var globs []policy.Glob
	seen := map[string]bool{}
	add := func(d *policy.Document, text string, wild bool) {
		if text == "" || text == "*" || strings.Contains(text, "${") || seen[text] {
			return
		}
		seen[text] = true
		globs = append(globs, d.Globs(text, wild, nil)...)
	}
	subject := strings.TrimSuffix(SubjectPattern, "*")
	home := k.Config.Prefix + "/"
	tag := foldKey(k.Config.TagKey)
	for _, p := range k.allParts() {
		for _, list := range [][]string{p.statement.Resource, p.statement.NotResource} {
			for _, text := range list {
				if _, rest, ok := strings.Cut(text, "/"+home); ok {
					add(p.document, firstSegment(rest), true)
				}
			}
		}
		for _, c := range p.conditions {
			for _, text := range c.Values {
				wild := strings.Contains(c.Operator, "Like")
				switch {
				case c.key == "s3:prefix" && strings.HasPrefix(text, home):
					add(p.document, firstSegment(text[len(home):]), wild)
				case c.key == "aws:principaltag/"+tag, c.key == "aws:requesttag/"+tag:
					add(p.document, text, wild)
				case strings.HasSuffix(c.key, ":sub") && strings.HasPrefix(text, subject):
					add(p.document, text[len(subject):], wild)
				}
			}
		}
	}
	d := &policy.Document{Version: "2012-10-17"}
	for _, text := range k.literalTags() {
		add(d, text, false)
	}
	return globs
}

// literalTags are tenants that stand anywhere in the documents in full, and those
// that users and roles carry as tags.
func (k *checker) literalTags() []string {
	var list []string
	for _, p := range k.allParts() {
		texts := slices.Concat(p.statement.Resource, p.statement.NotResource)
		for _, c := range p.conditions {
			texts = append(texts, c.Values...)
		}
		for _, text := range texts {
			list = append(list, literalTenant.FindAllString(text, -1)...)
		}
	}
	tags := func(e Entity) {
		for key, v := range e.Tags {
			if strings.EqualFold(key, k.Config.TagKey) && literalTenant.MatchString(v) {
				list = append(list, v)
			}
		}
	}
	for _, r := range k.Roles {
		tags(r.Entity)
	}
	for _, u := range k.Users {
		tags(u.Entity)
	}
	slices.Sort(list)
	return slices.Compact(list)
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
