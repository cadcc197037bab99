package federation

import (
	"fmt"
	"slices"
	"strings"

	"agentkeys/policy"
)

// goals are what somebody may be after. Which actions reach a tenant's objects
// follows from the Service Authorization Reference: those on objects, by their
// level of access.
type goals struct {
	read, write []string // on objects
	list        []string // on the bucket
}

// firstReads and firstWrites are tried before the rest, as everybody knows them.
var (
	firstReads  = []string{"s3:GetObject", "s3:GetObjectVersion"}
	firstWrites = []string{"s3:PutObject", "s3:DeleteObject"}
)

// besideOthers are permissions by which alone nobody changes an object: S3 asks for
// them besides that of a request's own action, to delete in spite of a retention and
// to own what is replicated; or a batch job asks for it, to replicate once more what
// the bucket's own rules say.
// Sources: S3 User Guide, object-lock-managing, replication-change-owner and
// batch-ops-iam-role-policies.
var besideOthers = []string{"s3:BypassGovernanceRetention", "s3:ObjectOwnerOverrideToBucketOwner", "s3:InitiateReplication"}

func newGoals(actions []policy.ActionInfo) goals {
	g := goals{
		read: slices.Clone(firstReads), write: slices.Clone(firstWrites),
		list: []string{"s3:ListBucket", "s3:ListBucketVersions", listUploads},
	}
	for _, a := range actions {
		name := "s3:" + a.Name
		switch {
		case !slices.Contains(a.Resources, "object") || slices.Contains(firstReads, name) || slices.Contains(firstWrites, name):
		case slices.Contains(besideOthers, name):
		case strings.Contains(a.Level, "Write"), strings.Contains(a.Level, "Tagging"), strings.Contains(a.Level, "Permissions"):
			g.write = append(g.write, name)
		default:
			g.read = append(g.read, name)
		}
	}
	return g
}

// uploads lists names without a prefix that a policy could test.
const listUploads = "s3:ListBucketMultipartUploads"

// listing is one request for a listing, as far as it matters.
type listingOf struct {
	prefix    *string // nil: not sent
	delimiter *string
	shows     []Code // what it reveals
}

// reveals says what a listing shows of a tenant: its key names, its existence, or
// nothing. home is the tenant's prefix with the slash at the end.
func (l listingOf) reveals(home string) []Code {
	prefix, delimiter := "", ""
	if l.prefix != nil {
		prefix = *l.prefix
	}
	if l.delimiter != nil {
		delimiter = *l.delimiter
	}
	if strings.HasPrefix(prefix, home) {
		return []Code{ForeignList}
	}
	rest, below := strings.CutPrefix(home, prefix)
	if !below {
		return nil
	}
	i := strings.Index(rest, delimiter)
	if delimiter == "" || i < 0 {
		// No key is cut off before its name begins.
		if len(prefix) >= len(home)-1 {
			return []Code{ForeignList}
		}
		return []Code{ForeignList, TenantNames}
	}
	shown := prefix + rest[:i+len(delimiter)]
	if len(shown) >= len(home)-1 {
		return []Code{TenantNames}
	}
	return nil
}

// listings are the requests that policies can tell apart and that show something
// of a tenant, the plainest first.
func (k *checker) listings(a *caller, parts []*part, home string) []listingOf {
	slash := "/"
	parent := k.Config.Prefix + "/"
	empty := ""
	var list []listingOf
	add := func(l listingOf) {
		if l.shows = l.reveals(home); len(l.shows) > 0 {
			list = append(list, l)
		}
	}
	for _, l := range []listingOf{{prefix: &home}, {prefix: &parent, delimiter: &slash}, {}, {prefix: &empty}, {prefix: &parent}} {
		add(l)
	}
	delimiters := []*string{nil, &slash}
	for _, c := range conditionsOn(parts, "s3:delimiter") {
		for _, text := range c.Values {
			delimiters = append(delimiters, &text)
		}
	}
	var prefixes []string
	for i := range len(home) {
		prefixes = append(prefixes, home[:i])
	}
	globs := prefixGlobs(a, parts)
	prefixes = append(prefixes, k.distinguish("s3:prefix", home, globs, policy.Alphabet{Max: 1024}, "", "inbox/")...)
	alike := policy.Combinations(globs, prefixes...)
	// Of prefixes that no condition tells apart and that show the same, one is
	// enough.
	seen := map[string]bool{}
	for _, d := range delimiters {
		for i := range prefixes {
			l := listingOf{prefix: &prefixes[i], delimiter: d}
			id := fmt.Sprintf("%q %q %v %t", alike[i], deref(d), l.reveals(home), prefixes[i] == "")
			if !seen[id] {
				seen[id] = true
				add(l)
			}
		}
		add(listingOf{delimiter: d})
	}
	return list
}

// conditionsOn are the conditions of some parts on a key.
func conditionsOn(parts []*part, key string) []*condition {
	var list []*condition
	for _, p := range parts {
		for _, c := range p.conditions {
			if c.key == key {
				list = append(list, c)
			}
		}
	}
	return list
}

// prefixGlobs are the patterns that conditions hold s3:prefix against.
func prefixGlobs(a *caller, parts []*part) []policy.Glob {
	var globs []policy.Glob
	for _, c := range conditionsOn(parts, "s3:prefix") {
		globs = append(globs, c.globs(a.keys)...)
	}
	return globs
}

// objectsWithin are the keys of objects below a tenant's home that resource
// patterns tell apart, in the ARNs of a door and of what lies behind it.
func (k *checker) objectsWithin(a *caller, parts []*part, d *entrance, home string) []string {
	var keys []string
	for ; d != nil; d = d.behind {
		var globs []policy.Glob
		for _, p := range parts {
			for _, list := range [][]string{p.statement.Resource, p.statement.NotResource} {
				for _, text := range list {
					if text != "*" && mayName(text, d.base+home) {
						globs = append(globs, p.document.Globs(text, true, a.keys)...)
					}
				}
			}
		}
		for _, arn := range k.distinguish("object key", d.base+home, globs, policy.Alphabet{Max: len(d.base) + 1024}, "notes.txt") {
			if key := strings.TrimPrefix(arn, d.base); !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// mayName reports whether a resource pattern can match anything that begins so:
// their literal beginnings agree.
func mayName(pattern, base string) bool {
	end := strings.IndexAny(pattern, "*?$")
	if end < 0 {
		end = len(pattern)
	}
	n := min(end, len(base))
	return pattern[:n] == base[:n]
}

// distinguish is policy.Distinguish, with a note where it could not find all. What
// could not be found once is not looked for as long again.
func (k *checker) distinguish(what, start string, globs []policy.Glob, a policy.Alphabet, prefer ...string) []string {
	if k.unfinished[what] {
		a.States = 500
	}
	texts, complete := policy.Distinguish(start, globs, a, prefer...)
	if !complete {
		k.incomplete(what)
	}
	return texts
}
